"""A small line chart as SVG: no script, nothing to fetch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from contour_ai.report.page import escaped_text

LEFT, RIGHT, TOP, BOTTOM = 40, 10, 22, 24
"""Margins around the lines, in pixels."""


@dataclass(frozen=True, kw_only=True)
class ChartLine:
    """Points of one line, in the order of x; those that are no number are left out.

    Args:
        name: for the tooltip of its points.
        of: class of the style sheet: `first` or `second`.
    """

    name: str
    points: Sequence[tuple[float, float]]
    of: str = "first"


def line_chart(
    title: str,
    lines: Sequence[ChartLine],
    *,
    y_range: tuple[float, float] | None = None,
    x_name: str = "step",
    size: tuple[int, int] = (300, 150),
) -> str:
    """An SVG element.

    Args:
        y_range: None for that of the points.
        x_name: what x is.
        size: width and height in pixels.
    """
    wide, high = size
    known = [
        ChartLine(name=one.name, of=one.of, points=[p for p in one.points if all(map(math.isfinite, p))])
        for one in lines
    ]
    xs = [x for one in known for x, _ in one.points] or [0.0]
    ys = [y for one in known for _, y in one.points] or [0.0]
    x_low, x_high = min(0.0, *xs) if len(xs) > 1 else min(0.0, xs[0]), max(max(xs), 1e-9)
    y_low, y_high = (min(ys), max(ys)) if y_range is None else y_range
    y_high = y_high if y_high > y_low else y_low + 1

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / (x_high - x_low)
        up = (min(max(y, y_low), y_high) - y_low) / (y_high - y_low)
        return LEFT + across * (wide - LEFT - RIGHT), high - BOTTOM - up * (high - TOP - BOTTOM)

    parts = [f'<text class="roi-name" x="{LEFT}" y="14">{escaped_text(title)}</text>']
    for value in (y_low, (y_low + y_high) / 2, y_high):
        _, y = at(x_low, value)
        parts.append(f'<line class="grid-line" x1="{LEFT}" x2="{wide - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    parts.append(f'<text x="{LEFT}" y="{high - 6}">{x_low:g}</text>')
    parts.append(
        f'<text x="{wide - RIGHT}" y="{high - 6}" text-anchor="end">{escaped_text(x_name)} {x_high:g}</text>'
    )
    for one in known:
        places = [at(x, y) for x, y in one.points]
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline class="{one.of}" style="fill:none;stroke-width:2" points="{joined}"/>')
        for (x, y), (value_x, value_y) in zip(places, one.points, strict=True):
            tooltip = escaped_text(f"{one.name}: {value_y:.4g} at {x_name} {value_x:g}")
            parts.append(
                f'<circle class="{one.of}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"><title>{tooltip}</title></circle>'
            )
    inside = "".join(parts)
    return f'<svg viewBox="0 0 {wide} {high}" style="width:{wide}px" role="img">{inside}</svg>'
