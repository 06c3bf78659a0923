"""Fits `ContourModel`: from the figures of good contours and of contours with known faults."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contour_ai.quality.agreement import FIGURE_NAMES, ContourFigures
from contour_ai.quality.contour_verdict import POOLED, ContourModel, Figures, excess
from contour_ai.quality.own_contours import OWN_FIGURE_NAMES

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

GOOD = ""
"""The kind of a contour without a fault."""
FALSE_ALARM = 0.05
POOR = "poor"
"""The kind of a contour of the model's own that needs correction."""
OWN_FALSE_ALARM = 0.08
"""Of the model's own contours: there are fewer of them to find limits by."""
USUAL_DICE = 0.75
"""A clinical contour counts as good from this Dice with the network on, or from the median of its ROI where that is
lower: what the network finds worse than that tells nothing about either of them."""
FEWEST_TO_FIT = 8
"""Fewer say nothing."""
FEWEST_POOR = 8
"""Poor contours of the model's own: fewer teach nothing."""
FEWEST_OF_A_ROI = 20
"""Good contours that a ROI needs for numbers of its own: fewer share those of all."""
MOST_FALSE_ALARM = 0.08
LIMIT_AT_MOST = 0.75
"""No limit of a ROI lies above this probability, lest a few odd clinical contours hide every fault,
unless more than `MOST_FALSE_ALARM` of them were flagged."""
FOLDS = 5
RIDGE = 5e-4
SMALLEST_FIGURE_WEIGHT = 0.05
SMALL_FAULTS = {
    "shifted 5 mm": 0.3,
    "a slice missing": 0.3,
    "grown by 2 mm": 0.1,
    "shrunk by 2 mm": 0.1,
    "grown by 4 mm": 0.5,
    "shrunk by 4 mm": 0.5,
}
"""Faults that count less in the fit: observers differ by as much."""
LEAST_FIGURE_SPREAD = {
    "shift_mm": 1.0,
    "shift_along_mm": 2.0,
    "surface95_mm": 2.0,
    "volume_ratio": 0.1,
    "density_hu": 10.0,
    "density_spread": 0.2,
    "other_organ": 0.05,
    "loose_share": 0.01,
    "holes_share": 0.01,
    "roughness": 0.1,
    "jump": 0.1,
    "outside_share": 0.01,
    "second_volume_ratio": 0.1,
    "second_shift_mm": 2.0,
    "second_ends_mm": 3.0,
    "goes_on_above_mm": 2.0,
    "goes_on_below_mm": 2.0,
    "broad_above": 0.1,
    "broad_below": 0.1,
    "flat_share": 0.05,
    "odd_size": 0.2,
    "odd_density": 0.2,
    "odd_place": 0.2,
    "odd_relation": 0.2,
}
OTHER_SPREAD = 0.03
"""No figure is compared more finely than this, or than `LEAST_FIGURE_SPREAD`."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One contour: of whom, of what, with which fault (`GOOD` for none), and its figures."""

    patient: str
    roi: str
    kind: str
    detail: str
    figures: Figures


@dataclass(frozen=True, eq=False, kw_only=True)
class _Table:
    """Samples as columns."""

    names: tuple[str, ...]
    """Of the figures."""

    patient: NDArray[np.str_]
    roi: NDArray[np.str_]
    kind: NDArray[np.str_]
    values: Float

    @property
    def clinical(self) -> Bool:
        found: Bool = self.kind == GOOD
        return found

    def good(self) -> Bool:
        if "disagreement" not in self.names:  # of the model's own contours: those that are poor are a kind
            return self.clinical
        dice = 1 - self.values[:, self.names.index("disagreement")]
        good = np.zeros(len(dice), bool)
        for roi in np.unique(self.roi):
            mine = self.clinical & (self.roi == roi)
            good |= mine & (
                dice >= min(USUAL_DICE, float(np.median(dice[mine])) if mine.any() else USUAL_DICE)
            )
        return good


def fit_contour_model(samples: Sequence[Sample], false_alarm: float = FALSE_ALARM) -> ContourModel | None:
    """The model of all samples, its limits from folds that were not fitted on; None where patients are too few.

    The limits are conformal: of n good contours in ascending order, the one of rank ceil((n + 1)(1 - `false_alarm`)),
    at most n, so that of new ones from the same clinic no more than this share is expected above.
    """
    table = _table(samples)
    if len(np.unique(table.patient[table.good()])) < FEWEST_TO_FIT:
        return None
    logits = cross_fitted_logits(table)
    fitted = _fit(table, np.ones(len(samples), bool))
    limits = _limits(table, logits, table.good(), false_alarm)
    names = table.names
    kept = [n for n, weight in enumerate(fitted.weights) if weight >= SMALLEST_FIGURE_WEIGHT]
    return ContourModel(
        patients=len(np.unique(table.patient)),
        false_alarm=false_alarm,
        intercept=round(fitted.intercept, 3),
        weights={names[n]: round(float(fitted.weights[n]), 3) for n in kept},
        usual={
            roi: {names[n]: (float(f"{u.median[n]:.3g}"), float(f"{u.spread[n]:.3g}")) for n in kept}
            for roi, u in fitted.usual.items()
        },
        limits={roi: round(1 / (1 + math.exp(-limit)), 4) for roi, limit in limits.items()},
    )


class _Usual(NamedTuple):
    """Figures of good contours, in the order of the table's names."""

    median: Float
    spread: Float


class _Fitted(NamedTuple):
    """A logistic model of excesses over what is usual."""

    intercept: float
    weights: Float
    """By figure."""
    usual: dict[str, _Usual]
    """By ROI."""


