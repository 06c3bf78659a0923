"""A cohort is shared among processes without loss; what is done is passed over, what fails stops nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from test_predict import make_patient, model_dir

from contour_ai.bundle import ModelBundle, RoiPostprocess, load_bundle
from contour_ai.cli.main import cli
from contour_ai.pipeline._predict import PredictOptions, options_record
from contour_ai.pipeline.cohort import share
from contour_ai.training.distributed import Place

__all__ = ["model_dir"]  # a fixture


def contoured(
    out_dir: Path, patient_dir: Path, bundle: ModelBundle, options: PredictOptions, series: str = "1.2"
) -> None:
    """What a prediction leaves, as far as it matters here."""
    folder = out_dir / patient_dir.name
    folder.mkdir(parents=True)
    content = {
        "input": {"path": str(patient_dir), "series_instance_uid": series},
        "model": {"contouring_sha256": bundle.contouring_sha256},
        "options": options_record(options, bundle),
    }
    (folder / "summary.json").write_text(json.dumps(content), encoding="utf-8")


def test_parts_stay_the_same_whatever_is_done(tmp_path: Path, model_dir: Path) -> None:
    cohort = [tmp_path / name for name in "abcde"]
    out, bundle, usual = tmp_path / "out", load_bundle(model_dir), PredictOptions()
    contoured(out, cohort[2], bundle, usual)
    contoured(out, cohort[0], replace(bundle, weights_sha256="another model"), usual)
    contoured(out, cohort[1], bundle, usual, series="1.3")
    (out / "strange").mkdir()
    (out / "strange" / "summary.json").write_text("[]", encoding="utf-8")
    first, second = (share(cohort, out, bundle, usual, Place(rank, 2), skip_done=True) for rank in range(2))
    assert [p.name for p in first.patient_dirs] == ["a", "e"] and first.done == (cohort[2],)
    assert [p.name for p in second.patient_dirs] == ["d"] and second.done == (cohort[1],)
    series = PredictOptions(series_uid="1.2")
    other_series = share(cohort, out, bundle, series, Place(1, 2), skip_done=True)
    assert [p.name for p in other_series.patient_dirs] == ["b", "d"]
    assert share(cohort, out, bundle, usual, Place()).patient_dirs == tuple(cohort)
    nowhere = tmp_path / "nowhere"
    assert share(cohort, nowhere, bundle, usual, Place(), skip_done=True).patient_dirs == tuple(cohort)


def test_what_was_contoured_otherwise_is_not_done(tmp_path: Path, model_dir: Path) -> None:
    bundle, usual = load_bundle(model_dir), PredictOptions()
    contoured(tmp_path / "out", tmp_path / "a", bundle, PredictOptions(tta=False, overlays=False))

    def done(bundle: ModelBundle, options: PredictOptions) -> bool:
        found = share([tmp_path / "a"], tmp_path / "out", bundle, options, Place(), skip_done=True)
        return bool(found.done)

    assert done(bundle, usual)
    assert done(replace(bundle, name="renamed", description="the same contours"), usual)
    for otherwise in (
        PredictOptions(rois=("Bright",)),
        PredictOptions(tta=True),
        PredictOptions(profile="eclipse"),
    ):
        assert not done(bundle, otherwise)
    for other in (
        replace(bundle, postprocess={"Bright": RoiPostprocess(threshold=0.4)}),
        replace(bundle, inference=replace(bundle.inference, mirror=True)),
    ):
        assert not done(other, usual)


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
    assert sorted(p.name for p in out.iterdir()) == ["b"]
    written = (out / "b" / "summary.json").stat().st_mtime_ns
    second = process(1)
    assert second.exit_code == 0 and "2 of 2 patients contoured" in second.stderr
    assert sorted(p.name for p in out.iterdir()) == ["a", "b", "c"]
    again = process(1)
    assert again.exit_code == 0 and "2 patients done already" in again.stderr
    assert (out / "b" / "summary.json").stat().st_mtime_ns == written
    monkeypatch.delenv("RANK")
    refused = CliRunner().invoke(cli, arguments)
    assert refused.exit_code == 3 and refused.stderr.count("The output exists already.") == 3
    passed = CliRunner().invoke(cli, [*arguments, "--skip-done"])
    assert passed.exit_code == 3 and "3 patients done already" in passed.stderr
