"""Time budgets are planned into the schedule, also where a training goes on."""

from __future__ import annotations

import pytest

from contour_ai.training import clock as module
from contour_ai.training.clock import FINISH_S, Clock


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be set."""
    time = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: time[0])
    return time


def test_by_steps(now: list[float]) -> None:
    clock = Clock(10, None, step=4, elapsed_s=7.0)
    now[0] += 3
    clock.tick()
    assert (clock.done, clock.step, clock.elapsed_s, clock.seconds_per_step) == (0.5, 5, 10.0, 3.0)
    assert clock.left_s == 15.0 and clock.budget_left_s is None


def test_a_budget_leaves_time_for_the_last_validation(now: list[float]) -> None:
    clock = Clock(10, 100.0, validation_steps=15)
    now[0] += 2
    clock.tick()
    assert clock.done == pytest.approx(2 / (100 - 2 - 15 * 2 - FINISH_S))
    now[0] += 10
    clock.validated()
    assert clock.done == pytest.approx(12 / (100 - 2 - 1.2 * 10 - FINISH_S))
    assert clock.seconds_per_step == 2.0 and clock.budget_left_s == 88.0
    now[0] += 72
    clock.tick()
    assert clock.done == 1.0


def test_a_slow_validation_never_turns_the_schedule_back(now: list[float]) -> None:
    clock = Clock(10, 100.0, validation_steps=30)
    now[0] += 2
    clock.tick()
    before = clock.done
    clock._validation_steps = 0
    assert clock.done == before


def test_going_on_takes_the_rest_of_the_schedule_into_the_time_given(now: list[float]) -> None:
    clock = Clock(10, 155.0, step=50, elapsed_s=1000.0, done=0.6, validation_steps=0)
    assert clock.done == 0.6
    now[0] += 50
    clock.tick()
    # Of 155 s, 5 are kept for writing and 50 for a step as long as this one.
    assert clock.done == pytest.approx(0.8) and clock.elapsed_s == 1050.0
    now[0] += 50
    clock.tick()
    assert clock.done == pytest.approx(1.0)
