"""The sentences of quality findings: numbers, limits and places in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from contour_ai.quality.ranges import Figure

MOST_FIGURE_DECIMALS = 4


def range_reason(figure: Figure, value: float, limits: tuple[float, float]) -> str:
    """A figure and its limits in words; a number never reads like the limit that it exceeds."""
    unit = f" {figure.unit}" if figure.unit else ""
    directions = figure.directions
    if directions is not None:
        found, low, high = distinct(value, limits, lambda n, more: _placed(n, directions, more))
        return f"lies {found} {figure.words}, usual {low} to {high} it"
    if figure.share:
        found, low, high = distinct(value, limits, _percent)
        usual = f"{low} to {high}" if figure.low else f"at most {high}"
        return f"{figure.words} is {found}, usual {usual}"
    found, low, high = distinct(value, limits, lambda n, more: _measured(n, figure.unit, more))
    if not figure.low:
        return f"{figure.words} is {found}{unit}, usual at most {high}{unit}"
    if not figure.high:
        return f"{figure.words} is {found}{unit}, usual at least {low}{unit}"
    return f"{figure.words} is {found}{unit}, usual {low} to {high}{unit}"


def share_beyond(value: float, limit: float) -> tuple[str, str]:
    """A share and the limit that it exceeds, in per cent."""
    found, at = distinct(value, (limit,), _percent)
    return found, at


def distinct(value: float, limits: Sequence[float], write: Callable[[float, int | None], str]) -> list[str]:
    """A number and its limits as text, with decimals enough that it reads like none of them unless it is one.

    Args:
        write: a number with so many decimals; None for as many as usual.
    """
    texts = [write(n, None) for n in (value, *limits)]
    for decimals in range(1, MOST_FIGURE_DECIMALS + 1):
        if texts[0] not in texts[1:] or value in limits:
            break
        texts = [write(n, decimals) for n in (value, *limits)]
    return texts


def _measured(value: float, unit: str, decimals: int | None = None) -> str:
    """Volumes with the decimal that they have in every table."""
    if decimals is not None:
        return f"{value:.{decimals}f}"
    return f"{value:.1f}" if unit == "cm3" and abs(value) >= 1 else _plain(value)


def _placed(distance_mm: float, directions: tuple[str, str], decimals: int | None = None) -> str:
    return f"{_measured(abs(distance_mm), 'mm', decimals)} mm {directions[distance_mm < 0]}"


def _percent(share: float, decimals: int | None) -> str:
    return f"{share:.{decimals or 0}%}"


DIRECTIONS = (("above", "below"), ("behind", "in front of"), ("left of", "right of"))
"""Words for the positive and the negative direction of the model grid's axes: superior, posterior, left."""


def direction_text(offset_mm: Sequence[float]) -> str:
    """Where something lies that is so far superior, posterior and left of another: "104 mm above"."""
    axis = max(range(3), key=lambda n: abs(offset_mm[n]))
    return f"{abs(offset_mm[axis]):.0f} mm {DIRECTIONS[axis][int(offset_mm[axis] < 0)]}"


def at_most(limit: float, unit: str = "") -> str:
    return f"at most {limit:.0%}" if unit == "%" else f"at most {_plain(limit)}"


def _plain(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 10 else f"{value:.2g}"
