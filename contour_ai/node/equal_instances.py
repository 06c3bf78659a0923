"""Whether two files hold the same DICOM instance, however each was encoded on its way."""

from __future__ import annotations

import tempfile
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filereader import dcmread
from pydicom.uid import UID

from contour_ai.dicom.header import UNREADABLE
from contour_ai.dicom.pixels import stored_frames
from contour_ai.errors import InputError

PIXEL_DATA = 0x7FE00010
TRAILING_PADDING = 0xFFFCFFFC
OF_COMPRESSION = {0x00082111, 0x00089215, 0x00282110}
"""DerivationDescription, DerivationCodeSequence, LossyImageCompression: programs that compress without loss note it
there. The pixels say whether anything was lost."""
PADDING = " \0"
"""PS3.5 6.2: text is padded to an even length with a space or, for UIDs, with a zero."""


def same_instance(first: bytes, second: bytes, scratch: Path | None = None) -> bool:
    """Whether the data sets of two DICOM files are equal.

    Meta information, group lengths, trailing padding, byte order and the choice of implicit or explicit VR do not
    count: they change with every transfer. Pixels that are compressed in another way are decoded and compared.

    Args:
        scratch: folder for temporary files, which are decoded; None for the system's.

    Raises:
        OSError: temporary files cannot be written.
    """
    try:
        ours, theirs = dcmread(BytesIO(first)), dcmread(BytesIO(second))
        if not _recompressed(ours, theirs):
            return _equal(ours, theirs)
        return _equal(ours, theirs, aside=OF_COMPRESSION) and _equal_decoded(first, second, scratch)
    except UNREADABLE:
        return False


def _recompressed(first: Dataset, second: Dataset) -> bool:
    """Whether one has pixels compressed in another way than the other's."""
    if "PixelData" not in first or "PixelData" not in second:
        return False
    syntaxes = [_syntax(d) for d in (first, second)]
    if not any(s.is_compressed for s in syntaxes):
        return False
    return syntaxes[0] != syntaxes[1] or first.PixelData != second.PixelData


def _equal(first: Dataset, second: Dataset, aside: frozenset[int] | set[int] = frozenset()) -> bool:
    """Whether data sets are equal but for the tags in `aside`; with tags in it, pixels do not count."""
    ours, theirs = _tags(first) - aside, _tags(second) - aside
    if ours != theirs:
        return False
    if PIXEL_DATA in ours and not aside and not _equal_pixels(first, second):
        return False
    return all(_equal_elements(first[tag], second[tag]) for tag in ours if tag != PIXEL_DATA)


def _equal_decoded(first: bytes, second: bytes, scratch: Path | None) -> bool:
    frames = []
    with tempfile.TemporaryDirectory(dir=scratch, ignore_cleanup_errors=True) as folder:
        for number, content in enumerate((first, second)):
            path = Path(folder) / f"{number}.dcm"
            path.write_bytes(content)
            compressed = _syntax(dcmread(BytesIO(content), stop_before_pixels=True)).is_compressed
            try:
                frames.append(stored_frames(path, compressed=compressed))
            except InputError:  # what cannot be decoded is nobody's copy
                return False
    return bool(np.array_equal(frames[0], frames[1]))


def _syntax(data_set: Dataset) -> UID:
    syntax: UID = data_set.file_meta.TransferSyntaxUID
    return syntax


def _tags(data_set: Dataset) -> set[int]:
    return {int(tag) for tag in data_set.keys() if tag.element != 0 and tag != TRAILING_PADDING}  # noqa: SIM118


def _equal_pixels(first: Dataset, second: Dataset) -> bool:
    syntaxes = [_syntax(d) for d in (first, second)]
    if syntaxes[0] == syntaxes[1]:
        return bool(first.PixelData == second.PixelData)
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
