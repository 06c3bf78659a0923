"""Tables of metrics: one row a patient and ROI, a summary a ROI, and the same as CSV and JSON with stable columns."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contour_ai.csv_files import write_csv
from contour_ai.evaluation.comparison import FigureComparison
from contour_ai.evaluation.metrics import (
    BOTH,
    DEFINITIONS,
    PREDICTION_MISSING,
    REFERENCE_MISSING,
    RoiMetrics,
    Row,
)
from contour_ai.files import atomic_file, write_text

SUMMARISED = (
    "dsc",
    "surface_dsc",
    "hd95_mm",
    "hd100_mm",
    "masd_mm",
    "assd_mm",
    "added_path_mm",
    "volume_ratio",
)
"""Figures that the summary averages, in this order."""

WORST = 3
"""How many patients with the lowest DSC a summary names."""

RESAMPLES = 2000
CONFIDENCE = 0.95
SEED = 20210712
"""Of the bootstrap: the same rows give the same intervals."""

SPREAD = (
    "mean, median and quartiles over all patients with a reference; *_low and *_high are the 95 % bootstrap interval "
    f"(percentiles of {RESAMPLES} resamples of patients), empty for fewer than two patients."
)

WRITTEN_DECIMALS = 6
"""Of figures in files: finer than any contour, and the same text on every machine."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How a figure is spread over patients; infinite where too many patients have no prediction for it to be finite."""

    mean: float
    median: float
    q1: float
    q3: float
    mean_low: float = math.nan
    mean_high: float = math.nan
    median_low: float = math.nan
    median_high: float = math.nan


@dataclass(frozen=True, kw_only=True)
class RoiSummary:
    """One ROI over all patients.

    Args:
        n: patients with a reference, with or without a prediction; all figures are over these.
        prediction_missing: those of them without a prediction (DSC 0, distances infinite).
        reference_missing: patients that were predicted but have no reference; in no figure.
        worst: patients with the lowest DSC, worst first.
    """

    roi: str
    n: int
    prediction_missing: int
    reference_missing: int
    spread: dict[str, Spread]
    worst: tuple[tuple[str, float], ...]


def summarise(rows: Iterable[Row]) -> tuple[RoiSummary, ...]:
    """One summary for each ROI, in the order in which ROIs first appear."""
    of_roi: dict[str, list[Row]] = {}
    for row in rows:
        of_roi.setdefault(row.roi, []).append(row)
    return tuple(_summary(roi, found) for roi, found in of_roi.items())


