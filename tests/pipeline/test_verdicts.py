"""What `predict` does with a verdict: what is written, what not, and what everybody is told."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

from click.testing import CliRunner
from test_predict import make_patient, model_dir, thresholding

from contour_ai.bundle import ModelBundle, SecondReader, load_bundle, save_bundle, update_bundle
from contour_ai.cli.main import cli
from contour_ai.dicom.rtstruct_read import load_structure_set
from contour_ai.pipeline._predict import PredictOptions, predict
from contour_ai.pipeline.summary import read_summary
from contour_ai.quality.contour_verdict import POOLED, ContourModel
from contour_ai.quality.ranges import Ranges, RoiRanges

__all__ = ["model_dir"]  # a fixture

ASKED = ("Bright", "Brighter", "Body")
"""Not the ROI that the model never finds."""
TINY = RoiRanges(patients=5, figures={"volume_cm3": (0.001, 0.002, 0.003)})


def with_ranges(model_dir: Path, *names: str) -> ModelBundle:
    """The model of `test_predict` for which these ROIs are far too large."""
    ranges = Ranges(patients=5, rois=dict.fromkeys(names, TINY))
    return replace(load_bundle(model_dir), ranges=ranges, region="phantom head")


def test_a_stopped_roi_is_not_written(tmp_path: Path, model_dir: Path) -> None:
    bundle = with_ranges(model_dir, "Bright")
    patient = make_patient(tmp_path / "in")
    result = predict(patient, bundle, tmp_path / "out", PredictOptions(overlays=False, rois=ASKED))
    assert result.verdict == "look" and result.path is not None and result.folder is not None
    assert "Bright" not in load_structure_set(result.path).names and "Bright" not in result.masks
    assert "Brighter" in load_structure_set(result.path).names and "Brighter" in result.masks
    summary = read_summary(result.folder / "summary.json")
    assert summary.verdict == "look"
    assert summary.rois["Bright"].verdict == "stop" and summary.rois["Bright"].name_in_file is None
    assert summary.rois["Bright"].findings[0].code == "volume"
    assert summary.rois["Bright"].volume_cm3 > 0, "the figures stay, to see why"
    kept = predict(
        patient, bundle, tmp_path / "kept", PredictOptions(overlays=False, rois=ASKED, keep_stopped=True)
    )
    assert kept.path is not None and "Bright" in load_structure_set(kept.path).names


def test_a_stopped_patient_gets_no_structure_set(tmp_path: Path, model_dir: Path) -> None:
    bundle = with_ranges(model_dir, "Bright", "Brighter")
    patient = make_patient(tmp_path / "in")
    options = PredictOptions(overlays=False, report=True)
    result = predict(patient, bundle, tmp_path / "out", options)
    assert result.verdict == "stop" and result.path is None and result.folder is not None
    assert sorted(p.name for p in result.folder.iterdir() if not p.name.startswith(".")) == [
        "montage.png",
        "report.html",
        "summary.json",
    ]
    page = (result.folder / "report.html").read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)
    assert found is not None
    shown = json.loads(found[1])
    assert shown["verdict"] == "stop" and shown["flags"][0]["reason"].startswith("no phantom head")
    assert any(roi["verdict"] == "stop" and roi["predicted"]["slices"] for roi in shown["rois"])
    assert any("No structure set was written" in note for note in shown["notes"])
    content = json.loads((result.folder / "summary.json").read_text(encoding="utf-8"))
    assert content["verdict"] == "stop" and content["structure_set"]["file"] == ""
    assert content["findings"][0]["reason"].startswith("no phantom head in this scan: 3 of 3 ROIs")
    in_memory = predict(patient, bundle)
    assert in_memory.verdict == "stop" and in_memory.path is None and set(in_memory.masks) == {"Body"}


def test_exit_status_and_words_of_the_command(tmp_path: Path, model_dir: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in model_dir.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    update_bundle(replace(with_ranges(model_dir, "Bright", "Brighter"), folder=folder), model_card="")
    patient = make_patient(tmp_path / "in")
    told = [str(patient), "--model", str(folder), "--out", str(tmp_path / "out"), "--no-overlays"]
    done = CliRunner().invoke(cli, ["predict", *told])
    assert done.exit_code == 7, done.output
    assert "no phantom head in this scan" in done.stdout and "--keep-stopped" in done.stdout
    again = CliRunner().invoke(cli, ["predict", *told, "--skip-done"])
    assert "1 patients skipped, already predicted" in again.stderr and again.exit_code == 7
    kept = CliRunner().invoke(cli, ["predict", *told, "--overwrite", "--keep-stopped", "-v"])
    assert kept.exit_code == 7 and list((tmp_path / "out").glob("*/RS.*.dcm"))


def test_a_second_reader_that_disagrees_makes_a_roi_look(tmp_path: Path, model_dir: Path) -> None:
    """It finds Bright as the model does, and nothing of Brighter."""
    bundle, first = load_bundle(model_dir), thresholding((-0.575, -0.075, 5.0))
    second = thresholding((-0.575, 5.0, 5.0))
    own = ContourModel(
        patients=9,
        false_alarm=0.08,
        intercept=-3.0,
        weights={"second_disagreement": 4.0},
        usual={POOLED: {"second_disagreement": (0.3, 0.1)}},
        limits={POOLED: 0.5},
    )
    described = SecondReader(spacing_mm_kij=(2.5, 2.0, 2.0), network=second.config)
    saved = save_bundle(
        tmp_path / "judged",
        replace(bundle, second_reader=described, own_contour_model=own),
        first.state_dict(),
        model_card="For tests.",
        second_reader=second.state_dict(),
    )
    patient = make_patient(tmp_path / "in")
    options = PredictOptions(overlays=False, rois=("Bright", "Brighter"))
    result = predict(patient, saved, tmp_path / "out", options)
    assert result.folder is not None and "second reader" in result.timings_s
    rois = read_summary(result.folder / "summary.json").rois
    doubted = [flag for flag in rois["Brighter"].findings if flag.code == "needs_correction"]
    assert rois["Brighter"].verdict == "look" and "Dice 0.00 with the second reader" in doubted[0].reason
    assert not [flag for flag in rois["Bright"].findings if flag.code == "needs_correction"]
