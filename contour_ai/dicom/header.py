"""Opens DICOM files as clinics have them: with or without preamble and meta header, of any name."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import dcmread, read_partial
from pydicom.tag import BaseTag, Tag

from contour_ai.errors import InputError

UNREADABLE = (
    InvalidDicomError,
    BytesLengthException,
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    NotImplementedError,
    OSError,
    OverflowError,
    TypeError,
    UnicodeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What pydicom raises on damaged files."""

PREAMBLE_BYTES = 132
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
    tags: list[BaseTag | int] | None = None if keywords is None else [Tag(keyword) for keyword in keywords]
    last = int(max(tags)) if tags else LAST_BEFORE_PIXELS

    def behind_last(tag: BaseTag, vr: str | None, length: int) -> bool:
        return int(tag) > last

    with _opened(path) as file:
        try:
            header = read_partial(file, stop_when=behind_last, force=True, specific_tags=tags)
            start = file.tell()
            return header, file.seek(0, os.SEEK_END) - start
        except UNREADABLE as error:
            raise damaged(path, error) from error


def read_data_set(path: Path, keywords: Sequence[str] | None = None) -> FileDataset:
    """The data set of a file with its pixels; only the elements in `keywords` where they are given.

    Raises:
        InputError: as `read_header`.
    """
    with _opened(path) as file:
        try:
            return dcmread(file, force=True, specific_tags=None if keywords is None else list(keywords))
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


def text(data_set: Dataset, keyword: str) -> str:
    """An element as plain text without padding; empty where it is missing or empty."""
    value = data_set.get(keyword)
    return "" if value is None else str(value).strip("\0 ")


def _opened(path: Path) -> BinaryIO:
    """The file, open at its start, once its first bytes say that it is DICOM."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError("This file cannot be opened.", where=path, found=error.strerror or error) from error
    try:
        start = file.read(PREAMBLE_BYTES)
        if not start:
            raise InputError("This file is empty (0 bytes).", where=path, fix=COPY_AGAIN)
        if start[128:] != b"DICM" and not _starts_like_dicom(start):
            raise InputError(NOT_DICOM, where=path)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def _starts_like_dicom(start: bytes) -> bool:
    """Whether bytes without a preamble begin with an element of group 0002 or 0008 as DICOM writes it."""
    if len(start) < 8:
        return False
    group, element = struct.unpack("<HH", start[:4])
    if group not in (0x0002, 0x0008) or element > 0x0100:
        return False
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    return explicit or struct.unpack("<L", start[4:8])[0] < 0x10000
