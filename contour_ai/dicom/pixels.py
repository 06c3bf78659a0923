"""From the stored pixels of CT files to Hounsfield units."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.uid import UID

from contour_ai.dicom.header import COPY_AGAIN, UNREADABLE, cut_short, damaged, read_data_set
from contour_ai.dicom.slices import Slice
from contour_ai.errors import InputError

THREADS = 4

KEYWORDS = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelData",
)

Stored = NDArray[np.integer]


def read_hu(slices: Sequence[Slice], on_done: Callable[[int], None]) -> NDArray[np.generic]:
    """(k, i, j) Hounsfield units of slices in their order: stored value * slope + intercept, slice by slice.

    int16 where that is exact (whole slopes and intercepts, values that fit), else float32.

    Raises:
        InputError: pixels are missing, cut short, or in a form that is no CT.
    """
    shape = (len(slices), slices[0].rows, slices[0].columns)
    whole = all(float(v or 0).is_integer() for s in slices for v in (s.slope, s.intercept))
    if whole:
        hu: NDArray[np.generic] = np.empty(shape, np.int16)
        if _fill(hu, slices, on_done):
            return hu
    hu = np.empty(shape, np.float32)
    _fill(hu, slices, on_done)
    return hu


def same_image(a: Slice, b: Slice) -> bool:
    """Whether two slices have the same values in HU."""
    first, second = read_hu([a], _nobody), read_hu([b], _nobody)
    return bool(np.array_equal(first, second))


def _nobody(done: int) -> None:
    """Watches no progress."""


def _fill(hu: NDArray[np.generic], slices: Sequence[Slice], on_done: Callable[[int], None]) -> bool:
    """Writes every slice into `hu`; False as soon as one does not fit its type."""
    places: dict[Path, list[int]] = {}
    for k, one in enumerate(slices):
        places.setdefault(one.path, []).append(k)

    def fill(path: Path) -> bool:
        stored = _stored_values(path)
        for k in places[path]:
            one = slices[k]
            frame = 0 if one.frame is None else one.frame - 1
            if frame >= len(stored) or stored.shape[1:] != hu.shape[1:]:
                raise damaged(path, f"pixels of shape {stored.shape}, expected {hu.shape[1:]} per slice")
            if not _rescale(stored[frame], one, hu[k]):
                return False
        return True

    with ThreadPoolExecutor(THREADS) as pool:
        for done, fits in enumerate(pool.map(fill, places), start=1):
            if not fits:
                pool.shutdown(cancel_futures=True)
                return False
            on_done(done)
    return True


def _rescale(stored: Stored, one: Slice, out: NDArray[np.generic]) -> bool:
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


def _stored_values(path: Path) -> Stored:
    """(frame, row, column) stored values of a file."""
    data_set = read_data_set(path, KEYWORDS)
    try:
        _check_pixel_description(path, data_set)
        syntax = data_set.file_meta.get("TransferSyntaxUID") if hasattr(data_set, "file_meta") else None
        if syntax is not None and UID(syntax).is_compressed and not UID(syntax).is_deflated:
            return _decoded(path, data_set)
        return _significant_bits(_native(path, data_set), data_set)
    except UNREADABLE as error:
        raise damaged(path, error) from error


def _check_pixel_description(path: Path, data_set: FileDataset) -> None:
    if "PixelData" not in data_set or not len(data_set["PixelData"].value or b""):
        raise InputError(
            "This CT file has no pixels, or was cut short before their end.", where=path, fix=COPY_AGAIN
        )
    samples, bits = int(data_set.get("SamplesPerPixel", 1)), int(data_set.BitsAllocated)
    if samples != 1 or bits not in (8, 16, 32):
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
    kind = "i" if data_set.get("PixelRepresentation", 0) == 1 else "u"
    dtype = np.dtype(f"{order}{kind}{int(data_set.BitsAllocated) // 8}")
    shape = (int(data_set.get("NumberOfFrames") or 1), int(data_set.Rows), int(data_set.Columns))
    expected = int(np.prod(shape)) * dtype.itemsize
    if len(data) < expected:
        raise cut_short(path, str(len(data)), expected)
    return np.frombuffer(data, dtype, count=expected // dtype.itemsize).reshape(shape)


def _significant_bits(stored: Stored, data_set: FileDataset) -> Stored:
    """The stored values without the bits outside BitsStored, with the sign extended (PS3.5 8.1.1)."""
    allocated = int(data_set.BitsAllocated)
    bits = int(data_set.get("BitsStored") or allocated)
    high = int(data_set.get("HighBit", bits - 1))
    if bits >= allocated or not 0 < bits <= high + 1 <= allocated:
        return stored
    return (stored << (allocated - 1 - high)) >> (allocated - bits)


def _decoded(path: Path, data_set: FileDataset) -> Stored:
    """Pixels compressed as JPEG, JPEG-LS, JPEG 2000 or RLE, through the decoders that come with the install."""
    try:
        pixels = data_set.pixel_array
    except (RuntimeError, *UNREADABLE) as error:
        syntax = UID(data_set.file_meta.TransferSyntaxUID).name
        raise InputError(
            "The compressed pixels of this CT file cannot be decoded.",
            where=path,
            found=f"{syntax}: {error}",
            fix=f"{COPY_AGAIN}, or export it uncompressed (Explicit VR Little Endian)",
        ) from error
    return pixels if pixels.ndim == 3 else pixels[None]
