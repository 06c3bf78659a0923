"""The report of a commissioning run: verdict, limits, self-test, figures, patients, environment, a place to sign."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from contour_ai.evaluation.limits import Check
from contour_ai.evaluation.metrics import BOTH, DEFINITIONS, PREDICTION_MISSING, Row
from contour_ai.evaluation.report import SPREAD, SUMMARISED, summarise
from contour_ai.files import atomic_file, write_text
from contour_ai.render import CAUTION
from contour_ai.report.constancy import Constancy, constancy_html
from contour_ai.report.figures import COLUMNS, shown
from contour_ai.report.page import asset, escaped_text, fill
from contour_ai.report.tables import cell, html_table


@dataclass(frozen=True, kw_only=True)
class CommissionedPatient:
    """One patient of a commissioning run."""

    patient: str
    """Patient ID, or the folder's name."""
    link: str
    """The patient's page, relative to the run's folder; "" where there is none."""
    flags: tuple[str, ...]
    """Quality findings, in sentences."""
    seconds: float
    """How long contouring took, in seconds."""
    problem: str = ""
    """Why the patient could not be contoured; "" where it was."""
    ct: str = ""
    """Voxels, position and scanner of the CT, in words."""
    series_uid: str = ""
    """SeriesInstanceUID of the CT."""
    structure_set_uid: str = ""
    """SOPInstanceUID of the department's structure set."""


