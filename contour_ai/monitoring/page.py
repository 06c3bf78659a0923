"""The monitoring page: one HTML file with charts as SVG and tables, and a CSV beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

from contour_ai.monitoring.charts import FALSE_ALARM_EVERY
from contour_ai.monitoring.new_model import OldAgainstNew
from contour_ai.monitoring.records import COMPARED, Edit
from contour_ai.monitoring.summary import Group, RoiChart, Unlooked, groups, rated, unlooked
from contour_ai.render import CAUTION
from contour_ai.report.page import asset, escaped_text

WIDTH, HEIGHT, MARGIN = 640, 150, 44
LABELS = {
    "dsc": "DSC",
    "surface_dsc": "surface DSC",
    "volume_ratio": "volume, AI / approved",
    "added_path_mm": "added path (mm)",
}


@dataclass(frozen=True, kw_only=True)
class MonitorPage:
    """What the page shows."""

    edits: Sequence[Edit]
    charts: Sequence[RoiChart]
    notes: Sequence[str]
    versus: OldAgainstNew | None = None
    title: str = "AI contours against the approved ones"


def csv_rows(edits: Sequence[Edit]) -> list[list[object]]:
    """One row per ROI and patient, under `COLUMNS`; empty where there is no figure."""
    return [[_cell(value) for value in asdict(edit).values()] for edit in edits]


def _cell(value: object) -> object:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return "" if value is None else value


def page_text(page: MonitorPage) -> str:
    """The page as HTML that needs nothing else."""
    parts = [
        f"<h1>{_e(page.title)}</h1>",
        f'<p class="muted">{_e(CAUTION)}</p>',
        _overview(page),
        _alarms(page),
    ]
    if page.charts:
        promise = page.charts[0].chart.promise
        parts.append("<h2>Control charts</h2>")
        parts.append(
            f"<p>Limits come from {promise.baseline} patients or a commissioning run. They are chosen so that a "
            f"false alarm comes every {FALSE_ALARM_EVERY} patients on average in each chart, estimation from so few "
            f"included (in these {len(page.charts)} charts together every {FALSE_ALARM_EVERY / len(page.charts):.0f}); "
            f"a shift of one standard deviation is found after {promise.shift:g} patients on average. "
            "Dots: patients; band: limits of a single patient; green line: weighted average (EWMA), whose own limit is "
            "drawn at the edge of the band. "
            "A dashed line marks another model or scanner.</p>"
        )
        parts.append('<div class="charts">' + "".join(map(_chart, page.charts)) + "</div>")
    if page.versus is not None:
        parts.append(_versus_table(page.versus))
    parts.append(_group_table("By model", groups(page.edits, lambda e: e.model), "model"))
    parts.append(_group_table("By scanner", groups(page.edits, lambda e: e.scanner), "scanner"))
    parts.append(_group_table("By month", groups(page.edits, lambda e: e.month), "month"))
    parts.append(_unlooked_table(unlooked(page.edits)))
    parts.append(_rated_table(page.edits))
    parts.append(_dose_table(page.edits))
    if page.notes:
        parts.append("<h2>Notes</h2><ul>" + "".join(f"<li>{_e(n)}</li>" for n in page.notes) + "</ul>")
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{_e(page.title)}</title>'
        f"<style>{asset('monitor.css')}</style></head><body>{body}</body></html>\n"
    )


def _e(text: object) -> str:
    return escaped_text(text)


def _overview(page: MonitorPage) -> str:
    patients = {e.series_uid for e in page.edits}
    compared = [e for e in page.edits if e.status == COMPARED]
    untouched = sum(e.untouched for e in compared)
    dates = sorted(e.date for e in page.edits if e.date)
    span = f", {dates[0]} to {dates[-1]}" if dates else ""
    share = f", {100 * untouched / len(compared):.0f} % of them approved unchanged" if compared else ""
    return f"<p>{len(patients)} patients{span}: {len(compared)} ROIs compared{share}.</p>"


def _alarms(page: MonitorPage) -> str:
    lines = []
    for one in page.charts:
        for alarm in one.chart.alarms:
            who = ", ".join(one.patients[alarm.since : alarm.index + 1])
            lines.append(
                f'<li><span class="alarm">{_e(one.roi)}, {LABELS[one.figure]}</span>: {_e(alarm.rule)} at patient '
                f"{alarm.index + 1} ({_e(one.dates[alarm.index] or 'no date')}); patients concerned: {_e(who)}</li>"
            )
    if not lines:
        return (
            "<h2>Alarms</h2><p>None.</p>"
            if page.charts
            else "<h2>Alarms</h2><p>Too few patients for limits.</p>"
        )
    return f"<h2>Alarms</h2><ul>{''.join(lines)}</ul>"


def _chart(one: RoiChart) -> str:
    chart = one.chart
    finite = [*chart.values, chart.low, chart.high]
    bottom, top = min(finite), max(finite)
    span = (top - bottom) or 1.0

    def y(value: float) -> float:
        return HEIGHT - 18 - (HEIGHT - 30) * (value - bottom) / span

    def x(n: int) -> float:
        return MARGIN + (WIDTH - MARGIN - 8) * (n + 0.5) / len(chart.values)

    alarmed = {alarm.index for alarm in chart.alarms}
    parts = [
        f'<rect x="{MARGIN}" y="{y(chart.high):.1f}" width="{WIDTH - MARGIN - 8}" '
        f'height="{max(y(chart.low) - y(chart.high), 1):.1f}" fill="#e6eef8"/>',
        _line(MARGIN, WIDTH - 8, y(chart.centre), y(chart.centre), 'stroke="#5a6675"'),
    ]
    for n in range(1, len(chart.values)):
        if one.models[n] != one.models[n - 1] or one.scanners[n] != one.scanners[n - 1]:
            middle = (x(n) + x(n - 1)) / 2
            parts.append(_line(middle, middle, 6, HEIGHT - 18, 'stroke="#8a5a00" stroke-dasharray="4 3"'))
    parts.append(_ewma_line(one, x, y))
    for n, value in enumerate(chart.values):
        colour = "#a3200d" if n in alarmed else "#0b5cad"
        title = f"{_e(one.patients[n])} {_e(one.dates[n])}: {value:.3g}"
        radius = 4 if n in alarmed else 2.5
        place = f'cx="{x(n):.1f}" cy="{y(value):.1f}" r="{radius}" fill="{colour}"'
        parts.append(f"<circle {place}><title>{title}</title></circle>")
    for value in (chart.low, chart.centre, chart.high):
        parts.append(f'<text x="{MARGIN - 4}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    parts.append(f'<text x="{MARGIN}" y="{HEIGHT - 4}">{_e(one.dates[0])}</text>')
    parts.append(f'<text x="{WIDTH - 8}" y="{HEIGHT - 4}" text-anchor="end">{_e(one.dates[-1])}</text>')
    caption = f"{_e(one.roi)}: {LABELS[one.figure]}"
    label = f"Control chart of {caption}, {len(chart.values)} patients, {len(chart.alarms)} alarms"
    return (
        f'<figure><figcaption>{caption}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" width="100%" role="img" '
        f'aria-label="{label}">{"".join(parts)}</svg></figure>'
    )


def _line(x1: float, x2: float, y1: float, y2: float, style: str) -> str:
    return f'<line x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}" {style}/>'


def _ewma_line(one: RoiChart, x: Callable[[int], float], y: Callable[[float], float]) -> str:
    """The EWMA: at the centre line where it is 0, at an edge of the band where it meets its own limit."""
    chart = one.chart
    points = []
    for n, value in enumerate(chart.ewma):
        share = max(-1.15, min(1.15, value / chart.ewma_limit))
        edge = y(chart.high if share > 0 else chart.low)
        points.append(f"{x(n):.1f},{y(chart.centre) + abs(share) * (edge - y(chart.centre)):.1f}")
    return f'<polyline points="{" ".join(points)}" fill="none" stroke="#1a6b3c" stroke-width="1.3"/>'


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int) -> str:
    head = "".join(f"<th{'' if n < text_columns else ' class=n'}>{_e(h)}</th>" for n, h in enumerate(heads))
    lines = "".join(
        "<tr>"
        + "".join(f"<td{'' if n < text_columns else ' class=n'}>{_e(c)}</td>" for n, c in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _group_table(title: str, lines: Sequence[Group], heading: str) -> str:
    heads = (
        "ROI",
        heading,
        "patients",
        "untouched (%)",
        "DSC",
        "surface DSC",
        "volume AI/approved",
        "added path (mm)",
        "edited slices",
        "removed",
        "added",
    )
    rows = [
        (
            g.roi,
            g.value or "unknown",
            str(g.patients),
            _number(100 * g.untouched, 0),
            _number(g.dsc),
            _number(g.surface_dsc),
            _number(g.volume_ratio, 2),
            _number(g.added_path_mm, 0),
            _number(g.edited_slices, 0),
            str(g.removed),
            str(g.added),
        )
        for g in lines
    ]
    return f"<h2>{_e(title)} (medians)</h2>" + _table(heads, rows, 2)


def _versus_table(versus: OldAgainstNew) -> str:
    """The new model against the one in use, ROI by ROI."""
    heads = (
        "ROI",
        "figure",
        "patients",
        "new",
        "in use",
        "difference",
        "new better",
        "in use better",
        "equal",
        "p",
    )
    rows = [
        (
            c.roi,
            LABELS.get(c.figure, c.figure.replace("_mm", " (mm)").replace("_", " ")),
            str(c.n),
            *(_number(v) for v in (c.first_median, c.second_median, c.median_difference)),
            *(str(n) for n in (c.first_better, c.second_better, c.equal)),
            _number(c.p_holm),
        )
        for c in versus.comparison
    ]
    text = (
        f"<p>{_e(versus.new)} against {_e(versus.old)}, in use, on {versus.patients} test patients. Medians; paired "
        "differences, new minus in use; p after Wilcoxon, corrected after Holm for the number of ROIs. The approved "
        f"contours began as those of the model in use ({versus.unchanged} of {versus.rois} ROIs were approved "
        "unchanged), which favours it.</p>"
    )
    return "<h2>New model against the one in use</h2>" + text + _table(heads, rows, 2)


def _unlooked_table(lines: Sequence[Unlooked]) -> str:
    heads = (
        "reviewer (pseudonym)",
        "month",
        "ROIs",
        "approved unchanged",
        "verdict look",
        "of these unchanged",
    )
    rows = [
        (u.reviewer, u.month, str(u.rois), str(u.untouched), str(u.look), str(u.look_untouched))
        for u in lines
    ]
    text = "<p>Untouched is not the same as right: ROIs approved unchanged although their verdict was <b>look</b>.</p>"
    return "<h2>Approved unchanged</h2>" + text + _table(heads, rows, 2)


def _rated_table(edits: Sequence[Edit]) -> str:
    lines = rated(edits)
    if not lines:
        return ""
    heads = ("changes needed, as rated", "ROIs", "approved unchanged (%)", "surface DSC", "added path (mm)")
    rows = [
        (
            r.rating,
            str(r.rois),
            _number(100 * r.untouched, 0),
            _number(r.surface_dsc),
            _number(r.added_path_mm, 0),
        )
        for r in lines
    ]
    return "<h2>Ratings beside edits (medians)</h2>" + _table(heads, rows, 1)


def _dose_table(edits: Sequence[Edit]) -> str:
    dosed = [e for e in edits if e.dose_mean_gy is not None]
    if not dosed:
        return ""
    heads = ("ROI", "patient", "Dmean (Gy)", "D0.03cc (Gy)", "D95 (Gy)")
    worst = sorted(dosed, key=lambda e: -max(abs(e.dose_mean_gy or 0), abs(e.dose_003cc_gy or 0)))[:50]
    rows = [
        (e.roi, e.patient, _number(e.dose_mean_gy, 2), _number(e.dose_003cc_gy, 2), _number(e.dose_95_gy, 2))
        for e in worst
    ]
    return "<h2>Dose, AI contour minus approved (largest 50)</h2>" + _table(heads, rows, 2)
