"""From structure sets to cases: states, the check, and a cache in which nothing is computed in vain."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from pydicom import dcmread
from synthetic import link_folder
from tiny_patients import write_patient

from contour_ai.cli.main import cli
from contour_ai.dicom.ct import read_ct
from contour_ai.errors import ConfigError, InputError, ModelError
from contour_ai.pipeline import cases as cases_module
from contour_ai.pipeline import prepared_case
from contour_ai.pipeline._predict.reference import find_reference
from contour_ai.pipeline._train import TrainOptions, train
from contour_ai.pipeline.archive import Sources, find_sources
from contour_ai.pipeline.cases import PreparedCases, check_cases, checked, prepare_cases
from contour_ai.pipeline.relevant_series import RelevantSeries
from contour_ai.preprocess import PreprocessSettings
from contour_ai.structures.roi_map import RoiMap
from contour_ai.training.archive_check import ArchiveCheck
from contour_ai.training.cache import Case
from contour_ai.training.config import (
    DataConfig,
    InputConfig,
    NetworkChoice,
    PreprocessConfig,
    RunConfig,
    TrainConfig,
)
from contour_ai.volume import ABSENT, CONTOURED, UNKNOWN

SETTINGS = PreprocessSettings(spacing_mm_kij=(6.0, 5.0, 5.0), margin_mm=5.0)
ROIS = ("Brainstem", "Parotid_L", "Parotid_R")
NAMES = dict.fromkeys(ROIS, ())


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three patients; j grows to the left, and the body's middle is at column 12.5. P3's sides are swapped."""
    folder = tmp_path_factory.mktemp("archive")
    write_patient(folder / "site a" / "1", 1, {"Brainstem": (2, 8, 10), "Parotid_L": (5, 8, 15)})
    write_patient(folder / "site a" / "2", 2, {"Brainstem": (3, 9, 11), "Parotid_R": (5, 8, 5)})
    write_patient(folder / "3", 3, {"Brainstem": (3, 8, 9), "Parotid_L": (6, 7, 5), "Parotid_R": (6, 7, 17)})
    return folder


def prepared(folder: Path, cache: Path, roi_map: RoiMap | None = None) -> tuple[Sources, PreparedCases]:
    sources = find_sources(folder, roi_map)
    return sources, prepare_cases(sources.patients, ROIS, SETTINGS, cache)


def states(folder: Path, cache: Path, roi_map: RoiMap | None = None) -> dict[str, tuple[int, ...]]:
    sources, found = prepared(folder, cache, roi_map)
    usable = checked(sources, found, check_cases(sources, found))
    return {label: case.states for label, case in usable.cases.items()}


def test_the_map_says_what_is_absent_by_folder_and_by_patient(archive: Path, tmp_path: Path) -> None:
    assert states(archive, tmp_path)["P1"] == (CONTOURED, CONTOURED, UNKNOWN)
    absent = {"Site A/1/": ("Parotid_R",), "p2": ("Parotid_L", "Brainstem")}
    found = states(archive, tmp_path, RoiMap(rois=NAMES, absent=absent))
    assert found["P1"] == (CONTOURED, CONTOURED, ABSENT)
    # Contoured and declared absent: neither is believed.
    assert found["P2"] == (UNKNOWN, ABSENT, CONTOURED)
    whole_site = RoiMap(
        rois=NAMES, absent={"site a": ("Parotid_R", "Parotid_L")}, accepted={"P1": ("Parotid_L",)}
    )
    assert states(archive, tmp_path, whole_site)["P1"] == (CONTOURED, CONTOURED, ABSENT)
    with pytest.raises(ConfigError, match=r"not in this archive(.|\n)*found: site b, P9"):
        find_sources(archive, RoiMap(rois=NAMES, absent={"site b": ROIS}, accepted={"P9": ROIS}))


def test_a_site_that_is_a_link_has_the_name_of_its_link(archive: Path, tmp_path: Path) -> None:
    linked = tmp_path / "archive"
    linked.mkdir()
    link_folder(linked / "clinic b", archive / "site a")
    found = states(linked, tmp_path / "cache", RoiMap(rois=NAMES, absent={"clinic b": ("Parotid_R",)}))
    assert found == {"P1": (CONTOURED, CONTOURED, ABSENT), "P2": (CONTOURED, UNKNOWN, UNKNOWN)}


