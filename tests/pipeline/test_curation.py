"""The page of suspicious contours: what is on it, how it looks in a browser, and that its lines can be pasted."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from tiny_patients import write_patient

from contour_ai.cli.main import cli
from contour_ai.pipeline.archive import find_sources
from contour_ai.pipeline.archive_places import load_places
from contour_ai.report.curation import yaml_text
from contour_ai.structures.roi_map import RoiMap

sys.path.append(str(Path(__file__).parents[1] / "report"))
from browser import browser, needs_browser

HOSTILE_ID = "</script><img src=x onerror=hit()>\"'\\: #,;"
HOSTILE_ROI = "<img src=x onerror=hit()>"
ODD = "odd one"
MAP = f'rois:\n  Brainstem: []\n  "{HOSTILE_ROI}": []\nignore: []\n'


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven patients that are alike, and one whose brainstem is far denser than theirs."""
    folder = tmp_path_factory.mktemp("archive")
    for n in range(11):
        name = HOSTILE_ID if n == 3 else None
        rois = {"Brainstem": (2 + n % 3, 8, 10)}
        if n == 3:
            rois[HOSTILE_ROI] = (5, 9, 9)
        write_patient(folder / f"p{n}", n, rois, patient_id=name)
    write_patient(folder / "odd", 900, {"Brainstem": (3, 8, 10)}, patient_id=ODD)
    return folder


@pytest.fixture(scope="module")
def page(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run") / "run"
    roi_map = run.parent / "map.yaml"
    roi_map.write_text(MAP, encoding="utf-8")
    words = ["train", str(archive), "--out", str(run), "--check", "--report", "--roi-map", str(roi_map)]
    words += ["--rois", f"Brainstem,{HOSTILE_ROI}"]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    assert "archive-check.html" in result.stdout
    return run / "archive-check.html"


def content_of(page: Path) -> dict[str, Any]:
    found = re.search(r'id="data">(.*?)</script>', page.read_text(encoding="utf-8"), re.S)
    assert found is not None
    content: dict[str, Any] = json.loads(found[1])
    return content


def test_the_odd_one_comes_with_reason_picture_and_figures(page: Path) -> None:
    content = content_of(page)
    first = content["suspicions"][0]
    assert content["patients"][first["patient"]]["label"] == ODD
    assert content["rois"][first["roi"]]["name"] == "Brainstem"
    assert any(r.startswith("its mean density is 1000 HU, in most patients 10") for r in first["reasons"])
    assert not first["leftOut"]
    picture = Image.open(io.BytesIO(base64.b64decode(first["picture"])))
    assert picture.size == (3 * 220 + 8, 220)
    red, blue = (np.asarray(picture, int)[..., channel] for channel in (0, 2))
    assert np.count_nonzero((red > 180) & (red - blue > 90)) > 300  # the outline, in three planes
    volume, density, length, superior, left = next(
        c[2:] for c in content["contours"] if c[0] == first["patient"] and c[1] == first["roi"]
    )
    assert (volume, density, length) == (pytest.approx(3 * 4 * 4 * 0.15), 1000, 18)
    assert superior is None and left == pytest.approx(
        -5
    )  # the body's middle is at column 12.5, the cube's at 11.5
    if os.name != "nt":
        assert stat.S_IMODE(page.stat().st_mode) == 0o600


def test_names_stay_text_and_nothing_is_fetched(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "<img src=x" not in text
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", text)


def test_report_goes_with_check(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["train", str(tmp_path), "--out", str(tmp_path / "r"), "--report"])
    assert result.exit_code == 2 and "--report goes with --check" in result.stderr


@pytest.mark.parametrize(
    "name", [HOSTILE_ID, "a: b", "  # no comment", "yes", "7", 'q"uote', "tab\tnew\nline", "Müller​"]
)
def test_lines_can_be_pasted(name: str, tmp_path: Path) -> None:
    (tmp_path / "exclude.txt").write_text(
        f"# list\n{yaml_text(name)}: {yaml_text('a; b, c: d')}\nP2: x\n", encoding="utf-8"
    )
    (tmp_path / "exclude.yaml").write_text(
        f"{yaml_text(name)}: {yaml_text('a; b, c: d')}\nP2: x\n", encoding="utf-8"
    )
    for file in ("exclude.txt", "exclude.yaml"):
        assert load_places(tmp_path / file) == {name: "a; b, c: d", "P2": "x"}
    lines = f"rois:\n  {yaml_text(name)}: []\naccepted:\n  {yaml_text(name)}: [{yaml_text(name)}]\n"
    (tmp_path / "map.yaml").write_text(lines, encoding="utf-8")
    assert RoiMap.load(tmp_path / "map.yaml").accepted == {name: (name,)}


@needs_browser
def test_in_a_browser(page: Path, archive: Path, tmp_path: Path) -> None:
    hostile_patient = [p["label"] for p in content_of(page)["patients"]].index(HOSTILE_ID)
    with browser(tmp_path / "profile") as tab:
        tab.open(page)
        tab.call(
            "Emulation.setDeviceMetricsOverride", width=1280, height=720, deviceScaleFactor=1, mobile=False
        )
        tab.wait("document.body.dataset.ready")
        tab.settle()
        if folder := os.environ.get("CONTOUR_AI_SCREENSHOTS"):
            tab.screenshot(Path(folder) / "curation.png")
        assert ODD in tab.run("document.getElementById('card').textContent")
        assert tab.run("document.querySelectorAll('#card .strip').length") == 5
        assert tab.run("document.documentElement.scrollWidth <= innerWidth")
        assert tab.run(
            "document.getElementById('decide-accepted').getBoundingClientRect().bottom <= innerHeight"
        )
        tab.key("a")
        accepted = tab.run("document.body.dataset.copied")
        tab.key("x")
        excluded = tab.run("document.body.dataset.copied")
        tab.key("ArrowRight")
        panel = f"document.getElementById('patient-{hostile_patient}')"
        tab.run(f"document.getElementById('roi-1').open = {panel}.open = true")
        tab.settle()
        # One patient has two ROIs, of which one places the other.
        assert tab.run("document.querySelectorAll('#roi-1 .dot').length") == 4 * 12 + 1
        assert HOSTILE_ROI in tab.run("document.getElementById('patients').textContent")
        tab.run(f"{panel}.querySelector('.copy').click()")
        hostile = tab.run("document.body.dataset.copied")
        both = tab.run("document.getElementById('exclude').textContent")
        assert not tab.complaints()
        assert [r for r in tab.requests() if not r.startswith("data:")] == [page.resolve().as_uri()]
        assert tab.run("typeof hit") == "undefined"
    # What was copied is taken as it is.
    (tmp_path / "map.yaml").write_text(f"{MAP}accepted:\n{accepted}\n", encoding="utf-8")
    roi_map = RoiMap.load(tmp_path / "map.yaml")
    assert roi_map.accepted == {ODD: ("Brainstem",)}
    (odd,) = (p for p in find_sources(archive, roi_map).patients if p.label == ODD)
    assert odd.accepted == {"Brainstem"}
    (tmp_path / "exclude.txt").write_text(f"{excluded}\n", encoding="utf-8")
    assert ODD in find_sources(archive, roi_map, exclude=load_places(tmp_path / "exclude.txt")).left_out
    (tmp_path / "exclude.txt").write_text(f"{both}\n", encoding="utf-8")
    assert set(load_places(tmp_path / "exclude.txt")) == {ODD, HOSTILE_ID}
    assert hostile in both
