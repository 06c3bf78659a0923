"""The patient's page: what is in it, and in a real browser what it shows, and how it answers to wheel, keys, clicks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import Tab, browser, needs_browser

from contour_ai.evaluation.metrics import roi_metrics
from contour_ai.grid import Grid
from contour_ai.polygons import stack_to_polygons
from contour_ai.report.patient import (
    PatientPage,
    ShownFlag,
    ShownRoi,
    points_up,
    slice_edges_mm,
    write_patient_report,
)
from contour_ai.structures import RoiInfo
from contour_ai.volume import Volume

SHAPE = (12, 60, 50)
GRID = Grid.axial(SHAPE, (3, 1, 2), (-50, -30, 100))
SCRIPT = "</script><b>Müller & Söhne</b>"


def boxed(k: tuple[int, int], i: tuple[int, int], j: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[slice(*k), slice(*i), slice(*j)] = True
    return mask


def page(**changes: object) -> PatientPage:
    """Water with a bone in it; a gland that is predicted and contoured, and a cord that is contoured only."""
    hu = np.full(SHAPE, -1000, np.int16)
    hu[:, 5:55, 5:45] = 0
    hu[4:8, 20:30, 10:20] = 800
    gland, reference = boxed((4, 8), (20, 30), (10, 20)), boxed((5, 9), (20, 30), (12, 22))
    cord = boxed((0, 12), (40, 44), (24, 28))
    rois = [
        ShownRoi(
            info=RoiInfo(name="Gland", color=(255, 0, 0)),
            predicted=stack_to_polygons(gland),
            reference=stack_to_polygons(reference),
            metrics=roi_metrics(gland, reference, GRID, roi="Gland"),
        ),
        ShownRoi(
            info=RoiInfo(name="Cord", color=(0, 255, 0)),
            predicted=None,
            reference=stack_to_polygons(cord),
            metrics=roi_metrics(None, cord, GRID, roi="Cord"),
        ),
    ]
    flags = [
        ShownFlag(
            roi="Gland", code="parts", reason="two separate parts", figure="2 (at most 1)", slices=(6, 7)
        ),
        ShownFlag(roi="", code="input_metal", reason="more metal than in training"),
    ]
    values = {
        "title": SCRIPT,
        "subtitle": "a model 1.0",
        "volume": Volume(hu, GRID),
        "rois": rois,
        "flags": flags,
        "provenance": {"Model": {"weights": "abc"}},
        "notes": ["a note"],
    }
    return PatientPage(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_patient_report(path, page())
    return path


def content_of(path: Path) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text("utf-8"))
    assert found is not None
    return json.loads(found[1])


def test_everything_is_inside_and_nothing_is_fetched(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!#)""", text)
    assert "http:" not in text
    assert "https:" not in text
    assert "default-src 'none'" in text
    assert "not for clinical use without review" in text
    assert SCRIPT not in text
    assert content_of(report)["title"] == SCRIPT


def test_content(report: Path) -> None:
    content = content_of(report)
    assert [view["name"] for view in content["views"]] == ["axial", "coronal", "sagittal"]
    assert content["views"][0]["letters"] == ["R", "L", "A", "P"]
    assert content["views"][1]["letters"] == ["R", "L", "S", "I"]
    assert content["views"][2]["letters"] == ["A", "P", "S", "I"]
    assert content["up"] is True
    assert content["views"][0]["positions"]["values"] == pytest.approx([100 + 3 * k for k in range(12)])
    assert content["flags"][0]["slices"] == [6, 7]
    gland, cord = content["rois"]
    assert (gland["color"], gland["figure"]) == ("#ff0000", "0.600")
    assert (cord["predicted"], cord["figure"]) == (None, "0.000")
    row = dict(
        zip([c["label"] for c in content["metrics"]["columns"]], content["metrics"]["rows"][1], strict=True)
    )
    assert (row["HD95 mm"], row["shift left mm"], row[""]) == ("∞", "–", "prediction missing")
    assert "surface_dsc" in content["definitions"]
    assert any("± 2 HU" in note for note in content["notes"])