def fit_own_model(samples: Sequence[Sample]) -> ContourModel | None:
    """As `fit_contour_model`, of the model's own contours (`GOOD` and `POOR`); None also where few are poor."""
    if sum(sample.kind == POOR for sample in samples) < FEWEST_POOR:
        return None
    return fit_contour_model(samples, OWN_FALSE_ALARM)


def cross_fitted_alarms(samples: Sequence[Sample], false_alarm: float = FALSE_ALARM) -> Bool:
    """Whether each sample would be `look`, by models and limits of the other patients."""
    table = _table(samples)
    logits, folds, good = cross_fitted_logits(table), _folds(table.patient), table.good()
    alarms = np.zeros(len(samples), bool)
    for fold in range(FOLDS):
        limits = _limits(table, logits, good & (folds != fold), false_alarm)
        for roi in np.unique(table.roi):
            mine = (folds == fold) & (table.roi == roi)
            alarms[mine] = logits[mine] > limits.get(str(roi), limits[POOLED])
    return alarms


def cross_fitted_logits(table: _Table) -> Float:
    """(samples,) the logit of the probability, each by a model of other patients."""
    folds = _folds(table.patient)
    logits = np.zeros(len(folds))
    for fold in range(FOLDS):
        rest = folds != fold
        fitted = _fit(table, rest)
        logits[~rest] = fitted.intercept + (_excesses(table, fitted.usual) @ fitted.weights)[~rest]
    return logits


def _table(samples: Sequence[Sample]) -> _Table:
    of_anybody = isinstance(samples[0].figures, ContourFigures) if samples else True
    return _Table(
        names=FIGURE_NAMES if of_anybody else OWN_FIGURE_NAMES,
        patient=np.array([s.patient for s in samples]),
        roi=np.array([s.roi for s in samples]),
        kind=np.array([s.kind for s in samples]),
        values=np.array([s.figures.vector() for s in samples]),
    )


def _folds(patients: NDArray[np.str_]) -> NDArray[np.intp]:
    names = np.unique(patients)
    order = np.random.default_rng(0).permutation(len(names))
    return np.asarray(order[np.searchsorted(names, patients)] % FOLDS, np.intp)


def _usual(table: _Table, which: Bool) -> dict[str, _Usual]:
    """{ROI: the figures of good contours}."""
    good = table.good() & which
    least = np.array([LEAST_FIGURE_SPREAD.get(name, OTHER_SPREAD) for name in table.names])

    def of(rows: Bool) -> _Usual:
        middle = np.median(table.values[rows], axis=0)
        spread = np.percentile(table.values[rows], 95, axis=0) - middle
        return _Usual(middle, np.maximum(spread, least))

    found = {POOLED: of(good)}
    for roi in np.unique(table.roi):
        mine = good & (table.roi == roi)
        if mine.sum() >= FEWEST_OF_A_ROI:
            found[str(roi)] = of(mine)
    return found


def _excesses(table: _Table, usual: dict[str, _Usual]) -> Float:
    found = np.empty_like(table.values)
    for roi in np.unique(table.roi):
        mine = table.roi == roi
        middle, spread = usual.get(str(roi), usual[POOLED])
        for n in range(len(table.names)):
            found[mine, n] = excess(table.values[mine, n], float(middle[n]), float(spread[n]))
    return found


def _fit(table: _Table, which: Bool) -> _Fitted:
    """A model of the samples `which`; good and spoiled ones weigh the same."""
    from scipy.optimize import minimize

    usual = _usual(table, which)
    used = which & (table.good() | ~table.clinical)
    inputs, spoiled = _excesses(table, usual)[used], ~table.clinical[used]
    share = np.where(spoiled, [SMALL_FAULTS.get(str(kind), 1.0) for kind in table.kind[used]], 1.0)
    for side in (spoiled, ~spoiled):
        share[side] /= max(float(share[side].sum()), 1e-9)

    def loss(parameters: Float) -> tuple[float, Float]:
        logits = parameters[0] + inputs @ parameters[1:]
        errors = share * np.logaddexp(0.0, np.where(spoiled, -logits, logits))
        slope = share * (1 / (1 + np.exp(-logits)) - spoiled)
        gradient = np.concatenate([[slope.sum()], inputs.T @ slope + 2 * RIDGE * parameters[1:]])
        return float(errors.sum() + RIDGE * (parameters[1:] ** 2).sum()), gradient

    begin = np.concatenate([[-2.0], np.full(inputs.shape[1], 0.3)])
    bounds = [(None, None)] + [(0.0, None)] * inputs.shape[1]
    fitted = minimize(loss, begin, jac=True, method="L-BFGS-B", bounds=bounds).x
    return _Fitted(float(fitted[0]), np.asarray(fitted[1:], np.float64), usual)


def _limits(table: _Table, logits: Float, good: Bool, false_alarm: float) -> dict[str, float]:
    found = {POOLED: _conformal(logits[good], false_alarm)}
    for roi in np.unique(table.roi):
        mine = logits[good & (table.roi == roi)]
        if len(mine) >= max(FEWEST_OF_A_ROI, math.ceil(1.5 / false_alarm)):
            own = min(_conformal(mine, false_alarm), math.log(LIMIT_AT_MOST / (1 - LIMIT_AT_MOST)))
            found[str(roi)] = max(own, _conformal(mine, MOST_FALSE_ALARM))
    return found


def _conformal(values: Float, false_alarm: float) -> float:
    rank = min(len(values), math.ceil((len(values) + 1) * (1 - false_alarm)))
    return float(np.sort(values)[rank - 1])