def quantile(values: Sequence[float], share: float) -> float:
    """The quantile of `values`, linear between neighbours, and right where some are infinite; NaN of none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    below, above = ordered[low], ordered[min(low + 1, len(ordered) - 1)]
    # Written so that infinity times zero does not come up.
    return below if below == above or place == low else below + (place - low) * (above - below)


def spread_of(values: Sequence[float]) -> Spread:
    """How figures are spread; infinite ones count as larger than all others."""
    array = np.array(values, np.float64)
    if not array.size:
        return Spread(mean=math.nan, median=math.nan, q1=math.nan, q3=math.nan)
    low, high = bootstrap(array)
    return Spread(
        mean=float(array.mean()),
        median=quantile(values, 0.5),
        q1=quantile(values, 0.25),
        q3=quantile(values, 0.75),
        mean_low=low[0],
        mean_high=high[0],
        median_low=low[1],
        median_high=high[1],
    )


def bootstrap(values: NDArray[np.float64]) -> tuple[tuple[float, float], tuple[float, float]]:
    """((lowest mean, lowest median), (highest mean, highest median)) of the 95 % interval; NaN of fewer than two."""
    if values.size < 2:
        return (math.nan, math.nan), (math.nan, math.nan)
    drawn = np.random.default_rng(SEED).integers(0, values.size, (RESAMPLES, values.size))
    samples = values[drawn]
    found = []
    for averages in (samples.mean(axis=1), np.median(samples, axis=1)):
        tail = (1 - CONFIDENCE) / 2
        found.append([quantile(averages.tolist(), share) for share in (tail, 1 - tail)])
    (mean_low, mean_high), (median_low, median_high) = found
    return (mean_low, median_low), (mean_high, median_high)


def write_report(
    folder: Path,
    rows: Sequence[Row],
    notes: Sequence[str] = (),
    comparison: Sequence[FigureComparison] = (),
    tolerances: Sequence[str] = (),
) -> None:
    """Writes `metrics.csv`, `summary.csv`, `evaluation.json` and, with a comparison, `comparison.csv` into a folder."""
    write_rows_csv(folder / "metrics.csv", rows)
    write_summary_csv(folder / "summary.csv", rows)
    write_json(folder / "evaluation.json", rows, notes, comparison, tolerances)
    if comparison:
        write_comparison_csv(folder / "comparison.csv", comparison)


def write_comparison_csv(path: Path, comparison: Sequence[FigureComparison]) -> None:
    """One line a ROI and figure."""
    columns = [field.name for field in fields(FigureComparison)]
    write_csv(path, columns, [[_text(value) for value in asdict(c).values()] for c in comparison])


def write_rows_csv(path: Path, rows: Sequence[Row]) -> None:
    """One line a patient and ROI; an undefined figure is an empty field, an infinite one `inf`."""
    columns = [field.name for field in fields(RoiMetrics)]
    table = [[row.patient, *(_text(value) for value in asdict(row.metrics).values())] for row in rows]
    write_csv(path, ["patient", *columns], table)


def write_summary_csv(path: Path, rows: Sequence[Row]) -> None:
    """One line a ROI: counts, then mean, median and quartiles of every figure, then the worst patients."""
    parts = [field.name for field in fields(Spread)]
    header = ["roi", "n", "prediction_missing", "reference_missing"]
    header += [f"{name}_{part}" for name in SUMMARISED for part in parts] + ["worst"]
    table = []
    for s in summarise(rows):
        figures = [_text(value) for name in SUMMARISED for value in asdict(s.spread[name]).values()]
        worst = "; ".join(f"{patient} {dsc:.3f}" for patient, dsc in s.worst)
        table.append([s.roi, str(s.n), str(s.prediction_missing), str(s.reference_missing), *figures, worst])
    write_csv(path, header, table)


def write_json(
    path: Path,
    rows: Sequence[Row],
    notes: Sequence[str] = (),
    comparison: Sequence[FigureComparison] = (),
    tolerances: Sequence[str] = (),
) -> None:
    """Rows, summaries and the definitions of all figures; an undefined figure is null, an infinite one "inf"."""
    content: dict[str, object] = {
        "definitions": {**DEFINITIONS, "summary": SPREAD},
        "tolerances": list(tolerances),
        "notes": list(notes),
        "rows": [{"patient": row.patient, **metrics_json(row.metrics)} for row in rows],
        "summary": [plain(asdict(summary)) for summary in summarise(rows)],
    }
    if comparison:
        content["comparison"] = [plain(asdict(c)) for c in comparison]
    with atomic_file(path, private=True) as temporary:
        write_text(temporary, json.dumps(content, indent=1, allow_nan=False) + "\n")


def metrics_json(metrics: RoiMetrics) -> dict[str, object]:
    """The figures of one ROI as JSON can hold them: null where undefined, "inf" where infinite."""
    return {name: plain(value) for name, value in asdict(metrics).items()}


def _summary(roi: str, rows: Sequence[Row]) -> RoiSummary:
    scored = [row for row in rows if row.status in (BOTH, PREDICTION_MISSING)]
    spread = {name: spread_of([float(getattr(row, name)) for row in scored]) for name in SUMMARISED}
    ordered = sorted(scored, key=lambda row: (row.dsc, row.patient))
    return RoiSummary(
        roi=roi,
        n=len(scored),
        prediction_missing=sum(row.status == PREDICTION_MISSING for row in rows),
        reference_missing=sum(row.status == REFERENCE_MISSING for row in rows),
        spread=spread,
        worst=tuple((row.patient, row.dsc) for row in ordered[:WORST]),
    )


def _text(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return "" if math.isnan(value) else repr(round(value, WRITTEN_DECIMALS))


def plain(value: object) -> object:
    """A value as JSON can hold it: figures rounded, null where undefined, "inf" where infinite."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return None if math.isnan(value) else ("inf" if math.isinf(value) else round(value, WRITTEN_DECIMALS))
    return value
