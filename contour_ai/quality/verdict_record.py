"""Verdicts and findings as they stand in `summary.json` and `review.json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from contour_ai.quality.flag import Flag


@dataclass(frozen=True, kw_only=True)
class SummaryFlag:
    """A quality finding: what was found, its limits, and where."""

    code: str
    reason: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str = ""
    slices_from_1: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class JudgedRoi:
    """What `summary.json` and `review.json` both say of a ROI."""

    verdict: str = ""
    """`clear`, `look` or `stop`; "" in summaries of version 0.1."""
    findings: tuple[SummaryFlag, ...] = ()
    """Reasons of the verdict, the most important first."""
    volume_cm3: float = 0.0
    slices_from_1: tuple[int, int] | None = None
    """First and last slice with a contour, along the slice normal."""


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
