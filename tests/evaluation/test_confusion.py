"""The confusion matrix and its figures, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from contour_ai.evaluation.confusion import Confusion


def counted(truth: list[int], predicted: list[int], contoured: tuple[bool, ...] = (True, True)) -> Confusion:
    """Voxels by class (0 background, 1 and 2 ROIs), as bits and logits."""
    bits = np.array([0 if t == 0 else 1 << (t - 1) for t in truth], np.uint8).reshape(1, 1, -1)
    logits = np.full((2, 1, 1, len(truth)), -3.0, np.float32)
    for n, p in enumerate(predicted):
        if p:
            logits[p - 1, 0, 0, n] = 2.0
    confusion = Confusion(2)
    confusion.add(logits, bits, contoured)
    return confusion


def test_by_hand() -> None:
    confusion = counted([0, 0, 0, 0, 1, 1, 1, 2], [0, 0, 0, 1, 1, 1, 2, 2])
    assert confusion.matrix.tolist() == [[3, 1, 0], [0, 2, 1], [0, 0, 1]]
    figures = confusion.accuracies()
    assert figures is not None
    dice = (2 * 3 / (4 + 3), 2 * 2 / (3 + 3), 2 * 1 / (1 + 2))
    assert figures.overall_accuracy == pytest.approx(6 / 8)
    assert figures.mean_accuracy == pytest.approx((3 / 4 + 2 / 3 + 1) / 3)
    assert figures.frequency_weighted_accuracy == pytest.approx((4 * dice[0] + 3 * dice[1] + dice[2]) / 8)
    assert figures.mean_class_dice == pytest.approx(sum(dice) / 3)


def test_the_larger_logit_wins_and_none_is_background() -> None:
    logits = np.array([[[[1.0, 5.0, -1.0]]], [[[2.0, 4.0, -2.0]]]], np.float32)
    confusion = Confusion(2)
    confusion.add(logits, np.array([[[2, 1, 0]]], np.uint8), (True, True))
    assert confusion.matrix.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_rois_that_are_unknown_in_a_patient_are_neither_true_nor_predicted() -> None:
    confusion = counted([0, 1, 1, 0], [2, 1, 2, 0], contoured=(True, False))
    assert confusion.matrix.tolist() == [[2, 0, 0], [1, 1, 0], [0, 0, 0]]
    figures = confusion.accuracies()
    assert figures is not None and figures.mean_accuracy == pytest.approx((1 + 1 / 2) / 2)
    assert counted([1], [1], contoured=(False, False)).accuracies() is None


def test_patients_add_up_whatever_the_order() -> None:
    a, b = counted([0, 1], [0, 1]), counted([2, 2], [2, 0])
    whole = counted([0, 1, 2, 2], [0, 1, 2, 0])
    a.merge(b)
    assert (a.matrix == whole.matrix).all() and a.accuracies() == whole.accuracies()


def test_rois_that_overlap_have_no_such_figures() -> None:
    bits = np.zeros((1, 1, 300), np.uint8)
    bits[..., :200] = 1
    bits[..., 100] = 3
    logits = np.where(bits & 1, 2.0, -2.0).astype(np.float32)[None].repeat(2, axis=0)
    touching = Confusion(2)
    touching.add(logits, bits, (True, True))
    assert touching.in_several == 1 and touching.exclusive and touching.matrix.sum() == 299
    bits[..., 50:150] = 3
    overlapping = Confusion(2)
    overlapping.add(logits, bits, (True, True))
    assert not overlapping.exclusive and overlapping.accuracies() is None
