"""Control charts for individual patients: limits from the first ones, run rules, EWMA, and what they promise.

Individuals and moving range, and EWMA, after Montgomery, Introduction to Statistical Quality Control, ch. 6 and 9. A
figure is first made roughly normal (`normalised`). Limits from few patients are uncertain: the average run length, to
a false alarm and to a shift of one standard deviation, is found by simulating the whole procedure for the number of
patients that the limits came from, estimation included.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

FEWEST_FOR_LIMITS = 10
"""Patients for limits; with fewer there is no chart."""
USUAL_BASELINE = 20
LAMBDA = 0.2
"""Weight of the newest patient in the EWMA: shifts of one standard deviation are its strength."""
FALSE_ALARM_EVERY = 200
"""Patients between false alarms, on average, for which the limits are chosen."""
SIGMA_OF_MOVING_RANGE = 1.128
"""d2 for ranges of two."""
ONE_SIDED_RUN = 9
"""Patients in a row on one side of the centre."""
LONGEST_RUN = 1200
"""Patients that a simulated run has; one without an alarm counts with all of them: promises are low."""
REPLICATES = 1000

Float = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """A point at which a rule was broken.

    Args:
        index: of the patient, from 0.
        rule: in words.
        since: index of the first patient that the rule looks back to.
    """

    index: int
    rule: str
    since: int


@dataclass(frozen=True, kw_only=True)
class Promise:
    """Average run lengths, in patients.

    Args:
        false_alarm: to a false alarm while nothing changes.
        shift: to an alarm after a shift of one standard deviation.
        baseline: number of patients that the limits came from.
    """

    false_alarm: float
    shift: float
    baseline: int


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One figure of one ROI over the patients.

    Args:
        values: as they were measured, one per patient.
        centre, low, high: of the individual values, in their own unit.
        ewma: of the normalised values, in standard deviations.
        ewma_limit: on both sides.
        alarms: in the order of the patients.
        promise: what the chart promises.
    """

    values: tuple[float, ...]
    centre: float
    low: float
    high: float
    ewma: tuple[float, ...]
    ewma_limit: float
    alarms: tuple[Alarm, ...]
    promise: Promise


def normalised(values: Sequence[float], figure: str) -> Float:
    """Values of a figure on a scale on which they are roughly normal.

    DSC and surface DSC, crowded below 1, as the logarithm of their distance from 1; ratios as logarithms.
    """
    x = np.asarray(values, np.float64)
    if figure in ("dsc", "surface_dsc"):
        return -np.log(1.005 - np.clip(x, 0, 1))
    if figure == "volume_ratio":
        return np.log(np.clip(x, 0.05, 20))
    return np.log1p(np.clip(x, 0, None))


def restored(value: float, figure: str) -> float:
    """The inverse of `normalised`."""
    if figure in ("dsc", "surface_dsc"):
        return float(min(1.0, 1.005 - math.exp(-value)))
    if figure == "volume_ratio":
        return math.exp(value)
    return math.expm1(value)


def control_chart(
    values: Sequence[float], figure: str, baseline: Sequence[float] | int = USUAL_BASELINE
) -> Chart | None:
    """The chart of a figure; None where there are too few patients for limits.

    Args:
        values: one per patient, in order.
        figure: which, for its scale.
        baseline: values of other patients (of a commissioning run), or how many of the first are it.
    """
    x = normalised(values, figure)
    base = x[:baseline] if isinstance(baseline, int) else normalised(baseline, figure)
    if len(base) < FEWEST_FOR_LIMITS or not len(x):
        return None
    centre, sigma = centre_and_sigma(base)
    limit = limits_for(len(base))
    # Rounded: of equal values, as of ROIs that are never edited, all would lie on one side by an error of rounding.
    z = np.round((x - centre) / sigma, 6)
    ewma = _ewma(z[None])[0]
    first = baseline if isinstance(baseline, int) else 0
    low, high = (restored(centre + s * limit.individual * sigma, figure) for s in (-1, 1))
    return Chart(
        values=tuple(map(float, values)),
        centre=restored(centre, figure),
        low=low,
        high=high,
        ewma=tuple(map(float, ewma)),
        ewma_limit=limit.ewma,
        alarms=tuple(_alarms(z, ewma, limit, first)),
        promise=promise_for(len(base)),
    )


def centre_and_sigma(base: Float) -> tuple[float, float]:
    """Mean, and standard deviation by the mean moving range, which a slow drift within the baseline does not widen."""
    sigma = float(np.abs(np.diff(base)).mean()) / SIGMA_OF_MOVING_RANGE
    return float(base.mean()), max(sigma, 1e-6)


