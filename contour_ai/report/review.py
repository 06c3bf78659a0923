"""The page of a review: patients with their verdicts, the worst first, every ROI with its reasons and pictures."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from contour_ai.files import write_text
from contour_ai.quality.verdict import SEVERITY
from contour_ai.quality.verdict_record import SummaryFlag
from contour_ai.render import CAUTION
from contour_ai.report.page import asset, escaped_text
from contour_ai.report.review_record import ReviewedRoi, ReviewRecord

REVIEW_PAGE = "review.html"
WHOLE_PATIENT = ""
"""Key of the picture that shows what is found of the patient as a whole."""
PATIENTS_SHOWN = 100
"""Patients whose worst ROI the page of many shows in pictures."""
STYLE = """
td ul { margin: 0; padding-left: 18px; }
article { break-inside: avoid; margin: 18px 0 26px; }
article h3 { display: flex; gap: 10px; align-items: baseline; margin-bottom: 4px; }
article ul { margin: 2px 0 6px; padding-left: 20px; }
figure { margin: 0; }
figure img { display: block; width: 100%; max-width: 1170px; height: auto; background: #121214; }
figcaption { color: var(--faint); font-size: 12.5px; }
"""


class FindingPicture(NamedTuple):
    """One picture: its address (a `data:` URI), what it shows, its width and height in pixels."""

    source: str
    caption: str
    size: tuple[int, int]


Pictures = Mapping[str, FindingPicture]
"""By ROI; see `WHOLE_PATIENT`."""


def write_review_page(
    path: Path,
    patients: Sequence[ReviewRecord],
    links: Sequence[str] | None = None,
    pictures: Sequence[Pictures] = (),
) -> None:
    """Writes the page of one or several reviews; it needs no other file.

    Args:
        patients: what `review.json` says of each.
        links: address of each patient's own page; then a table of patients leads the page, and of each patient's ROIs
            only the worst is shown.
        pictures: of each patient; none at all for no pictures.
    """
    shown = pictures or [{}] * len(patients)
    several = links is not None
    entries = sorted(
        zip(patients, links or [""] * len(patients), shown, strict=True), key=lambda e: badness(e[0])
    )
    title = "Review of contours"
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        f"<title>{title}</title><style>{asset('document.css')}{STYLE}</style></head><body>",
        f"<header><h1>{title}</h1><div class='caution'>{html.escape(CAUTION)}</div></header>",
    ]
    if several:
        parts.append(_cohort([(patient, link) for patient, link, _ in entries]))
        for patient, link, images in entries[:PATIENTS_SHOWN]:
            if patient.verdict != "clear":
                parts.append(_patient_in_cohort(patient, link, images))
    else:
        parts += [_patient(patient, images) for patient, _, images in entries]
    write_text(path, "".join(parts) + "</body></html>\n")


def badness(patient: ReviewRecord) -> tuple[int, int, int, str]:
    """Sorts patients: those that need a person most come first."""
    verdicts = [roi.verdict for roi in patient.rois.values()]
    return (
        -SEVERITY[patient.verdict],
        -verdicts.count("stop"),
        -verdicts.count("look"),
        patient.patient_id,
    )


def ordered_rois(patient: ReviewRecord) -> list[tuple[str, ReviewedRoi]]:
    """The ROIs of a patient, the worst first: by verdict, then by the probability that they need correction."""
    return sorted(
        patient.rois.items(),
        key=lambda item: (-SEVERITY[item[1].verdict], -(item[1].probability or 0.0)),
    )


def worst_roi(patient: ReviewRecord) -> tuple[str, str]:
    """(name, reason) of the ROI that most needs a look; empty where all are clear."""
    for name, roi in ordered_rois(patient):
        if roi.findings:
            return name, roi.findings[0].reason
    return "", ""


def _name(patient: ReviewRecord) -> str:
    return escaped_text(patient.patient_id or "unknown patient")


def _linked(name: str, link: str) -> str:
    return f"<a href='{html.escape(link)}'>{name}</a>" if link else name


def _cohort(patients: Sequence[tuple[ReviewRecord, str]]) -> str:
    rows = []
    for patient, link in patients:
        roi, reason = worst_roi(patient)
        found = patient.findings[0].reason if patient.findings else reason
        rows.append(
            f"<tr><td>{_linked(_name(patient), link)}</td><td class='words'>{_badge(patient.verdict)}</td>"
            f"<td class='words'>{escaped_text(roi)}</td><td class='words'>{escaped_text(found)}</td></tr>"
        )
    heads = "".join(f"<th class='words'>{words}</th>" for words in ("verdict", "worst ROI", "reason"))
    table = f"<table><tr><th>patient</th>{heads}</tr>{''.join(rows)}</table>"
    return f"<h2>{len(patients)} patients, the worst first</h2><div class='scroll'>{table}</div>"


def _patient_in_cohort(patient: ReviewRecord, link: str, images: Pictures) -> str:
    """What is worst about one of many patients, with its picture; the rest stands on the patient's own page."""
    roi, _ = worst_roi(patient)
    shown = WHOLE_PATIENT if WHOLE_PATIENT in images else roi
    findings = patient.findings or (patient.rois[roi].findings if roi else ())
    rest = sum(found.verdict != "clear" for found in patient.rois.values())
    more = (
        f"<p class='faint'>{rest} ROIs are not clear: {_linked('all of them', link)}</p>" if rest > 1 else ""
    )
    heading = f"<h2>{_linked(_name(patient), link)} {_badge(patient.verdict)}</h2>"
    what = "whole patient" if patient.findings else roi
    return f"<section>{heading}{_finding(what, '', findings, images.get(shown))}{more}</section>"


def _patient(patient: ReviewRecord, images: Pictures) -> str:
    rows = []
    ordered = ordered_rois(patient)
    for roi, found in ordered:
        reasons = "".join(f"<li>{escaped_text(f.reason)}</li>" for f in found.findings)
        slices = found.slices_from_1
        span = "-" if slices is None else f"{slices[0]}-{slices[1]}"
        probability = "-" if found.probability is None else f"{found.probability:.0%}"
        known = found.known_as or "geometry"
        rows.append(
            f"<tr><td>{escaped_text(roi)}</td><td class='words'>{_badge(found.verdict)}</td>"
            f"<td>{probability}</td><td>{found.volume_cm3:.1f}</td><td>{span}</td>"
            f"<td class='words'>{escaped_text(known)}</td><td class='words'><ul>{reasons}</ul></td></tr>"
        )
    head = (
        "<tr><th>ROI</th><th class='words'>verdict</th><th title='that the contour needs correction'>probability</th>"
        "<th>volume cm³</th><th>slices</th><th class='words'>judged as</th><th class='words'>reasons</th></tr>"
    )
    notes = "".join(f"<li>{escaped_text(note)}</li>" for note in patient.notes)
    judged = f"{patient.structure_set}, judged by {patient.model}"
    pictures = ""
    if patient.findings:
        pictures += _finding("whole patient", "", patient.findings, images.get(WHOLE_PATIENT))
    for roi, found in ordered:
        if found.verdict != "clear":
            pictures += _finding(roi, found.verdict, found.findings, images.get(roi))
    return (
        f"<section><h2>{_name(patient)} {_badge(patient.verdict)}</h2>"
        f"<p class='faint'>{escaped_text(judged)}</p>"
        f"<div class='scroll'><table>{head}{''.join(rows)}</table></div>"
        + (f"<ul class='faint'>{notes}</ul>" if notes else "")
        + (f"<h2>Findings</h2>{pictures}" if pictures else "")
        + "</section>"
    )


def _finding(roi: str, verdict: str, findings: Sequence[SummaryFlag], picture: FindingPicture | None) -> str:
    """One ROI with all reasons, and its picture where there is one."""
    reasons = "".join(f"<li>{escaped_text(f.reason)}</li>" for f in findings)
    badge = f" {_badge(verdict)}" if verdict else ""
    figure = ""
    if picture is not None:
        width, height = picture.size
        caption = escaped_text(picture.caption)
        figure = (
            f"<figure><img src='{html.escape(picture.source)}' width='{width}' height='{height}' loading='lazy' "
            f"alt='{escaped_text(roi)}, {caption}'><figcaption>{caption}</figcaption></figure>"
        )
    return f"<article><h3>{escaped_text(roi)}{badge}</h3><ul>{reasons}</ul>{figure}</article>"


def _badge(verdict: str) -> str:
    return f"<b class='badge {verdict}'>{verdict}</b>"