def test_a_patient_with_nothing_but_absent_rois_is_used(archive: Path, tmp_path: Path) -> None:
    write_patient(tmp_path / "more" / "4", 4, {"ring": (2, 8, 10)})
    write_patient(tmp_path / "more" / "5", 5, {"Brainstem": (2, 8, 10)})
    roi_map = RoiMap(rois=NAMES, ignore=("ring",), absent={"P4": ("Brainstem",)})
    assert states(tmp_path / "more", tmp_path / "cache", roi_map)["P4"] == (ABSENT, UNKNOWN, UNKNOWN)


def test_swapped_sides_are_left_out_unless_accepted(archive: Path, tmp_path: Path) -> None:
    assert states(archive, tmp_path)["P3"] == (CONTOURED, UNKNOWN, UNKNOWN)
    accepted = RoiMap(rois=NAMES, accepted={"P3": ("Parotid_L", "Parotid_R")})
    sources, found = prepared(archive, tmp_path, accepted)
    check = check_cases(sources, found)
    assert not check.rois_left_out("P3")
    (reason,) = {f.reason for f in check.findings if f.kind == "side"}
    assert reason.endswith("are swapped; accepted in the ROI map")


def test_facts_are_measured_on_the_ct(archive: Path, tmp_path: Path) -> None:
    _, found = prepared(archive, tmp_path)
    facts = found.cases["P1"].facts["Brainstem"]
    assert facts.volume_cm3 == pytest.approx(3 * 4 * 4 * 6 * 5 * 5 / 1000)
    assert (facts.slices, facts.contours, facts.unused_contours) == (3, 3, 0)


def test_slices_that_are_blank_but_around_contours_are_cut_off(archive: Path, tmp_path: Path) -> None:
    rois = {"Brainstem": (2, 8, 10), "Parotid_L": (0, 8, 15)}
    write_patient(tmp_path / "archive", 4, rois, shown=slice(3, None))
    sources, found = prepared(tmp_path / "archive", tmp_path / "cache")
    whole = found.cases["P4"]
    check = check_cases(sources, found)
    (finding,) = (f for f in check.findings if f.kind == "blank slices")
    assert (finding.patient, finding.roi, finding.left_out) == ("P4", "", True)
    # Three slices of 6 mm, and the one of air that is kept below the body.
    assert finding.reason.startswith("the lowest 24 mm of the image are blank")
    case = checked(sources, found, check).cases["P4"]
    assert case.is_cut and case.hu.shape == case.bits.shape == (whole.hu.shape[0] - 4, *whole.hu.shape[1:])
    np.testing.assert_array_equal(case.hu, whole.hu[4:])
    np.testing.assert_array_equal(case.bits, whole.bits[4:])
    assert case.bits.base is not None, "copied into memory"
    # The parotid was drawn in blank slices only.
    assert case.states == (CONTOURED, UNKNOWN, UNKNOWN)
    kept = found.with_blank_slices()
    assert checked(sources, kept, check_cases(sources, kept)).cases["P4"].hu.shape == whole.hu.shape
    assert not any(case.is_cut for case in prepared(archive, tmp_path / "cache")[1].cases.values())


def test_the_configuration_says_what_becomes_of_blank_slices(tmp_path: Path) -> None:
    write_patient(tmp_path / "archive", 4, {"Brainstem": (2, 8, 10)}, shown=slice(3, None))
    arguments = ["train", str(tmp_path / "archive"), "--check", "--config", str(tmp_path / "train.yaml")]
    for word, expected in (("cut", "cut off"), ("keep", "nothing looks wrong")):
        config = f"preprocess: {{spacing_mm_kij: [6, 5, 5]}}\ndata: {{blank_slices: {word}}}\n"
        (tmp_path / "train.yaml").write_text(config, encoding="utf-8")
        result = CliRunner().invoke(cli, [*arguments, "--out", str(tmp_path / word)])
        assert result.exit_code == 0, result.output
        assert expected in " ".join(result.stderr.split())


