"""From the stored pixels of CT files to Hounsfield units."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.pixels.utils import as_pixel_options
from pydicom.uid import UID

from contour_ai.dicom.decoder import DecodingError, Encapsulated, shared_decoder
from contour_ai.dicom.header import COPY_AGAIN, UNREADABLE, cut_short, damaged, read_data_set
from contour_ai.dicom.padding import AIR_HU, Padding, Stored, padding_notes, padding_of
from contour_ai.dicom.slice_header import Slice
from contour_ai.dicom.values import integer, text
from contour_ai.errors import InputError

PIXEL_THREADS = 4

KEYWORDS = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "PixelData",
)
"""What pixels are read by."""


@dataclass(frozen=True, eq=False)
class HounsfieldUnits:
    """(k, i, j) `values` of a stack, and what padding was read as air."""

    values: NDArray[np.generic]
    notes: tuple[str, ...] = ()


def read_hu(slices: Sequence[Slice], on_done: Callable[[int], None] = lambda done: None) -> HounsfieldUnits:
    """Hounsfield units of slices in their order: stored value * slope + intercept, slice by slice.

    int16 where that is exact (whole slopes and intercepts, values that fit), else float32. Padding (PS3.3 C.7.5.1.1.2)
    that would be denser than air is air where it is connected to the image's edge.

    Raises:
        InputError: pixels are missing, cut short, or in a form that is no CT.
    """
    shape = (len(slices), slices[0].rows, slices[0].columns)
    whole = all(float(v or 0).is_integer() for s in slices for v in (s.slope, s.intercept))
    for dtype in (np.int16, np.float32) if whole else (np.float32,):
        hu: NDArray[np.generic] = np.empty(shape, dtype)
        padded = _fill(hu, slices, on_done)
        if padded is not None:
            return HounsfieldUnits(hu, padding_notes(padded))
    raise AssertionError("float32 holds every value")


def stored_frames(path: Path, *, compressed: bool) -> NDArray[np.integer]:
    """(frame, row, column) stored values of a file; compressed ones are decoded in a process of their own.

    Raises:
        InputError: pixels are missing, cut short, or cannot be decoded.
    """
    return _stored_values(path, compressed=compressed)[0]


def same_image(a: Slice, b: Slice) -> bool:
    """Whether two slices have the same values in HU."""
    return bool(np.array_equal(read_hu([a]).values, read_hu([b]).values))


def _fill(
    hu: NDArray[np.generic], slices: Sequence[Slice], on_done: Callable[[int], None]
) -> list[Padding] | None:
    """Writes every slice into `hu`, and gives the padding read as air; None as soon as a slice does not fit."""
    places: dict[Path, list[int]] = {}
    for k, one in enumerate(slices):
        places.setdefault(one.path, []).append(k)

    def fill(path: Path) -> list[Padding] | None:
        stored, padding = _stored_values(path, compressed=slices[places[path][0]].is_compressed)
        found = []
        for k in places[path]:
            one = slices[k]
            frame = 0 if one.frame is None else one.frame - 1
            if frame >= len(stored) or stored.shape[1:] != hu.shape[1:]:
                raise damaged(path, f"pixels of shape {stored.shape}, expected {hu.shape[1:]} per slice")
            outside = None if padding is None else padding.outside(stored[frame], one)
            if not _rescale(stored[frame], one, hu[k], outside):
                return None
            if padding is not None and outside is not None:
                found.append(padding)
        return found

    padded: list[Padding] = []
    with ThreadPoolExecutor(PIXEL_THREADS) as pool:
        for done, found in enumerate(pool.map(fill, places), start=1):
            if found is None:
                pool.shutdown(cancel_futures=True)
                return None
            padded += found
            on_done(done)
    return padded


def _rescale(stored: Stored, one: Slice, out: NDArray[np.generic], outside: NDArray[np.bool_] | None) -> bool:
    """Writes a slice in HU, `outside` as air; False where a value does not fit."""
    if outside is not None:
        stored = np.where(outside, stored[~outside].min() if not outside.all() else 0, stored)
    fits = _rescale_all(stored, one, out)
    if fits and outside is not None:
        out[outside] = AIR_HU
    return fits


def _rescale_all(stored: Stored, one: Slice, out: NDArray[np.generic]) -> bool:
    slope = 1.0 if one.slope is None else one.slope
    intercept = one.intercept or 0.0
    if out.dtype != np.int16:
        out[...] = stored * slope + intercept
        return True
    whole = int(slope), int(intercept)
    ends = [int(v) * whole[0] + whole[1] for v in (stored.min(), stored.max())]
    limits = np.iinfo(np.int16)
    if min(ends) < limits.min or max(ends) > limits.max:
        return False
    # Arithmetic in int16 wraps round on the way and comes out right, as the results are known to fit.
    factor, summand = (np.array(v % 2**16, np.uint16).astype(np.int16) for v in whole)
    values = stored.astype(np.int16)
    np.add(values if slope == 1 else values * factor, summand, out=out)
    return True


def _stored_values(path: Path, *, compressed: bool) -> tuple[Stored, Padding | None]:
    """(frame, row, column) stored values of a file, and the values that it declares as padding."""
    data_set = read_data_set(path, KEYWORDS)
    try:
        pixel_bytes = len(data_set["PixelData"].value or b"") if "PixelData" in data_set else 0
        _check_pixel_description(path, data_set, pixel_bytes)
        padding = padding_of(data_set)
        if compressed:
            return _decoded(path, data_set), padding
        return _significant_bits(_native(path, data_set), data_set), padding
    except UNREADABLE as error:
        raise damaged(path, error) from error


def _check_pixel_description(path: Path, data_set: FileDataset, pixel_bytes: int) -> None:
    if not pixel_bytes:
        raise InputError(
            "This CT file has no pixels, or was cut short before their end.", where=path, fix=COPY_AGAIN
        )
    samples, bits = integer(data_set, "SamplesPerPixel"), integer(data_set, "BitsAllocated")
    if samples not in (None, 1) or bits not in (8, 16, 32):
        raise InputError(
            "This is no CT image that can be read.",
            where=path,
            found=f"{samples} samples a pixel of {bits} bits",
            expected="1 sample a pixel of 8, 16 or 32 bits",
            fix="remove it if it is a screenshot; otherwise export the CT in its original form",
        )


def _native(path: Path, data_set: FileDataset) -> Stored:
    """Uncompressed pixels."""
    data: bytes = data_set["PixelData"].value
    order = "<" if data_set.original_encoding[1] is not False else ">"
    kind = "i" if integer(data_set, "PixelRepresentation") == 1 else "u"
    dtype = np.dtype(f"{order}{kind}{_whole(data_set, 'BitsAllocated') // 8}")
    shape = (
        max(integer(data_set, "NumberOfFrames") or 1, 1),
        _whole(data_set, "Rows"),
        _whole(data_set, "Columns"),
    )
    expected = math.prod(shape) * dtype.itemsize
    if len(data) < expected:
        raise cut_short(path, str(len(data)), expected)
    return np.frombuffer(data, dtype, count=expected // dtype.itemsize).reshape(shape)


def _whole(data_set: FileDataset, keyword: str) -> int:
    value = integer(data_set, keyword)
    if value is None or value < 0:
        raise ValueError(f"{keyword} is {text(data_set, keyword) or 'missing'}")
    return value


def _significant_bits(stored: Stored, data_set: FileDataset) -> Stored:
    """The stored values without the bits outside BitsStored, with the sign extended (PS3.5 8.1.1)."""
    allocated = _whole(data_set, "BitsAllocated")
    bits = integer(data_set, "BitsStored") or allocated
    high = integer(data_set, "HighBit")
    high = bits - 1 if high is None else high
    if bits >= allocated or not 0 < bits <= high + 1 <= allocated:
        return stored
    return (stored << (allocated - 1 - high)) >> (allocated - bits)


def _decoded(path: Path, data_set: FileDataset) -> Stored:
    """Pixels compressed as JPEG, JPEG-LS, JPEG 2000 or RLE, decoded in a process of their own."""
    try:
        return shared_decoder().decode(_encapsulated(data_set))
    except DecodingError as error:
        syntax = UID(data_set.file_meta.TransferSyntaxUID).name
        raise InputError(
            "The compressed pixels of this CT file cannot be decoded.",
            where=path,
            found=f"{syntax}: {error}",
            fix=f"{COPY_AGAIN}, or export it uncompressed (Explicit VR Little Endian)",
        ) from error


def _encapsulated(data_set: FileDataset) -> Encapsulated:
    frames = max(integer(data_set, "NumberOfFrames") or 1, 1)
    size = frames * _whole(data_set, "Rows") * _whole(data_set, "Columns")
    options = as_pixel_options(data_set)
    if "extended_offsets" in options:
        options["extended_offsets"] = [bytes(table).hex() for table in options["extended_offsets"]]
    return Encapsulated(
        data=data_set["PixelData"].value,
        syntax=str(data_set.file_meta.TransferSyntaxUID),
        options=options,
        frames=frames,
        size_bytes=size * _whole(data_set, "BitsAllocated") // 8,
    )
