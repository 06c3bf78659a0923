"""Parts that stay, and contours where the expected Dice is highest."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from contour_ai.bundle import RoiPostprocess
from contour_ai.evaluation.reliability import expected_dice_logit, histogram
from contour_ai.postprocess import LOWEST_LOGIT, apply_rule, keep_components


def test_components() -> None:
    logit = np.full((6, 12, 12), -4.0, np.float32)
    logit[1:5, 1:5, 1:5] = 3.0  # 64 voxels
    logit[1:3, 8:10, 8:10] = 2.0  # 8
    logit[5, 11, 11] = 1.0  # 1
    assert keep_components(logit, RoiPostprocess(), 0.01) is logit
    largest = keep_components(logit, RoiPostprocess(largest_component=True), 0.01)
    assert (largest > 0).sum() == 64 and largest[1, 8, 8] == -2.0 and largest[5, 11, 11] == -1.0
    volume = keep_components(logit, RoiPostprocess(min_volume_cm3=0.05), 0.01)
    assert (volume > 0).sum() == 72
    everything = keep_components(logit, RoiPostprocess(largest_component=True, min_volume_cm3=1.0), 0.01)
    assert not (everything > 0).any()
    shifted = keep_components(logit, RoiPostprocess(threshold=0.8, largest_component=True), 0.01)
    limit = RoiPostprocess(threshold=0.8).threshold_logit
    assert (shifted > limit).sum() == 64 and shifted[5, 11, 11] == 1.0 and shifted[1, 8, 8] < limit


def test_of_parts_alike_in_size_the_one_at_the_organs_place_stays() -> None:
    logit = np.full((30, 12, 12), -4.0, np.float32)
    logit[1:5, 1:5, 1:5] = 3.0  # 64 voxels, 20 slices below the organ's place
    logit[22:26, 1:5, 1:4] = 2.0  # 48
    logit[28, 8, 8] = 2.0  # nearest, and no rival
    rule = RoiPostprocess(largest_component=True)

    def from_place(centre: tuple[float, float, float]) -> float:
        return abs(centre[0] - 28)

    kept, _ = apply_rule(logit, rule, 0.01, None, from_place)
    assert (kept[20:] > 0).sum() == 48 and not (kept[:20] > 0).any()
    small = logit.copy()
    small[24:26, 1:5, 1:4] = -4.0  # 24 voxels are no rival
    kept, _ = apply_rule(small, rule, 0.01, None, from_place)
    assert (kept[:20] > 0).sum() == 64 and not (kept[20:] > 0).any()
    assert (apply_rule(logit, rule, 0.01)[0][:20] > 0).sum() == 64, "without a place the largest stays"


def test_parts_below_the_threshold_stay_where_they_touch_a_sure_one() -> None:
    logit = np.full((4, 8, 20), -6.0, np.float32)
    logit[1:3, 2:6, 2:8] = 2.0
    logit[1:3, 2:6, 8:11] = -0.5  # at its side
    logit[1:3, 2:6, 14:18] = -0.5  # apart
    kept = keep_components(logit, RoiPostprocess(), 0.01, -1.0)
    assert (kept > -1).sum() == 2 * 4 * 9 and (kept[1:3, 2:6, 14:18] == -1.5).all()
    nothing = keep_components(np.minimum(logit, -0.5), RoiPostprocess(), 0.01, -1.0)
    assert not (nothing > -1).any()


def blurred(height: float, width: float = 6.0) -> NDArray[np.float32]:
    """A ball whose logit falls from its middle outwards."""
    k, i, j = np.indices((24, 40, 40)) - np.array([12, 20, 20])[:, None, None, None]
    return np.asarray(height - np.sqrt(k**2 + i**2 + j**2) / width * 3, np.float32)


def expected(logit: NDArray[np.float32], level: float) -> float:
    probability = 1 / (1 + np.exp(-logit.astype(np.float64)))
    inside = logit > level
    return float(2 * probability[inside].sum() / (inside.sum() + probability.sum()))


@pytest.mark.parametrize("temperature", [1.0, 1.8])
def test_the_contour_runs_where_the_expected_dice_is_highest(temperature: float) -> None:
    logit = blurred(2.0)
    found = expected_dice_logit(histogram(logit * temperature), -8, 8, temperature) / temperature
    best = max(expected(logit, level) for level in np.arange(-4, 2, 0.01))
    assert expected(logit, found) == pytest.approx(best, abs=2e-4)
    # Known: half of the best value is the best threshold.
    assert 1 / (1 + np.exp(-found)) == pytest.approx(best / 2, abs=0.02)


def test_bounds_of_the_contour() -> None:
    rule = RoiPostprocess(expected_dice=True)
    assert expected_dice_logit(histogram(blurred(-0.5, 30))) < LOWEST_LOGIT
    assert apply_rule(blurred(-0.5, 30), rule, 0.01)[1] == pytest.approx(LOWEST_LOGIT, abs=0.05)
    sharp = np.where(blurred(3.0) > 0, 12, -12).astype(np.float32)
    assert apply_rule(sharp, rule, 0.01) == (sharp, 0.0)
    assert expected_dice_logit(histogram(sharp), 0.11, 0.12) == 0.12  # no bin between them
    assert expected_dice_logit(histogram(sharp[:0]), -1, 0) == 0  # no voxel


def test_the_body_bounds_what_is_expected() -> None:
    logit = blurred(1.0)
    body = np.ones(logit.shape, bool)
    logit[:, :6], body[:, :6] = -0.5, False  # the table
    rule = RoiPostprocess(expected_dice=True)
    assert apply_rule(logit, rule, 0.01, body)[1] == apply_rule(blurred(1.0)[:, 6:], rule, 0.01)[1]
    assert apply_rule(logit, rule, 0.01)[1] != apply_rule(logit, rule, 0.01, body)[1]


def test_a_fixed_threshold_is_the_contour() -> None:
    logit = blurred(2.0)
    rule = RoiPostprocess(threshold=0.3)
    assert apply_rule(logit, rule, 0.01) == (logit, rule.threshold_logit)
