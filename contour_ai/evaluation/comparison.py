"""Two models, or two observers, against the same reference of the same patients: paired differences and their test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from contour_ai.evaluation.metrics import BOTH, PREDICTION_MISSING, RoiMetrics, Row

HIGHER_IS_BETTER = {
    "dsc": True,
    "surface_dsc": True,
    "hd95_mm": False,
    "masd_mm": False,
    "added_path_mm": False,
}
"""The figures that are compared, in this order."""

COMPARISON = (
    "differences PREDICTED minus VERSUS in patients with a reference, also where a prediction is missing (DSC 0, "
    "distances infinite; both missing is no difference). p: Wilcoxon signed-rank test, two-sided, zero differences "
    "left out; p_holm: the same, corrected after Holm for the number of ROIs. With 5 or fewer patients no difference "
    "reaches p < 0.05."
)


@dataclass(frozen=True, kw_only=True)
class FigureComparison:
    """One figure of one ROI over the patients that both sides were scored in.

    Args:
        first_better, second_better, equal: in how many patients.
        median_difference: first minus second; NaN of no patient.
        p: of the Wilcoxon signed-rank test; 1 where no patient differs, NaN of no patient.
        p_holm: `p` corrected for as many tests of this figure as there are ROIs.
    """

    roi: str
    figure: str
    n: int
    first_median: float
    second_median: float
    median_difference: float
    first_better: int
    second_better: int
    equal: int
    p: float
    p_holm: float


def compare(first: Sequence[Row], second: Sequence[Row]) -> tuple[FigureComparison, ...]:
    """Every figure of every ROI that both sides have scored patients of, ROI by ROI in the order of `first`."""
    others = {row.pairing: row.metrics for row in second if _scored(row)}
    pairs: dict[str, list[tuple[RoiMetrics, RoiMetrics]]] = {}
    for row in first:
        other = others.get(row.pairing)
        if _scored(row) and other is not None:
            pairs.setdefault(row.roi, []).append((row.metrics, other))
    found = [_compared(roi, figure, both) for roi, both in pairs.items() for figure in HIGHER_IS_BETTER]
    corrected: dict[tuple[str, str], float] = {}
    for figure in HIGHER_IS_BETTER:
        of_figure = [c for c in found if c.figure == figure]
        for c, p in zip(of_figure, holm([c.p for c in of_figure]), strict=True):
            corrected[c.roi, figure] = p
    return tuple(replace(c, p_holm=corrected[c.roi, c.figure]) for c in found)


def holm(ps: Sequence[float]) -> list[float]:
    """p values corrected for their number (Holm 1979), in the order they came in."""
    order = np.argsort(ps, kind="stable")
    corrected = [math.nan] * len(ps)
    largest = 0.0
    for rank, at in enumerate(order):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[at]))
        corrected[at] = largest
    return corrected


def signed_rank_p(differences: Sequence[float]) -> float:
    """Two-sided p of the Wilcoxon signed-rank test, differences of zero left out; 1 where nothing differs.

    Infinite differences rank above all others.
    """
    values = np.array([d for d in differences if d != 0], np.float64)
    if not values.size:
        return 1.0 if len(differences) else math.nan
    from scipy.stats import wilcoxon

    finite = np.abs(values[np.isfinite(values)])
    beyond = 2 * float(finite.max(initial=1.0))
    return float(wilcoxon(np.clip(values, -beyond, beyond)).pvalue)


def _compared(roi: str, figure: str, both: Sequence[tuple[RoiMetrics, RoiMetrics]]) -> FigureComparison:
    a, b = (np.array([float(getattr(pair[side], figure)) for pair in both], np.float64) for side in (0, 1))
    differences = _differences(a, b)
    better = differences > 0 if HIGHER_IS_BETTER[figure] else differences < 0
    equal = differences == 0
    return FigureComparison(
        roi=roi,
        figure=figure,
        n=len(both),
        first_median=float(np.median(a)),
        second_median=float(np.median(b)),
        median_difference=float(np.median(differences)),
        first_better=int(better.sum()),
        second_better=int((~better & ~equal).sum()),
        equal=int(equal.sum()),
        p=signed_rank_p(differences.tolist()),
        p_holm=math.nan,
    )


def _differences(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """a - b, and 0 where both are infinite."""
    with np.errstate(invalid="ignore"):
        return np.where(np.isinf(a) & np.isinf(b), 0.0, a - b)


def _scored(row: Row) -> bool:
    return row.status in (BOTH, PREDICTION_MISSING)
