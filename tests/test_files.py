"""Nothing half-written, and names that Windows takes."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from contour_ai.errors import GeometryError, OutputError
from contour_ai.files import MAX_NAME_CHARACTERS, atomic_file, atomic_folder, safe_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("12345", "12345"),
        ("a/b\\c:d*e", "a_b_c_d_e"),
        ("../../etc/passwd", "_.._.._etc_passwd"),
        ("Müller^Jörg", "Muller_Jorg"),
        ("CON", "_CON"),
        ("nul.dcm", "_nul.dcm"),
        ("trailing. ", "trailing"),
        ("", "unnamed"),
        ("///", "unnamed"),
        ("..", "unnamed"),
        (".hidden", "_.hidden"),
        ("患者", "unnamed"),
    ],
)
def test_safe_name(text: str, name: str) -> None:
    assert safe_name(text) == name


def test_safe_name_is_never_too_long() -> None:
    assert len(safe_name("x" * 300)) == MAX_NAME_CHARACTERS


def test_a_failed_file_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.txt"
    with pytest.raises(RuntimeError), atomic_file(target) as temporary:
        temporary.write_text("half", encoding="utf-8")
        raise RuntimeError
    assert list(target.parent.iterdir()) == []
    with atomic_file(target) as temporary:
        assert temporary.suffix == ".txt" and temporary.parent == target.parent
        temporary.write_text("whole", encoding="utf-8")
    assert target.read_text(encoding="utf-8") == "whole"


def test_an_existing_output_is_kept_unless_asked(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old", encoding="utf-8")
    with pytest.raises(OutputError, match=r"(?s)exists already.*--overwrite"), atomic_file(target):
        pass
    with pytest.raises(RuntimeError), atomic_file(target, overwrite=True):
        raise RuntimeError
    assert target.read_text(encoding="utf-8") == "old"


def test_a_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with atomic_folder(target) as temporary:
        (temporary / "one").write_text("1", encoding="utf-8")
    with pytest.raises(OutputError, match="exists already"), atomic_folder(target):
        pass
    with pytest.raises(RuntimeError), atomic_folder(target, overwrite=True) as temporary:
        (temporary / "two").write_text("2", encoding="utf-8")
        raise RuntimeError
    assert [p.name for p in target.iterdir()] == ["one"]
    with atomic_folder(target, overwrite=True) as temporary:
        (temporary / "two").write_text("2", encoding="utf-8")
    assert [p.name for p in target.iterdir()] == ["two"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_an_output_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OutputError, match="cannot be written"), atomic_folder(tmp_path / "file" / "out"):
        pass
    with (
        pytest.raises(OutputError, match="folder stands where a file"),
        atomic_file(tmp_path, overwrite=True),
    ):
        pass
    with (
        pytest.raises(OutputError, match="file stands where a folder"),
        atomic_folder(tmp_path / "file", overwrite=True),
    ):
        pass


def test_errors_travel_between_processes_whole() -> None:
    error = GeometryError("What.", where="here", found=1, expected=2, fix="do this")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is GeometryError and str(again) == str(error)
    assert str(error) == "What.\n  where: here\n  found: 1\n  expected: 2\n  what to do: do this"
