"""Limits: read, refused, kept and not kept, with the patients concerned."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from contour_ai.errors import ConfigError
from contour_ai.evaluation.limits import EXAMPLE, Check, Limits, check_limits, load_limits
from contour_ai.evaluation.metrics import BOTH, PREDICTION_MISSING, REFERENCE_MISSING, RoiMetrics, Row


def limits_of(tmp_path: Path, text: str) -> Limits:
    path = tmp_path / "limits.yaml"
    path.write_text(text, encoding="utf-8")
    return load_limits(path)


def rows(values: dict[str, float], roi: str = "Gland") -> list[Row]:
    return [
        Row.of(
            p, RoiMetrics(roi=roi, status=BOTH, reference_cm3=1, predicted_cm3=1, dsc=v, hd95_mm=10 * (1 - v))
        )
        for p, v in values.items()
    ]


def by_rule(checks: tuple[Check, ...]) -> dict[str, Check]:
    return {f"{check.subject}: {check.rule}": check for check in checks}


def test_the_example_is_a_valid_file(tmp_path: Path) -> None:
    limits = limits_of(tmp_path, EXAMPLE)
    assert limits.minimum_patients == 10
    assert limits.rois["Brainstem"].figures["dsc"].median_at_least == 0.8
    assert limits.rois["Parotid_L"].missing_at_most == 1


def test_kept_and_not_kept(tmp_path: Path) -> None:
    limits = limits_of(
        tmp_path,
        "minimum_patients: 3\n"
        "rois:\n"
        "  Gland:\n"
        "    dsc: {median_at_least: 0.8, mean_at_least: 0.8, each_at_least: 0.6}\n"
        "    hd95_mm: {median_at_most: 2, each_at_most: 5}\n",
    )
    found = by_rule(check_limits(rows({"a": 0.9, "b": 0.8, "c": 0.55, "d": 0.85}), limits))
    verdicts = {rule: (c.passed, c.found, c.detail) for rule, c in found.items()}
    assert verdicts == {
        "Gland: at least 3 patients with a reference": (True, "4", ""),
        "Gland: at most 0 without a prediction": (True, "0", ""),
        "Gland: median dsc at least 0.8": (True, "0.825", ""),
        "Gland: mean dsc at least 0.8": (False, "0.775", ""),
        "Gland: each dsc at least 0.6": (False, "0.550 (c)", "c"),
        "Gland: median hd95_mm at most 2": (True, "1.750", ""),
        "Gland: each hd95_mm at most 5": (True, "4.500 (c)", ""),
    }


def test_missing_predictions_fail_and_stay_in_the_figures(tmp_path: Path) -> None:
    text = "rois: {Gland: {hd95_mm: {mean_at_most: 9, each_at_most: 9}, missing_at_most: %d}}\n"
    lost = RoiMetrics(
        roi="Gland", status=PREDICTION_MISSING, reference_cm3=1, predicted_cm3=0, dsc=0, hd95_mm=math.inf
    )
    given = [*rows({"a": 0.9}), Row.of("b", lost)]
    found = by_rule(check_limits(given, limits_of(tmp_path, text % 0)))
    missing = found["Gland: at most 0 without a prediction"]
    assert (missing.passed, missing.found, missing.detail) == (False, "1", "b")
    assert found["Gland: mean hd95_mm at most 9"].found == "∞"
    assert not found["Gland: mean hd95_mm at most 9"].passed
    assert found["Gland: each hd95_mm at most 9"].detail == "b"
    assert check_limits(given, limits_of(tmp_path, text % 1))[1].passed


def test_a_roi_that_nobody_has_fails(tmp_path: Path) -> None:
    limits = limits_of(tmp_path, "rois: {Cord: {dsc: {median_at_least: 0.1, each_at_least: 0.1}}}\n")
    alone = Row.of("a", RoiMetrics(roi="Cord", status=REFERENCE_MISSING, reference_cm3=0, predicted_cm3=1))
    checks = check_limits([*rows({"a": 1.0}), alone], limits)
    assert [c.passed for c in checks] == [False, True, False, False]
    assert checks[2].found == "–"


def test_a_roi_may_have_its_own_counts(tmp_path: Path) -> None:
    limits = limits_of(tmp_path, "minimum_patients: 9\nrois: {Gland: {minimum_patients: 1}}\n")
    assert check_limits(rows({"a": 1.0}), limits)[0].passed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be a mapping"),
        ("minimum_patients: 3", "There are no limits"),
        ("rois: {Gland: {dcs: {median_at_least: 1}}}", "did you mean 'rois.Gland.dsc'"),
        ("rois: {Gland: {dsc: {median_atleast: 1}}}", "Unknown key"),
        ("rois: {Gland: {dsc: {median_at_least: high}}}", "does not fit"),
        ("rois: [", "not valid YAML"),
    ],
)
def test_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        limits_of(tmp_path, text)


def test_a_missing_file_says_how_to_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--example-limits"):
        load_limits(tmp_path / "nowhere.yaml")
