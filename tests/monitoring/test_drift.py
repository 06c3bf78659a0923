"""Simulated drifts of spheres, measured as `monitor` measures, are found within what the charts promise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from contour_ai.evaluation.metrics import roi_metrics
from contour_ai.grid import Grid
from contour_ai.monitoring.charts import promise_for
from contour_ai.monitoring.records import COMPARED, Edit
from contour_ai.monitoring.summary import roi_charts, unlooked

GRID = Grid.axial((20, 44, 44), (3.0, 1.0, 1.0), (-21.5, -21.5, -28.5))
POINTS = GRID.index_to_lps(np.argwhere(np.ones(GRID.shape_kij, bool)))
USUAL_ERROR_MM = 0.6
"""Standard deviation of the AI's radius."""
A_MONTH = 10
STILL = 40
"""Patients before the change."""


def ball(centre: Sequence[float], radius: float) -> np.ndarray:
    return (((POINTS - centre) ** 2).sum(axis=1) < radius**2).reshape(GRID.shape_kij)


def edit(
    number: int, rng: np.random.Generator, *, grown_mm: float = 0.0, aside_mm: float = 0.0, **said: str
) -> Edit:
    """A patient whose organ is a sphere of 12 to 16 mm; the AI's is a little off, and wrong as asked for."""
    radius, centre = rng.uniform(12, 16), rng.uniform(-0.5, 0.5, 3)
    drawn = ball(
        centre + rng.normal(0, 0.3, 3) + [aside_mm, 0, 0], radius + rng.normal(0, USUAL_ERROR_MM) + grown_mm
    )
    m = roi_metrics(drawn, ball(centre, radius), GRID, roi="Parotid_L", tau_mm=2.0)
    base = Edit(
        patient=f"P{number:03d}",
        series_uid=str(number),
        date=f"2026-{number // A_MONTH + 1:02d}-{number % A_MONTH + 1:02d}",
        roi="Parotid_L",
        model="head 1.0",
        scanner="A",
        reviewer="R-1",
        verdict="clear",
        status=COMPARED,
        untouched=False,
        dsc=m.dsc,
        surface_dsc=m.surface_dsc,
        tau_mm=2.0,
        hd95_mm=m.hd95_mm,
        added_path_mm=m.added_path_mm,
        volume_ratio=m.volume_ratio,
        edited_slices=1,
        slices=2,
    )
    return replace(base, **said)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [3, 4])
def test_a_new_model_a_changed_scanner_and_a_slow_growth_are_found_in_time(seed: int) -> None:
    rng = np.random.default_rng(seed)
    still = [edit(n, rng) for n in range(STILL)]
    assert found_after(still) is None  # no false alarm in these patients
    model = [edit(STILL + n, rng, grown_mm=1.0, model="head 1.1") for n in range(15)]
    scanner = [edit(STILL + n, rng, aside_mm=1.5, scanner="B") for n in range(15)]
    growing = [edit(STILL + n, rng, grown_mm=0.2 * (n + 1) / A_MONTH) for n in range(45)]
    promise = promise_for(20).shift  # for one standard deviation; the first two shifts are larger
    assert (found_after(still + model) or 99) <= promise
    assert (found_after(still + scanner) or 99) <= promise
    # After so many patients the growth has reached one standard deviation.
    until = A_MONTH * USUAL_ERROR_MM / 0.2
    assert (found_after(still + growing) or 99) <= until + promise


def found_after(edits: Sequence[Edit]) -> int | None:
    """At which patient after the change a chart alarms first; None: none does."""
    alarms = [alarm.index for one in roi_charts(edits) for alarm in one.chart.alarms]
    return min(alarms) - STILL + 1 if alarms else None


def test_what_was_approved_unchanged_although_its_verdict_was_look_is_counted_by_reviewer_and_month() -> None:
    one = edit(0, np.random.default_rng(0))
    edits = [
        replace(one, verdict="look", untouched=True),
        replace(one, verdict="look", untouched=False),
        replace(one, verdict="clear", untouched=True),
        replace(one, verdict="look", untouched=True, date="2026-02-01"),
        replace(one, verdict="look", untouched=True, reviewer="R-2"),
        replace(one, verdict="look", untouched=True, status="removed"),
    ]
    found = [(u.reviewer, u.month, u.rois, u.look, u.look_untouched, u.untouched) for u in unlooked(edits)]
    assert found == [
        ("R-1", "2026-01", 3, 2, 1, 2),
        ("R-1", "2026-02", 1, 1, 1, 1),
        ("R-2", "2026-01", 1, 1, 1, 1),
    ]
