"""The node's page in Chromium at 1280 x 720: nothing from outside, no complaint of the policy, usable by keyboard."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from nodes import config_for, quick_workers, running, send, states, wait_for
from synthetic import axial, write_stack

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
from browser import Tab, browser, needs_browser

from contour_ai.node.config import Web
from contour_ai.node.web.app import PageServer

SUMMARY = {
    "model": {"kind": "phantom"},
    "rois": {
        "Brainstem": {
            "name_in_file": "Brainstem",
            "volume_cm3": 24.1,
            "slices_from_1": [12, 31],
            "verdict": "clear",
        },
        "Parotid_L": {
            "name_in_file": "Parotid_L",
            "volume_cm3": 31.9,
            "slices_from_1": [9, 27],
            "verdict": "look",
            "findings": [
                {
                    "code": "ends_early",
                    "reason": "ends in slice 27 (z = 42.0 mm), where the model expects 3 more slices",
                }
            ],
        },
    },
}


def press(tab: Tab, key: str, code: int, text: str = "") -> None:
    """A key as a keyboard gives it."""
    for kind in ("keyDown", "keyUp"):
        tab.call(
            "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, text=text
        )


@needs_browser
@pytest.mark.slow
def test_the_page_in_a_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick_workers(monkeypatch)
    pictures = Path(os.environ.get("CONTOUR_AI_PICTURES", tmp_path))
    with running(config_for(tmp_path, web=Web(port=8104))) as node:
        for name in ("P-0815", "P-0816"):
            send(node, write_stack(tmp_path / name, axial(4, patient_id=name, series=name, study=name)))
        send(
            node,
            [p for n, p in enumerate(write_stack(tmp_path / "gap", axial(6, patient_id="P-0817"))) if n != 2],
        )
        wait_for(lambda: states(node) == ["done", "done"] and "incomplete" in states(node, "series"))
        node.database.execute("UPDATE jobs SET summary = ?", json.dumps(SUMMARY))
        node.database.execute("UPDATE jobs SET verdict = 'look' WHERE id = 2")
        node.config = replace(node.config, web=Web(port=0))
        server = PageServer(node)
        try:
            with browser(tmp_path / "profile") as tab:
                look(tab, server.address, pictures)
        finally:
            server.stop()
        log = node.audit.path.read_text(encoding="utf-8")
    assert '"saw worklist"' in log and '"P-0815"' in log and '"rated"' in log


def look(tab: Tab, address: str, pictures: Path) -> None:
    """Worklist, a job by keyboard, a rating, a series."""
    tab.open(address)
    tab.call("Emulation.setDeviceMetricsOverride", width=1280, height=720, deviceScaleFactor=1, mobile=False)
    tab.wait("document.readyState === 'complete' && document.querySelectorAll('tbody tr').length === 3")
    assert tab.run("document.documentElement.scrollWidth <= innerWidth")
    tab.screenshot(pictures / "worklist.png")
    press(tab, "Tab", 9)
    assert tab.run("document.activeElement.className") == "skip"
    for _ in range(30):
        press(tab, "Tab", 9)
        if tab.run("document.activeElement.getAttribute('href') || ''").startswith("/jobs/"):
            break
    assert tab.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    press(tab, "Enter", 13, "\r")
    tab.wait("location.pathname.startsWith('/jobs/') && document.readyState === 'complete'")
    assert "never for a patient" in tab.run("document.body.innerText")
    tab.screenshot(pictures / "job.png")
    tab.run("[...document.querySelectorAll('button[name=rating]')].find(b => b.value === 'minor').focus()")
    press(tab, "Enter", 13, "\r")
    tab.wait(
        "document.readyState === 'complete' && /: minor/.test(document.querySelector('.told')?.textContent)"
    )
    assert tab.run("document.querySelectorAll('button[aria-pressed]').length") == 1
    assert tab.run("document.documentElement.scrollWidth <= innerWidth")
    tab.run("location.pathname = '/series/3'")
    tab.wait("location.pathname === '/series/3' && document.readyState === 'complete'")
    assert "missing" in tab.run("document.body.innerText")
    tab.screenshot(pictures / "series.png")
    assert all(url.startswith((address, "data:")) for url in tab.requests())
    assert tab.complaints() == []