@dataclass(frozen=True, kw_only=True)
class CommissioningPage:
    """What the report says.

    Args:
        run: checks of the run itself: every patient contoured and compared.
        limits: the department's limits and what was found.
        self_test: analytic shapes and figures worked by hand.
        limits_text: the file of limits as it was.
        environment: {heading: {name: value}}.
        not_judged: ROIs of the model that have no limit.
        cohort: the page with box plots; "" where there is none.
        constancy: the comparison with an earlier run; None where none is repeated.
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
    not_judged: Sequence[str] = ()
    cohort: str = ""
    constancy: Constancy | None = None

    @property
    def verdict(self) -> str:
        """How many checks failed, and what no check looked at, in words."""
        failed = sum(not check.passed for check in self.checks)
        count = len(self.checks)
        words = f"{failed} of {count} checks failed" if failed else f"all {count} checks passed"
        if self.not_judged:
            words += (
                f". Not judged, because the file of limits does not name them: {', '.join(self.not_judged)}"
            )
        return words

    @property
    def checks(self) -> tuple[Check, ...]:
        """All of them."""
        repeated = () if self.constancy is None else self.constancy.checks
        return (*self.run, *repeated, *self.limits, *self.self_test)

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)


def write_commissioning_report(path: Path, page: CommissioningPage) -> None:
    """Writes the page: one HTML file, ready to be printed and signed.

    Raises:
        OutputError: the file exists or cannot be written.
    """
    text = fill(
        asset("commissioning.html"),
        texts={
            "title": page.title,
            "subtitle": page.subtitle,
            "caution": CAUTION,
            "verdict": "pass" if page.passed else "fail",
            "verdict_words": "PASS" if page.passed else "FAIL",
            "verdict_detail": page.verdict,
            "weights": page.environment.get("Model", {}).get("weights SHA-256", "not named"),
        },
        raw={"style": asset("document.css"), "body": "\n".join(_sections(page))},
    )
    with atomic_file(path, private=True) as temporary:
        write_text(temporary, text)


def _sections(page: CommissioningPage) -> Iterable[str]:
    if page.run:
        yield "<h2>The run</h2>" + _checks(page.run)
    if page.constancy is not None:
        yield "<h2>Compared with the earlier run</h2>" + _checks(page.constancy.checks)
        yield constancy_html(page.constancy)
    yield "<h2>Limits</h2>" + _checks(page.limits)
    yield "<h2>Figures</h2>" + _figures(page.rows, page.cohort)
    yield "<h2>DSC of every patient</h2>" + _every_patient(page.rows)
    yield "<h2>Patients</h2>" + _patients(page.patients)
    if page.notes:
        yield (
            "<h2>Notes</h2><ul>" + "".join(f"<li>{escaped_text(note)}</li>" for note in page.notes) + "</ul>"
        )
    passed = sum(check.passed for check in page.self_test)
    yield f"<h2>Self-test of this installation: {passed} of {len(page.self_test)} passed</h2>" + _checks(
        page.self_test
    )
    yield "<h2>Environment</h2>"
    for heading, entries in page.environment.items():
        yield f"<h3>{escaped_text(heading)}</h3>" + _definitions(entries)
    yield f"<h2>File of limits</h2><pre>{escaped_text(page.limits_text)}</pre>"
    yield "<h2>Definitions</h2>" + _definitions({**DEFINITIONS, "summary": SPREAD})


def _checks(checks: Sequence[Check]) -> str:
    rows = [
        [
            cell(check.subject),
            cell(check.rule, "words"),
            cell(check.found),
            f'<td><b class="{"pass" if check.passed else "fail"}">{"pass" if check.passed else "fail"}</b></td>',
            cell(check.detail, "words"),
        ]
        for check in checks
    ]
    return _table(["", "limit", "found", "", "concerned"], rows)


def _figures(rows: Sequence[Row], cohort: str) -> str:
    """Median and quartiles of every figure, a line a ROI."""
    columns = {column.field: column for column in COLUMNS}
    taus_mm = {row.roi: row.tau_mm for row in rows}
    lines = []
    for s in summarise(rows):
        cells = [cell(s.roi), *(cell(str(n)) for n in (s.n, s.prediction_missing, s.reference_missing))]
        for name in SUMMARISED:
            spread, decimals = s.spread[name], columns[name].decimals
            median, q1, q3 = (shown(v, decimals) for v in (spread.median, spread.q1, spread.q3))
            cells.append(f"<td>{median}<br><small>[{q1}, {q3}]</small></td>" if s.n else cell("–"))
        cells.insert(-(len(SUMMARISED) - SUMMARISED.index("surface_dsc") - 1), cell(f"{taus_mm[s.roi]:g}"))
        lines.append(cells)
    labels = [f"{columns[name].label}: median [quartiles]" for name in SUMMARISED]
    labels.insert(SUMMARISED.index("surface_dsc") + 1, columns["tau_mm"].label)
    explanation = (
        "Median and [quartiles] over the patients with a reference, those without a prediction among them."
    )
    if cohort:
        explanation += (
            f' Box plots, intervals and outliers: <a href="{escaped_text(cohort)}">{escaped_text(cohort)}</a>'
        )
    head = ["ROI", "n", "no prediction", "no reference", *labels]
    return f"<p class='faint'>{explanation}</p>" + _table(head, lines)


def _every_patient(rows: Sequence[Row]) -> str:
    """A line a patient, a column a ROI."""
    rois = list(dict.fromkeys(row.roi for row in rows))
    found = {(row.patient, row.roi): row.metrics for row in rows}
    lines = []
    for patient in dict.fromkeys(row.patient for row in rows):
        metrics = [found.get((patient, roi)) for roi in rois]
        words = {BOTH: "", PREDICTION_MISSING: " (no prediction)"}
        cells = [
            cell(f"{shown(m.dsc, 3)}{words[m.status]}" if m is not None and m.status in words else "–")
            for m in metrics
        ]
        lines.append([cell(patient), *cells])
    return "<p class='faint'>–: no reference.</p>" + _table(["patient", *rois], lines)


def _patients(patients: Sequence[CommissionedPatient]) -> str:
    lines = []
    for p in patients:
        name = escaped_text(p.patient)
        linked = f'<a href="{escaped_text(p.link)}">{name}</a>' if p.link else name
        lines.append(
            [
                f"<td>{linked}</td>",
                cell(p.ct, "words"),
                cell(f"{p.seconds:.1f}" if p.seconds else "–"),
                cell("; ".join(p.flags) or "none", "words"),
                cell(p.problem, "words"),
            ]
        )
    return _table(["patient", "CT", "seconds", "flags", "problem"], lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return html_table(head, rows, {"limit", "concerned", "CT", "flags", "problem"})


def _definitions(entries: Mapping[str, str]) -> str:
    lines = (f"<dt>{escaped_text(name)}</dt><dd>{escaped_text(text)}</dd>" for name, text in entries.items())
    return f"<dl>{''.join(lines)}</dl>"
