"""Saves the node's storage while it runs, and brings it back."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

from contour_ai.errors import InputError, OutputError
from contour_ai.files import atomic_folder

DATABASE = "node.sqlite"
LEFT_OUT = shutil.ignore_patterns("node.sqlite*", "node.lock", "incoming", ".tmp-*")


def back_up(storage: Path, target: Path) -> None:
    """Copies a storage: the database first, as it is at one moment, then the files, of which there are more by then.

    Raises:
        InputError: there is no storage.
        OutputError: `target` exists or cannot be written.
    """
    if not (storage / DATABASE).is_file():
        raise InputError("There is no storage of a node here.", where=storage)
    with atomic_folder(target) as temporary:
        source, copy = sqlite3.connect(storage / DATABASE), sqlite3.connect(temporary / DATABASE)
        try:
            source.backup(copy)
        finally:
            source.close()
            copy.close()
        shutil.copytree(storage, temporary, ignore=LEFT_OUT, dirs_exist_ok=True, copy_function=_copy)


def _copy(source: str, target: str) -> None:
    """A file; one that a node which runs removed meanwhile is left out."""
    with contextlib.suppress(FileNotFoundError):
        shutil.copy2(source, target)


def bring_back(backup: Path, storage: Path) -> None:
    """Makes a backup the storage of a node that has none.

    Raises:
        InputError: this is no backup.
        OutputError: there is a storage already.
    """
    if not (backup / DATABASE).is_file():
        raise InputError("This is no backup of a node's storage.", where=backup, expected=DATABASE)
    if storage.exists() and any(storage.iterdir()):
        raise OutputError(
            "There is a storage already.", where=storage, fix="move it away, or choose another `storage`"
        )
    if storage.exists():
        storage.rmdir()
    with atomic_folder(storage) as temporary:
        shutil.copytree(backup, temporary, dirs_exist_ok=True)
