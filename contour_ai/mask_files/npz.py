"""NumPy archives (.npz): one array (k, i, j) for every ROI name, checked before its voxels are read."""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from contour_ai.errors import GeometryError, InputError
from contour_ai.grid import Grid
from contour_ai.mask_files.labels import boolean

FASTEST = 1
"""Compression level: masks shrink a hundredfold at the fastest one already."""

EXPECTED = "boolean arrays (k, i, j), one for every ROI name"


def read_npz(path: Path, grid: Grid) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """(ROI name, mask) of every array; its shape must be the grid's.

    Raises:
        InputError: not an archive, encrypted, damaged, or arrays that are no masks.
        GeometryError: an array of another shape.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                name = entry.filename.removesuffix(".npy")
                if name == entry.filename:
                    raise _unusable(path, f"the entry {entry.filename!r}, which is no array")
                if entry.flag_bits & 1:
                    raise _unusable(path, "an encrypted archive", "give it without a password")
                with archive.open(entry) as stream:
                    yield name, boolean(_array(stream, grid, path, name), f"{path}, {name}")
    except zipfile.BadZipFile as error:
        raise _unusable(path, error) from error
    except (
        OSError,
        ValueError,
        EOFError,
        KeyError,
        SyntaxError,
        NotImplementedError,
        RuntimeError,
        OverflowError,
        MemoryError,
        tokenize.TokenError,
        zlib.error,
    ) as error:
        raise _unusable(path, str(error) or type(error).__name__) from error


def write_npz(path: Path, masks: Iterable[tuple[str, NDArray[np.bool_]]]) -> list[str]:
    """Writes masks, one in memory at a time; returns their names. The same masks give the same bytes."""
    names = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=FASTEST) as archive:
        for name, mask in masks:
            entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            _set_level(entry)
            with archive.open(entry, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.ascontiguousarray(mask, dtype=bool), allow_pickle=False)
            names.append(name)
    return names


def _array(stream: IO[bytes], grid: Grid, path: Path, name: str) -> NDArray[np.generic]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
    else:
        shape, fortran_order, dtype = np.lib.format.read_array_header_2_0(stream)
    where = f"{path}, {name}"
    if dtype.kind not in "buif":
        raise InputError("A mask must be boolean or 0 and 1.", where=where, found=dtype)
    if tuple(shape) != grid.shape_kij:
        raise GeometryError(
            "A mask has another shape than the CT.",
            where=where,
            found=tuple(shape),
            expected=f"{grid.shape_kij} (slices, rows, columns)",
            fix="give masks on the CT's own voxels, or NIfTI/NRRD files, which say where they lie",
        )
    size = math.prod(shape) * dtype.itemsize
    data = stream.read(size)
    if len(data) != size or stream.read(1):  # reading to the end also compares the checksum
        raise _unusable(path, f"{name}: {len(data)} bytes and more instead of {size} bytes of voxels")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran_order else "C")


def _set_level(entry: zipfile.ZipInfo) -> None:
    # The level of the archive does not reach entries that are made by hand; the attribute was renamed in Python 3.13.
    entry._compresslevel = FASTEST  # type: ignore[attr-defined]
    if hasattr(entry, "compress_level"):
        entry.compress_level = FASTEST


def _unusable(path: Path, found: object, fix: str | None = None) -> InputError:
    fix = fix or "export it again, or copy it again from where it was made"
    return InputError("The .npz file cannot be read.", where=path, found=found, expected=EXPECTED, fix=fix)