def test_a_roi_without_a_reference_still_has_its_volume(tmp_path: Path) -> None:
    rois = [
        *page().rois,
        ShownRoi(
            info=RoiInfo(name="Larynx", color=(0, 0, 255)),
            predicted={},
            reference=None,
            metrics=None,
            volume_cm3=12.34,
        ),
    ]
    write_patient_report(tmp_path / "r.html", page(rois=rois))
    table = content_of(tmp_path / "r.html")["metrics"]
    row = dict(zip([c["label"] for c in table["columns"]], table["rows"][-1], strict=True))
    assert (row["ROI"], row["predicted cm³"], row["DSC"], row[""]) == (
        "Larynx",
        "12.3",
        "–",
        "reference missing",
    )


def test_other_orientations() -> None:
    coronal = Grid(
        shape_kij=(4, 5, 6),
        positions_lps=np.array([[0, 10.0 * k, 0] for k in range(4)]),
        step_i_lps=(0, 0, -1),
        step_j_lps=(1, 0, 0),
    )
    assert not points_up(coronal)
    uneven = Grid(
        shape_kij=(3, 5, 6),
        positions_lps=np.array([[0, 0, z] for z in (0, 2.0, 6.0)]),
        step_i_lps=(0, 1, 0),
        step_j_lps=(1, 0, 0),
    )
    assert slice_edges_mm(uneven) == pytest.approx([0, 2, 5, 9])
    single = Grid(
        shape_kij=(1, 5, 6),
        positions_lps=np.zeros((1, 3)),
        step_i_lps=(0, 1, 0),
        step_j_lps=(1, 0, 0),
        slice_thickness_mm=4,
    )
    assert slice_edges_mm(single) == pytest.approx([0, 4])


def test_without_contours_or_patient(tmp_path: Path) -> None:
    empty = Volume(np.full(SHAPE, -1000, np.int16), GRID)
    write_patient_report(tmp_path / "r.html", page(volume=empty, rois=[], flags=[], notes=[]))
    content = content_of(tmp_path / "r.html")
    assert content["metrics"]["rows"] == []
    assert content["views"][0]["start"] == 6


# -- in a browser ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tab(report: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        opened.open(report)
        opened.wait("document.body?.dataset.ready")
        opened.settle()
        yield opened


PIXEL = """(([axis, k, i, j]) => {
  const view = views.find((v) => v.axis === axis), scale = view.scale;
  const across = axis === "j" ? (i + .5) * DI : (j + .5) * DJ;
  const down = axis === "k" ? (i + .5) * DI : stackY((edges[k] + edges[k + 1]) / 2);
  const x = Math.round(scale * (across - view.middle[0]) + view.canvas.width / 2);
  const y = Math.round(scale * (down - view.middle[1]) + view.canvas.height / 2);
  const color = [...view.canvas.getContext("2d").getImageData(x, y, 1, 1).data].slice(0, 3);
  const box = view.canvas.getBoundingClientRect();
  return { color, x: box.left + x, y: box.top + y };
})"""


def at(tab: Tab, axis: str, k: float, i: float, j: float) -> dict:
    """What a view shows at a voxel, and where on the screen."""
    return tab.run(f"{PIXEL}({json.dumps([axis, k, i, j])})")


def indices(tab: Tab) -> list[int]:
    return tab.run("views.map((v) => v.index)")


@needs_browser
def test_the_page_is_quiet_and_asks_for_nothing(tab: Tab, report: Path) -> None:
    assert tab.complaints() == []
    assert tab.requests() == [report.resolve().as_uri()]
    assert tab.run("document.getElementById('patient').textContent") == SCRIPT
    assert tab.run("document.querySelector('.caution').textContent") == "not for clinical use without review"


