"""Writing files and folders: whole or not at all, and never in the place of what contour-ai did not make."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from contour_ai.errors import OutputError
from contour_ai.files.formats import FileKind
from contour_ai.files.manifest import Record, first_stranger, write_manifest
from contour_ai.files.private import OWNER_FOLDER, private_file, restrict
from contour_ai.files.temporary import OLD, SWAP, Swap, clear_left_behind, finish_swap, remove, temporary_name

MOST_SUFFIX = 8
"""A longer "suffix" is part of a name that has a dot in it."""


@contextmanager
def atomic_file(
    path: Path,
    *,
    overwrite: bool = False,
    inputs: Sequence[Path] = (),
    kind: FileKind | None = None,
    private: bool = False,
) -> Iterator[Path]:
    """Yields a temporary path beside `path`; moves it into place if the block succeeds, removes it if not.

    Args:
        overwrite: replace a file that is there.
        inputs: files that are read for this one; none of them is ever replaced.
        kind: what a file must be to be replaced; None for a file of the program's own that nobody else writes.
        private: only its owner may read it.

    Raises:
        OutputError: `path` exists and is not to be, or must not be, replaced; or it cannot be written.
    """
    path = Path(path)
    with _naming(path):
        clear_left_behind(path.parent, now=False)
        _refuse_file(path, overwrite, inputs, kind)
        temporary = _temporary_beside(path)
        if private:
            private_file(temporary)
    try:
        yield temporary
        _retrying(lambda: _put(temporary, path, overwrite=overwrite))
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(
    path: Path,
    *,
    overwrite: bool = False,
    inputs: Sequence[Path] = (),
    record: Record | None = "results",
    owned: bool = False,
    set_aside: bool = False,
    private: bool = False,
) -> Iterator[Path]:
    """Yields a temporary folder beside `path`; moves it into place if the block succeeds, removes it if not.

    Folders above it are made where they are missing, and stay only if something is written into them.

    The folder gets a manifest of its files. With `overwrite` an existing folder is replaced as a whole, if all in it is
    listed in its manifest and unchanged; it stays as it was if the block fails. At every moment one whole folder stands
    under the name, or the next run puts it there.

    Args:
        inputs: files and folders that are read; a folder that is, holds or lies in one of them is never replaced.
        record: what the manifest calls the content; None for a folder without a manifest.
        owned: the folder is part of the program's own state (a cache entry, say), where nobody else puts anything: it
            has no manifest and is replaced without a look.
        set_aside: a folder that must not be replaced gets another name instead of being an error.
        private: only its owner may read it, and all that lies in it.

    Raises:
        OutputError: `path` exists and is not to be, or must not be, replaced; or it cannot be written.
    """
    path = Path(path)
    with _naming(path):
        clear_left_behind(path.parent, now=not owned)
        refuse_folder(path, overwrite=overwrite, inputs=inputs, owned=owned or set_aside)
        missing = _missing_parents(path)
        temporary = _temporary_beside(path)
    try:
        # With parents: another process may have removed them again.
        temporary.mkdir(mode=OWNER_FOLDER if private else 0o777, parents=True)
        yield temporary
        if record is not None and not owned:
            write_manifest(temporary, record)
        if private:
            restrict(temporary)
        _replace(temporary, path, overwrite=overwrite, inputs=inputs, owned=owned, set_aside=set_aside)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        remove(temporary, unless_in_use=True)
        _remove_empty(missing)


def check_target(path: Path, *, overwrite: bool = False, inputs: Sequence[Path] = ()) -> None:
    """Whether `atomic_folder` will be able to write `path`: to know before the work rather than after it.

    Raises:
        OutputError: as `atomic_folder` does.
    """
    path = Path(path)
    with _naming(path):
        clear_left_behind(path.parent)
        refuse_folder(path, overwrite=overwrite, inputs=inputs)
        missing = _missing_parents(path)
        try:
            temporary = _temporary_beside(path)
            temporary.mkdir(parents=True)
            temporary.rmdir()
        finally:
            _remove_empty(missing)


# -- what must not be replaced ----------------------------------------------------------------------------------


def refuse_folder(path: Path, *, overwrite: bool, inputs: Sequence[Path] = (), owned: bool = False) -> None:
    """Refuses a folder that exists and is not to be, or must not be, replaced.

    Raises:
        OutputError: says which input or which file is in the way.
    """
    if not os.path.lexists(path):
        return
    why = _why_folder_stays(path, inputs, owned=owned)
    if not overwrite:
        raise _exists_already(path, why)
    if why is not None:
        raise why


def _why_folder_stays(path: Path, inputs: Sequence[Path], *, owned: bool) -> OutputError | None:
    """Why a folder must not be replaced; None where it may be."""
    if path.is_symlink() or not path.is_dir():
        kind = "link" if path.is_symlink() else "file"
        return OutputError(
            f"A {kind} stands where a folder is to be written.", where=path, fix="choose another --out"
        )
    for given in inputs:
        relation = _relation(path, given)
        if relation:
            return OutputError(
                f"The folder to be replaced {relation} an input, and inputs are never replaced.",
                where=path,
                found=f"the input {given}",
                fix="choose another --out: a folder that does not exist yet may also lie below an input",
            )
    stranger = None if owned else first_stranger(path)
    if stranger is None:
        return None
    return OutputError(
        "The folder holds something that contour-ai did not write there, and is not replaced.",
        where=path,
        found=stranger,
        expected="only files that contour-ai listed when it wrote the folder, unchanged since",
        fix="move what you want to keep to another place and delete the folder, or choose another --out",
    )


def _relation(folder: Path, given: Path) -> str:
    """How a folder is related to an input: empty where it is not."""
    mine, other = Path(os.path.realpath(folder)), Path(os.path.realpath(given))
    with contextlib.suppress(OSError):
        if mine == other or mine.samefile(other):
            return "is"
    if other.is_relative_to(mine):
        return "holds"
    return "lies in" if mine.is_relative_to(other) else ""


def _refuse_file(path: Path, overwrite: bool, inputs: Sequence[Path], kind: FileKind | None) -> None:
    if not os.path.lexists(path):
        return
    why = _why_file_stays(path, inputs, kind)
    if not overwrite:
        raise _exists_already(path, why)
    if why is not None:
        raise why


def _why_file_stays(path: Path, inputs: Sequence[Path], kind: FileKind | None) -> OutputError | None:
    """Why a file must not be replaced; None where it may be."""
    if path.is_dir():
        return OutputError("A folder stands where a file is to be written.", where=path)
    for given in inputs:
        with contextlib.suppress(OSError):
            if path.samefile(given):
                return OutputError(
                    "The file to be replaced is an input, and inputs are never replaced.",
                    where=path,
                    fix="choose another --out",
                )
    if kind is not None and path.exists() and not kind.holds(path):
        return OutputError(
            "The file to be replaced is of another kind than what is to be written.",
            where=path,
            expected=f"a file of the same kind ({kind.name})",
            fix="choose another --out, or delete the file first",
        )
    return None


def _exists_already(path: Path, why: OutputError | None = None) -> OutputError:
    """The error without --overwrite, which is advised only where it would be of use.

    Args:
        why: what would be said with it.
    """
    if why is None:
        fix = "give --overwrite to replace it, or another --out"
        return OutputError("The output exists already.", where=path, fix=fix)
    return OutputError(
        "The output exists already.",
        where=path,
        found=why.found or why.what,
        expected=why.expected,
        fix=why.fix or "choose another --out",
    )


# -- moving into place ------------------------------------------------------------------------------------------


def _put(temporary: Path, path: Path, *, overwrite: bool) -> None:
    """Gives a file its name; without `overwrite` not even a file that has appeared in the meantime is replaced."""
    if overwrite:
        os.replace(temporary, path)
        return
    try:
        if os.name == "nt":
            temporary.rename(path)  # refuses an existing file there
        else:
            os.link(temporary, path)
    except FileExistsError as error:
        raise _exists_already(path) from error
    except OSError as error:  # a file system without hard links
        if os.path.lexists(path):
            raise _exists_already(path) from error
        os.replace(temporary, path)


def _replace(
    temporary: Path, path: Path, *, overwrite: bool, inputs: Sequence[Path], owned: bool, set_aside: bool
) -> None:
    """Moves a whole folder into place, where another one may stand."""
    if not os.path.lexists(path):
        _retrying(lambda: temporary.rename(path))
        return
    aside = None
    if set_aside and not owned and first_stranger(path) is not None:
        aside = _free_name_beside(path)
    # Looked at again: the work may have taken hours, in which somebody may have edited the old result.
    refuse_folder(path, overwrite=overwrite, inputs=inputs, owned=owned or aside is not None)
    old, record = (temporary.with_name(temporary.name + suffix) for suffix in (OLD, SWAP))
    if aside is not None:
        _set_aside(path, aside, temporary)
        return
    try:
        Swap(path.name, temporary.name, old.name).save(record)
        _retrying(lambda: path.rename(old))
        _retrying(lambda: temporary.rename(path))
    except BaseException as error:
        if not os.path.lexists(path) and old.is_dir():
            _put_back(old, path, error)
        raise
    finally:
        # Where neither rename worked, the record stays, and with it both folders: the next run tries again.
        with contextlib.suppress(OSError):
            if os.path.lexists(path):
                finish_swap(record)


def _set_aside(path: Path, aside: Path, temporary: Path) -> None:
    """Gives a folder another name and a new one its name, or both stay as they are."""
    try:
        _retrying(lambda: path.rename(aside))
        _retrying(lambda: temporary.rename(path))
    except BaseException as error:
        if not os.path.lexists(path) and aside.is_dir():
            _put_back(aside, path, error)
        raise


def _put_back(old: Path, path: Path, reason: BaseException) -> None:
    """Gives a folder that was to be replaced its name again.

    Raises:
        OutputError: that is not possible, either; says where the folder lies.
    """
    try:
        _retrying(lambda: old.rename(path))
    except OSError as error:
        raise OutputError(
            "The new result could not be moved into place, nor the earlier one back.",
            where=path,
            found=f"{reason}; {error}; the earlier result lies in {old}",
            fix="run the command again when the folder can be written: it puts the result in its place first",
        ) from reason


def _free_name_beside(path: Path) -> Path:
    number = 1
    while os.path.lexists(path.with_name(f"{path.name}.before-{number}")):
        number += 1
    return path.with_name(f"{path.name}.before-{number}")


def _temporary_beside(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = path.suffix if len(path.suffix) < MOST_SUFFIX else ""
    return path.with_name(temporary_name(suffix))


def _missing_parents(path: Path) -> list[Path]:
    """The folders above a path that do not exist yet, the lowest first."""
    return [parent for parent in path.parents if not os.path.lexists(parent)]


def _remove_empty(folders: Sequence[Path]) -> None:
    """Removes folders that were made for an output, the lowest first, up to one that holds something."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _retrying(move: Callable[[], object], attempts: int = 5) -> None:
    """On Windows a virus scanner may hold a new file for a moment: try again before giving up."""
    for attempt in range(attempts):
        try:
            move()
            return
        except PermissionError:
            if attempt == attempts - 1:
                raise
            time.sleep(0.1 * 2**attempt)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turns errors of the file system into errors that name the output."""
    try:
        yield
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        "The output cannot be written.",
        where=path,
        found=error.strerror or error,
        fix="choose a folder you may write to, with free space",
    )
