"""A cohort is shared among processes without loss; what is done is skipped, what fails stops nothing."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from test_predict import make_patient, model_dir

from contour_ai.bundle import ModelBundle, RoiPostprocess, load_bundle
from contour_ai.cli.main import cli
from contour_ai.dicom.scan import find_patient
from contour_ai.files import atomic_folder, content_sha256
from contour_ai.files.temporary import temporary_name
from contour_ai.grid import Grid
from contour_ai.pipeline import cohort as cohort_module
from contour_ai.pipeline._predict import PredictOptions, options_record
from contour_ai.pipeline.cohort import share
from contour_ai.training.distributed import Place

__all__ = ["model_dir"]  # a fixture


def contoured(out_dir: Path, patient_dir: Path, bundle: ModelBundle, options: PredictOptions) -> Path:
    """What a prediction leaves, as far as it matters here; gives its folder."""
    ct = find_patient(patient_dir).ct
    content = {
        "input": {"series_instance_uid": ct.series_instance_uid, "images_sha256": content_sha256(ct.paths)},
        "model": {"contouring_sha256": bundle.inference_fingerprint},
        "options": options_record(options, bundle),
        "structure_set": {"file": "RS.1.dcm"},
    }
    with atomic_folder(out_dir / patient_dir.name) as folder:
        (folder / "summary.json").write_text(json.dumps(content), encoding="utf-8")
        (folder / "RS.1.dcm").write_bytes(b"contours")
    return out_dir / patient_dir.name


SMALL = Grid.axial((4, 8, 8), (3, 2, 2), (0, 0, 0))


@pytest.fixture
def cohort(tmp_path: Path) -> list[Path]:
    return [make_patient(tmp_path / name, patient_id=name, grid=SMALL) for name in "abcde"]


def test_parts_stay_the_same_whatever_is_done(cohort: list[Path], tmp_path: Path, model_dir: Path) -> None:
    out, bundle, usual = tmp_path / "out", load_bundle(model_dir), PredictOptions()
    contoured(out, cohort[2], bundle, usual)
    contoured(out, cohort[0], replace(bundle, weights_sha256="another model"), usual)
    contoured(out, cohort[1], bundle, usual)
    (out / "strange").mkdir()
    (out / "strange" / "summary.json").write_text("[]", encoding="utf-8")
    first, second = (share(cohort, out, bundle, usual, Place(rank, 2), skip_done=True) for rank in range(2))
    assert [p.name for p in first.patient_dirs] == ["a", "e"] and first.done == (cohort[2],)
    assert [p.name for p in second.patient_dirs] == ["d"] and second.done == (cohort[1],)
    assert share(cohort, out, bundle, usual, Place()).patient_dirs == tuple(cohort)
    nowhere = tmp_path / "nowhere"
    assert share(cohort, nowhere, bundle, usual, Place(), skip_done=True).patient_dirs == tuple(cohort)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert share([empty], out, bundle, usual, Place(), skip_done=True).patient_dirs == (empty,)


def test_what_was_contoured_otherwise_is_not_done(
    cohort: list[Path], tmp_path: Path, model_dir: Path
) -> None:
    bundle, usual = load_bundle(model_dir), PredictOptions()
    rules = tmp_path / "rules.yaml"
    rules.write_text("roi_name_characters: 16\n", encoding="utf-8")
    contoured(tmp_path / "out", cohort[0], bundle, PredictOptions(tta=False, overlays=False))
    contoured(tmp_path / "out", cohort[1], bundle, PredictOptions(profile=str(rules)))

    def done(bundle: ModelBundle, options: PredictOptions, patient: int = 0) -> bool:
        found = share([cohort[patient]], tmp_path / "out", bundle, options, Place(), skip_done=True)
        return bool(found.done)

    assert done(bundle, usual)
    assert done(replace(bundle, name="renamed", description="the same contours"), usual)
    for otherwise in (
        PredictOptions(rois=("Bright",)),
        PredictOptions(tta=True),
        PredictOptions(profile="eclipse"),
        PredictOptions(report=True),
        PredictOptions(seg="binary"),
    ):
        assert not done(bundle, otherwise)
    for other in (
        replace(bundle, postprocess={"Bright": RoiPostprocess(threshold=0.4)}),
        replace(bundle, inference=replace(bundle.inference, mirror=True)),
    ):
        assert not done(other, usual)
    assert done(bundle, PredictOptions(profile=str(rules)), 1)
    rules.write_text("roi_name_characters: 20\n", encoding="utf-8")
    assert not done(bundle, PredictOptions(profile=str(rules)), 1)


def test_done_is_what_is_there_whole_and_of_these_images(
    cohort: list[Path], tmp_path: Path, model_dir: Path
) -> None:
    bundle, usual, out = load_bundle(model_dir), PredictOptions(), tmp_path / "out"

    def done(patient: Path) -> bool:
        return bool(share([patient], out, bundle, usual, Place(), skip_done=True).done)

    a, b, c, d, _ = cohort
    folders = {p: contoured(out, p, bundle, usual) for p in (a, b, c, d)}
    copy = tmp_path / "moved" / "elsewhere"
    shutil.copytree(a, copy)
    assert done(a) and done(copy)
    shutil.rmtree(a)
    make_patient(a, patient_id="another", grid=SMALL)  # the folder holds another patient now
    assert not done(a) and done(copy)
    (folders[b] / "RS.1.dcm").write_bytes(b"cont")
    assert not done(b)
    (folders[b] / "RS.1.dcm").unlink()
    assert not done(b)
    one_slice = sorted((c / "ct").iterdir())[0]
    content = bytearray(one_slice.read_bytes())
    content[-1] ^= 1
    one_slice.write_bytes(content)  # same series, one voxel another
    assert not done(c)
    folders[d].rename(out / temporary_name())  # a killed run's
    assert not done(d)


def test_what_another_run_has_done_in_the_meantime_is_done(
    tmp_path: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = make_patient(tmp_path / "a", patient_id="a")
    arguments = [
        "predict",
        str(patient),
        "--out",
        str(tmp_path / "out"),
        "--model",
        str(model_dir),
        "--no-overlays",
    ]
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    look, looks = cohort_module._done, []

    def not_there_at_first(*arguments: object) -> object:
        looks.append(1)
        return None if len(looks) == 1 else look(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(cohort_module, "_done", not_there_at_first)
    second = CliRunner().invoke(cli, [*arguments, "--skip-done"])
    assert second.exit_code == 0 and "1 patients were done by another run in the meantime" in second.stderr
    assert "exists already" not in second.stderr
    looks.clear()
    (structure_set,) = (tmp_path / "out" / "a").glob("RS.*.dcm")
    structure_set.write_bytes(structure_set.read_bytes() + b" ")
    third = CliRunner().invoke(cli, [*arguments, "--skip-done"])
    assert third.exit_code == 2 and "changed since contour-ai wrote it" in third.stderr


@pytest.mark.slow
def test_the_command_in_two_processes(
    tmp_path: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = [make_patient(tmp_path / name, patient_id=name) for name in ("a", "b", "c")]
    broken = tmp_path / "broken"
    broken.mkdir()
    out = tmp_path / "out"
    names = [str(p) for p in (broken, *cohort)]
    arguments = ["predict", *names, "--out", str(out), "--model", str(model_dir), "--no-overlays"]

    def process(rank: int) -> Result:
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "2")
        return CliRunner().invoke(cli, arguments)

    first = process(0)
    assert first.exit_code == 3 and f"error in {broken}" in first.stderr
    assert "1 of 2 patients contoured" in first.stderr
    assert sorted(p.name for p in out.iterdir() if p.is_dir()) == ["b"]
    written = (out / "b" / "summary.json").stat().st_mtime_ns
    second = process(1)
    assert second.exit_code == 0 and "2 of 2 patients contoured" in second.stderr
    assert sorted(p.name for p in out.iterdir() if p.is_dir()) == ["a", "b", "c"]
    again = process(1)
    assert again.exit_code == 0 and "2 patients skipped, already predicted" in again.stderr
    assert (out / "b" / "summary.json").stat().st_mtime_ns == written
    monkeypatch.delenv("RANK")
    refused = CliRunner().invoke(cli, arguments)
    assert refused.exit_code == 3 and refused.stderr.count("The output exists already.") == 3
    (out / "b" / "montage.png").unlink()
    for options, replaced in (
        (["--skip-done"], False),
        (["--skip-done", "--overwrite"], False),
        (["--overwrite"], True),
    ):
        passed = CliRunner().invoke(cli, [*arguments, *options])
        assert (
            passed.exit_code == 3 and ("3 patients skipped, already predicted" in passed.stderr) != replaced
        )
        assert ((out / "b" / "summary.json").stat().st_mtime_ns != written) == replaced
    passed = CliRunner().invoke(cli, [*arguments, "--skip-done"])
    assert passed.exit_code == 3 and "3 patients skipped, already predicted" in passed.stderr
