"""Whether two files hold the same DICOM instance, however each was encoded on its way."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filereader import dcmread

from contour_ai.dicom.header import UNREADABLE

PIXEL_DATA = 0x7FE00010
TRAILING_PADDING = 0xFFFCFFFC
PADDING = " \0"
"""PS3.5 6.2: text is padded to an even length with a space or, for UIDs, with a zero."""


def same_instance(first: bytes, second: bytes) -> bool:
    """Whether the data sets of two DICOM files are equal.

    Meta information, group lengths, trailing padding, byte order and the choice of implicit or explicit VR do not
    count: they change with every transfer. Compressed pixels are compared as they are, not decoded.
    """
    try:
        return _equal(dcmread(BytesIO(first)), dcmread(BytesIO(second)))
    except UNREADABLE:
        return False


def _equal(first: Dataset, second: Dataset) -> bool:
    ours, theirs = _tags(first), _tags(second)
    if ours != theirs:
        return False
    if PIXEL_DATA in ours and not _equal_pixels(first, second):
        return False
    return all(_equal_elements(first[tag], second[tag]) for tag in ours if tag != PIXEL_DATA)


def _tags(data_set: Dataset) -> set[int]:
    return {int(tag) for tag in data_set.keys() if tag.element != 0 and tag != TRAILING_PADDING}  # noqa: SIM118


def _equal_pixels(first: Dataset, second: Dataset) -> bool:
    syntaxes = [d.file_meta.TransferSyntaxUID for d in (first, second)]
    if any(s.is_compressed for s in syntaxes) or syntaxes[0] == syntaxes[1]:
        return syntaxes[0] == syntaxes[1] and first.PixelData == second.PixelData
    ours, theirs = (_words(d, s.is_little_endian) for d, s in zip((first, second), syntaxes, strict=True))
    return bool(np.array_equal(ours, theirs))


def _words(data_set: Dataset, little_endian: bool) -> NDArray[np.integer]:
    width = 2 if int(data_set.BitsAllocated) > 8 else 1
    content = bytes(data_set.PixelData)
    return np.frombuffer(content[: len(content) // width * width], f"{'<' if little_endian else '>'}u{width}")


def _equal_elements(first: DataElement, second: DataElement) -> bool:
    if first.VR == "SQ" or second.VR == "SQ":
        if first.VR != second.VR or len(first.value) != len(second.value):
            return False
        return all(_equal(a, b) for a, b in zip(first.value, second.value, strict=True))
    if first.VR != second.VR and "UN" in (first.VR, second.VR):
        return _raw(first) == _raw(second)  # an implicit transfer tells no VR of private elements
    return bool(first.value == second.value)


def _raw(element: DataElement) -> bytes:
    value = element.value
    if isinstance(value, bytes):
        return value.rstrip(PADDING.encode())
    parts = [value] if isinstance(value, (str, int, float)) or value is None else list(value)
    return "\\".join("" if p is None else str(p) for p in parts).encode().rstrip(PADDING.encode())
