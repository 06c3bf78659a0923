"""Commissioning on the sample phantoms: kept and broken limits, a patient that cannot be read, the self-test."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from pydicom import dcmread

from contour_ai.bundle import RoiPostprocess, TrainingRecord, load_bundle, update_bundle
from contour_ai.bundle.commissioned_record import record_of
from contour_ai.bundle.seen_series import SeenSeries
from contour_ai.cli.main import cli
from contour_ai.dicom.ct import read_ct
from contour_ai.dicom.rtstruct_read import read_structures
from contour_ai.dicom.scan import find_patients
from contour_ai.errors import InputError
from contour_ai.evaluation.limits import Limits, RoiLimits
from contour_ai.pipeline import installation_test as self_test_module
from contour_ai.pipeline._commission import CommissionOptions, commission
from contour_ai.pipeline._commission.patients import find_cohort
from contour_ai.pipeline._commission.record import read_commissioning_record
from contour_ai.pipeline._predict import PredictOptions, predict
from contour_ai.pipeline.installation_test import self_test
from contour_ai.pipeline.series_content import content_of_files
from contour_ai.pipeline.summary import read_summary
from contour_ai.progress import ProgressEvent, no_progress
from contour_ai.settings import to_mapping

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "models" / "phantom-headneck"

GOOD = "rois: {Brainstem: {dsc: {each_at_least: 0.8}}, Larynx: {hd95_mm: {median_at_most: 8}}}\n"
BAD = "rois: {Brainstem: {dsc: {each_at_least: 0.999}}, Esophagus: {dsc: {median_at_least: 0.1}}}\n"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whole patient, and one with a CT only."""
    folder = tmp_path_factory.mktemp("data")
    shutil.copytree(ROOT / "sample_data" / "phantom-headneck-01", folder / "one")
    shutil.copytree(ROOT / "sample_data" / "phantom-headneck-02" / "ct", folder / "two" / "ct")
    return folder


def run(data: Path, out: Path, limits: str, model: Path = MODEL, *more: str) -> Result:
    path = out.with_suffix(".yaml")
    path.write_text(limits, encoding="utf-8")
    arguments = [
        str(data),
        "--model",
        str(model),
        "--limits",
        str(path),
        "--out",
        str(out),
        "--device",
        "cpu",
        *more,
    ]
    return CliRunner().invoke(cli, ["commission", *arguments])


def test_a_patient_whose_folder_is_removed_in_the_middle_does_not_end_the_run(tmp_path: Path) -> None:
    for n in (1, 2):
        shutil.copytree(ROOT / "sample_data" / f"phantom-headneck-0{n}", tmp_path / "data" / str(n))

    def removing(event: ProgressEvent) -> None:
        if event.stage == "comparing":
            shutil.rmtree(tmp_path / "data" / "2", ignore_errors=True)

    limits = Limits(rois={"Brainstem": RoiLimits()})
    commission(tmp_path / "data", MODEL, limits, tmp_path / "out", CommissionOptions(device="cpu"), removing)
    page = (tmp_path / "out" / "commissioning.html").read_text(encoding="utf-8")
    assert "This file cannot be opened" in page
    assert len({row["patient"] for row in csv.DictReader((tmp_path / "out" / "metrics.csv").open())}) == 1


