"""Paired comparison: who is better where, and p values worked by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from contour_ai.evaluation.comparison import compare, holm, signed_rank_p
from contour_ai.evaluation.metrics import BOTH, PREDICTION_MISSING, REFERENCE_MISSING, RoiMetrics, Row


def rows(values: list[float], roi: str = "X", status: str = BOTH) -> list[Row]:
    return [
        Row.of(
            f"p{n}",
            RoiMetrics(
                roi=roi,
                status=status,
                reference_cm3=1,
                predicted_cm3=1,
                dsc=v,
                surface_dsc=v,
                hd95_mm=1 - v,
                masd_mm=1,
                added_path_mm=1,
            ),
        )
        for n, v in enumerate(values)
    ]


def test_p_of_six_patients_that_all_improve() -> None:
    # All six differences have one sign: 2 of the 2^6 sign patterns are as extreme.
    assert signed_rank_p([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]) == pytest.approx(2 / 64)
    assert signed_rank_p([0.1, 0.2, 0.3, 0.4, 0.5, math.inf]) == pytest.approx(2 / 64)
    # The smallest the other way: rank sums 1 and 20; 4 patterns have the smaller one at most 1.
    assert signed_rank_p([-0.1, 0.2, 0.3, 0.4, 0.5, 0.6]) == pytest.approx(4 / 64)
    assert signed_rank_p([0.0, 0.0]) == 1
    assert math.isnan(signed_rank_p([]))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1, 1])
    assert holm([]) == []


def test_better_means_higher_dice_and_smaller_distance() -> None:
    first = rows([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    second = rows([0.8, 0.7, 0.6, 0.5, 0.4, 0.2])
    found = {c.figure: c for c in compare(first, second)}
    for figure in ("dsc", "hd95_mm"):
        c = found[figure]
        assert (c.n, c.first_better, c.second_better, c.equal) == (6, 6, 0, 0)
        assert c.p == pytest.approx(2 / 64)
    assert found["dsc"].median_difference == pytest.approx(0.1)
    assert found["hd95_mm"].median_difference == pytest.approx(-0.1)
    assert (found["masd_mm"].equal, found["masd_mm"].p) == (6, 1)


def test_missing_predictions_stay_in_and_missing_references_out() -> None:
    lost = RoiMetrics(
        roi="X",
        status=PREDICTION_MISSING,
        reference_cm3=1,
        predicted_cm3=0,
        dsc=0,
        surface_dsc=0,
        hd95_mm=math.inf,
        masd_mm=math.inf,
    )
    lost = replace(lost, added_path_mm=9)
    first = [*rows([0.9]), Row.of("p1", lost), Row.of("p2", lost), *rows([0.5], "Z", REFERENCE_MISSING)]
    second = [*rows([0.9, 0.5]), Row.of("p2", lost), *rows([0.5], "Z"), Row.of("elsewhere", lost)]
    found = {(c.roi, c.figure): c for c in compare(first, second)}
    assert {roi for roi, _ in found} == {"X"}
    c = found["X", "hd95_mm"]
    assert (c.n, c.first_better, c.second_better, c.equal) == (3, 0, 1, 2)
    assert c.first_median == math.inf


def test_holm_counts_the_rois() -> None:
    first = rows([0.9, 0.8, 0.7, 0.6, 0.5, 0.4]) + rows([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], "Y")
    second = rows([0.1] * 6) + rows([0.1] * 6, "Y")
    dsc = [c for c in compare(first, second) if c.figure == "dsc"]
    assert [c.p_holm for c in dsc] == pytest.approx([4 / 64, 4 / 64])
