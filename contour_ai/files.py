"""Writing files and folders so that nothing is ever half-written, under names that every file system accepts."""

from __future__ import annotations

import os
import re
import shutil
import time
import unicodedata
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from contour_ai.errors import OutputError

MAX_NAME_CHARACTERS = 80
"""Windows paths are limited to 260 characters in all; one name must leave room for the folders above it."""

RESERVED_ON_WINDOWS = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


def safe_name(text: str, fallback: str = "unnamed") -> str:
    """`text` (a DICOM tag's value) as a file or folder name for Windows, Linux and macOS.

    Accents and every character but letters, digits, '.', '-' and '_' are replaced; device names of Windows
    and leading dots get an underscore. Different texts may give the same name: check for collisions where it matters.
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", plain)[:MAX_NAME_CHARACTERS].rstrip("._ ").lstrip("_ ")
    if not name:
        return fallback
    if name.startswith(".") or RESERVED_ON_WINDOWS.fullmatch(name):
        name = "_" + name
    return name


@contextmanager
def atomic_file(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields a temporary path beside `path`; moves it into place if the block succeeds, removes it if not.

    Raises:
        OutputError: `path` exists and `overwrite` is False, or it cannot be written.
    """
    path = Path(path)
    _refuse_existing(path, overwrite)
    if overwrite and path.is_dir():
        raise OutputError("A folder stands where a file is to be written.", where=path)
    temporary = _temporary_beside(path)
    try:
        yield temporary
        _retrying(lambda: os.replace(temporary, path))
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields a temporary folder beside `path`; moves it into place if the block succeeds, removes it if not.

    With `overwrite` an existing folder is replaced as a whole, and stays as it was if the block fails.

    Raises:
        OutputError: `path` exists and `overwrite` is False, or it cannot be written.
    """
    path = Path(path)
    _refuse_existing(path, overwrite)
    if overwrite and path.is_file():
        raise OutputError("A file stands where a folder is to be written.", where=path)
    temporary = _temporary_beside(path)
    replaced = path.with_name(f"{temporary.name}.old")
    try:
        temporary.mkdir()
        yield temporary
        if path.exists():
            _retrying(lambda: os.replace(path, replaced))
        try:
            _retrying(lambda: os.replace(temporary, path))
        except OSError:
            if replaced.exists():
                os.replace(replaced, path)
            raise
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def check_target(path: Path, *, overwrite: bool = False) -> None:
    """Whether `atomic_folder` will be able to write `path`: to know before the work rather than after it.

    Raises:
        OutputError: as `atomic_folder` does.
    """
    path = Path(path)
    _refuse_existing(path, overwrite)
    temporary = _temporary_beside(path)
    try:
        temporary.mkdir()
        temporary.rmdir()
    except OSError as error:
        raise _unwritable(path, error) from error


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise OutputError(
            "The output exists already.", where=path, fix="give --overwrite to replace it, or another --out"
        )


def _temporary_beside(path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error
    # Short, so that a long target name still fits; the suffix stays last so that writers that go by it work.
    return path.with_name(f".tmp-{uuid.uuid4().hex[:8]}{path.suffix if len(path.suffix) < 8 else ''}")


def _retrying(move: Callable[[], None], attempts: int = 5) -> None:
    """On Windows a virus scanner may hold a new file for a moment: try again before giving up."""
    for attempt in range(attempts):
        try:
            move()
            return
        except PermissionError:
            if attempt == attempts - 1:
                raise
            time.sleep(0.1 * 2**attempt)


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        "The output cannot be written.",
        where=path,
        found=error.strerror or error,
        fix="choose a folder you may write to, with free space",
    )
