"""The page and table of many predicted patients: verdict, worst ROI, why, and where to look."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from contour_ai.csv_files import write_csv
from contour_ai.files import FileKind, atomic_file, write_text
from contour_ai.render import CAUTION
from contour_ai.report.page import asset, fill

PATIENTS_PAGE = "patients.html"
PATIENTS_TABLE = "patients.csv"
FAILED = "failed"
NOT_JUDGED = "not judged"
ORDER = (FAILED, "stop", "look", NOT_JUDGED, "clear")
"""What needs a person first."""
HEADER = (
    "patient",
    "verdict",
    "worst_roi",
    "reason",
    "findings",
    "mean_dice_of_organs",
    "model",
    "folder",
    "report",
)
MARK = '<meta name="generator" content="contour-ai predict">'
PAGE = FileKind("page of predicted patients", lambda start: MARK.encode() in start)
TABLE = FileKind("table of predicted patients", lambda start: start.startswith(",".join(HEADER).encode()))


@dataclass(frozen=True, kw_only=True)
class PredictedPatient:
    """One line.

    Args:
        verdict: `clear`, `look` or `stop`; `FAILED`; `NOT_JUDGED` where the prediction says none.
        worst_roi: the ROI that needs a look most; "" where none does, or where the reason concerns the whole patient.
        reason: the most important finding, or the error.
        findings: how many there are.
        mean_dice: of the organs, where the patient has contours of its own.
        folder: of the results, relative to the page; "" where there are none.
        link: what to open, relative to the page; "" where there is nothing.
    """

    patient: str
    verdict: str
    worst_roi: str = ""
    reason: str = ""
    findings: int = 0
    mean_dice: float | None = None
    model: str = ""
    folder: str = ""
    link: str = ""


def write_predicted(folder: Path, patients: Sequence[PredictedPatient]) -> tuple[Path, Path]:
    """Writes `patients.html` and `patients.csv` into a folder, in the place of earlier ones, worst patients first.

    Raises:
        OutputError: a file of that name is none of this program's, or it cannot be written.
    """
    ordered = sorted(patients, key=lambda p: (ORDER.index(p.verdict), -p.findings, p.patient, p.folder))
    page, table = folder / PATIENTS_PAGE, folder / PATIENTS_TABLE
    for path, kind in ((page, PAGE), (table, TABLE)):
        with atomic_file(path, overwrite=True, kind=kind, private=True) as temporary:
            if kind is TABLE:
                write_csv(temporary, HEADER, [_cells(p) for p in ordered], overwrite=True)
            else:
                write_text(temporary, _page(ordered))
    return page, table


def _cells(p: PredictedPatient) -> list[object]:
    dice = "" if p.mean_dice is None else round(p.mean_dice, 4)
    return [p.patient, p.verdict, p.worst_roi, p.reason, p.findings, dice, p.model, p.folder, p.link]


def _page(patients: Sequence[PredictedPatient]) -> str:
    counts = Counter(p.verdict for p in patients)
    counted = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ORDER if counts[verdict])
    return fill(
        asset("predicted.html"),
        texts={
            "title": "Predicted patients",
            "subtitle": f"{len(patients)} patients: {counted}",
            "caution": CAUTION,
        },
        raw={"style": asset("document.css"), "mark": MARK, "table": _table(patients)},
    )


def _table(patients: Sequence[PredictedPatient]) -> str:
    scored = any(p.mean_dice is not None for p in patients)
    names = (
        ["patient", "verdict", "worst ROI", "reason", "findings"]
        + ["mean DSC of organs"] * scored
        + ["model"]
    )
    words = {"verdict", "worst ROI", "reason", "model"}
    head = "".join(f"<th{' class=words' if n in words else ''}>{n}</th>" for n in names)
    lines = []
    for p in patients:
        name = html.escape(p.patient)
        patient = f'<a href="{html.escape(p.link)}">{name}</a>' if p.link else name
        kind = p.verdict.replace(" ", "-")
        cells = [
            f"<td>{patient}</td>",
            f'<td class="words"><b class="badge {kind}">{html.escape(p.verdict)}</b></td>',
            *(f'<td class="words">{html.escape(text)}</td>' for text in (p.worst_roi, p.reason)),
            f"<td>{p.findings}</td>",
        ]
        if scored:
            cells.append(f"<td>{'–' if p.mean_dice is None else f'{p.mean_dice:.3f}'}</td>")
        cells.append(f'<td class="words">{html.escape(p.model)}</td>')
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
