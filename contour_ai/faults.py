"""Anything unforeseen, at the boundary of a patient: logged with its traceback, so that the other patients go on."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from contour_ai.errors import ContourAIError, OutputError, UnforeseenError

LOGS_VARIABLE = "CONTOUR_AI_LOGS"
"""Environment variable: the folder of the logs; without it, the system's for temporary files."""

FILE_FAULTS = frozenset(
    {
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.ENOSPC,
        errno.EFBIG,
        errno.EMFILE,
        errno.ENAMETOOLONG,
        errno.ELOOP,
        errno.ENOTDIR,
        errno.EISDIR,
        *((errno.EDQUOT,) if hasattr(errno, "EDQUOT") else ()),
    }
)


@contextmanager
def patient_boundary(doing: str) -> Iterator[None]:
    """Lets errors on purpose pass, and makes one of them of everything unforeseen; interrupts pass, too.

    Args:
        doing: what was being done with which patient, for the log.

    Raises:
        UnforeseenError: names the log.
        OutputError: the system refuses a file.
    """
    try:
        yield
    except Exception as error:
        known = as_known(error, doing)
        if known is error:
            raise
        raise known from error


def as_known(error: Exception, doing: str) -> ContourAIError:
    """The error itself if it is one on purpose; the message for a file that the system refuses; or else a message with
    the name of the log, into which the traceback is written."""
    if isinstance(error, ContourAIError):
        return error
    if isinstance(error, OSError) and error.errno in FILE_FAULTS:
        return OutputError(
            "A file or folder cannot be used.",
            where=error.filename,
            found=error.strerror,
            fix="choose a shorter path, on a disk with free space that you may write to",
        )
    log = _logged(error, doing)
    return UnforeseenError(
        "Something happened that contour-ai does not foresee.",
        where=doing,
        found=f"{type(error).__name__}: {error}",
        fix="this is a fault of contour-ai, not of your data. Please report it"
        + (f", with {log}" if log else "; no log could be written"),
    )


def _logged(error: Exception, doing: str) -> Path | None:
    from contour_ai import __version__

    text = (
        f"{datetime.now().astimezone().isoformat(timespec='seconds')} {doing}\n"
        f"contour-ai {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
        f"{''.join(traceback.format_exception(error))}\n"
    )
    with contextlib.suppress(OSError):
        path = _log_path()
        # For its owner alone: messages and paths may name patients.
        number = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        with os.fdopen(number, "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        return path
    return None


@lru_cache(maxsize=1)
def _log_path() -> Path:
    """One file for all that this process logs."""
    folder = Path(os.environ.get(LOGS_VARIABLE) or tempfile.gettempdir())
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"contour-ai-errors-{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}.log"
