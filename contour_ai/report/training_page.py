"""`progress.html` of a training: how far it is, curves ROI by ROI, the worst validation patients."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from contour_ai.files import atomic_file, write_text
from contour_ai.report.page import asset, escaped_text, fill
from contour_ai.report.svg_chart import ChartLine, line_chart
from contour_ai.report.tables import cell, html_table

REFRESH_S = 30


@dataclass(frozen=True, kw_only=True)
class WorstCase:
    """The slice where a validation patient disagrees most.

    Args:
        picture: a PNG file; None where there is none.
    """

    patient: str
    roi: str
    dice: float
    picture: Path | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingPage:
    """What the page shows.

    Args:
        name: of the model.
        finished: whether nothing more will come; else a browser reads the page again.
        facts: {name: value}, the most important first.
        loss: (step, loss).
        mean_dice: (step, mean Dice).
        dice: {ROI: (step, Dice)}.
        patients: {ROI: training patients that have it}.
        worst: of the last validation, the worst first.
        advice: what limits the ROIs, and what to do.
    """

    name: str
    finished: bool
    facts: Mapping[str, str]
    loss: Sequence[tuple[float, float]] = ()
    mean_dice: Sequence[tuple[float, float]] = ()
    dice: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    patients: Mapping[str, int] = field(default_factory=dict)
    worst: Sequence[WorstCase] = ()
    advice: Sequence[str] = ()


def write_training_page(path: Path, page: TrainingPage) -> None:
    """Writes the page in place of the one before, for its owner alone: it shows patients.

    Raises:
        OutputError: it cannot be written.
    """
    text = fill(
        asset("training.html"),
        texts={"title": f"Training of {page.name}", "state": "finished" if page.finished else "at work"},
        raw={
            "style": asset("document.css"),
            "refresh": "" if page.finished else f'<meta http-equiv="refresh" content="{REFRESH_S}">',
            "body": _body(page),
        },
    )
    with atomic_file(path, overwrite=True, private=True) as temporary:
        write_text(temporary, text)


def _body(page: TrainingPage) -> str:
    facts = "".join(
        f"<dt>{escaped_text(name)}</dt><dd>{escaped_text(value)}</dd>" for name, value in page.facts.items()
    )
    parts = [f"<dl>{facts}</dl>"]
    if page.advice:
        parts.append("<h2>What limits it</h2>")
        parts += [f"<p>{escaped_text(sentence)}</p>" for sentence in page.advice]
    wide = (560, 190)
    parts.append('<h2>Curves</h2><div class="charts">')
    parts.append(line_chart("loss", [ChartLine(name="loss", points=page.loss)], size=wide))
    parts.append(
        line_chart(
            "mean Dice in validation",
            [ChartLine(name="mean", points=page.mean_dice)],
            y_range=(0, 1),
            size=wide,
        )
    )
    parts.append("</div>")
    parts.append("<h2>Dice in validation, ROI by ROI</h2>" + _table(page))
    parts.append('<div class="charts">')
    parts += [
        line_chart(roi, [ChartLine(name=roi, points=points)], y_range=(0, 1))
        for roi, points in page.dice.items()
    ]
    parts.append("</div>")
    if page.worst:
        parts.append("<h2>Worst validation patients</h2>")
        parts += [_worst(case) for case in page.worst]
    return "".join(parts)


def _table(page: TrainingPage) -> str:
    rows = []
    for roi, points in page.dice.items():
        known = [(dice, step) for step, dice in points if dice == dice]
        best = max(known, default=None)
        last = known[-1][0] if known else None
        rows.append(
            [
                cell(roi),
                cell(str(page.patients.get(roi, 0))),
                cell("–" if last is None else f"{last:.3f}"),
                cell("–" if best is None else f"{best[0]:.3f} after step {best[1]:g}"),
            ]
        )
    return html_table(["ROI", "training patients", "last", "best"], rows)


def _worst(case: WorstCase) -> str:
    shown = escaped_text(f"{case.patient}: {case.roi}, Dice {case.dice:.3f}")
    if case.picture is None:
        return f"<p>{shown}</p>"
    data = base64.b64encode(case.picture.read_bytes()).decode("ascii")
    return f'<figure><img alt="{shown}" src="data:image/png;base64,{data}"><figcaption>{shown}</figcaption></figure>'
