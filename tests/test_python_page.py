"""The examples of docs/python.md work when pasted one after the other, and name all of the public API."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import contour_ai

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")


def test_the_page_names_what_is_exported() -> None:
    named = set(re.findall(r"`(\w+)`", PAGE))
    errors = {n for n in contour_ai.__all__ if n.endswith("Error")}
    assert set(contour_ai.__all__) - errors <= named
    assert all(issubclass(getattr(contour_ai, name), contour_ai.ContourAIError) for name in errors)


def test_the_reference_has_what_is_exported() -> None:
    reference = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^::: contour_ai\.(\w+)$", reference, flags=re.MULTILINE))
    assert named == {n for n in contour_ai.__all__ if n != "__version__"}


def test_the_examples_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(
        ROOT / "sample_data" / "phantom-headneck-01", tmp_path / "sample_data" / "phantom-headneck-01"
    )
    monkeypatch.chdir(tmp_path)
    for code in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(compile(code, "docs/python.md", "exec"), globals())
    shown = capsys.readouterr().out
    assert re.search(r"^Brainstem \d+\.\d cm3 0\.[89]", shown, flags=re.MULTILINE), shown
    assert (tmp_path / "bone.dcm").is_file() and list((tmp_path / "out").glob("*/RS.*.dcm"))
