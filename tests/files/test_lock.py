"""One process at a time in a folder; a lock whose holder is gone is taken over."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from contour_ai.errors import OutputError
from contour_ai.files import LOCK, only_one, this_process
from contour_ai.files.lock import SILENT_S

KILLED = """
import os, sys
from pathlib import Path
from contour_ai.files import only_one
with only_one(Path(sys.argv[1]), what="", fix=""):
    os._exit(9)
"""


def enter(folder: Path) -> None:
    with only_one(folder, what="Busy.", fix="wait"):
        assert (folder / LOCK).exists()


def test_a_lock_goes_with_its_block(tmp_path: Path) -> None:
    enter(tmp_path / "new")
    with pytest.raises(RuntimeError), only_one(tmp_path / "new", what="", fix=""):
        raise RuntimeError
    enter(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_the_holder_is_named(tmp_path: Path) -> None:
    with only_one(tmp_path, what="", fix=""):
        with pytest.raises(OutputError, match=rf"(?s)Busy.*process {os.getpid()} on .*what to do: wait"):
            enter(tmp_path)
        assert (tmp_path / LOCK).exists()


def test_a_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False).returncode == 9
    assert (tmp_path / LOCK).exists()
    enter(tmp_path)


def test_a_process_of_another_computer_counts_while_it_touches_its_lock(tmp_path: Path) -> None:
    me = this_process()
    content = {"host": "abcdef", "pid": 1, "start": me.start, "computer": "node7", "since": "yesterday"}
    (tmp_path / LOCK).write_text(json.dumps(content), encoding="ascii")
    with pytest.raises(OutputError, match="process 1 on node7, since yesterday"):
        enter(tmp_path)
    os.utime(tmp_path / LOCK, (time.time() - SILENT_S - 60,) * 2)
    enter(tmp_path)


def test_a_damaged_lock_is_taken_over_once_it_is_old(tmp_path: Path) -> None:
    (tmp_path / LOCK).touch()
    with pytest.raises(OutputError, match="just made"):
        enter(tmp_path)
    os.utime(tmp_path / LOCK, (time.time() - 60,) * 2)
    enter(tmp_path)


@pytest.mark.parametrize("links", [True, False])
def test_a_lock_that_was_interrupted_while_it_was_written_locks_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """Ctrl-C there left an empty lock, and for ten seconds the next training was refused."""
    with monkeypatch.context() as patched:
        if not links:
            patched.setattr(os, "link", no_links)
        patched.setattr(os, "fdopen", interrupted)
        with pytest.raises(KeyboardInterrupt):
            enter(tmp_path)
    assert list(tmp_path.iterdir()) == []
    enter(tmp_path)


def test_a_lock_on_a_disk_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", no_links)
    with only_one(tmp_path, what="", fix=""):
        with pytest.raises(OutputError, match=f"Busy.(?s:.*)process {os.getpid()} on "):
            enter(tmp_path)
        assert (tmp_path / LOCK).exists()
    assert list(tmp_path.iterdir()) == []


def no_links(*paths: object) -> None:
    raise OSError(errno.EOPNOTSUPP, "no hard links")


def interrupted(number: int, *arguments: object, **options: object) -> None:
    os.close(number)
    raise KeyboardInterrupt
