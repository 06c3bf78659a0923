"""Ranges and confidence, measured on a small archive of drawn patients and written into a finished bundle."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from click.testing import CliRunner

from contour_ai.bundle import ModelBundle, load_bundle, save_bundle
from contour_ai.cli.main import cli
from contour_ai.dicom.ct import read_ct
from contour_ai.dicom.ct_write import PatientIdentity, write_ct
from contour_ai.dicom.rtstruct_header import Provenance
from contour_ai.dicom.rtstruct_read import read_structures
from contour_ai.dicom.rtstruct_write import write_structures
from contour_ai.dicom.scan import find_patient
from contour_ai.errors import ConfigError
from contour_ai.grid import Grid
from contour_ai.network import ResidualUNet3d
from contour_ai.network_config import NetworkConfig
from contour_ai.pipeline._predict import PredictOptions, predict
from contour_ai.pipeline._review import ReviewOptions, review
from contour_ai.pipeline.calibration import CalibrationOptions, calibrate, case_figures
from contour_ai.pipeline.splits_file import Splits, read_splits, write_splits
from contour_ai.preprocess import PreprocessSettings
from contour_ai.quality.confidence import UNCERTAIN_SHARE
from contour_ai.structures import roi_info
from contour_ai.training.cache import Case
from contour_ai.training.roi_facts import RoiFacts
from contour_ai.volume import Structures, Volume

SHAPE, SPACING = (12, 40, 48), (5.0, 4.0, 4.0)
ROI = "Brainstem"


def write_patient(folder: Path, seed: int, *, radius_mm: float = 19.0) -> Path:
    """A body of 0 HU with a ball of about 300 HU and `radius_mm` in it, more or less noisy."""
    dice = np.random.default_rng(seed)
    grid = Grid.axial(SHAPE, SPACING, (-94.0, -78.0, -30.0))
    points = grid.index_to_lps(np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1))
    hu = np.where((points[..., 0] / 80) ** 2 + (points[..., 1] / 60) ** 2 < 1, 0, -1000).astype(np.int16)
    ball = np.linalg.norm(points - dice.normal(0, 2, 3), axis=-1) < radius_mm + dice.uniform(-1.5, 1.5)
    hu[ball] = 300 + round(dice.uniform(-30, 30))
    hu += np.rint(dice.normal(0, dice.uniform(5, 40), SHAPE)).astype(np.int16)
    identity = PatientIdentity(patient_id=f"p{seed}", patient_name="Drawn", study_date="20260101")
    ct = write_ct(folder / "ct", Volume(hu, grid), identity, uid_seed=f"{folder}")
    write_structures(
        folder / "rs.dcm", Structures.from_masks({ROI: ball}, ct.grid), ct, Provenance(label="T")
    )
    return folder


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    for seed in range(8):
        write_patient(folder / f"p{seed}", seed)
    return folder


@pytest.fixture
def bundle(tmp_path: Path) -> ModelBundle:
    """A network whose logit grows with the voxel's HU, zero at 150 HU."""
    network = ResidualUNet3d(
        NetworkConfig(name="custom", in_channels=1, out_channels=1, base_filters=1, levels=2, dropout=0.0)
    ).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "norm" not in name and "shortcut.1" not in name:
                parameter.zero_()
        network.stem.shortcut[0].weight[0, 0, 1, 1, 1] = 1
        network.decoder[0].merge.weight[0, 1] = 1
        network.decoder[0].block.shortcut[0].weight[0, 0, 1, 1, 1] = 1
        network.head.weight[:] = 20
        network.head.bias[:] = 20 * 0.625
    settings = PreprocessSettings(spacing_mm_kij=SPACING, windows_hu=((0.0, 800.0),))
    made = ModelBundle(
        folder=Path(),
        name="ball",
        version="1",
        kind="phantom",
        rois=(roi_info(ROI),),
        preprocess=settings,
        network=network.config,
    )
    return save_bundle(tmp_path / "ball", made, network.state_dict(), model_card="For tests.")


def test_patients_held_back_teach_what_review_judges_contours_by(
    archive: Path, bundle: ModelBundle, tmp_path: Path
) -> None:
    done = calibrate(bundle, archive, CalibrationOptions(cache_dir=tmp_path / "cache"))
    model = done.contour_model
    assert model is not None and model.patients == 8 and done == load_bundle(bundle.folder)
    assert model.limits.keys() == {"*"}, "too few for limits of the ROI's own"
    good = review(archive / "p3", done)
    (name,) = [name for name, roi in good.record.rois.items() if roi.known_as == ROI]
    assert good.record.limits == "calibrated" and good.record.rois[name].probability is not None
    ct = read_ct(find_patient(archive / "p3").ct)
    mask = read_structures(find_patient(archive / "p3").structure_sets[0].path, ct).mask(name)
    moved = np.roll(mask, round(20 / ct.grid.spacing_mm[1]), axis=1)
    wrong = Structures.from_masks({name: moved}, ct.grid)
    path = write_structures(tmp_path / "moved.dcm", wrong, ct, Provenance(label="moved")).path
    found = review(archive / "p3", done, options=ReviewOptions(rtstruct=path)).record.rois[name]
    assert found.verdict != "clear" and (found.probability or 0) > (good.record.rois[name].probability or 0)


