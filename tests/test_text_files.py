"""Files as editors and spreadsheets of Windows write them: byte order marks, UTF-16, CRLF, semicolons, code pages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from contour_ai.derived.recipe import load_recipe
from contour_ai.dicom.profile import load_profile
from contour_ai.errors import ContourAIError
from contour_ai.evaluation.tolerances import load_tolerances
from contour_ai.pipeline._commission.strata import load_strata
from contour_ai.pipeline.archive_places import load_places
from contour_ai.structures.name_lists import read_name_list
from contour_ai.structures.roi_map import RoiMap
from contour_ai.text_files import read_text_file, table_rows

READERS: dict[str, tuple[str, str, Callable[[Path], object]]] = {
    "ROI map": ("map.yaml", "rois:\n  Bladder: [Blase, Prüfung]\n", lambda p: RoiMap.load(p).rois),
    "recipe": (
        "recipe.yaml",
        "# für\nstructures:\n- each: [Bladder]\n  steps: [{margin: 3}]\n",
        lambda p: load_recipe(p).structures,
    ),
    "profile": ("department.yaml", "# für\nholes: keyhole\n", lambda p: load_profile(p).holes),
    "tolerances": ("tau.yaml", "# für\ndefault_mm: 3\n", lambda p: load_tolerances(p).default_mm),
    "places": ("out.txt", "P1; Hüfte\nP2\tx\n", load_places),
    "names": ("names.csv", "Blase;3\nPrüfung;4\n", read_name_list),
    "strata": ("strata.csv", "patient;metal\nP1;für\n", lambda p: load_strata(p).groups),
}


def written(folder: Path, reader: str, encoding: str, *, crlf: bool) -> Path:
    name, text, _ = READERS[reader]
    path = folder / encoding / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes((text.replace("\n", "\r\n") if crlf else text).encode(encoding))
    return path


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_takes_what_windows_writes(reader: str, tmp_path: Path) -> None:
    read = READERS[reader][2]
    expected = read(written(tmp_path, reader, "utf-8", crlf=False))
    assert expected
    for encoding in ("utf-8-sig", "utf-16"):
        assert read(written(tmp_path, reader, encoding, crlf=True)) == expected


@pytest.mark.parametrize("reader", READERS)
def test_another_encoding_is_refused_with_the_line_and_the_way_out(reader: str, tmp_path: Path) -> None:
    path = written(tmp_path, reader, "cp1252", crlf=True)
    line = READERS[reader][1].encode("cp1252").partition(b"\xfc")[0].count(b"\n") + 1
    with pytest.raises(ContourAIError) as caught:
        READERS[reader][2](path)
    assert caught.value.where == str(path)
    assert (
        caught.value.found
        == f"line {line} is not in UTF-8 (byte 0xfc); save the file with the encoding UTF-8"
    )


def test_names_and_groups_are_the_same_with_commas_semicolons_and_tabs(tmp_path: Path) -> None:
    for n, mark in enumerate(",;\t"):
        path = tmp_path / f"{n}.csv"
        path.write_text(f"ROI{mark}number\nBladder{mark}3\nRectum{mark}4\n", encoding="utf-8")
        assert read_name_list(path) == {"Bladder": 3, "Rectum": 4}
        path.write_text(f"patient{mark}metal{mark}site\nP1{mark}no{mark}\nP2{mark}yes\n\n", encoding="utf-8")
        assert load_strata(path).groups == {"metal": {"P1": "no", "P2": "yes"}}


def test_lines_end_alike(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a\r\nb\nc\r\n")
    assert read_text_file(path) == "a\nb\nc\n"
    assert table_rows('"a;b",c\n') == [["a;b", "c"]]
