"""Known files are not opened again; changed ones are, and a damaged index is as none."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from synthetic import axial, box_contours, write_stack, write_structure_set

from contour_ai.dicom import archive
from contour_ai.dicom.file_index import FileIndex
from contour_ai.dicom.scan import find_patients, scan

A = axial()
LONG_AGO_NS = 1_600_000_000_000_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    write_stack(folder / "ct", A)
    write_structure_set(
        folder / "rs", A, {"Bladder": box_contours(A, [1, 2]), "Blase €": box_contours(A, [1])}
    )
    (folder / "notes.txt").write_text("no DICOM", encoding="utf-8")
    for path in folder.rglob("*"):
        os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
    return folder


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    real: Callable[[Path], archive.Looked] = archive.look

    def look(path: Path) -> archive.Looked:
        names.append(path.name)
        return real(path)

    monkeypatch.setattr(archive, "look", look)
    return names


def find(folder: Path, path: Path) -> archive.Archive:
    index = FileIndex(path)
    found = scan(folder, index=index)
    index.save()
    return found


def test_known_files_are_not_opened_again(folder: Path, tmp_path: Path, looked_at: list[str]) -> None:
    path = tmp_path / "cache" / FileIndex.NAME
    plain = scan(folder)
    assert find(folder, path) == plain
    looked_at.clear()
    assert find(folder, path) == plain
    assert looked_at == ["notes.txt"]  # what is no DICOM may become one
    (patient,) = find_patients(folder, index=FileIndex(path))
    assert patient.structure_sets[0].roi_names == ("Bladder", "Blase €")
    if os.name != "nt":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert "Test^Patient" not in path.read_text(encoding="utf-8")  # no patient's name


def test_what_changed_is_opened_again(folder: Path, tmp_path: Path, looked_at: list[str]) -> None:
    path = tmp_path / FileIndex.NAME
    find(folder, path)
    slices = sorted((folder / "ct").iterdir())
    content = slices[0].read_bytes()
    slices[0].write_bytes(content[:-10])  # another size
    os.utime(slices[0], ns=(LONG_AGO_NS, LONG_AGO_NS))
    os.utime(slices[1], ns=(LONG_AGO_NS, LONG_AGO_NS + 1))  # another time
    slices[2].unlink()
    slices[3].write_bytes(content)  # just now: the time stamp may stand for two contents
    looked_at.clear()
    found = find(folder, path)
    assert sorted(looked_at) == sorted([slices[0].name, slices[1].name, slices[3].name, "notes.txt"])
    assert found == scan(folder)
    looked_at.clear()
    find(folder, path)
    assert sorted(looked_at) == sorted([slices[3].name, "notes.txt"])
    assert slices[2].name not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: b"\xff\xfe{}",
        lambda content: b"[" * 100_000,
        lambda content: json.dumps({"format": "something else"}).encode(),
        lambda content: content.replace(b'"version":"', b'"version":"0.0.'),
        lambda content: content.replace(b'"texts":[', b'"texts":[7,'),
        lambda content: _with_rows(content, lambda row: row[:3]),
        lambda content: _with_rows(content, lambda row: [*row[:3], *([10**6] * (len(row) - 3))]),
        lambda content: _with_rows(content, lambda row: [*row[:3], *([-1] * (len(row) - 3))]),
        lambda content: _with_rows(content, lambda row: [*row[:3], *([[7]] * (len(row) - 3))]),
        lambda content: _with_rows(content, lambda row: "text"),
        lambda content: _with_rows(content, lambda row: None),
        lambda content: _with_rows(content, lambda row: [*row[:2], "volume", *row[3:]]),
    ],
)
def test_a_damaged_or_foreign_index_is_as_none(
    folder: Path, tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / FileIndex.NAME
    plain = find(folder, path)
    good = path.read_bytes()
    path.write_bytes(spoil(good))
    assert find(folder, path) == plain
    assert find(folder, path) == plain
    assert json.loads(path.read_bytes())["folders"] == json.loads(good)["folders"]


def _with_rows(content: bytes, change: Callable[[list], object]) -> bytes:
    index = json.loads(content)
    index["folders"] = {
        f: {n: change(row) for n, row in rows.items()} for f, rows in index["folders"].items()
    }
    return json.dumps(index).encode()


def test_two_processes_and_two_archives_share_it(folder: Path, tmp_path: Path, looked_at: list[str]) -> None:
    path, other = tmp_path / FileIndex.NAME, tmp_path / "other"
    write_stack(other, axial(7, series="series B"))
    for file in other.iterdir():
        os.utime(file, ns=(LONG_AGO_NS, LONG_AGO_NS))
    first, second = FileIndex(path), FileIndex(path)
    scan(folder, index=first)
    scan(other, index=second)
    first.save()
    second.save()
    looked_at.clear()
    assert find(folder, path) == scan(folder)
    looked_at.clear()
    find(other, path)
    assert looked_at == []