@dataclass(frozen=True)
class ControlLimits:
    """In standard deviations: of a single patient, and of the EWMA."""

    individual: float
    ewma: float


@lru_cache(maxsize=64)
def limits_for(baseline: int) -> ControlLimits:
    """Limits with which a false alarm comes every `FALSE_ALARM_EVERY` patients, for limits from so many patients.

    Both limits are widened together from their textbook values until the simulated procedure keeps the promise.
    """
    runs = _simulated(baseline, shift=0.0)
    low, high = 0.8, 2.5
    for _ in range(12):
        factor = (low + high) / 2
        if runs.mean_length(_scaled(factor)) < FALSE_ALARM_EVERY:
            low = factor
        else:
            high = factor
    return _scaled(high)


@lru_cache(maxsize=64)
def promise_for(baseline: int) -> Promise:
    """What the chart promises with limits from so many patients."""
    limits = limits_for(baseline)
    return Promise(
        false_alarm=round(_simulated(baseline, shift=0.0).mean_length(limits), 0),
        shift=round(_simulated(baseline, shift=1.0).mean_length(limits), 1),
        baseline=baseline,
    )


def _scaled(factor: float) -> ControlLimits:
    return ControlLimits(3.0 * factor, 2.7 * math.sqrt(LAMBDA / (2 - LAMBDA)) * factor)


class SimulatedRuns:
    """Simulated runs of patients, (replicates, patients), in standard deviations of the limits."""

    def __init__(self, z: Float) -> None:
        self._single = np.abs(z)
        self._average = np.abs(_ewma(z))
        self._sided = _one_sided(z)

    def mean_length(self, limits: ControlLimits) -> float:
        """Mean number of patients until an alarm; runs without one count with their whole length."""
        broken = (self._single > limits.individual) | (self._average > limits.ewma) | self._sided
        first = np.where(broken.any(axis=1), broken.argmax(axis=1) + 1, broken.shape[1])
        return float(first.mean())


@lru_cache(maxsize=4)
def _simulated(baseline: int, *, shift: float) -> SimulatedRuns:
    """Runs standardised by limits that were estimated from `baseline` patients of the same source."""
    rng = np.random.default_rng(20260127 + baseline)
    base = rng.standard_normal((REPLICATES, baseline))
    centre = base.mean(axis=1, keepdims=True)
    sigma = np.abs(np.diff(base, axis=1)).mean(axis=1, keepdims=True) / SIGMA_OF_MOVING_RANGE
    length = LONGEST_RUN if not shift else LONGEST_RUN // 3
    return SimulatedRuns((rng.standard_normal((REPLICATES, length)) + shift - centre) / sigma)


def _ewma(z: Float) -> Float:
    """(replicates, patients) exponentially weighted moving average, from 0."""
    from scipy.signal import lfilter

    return np.asarray(lfilter([LAMBDA], [1.0, LAMBDA - 1.0], z, axis=1))


def _one_sided(z: Float) -> NDArray[np.bool_]:
    """Where the last `ONE_SIDED_RUN` patients all lie on one side of the centre."""
    found = np.zeros(z.shape, bool)
    for side in (z > 0, z < 0):
        count: NDArray[np.int64] = np.cumsum(side, axis=1, dtype=np.int64)
        run = count.copy()
        run[:, ONE_SIDED_RUN:] -= count[:, :-ONE_SIDED_RUN]
        run[:, : ONE_SIDED_RUN - 1] = 0
        found |= run >= ONE_SIDED_RUN
    return found


def _alarms(z: Float, ewma: Float, limits: ControlLimits, first: int) -> list[Alarm]:
    """Broken rules from `first` on; of a run of broken points the first is given."""
    rules = (
        (f"beyond {limits.individual:.1f} standard deviations", np.abs(z) > limits.individual, 0),
        ("the weighted average has drifted", np.abs(ewma) > limits.ewma, round(1 / LAMBDA)),
        (f"{ONE_SIDED_RUN} patients in a row on one side", _one_sided(z[None])[0], ONE_SIDED_RUN - 1),
    )
    alarms = []
    for text, broken, back in rules:
        for n in np.flatnonzero(broken):
            if n >= first and (n == first or not broken[n - 1]):
                alarms.append(Alarm(index=int(n), rule=text, since=max(0, int(n) - back)))
    return sorted(alarms, key=lambda alarm: (alarm.index, alarm.rule))
