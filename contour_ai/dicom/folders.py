"""Which files lie in a folder: those of a run that goes on, and results of contour-ai, are no input."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from contour_ai.errors import InputError
from contour_ai.files import MANIFEST, Manifest, is_temporary


class ClosedFolder(NamedTuple):
    """A folder that cannot be opened, and why."""

    folder: Path
    reason: str


@dataclass(frozen=True)
class Listing:
    """The files at or below a path, sorted within their folders."""

    files: tuple[Path, ...]
    results: tuple[Path, ...] = ()
    """Folders of results of contour-ai, which were skipped."""
    closed: tuple[ClosedFolder, ...] = ()


def list_files(path: Path) -> Listing:
    """The files at or below a path.

    Raises:
        InputError: the path does not exist, or is an unfinished file.
    """
    path = Path(path)
    if is_temporary(path.name):
        raise InputError(
            "This is an unfinished file or folder of a run that goes on, or was broken off.",
            where=path,
            fix="wait for the run, or start it again; the next run removes what a broken one has left",
        )
    if path.is_dir():
        return files_below(path)
    if not path.exists():
        raise InputError("No such file or folder.", where=path)
    return Listing((path,))


def files_below(root: Path) -> Listing:
    """The files of a folder and those below it; folders of results below it are skipped.

    Links to folders are followed; a folder with several ways to it is looked into once.
    """
    files: list[Path] = []
    results: list[Path] = []
    closed: list[ClosedFolder] = []

    def cannot_open(error: OSError) -> None:
        closed.append(ClosedFolder(Path(error.filename or root), error.strerror or str(error)))

    seen: set[str] = set()
    for folder, folders, names in os.walk(root, onerror=cannot_open, followlinks=True):
        real = os.path.realpath(folder)
        here = Path(folder)
        holds_results = MANIFEST in names and here != root and _holds_results(here)
        if real in seen or holds_results:
            folders.clear()
        if holds_results and real not in seen:
            results.append(here)
        if real not in seen and not holds_results:
            folders[:] = sorted(name for name in folders if not is_temporary(name))
            files += [here / n for n in sorted(names) if n != MANIFEST and not is_temporary(n)]
        seen.add(real)
    return Listing(tuple(files), tuple(results), tuple(closed))


def _holds_results(folder: Path) -> bool:
    manifest = Manifest.load(folder)
    return manifest is not None and manifest.record == "results"
