"""The report of a commissioning run: verdict, limits, self-test, figures, patients, environment, a place to sign."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from contour_ai.evaluation.limits import Check
from contour_ai.evaluation.metrics import DEFINITIONS, Row
from contour_ai.evaluation.report import SPREAD, SUMMARISED, summarise
from contour_ai.files import atomic_file
from contour_ai.render import CAUTION
from contour_ai.report.figures import COLUMNS, shown
from contour_ai.report.page import asset, fill


@dataclass(frozen=True)
class CommissionedPatient:
    """One patient: the page to look at ("" where there is none), flags raised, seconds, and what went wrong."""

    patient: str
    link: str
    flags: Sequence[str]
    seconds: float
    problem: str = ""


@dataclass(frozen=True)
class CommissioningPage:
    """What the report says.

    Args:
        run: checks of the run itself: every patient contoured and compared.
        limits: the department's limits and what was found.
        self_test: analytic shapes and figures worked by hand.
        limits_text: the file of limits as it was.
        environment: {heading: {name: value}}.
    """

    title: str
    subtitle: str
    run: Sequence[Check]
    limits: Sequence[Check]
    self_test: Sequence[Check]
    rows: Sequence[Row]
    patients: Sequence[CommissionedPatient]
    limits_text: str
    environment: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def checks(self) -> tuple[Check, ...]:
        """All of them."""
        return (*self.run, *self.limits, *self.self_test)

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)


def write_commissioning_report(path: Path, page: CommissioningPage) -> None:
    """Writes the page: one HTML file, ready to be printed and signed.

    Raises:
        OutputError: the file exists or cannot be written.
    """
    failed = sum(not check.passed for check in page.checks)
    text = fill(
        asset("commissioning.html"),
        texts={
            "title": page.title,
            "subtitle": page.subtitle,
            "caution": CAUTION,
            "verdict": "pass" if page.passed else "fail",
            "verdict_words": "PASS" if page.passed else "FAIL",
            "verdict_detail": f"all {len(page.checks)} checks passed"
            if page.passed
            else f"{failed} of {len(page.checks)} checks failed",
        },
        raw={"style": asset("document.css"), "body": "\n".join(_sections(page))},
    )
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def _sections(page: CommissioningPage) -> Iterable[str]:
    if page.run:
        yield "<h2>The run</h2>" + _checks(page.run)
    yield "<h2>Limits</h2>" + _checks(page.limits)
    yield "<h2>Figures</h2>" + _figures(page.rows)
    yield "<h2>Patients</h2>" + _patients(page.patients)
    if page.notes:
        yield "<h2>Notes</h2><ul>" + "".join(f"<li>{html.escape(note)}</li>" for note in page.notes) + "</ul>"
    passed = sum(check.passed for check in page.self_test)
    yield f"<h2>Self-test of this installation: {passed} of {len(page.self_test)} passed</h2>" + _checks(
        page.self_test
    )
    yield "<h2>Environment</h2>"
    for heading, entries in page.environment.items():
        yield f"<h3>{html.escape(heading)}</h3>" + _definitions(entries)
    yield f"<h2>File of limits</h2><pre>{html.escape(page.limits_text)}</pre>"
    yield "<h2>Definitions</h2>" + _definitions({**DEFINITIONS, "summary": SPREAD})


def _checks(checks: Sequence[Check]) -> str:
    rows = [
        [
            _cell(check.subject),
            _cell(check.rule, "words"),
            _cell(check.found),
            f'<td><b class="{"pass" if check.passed else "fail"}">{"pass" if check.passed else "fail"}</b></td>',
            _cell(check.detail, "words"),
        ]
        for check in checks
    ]
    return _table(["", "limit", "found", "", "concerned"], rows)


def _figures(rows: Sequence[Row]) -> str:
    """Median and quartiles of every figure, a line a ROI."""
    columns = {column.field: column for column in COLUMNS}
    lines = []
    for s in summarise(rows):
        cells = [_cell(s.roi), *(_cell(str(n)) for n in (s.n, s.prediction_missing, s.reference_missing))]
        for name in SUMMARISED:
            spread, decimals = s.spread[name], columns[name].decimals
            median, q1, q3 = (shown(v, decimals) for v in (spread.median, spread.q1, spread.q3))
            cells.append(_cell(f"{median} [{q1}, {q3}]" if s.n else "–"))
        lines.append(cells)
    head = ["ROI", "n", "no prediction", "no reference", *(columns[name].label for name in SUMMARISED)]
    return "<p class='faint'>Median [quartiles] over the patients with a reference.</p>" + _table(head, lines)


def _patients(patients: Sequence[CommissionedPatient]) -> str:
    lines = []
    for p in patients:
        name = html.escape(p.patient)
        linked = f'<a href="{html.escape(p.link)}">{name}</a>' if p.link else name
        lines.append(
            [
                f"<td>{linked}</td>",
                _cell(f"{p.seconds:.1f}" if p.seconds else "–"),
                _cell("; ".join(p.flags) or "none", "words"),
                _cell(p.problem, "words"),
            ]
        )
    return _table(["patient", "seconds", "flags", "problem"], lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    words = {"limit", "concerned", "flags", "problem"}
    names = "".join(f"<th{' class=words' if n in words else ''}>{html.escape(n)}</th>" for n in head)
    body = "".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
    return f'<div class="scroll"><table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(text: str, kind: str = "") -> str:
    return f"<td{f' class={kind}' if kind else ''}>{html.escape(text)}</td>"


def _definitions(entries: Mapping[str, str]) -> str:
    lines = (f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in entries.items())
    return f"<dl>{''.join(lines)}</dl>"
