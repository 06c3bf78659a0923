"""A folder that one process at a time works in."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from contour_ai.errors import OutputError
from contour_ai.files.private import OWNER_FILE
from contour_ai.files.process import ProcessId, this_process
from contour_ai.files.temporary import temporary_name

LOCK = ".contour-ai.lock"

BEAT_S = 30.0
"""The holder touches its lock so often: all that a process of another host can see of it."""

SILENT_S = 300.0
"""A holder on another host that was silent for so long no longer runs."""

BEING_WRITTEN_S = 10.0
"""A lock that cannot be read is younger than this only while its holder writes it, on a disk without hard links."""


@dataclass(frozen=True)
class Holder:
    """Who works in a folder."""

    process: ProcessId
    computer: str
    since: str

    def __str__(self) -> str:
        return f"process {self.process.pid} on {self.computer}, since {self.since}"


@contextmanager
def only_one(folder: Path, *, what: str, fix: str) -> Iterator[None]:
    """While the block runs, no other process enters it for the same folder, which is made if need be.

    Args:
        what: sentence of the error where another one works there.
        fix: what to do then.

    Raises:
        OutputError: another process works there, which is named; or the folder cannot be written.
    """
    path = Path(folder) / LOCK
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while not _taken(path):
            _refuse_holder(path, what, fix)
    except OSError as error:
        raise OutputError("The folder cannot be written.", where=folder, found=error.strerror) from error
    done = threading.Event()
    threading.Thread(target=_beat, args=(path, done), daemon=True).start()
    try:
        yield
    finally:
        done.set()
        holder = _read(path)
        if holder is not None and holder.process == this_process():
            with contextlib.suppress(OSError):
                path.unlink()


def _taken(path: Path) -> bool:
    """Whether this process has made the lock; False where it is there already.

    It appears with its content: an interrupt in between would leave a lock of which nobody knows whose it is.
    """
    me = this_process()
    content = {
        "host": me.host,
        "pid": me.pid,
        "start": me.start,
        "computer": platform.node(),
        "since": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }
    text = json.dumps(content)
    temporary = path.with_name(temporary_name())
    try:
        _write_new(temporary, text)
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        return _taken_in_place(path, text)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _taken_in_place(path: Path, text: str) -> bool:
    try:
        _write_new(path, text)
    except FileExistsError:
        return False
    except BaseException:
        with contextlib.suppress(OSError):
            path.unlink()
        raise
    return True


def _write_new(path: Path, text: str) -> None:
    """Writes a file that only its owner may read.

    Raises:
        FileExistsError: it is there already.
    """
    number = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, OWNER_FILE)
    with os.fdopen(number, "w", encoding="ascii") as file:
        file.write(text)


def _read(path: Path) -> Holder | None:
    try:
        c = json.loads(path.read_text(encoding="ascii"))
        return Holder(ProcessId(str(c["host"]), int(c["pid"]), str(c["start"])), c["computer"], c["since"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _refuse_holder(path: Path, what: str, fix: str) -> None:
    """Takes a lock away whose holder no longer runs.

    Raises:
        OutputError: the holder runs.
    """
    holder, silent_s = _read(path), _silent_s(path)
    if holder is None:
        runs = silent_s < BEING_WRITTEN_S
    elif holder.process.is_of_this_host:
        runs = holder.process.is_running
    else:
        runs = silent_s < SILENT_S
    if runs:
        raise OutputError(what, where=path.parent, found=holder or "a lock that was just made", fix=fix)
    # Moved before it is removed: between the look and now another process may have done the same and hold it now.
    moved = path.with_name(temporary_name())
    with contextlib.suppress(FileNotFoundError):
        path.rename(moved)
        if _read(moved) != holder:
            moved.rename(path)
        moved.unlink(missing_ok=True)


def _silent_s(path: Path) -> float:
    """Seconds since the lock was touched, by the clock of the disk that it lies on."""
    probe = path.with_name(temporary_name())
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
    finally:
        probe.unlink(missing_ok=True)


def _beat(path: Path, done: threading.Event) -> None:
    while not done.wait(BEAT_S):
        with contextlib.suppress(OSError):
            os.utime(path, (time.time(), time.time()))
