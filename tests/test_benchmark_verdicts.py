"""The tables of benchmarks/verdicts.py."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from verdict_tables import GROSS, Judged, share_text, tables, wilson


def judged(what: str, verdict: str, roi: str = "Heart", volume_cm3: float = 5.0, detail: str = "") -> Judged:
    return Judged(
        patient="P1", roi=roi, what=what, detail=detail, volume_cm3=volume_cm3, verdict=verdict, reason="far"
    )


def test_intervals_are_those_of_wilson() -> None:
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


def test_a_share_is_of_those_that_are_not_clear() -> None:
    found = [judged("good", verdict) for verdict in ("clear", "look", "stop", "clear")]
    assert share_text(found) == "50 (15 to 85) of 4"
    assert share_text(found, ("stop",)).startswith("25 ")
    assert share_text([]) == ""


def test_tables_count_by_kind_roi_and_size() -> None:
    found = [judged("good", "clear"), judged("speckled", "look", "Liver", 30.0), judged(GROSS, "stop")]
    lines = tables(found, [judged("wrong", "stop", volume_cm3=151.2)], 1).splitlines()
    assert lines[0].startswith("1 patients.")
    assert "| **the four kinds that are judged** | 100 (21 to 100) of 1 |" in lines
    assert "| grossly wrong, `stop` | 100 (21 to 100) of 1 |" in lines
    assert any(line.startswith("| Liver |") for line in lines)
    assert "| 20 to 40 cm³ |  |  |  | 100 (21 to 100) of 1 |  |" in lines
    assert lines[-1] == "| P1, Heart | 151 | `stop` | far |"
