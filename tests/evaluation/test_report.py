"""Summaries count what is missing and never drop it; files keep their columns."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from contour_ai.evaluation.comparison import compare
from contour_ai.evaluation.metrics import Row, roi_metrics
from contour_ai.evaluation.report import quantile, spread_of, summarise, write_report
from contour_ai.grid import Grid

GRID = Grid.axial((4, 10, 10), (3, 1, 1))


def row(patient: str, roi: str, width: int | None, reference: int | None = 4) -> Row:
    """A patient whose prediction is `width` columns of a box and whose reference is `reference` columns."""

    def mask(columns: int | None) -> np.ndarray | None:
        if columns is None:
            return None
        m = np.zeros(GRID.shape_kij, bool)
        m[1:3, 2:6, 2 : 2 + columns] = True
        return m

    return Row.of(patient, roi_metrics(mask(width), mask(reference), GRID, roi=roi))


ROWS = [
    row("a", "X", 4),
    row("b", "X", 2),
    row("c", "X", None),
    row("d", "X", 4, None),
    row("e", "X", 3),
    row("a", "Y", 4, None),
]


def test_missing_ones_are_counted_and_stay_in_the_mean() -> None:
    x, y = summarise(ROWS)
    assert (x.roi, x.n, x.prediction_missing, x.reference_missing) == ("X", 4, 1, 1)
    expected = [1, 2 * 2 / 6, 0, 2 * 3 / 7]
    assert x.spread["dsc"].mean == pytest.approx(np.mean(expected))
    assert x.spread["dsc"].median == pytest.approx(np.median(expected))
    assert x.spread["hd95_mm"].mean == math.inf
    assert math.isfinite(x.spread["hd95_mm"].median)
    assert [patient for patient, _ in x.worst] == ["c", "b", "e"]
    assert (y.n, y.reference_missing) == (0, 1)
    assert math.isnan(y.spread["dsc"].mean)
    assert y.worst == ()


def test_quantiles() -> None:
    values = [5.0, 1.0, 2.0, 8.0]
    for share in (0, 0.25, 0.5, 0.6, 1):
        assert quantile(values, share) == pytest.approx(np.quantile(values, share))
    assert quantile([1, math.inf], 0.5) == math.inf
    assert quantile([1, 2, math.inf], 0.5) == 2
    assert quantile([math.inf, math.inf], 0.5) == math.inf
    assert math.isnan(quantile([], 0.5))


def test_bootstrap_intervals() -> None:
    # Of n values with standard deviation 1 the mean has one of 1/sqrt(n): the interval is near 2 * 1.96 of it wide.
    values = np.random.RandomState(0).normal(5, 1, 400)
    s = spread_of(values.tolist())
    assert s.mean_low < s.mean < s.mean_high
    assert s.mean_high - s.mean_low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert s.median_low <= s.median <= s.median_high
    assert s == spread_of(values.tolist())
    two = spread_of([1.0, 3.0])
    assert (two.mean_low, two.mean_high) == (1, 3)
    one = spread_of([1.0])
    assert one.mean == 1
    assert math.isnan(one.mean_low)
    lost = spread_of([1.0, 2.0, 3.0, 4.0, math.inf])
    assert (lost.median, lost.mean, lost.mean_high) == (3, math.inf, math.inf)
    assert lost.median_low < math.inf


def test_comparison_file(tmp_path: Path) -> None:
    better = [row("a", "X", 4), row("b", "X", 4), row("c", "X", 4)]
    write_report(tmp_path, ROWS, (), compare(ROWS, better))
    with (tmp_path / "comparison.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == [
        "roi",
        "figure",
        "n",
        "first_median",
        "second_median",
        "median_difference",
        "first_better",
        "second_better",
        "equal",
        "p",
        "p_holm",
    ]
    assert (lines[0]["roi"], lines[0]["figure"], lines[0]["n"]) == ("X", "dsc", "3")
    content = json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))
    assert content["comparison"][0]["second_better"] == 2


def test_columns_are_those_that_are_documented(tmp_path: Path) -> None:
    """Departments' scripts read them: a column that moves or changes its name breaks these."""
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    write_report(tmp_path, ROWS, (), compare(ROWS, ROWS))

    def header(name: str) -> list[str]:
        return (tmp_path / name).read_text(encoding="utf-8").splitlines()[0].split(",")

    def documented(name: str, ends: str) -> list[str]:
        text = page.split(f"**`{name}`**")[1].split(ends)[0].split(": ", 1)[1]
        return re.findall(r"`(\w+)`", text)

    assert documented("metrics.csv", "`patient` is the") == header("metrics.csv")
    assert documented("comparison.csv", "Patients are paired") == header("comparison.csv")
    figures = re.findall(r"`(\w+)`", page.split("for each of ")[1].split(" the eight")[0])
    parts = re.findall(r"`…_(\w+)`", page)
    spread = [f"{figure}_{part}" for figure in figures for part in parts]
    assert documented("summary.csv", "; then") + spread + ["worst"] == header("summary.csv")


def test_files(tmp_path: Path) -> None:
    write_report(tmp_path, ROWS, ["a note"])
    with (tmp_path / "metrics.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["patient"] for line in lines] == [r.patient for r in ROWS]
    assert lines[2]["hd95_mm"] == "inf"
    assert lines[3]["dsc"] == ""
    assert list(lines[0])[:6] == ["patient", "roi", "status", "reference_cm3", "predicted_cm3", "dsc"]
    with (tmp_path / "summary.csv").open(encoding="utf-8", newline="") as file:
        summary = list(csv.DictReader(file))
    assert summary[0]["n"] == "4"
    assert summary[0]["worst"] == "c 0.000; b 0.667; e 0.857"
    content = json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))
    assert content["rows"][2]["hd95_mm"] == "inf"
    assert content["rows"][3]["dsc"] is None
    assert content["notes"] == ["a note"]
    assert "surface_dsc" in content["definitions"]
    assert content["summary"][0]["spread"]["dsc"]["mean"] == pytest.approx(
        np.mean([1, 4 / 6, 0, 6 / 7]), abs=1e-6
    )
