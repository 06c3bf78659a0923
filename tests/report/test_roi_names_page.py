"""The page of ROI names: what is in it, and that names stay text and can be copied into a ROI map."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from browser import browser, needs_browser
from click.testing import CliRunner

from contour_ai.cli.main import cli
from contour_ai.dicom.census import Census, RoiCount
from contour_ai.report.roi_names import names_content, write_names_page
from contour_ai.structures import classify
from contour_ai.structures.measured import Occurrence
from contour_ai.structures.roi_map import RoiMap

HOSTILE = "</script><img src=x onerror=hit()>'\""


def census() -> Census:
    counts = {
        "Parotid_L": 40,
        "lt parotid": 3,
        "z_Ring": 20,
        "z_Ring 2": 2,
        "PTV 60": 30,
        HOSTILE: 1,
        "Thyroid": 9,
    }
    volumes = {"Parotid_L": [20.0 + n / 2 for n in range(1, 20)], "Thyroid": [14.0]}
    rois = [
        RoiCount(
            name=name,
            patients=number,
            structure_sets=number,
            found=classify(name),
            occurrences=tuple(
                Occurrence(patient="P", volume_cm3=v, superior_mm=0) for v in volumes.get(name, ())
            ),
        )
        for name, number in counts.items()
    ]
    return Census(rois=tuple(rois), patients=50, remarks=("a remark",))


def test_content() -> None:
    content = names_content(census())
    found = {n["name"]: n for n in content["names"]}
    assert (found["Parotid_L"]["fate"], found["Parotid_L"]["roi"]) == ("map", "Parotid_L")
    assert (found["Parotid_L"]["median"], len(found["Parotid_L"]["volumes"])) == (25.0, 20)
    assert found["z_Ring"]["fate"] == "set aside" and found["z_Ring"]["rule"].startswith("begins with z")
    assert (found[HOSTILE]["fate"], found["Thyroid"]["organs"]) == (
        "decide",
        ["Glnd_Thyroid", "Cartlg_Thyroid"],
    )
    assert content["of"] == "patients" and content["remarks"] == ["a remark"]


def test_the_command_writes_it_once(tmp_path: Path) -> None:
    (tmp_path / "names.csv").write_text("name,instances\nParotid_L,3\nPTV 1,2\n", encoding="utf-8")
    words = ["rois", str(tmp_path / "names.csv"), "--report", str(tmp_path / "names.html")]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0 and "names.html" in result.stdout, result.output
    text = (tmp_path / "names.html").read_text(encoding="utf-8")
    assert "2 names: 1 mapped, 1 set aside, 0 to decide" in text
    found = re.search(r'id="data">(.*?)</script>', text, re.S)
    assert found is not None and json.loads(found[1])["of"] == "structure sets"
    again = CliRunner().invoke(cli, words)
    assert again.exit_code != 0 and "--report" in again.stderr
    assert CliRunner().invoke(cli, [*words, "--overwrite"]).exit_code == 0


@needs_browser
def test_in_a_browser(tmp_path: Path) -> None:
    page = tmp_path / "names.html"
    write_names_page(page, census(), "<archive>")
    assert "<img src=x" not in page.read_text(encoding="utf-8")
    if os.name != "nt":
        assert page.stat().st_mode & 0o077 == 0
    with browser(tmp_path / "profile") as tab:
        tab.open(page)
        tab.call(
            "Emulation.setDeviceMetricsOverride", width=1280, height=720, deviceScaleFactor=1, mobile=False
        )
        tab.wait("document.body.dataset.ready")
        tab.settle()
        if folder := os.environ.get("CONTOUR_AI_SCREENSHOTS"):
            tab.screenshot(Path(folder) / "roi_names.png")
        heads = tab.run("[...document.querySelectorAll('h2')].map(h => h.textContent)")
        assert heads == ["To decide (2)", "Mapped (2)", "Set aside (3)", "Notes"]
        assert tab.run("document.documentElement.scrollWidth <= innerWidth")
        assert tab.run("document.querySelectorAll('.volume').length") == 20 + 2
        lines = []
        for n in range(int(tab.run("document.querySelectorAll('.name').length"))):
            tab.run(f"document.querySelectorAll('.name')[{n}].click()")
            lines.append(tab.run("document.body.dataset.copied"))
        tab.run("document.getElementById('find').value = 'ring'")
        tab.run("document.getElementById('find').dispatchEvent(new Event('input'))")
        assert tab.run("document.querySelectorAll('.row:not([hidden])').length") == 2
        assert not tab.complaints() and tab.requests() == [page.resolve().as_uri()]
        assert tab.run("typeof hit") == "undefined"
    (tmp_path / "map.yaml").write_text("rois:\n  Organ:\n" + "\n".join(lines) + "\n", encoding="utf-8")
    roi_map = RoiMap.load(tmp_path / "map.yaml")
    assert set(roi_map.apply([roi.name for roi in census().rois]).rois.values()) == {"Organ"}