@pytest.mark.slow
def test_a_training_with_blank_slices_fills_in_and_goes_on(tmp_path: Path) -> None:
    for n in range(1, 7):
        rois = {"Brainstem": (3, 8, 10), **({"Parotid_L": (5, 8, 15)} if n != 2 else {})}
        write_patient(tmp_path / "archive" / str(n), n, rois, shown=slice(4 if n == 2 else 0, None))
    config = TrainConfig(
        data=DataConfig(pseudo_label_from=0.5, validation_share=0.2),
        preprocess=PreprocessConfig(spacing_mm_kij=(6.0, 5.0, 5.0)),
        network=NetworkChoice(base_filters=2),
        input=InputConfig(patch_kij=(8, 16, 16), batch_size=1),
        run=RunConfig(steps=4, validate_every=2, threads=1),
    )
    run = tmp_path / "run"
    plans: list[dict[str, str]] = []
    options = TrainOptions(device="cpu", on_plan=lambda facts: plans.append(dict(facts)))
    bundle = train(tmp_path / "archive", run, config, options=options)
    assert plans[0]["blank slices"] == "cut off in 1 patients (which: archive-check.csv)"
    assert bundle.data.patients_cut_where_blank == 1
    assert "P2" in json.loads((run / "splits.json").read_text(encoding="utf-8"))["training"]
    longer = (run / "config.yaml").read_text(encoding="utf-8").replace("steps: 4", "steps: 6")
    (run / "config.yaml").write_text(longer, encoding="utf-8")
    assert train(tmp_path / "archive", run, config, options=replace(options, resume=True)).training.steps == 6


def entries(cache: Path) -> dict[str, int]:
    return {p.parent.name: p.stat().st_mtime_ns for p in cache.rglob("*.npy")}