@needs_browser
def test_windows_show_hu(tab: Tab) -> None:
    tab.run(
        "goTo({k: 5, i: 2, j: 2}), state.cross = state.names = false, "
        "state.sides = {predicted: false, reference: false}"
    )
    for level, width in ((40, 400), (400, 2000), (800, 100)):
        tab.run(f"setWindow({level}, {width})")
        tab.settle()
        for voxel, hu in (((5, 25, 15), 800), ((5, 50, 40), 0), ((5, 1, 1), -1000)):
            grey = np.clip(255 * ((hu - level) / width + 0.5), 0, 255)
            shown = at(tab, "k", *voxel)["color"]
            # A level stands for at most 10 HU of bone beside the value, a grey level for width / 255.
            assert shown == pytest.approx([grey] * 3, abs=255 * 10 / width + 1), (level, width, hu)
    tab.run("state.sides = {predicted: true, reference: true}, setWindow(40, 400)")


@needs_browser
def test_the_cuts_show_the_same_voxels(tab: Tab) -> None:
    tab.run(
        "state.sides = {predicted: false, reference: false}, setWindow(400, 2000), goTo({k: 6, i: 25, j: 15})"
    )
    tab.settle()
    bone, water = 255 * (400 / 2000 + 0.5), 255 * (-400 / 2000 + 0.5)
    for k, expected in ((2, water), (5, bone), (10, water)):
        for axis in "ij":
            assert at(tab, axis, k, 25, 15)["color"] == pytest.approx([expected] * 3, abs=3), (axis, k)
    tab.run("state.sides = {predicted: true, reference: true}, setWindow(40, 400)")


@needs_browser
def test_wheel_keys_and_slider_scroll(tab: Tab) -> None:
    tab.run("goTo({k: 5, i: 25, j: 15})")
    where = at(tab, "k", 5, 50, 40)
    tab.mouse("mouseMoved", where["x"], where["y"])
    tab.mouse("mouseWheel", where["x"], where["y"], deltaX=0, deltaY=100)
    tab.wait("views[0].index === 4")  # down the wheel is down the patient
    tab.key("ArrowUp")
    tab.wait("views[0].index === 5")
    tab.key("End")
    tab.wait("views[0].index === 11")
    tab.key("Home")
    tab.wait("views[0].index === 0")  # the first slice, wherever it lies
    assert indices(tab) == [0, 25, 15]
    where = at(tab, "i", 5, 25, 30)
    tab.mouse("mouseMoved", where["x"], where["y"])
    tab.key("PageDown")
    tab.wait("views[1].index === 35")
    tab.run("(views[2].slider.value = 7, views[2].slider.dispatchEvent(new Event('input')))")
    assert indices(tab) == [0, 35, 7]


@needs_browser
def test_a_click_moves_the_other_views_and_a_right_drag_the_window(tab: Tab) -> None:
    tab.run("goTo({k: 5, i: 25, j: 15})")
    tab.settle()
    where = at(tab, "k", 5, 33, 21)
    tab.mouse("mousePressed", where["x"], where["y"], button="left", clickCount=1)
    tab.mouse("mouseReleased", where["x"], where["y"], button="left", clickCount=1)
    tab.wait("views[1].index === 33")
    assert indices(tab) == [5, 33, 21]
    tab.mouse("mousePressed", where["x"], where["y"], button="right", clickCount=1)
    tab.mouse("mouseMoved", where["x"] + 50, where["y"] - 10, button="right", buttons=2)
    tab.mouse("mouseReleased", where["x"] + 50, where["y"] - 10, button="right")
    tab.wait("state.width === 550 && state.level === 60")
    tab.key("4", "4")
    tab.wait("state.level === 400 && state.width === 2000")
    tab.run("setWindow(40, 400)")


@needs_browser
def test_flags_come_first_and_lead_to_their_slices(tab: Tab) -> None:
    assert tab.run("document.querySelector('aside section h2').textContent").startswith("Flags")
    cards = tab.run("[...document.querySelectorAll('.flag')].map((c) => c.textContent)")
    assert cards[0] == "Glandtwo separate parts2 (at most 1) · slices 7, 8 (z +118.0 to +121.0 mm)"
    assert cards[1].startswith("whole scan")
    tab.run("goTo({k: 0, i: 0, j: 0}), document.querySelector('.flag').click()")
    assert indices(tab) == [6, 25, 15]
    tab.run("document.querySelector('.flag').click()")
    assert indices(tab) == [7, 25, 15]


