"""Names of files and folders that are being written, and what becomes of those that a killed process left."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from contour_ai.files.process import ProcessId, this_process

logger = logging.getLogger(__name__)

PREFIX = ".tmp-"
OURS = re.compile(
    r"\.tmp-(?P<host>[0-9a-f]{6})-(?P<pid>[0-9]{1,10})-(?P<start>[0-9a-f]{6})-[0-9a-f]{4}(?P<suffix>\..*)?"
)
OF_0_1 = re.compile(r"\.tmp-[0-9a-f]{8}(\..*)?")
"""Names of version 0.1, which do not say whose they are."""

SWAP = ".swap"
"""Suffix of the record of a folder that is being replaced."""
OLD = ".old"
"""Suffix of the folder that is replaced, until the new one stands in its place."""

ABANDONED_S = 2 * 86_400
"""What a process of another host wrote last so long ago, it will not finish. Nothing else tells on a network share."""

SWAP_S = 300.0
"""The two renames of a replacement take no time: a record older than this, of another host, is of one broken off."""

CLEAR_EVERY_S = 60.0
"""A process that writes many files into a folder looks for left-overs there once in so long."""

_cleared: dict[str, float] = {}


def is_temporary(name: str) -> bool:
    """Whether a file or folder of this name is unfinished: it is never input."""
    return name.startswith(PREFIX)


def is_ours(name: str) -> bool:
    """Whether contour-ai gave a file or folder this temporary name: other names are not input either, but stay."""
    return bool(OURS.fullmatch(name) or OF_0_1.fullmatch(name))


def temporary_name(suffix: str = "") -> str:
    """A new name that says which process uses it. The suffix stays last, so that writers that go by it work."""
    owner = this_process()
    return f"{PREFIX}{owner.host}-{owner.pid}-{owner.start}-{uuid.uuid4().hex[:4]}{suffix}"


def maker_of(name: str) -> ProcessId | None:
    """The process that uses a temporary name; None where the name does not say."""
    found = OURS.fullmatch(name)
    return None if found is None else ProcessId(found["host"], int(found["pid"]), found["start"])


# -- a folder in the place of another ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Swap:
    """A folder that is being replaced, in two renames: the names, all beside each other."""

    target: str
    new: str
    old: str

    def save(self, path: Path) -> None:
        """Writes the record so that it outlives a loss of power in the middle of the two renames."""
        with path.open("w", encoding="ascii", newline="\n") as file:
            json.dump(asdict(self), file)
            file.flush()
            os.fsync(file.fileno())

    @classmethod
    def load(cls, path: Path) -> Swap | None:
        """The record, or None where it was not written to its end: then nothing was renamed yet."""
        try:
            content = json.loads(path.read_text(encoding="ascii"))
            names = [content[key] for key in ("target", "new", "old")]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if not all(isinstance(name, str) and name and name == Path(name).name for name in names):
            return None
        return cls(*names) if all(map(is_ours, names[1:])) else None


def finish_swap(path: Path) -> None:
    """Ends a replacement that was broken off, so that one whole folder stands under its name.

    The new folder takes the place where it is free: it was whole before the first rename. The old one goes only once
    the new one stands there.
    """
    swap = Swap.load(path)
    if swap is None:
        path.unlink(missing_ok=True)
        return
    target, new, old = (path.with_name(name) for name in (swap.target, swap.new, swap.old))
    if not os.path.lexists(target):
        if new.is_dir():
            new.rename(target)
        elif old.is_dir():
            old.rename(target)
        logger.warning("put %s in its place: the run that wrote it was broken off", target)
    if old.is_dir() and new.is_dir():
        logger.warning("%s was made by someone else while it was replaced; kept: %s and %s", target, old, new)
        return
    remove(new)
    remove(old)
    path.unlink(missing_ok=True)


# -- left-overs ------------------------------------------------------------------------------------------------


def clear_left_behind(folder: Path, *, now: bool = True, exclusive: bool = False) -> None:
    """Removes what killed processes left unfinished in `folder`, after putting replaced folders in their place.

    What a running process, or one of another host, works on stays. Nothing here is an error: the folder may be missing
    or not writable.

    Args:
        now: look, even if this process has looked a moment ago.
        exclusive: no other host or earlier version works in this folder; what no process here uses was left.
    """
    key = str(folder.absolute())
    last = _cleared.get(key)
    if not now and last is not None and time.monotonic() - last < CLEAR_EVERY_S:
        return
    _cleared[key] = time.monotonic()
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if is_ours(entry.name))
    except OSError:
        return
    left = [folder / name for name in names if _is_left(folder / name, exclusive=exclusive)]
    for path in [p for p in left if p.suffix == SWAP]:
        with contextlib.suppress(OSError):
            finish_swap(path)
    for path in left:
        # A replaced folder without its record may be the only whole one: it stays.
        if path.suffix not in (SWAP, OLD):
            remove(path, unless_in_use=True)


def _is_left(path: Path, *, exclusive: bool) -> bool:
    maker = maker_of(path.name)
    if maker is not None and maker.is_of_this_host:
        return not maker.is_running
    if exclusive:
        return True
    try:
        return time.time() - _last_change_s(path) > (SWAP_S if path.suffix == SWAP else ABANDONED_S)
    except OSError:
        return False


def _last_change_s(path: Path) -> float:
    last = path.lstat().st_mtime
    for folder, folders, names in os.walk(path):
        for name in [*folders, *names]:
            with contextlib.suppress(OSError):
                last = max(last, Path(folder, name).lstat().st_mtime)
    return last


def remove(path: Path, *, unless_in_use: bool = False) -> None:
    """Removes a file or a folder with all in it, as far as that is possible.

    Args:
        unless_in_use: keep what a replacement that is under way needs.
    """
    if unless_in_use and _needed(path):
        return
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _needed(path: Path) -> bool:
    for record in path.parent.glob(f".tmp-*{SWAP}"):
        swap = Swap.load(record)
        if swap is not None and path.name in (swap.new, swap.old):
            return True
    return False