def test_limits_that_are_kept(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTOUR_AI_RECORDS", str(tmp_path / "records"))
    out = tmp_path / "out"
    result = run(data, out, GOOD, MODEL, "--signed-by", "A. Physicist")
    assert result.exit_code == 0, result.output
    signed = record_of(load_bundle(MODEL))
    assert signed is not None and (signed.signed_by, len(signed.series)) == ("A. Physicist", 1)
    assert signed.limits and "commissioned by A. Physicist" in result.output
    assert "PASS" in result.output
    assert "phantom-headneck-02: left out, 0 structure sets" in result.output
    record = json.loads((out / "commissioning.json").read_text(encoding="utf-8"))
    assert to_mapping(read_commissioning_record(out / "commissioning.json")) == record
    assert record["passed"] is True
    assert record["limits_file"] == GOOD
    assert [check["found"] for check in record["run"]] == ["1", "1"]
    assert len(record["self_test"]) > 40
    assert record["environment"]["Model"]["weights SHA-256"] == load_bundle(MODEL).weights_sha256
    (patient,) = record["patients"]
    assert (out / patient["link"]).is_file()
    summary = (out / "predictions" / "phantom-headneck-01" / "summary.json").read_text(encoding="utf-8")
    flags = [flag["reason"] for roi in json.loads(summary)["rois"].values() for flag in roi["flags"]]
    assert all(any(flag.endswith(reason) for flag in patient["flags"]) for reason in flags)
    assert (out / "summary.csv").is_file()
    page = (out / "commissioning.html").read_text(encoding="utf-8")
    for words in (
        "PASS",
        "Signatures",
        "never for a patient",
        "each dsc at least 0.8",
        "torch",
        patient["link"],
    ):
        assert words in page, words
    assert "<script" not in page
    # Contours that were drawn before the model was commissioned say so, and those after it, too.
    before = dcmread(next((out / "predictions" / "phantom-headneck-01").glob("RS.*.dcm")))
    assert "Not commissioned on this machine." in before.StructureSetDescription
    assert json.loads(summary)["model"]["commissioned"] is None
    options = PredictOptions(overlays=False, report=False, device="cpu")
    later = predict(data / "one", MODEL, tmp_path / "later", options)
    assert later.path is not None and later.folder is not None
    said = "Commissioned by A. Physicist on " + signed.date[:10] + " with 1 patients."
    assert said in dcmread(later.path).StructureSetDescription
    model = read_summary(later.folder / "summary.json").model
    assert model.commissioned is not None
    assert (model.commissioned.signed_by, model.commissioned.limits) == ("A. Physicist", signed.limits)
    assert record["not_judged"] == ["SpinalCord", "Parotid_L", "Parotid_R", "Bone_Mandible"]
    said = "Not judged, because the file of limits does not name them: SpinalCord, Parotid_L"
    assert said in " ".join(result.output.split()) and said in page
    assert page.count(record["environment"]["Model"]["weights SHA-256"]) == 2, "also where it is signed"
    assert "slices, 4.5 x 3.01 x 3.01 mm, HFS" in patient["ct"] and patient["ct"] in page
    assert patient["series_uid"] and patient["structure_set_uid"]
    (brainstem,) = [row for row in csv.DictReader((out / "metrics.csv").open(encoding="utf-8"))
                    if row["roi"] == "Brainstem"]  # fmt: skip
    assert f"<td>{float(brainstem['dsc']):.3f}</td>" in page, "every patient's own figure"


def test_the_constancy_test(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["contour_ai.pipeline._commission.run"]
    monkeypatch.setattr(module, "self_test", lambda: ())
    first = run(data, tmp_path / "first", GOOD)
    assert first.exit_code == 0, first.output

    def again(out: str, *more: str) -> Result:
        arguments = [
            str(data),
            "--repeat",
            str(tmp_path / "first"),
            "--out",
            str(tmp_path / out),
            "--device",
            "cpu",
        ]
        return CliRunner().invoke(cli, ["commission", *arguments, *more])

    same = again("same", "--model", str(MODEL))
    assert same.exit_code == 0, same.output
    assert "7 of 7 ROIs have the same contours" in same.output
    record = json.loads((tmp_path / "same" / "commissioning.json").read_text(encoding="utf-8"))
    assert record["limits_file"] == GOOD and record["constancy"]["changed"] == []
    page = (tmp_path / "same" / "commissioning.html").read_text(encoding="utf-8")
    assert "equal, point by point" in page and "Model, machine and software are the same" in page

    # An update that moves the contours of one ROI.
    other = shutil.copytree(MODEL, tmp_path / "other")
    bundle = load_bundle(other)
    rules = {**bundle.postprocess, "Brainstem": RoiPostprocess(threshold=0.9)}
    update_bundle(replace(bundle, postprocess=rules, version="1.1"), model_card="# other\n")
    changed = again("changed", "--model", str(other))
    assert changed.exit_code == 6, changed.output
    record = json.loads((tmp_path / "changed" / "commissioning.json").read_text(encoding="utf-8"))
    (roi,) = record["constancy"]["changed"]
    assert (roi["patient"], roi["roi"]) == ("phantom-headneck-01", "Brainstem")
    masks = [read_masks(tmp_path / name, data / "one") for name in ("first", "changed")]
    a, b = (found["Brainstem"] for found in masks)
    assert roi["dice"] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()), abs=1e-6) and roi["dice"] < 1
    assert roi["now_cm3"] < roi["before_cm3"]
    names = [what for what, _, _ in record["constancy"]["installation"]]
    assert "Model: version" in names and "Model: fingerprint of weights and rules" in names
    assert "Brainstem" in changed.output and "6 of 7 ROIs have the same contours" in changed.output

    refused = again("refused", "--tau", "2")
    assert refused.exit_code == 2 and "--repeat takes --tau from the earlier run" in refused.output
    (tmp_path / "none").mkdir()
    elsewhere = CliRunner().invoke(
        cli,
        [
            "commission",
            str(tmp_path / "none"),
            "--repeat",
            str(tmp_path / "first"),
            "--out",
            str(tmp_path / "x"),
        ],
    )
    assert elsewhere.exit_code == 3, elsewhere.output
    written = next((tmp_path / "first" / "predictions").rglob("RS.*.dcm"))
    written.write_bytes(written.read_bytes() + b"\0\0")
    spoilt = again("spoilt")
    assert spoilt.exit_code == 4 and "not as they were written" in spoilt.output


