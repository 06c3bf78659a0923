"""Memory that two processes share, for pixels on their way from one to the other.

It has no name in the file system: it is gone as soon as neither process is there, however they ended. On POSIX it is a
file without a name, which the child inherits; on Windows a part of the paging file.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
import tempfile
import uuid
from typing import IO, TypeVar

import numpy as np
from numpy.typing import NDArray

S = TypeVar("S", bound=np.generic)

STEP_BYTES = 1 << 20
"""Memory is asked for in multiples of this, so that series of slightly different slices share it."""


class SharedBuffer:
    """The side of the process that starts the other one.

    Raises:
        OSError: the system gives none.
    """

    def __init__(self) -> None:
        self._file = _file_without_name() if sys.platform != "win32" else None
        self._map: mmap.mmap | None = None
        self._address = ""

    @property
    def inherited(self) -> tuple[int, ...]:
        """File descriptors that the other process has to inherit."""
        return () if self._file is None else (self._file.fileno(),)

    @property
    def address(self) -> str:
        """By what `attached` finds it in the other process; another one after the memory grew."""
        return self._address

    def reserve(self, size_bytes: int) -> None:
        """Has at least so many bytes from now on; what was written before may be gone.

        Raises:
            OSError: there is no memory left for it.
        """
        if self._map is not None and len(self._map) >= size_bytes:
            return
        size = -(-size_bytes // STEP_BYTES) * STEP_BYTES
        old, self._map = self._map, None
        if old is not None:
            old.close()
        if sys.platform == "win32":
            name = f"contour-ai-{uuid.uuid4().hex}"
            self._map, self._address = mmap.mmap(-1, size, tagname=name), f"{name}:{size}"
        else:
            assert self._file is not None
            _allocate(self._file, size)
            self._map = mmap.mmap(self._file.fileno(), size)
            self._address = f"{self._file.fileno()}:{size}"

    def write(self, data: bytes) -> None:
        """Puts bytes at the start of what was reserved."""
        assert self._map is not None
        self._map[: len(data)] = data

    def array(self, dtype: np.dtype[S], shape: tuple[int, ...]) -> NDArray[S]:
        """A copy of the array at the start.

        Raises:
            ValueError: it would be larger than what was reserved.
        """
        assert self._map is not None
        return (
            np.frombuffer(self._map, dtype, count=int(np.prod(shape, dtype=np.int64))).reshape(shape).copy()
        )


def attached(address: str) -> mmap.mmap:
    """The memory behind a `SharedBuffer.address`, in the other process.

    Raises:
        OSError, ValueError: there is none.
    """
    place, _, size = address.rpartition(":")
    if sys.platform == "win32":
        return mmap.mmap(-1, int(size), tagname=place)
    return mmap.mmap(int(place), int(size))


def _file_without_name() -> IO[bytes]:
    if hasattr(os, "memfd_create"):
        with contextlib.suppress(OSError):
            return os.fdopen(os.memfd_create("contour-ai"), "r+b")
    return tempfile.TemporaryFile()


def _allocate(file: IO[bytes], size: int) -> None:
    """Makes a file so large that writing to all of it cannot fail: that would end the process, not raise."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    file.seek(0, os.SEEK_END)
    while (missing := size - file.tell()) > 0:
        file.write(bytes(min(missing, STEP_BYTES)))
    file.flush()
