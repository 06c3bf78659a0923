"""The page of a review: patients with their verdicts, the worst first, every ROI with its reasons and slices."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from contour_ai.files import write_text
from contour_ai.render import CAUTION
from contour_ai.report.page import asset

REVIEW_PAGE = "review.html"
ORDER: Mapping[str, int] = {"stop": 0, "look": 1, "clear": 2}
STYLE = """
.v-stop { color: white; background: #b42318; } .v-look { background: #f5b041; color: #241700; }
.v-clear { background: #dcefe4; color: #14532d; }
.v { border-radius: 5px; padding: 1px 9px; font-weight: 650; }
td ul { margin: 0; padding-left: 18px; }
"""


def write_review_page(
    path: Path, patients: Sequence[Mapping[str, Any]], links: Mapping[str, str] | None = None
) -> None:
    """Writes the page of one or several reviews; it needs no other file.

    Args:
        patients: contents of `review.json`.
        links: {patient: address of that patient's own page}: then a table of patients leads the page.
    """
    ordered = sorted(patients, key=_badness)
    title = "Review of contours"
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        f"<title>{title}</title><style>{asset('document.css')}{STYLE}</style></head><body>",
        f"<header><h1>{title}</h1><div class='caution'>{html.escape(CAUTION)}</div></header>",
    ]
    if links is not None:
        parts.append(_cohort(ordered, links))
    parts += [_patient(patient) for patient in ordered]
    write_text(path, "".join(parts) + "</body></html>\n")


def _badness(patient: Mapping[str, Any]) -> tuple[int, int, int, str]:
    verdicts = [roi["verdict"] for roi in patient["rois"].values()]
    return (
        ORDER[patient["verdict"]],
        -verdicts.count("stop"),
        -verdicts.count("look"),
        str(patient["patient_id"]),
    )


def worst_roi(patient: Mapping[str, Any]) -> tuple[str, str]:
    """(name, reason) of the ROI that most needs a look; empty where all are clear."""
    found = [
        (ORDER[roi["verdict"]], -(roi["probability"] or 0.0), name, roi["findings"][0]["reason"])
        for name, roi in patient["rois"].items()
        if roi["findings"]
    ]
    if not found:
        return "", ""
    _, _, name, reason = min(found)
    return str(name), str(reason)


def _cohort(patients: Sequence[Mapping[str, Any]], links: Mapping[str, str]) -> str:
    rows = []
    for patient in patients:
        name = str(patient["patient_id"] or "unknown patient")
        roi, reason = worst_roi(patient)
        link = links.get(name)
        shown = (
            html.escape(name) if link is None else f"<a href='{html.escape(link)}'>{html.escape(name)}</a>"
        )
        found = patient["findings"][0]["reason"] if patient["findings"] else reason
        rows.append(
            f"<tr><td>{shown}</td><td class='words'>{_badge(patient['verdict'])}</td>"
            f"<td class='words'>{html.escape(roi)}</td><td class='words'>{html.escape(str(found))}</td></tr>"
        )
    heads = "".join(f"<th class='words'>{words}</th>" for words in ("verdict", "worst ROI", "reason"))
    table = f"<table><tr><th>patient</th>{heads}</tr>{''.join(rows)}</table>"
    return f"<h2>{len(patients)} patients, the worst first</h2><div class='scroll'>{table}</div>"


def _patient(patient: Mapping[str, Any]) -> str:
    name = html.escape(str(patient["patient_id"] or "unknown patient"))
    rows = []
    for roi, found in sorted(patient["rois"].items(), key=lambda item: ORDER[item[1]["verdict"]]):
        reasons = "".join(f"<li>{html.escape(str(f['reason']))}</li>" for f in found["findings"])
        slices = found["slices_from_1"]
        span = "-" if slices is None else f"{slices[0]}-{slices[1]}"
        probability = "-" if found["probability"] is None else f"{found['probability']:.0%}"
        known = found["known_as"] or "geometry"
        rows.append(
            f"<tr><td>{html.escape(roi)}</td><td class='words'>{_badge(found['verdict'])}</td>"
            f"<td>{probability}</td><td>{found['volume_cm3']:.1f}</td><td>{span}</td>"
            f"<td class='words'>{html.escape(str(known))}</td><td class='words'><ul>{reasons}</ul></td></tr>"
        )
    head = (
        "<tr><th>ROI</th><th class='words'>verdict</th><th title='that the contour needs correction'>probability</th>"
        "<th>volume cm3</th><th>slices</th><th class='words'>judged as</th><th class='words'>reasons</th></tr>"
    )
    notes = "".join(f"<li>{html.escape(str(note))}</li>" for note in patient["notes"])
    first = "".join(f"<p>{html.escape(str(f['reason']))}</p>" for f in patient["findings"])
    judged = f"{patient['structure_set']}, judged by {patient['model']}"
    return (
        f"<section><h2>{name} {_badge(patient['verdict'])}</h2>{first}"
        f"<p class='faint'>{html.escape(judged)}</p>"
        f"<div class='scroll'><table>{head}{''.join(rows)}</table></div>"
        + (f"<ul class='faint'>{notes}</ul>" if notes else "")
        + "</section>"
    )


def _badge(verdict: str) -> str:
    return f"<span class='v v-{verdict}'>{verdict}</span>"
