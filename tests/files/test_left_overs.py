"""What a killed process leaves: told from what is being written, removed, and put back into its place."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from contour_ai.errors import OutputError
from contour_ai.files import MANIFEST, atomic_file, atomic_folder, is_temporary, this_process
from contour_ai.files.process import ProcessId
from contour_ai.files.temporary import ABANDONED_S, clear_left_behind, maker_of, temporary_name

DYING = """
import os, sys
from pathlib import Path
from contour_ai.files import atomic_folder, atomic_file
target, when = Path(sys.argv[1]), sys.argv[2]
moves = 0
rename = Path.rename
def dying(self, other):
    global moves
    moves += 1
    if when == f"before move {moves}":
        os._exit(9)
    rename(self, other)
    if when == f"after move {moves}":
        os._exit(9)
Path.rename = dying
with atomic_file(target.with_name("file.txt")) as path:
    path.touch()
    with atomic_folder(target, overwrite=True) as folder:
        (folder / "new").touch()
        if when == "writing":
            os._exit(9)
"""


def die(target: Path, when: str) -> None:
    """Another process, which dies while it replaces a folder (and writes a file beside it)."""
    assert subprocess.run([sys.executable, "-c", DYING, str(target), when], check=False).returncode == 9


def make(folder: Path, name: str) -> None:
    with atomic_folder(folder) as temporary:
        (temporary / name).touch()


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name != MANIFEST)


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("writing", "old"),
        ("before move 1", "old"),
        ("after move 1", "new"),
        ("before move 2", "new"),
        ("after move 2", "new"),
    ],
)
def test_whenever_a_process_dies_one_whole_folder_stands_there_after_the_next_run(
    tmp_path: Path, when: str, expected: str
) -> None:
    make(tmp_path / "out", "old")
    die(tmp_path / "out", when)
    assert any(is_temporary(p.name) for p in tmp_path.iterdir())
    clear_left_behind(tmp_path)
    assert names(tmp_path) == ["out"] and names(tmp_path / "out") == [expected]


def test_a_result_that_was_put_back_is_not_overwritten_unasked(tmp_path: Path) -> None:
    make(tmp_path / "out", "old")
    die(tmp_path / "out", "after move 1")
    assert not (tmp_path / "out").exists()
    with pytest.raises(OutputError, match="exists already"), atomic_folder(tmp_path / "out"):
        pass
    assert names(tmp_path) == ["out"] and names(tmp_path / "out") == ["new"]


def test_the_next_file_that_is_written_clears_up(tmp_path: Path) -> None:
    die(tmp_path / "out", "writing")
    assert len(names(tmp_path)) == 2
    with atomic_file(tmp_path / "a.txt") as path:
        path.touch()
    assert names(tmp_path) == ["a.txt"]


def test_two_renames_that_fail_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "out", "old")
    rename, moves = Path.rename, 0

    def failing(self: Path, target: Path) -> Path:
        nonlocal moves
        moves += 1
        if moves > 1:
            raise OSError(5, "the share is gone")
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", failing)
        with (
            pytest.raises(
                OutputError, match=r"(?s)nor the earlier one back.*earlier result lies in .*\.old.*again"
            ),
            atomic_folder(tmp_path / "out", overwrite=True) as temporary,
        ):
            (temporary / "new").touch()
    assert not (tmp_path / "out").exists()
    record = next(p for p in tmp_path.iterdir() if p.suffix == ".swap")
    gone = ProcessId(this_process().host, 2**22 + 7, "0" * 6)  # as seen from the next run
    record.rename(record.with_name(f".tmp-{gone.host}-{gone.pid}-{gone.start}-0000.swap"))
    clear_left_behind(tmp_path)
    assert names(tmp_path / "out") == ["new"] and names(tmp_path) == ["out"]


@pytest.mark.parametrize("again", [False, True], ids=["once", "and every one after it"])
@pytest.mark.parametrize(
    "error", [OSError(5, "the share is gone"), KeyboardInterrupt()], ids=["error", "Ctrl-C"]
)
@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("set_aside", [False, True])
def test_a_rename_that_fails_anywhere_leaves_one_whole_folder_after_the_next_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    set_aside: bool,
    number: int,
    done: bool,
    error: BaseException,
    again: bool,
) -> None:
    make(tmp_path / "out", "old")
    if set_aside:
        (tmp_path / "out" / "of somebody").touch()
    rename, moves = Path.rename, 0

    def failing(self: Path, target: Path) -> Path:
        nonlocal moves
        moves += 1
        if moves == number or (again and moves > number):
            if done:
                rename(self, target)
            raise error
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", failing)
        with (
            contextlib.suppress(OutputError, KeyboardInterrupt),
            atomic_folder(tmp_path / "out", overwrite=True, set_aside=set_aside) as temporary,
        ):
            (temporary / "new").touch()
    if any(p.suffix == ".swap" for p in tmp_path.iterdir()):  # as seen from the next run
        record = next(p for p in tmp_path.iterdir() if p.suffix == ".swap")
        gone = ProcessId(this_process().host, 2**22 + 7, "0" * 6)
        record.rename(record.with_name(f".tmp-{gone.host}-{gone.pid}-{gone.start}-0000.swap"))
    clear_left_behind(tmp_path)
    stands = names(tmp_path / "out") if (tmp_path / "out").exists() else []
    beside = [name for name in names(tmp_path) if name != "out"]
    if set_aside:
        kept = [tmp_path / name for name in beside] or [tmp_path / "out"]
        assert names(kept[0]) == ["of somebody", "old"], "what somebody put there is never lost"
        assert stands in (["new"], ["of somebody", "old"]) or (again and not stands)
    else:
        assert stands in (["new"], ["old"]) and beside == []


def test_what_a_running_process_writes_stays(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "one") as temporary:
        (temporary / "a").touch()
        clear_left_behind(tmp_path)
        assert (temporary / "a").exists()
        code = "import sys, pathlib, contour_ai.files as f; f.clear_left_behind(pathlib.Path(sys.argv[1]))"
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
        assert (temporary / "a").exists()
    assert maker_of(temporary.name) == this_process() and this_process().is_running


def test_a_number_used_again_is_another_process(tmp_path: Path) -> None:
    me = this_process()
    earlier = ProcessId(me.host, me.pid, "000000" if me.start != "000000" else "000001")
    assert not earlier.is_running
    left = tmp_path / temporary_name().replace(f"-{me.start}-", f"-{earlier.start}-")
    left.mkdir()
    clear_left_behind(tmp_path)
    assert not left.exists()


@pytest.mark.parametrize("name", [".tmp-aaaaaa-1-bbbbbb-cccc", ".tmp-0123abcd", ".tmp-0123abcd.dcm"])
def test_what_another_computer_writes_goes_only_when_it_was_left_long_ago(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.mkdir()
    (path / "a").touch()
    os.utime(path, (0, 0))
    clear_left_behind(tmp_path)
    assert path.exists() and is_temporary(name)
    os.utime(path / "a", (time.time() - ABANDONED_S - 60,) * 2)
    os.utime(path, (0, 0))
    clear_left_behind(tmp_path)
    assert not path.exists()


def test_a_replaced_folder_without_its_record_is_never_removed(tmp_path: Path) -> None:
    gone = ProcessId(this_process().host, 2**22 + 7, "0" * 6)
    old = tmp_path / f".tmp-{gone.host}-{gone.pid}-{gone.start}-0000.old"
    old.mkdir()
    clear_left_behind(tmp_path)
    assert old.exists()


@pytest.mark.parametrize("name", [".tmp-mine", ".tmp-0123abc", ".tmp-0123ABCD", ".tmp-aaaaaa-1-bbbbbb-cccc0"])
def test_names_that_are_nearly_ours_are_no_input_and_stay(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    os.utime(tmp_path / name, (0, 0))
    clear_left_behind(tmp_path, exclusive=True)
    assert (tmp_path / name).exists() and is_temporary(name)


@pytest.mark.parametrize("name", ["tmp", ".tmp", ".tmpl", "a.tmp-0123abcd"])
def test_other_names_are_not_taken_for_temporary_ones(name: str) -> None:
    assert not is_temporary(name)
