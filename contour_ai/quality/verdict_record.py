"""Verdicts and findings as they stand in `summary.json` and `review.json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from contour_ai.quality.flag import Flag


@dataclass(frozen=True, kw_only=True)
class SummaryFlag:
    """A quality finding: what was found, its limits, and where."""

    code: str
    """What was found, for programs; docs/flags.md lists the codes. Codes stay from version to version."""
    reason: str
    """The same as a sentence, for people."""
    value: float | None = None
    """The figure that was measured, in `unit`; null where the finding has none."""
    low: float | None = None
    """Its lower limit, in `unit`; null for none."""
    high: float | None = None
    """Its upper limit, in `unit`; null for none."""
    unit: str = ""
    """Unit of value, low and high, such as mm, cm3 or HU; "" for shares (0 to 1), counts and ratios."""
    slices_from_1: tuple[int, ...] = ()
    """Slices concerned, counted from 1 along the slice normal; empty where it is none in particular."""


@dataclass(frozen=True, kw_only=True)
class JudgedRoi:
    """What `summary.json` and `review.json` both say of a ROI."""

    verdict: str = ""
    """`clear`, `look` or `stop`; "" in summaries of version 0.1."""
    findings: tuple[SummaryFlag, ...] = ()
    """Reasons of the verdict, the most important first."""
    volume_cm3: float = 0.0
    """Volume of the voxels inside, cm3."""
    slices_from_1: tuple[int, int] | None = None
    """First and last slice with a contour, counted from 1 along the slice normal; null where there is no contour."""


def summary_flags(flags: Sequence[Flag]) -> tuple[SummaryFlag, ...]:
    """Findings as they stand in `summary.json` and `review.json`."""
    return tuple(
        SummaryFlag(
            code=flag.code,
            reason=flag.reason,
            value=flag.value,
            low=flag.low,
            high=flag.high,
            unit=flag.unit,
            slices_from_1=flag.slices,
        )
        for flag in flags
    )
