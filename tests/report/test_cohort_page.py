"""The page of many patients: what is in it, and in a browser the boxes, outliers and links."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from browser import browser, needs_browser

from contour_ai.evaluation.comparison import compare
from contour_ai.evaluation.metrics import BOTH, PREDICTION_MISSING, REFERENCE_MISSING, RoiMetrics, Row
from contour_ai.report.cohort import CohortPage, cohort_content, write_cohort_report

VALUES = [0.80, 0.82, 0.81, 0.83, 0.84, 0.82, 0.81, 0.40]


def rows(shift: float = 0.0) -> list[Row]:
    found = [
        Row.of(
            f"p{n}",
            RoiMetrics(
                roi="Gland",
                status=BOTH,
                reference_cm3=1,
                predicted_cm3=1,
                dsc=v + shift,
                surface_dsc=v,
                hd95_mm=1 - v,
                masd_mm=v,
            ),
        )
        for n, v in enumerate(VALUES)
    ]
    lost = RoiMetrics(
        roi="Gland",
        status=PREDICTION_MISSING,
        reference_cm3=1,
        predicted_cm3=0,
        dsc=0,
        surface_dsc=0,
        hd95_mm=math.inf,
        masd_mm=math.inf,
    )
    return [
        *found,
        Row.of("lost", lost),
        Row.of("p0", RoiMetrics(roi="<Cord>", status=REFERENCE_MISSING, reference_cm3=0, predicted_cm3=1)),
    ]


def page() -> CohortPage:
    first, second = rows(), rows(0.05)
    links = {f"p{n}": f"patients/p{n}.html" for n in range(8)}
    return CohortPage(
        title="Two <models>",
        subtitle="8 patients",
        rows=first,
        versus=second,
        labels=("A", "B"),
        comparison=compare(first, second),
        links=links,
        notes=["a note"],
    )


def test_content() -> None:
    content = cohort_content(page())
    assert content["rois"] == ["Gland", "<Cord>"]
    assert [f["name"] for f in content["figures"]][:3] == ["dsc", "surface_dsc", "hd95_mm"]
    assert [f["higherIsBetter"] for f in content["figures"]][:3] == [True, True, False]
    lost = next(r for r in content["rows"] if r["patient"] == "lost")
    assert (lost["values"]["hd95_mm"], lost["scored"]) == ("inf", True)
    assert [r["scored"] for r in content["rows"] if r["roi"] == "<Cord>"] == [False, False]
    summary = content["summary"][0]
    assert (summary["side"], summary["n"], summary["prediction_missing"]) == ("first", 9, 1)
    assert content["comparison"][0]["second_better"] == 8


@needs_browser
def test_in_a_browser(tmp_path: Path) -> None:
    path = tmp_path / "cohort.html"
    write_cohort_report(path, page())
    with browser(tmp_path / "profile") as tab:
        tab.open(path)
        tab.wait("document.body?.dataset.ready")
        assert tab.complaints() == []
        assert tab.requests() == [path.resolve().as_uri()]
        assert tab.run("document.querySelector('h1').textContent") == "Two <models>"
        outliers = tab.run(
            "[...document.querySelectorAll('g.first[data-roi=Gland] .outlier title')].map((t) => t.textContent)"
        )
        assert outliers == ["p7, Gland: DSC 0.400", "lost, Gland: DSC 0.000"]
        link = "document.querySelector('g.first[data-roi=Gland] a:has(.outlier)').getAttribute('href')"
        assert tab.run(link) == "patients/p7.html"
        box = tab.run("boxOf(valuesOf('Gland', 'first'))")
        scored = [*VALUES, 0.0]
        assert (box["q1"], box["median"], box["q3"]) == pytest.approx(np.quantile(scored, (0.25, 0.5, 0.75)))
        assert (box["low"], box["high"]) == (0.80, 0.84)
        worst = tab.run("document.querySelector('#summary tbody tr').lastChild.textContent")
        assert worst == "lost 0.000, p7 0.400, p0 0.800"
        tab.run("choose(data.figures[2])")
        worst = tab.run("document.querySelector('#summary tbody tr').lastChild.textContent")
        assert worst == "lost ∞, p7 0.6, p0 0.2"
        tab.screenshot(tmp_path / "cohort.png")


@needs_browser
def test_a_good_dice_is_not_alarming_because_others_are_better(tmp_path: Path) -> None:
    values = {"best": 0.97, "worst": 0.93, "poor": 0.30}
    found = [
        Row.of(
            name,
            RoiMetrics(roi="Gland", status=BOTH, reference_cm3=1, predicted_cm3=v, dsc=v, volume_ratio=1.0),
        )
        for name, v in values.items()
    ]
    write_cohort_report(tmp_path / "cohort.html", CohortPage(title="t", subtitle="s", rows=found))
    with browser(tmp_path / "profile") as tab:
        tab.open(tmp_path / "cohort.html")
        tab.wait("document.body?.dataset.ready")
        cells = "[...document.querySelectorAll('#patients tbody td:nth-child(2)')]"
        colors = tab.run(f"{cells}.map((c) => c.style.background.match(/\\d+/g).map(Number))")
        assert colors[0] == colors[1], "0.93 and 0.97 are both good"
        assert colors[0][2] > colors[0][0] + 50, "blue"
        assert colors[2][0] > colors[2][2] + 50, "orange"
        assert "0.9 and more blue" in tab.run("document.getElementById('colors').textContent")
        assert tab.run(f"{cells}[1].title") == "worst, Gland: DSC 0.930"
        tab.run("choose(data.figures.find((f) => f.name === 'volume_ratio'))")
        assert tab.run(f"{cells}.map((c) => c.style.background)") == ["", "", ""], "no outlier, no colour"
        head = tab.run("document.querySelector('#summary thead').textContent")
        assert "volume ratio: median [first, third quartile]" in head and "95 % interval of the mean" in head
