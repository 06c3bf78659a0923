"""Control charts keep what they promise: false alarms are rare, and drifts are found in time."""

from __future__ import annotations

import numpy as np
import pytest

from contour_ai.monitoring.charts import (
    FALSE_ALARM_EVERY,
    FEWEST_FOR_LIMITS,
    ControlLimits,
    SimulatedRuns,
    control_chart,
    limits_for,
    normalised,
    promise_for,
    restored,
)


@pytest.mark.parametrize("figure", ["dsc", "surface_dsc", "volume_ratio", "added_path_mm"])
def test_scales_have_an_inverse(figure: str) -> None:
    for value in (0.1, 0.7, 0.95):
        assert restored(float(normalised([value], figure)[0]), figure) == pytest.approx(value)


def test_textbook_run_lengths_with_known_limits() -> None:
    """Shewhart's 3 sigma: 370 patients to a false alarm (Montgomery, ch. 6)."""
    rng = np.random.default_rng(1)
    alone = ControlLimits(3.0, 1e9)
    z = rng.standard_normal((800, 2500))
    z[:, 8::9] = 0  # no nine in a row on one side: that rule is looked at elsewhere
    assert SimulatedRuns(z).mean_length(alone) == pytest.approx(370 * 9 / 8, rel=0.1)


@pytest.mark.parametrize("baseline", [20, 100])
def test_false_alarms_come_as_rarely_as_promised_estimation_included(baseline: int) -> None:
    promise = promise_for(baseline)
    assert promise.false_alarm >= FALSE_ALARM_EVERY
    assert promise.shift < promise.false_alarm / 4


def test_limits_from_few_patients_are_wider() -> None:
    assert limits_for(15).individual > limits_for(100).individual > limits_for(150).individual * 0.95


def test_too_few_patients_have_no_chart() -> None:
    assert control_chart([0.8] * (FEWEST_FOR_LIMITS - 1), "dsc") is None
    assert control_chart([], "dsc", [0.8] * 30) is None


def series(n: int, shift: float = 0.0, start: int = 40, seed: int = 0) -> list[float]:
    """Volume ratios around 1 that grow by `shift` a patient from `start` on."""
    rng = np.random.default_rng(seed)
    growth = np.clip(np.arange(n) - start, 0, None) * shift
    return list(np.exp(rng.normal(0, 0.05, n) + growth))


def test_a_slow_growth_is_found_and_names_its_patients() -> None:
    chart = control_chart(series(120, shift=0.004), "volume_ratio")
    assert chart is not None and chart.alarms
    first = chart.alarms[0]
    assert 40 <= first.index < 80 and first.since <= first.index


def test_a_sudden_shift_is_found_within_the_promise_most_of_the_time() -> None:
    delays = []
    for seed in range(40):
        values = series(40, seed=seed) + [v * np.exp(0.05) for v in series(120, seed=1000 + seed)]
        chart = control_chart(values, "volume_ratio", 40)
        assert chart is not None
        after = [a.index - 39 for a in chart.alarms if a.index >= 40]
        delays.append(after[0] if after else 120)
    assert np.mean(delays) < 2 * promise_for(40).shift


def test_limits_can_come_from_a_commissioning_run() -> None:
    chart = control_chart([0.6] * 5, "dsc", list(np.random.default_rng(2).normal(0.85, 0.02, 40)))
    assert chart is not None and chart.low < 0.85 < chart.high
    assert chart.alarms[0].index == 0


def test_figures_that_never_change_raise_no_alarm() -> None:
    chart = control_chart([0.9] * 60, "dsc")
    assert chart is not None and chart.alarms == ()