def test_a_finished_bundle_gets_ranges_and_uses_them(
    archive: Path, bundle: ModelBundle, tmp_path: Path
) -> None:
    splits = tmp_path / "splits.json"
    labels = [f"p{n}" for n in range(8)]
    splits.write_text(json.dumps({"training": labels[:7], "validation": labels[7:]}), encoding="utf-8")
    done = calibrate(bundle, archive, CalibrationOptions(splits=splits, cache_dir=tmp_path / "cache"))
    assert done.weights_sha256 == bundle.weights_sha256 and done == load_bundle(bundle.folder)
    assert done.ranges is not None and (done.ranges.patients, done.ranges.held_back) == (7, 1)
    low, middle, high = done.ranges.rois[ROI].figures["volume_cm3"]
    assert low < middle < high and middle == pytest.approx(4 / 3 * np.pi * 1.9**3, rel=0.2)
    assert done.ranges.image["slice_mm"][1] == 5 and done.ranges.rois[ROI].flat_share is None, (
        "one is too few"
    )

    options = PredictOptions(overlays=False)
    usual = predict(archive / "p3", done, tmp_path / "out", options)
    codes = {flag.code for roi in usual.rois for flag in roi.flags}
    assert usual.flags == () and codes <= {"hu_spread"}, "the network cuts off the softer rim"
    large = predict(write_patient(tmp_path / "in", 99, radius_mm=26.0), done, tmp_path / "out", options)
    flags = {flag.code: flag for roi in large.rois for flag in roi.flags}
    assert flags["volume"].value == pytest.approx(4 / 3 * np.pi * 2.6**3, rel=0.2)
    summary = json.loads((large.folder / "summary.json").read_text(encoding="utf-8"))
    written = {flag["code"]: flag for flag in summary["rois"][ROI]["flags"]}
    assert summary["compared_with_training_patients"] == 7
    assert [flag["code"] for flag in summary["flags"]] == [flag.code for flag in large.flags]
    assert set(written["volume"]) == {"code", "reason", "value", "low", "high", "unit", "slices_from_1"}
    assert written["volume"]["high"] == pytest.approx(high, rel=1e-3) and written["volume"]["unit"] == "cm3"
    volume = summary["rois"][ROI]["volume_cm3"]
    assert written["volume"]["value"] == volume, "one ROI has one volume"
    if "mean_hu" in written:
        assert written["mean_hu"]["value"] == summary["rois"][ROI]["mean_hu"]
    shown = CliRunner().invoke(
        cli,
        ["predict", str(tmp_path / "in"), "--model", str(bundle.folder), "--out", str(tmp_path / "shown")],
    )
    terminal = " ".join(shown.stdout.split())
    assert f"the volume is {volume:.1f} cm3" in terminal and f"{ROI} {volume:.1f} " in terminal
    described = pydicom.dcmread(large.path).StructureSetROISequence[0].ROIDescription
    assert f"the volume is {volume:.1f} cm3" in described


def test_training_and_predictions_are_measured_alike() -> None:
    """Ranges are of the contours on the CT, as flags are, where the archive was measured there."""
    hu, bits = np.full((6, 8, 8), 20, np.int16), np.zeros((6, 8, 8), np.uint8)
    bits[2:4, 2:5, 2:5] = 1
    case = Case(
        patient_id="p", image=hu, labels=bits, rois=(ROI,), presence=(True,), spacing_mm_kij=(5.0, 4.0, 4.0)
    )
    on_model = case_figures(case, -1024).rois[ROI]
    assert on_model.volume_cm3 == pytest.approx(18 * 0.08)
    facts = RoiFacts(volume_cm3=1.7, extent_mm=12.0, mean_hu=33.0)
    found = case_figures(replace(case, facts={ROI: facts}), -1024).rois[ROI]
    assert (found.volume_cm3, found.length_mm, found.mean_hu) == (1.7, 12.0, 33.0)
    assert (
        replace(found, volume_cm3=on_model.volume_cm3, length_mm=on_model.length_mm, mean_hu=20.0) == on_model
    )
    older = case_figures(replace(case, facts={ROI: RoiFacts(volume_cm3=1.7)}), -1024).rois[ROI]
    assert (older.volume_cm3, older.length_mm, older.mean_hu) == (1.7, on_model.length_mm, 20.0)


def test_the_command(archive: Path, bundle: ModelBundle, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        cli, ["models", "ranges", str(bundle.folder), str(archive), "--device", "cpu"]
    )
    assert result.exit_code == 0, result.output
    assert "ranges of 8 patients, confidence of 8" in result.stdout
    measured = load_bundle(bundle.folder).ranges
    assert measured is not None and measured.rois[ROI].flat_share is not None
    assert measured.rois[ROI].flat_share <= UNCERTAIN_SHARE
    run = tmp_path / "run"
    run.mkdir()
    (run / "splits.json").write_text('{"training": ["nobody"], "validation": []}', encoding="utf-8")
    refused = CliRunner().invoke(
        cli, ["models", "ranges", str(bundle.folder), str(archive), "--run", str(run), "--device", "cpu"]
    )
    assert refused.exit_code == 4 and "None of the patients is among those" in refused.stderr


def test_splits_that_cannot_be_read(archive: Path, bundle: ModelBundle, tmp_path: Path) -> None:
    splits = tmp_path / "splits.json"
    for text, message in (
        ("[]", r"(?s)must be a mapping of keys.*splits\.json"),
        ("{", r"(?s)splits of the training cannot be read.*splits\.json"),
        ('{"training": [], "validatoin": []}', "(?s)Unknown key 'validatoin'.*did you mean 'validation'"),
        ('{"training": []}', "key validation is missing"),
    ):
        splits.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match=message):
            read_splits(splits)
    with pytest.raises(ConfigError, match="key validation is missing"):
        calibrate(bundle, archive, CalibrationOptions(splits=splits))
    splits.write_text('{"training": ["a"], "validation": ["b"]}', encoding="utf-8")
    assert read_splits(splits) == Splits(training=("a",), validation=("b",)), "of version 0.1"
    write_splits(splits, Splits(training=("a",), validation=(), rois_left_out={"a": ("Brain",)}))
    assert read_splits(splits).rois_left_out == {"a": ("Brain",)}
