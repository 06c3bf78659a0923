"""The patient's page at work: what it keeps still, what keys do, names, ruler, one ROI alone, surfaces, paper."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browser import Tab, browser, needs_browser
from test_patient import GRID, SHAPE, at, boxed, content_of, page

from contour_ai.polygons import stack_to_polygons
from contour_ai.report.packing import SURFACE_STEP_MM, pack_surface
from contour_ai.report.patient import ShownRoi, write_patient_report
from contour_ai.structures import RoiInfo
from contour_ai.surfaces import mesh_of_mask, reduced_mesh

pytestmark = needs_browser

BODY = boxed((0, 12), (5, 55), (5, 45))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    gland, cord = page().rois
    surface = reduced_mesh(boxed((4, 8), (20, 30), (10, 20)), GRID)
    body = ShownRoi(
        info=RoiInfo(name="Body", color=(0, 0, 255), interpreted_type="EXTERNAL"),
        predicted=stack_to_polygons(BODY),
        surface=reduced_mesh(BODY, GRID),
    )
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_patient_report(
        path,
        page(
            rois=[replace(gland, surface=surface, verdict="look"), replace(cord, verdict="clear"), body],
            verdict="look",
        ),
    )
    return path


@pytest.fixture(scope="module")
def tab(report: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        opened.open(report)
        opened.call(
            "Emulation.setDeviceMetricsOverride", width=1280, height=720, deviceScaleFactor=1, mobile=False
        )
        opened.wait("document.body?.dataset.ready")
        opened.settle()
        yield opened


def frames(tab: Tab) -> list[list[float]]:
    return tab.run(
        "[...document.querySelectorAll('.view')].map((v) => { const b = v.getBoundingClientRect(); "
        "return [b.left, b.top, b.right, b.bottom]; })"
    )


def test_nothing_moves_and_everything_is_on_the_screen(tab: Tab) -> None:
    before = frames(tab)
    assert len(before) == 4
    assert max(box[3] for box in before) <= 720 and max(box[2] for box in before) <= 1280
    where = at(tab, "k", 5, 25, 15)
    tab.mouse("mouseMoved", where["x"], where["y"])
    tab.wait("byId('readout').textContent")
    said = tab.run("byId('readout').textContent")
    index = tab.run("views[0].index")
    assert said.startswith(f"slice {index + 1} (z +{100 + 3 * index}.0 mm), row 26, column 16: 800")
    assert "HU" in said and "Gland" in said
    tab.run("byId('readout').textContent = 'many words '.repeat(200)")
    tab.settle()
    assert frames(tab) == before
    assert tab.run("document.documentElement.scrollWidth") <= 1280
    status = tab.run("byId('status').getBoundingClientRect().bottom")
    assert status <= 720


def test_the_browsers_own_keys_are_left_alone(tab: Tab) -> None:
    tab.run("window.kept = [], addEventListener('keydown', (e) => kept.push(e.key + e.defaultPrevented))")
    state = "JSON.stringify([state.sides, state.cross, state.flag, state.names])"
    before = tab.run(state)
    for key in "pfr":
        for modifiers in (2, 4):  # Ctrl and Cmd
            tab.call("Input.dispatchKeyEvent", type="rawKeyDown", key=key, modifiers=modifiers)
            tab.call("Input.dispatchKeyEvent", type="keyUp", key=key, modifiers=modifiers)
    assert tab.run("kept.join()") == "pfalse,pfalse,ffalse,ffalse,rfalse,rfalse"
    assert tab.run(state) == before


def test_capital_letters_are_small_ones(tab: Tab) -> None:
    for key, value in (("X", "state.cross"), ("N", "state.names"), ("P", "state.sides.predicted")):
        before = tab.run(value)
        tab.key(key, key)
        assert tab.run(value) is not before, key
        tab.key(key.lower(), key.lower())
        assert tab.run(value) is before, key


def test_names_stand_at_the_contours_and_cover_no_other(tab: Tab) -> None:
    tab.run("setDisplay({names: true}), goTo({k: 6, i: 25, j: 15})")
    tab.settle()
    names = tab.run("views[0].namesAt")
    assert {name["text"] for name in names} == {"Gland", "Cord", "Body"}
    for n, one in enumerate(names):
        for other in names[:n]:
            (a, b, c, d), (e, f, g, h) = one["box"], other["box"]
            assert a >= g or c <= e or b >= h or d <= f, (one, other)
    left, _, right, bottom = next(name["box"] for name in names if name["text"] == "Gland")
    edge = at(tab, "k", 6, 19.5, 14.5)
    frame = frames(tab)[0]
    assert abs((left + right) / 2 - (edge["x"] - frame[0])) < 60 and abs(bottom - (edge["y"] - frame[1])) < 40
    tab.key("n", "n")
    assert tab.run("state.names") is False


def test_one_roi_alone(tab: Tab) -> None:
    shown = "rois.filter((r) => isShown(r, 'predicted') || isShown(r, 'reference')).map((r) => r.name)"
    assert tab.run(shown) == ["Gland", "Cord", "Body"]
    tab.run("document.querySelectorAll('.solo')[1].click()")
    assert tab.run(shown) == ["Cord"]
    tab.key("s", "s")
    assert tab.run(shown) == ["Gland", "Cord", "Body"]
    tab.key("S", "S")
    assert tab.run(shown) == ["Cord"]
    tab.key("Escape")
    assert tab.run(shown) == ["Gland", "Cord", "Body"]


def test_fill_and_line_width(tab: Tab) -> None:
    tab.run(
        "setDisplay({fill: 0.5, names: false, cross: false}), setWindow(40, 400), goTo({k: 6, i: 2, j: 2})"
    )
    tab.settle()
    inside = at(tab, "k", 6, 25, 15)["color"]
    assert inside == pytest.approx([255, 128, 128], abs=4), "half red on white bone"
    tab.key("g", "g")
    tab.settle()
    assert at(tab, "k", 6, 25, 15)["color"] == pytest.approx([255] * 3, abs=4)
    near = (6, 25, 9.5 - 3 / at_scale(tab))

    def is_red() -> bool:
        tab.settle()
        red, green, _ = at(tab, "k", *near)["color"]
        return bool(red > 200 and green < 60)

    tab.run("setDisplay({line: 1})")
    assert not is_red()
    tab.run("(byId('line').value = 5, byId('line').dispatchEvent(new Event('input')))")
    tab.run("setDisplay({line: 9})")
    assert is_red()
    tab.run("setDisplay({line: 1.7})")


def at_scale(tab: Tab) -> float:
    """Screen pixels per column."""
    return float(tab.run("views[0].scale * DJ"))


def test_ruler(tab: Tab) -> None:
    tab.run("goTo({k: 6, i: 2, j: 2})")
    tab.key("m", "m")
    a, b = at(tab, "k", 6, 20, 10), at(tab, "k", 6, 20, 25)
    tab.mouse("mousePressed", a["x"], a["y"], button="left", clickCount=1)
    tab.mouse("mouseMoved", b["x"], b["y"], button="left", buttons=1)
    tab.mouse("mouseReleased", b["x"], b["y"], button="left", clickCount=1)
    length = "Math.hypot(state.ruler.to[0] - state.ruler.from[0], state.ruler.to[1] - state.ruler.from[1])"
    assert tab.run(length) == pytest.approx(30, abs=2 / (at_scale(tab) / 2)), "15 columns of 2 mm"
    assert tab.run("views.map((v) => v.index)") == [6, 2, 2], "measuring moves nothing"
    tab.key("Escape")
    assert tab.run("[state.ruling, state.ruler]") == [False, None]


def middle_color(tab: Tab) -> list[int]:
    return tab.run(
        "(({canvas}) => [...canvas.getContext('2d').getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data]"
        ".slice(0, 3))(scene)"
    )


def letters(tab: Tab) -> str:
    return str(tab.run("scene.letters.map((l) => l.textContent).join(' ')"))


def test_surfaces_turn_by_mouse_and_keys(tab: Tab) -> None:
    tab.run("scene.reset()")
    assert letters(tab) == "R L S I"
    red, green, blue = middle_color(tab)
    assert red > 80 and red > 2 * green, "the gland, through the veil of the body"
    frame = frames(tab)[3]
    x, y = (frame[0] + frame[2]) / 2, (frame[1] + frame[3]) / 2
    tab.mouse("mouseMoved", x, y)
    for _ in range(9):
        tab.key("ArrowRight")
    tab.wait("Math.abs(scene.yaw - Math.PI / 2) < 1e-9")
    tab.settle()
    assert letters(tab) in ("A P S I", "P A S I")
    tab.key("Home")
    assert letters(tab) == "R L S I"
    tab.mouse("mousePressed", x, y, button="left", clickCount=1)
    tab.mouse("mouseMoved", x + 60, y + 20, button="left", buttons=1)
    tab.mouse("mouseReleased", x + 60, y + 20, button="left", clickCount=1)
    assert tab.run("[scene.yaw, scene.pitch]") == pytest.approx([0.5, 1 / 6], abs=0.02)
    tab.run("scene.reset(), goTo({k: 0, i: 0, j: 0})")
    tab.mouse("mousePressed", x, y, button="left", clickCount=1)
    tab.mouse("mouseReleased", x, y, button="left", clickCount=1)
    tab.wait("views[0].index === 6")
    tab.run("solo(rois[2])")
    tab.settle()
    red, green, blue = middle_color(tab)
    assert blue > red and blue > green, "the body alone"
    tab.run("solo(rois[2]), document.querySelector('#view-3d .enlarge').click()")
    tab.settle()
    assert frames(tab)[3][2] - frames(tab)[3][0] > 500
    assert max(box[3] for box in frames(tab)) <= 720
    tab.run("enlarge(scene)")


def test_left_is_on_the_right_from_the_front(tab: Tab) -> None:
    """A surface's corners keep their place: what lies to the patient's left appears on the right."""
    corners = tab.run("[...rois[0].surface.corners]")
    places = np.array(corners).reshape(-1, 3)
    mesh = reduced_mesh(boxed((4, 8), (20, 30), (10, 20)), GRID)
    assert places.min(axis=0) == pytest.approx(mesh.vertices_lps.min(axis=0), abs=SURFACE_STEP_MM)
    assert places.max(axis=0) == pytest.approx(mesh.vertices_lps.max(axis=0), abs=SURFACE_STEP_MM)
    tab.run("scene.reset()")
    assert tab.run("scene.axes.map((a) => a.map(Math.round))") == [[1, 0, 0], [0, 0, -1], [0, 1, 0]]


def test_every_finding_is_printed_with_its_slices(tab: Tab) -> None:
    tab.run("dispatchEvent(new Event('beforeprint'))")
    captions = tab.run("[...document.querySelectorAll('#paper figcaption')].map((c) => c.textContent)")
    assert captions == ["axial 7 of 12, z +118.0 mm", "axial 8 of 12, z +121.0 mm"]
    heads = tab.run("[...document.querySelectorAll('#paper h3')].map((h) => h.textContent)")
    assert heads == ["Gland: two separate parts · 2 (at most 1)", "whole scan: more metal than in training"]
    bright = (
        "[...document.querySelectorAll('#paper canvas')].map((c) => "
        "c.getContext('2d').getImageData(0, 0, c.width, c.height).data.filter((v) => v > 100).length > 1000)"
    )
    assert tab.run(bright) == [True, True]
    tab.call("Emulation.setEmulatedMedia", media="print")
    visible = "['aside', '#stage', '#paper'].map((n) => getComputedStyle(document.querySelector(n)).display)"
    assert tab.run(visible) == ["none", "none", "block"]
    tab.call("Emulation.setEmulatedMedia", media="screen")


def test_keyboard_help(tab: Tab) -> None:
    tab.key("?", "?")
    tab.wait("byId('help').open")
    before = tab.run("state.cross")
    tab.key("x", "x")
    assert tab.run("state.cross") is before, "keys wait while the help is open"
    tab.run("byId('close-help').click()")
    assert tab.run("byId('help').open") is False
    assert tab.complaints() == [] or all("willReadFrequently" in text for text in tab.complaints())


def test_in_a_sandboxed_frame(report: Path, tmp_path: Path) -> None:
    """As the node serves it: scripts, but no origin."""
    outer = tmp_path / "outer.html"
    probe = (
        "<script>setInterval(() => parent.postMessage([Boolean(document.body.dataset.ready), self.origin, "
        "typeof scene, views.length], '*'), 50)</script></body>"
    )
    source = json.dumps(report.read_text("utf-8").replace("</body>", probe)).replace("</", "<\\/")
    outer.write_text(
        "<!doctype html><iframe sandbox='allow-scripts' width=1200 height=700></iframe>"
        "<script>addEventListener('message', (event) => { window.said = event.data; });"
        f"document.querySelector('iframe').srcdoc = {source};</script>",
        encoding="utf-8",
    )
    with browser(tmp_path / "profile") as tab:
        tab.open(outer)
        tab.wait("window.said?.[0]")
        assert tab.run("said") == [True, "null", "object", 3]


def test_a_packed_surface_is_small(report: Path) -> None:
    roi = content_of(report)["rois"][0]
    assert roi["surface"]["faces"] > 100
    assert len(roi["surface"]["data"]) < 40_000
    assert pack_surface(mesh_of_mask(np.zeros(SHAPE, bool), GRID)) is None


def test_verdicts_are_written_in_words(tab: Tab) -> None:
    assert tab.run("byId('verdict').textContent") == "look"
    badges = "[...document.querySelectorAll('#rois .roi')].map((r) => r.querySelector('.verdict')?.textContent || '')"
    assert tab.run(badges) == ["look", "", ""]
