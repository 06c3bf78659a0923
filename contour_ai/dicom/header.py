"""Opens DICOM files as clinics have them: with or without preamble and meta header, of any name."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, cast

from pydicom.dataset import Dataset, FileDataset
from pydicom.filereader import dcmread, read_file_meta_info, read_partial
from pydicom.tag import BaseTag, Tag

from contour_ai.dicom.values import CONVERSION_ERRORS
from contour_ai.errors import InputError

UNREADABLE = (*CONVERSION_ERRORS, EOFError, MemoryError, OSError, RecursionError, zlib.error)
"""What pydicom raises on damaged files."""

START_OF_DATA = 132
META_BYTES = 4096
"""The file meta information lies within so many bytes from the start."""
DEFLATED = b"1.2.840.10008.1.2.1.99"
MOST_INFLATED_BYTES = 1 << 30
"""A deflated data set that is larger than this is no CT slice and no structure set; a few kB can hold gigabytes."""
CHUNK_BYTES = 1 << 20
START_BYTES = 1 << 15
"""Read in one piece: the header of a CT slice with its private elements mostly lies within."""
DEFLATE_RATIO = 1032
"""The most bytes that deflate packs into one."""
GROUP_LENGTH_BYTES = 12
"""Of the element that says how long the file meta information is, which it does not count."""
LAST_BEFORE_PIXELS = 0x7FDFFFFF
NOT_DICOM = "This is no DICOM file."
COPY_AGAIN = "copy or export this file again; it was damaged on its way, or the transfer was cut short"


def read_header(path: Path, keywords: Sequence[str] | None = None) -> Dataset:
    """The data set of a file without its pixels; only the elements in `keywords` where they are given.

    Reading stops behind the last element asked for, so that a few tags of thousands of files take little time.

    Raises:
        InputError: the file is empty, no DICOM file, cut short, or cannot be opened.
    """
    return read_start(path, keywords)[0]


def read_start(path: Path, keywords: Sequence[str] | None = None) -> tuple[FileDataset, int]:
    """As `read_header`, and the number of bytes of the file behind what was read (0 where it is deflated).

    Raises:
        InputError: as `read_header`.
    """
    tags = None if keywords is None else _tags(tuple(keywords))
    last = int(max(tags)) if tags else LAST_BEFORE_PIXELS

    def behind_last(tag: BaseTag, vr: str | None, length: int) -> bool:
        return int(tag) > last

    with _opened(path) as file:
        try:
            header = read_partial(cast(BinaryIO, file), stop_when=behind_last, force=True, specific_tags=tags)
            start = file.tell()
            return header, file.seek(0, os.SEEK_END) - start
        except UNREADABLE as error:
            raise damaged(path, error) from error


@lru_cache(maxsize=32)
def _tags(keywords: tuple[str, ...]) -> list[BaseTag | int]:
    return [Tag(keyword) for keyword in keywords]


def read_data_set(path: Path, keywords: Sequence[str] | None = None) -> FileDataset:
    """The data set of a file with its pixels; only the elements in `keywords` where they are given.

    Raises:
        InputError: as `read_header`.
    """
    with _opened(path) as file:
        try:
            return dcmread(
                cast(BinaryIO, file), force=True, specific_tags=None if keywords is None else list(keywords)
            )
        except UNREADABLE as error:
            raise damaged(path, error) from error


def damaged(path: Path, error: BaseException | str) -> InputError:
    """The error for a file whose content cannot be made sense of."""
    return InputError("This DICOM file is damaged.", where=path, found=str(error), fix=COPY_AGAIN)


def cut_short(path: Path, found: str, expected: int) -> InputError:
    """The error for a file with too few bytes of pixels."""
    return InputError(
        "This CT file is cut short: it has too few pixels.",
        where=path,
        found=f"{found} bytes of pixels",
        expected=expected,
        fix=COPY_AGAIN,
    )


class _StartInMemory:
    """A file whose first bytes are read at once and kept.

    pydicom reads a header element by element. Every such read of a file gives other threads their turn, after which
    this one waits for its own: eight threads took twice as long as one.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        start = file.read(START_BYTES)
        self._start, self._length = io.BytesIO(start), len(start)
        self._within = True

    def __enter__(self) -> _StartInMemory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def fileno(self) -> int:
        return self._file.fileno()

    def tell(self) -> int:
        return self._start.tell() if self._within else self._file.tell()

    def read(self, size: int = -1) -> bytes:
        if self._within and 0 <= size <= self._length - self._start.tell():
            return self._start.read(size)
        self._leave_start()
        return self._file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_CUR:
            offset, whence = self.tell() + offset, os.SEEK_SET
        if whence == os.SEEK_SET and 0 <= offset <= self._length:
            self._within = True
            return self._start.seek(offset)
        self._leave_start()
        return self._file.seek(offset, whence)

    def _leave_start(self) -> None:
        """What follows is read from the file, from the same place on."""
        if self._within:
            self._file.seek(self._start.tell())
            self._within = False


def _opened(path: Path) -> _StartInMemory:
    """The file, open at its start, once its first bytes say that it is DICOM."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError("This file cannot be opened.", where=path, found=error.strerror or error) from error
    try:
        opened = _StartInMemory(file)
        start = opened.read(START_OF_DATA)
        if not start:
            raise InputError("This file is empty (0 bytes).", where=path, fix=COPY_AGAIN)
        if start[128:] != b"DICM" and not _starts_like_dicom(start):
            raise InputError(NOT_DICOM, where=path)
        _refuse_bomb(path, opened)
        opened.seek(0)
    except BaseException:
        file.close()
        raise
    return opened


def _refuse_bomb(path: Path, file: _StartInMemory) -> None:
    """Refuses a deflated data set that would fill the memory, before pydicom inflates it in one piece."""
    file.seek(0)
    size = os.fstat(file.fileno()).st_size
    if DEFLATED not in file.read(META_BYTES) or size * DEFLATE_RATIO <= MOST_INFLATED_BYTES:
        return
    try:
        meta = read_file_meta_info(path)
        file.seek(START_OF_DATA + GROUP_LENGTH_BYTES + int(meta.get("FileMetaInformationGroupLength", 0)))
        inflater, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while chunk := inflater.unconsumed_tail or file.read(CHUNK_BYTES):
            total += len(inflater.decompress(chunk, CHUNK_BYTES))
            if total > MOST_INFLATED_BYTES:
                raise damaged(path, f"it is deflated and holds more than {MOST_INFLATED_BYTES >> 20} MB")
    except UNREADABLE as error:
        raise damaged(path, error) from error


def _starts_like_dicom(start: bytes) -> bool:
    """Whether bytes without a preamble begin with an element of group 0002 or 0008 as DICOM writes it."""
    if len(start) < 8:
        return False
    group, element = struct.unpack("<HH", start[:4])
    if group not in (0x0002, 0x0008) or element > 0x0100:
        return False
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    return explicit or struct.unpack("<L", start[4:8])[0] < 0x10000
