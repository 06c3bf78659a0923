"""Figures as a reader sees them: rounded, with their definitions, and with words where there is none."""

from __future__ import annotations

import math
from dataclasses import dataclass

from contour_ai.evaluation.metrics import BOTH, DEFINITIONS, REFERENCE_MISSING, RoiMetrics


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table of metrics: the field, what stands above it, and how many decimals it has."""

    field: str
    label: str
    decimals: int
    definition: str


COLUMNS = tuple(
    Column(field=field, label=label, decimals=decimals, definition=DEFINITIONS[definition])
    for field, label, decimals, definition in (
        ("dsc", "DSC", 3, "dsc"),
        ("surface_dsc", "surface DSC", 3, "surface_dsc"),
        ("tau_mm", "tolerance τ mm", 2, "tau_mm"),
        ("hd95_mm", "HD95 mm", 1, "hd95_mm"),
        ("hd100_mm", "HD100 mm", 1, "hd100_mm"),
        ("masd_mm", "MASD mm", 2, "masd_mm"),
        ("assd_mm", "ASSD mm", 2, "assd_mm"),
        ("added_path_mm", "added path mm", 0, "added_path_mm"),
        ("predicted_cm3", "predicted cm³", 1, "volume"),
        ("reference_cm3", "reference cm³", 1, "volume"),
        ("volume_ratio", "volume ratio", 2, "volume_ratio"),
        ("shift_left_mm", "shift left mm", 1, "shift_mm"),
        ("shift_posterior_mm", "shift posterior mm", 1, "shift_mm"),
        ("shift_superior_mm", "shift superior mm", 1, "shift_mm"),
        ("missed_inferior_slices", "missed slices, feet", 0, "missed_inferior_slices"),
        ("missed_superior_slices", "missed slices, head", 0, "missed_superior_slices"),
        ("missed_slices", "missed slices, all", 0, "missed_slices"),
        ("extra_slices", "extra slices", 0, "extra_slices"),
        ("dsc_in_extent", "DSC in extent", 3, "dsc_in_extent"),
        ("dsc_in_common", "DSC in common slices", 3, "dsc_in_common"),
    )
)


def shown(value: float | None, decimals: int) -> str:
    """A figure in a table."""
    if value is None or math.isnan(value):
        return "–"
    return "∞" if math.isinf(value) else f"{value:.{decimals}f}"


def cells(metrics: RoiMetrics) -> list[str]:
    """One ROI's line: its name, every column, and what is missing."""
    figures = [shown(getattr(metrics, column.field), column.decimals) for column in COLUMNS]
    return [metrics.roi, *figures, "" if metrics.status == BOTH else metrics.status]


def without_reference(roi: str, volume_cm3: float | None) -> list[str]:
    """The line of a ROI that there is nothing to compare with: its volume."""
    figures = [shown(volume_cm3, c.decimals) if c.field == "predicted_cm3" else "–" for c in COLUMNS]
    return [roi, *figures, REFERENCE_MISSING]


def table_head() -> list[dict[str, str]]:
    """The headings that go with `cells`."""
    columns = [{"label": column.label, "definition": column.definition} for column in COLUMNS]
    return [{"label": "ROI"}, *columns, {"label": ""}]
