"""Figures of whole patients, by hand, and pictures of the worst."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from training_cases import case

from contour_ai.training.validation_figures import CaseFigures, case_figures, roi_figures, worst_cases
from contour_ai.training.worst_pictures import save_pictures, worst_picture

ONE = case(0)


def logits_of(one=ONE) -> np.ndarray:  # type: ignore[no-untyped-def]
    """What a perfect network would give."""
    return np.stack([np.where((one.bits >> r) & 1, 4.0, -4.0) for r in range(3)]).astype(np.float32)


def test_a_perfect_prediction() -> None:
    figures = case_figures(logits_of(), ONE)
    for found in figures.patients["patient-0"].values():
        assert found == {"dice": 1.0, "surface_dice": 1.0, "hd95_mm": 0.0}
    accuracies = figures.accuracies()
    assert accuracies is not None and accuracies.overall_accuracy == accuracies.mean_class_dice == 1.0


def test_a_shift_by_hand() -> None:
    truth, predicted = np.zeros((9, 20, 20), bool), np.zeros((9, 20, 20), bool)
    truth[2:6, 4:8, 4:8] = True
    predicted[2:6, 4:8, 6:10] = True
    found = roi_figures(predicted, truth, (3.0, 2.0, 2.0), "Brainstem")
    assert found["dice"] == 0.5
    assert found["hd95_mm"] == pytest.approx(4.0)
    assert 0 < found["surface_dice"] < 1


def test_a_roi_that_is_not_found_counts_as_wrong_and_one_not_contoured_not_at_all() -> None:
    logits = logits_of()
    logits[0] = -1
    figures = case_figures(logits, replace(ONE, presence=(True, False, True)))
    assert figures.patients["patient-0"]["Parotid_L"] == {
        "dice": 0.0,
        "surface_dice": 0.0,
        "hd95_mm": math.inf,
    }
    assert set(figures.patients["patient-0"]) == {"Parotid_L", "Brainstem"}
    assert math.isnan(figures.mean("dice", "Parotid_R"))


def test_absent_rois_are_certain_in_the_matrix() -> None:
    logits = logits_of()
    unknown = replace(ONE, presence=(True, False, True))
    assert case_figures(logits, unknown).accuracies().overall_accuracy == 1.0  # type: ignore[union-attr]
    absent = replace(unknown, absent=("Parotid_R",))
    assert case_figures(logits, absent).accuracies().overall_accuracy < 1.0  # type: ignore[union-attr]


def test_patients_of_several_processes_come_together() -> None:
    a, b = case_figures(logits_of(), ONE), case_figures(-logits_of(), replace(ONE, patient_id="other"))
    both = CaseFigures()
    both.merge(pickle.loads(pickle.dumps(a)))
    both.merge(b)
    assert both.mean("dice", "Brainstem") == pytest.approx((1 + b.patients["other"]["Brainstem"]["dice"]) / 2)
    assert both.table(("Brainstem",))["hd95_mm"]["Brainstem"] > 0
    assert (both.confusion.matrix == a.confusion.matrix + b.confusion.matrix).all()
    assert len(both.patients) == 2


def test_the_worst_are_named_one_roi_a_patient() -> None:
    patients = {"a": {"X": 0.9, "Y": 0.2}, "b": {"X": 0.1, "Y": 0.15}, "c": {}, "d": {"X": 0.8}}
    assert worst_cases(patients, 2) == [("b", "X", 0.1), ("a", "Y", 0.2)]
    assert worst_cases({}, 2) == []


def test_the_picture_shows_the_slice_that_is_most_wrong(tmp_path: Path) -> None:
    logits = logits_of()
    k = int(np.argmax(((ONE.bits >> 2) & 1).sum(axis=(1, 2))))
    logits[2, k] = -logits[2, k]
    picture = worst_picture(ONE, "Brainstem", logits)
    assert picture.width > 3 * 100
    wrong, right = np.asarray(picture, float), np.asarray(worst_picture(ONE, "Brainstem", logits_of()), float)
    assert wrong.shape != right.shape or np.abs(wrong - right).max() > 50
    save_pictures(tmp_path / "worst", {"P 1": picture, "P/2": picture})
    assert sorted(p.name for p in (tmp_path / "worst").iterdir()) == ["P_1.png", "P_2.png"]
    save_pictures(tmp_path / "worst", {"P3": picture})
    assert [p.name for p in (tmp_path / "worst").iterdir()] == ["P3.png"]
    with Image.open(tmp_path / "worst" / "P3.png") as read:
        assert read.size == picture.size