def test_the_dossier(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["contour_ai.pipeline._commission.run"]
    monkeypatch.setattr(module, "self_test", lambda: ())
    table = tmp_path / "told.csv"
    table.write_text("patient,metal,post-operative\nphantom-headneck-01,,neck dissection\n", encoding="utf-8")
    out = tmp_path / "out"
    result = run(data, out, GOOD, MODEL, "--dossier", "--strata", str(table))
    assert result.exit_code == 0 and "dossier.html" in " ".join(result.output.split()), result.output
    text = (out / "dossier.md").read_text(encoding="utf-8")
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert [heading.split(". ")[1] for heading in headings] == [
        "Intended use",
        "Data",
        "Performance",
        "Performance by group",
        "Limits",
        "Risks",
        "Monitoring plan",
        "Sign-off",
    ]
    assert load_bundle(MODEL).inference_fingerprint in text
    (brainstem,) = [row for row in csv.DictReader((out / "metrics.csv").open(encoding="utf-8"))
                    if row["roi"] == "Brainstem"]  # fmt: skip
    dsc = f"{float(brainstem['dsc']):.3f}"
    assert f"| Brainstem | neck dissection | 1 (few) | {dsc} | {dsc} |" in text, "as the table says"
    assert f"| Brainstem | no metal | 1 (few) | {dsc} |" in text, "as the CT says"
    assert "| Brainstem | 4.5 mm | 1 (few) |" in text
    assert text.count("> **Gap:**") == int(re.search(r"(\d+) gaps are marked", text)[1]) > 15  # type: ignore[index]
    page = (out / "dossier.html").read_text(encoding="utf-8")
    assert page.count('class="gap"') == text.count("> **Gap:**") and "<script" not in page
    (line,) = csv.DictReader((out / "strata.csv").open(encoding="utf-8"))
    assert (line["patient"], line["metal"], line["post-operative"]) == (
        "phantom-headneck-01",
        "no metal",
        "neck dissection",
    )
    assert line["contrast"] == "none named" and line["scanner"].startswith("contour-ai")
    table.write_text("who,metal\n", encoding="utf-8")
    refused = run(data, tmp_path / "x", GOOD, MODEL, "--strata", str(table))
    assert refused.exit_code == 4 and "has no patients" in refused.output


def read_masks(run_dir: Path, patient: Path) -> dict[str, np.ndarray]:
    """{ROI: mask} of what a run predicted of a patient."""
    ct = read_ct(patient / "ct")
    structures = read_structures(next((run_dir / "predictions").rglob("RS.*.dcm")), ct)
    return {name: structures.mask(name) for name in structures.names}


def test_limits_that_are_not_kept(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opening = sys.modules["contour_ai.pipeline._predict.opening"]
    monkeypatch.setattr(
        opening, "find_patient", lambda *a, **k: pytest.fail("a patient was looked for again")
    )
    module = sys.modules["contour_ai.pipeline._commission.run"]
    monkeypatch.setattr(module, "self_test", lambda: ())  # takes seconds, and is tested below
    shutil.copytree(data, tmp_path / "data")
    shutil.copytree(
        ROOT / "sample_data" / "phantom-headneck-02", tmp_path / "data" / "two", dirs_exist_ok=True
    )
    slices = sorted((tmp_path / "data" / "two" / "ct").iterdir())
    slices[len(slices) // 2].unlink()
    out = tmp_path / "data" / "out"  # results below the patients are no input
    monkeypatch.setenv("CONTOUR_AI_RECORDS", str(tmp_path / "records"))
    result = run(tmp_path / "data", out, BAD, MODEL, "--signed-by", "A. Physicist")
    assert "not recorded as commissioned" in result.output and record_of(load_bundle(MODEL)) is None
    assert result.exit_code == 6, result.output
    assert "FAIL" in result.output
    record = json.loads((out / "commissioning.json").read_text(encoding="utf-8"))
    assert record["passed"] is False
    failed = {
        (c["subject"], c["rule"]): c["detail"] for c in [*record["run"], *record["limits"]] if not c["passed"]
    }
    assert failed["Brainstem", "each dsc at least 0.999"] == "phantom-headneck-01"
    assert ("Esophagus", "at least 1 patients with a reference") in failed
    assert "phantom-headneck-02" in failed["all", "2 patients contoured"]
    broken = record["patients"][1]
    assert (broken["patient"], broken["link"]) == ("phantom-headneck-02", "")
    assert "slice" in broken["problem"]


def test_mirroring_is_warned_of_where_the_training_did_not(data: Path, tmp_path: Path) -> None:
    sided = shutil.copytree(MODEL, tmp_path / "sided")
    update_bundle(
        replace(load_bundle(sided), training=TrainingRecord(mirrored_samples=False)), model_card="# sided\n"
    )
    for tta, warned in (("--tta", True), ("--no-tta", False)):
        result = run(
            data / "two", tmp_path / "out", GOOD, sided, tta
        )  # refused after it: no structure set there
        assert result.exit_code == 3
        assert ("trained without mirrored patients" in " ".join(result.stderr.split())) is warned


def test_patients_that_the_model_was_trained_on_are_left_out(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTOUR_AI_RECORDS", str(tmp_path / "records"))
    module = sys.modules["contour_ai.pipeline._commission.run"]
    monkeypatch.setattr(module, "self_test", lambda: ())
    patients = tmp_path / "data"
    shutil.copytree(data / "one", patients / "one")
    shutil.copytree(ROOT / "sample_data" / "phantom-headneck-02", patients / "two")
    found = {files.ct.patient_id: files.ct for files in find_patients(patients)}
    seen = content_of_files(found["phantom-headneck-02"])
    bundle = load_bundle(shutil.copytree(MODEL, tmp_path / "trained"))
    learnt = replace(seen, uid="1.2.3")  # exported again under another UID
    data_record = replace(bundle.data, seen_series=(SeenSeries.of([learnt]),))
    bundle = update_bundle(replace(bundle, data=data_record), model_card="# trained\n")

    result = run(patients, tmp_path / "out", GOOD, bundle.folder)
    assert result.exit_code == 0, result.output
    said = " ".join(result.stderr.split())
    assert "phantom-headneck-02: the model was trained on it; left out" in said
    assert sorted(p.name for p in (tmp_path / "out" / "predictions").iterdir() if p.is_dir()) == [
        "phantom-headneck-01"
    ]
    kept = run(
        patients, tmp_path / "kept", GOOD, bundle.folder, "--keep-trained-on", "--signed-by", "A. Physicist"
    )
    said = " ".join(kept.stderr.split())
    assert "1 of 2 patients were seen in the training and are measured all the same" in said
    assert "not recorded as commissioned: the model has seen 1 of these patients" in said
    assert record_of(bundle) is None
    shutil.rmtree(patients / "one")
    none_left = run(patients, tmp_path / "none", GOOD, bundle.folder)
    assert none_left.exit_code == 3
    assert "has seen every patient" in none_left.output and "--keep-trained-on" in none_left.output


def test_a_model_that_does_not_say_what_it_was_trained_on(data: Path) -> None:
    assert load_bundle(MODEL).data.seen_series == ()
    cohort = find_cohort(data, load_bundle(MODEL), CommissionOptions(), no_progress)
    assert list(cohort.patients) == ["phantom-headneck-01"]
    assert "not recorded which patients phantom-headneck was trained on" in cohort.notes[0]


def test_refusals(data: Path, tmp_path: Path) -> None:
    bundle, limits = load_bundle(MODEL), Limits({"Brainstem": RoiLimits()})
    with pytest.raises(InputError, match="no patient to commission with"):
        commission(data / "two", bundle, limits, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_example_limits_need_nothing_else() -> None:
    result = CliRunner().invoke(cli, ["commission", "--example-limits"])
    assert result.exit_code == 0
    assert "median_at_least" in result.output


# -- self-test ------------------------------------------------------------------------------------------------


def test_the_self_test_passes() -> None:
    checks = self_test()
    assert [check for check in checks if not check.passed] == []
    assert {check.subject for check in checks} == {
        "RTSTRUCT and back",
        "sub-voxel contours",
        "figures worked by hand",
    }


def test_the_self_test_sees_a_changed_voxel_and_a_wrong_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    read, metrics = self_test_module.read_structures, self_test_module.roi_metrics

    def one_voxel_less(*arguments: object) -> object:
        structures = read(*arguments)  # type: ignore[arg-type]
        structures.bits[tuple(np.argwhere(structures.mask("Ball"))[0])] = 0
        return structures

    monkeypatch.setattr(self_test_module, "read_structures", one_voxel_less)
    monkeypatch.setattr(
        self_test_module,
        "roi_metrics",
        lambda a, b, grid, **more: metrics(b, b if a is None else a, grid, **more),
    )
    failed = [check for check in self_test() if not check.passed]
    changed = [check for check in failed if check.subject == "RTSTRUCT and back"]
    assert [check.found for check in changed if check.rule.startswith("ball")] == ["1"] * 5
    assert any("shift mm" in check.rule for check in failed)
    assert any(check.rule.startswith("box without a prediction: DSC") for check in failed)
