"""The sentences of quality findings: numbers, limits and places in words."""

from __future__ import annotations

from contour_ai.quality.ranges import Figure


def range_reason(figure: Figure, value: float, limits: tuple[float, float]) -> str:
    unit = f" {figure.unit}" if figure.unit else ""
    if figure.directions is not None:
        low, high = (_placed(limit, figure.directions) for limit in limits)
        return f"lies {_placed(value, figure.directions)} {figure.words}, usual {low} to {high} it"
    if figure.share:
        usual = f"{limits[0]:.0%} to {limits[1]:.0%}" if figure.low else at_most(limits[1], "%")
        return f"{figure.words} is {value:.0%}, usual {usual}"
    found, low, high = (_measured(n, figure.unit) for n in (value, *limits))
    if not figure.low:
        return f"{figure.words} is {found}{unit}, usual at most {high}{unit}"
    if not figure.high:
        return f"{figure.words} is {found}{unit}, usual at least {low}{unit}"
    return f"{figure.words} is {found}{unit}, usual {low} to {high}{unit}"


def _measured(value: float, unit: str) -> str:
    """Volumes with the decimal that they have in every table."""
    return f"{value:.1f}" if unit == "cm3" and abs(value) >= 1 else _plain(value)


def _placed(distance_mm: float, directions: tuple[str, str]) -> str:
    return f"{_plain(abs(distance_mm))} mm {directions[distance_mm < 0]}"


def at_most(limit: float, unit: str = "") -> str:
    return f"at most {limit:.0%}" if unit == "%" else f"at most {_plain(limit)}"


def _plain(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 10 else f"{value:.2g}"
