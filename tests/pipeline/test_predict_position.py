"""Patients who lie otherwise than the header says are stopped; those who lie as it says are contoured."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from contour_ai.bundle import load_bundle
from contour_ai.dicom.ct import read_ct
from contour_ai.dicom.ct_write import PatientIdentity, write_ct
from contour_ai.dicom.rtstruct_header import Provenance
from contour_ai.dicom.rtstruct_read import read_structures
from contour_ai.dicom.rtstruct_write import write_structures
from contour_ai.grid import Grid
from contour_ai.pipeline._predict import PredictOptions, load_model, predict
from contour_ai.pipeline._predict.model import LoadedModel
from contour_ai.pipeline._predict.orientation import TURNS, implausible, turned
from contour_ai.pipeline._review import review
from contour_ai.quality.flag import make_flag
from contour_ai.volume import Structures, Volume

ROOT = Path(__file__).parents[2]
PHANTOM = ROOT / "sample_data" / "phantom-headneck-01"
HEADERS = {
    "face": np.diag([-1.0, -1.0, 1.0]),
    "feet": np.diag([-1.0, 1.0, -1.0]),
    "feet and face": np.diag([1.0, -1.0, -1.0]),
    "side": np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]),
}
"""What a wrong position does to every direction and place in the header; the pixels stay."""


@cache
def model() -> LoadedModel:
    return load_model(load_bundle(ROOT / "models" / "phantom-headneck"), "cpu")


def said_otherwise(volume: Volume, turn: np.ndarray) -> Volume:
    affine = volume.grid.affine
    moved = affine.copy()
    moved[:3] = turn @ affine[:3]
    return Volume(volume.hu, Grid.from_affine(volume.grid.shape_kij, moved))


def scanned_as(volume: Volume, order: tuple[int, int, int], signs: tuple[int, int, int]) -> Volume:
    """The same patient at the same place in another way through the scanner: pixels and header fit."""
    hu = np.transpose(volume.hu, order)[tuple(slice(None, None, s) for s in signs)]
    affine = volume.grid.affine
    turned_affine = affine.copy()
    for axis, (source, sign) in enumerate(zip(order, signs, strict=True)):
        turned_affine[:, axis] = affine[:, source] * sign
        if sign < 0:
            turned_affine[:3, 3] += affine[:3, source] * (volume.grid.shape_kij[source] - 1)
    a, b, c = hu.shape
    return Volume(np.ascontiguousarray(hu), Grid.from_affine((a, b, c), turned_affine))


def written(folder: Path, volume: Volume, position: str) -> Path:
    identity = PatientIdentity(patient_id="turned", patient_name="Phantom^Turned", study_date="20260101")
    write_ct(folder / "ct", volume, identity, uid_seed=position, patient_position=position)
    return folder


@pytest.mark.parametrize("turn", HEADERS)
def test_a_patient_who_lies_otherwise_than_the_header_says_is_stopped(turn: str, tmp_path: Path) -> None:
    ct = read_ct(PHANTOM / "ct")
    assert ct.volume is not None
    patient = written(tmp_path / "in", said_otherwise(ct.volume, HEADERS[turn]), "HFS")
    found = predict(patient, model(), tmp_path / "out", PredictOptions(overlays=False, report=False))
    assert found.verdict == "stop" and found.path is None
    assert found.findings[0].code == "input_orientation"
    words = TURNS["left side" if turn == "side" else turn]
    assert words.words in found.findings[0].reason and "PatientPosition HFS" in found.findings[0].reason
    assert words.exchanged.capitalize() in found.findings[0].reason
    # One ROI alone says nothing of the patient's position; the model looks at all of them.
    one = predict(patient, model(), options=PredictOptions(rois=("SpinalCord",)))
    assert one.verdict == "stop" and one.findings[0].code == "input_orientation"


@pytest.mark.parametrize(
    ("position", "order", "signs"),
    [("HFP", (0, 1, 2), (1, -1, -1)), ("FFS", (0, 1, 2), (-1, 1, -1)), ("HFDL", (0, 2, 1), (1, 1, -1))],
)
def test_whatever_the_position_a_patient_who_lies_as_the_header_says_is_contoured(
    position: str, order: tuple[int, int, int], signs: tuple[int, int, int], tmp_path: Path
) -> None:
    ct = read_ct(PHANTOM / "ct")
    assert ct.volume is not None
    plain = predict(PHANTOM, model())
    patient = written(tmp_path / "in", scanned_as(ct.volume, order, signs), position)
    found = predict(patient, model())
    assert found.verdict == plain.verdict and set(found.masks) == set(plain.masks)
    back = np.argsort(order)
    for name, mask in plain.masks.items():
        mine = np.transpose(found.masks[name][tuple(slice(None, None, s) for s in signs)], back)
        assert 2 * (mine & mask).sum() / (mine.sum() + mask.sum()) > 0.99, name


def test_review_stops_contours_on_such_a_ct(tmp_path: Path) -> None:
    ct = read_ct(PHANTOM / "ct")
    assert ct.volume is not None
    turned_ct = said_otherwise(ct.volume, HEADERS["face"])
    patient = written(tmp_path / "in", turned_ct, "HFS")
    with_turned = read_ct(patient / "ct")
    masks = dict(read_structures(PHANTOM / "RS.dcm", ct).masks())
    drawn = Structures.from_masks(masks, with_turned.grid)
    write_structures(patient / "RS.dcm", drawn, with_turned, Provenance(label="clinic"))
    found = review(patient, model())
    assert found.verdict.verdict == "stop" and found.verdict.findings[0].code == "input_orientation"


def test_turns_never_mirror_and_undo_themselves() -> None:
    image = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    for turn in ("face", "feet", "feet and face"):
        assert np.array_equal(turned(turned(image, turn), turn), image)
    assert np.array_equal(turned(turned(image, "left side"), "right side"), image)
    assert np.array_equal(turned(turned(image, "left side"), "left side"), turned(image, "face"))
    assert np.array_equal(turned(turned(image, "face"), "feet"), turned(image, "feet and face"))


def test_how_implausible_by_hand() -> None:
    gross = make_flag("volume", "", 100.0, 1.0, 10.0, "cm3")
    doubtful = replace(gross, value=11.0)
    flags = {"A": (gross,), "B": (doubtful,), "C": (), "D": (make_flag("empty", "", 0.0, 1.0, None),)}
    assert implausible(flags, ["A", "B", "C", "D"]) == pytest.approx(2.5 / 4)
    assert implausible(flags, ["C"]) == 0
