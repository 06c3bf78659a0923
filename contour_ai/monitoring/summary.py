"""Tables from edits: by ROI, model, scanner and month; who approves unchanged what the verdict asked to look at."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from contour_ai.monitoring.charts import USUAL_BASELINE, Chart, control_chart
from contour_ai.monitoring.records import ADDED, COMPARED, REMOVED, Edit

FIGURES = ("dsc", "surface_dsc", "volume_ratio", "added_path_mm")
"""Those that have a chart."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Edits of one ROI under one heading.

    Args:
        roi: name.
        value: of the heading: a model, a scanner, a month.
        patients: compared.
        removed, added: ROIs that were taken out, or drawn although the AI had none.
        untouched: fraction of the compared that were approved as they were.
        dsc, surface_dsc, volume_ratio, added_path_mm, edited_slices: medians.
    """

    roi: str
    value: str
    patients: int
    removed: int
    added: int
    untouched: float
    dsc: float
    surface_dsc: float
    volume_ratio: float
    added_path_mm: float
    edited_slices: float


@dataclass(frozen=True, kw_only=True)
class Unlooked:
    """ROIs that one reviewer approved unchanged in a month, and how many of them had the verdict `look`."""

    reviewer: str
    month: str
    look: int
    look_untouched: int
    untouched: int
    rois: int


@dataclass(frozen=True, kw_only=True)
class RoiChart:
    """A chart with what it is of, and the patients of its points."""

    roi: str
    figure: str
    chart: Chart
    patients: tuple[str, ...]
    dates: tuple[str, ...]
    models: tuple[str, ...]
    scanners: tuple[str, ...]


def groups(edits: Sequence[Edit], heading: Callable[[Edit], str]) -> list[Group]:
    """One line per ROI and value of the heading, sorted."""
    keys = sorted({(e.roi, heading(e)) for e in edits})
    return [
        _group(roi, value, [e for e in edits if (e.roi, heading(e)) == (roi, value)]) for roi, value in keys
    ]


def _group(roi: str, value: str, edits: Sequence[Edit]) -> Group:
    compared = [e for e in edits if e.status == COMPARED]
    return Group(
        roi=roi,
        value=value,
        patients=len(compared),
        removed=sum(e.status == REMOVED for e in edits),
        added=sum(e.status == ADDED for e in edits),
        untouched=sum(e.untouched for e in compared) / len(compared) if compared else math.nan,
        dsc=_median(e.dsc for e in compared),
        surface_dsc=_median(e.surface_dsc for e in compared),
        volume_ratio=_median(e.volume_ratio for e in compared),
        added_path_mm=_median(e.added_path_mm for e in compared),
        edited_slices=_median(float(e.edited_slices) for e in compared),
    )


def _median(values: Iterable[float]) -> float:
    finite = [v for v in values if math.isfinite(v)]
    return statistics.median(finite) if finite else math.nan


def unlooked(edits: Sequence[Edit]) -> list[Unlooked]:
    """Untouched is not the same as right: what was approved unchanged although its verdict was `look`."""
    keys = sorted({(e.reviewer, e.month) for e in edits if e.status == COMPARED})
    found = []
    for reviewer, month in keys:
        mine = [e for e in edits if (e.reviewer, e.month) == (reviewer, month) and e.status == COMPARED]
        look = [e for e in mine if e.verdict == "look"]
        found.append(
            Unlooked(
                reviewer=reviewer or "not named",
                month=month or "no date",
                look=len(look),
                look_untouched=sum(e.untouched for e in look),
                untouched=sum(e.untouched for e in mine),
                rois=len(mine),
            )
        )
    return found


@dataclass(frozen=True, kw_only=True)
class Rated:
    """What the contours say of ROIs that somebody rated: `untouched` is a fraction, the others medians."""

    rating: str
    rois: int
    untouched: float
    surface_dsc: float
    added_path_mm: float


def rated(edits: Sequence[Edit]) -> list[Rated]:
    """One line per rating, from `none` to `not usable`; ROIs that nobody rated are left out."""
    lines = []
    for rating in ("none", "minor", "major", "not usable"):
        mine = [e for e in edits if e.rating == rating]
        compared = [e for e in mine if e.status == COMPARED]
        if mine:
            lines.append(
                Rated(
                    rating=rating,
                    rois=len(mine),
                    untouched=sum(e.untouched for e in mine) / len(mine),
                    surface_dsc=_median(e.surface_dsc for e in compared),
                    added_path_mm=_median(e.added_path_mm for e in compared),
                )
            )
    return lines


def roi_charts(
    edits: Sequence[Edit], baseline: dict[tuple[str, str], Sequence[float]] | int = USUAL_BASELINE
) -> list[RoiChart]:
    """Charts of every ROI and figure with enough patients, in the order of the dates.

    Args:
        baseline: {(ROI, figure): values of a commissioning run}, or how many of the first patients are it.
    """
    charts = []
    for roi in sorted({e.roi for e in edits}):
        mine = [e for e in edits if e.roi == roi and e.status == COMPARED]
        for figure in FIGURES:
            known = [e for e in mine if math.isfinite(getattr(e, figure))]
            base = baseline if isinstance(baseline, int) else baseline.get((roi, figure), USUAL_BASELINE)
            chart = control_chart([getattr(e, figure) for e in known], figure, base)
            if chart is not None:
                charts.append(
                    RoiChart(
                        roi=roi,
                        figure=figure,
                        chart=chart,
                        patients=tuple(e.patient for e in known),
                        dates=tuple(e.date for e in known),
                        models=tuple(e.model for e in known),
                        scanners=tuple(e.scanner for e in known),
                    )
                )
    return charts
