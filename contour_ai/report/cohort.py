"""The report of many patients: box plots a ROI, summaries, and outliers linked to their patients' reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from contour_ai.evaluation.comparison import COMPARISON, HIGHER_IS_BETTER, FigureComparison
from contour_ai.evaluation.metrics import BOTH, DEFINITIONS, PREDICTION_MISSING, Row
from contour_ai.evaluation.report import SPREAD, SUMMARISED, metrics_json, plain, summarise
from contour_ai.files import atomic_file, write_text
from contour_ai.render import CAUTION
from contour_ai.report.figures import COLUMNS
from contour_ai.report.page import asset, embedded_json, fill, script

BETTER_WHEN_HIGHER = {name for name, higher in HIGHER_IS_BETTER.items() if higher}

COLORED_FROM_TO = {
    "dsc": (0.5, 0.9),
    "surface_dsc": (0.5, 0.95),
    "hd95_mm": (15.0, 3.0),
    "hd100_mm": (30.0, 6.0),
    "masd_mm": (4.0, 1.0),
    "assd_mm": (4.0, 1.0),
}
"""Figures at which the table of patients is wholly orange (poor) and wholly blue (good), whatever other patients have:
a good figure is not alarming because others are better. Of other figures, only outliers are coloured."""


@dataclass(frozen=True, kw_only=True)
class CohortPage:
    """What the report of many patients shows.

    Args:
        rows: figures of every patient and ROI.
        versus: those of another prediction of the same patients, or none.
        labels: what the prediction is called, and the other one where there is one.
        links: {patient: address of that patient's report, relative to this one}.
    """

    title: str
    subtitle: str
    rows: Sequence[Row]
    versus: Sequence[Row] = ()
    labels: tuple[str, ...] = ("prediction",)
    comparison: Sequence[FigureComparison] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()


def write_cohort_report(path: Path, page: CohortPage) -> None:
    """Writes the page: one HTML file that needs nothing else.

    Raises:
        OutputError: the file exists or cannot be written.
    """
    text = fill(
        asset("cohort.html"),
        texts={"title": page.title, "subtitle": page.subtitle, "caution": CAUTION},
        raw={
            "style": asset("document.css"),
            "script": script("drawn.js", "cohort.js"),
            "data": embedded_json(cohort_content(page)),
        },
    )
    with atomic_file(path, private=True) as temporary:
        write_text(temporary, text)


def cohort_content(page: CohortPage) -> dict[str, object]:
    """What the page's script draws."""
    sides = {"first": page.rows, "second": page.versus}
    labels = {column.field: column for column in COLUMNS}
    rois = dict.fromkeys(row.roi for rows in sides.values() for row in rows)
    return {
        "labels": list(page.labels),
        "rois": list(rois),
        "figures": [
            {
                "name": name,
                "label": labels[name].label,
                "decimals": labels[name].decimals,
                "definition": labels[name].definition,
                "higherIsBetter": name in BETTER_WHEN_HIGHER,
                "colored": COLORED_FROM_TO.get(name),
            }
            for name in SUMMARISED
        ],
        "rows": [_row(row, side) for side, rows in sides.items() for row in rows],
        "summary": [
            {"side": side, **{key: plain(value) for key, value in asdict(s).items()}}
            for side, rows in sides.items()
            for s in summarise(rows)
        ],
        "comparison": [plain(asdict(c)) for c in page.comparison],
        "comparisonText": COMPARISON,
        "links": dict(page.links),
        "notes": list(page.notes),
        "definitions": {**DEFINITIONS, "summary": SPREAD},
    }


def _row(row: Row, side: str) -> dict[str, object]:
    values = metrics_json(row.metrics)
    return {
        "patient": row.patient,
        "roi": row.roi,
        "side": side,
        "status": row.status,
        "scored": row.status in (BOTH, PREDICTION_MISSING),
        "values": {name: values[name] for name in SUMMARISED},
    }