@needs_browser
def test_contours_are_switched_by_roi_and_side(tab: Tab) -> None:
    tab.run("goTo({k: 6, i: 2, j: 2}), state.cross = false, state.marked = null")

    def red(axis: str, *voxel: float) -> bool:
        tab.settle()
        r, g, b = at(tab, axis, *voxel)["color"]
        return r > 150 and g < 110 and b < 110

    edge = (6, 25, 9.5)  # the left edge of the prediction; the reference begins at 11.5
    assert red("k", *edge)
    switch = "document.querySelectorAll('#rois .roi')[0].querySelectorAll('.toggle')[0].click()"
    tab.run(switch)
    assert not red("k", *edge)
    tab.run(switch)
    assert red("k", *edge)
    tab.run("views[1].go(25)")
    assert red("i", *edge)  # the same edge in the coronal view
    assert not red("i", 9, 25, 9.5)  # where neither has a slice
    tab.key("p", "p")
    assert not red("k", *edge)
    tab.key("p", "p")
    hidden = "getComputedStyle(document.querySelectorAll('#rois .roi')[1].querySelectorAll('.toggle')[0]).visibility"
    assert tab.run(hidden) == "hidden"  # the cord was not predicted


@needs_browser
def test_uneven_slices_from_head_to_feet(tmp_path: Path) -> None:
    """A bone in the three slices that are far apart: the cuts show it where it lies, upside up, as large as it is."""
    heights = np.cumsum([0, 2, 2, 2, 6, 6, 6, 2, 2, 2, 2, 2.0])
    positions = np.array([[50.0, -30, 100 - h] for h in heights])
    grid = Grid(shape_kij=SHAPE, positions_lps=positions, step_i_lps=(0, 1, 0), step_j_lps=(-2, 0, 0))
    hu = np.zeros(SHAPE, np.int16)
    hu[4:7, 20:30, 10:20] = 800
    bone = hu > 400
    roi = ShownRoi(info=RoiInfo(name="Bone", color=(255, 0, 0)), predicted=stack_to_polygons(bone))
    write_patient_report(tmp_path / "r.html", page(volume=Volume(hu, grid), rois=[roi], flags=None))
    with browser(tmp_path / "profile") as tab:
        tab.open(tmp_path / "r.html")
        tab.wait("document.body?.dataset.ready")
        assert tab.complaints() == []
        letters = "[...document.querySelectorAll('#view-i .letter')].map((l) => l.textContent).join('')"
        assert tab.run(letters) == "LRSI"
        assert tab.run("document.getElementById('flag-count').textContent") == "not looked for"
        tab.run(
            "state.cross = state.names = state.sides.predicted = false, setWindow(400, 2000), "
            "goTo({k: 5, i: 25, j: 15})"
        )
        tab.settle()
        shown = [at(tab, "i", k, 25, 15) for k in range(SHAPE[0])]
        bright = [s["color"][0] > 150 for s in shown]
        assert bright == [bool(bone[k, 25, 15]) for k in range(SHAPE[0])]
        ys = [s["y"] for s in shown]
        assert ys == sorted(ys)  # slice 1 is nearest to the head
        gaps = np.diff(ys) / (ys[1] - ys[0])
        assert gaps[4] == pytest.approx(3, rel=0.1)  # 6 mm are three times 2 mm
        tab.run("state.sides.predicted = true, redraw()")
        tab.settle()
        assert at(tab, "i", 5, 25, 9.5)["color"][1] < 110  # the contour's edge in the thick slice


@needs_browser
def test_tables(tab: Tab, tmp_path: Path) -> None:
    assert tab.run("document.querySelectorAll('#metrics tbody tr').length") == 2
    assert "surface_dsc" in tab.run("document.getElementById('definitions').textContent")
    assert "weights" in tab.run("document.getElementById('provenance').textContent")
    picture = tab.screenshot(tmp_path / "page.png")
    assert picture.stat().st_size > 20_000
