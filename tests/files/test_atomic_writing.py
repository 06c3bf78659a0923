"""Nothing half-written, and names that Windows takes."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from contour_ai.errors import GeometryError, OutputError
from contour_ai.files import (
    MANIFEST,
    MAX_NAME_CHARACTERS,
    NPZ,
    RTSTRUCT,
    atomic_file,
    atomic_folder,
    check_target,
    safe_name,
    update_manifest,
)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name != MANIFEST)


def make(folder: Path, **files: str) -> Path:
    with atomic_folder(folder, overwrite=True) as temporary:
        for name, text in files.items():
            (temporary / name).write_text(text, encoding="utf-8")
    return folder


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
    assert names(target) == ["one"]
    with atomic_folder(target, overwrite=True) as temporary:
        (temporary / "two").write_text("2", encoding="utf-8")
    assert names(target) == ["two"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_no_empty_folder_is_left_where_nothing_was_written(tmp_path: Path) -> None:
    """Folders that were missing go again; those that were there, and those that hold something, stay."""
    (tmp_path / "there").mkdir()
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "there" / "new" / "newer" / "out") as folder:
        (folder / "a.txt").write_text("half")
        raise RuntimeError
    assert list(tmp_path.rglob("*")) == [tmp_path / "there"]

    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "new" / "out"):
        (tmp_path / "new" / "theirs.txt").write_text("of another process")
        raise RuntimeError
    assert sorted(tmp_path.rglob("*.txt")) == [tmp_path / "new" / "theirs.txt"]

    check_target(tmp_path / "later" / "out")
    assert not (tmp_path / "later").exists()


def test_overwrite_is_not_advised_where_it_would_be_refused(tmp_path: Path) -> None:
    target = make(tmp_path / "out", one="1")
    with pytest.raises(OutputError, match="give --overwrite"):
        check_target(target)
    with pytest.raises(OutputError, match=r"exists already(?s:.)*the input") as caught:
        check_target(target, inputs=[target])
    assert "--overwrite" not in str(caught.value)
    (target / "one").write_text("edited", encoding="utf-8")
    with pytest.raises(OutputError, match="exists already") as caught:
        check_target(target)
    assert caught.value.found == f"{target / 'one'}: changed since contour-ai wrote it"
    assert "move what you want to keep" in str(caught.value.fix) and "--overwrite" not in str(caught.value)
    masks = tmp_path / "m.npz"
    masks.write_bytes(b"no masks")
    with pytest.raises(OutputError, match="exists already") as caught, atomic_file(masks, kind=NPZ):
        pass
    assert "--overwrite" not in str(caught.value) and "another kind" in str(caught.value)


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


# -- what is never replaced ---------------------------------------------------------------------------------------


def refused(folder: Path, match: str, *inputs: Path) -> None:
    """Neither before the work nor after it, and all stays as it was."""
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(OutputError, match=match):
        check_target(folder, overwrite=True, inputs=inputs)
    with pytest.raises(OutputError, match=match), atomic_folder(folder, overwrite=True, inputs=inputs):
        pytest.fail("the work began")
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_a_folder_of_somebody_else_is_not_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "letter.txt").write_text("dear", encoding="utf-8")
    refused(folder, r"(?s)did not write there.*letter.txt: not listed.*move what you want to keep")


def test_a_foreign_file_keeps_an_output_folder(tmp_path: Path) -> None:
    folder = make(tmp_path / "out", one="1")
    (folder / "below").mkdir()
    (folder / "below" / "notes.txt").write_text("seen", encoding="utf-8")
    refused(folder, r"notes.txt: not written by contour-ai")


@pytest.mark.parametrize("text", ["2", "longer"])
def test_a_changed_file_keeps_an_output_folder(tmp_path: Path, text: str) -> None:
    folder = make(tmp_path / "out", one="1", two="1")
    (folder / "two").write_text(text, encoding="utf-8")
    refused(folder, r"two: changed since contour-ai wrote it")


def test_a_file_changed_while_the_work_went_on_keeps_the_folder(tmp_path: Path) -> None:
    folder = make(tmp_path / "out", one="1")
    with (
        pytest.raises(OutputError, match="one: changed since"),
        atomic_folder(folder, overwrite=True) as temporary,
    ):
        (temporary / "new").write_text("new", encoding="utf-8")
        (folder / "one").write_text("edited meanwhile", encoding="utf-8")
    assert (folder / "one").read_text(encoding="utf-8") == "edited meanwhile"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_what_contour_ai_itself_changed_or_what_was_deleted_keeps_nothing(tmp_path: Path) -> None:
    folder = make(tmp_path / "out", one="1", two="2")
    (folder / "one").write_text("3", encoding="utf-8")
    update_manifest(folder, "one")
    (folder / "two").unlink()
    (folder / ".DS_Store").write_text("macOS", encoding="utf-8")
    assert names(make(folder, new="")) == ["new"]


def test_a_damaged_manifest_keeps_an_output_folder(tmp_path: Path) -> None:
    folder = make(tmp_path / "out", one="1")
    (folder / MANIFEST).write_text('{"record": "results", "files": [', encoding="utf-8")
    refused(folder, "list of the folder's files cannot be read")


def test_an_input_is_not_replaced_even_where_all_in_it_is_listed(tmp_path: Path) -> None:
    folder = make(tmp_path / "out", one="1")
    refused(folder, "(?s)replaced is an input.*choose another --out", folder)
    refused(folder, "replaced holds an input", folder / "one")
    refused(folder, "replaced lies in an input", tmp_path)
    with atomic_folder(tmp_path / "new", inputs=[tmp_path]) as temporary:  # a new one may lie there
        (temporary / "two").touch()
    assert (tmp_path / "new" / "two").exists()


def test_a_link_is_not_replaced(tmp_path: Path) -> None:
    folder = make(tmp_path / "out", one="1")
    try:
        (tmp_path / "link").symlink_to(folder, target_is_directory=True)
    except OSError:
        pytest.skip("no links here")
    refused(tmp_path / "link", "A link stands where a folder")


def test_a_folder_of_the_program_itself_sets_foreign_files_aside(tmp_path: Path) -> None:
    folder = make(tmp_path / "worst", one="1")
    (folder / "notes.txt").write_text("seen", encoding="utf-8")
    for text in "ab":
        with atomic_folder(folder, overwrite=True, set_aside=True) as temporary:
            (temporary / text).touch()
    assert names(folder) == ["b"] and sorted(p.name for p in tmp_path.iterdir()) == [
        "worst",
        "worst.before-1",
    ]
    assert (tmp_path / "worst.before-1" / "notes.txt").read_text(encoding="utf-8") == "seen"


def test_a_file_is_replaced_by_one_of_its_kind_only(tmp_path: Path) -> None:
    path = tmp_path / "x.dcm"
    slice_start = bytes(128) + b"DICM" + bytes(12) + b"\x02\x00\x02\x00UI\x1a\x001.2.840.10008.5.1.4.1.1.2\0"
    path.write_bytes(slice_start)
    with (
        pytest.raises(OutputError, match=r"(?s)another kind.*RTSTRUCT"),
        atomic_file(path, overwrite=True, kind=RTSTRUCT),
    ):
        pass
    assert path.read_bytes() == slice_start
    structures = bytes(128) + b"DICM" + b"\x02\x00\x02\x00UI\x1e\x001.2.840.10008.5.1.4.1.1.481.3\0"
    path.write_bytes(structures)
    with (
        pytest.raises(OutputError, match="is an input"),
        atomic_file(path, overwrite=True, kind=RTSTRUCT, inputs=[tmp_path / "." / "x.dcm"]),
    ):
        pass
    with pytest.raises(OutputError, match="npz"), atomic_file(path, overwrite=True, kind=NPZ):
        pass
    with atomic_file(path, overwrite=True, kind=RTSTRUCT) as temporary:
        temporary.write_bytes(structures + b"new")
    assert path.read_bytes() == structures + b"new"


def test_a_file_that_appears_while_the_work_goes_on_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with pytest.raises(OutputError, match="exists already"), atomic_file(path) as temporary:
        temporary.write_text("ours", encoding="utf-8")
        path.write_text("theirs", encoding="utf-8")
    assert path.read_text(encoding="utf-8") == "theirs"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
