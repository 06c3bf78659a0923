"""Counts of logits, temperatures and calibration errors, on drawn probabilities whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from contour_ai.evaluation.reliability import LIMIT, LogitCounts, left_out_errors


def drawn(seed: int, temperature: float, number: int = 60_000) -> LogitCounts:
    """Voxels whose truth was drawn with their probability; the network says logits `temperature` times too large."""
    dice = np.random.default_rng(seed)
    logit = dice.normal(-1, 1.5, number)
    truth = dice.random(number) < 1 / (1 + np.exp(-logit))
    return LogitCounts.of((logit * temperature).astype(np.float32), truth)


@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.5])
def test_the_temperature_is_found_and_mends_the_error(temperature: float) -> None:
    counts = drawn(1, temperature)
    assert counts.temperature() == pytest.approx(temperature, rel=0.05)
    assert counts.error(temperature) < 0.01
    if temperature != 1:
        assert counts.error() > 0.03


def test_reliability_by_hand() -> None:
    logits = np.array([0.025, 0.025, 0.025, 0.025, -8.0, 8.0], np.float32)
    truth = np.array([True, True, True, False, False, True])
    rows = LogitCounts.of(logits, truth).reliability()
    assert len(rows) == 1  # the sure ones are left out
    assert rows[0] == (pytest.approx(0.506, abs=0.01), 0.75, 4)
    assert LogitCounts.of(logits, truth).error() == pytest.approx(0.75 - rows[0][0])


def test_counts_add_up_and_hold_extreme_logits() -> None:
    logits = np.array([-1e9, 1e9, np.float32(LIMIT), -np.inf], np.float32)
    counts = LogitCounts.of(logits, np.array([False, True, True, False]))
    assert (counts + counts).counts.sum() == 8
    assert counts.counts[0, 0] == 2 and counts.counts[1, -1] == 2
    assert np.isfinite(counts.cost(1.0))
    assert counts.error() == 0 and counts.reliability() == []


def test_a_patient_is_scored_with_the_temperature_of_the_others() -> None:
    before, after = left_out_errors([drawn(n, 2.0) for n in range(4)])
    assert after < 0.02 < before
    # One patient of another kind is not mended by its own temperature.
    _, odd = left_out_errors([drawn(1, 1.0), drawn(2, 8.0, 600_000)])
    assert odd > 0.05
    alone, same = left_out_errors([drawn(3, 2.0)])
    assert alone == pytest.approx(same)
