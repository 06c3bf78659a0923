"""What limits a ROI, from validation curves made by hand."""

from __future__ import annotations

import math

import pytest

from contour_ai.training.limiting import gain_of_last_third, what_limits
from contour_ai.training.validation import Score


def score(step: int, dice: float, patients: tuple[float, ...] = (0.7, 0.7)) -> Score:
    every = {f"P{n}": {"Rectum": value} for n, value in enumerate(patients)}
    return Score(step=step, elapsed_s=10.0 * step, loss=0.1, rate=1e-3, dice={"Rectum": dice}, patients=every)


FLAT = [score(100 * n, 0.7) for n in range(1, 10)]
RISING = [score(100 * n, 0.3 + 0.05 * n) for n in range(1, 10)]


@pytest.mark.parametrize(
    ("scores", "last", "number", "epochs", "expected"),
    [
        (RISING, (0.74, 0.76), 50, 40.0, "time"),
        (FLAT, (0.69, 0.71), 50, 2.0, "time"),
        (FLAT, (0.69, 0.71), 5, 8.0, "time"),
        (FLAT, (0.0, 0.0), 8, 40.0, "time"),
        (FLAT, (0.69, 0.71), 8, 40.0, "patients"),
        (FLAT, (0.69, 0.71), 60, 40.0, "patients"),
        (FLAT, (0.35, 0.85, 0.9), 60, 40.0, "contours"),
        (FLAT, (0.35, 0.85, 0.9), 12, 40.0, "patients"),
        (FLAT, (0.93, 0.95), 60, 40.0, None),
    ],
)
def test_what_limits(
    scores: list[Score], last: tuple[float, ...], number: int, epochs: float, expected: str | None
) -> None:
    final = score(900, sum(last) / len(last), last)
    found = what_limits(scores, final, {"Rectum": number}, epochs)
    assert [one.limit for one in found] == ([] if expected is None else [expected])
    if expected == "contours":
        assert found[0].look_at[0] == "P0" and "0.35 to 0.90 between patients" in found[0].reason
    if expected == "patients":
        assert f"{number} patients" in found[0].reason


def test_the_gain_of_the_last_third() -> None:
    assert gain_of_last_third(RISING, "Rectum") == pytest.approx(0.15)
    assert gain_of_last_third(FLAT, "Rectum") == 0.0
    assert gain_of_last_third(RISING[:2], "Rectum") == 0.0, "two validations are no curve"
    assert gain_of_last_third([score(1, math.nan), *FLAT], "Bladder") == 0.0


def test_a_roi_without_validation_patients_is_not_judged() -> None:
    final = Score(step=900, elapsed_s=1.0, loss=0.1, rate=1e-3, dice={"Rectum": math.nan}, patients={})
    assert what_limits(FLAT, final, {"Rectum": 3}, 40.0) == ()
