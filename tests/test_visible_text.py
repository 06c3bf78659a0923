"""Names of unknown origin on a terminal and in a table."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from contour_ai.csv_files import harmless, original, write_csv
from contour_ai.pipeline.places import without_paths
from contour_ai.report.page import embedded_json, fill
from contour_ai.visible_text import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b2J", r"\x9b2J"),
        ("a\rb\x08", r"a\x0db\x08"),
        ("left\u202ethgir", r"left\u202ethgir"),
        ("a\u2066b\u2069\u200f", r"a\u2066b\u2069\u200f"),
        ("pat\udcff", r"pat\udcff"),
        ("Rücken\tmark\n脳幹 🫀 é", "Rücken\tmark\n脳幹 🫀 é"),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("+1+1", "'+1+1"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t'=1"),
        ("\uff1d1+1", "'\uff1d1+1"),
        ("P1;=1+1", "P1;'=1+1"),
        ("P1\n=1+1", "P1\n'=1+1"),
        (-0.5, "-0.5"),
        ("-1e-05", "-1e-05"),
        ("-inf", "-inf"),
        ("Lung-PTV", "Lung-PTV"),
        ("", ""),
    ],
)
def test_no_cell_is_a_formula(cell: object, written: str) -> None:
    assert harmless(cell) == written


def test_a_table_comes_back(tmp_path: Path) -> None:
    names = ["=cmd", "'quoted'", "plain", "a,b", 'say "x"', "-", "pat\udcff"]
    write_csv(tmp_path / "a.csv", ["patient", "=x"], [(name, -1.5) for name in names])
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["patient", "'=x"]
    assert [original(name) for name, _ in rows] == [*names[:-1], r"pat\udcff"]
    assert {value for _, value in rows} == {"-1.5"}


def test_pages_show_names_as_they_are_written() -> None:
    page = fill("<p>$name</p>", texts={"name": "left\u202ethgir <b>"}, raw={})
    assert page == r"<p>left\u202ethgir &lt;b&gt;</p>"
    assert embedded_json({"a\u202e": ["\u2066x", 1.5, [1, 2]]}) == r'{"a\\u202e":["\\u2066x",1.5,[1,2]]}'


@pytest.mark.parametrize(
    ("text", "shortened"),
    [
        ("where: /mnt/store/P1/ct/1.dcm and /mnt/store/P1/rs.dcm", "where: 1.dcm and rs.dcm"),
        (r"C:\Users\anna\P1\rs.dcm: cut short", "rs.dcm: cut short"),
        (r"\\server\share\P1\rs.dcm", "rs.dcm"),
        ("with /tmp/contour-ai-errors-1.log.", "with contour-ai-errors-1.log."),
        ("3 mm / 2 mm, cm3/h, left/right, 12/03, P1/ct", "3 mm / 2 mm, cm3/h, left/right, 12/03, P1/ct"),
    ],
)
def test_pages_name_no_folders(text: str, shortened: str) -> None:
    assert without_paths([text]) == [shortened]