def test_nothing_is_computed_in_vain(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources, found = prepared(archive, tmp_path)
    assert not found.left_out and len(entries(tmp_path)) == 6
    case = found.cases["P2"]
    assert case.presence == (True, False, True)
    assert int((case.bits & 1).astype(bool).sum()) == 3 * 4 * 4
    before = entries(tmp_path)
    prepared(archive, tmp_path)
    assert entries(tmp_path) == before
    # Other ROIs: the images are not prepared again.
    with monkeypatch.context() as patch:
        patch.setattr(prepared_case, "prepare", lambda *a, **k: pytest.fail("an image was prepared again"))
        prepare_cases(sources.patients, ROIS[:1], SETTINGS, tmp_path)
    assert len(entries(tmp_path)) == 9 and before.items() <= entries(tmp_path).items()
    prepare_cases(sources.patients, ROIS, replace(SETTINGS, windows_hu=((-1000.0, 0.0),)), tmp_path)
    assert len(entries(tmp_path)) == 9
    prepare_cases(sources.patients, ROIS, replace(SETTINGS, margin_mm=1.0), tmp_path)
    assert len(entries(tmp_path)) == 15


def test_a_changed_structure_set_is_noticed(tmp_path: Path) -> None:
    write_patient(tmp_path / "archive", 1, {"Brainstem": (2, 8, 10)})
    _, found = prepared(tmp_path / "archive", tmp_path / "cache")
    before = found.cases["P1"].bits.sum()
    image = found.cases["P1"].image
    # Contours of the same length elsewhere: the file keeps its size.
    write_patient(tmp_path / "other", 1, {"Brainstem": (2, 9, 10)})
    (tmp_path / "other" / "RS.dcm").replace(tmp_path / "archive" / "RS.dcm")
    _, again = prepared(tmp_path / "archive", tmp_path / "cache")
    case = again.cases["P1"]
    assert case.image == image
    assert case.bits.sum() == before and not np.array_equal(case.bits, found.cases["P1"].bits)


def test_a_patient_whom_an_earlier_version_cached_from_half_a_scan_is_read_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, cache = tmp_path / "archive", tmp_path / "cache"
    write_patient(archive / "1", 1, {"Brainstem": (4, 8, 10)})
    write_patient(archive / "2", 2, {"Brainstem": (3, 9, 11)})
    for path in (archive / "1" / "ct").iterdir():
        half = dcmread(path)
        if half.ImagePositionPatient[2] > 10 + 6 * 5:  # two slices of the ROI are below, one is above
            half.SeriesInstanceUID = "1.2.3.4"
            half.save_as(path)
    with monkeypatch.context() as earlier:
        earlier.setattr("contour_ai.dicom.frames.several_series", lambda *_: None)
        earlier.setattr(RelevantSeries, "digest", lambda *_: "")
        _, before = prepared(archive, cache)
    (half_label,) = before.cases.keys() - {"P2"}
    assert not before.left_out and (before.cases[half_label].bits != 0).any((1, 2)).sum() == 2
    _, found = prepared(archive, cache)
    assert found.prepared["P2"].key == before.prepared["P2"].key
    assert set(found.left_out) == {half_label}
    assert "lie on several CT series of one folder" in found.left_out[half_label]
    (told,) = [record.getMessage() for record in caplog.records if "read again" in record.getMessage()]
    assert told.startswith("1 cached patient(s) were read again: ") and told.endswith(f": {half_label}")


def test_with_several_series_of_a_patient_nothing_is_computed_in_vain_either(tmp_path: Path) -> None:
    archive, cache = tmp_path / "archive", tmp_path / "cache"
    write_patient(archive / "1", 1, {"Brainstem": (4, 8, 10)})
    write_patient(archive / "2", 2, {"Brainstem": (3, 9, 11)}, patient_id="P1")
    _, both = prepared(archive, cache)
    assert len(both.cases) == 2 and not both.left_out
    before = entries(cache)
    prepared(archive, cache)
    assert entries(cache) == before


def test_an_interrupted_build_goes_on(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class InterruptedHereError(Exception):
        pass

    def interrupt(event: object) -> None:
        raise InterruptedHereError

    sources = find_sources(archive)
    monkeypatch.setattr(cases_module, "PREPARING_THREADS", 1)
    with pytest.raises(InterruptedHereError):
        prepare_cases(sources.patients, ROIS, SETTINGS, tmp_path, interrupt)
    done = entries(tmp_path)
    assert 2 <= len(done) < 6
    prepared(archive, tmp_path)
    assert len(entries(tmp_path)) == 6 and done.items() <= entries(tmp_path).items()


def test_an_unreadable_patient_is_named_and_the_rest_is_used(tmp_path: Path) -> None:
    for n in (1, 2):
        write_patient(tmp_path / "archive" / str(n), n, {"Brainstem": (2, 8, 10)})
    sources = find_sources(tmp_path / "archive")
    slices = sorted((tmp_path / "archive" / "2" / "ct").iterdir())
    slices[5].write_bytes(slices[5].read_bytes()[:-200])
    found = prepare_cases(sources.patients, ROIS, SETTINGS, tmp_path / "cache")
    assert set(found.cases) == {"P1"}
    (finding,) = check_cases(sources, found).left_out
    assert (finding.patient, finding.roi, finding.kind) == ("P2", "", "unreadable")
    with pytest.raises(InputError, match=r"No patient can be used(.|\n)*P2"):
        prepare_cases([p for p in sources.patients if p.label == "P2"], ROIS, SETTINGS, tmp_path / "cache")


def test_a_roi_without_voxels_counts_as_not_contoured() -> None:
    bits = np.zeros((2, 2, 2), np.uint8)
    bits[0, 0, 0] = 2
    case = Case(
        patient_id="p",
        image=np.zeros((2, 2, 2), np.int16),
        labels=bits,
        rois=("A", "B"),
        presence=(True, True),
        spacing_mm_kij=(1.0, 1.0, 1.0),
    )
    assert case.without_empty().presence == (False, True)


def test_strict_and_check_only(archive: Path, tmp_path: Path) -> None:
    config = tmp_path / "train.yaml"
    config.write_text("preprocess: {spacing_mm_kij: [6, 5, 5]}\n", encoding="utf-8")
    arguments = ["train", str(archive), "--config", str(config), "--out", str(tmp_path / "run")]
    only = CliRunner().invoke(cli, [*arguments, "--check"])
    assert only.exit_code == 0, only.output
    assert "swapped" in only.stderr and "2 left out" in only.stderr
    written = sorted(p.name for p in (tmp_path / "run").iterdir())
    assert written == [".contour-ai.json", "archive-check.csv", "cache", "roi-names.csv"]
    assert "names: 3 mapped, 0 set aside; the list: " in only.stderr
    with (tmp_path / "run" / "archive-check.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["patient"], row["roi"], row["what"]) for row in rows] == [
        ("P3", "Parotid_L", "side"),
        ("P3", "Parotid_R", "side"),
    ]
    for more in (["--strict"], ["--strict", "--check"]):
        strict = CliRunner().invoke(cli, [*arguments, *more])
        assert strict.exit_code == 3, strict.output
        assert "found 2 faults" in strict.stderr and "accepted in the ROI map" in strict.stderr
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_what_is_left_out_is_printed_and_kept_with_the_run(archive: Path, tmp_path: Path) -> None:
    config = TrainConfig(
        preprocess=PreprocessConfig(spacing_mm_kij=(6.0, 5.0, 5.0)),
        network=NetworkChoice(base_filters=2),
        input=InputConfig(patch_kij=(8, 16, 16), batch_size=1),
        run=RunConfig(steps=1, threads=1),
    )
    plans: list[dict[str, str]] = []
    checks: list[ArchiveCheck] = []
    options = TrainOptions(
        device="cpu",
        on_plan=lambda facts: plans.append(dict(facts)),
        on_check=checks.append,
        roi_map=RoiMap(rois=NAMES, absent={"P1": ("Parotid_R",)}),
    )
    bundle = train(archive, tmp_path / "run", config, options=options)
    assert {f.patient for f in checks[0].left_out} == {"P3"}
    assert plans[0]["contours left out"] == "P3: Parotid_L, Parotid_R (why: archive-check.csv)"
    splits = json.loads((tmp_path / "run" / "splits.json").read_text(encoding="utf-8"))
    assert splits["rois_left_out"] == {"P3": ["Parotid_L", "Parotid_R"]}
    assert (tmp_path / "run" / "archive-check.csv").is_file()
    learnt = sum(bundle.data.rois[roi].patients for roi in ("Parotid_L", "Parotid_R"))
    assert learnt <= 2
    # What the map says is a matter of the training: with another map it is another one.
    with pytest.raises(ModelError, match="other patients, ROIs or settings"):
        (tmp_path / "run" / "roi-map.yaml").unlink()
        train(archive, tmp_path / "run", config, options=TrainOptions(device="cpu", resume=True))


def test_contours_on_several_series_of_a_folder_are_no_truth_and_nothing_to_compare_with(
    tmp_path: Path,
) -> None:
    write_patient(tmp_path / "1", 1, {"Brainstem": (2, 8, 10), "Parotid_L": (5, 8, 15)})
    write_patient(tmp_path / "2", 2, {"Brainstem": (3, 9, 11), "Parotid_R": (5, 8, 5)})
    slices = [d for path in (tmp_path / "1").rglob("*.dcm") if (d := dcmread(path)).Modality == "CT"]
    slices.sort(key=lambda d: float(d.ImagePositionPatient[2]))
    for one in slices[len(slices) // 2 :]:
        one.SeriesInstanceUID = "1.2.3.4"
        one.save_as(one.filename)
    sources, found = prepared(tmp_path, tmp_path / "cache")
    assert list(found.cases) == ["P2"]
    (why,) = found.left_out.values()
    assert "lie on several CT series of one folder" in why
    half = next(one for one in sources.patients if one.label != "P2").files
    nothing = find_reference(half, read_ct(half.ct), [])
    assert not nothing.masks and nothing.path is None
    (note,) = nothing.notes
    assert (
        note.startswith(f"not compared with {half.structure_sets[0].path}: The contours")
        and "export it again" in note
    )
