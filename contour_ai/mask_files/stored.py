"""An image file as it is stored: voxels, where they lie, and names in its header; bytes compared with the header."""

from __future__ import annotations

import bz2
import gzip
import math
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, cast

import numpy as np
from numpy.typing import NDArray

from contour_ai.errors import GeometryError, InputError

Voxels = NDArray[np.generic]
Compression = Literal["raw", "gzip", "zlib", "bzip2"]

READ_AGAIN = "export it again, or copy it again from where it was made"


@dataclass(frozen=True)
class StoredSegment:
    """A ROI that a header names: the voxels of one layer that have one of its labels."""

    name: str
    labels: tuple[int, ...]
    layer: int = 0


@dataclass(frozen=True, eq=False, kw_only=True)
class StoredImage:
    """Voxels of an image file; several layers where segments may overlap."""

    layers: tuple[Voxels, ...]
    """Arrays (k, i, j), of one shape."""
    affine: NDArray[np.float64]
    """(4, 4) from (k, i, j, 1) to LPS mm."""
    segments: tuple[StoredSegment, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class VoxelBlock:
    """What a header says of the voxels that follow it."""

    path: Path
    """The file that holds them."""
    offset: int
    """Bytes before them; for compressed ones before the compressed stream."""
    compression: Compression
    shape: tuple[int, ...]
    """In the order of memory: the fastest axis last."""
    dtype: np.dtype[np.generic]

    @property
    def size_bytes(self) -> int:
        """Bytes of all voxels, uncompressed."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_voxels(block: VoxelBlock, max_bytes: int, *, inside_gzip: bool = False) -> Voxels:
    """The voxels of a block, of `block.shape`, in the machine's byte order.

    Args:
        block: what the header says.
        max_bytes: more than this is refused before memory is taken.
        inside_gzip: the whole file is gzipped, header and all; `offset` counts uncompressed bytes.

    Raises:
        InputError: the file holds fewer voxels than its header says, or a slice more; it is damaged or too large.
    """
    refuse_size(block.path, block.shape, block.size_bytes, max_bytes)
    a_slice = max(1, block.size_bytes // max(block.shape[0], 1))
    compression: Compression = "gzip" if inside_gzip else block.compression
    with damaged_file(block.path), block.path.open("rb") as file:
        if inside_gzip:
            stream: BinaryIO = cast(BinaryIO, gzip.GzipFile(fileobj=file))
            _skip(stream, block.offset)
        else:
            file.seek(block.offset)
            stream = _decompressed(file, block.compression, block.size_bytes + a_slice)
        data = stream.read(block.size_bytes)
        more = len(stream.read(a_slice)) if len(data) == block.size_bytes else 0
        if compression == "gzip" and more < a_slice:
            stream.read(1)  # reaches the end, where the checksum is
    if len(data) < block.size_bytes or more >= a_slice:
        raise InputError(
            "The mask file is cut short."
            if len(data) < block.size_bytes
            else "The mask file holds more voxels than its header says.",
            where=block.path,
            found=f"{len(data)} bytes of voxels" if not more else f"at least {len(data) + more} bytes",
            expected=f"{block.size_bytes} bytes for {_sizes(block.shape)} voxels of {block.dtype}",
            fix=READ_AGAIN,
        )
    array = np.frombuffer(data, block.dtype).reshape(block.shape)
    return array.astype(block.dtype.newbyteorder("="), copy=False)


def refuse_size(path: Path, shape: tuple[int, ...], size_bytes: int, max_bytes: int) -> None:
    """Raises InputError where a header promises more than `max_bytes`, or no voxels."""
    if not shape or min(shape) < 1:
        raise InputError(
            "The mask file has no voxels.", where=path, found=f"sizes {_sizes(shape)}", fix=READ_AGAIN
        )
    if size_bytes > max_bytes:
        raise InputError(
            "The mask file is far larger than the CT: it is damaged, or not a mask of this patient.",
            where=path,
            found=f"{_sizes(shape)} voxels, {size_bytes / 1e9:.3g} GB uncompressed",
            expected=f"at most {max_bytes / 1e9:.3g} GB",
            fix="give masks that were made on this CT",
        )


@contextmanager
def damaged_file(path: Path) -> Iterator[None]:
    """What decompressing raises on damaged or cut files, as InputError."""
    try:
        yield
    except EOFError as error:
        raise InputError("The mask file is cut short.", where=path, found=error, fix=READ_AGAIN) from error
    except (OSError, zlib.error, ValueError, OverflowError) as error:
        raise InputError(
            "The mask file cannot be read: it is damaged.", where=path, found=error, fix=READ_AGAIN
        ) from error


def data_file_beside(header: Path, named: str) -> Path:
    """The file of voxels that a header names: in the header's folder or below it, wherever the header came from.

    A header may come from anybody; one that names a file elsewhere would read what was never given to it.

    Raises:
        InputError: it names a file elsewhere, or one that is not there.
    """
    # Not Path.resolve, which follows links, and on Windows reaches out to other machines.
    folder = os.path.abspath(header.parent)  # noqa: PTH100
    data = os.path.abspath(os.path.join(folder, named))  # noqa: PTH100, PTH118
    # Before the file is looked for: on Windows a name such as \\\\server\\share would already reach out.
    if not Path(data).is_relative_to(folder) or "\0" in named:
        raise InputError(
            "The header of the mask file names a data file outside its own folder.",
            where=header,
            found=f"data file {named[:200]!r}",
            expected="a file in the folder of the header, or below it",
            fix="copy the data file beside its header, and give its name alone in the header",
        )
    if not os.path.isfile(data):  # noqa: PTH113 - Path.is_file raises for names that are too long
        raise InputError(
            "The data file of the mask file's header is not there.",
            where=header,
            found=f"no file {named[:200]!r}",
            fix="copy both files into one folder",
        )
    return Path(data)


def checked_affine(affine: NDArray[np.float64], path: Path) -> NDArray[np.float64]:
    """A matrix that has an inverse.

    Raises:
        GeometryError: numbers that are none, an axis of no length, or two axes of one direction.
    """
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    usable = bool(np.isfinite(affine).all()) and lengths.min() > 1e-6 and np.abs(affine).max() < 1e7
    if not usable or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3:
        raise GeometryError(
            "The header of the mask file does not say where its voxels lie.",
            where=path,
            found=f"the matrix {np.array2string(affine[:3], precision=3, separator=', ').replace(chr(10), '')}",
            expected="three axes of a length above 0 in different directions",
            fix="write the file again with the geometry of its CT",
        )
    return affine


def no_placement(path: Path, found: str) -> GeometryError:
    """For files without an origin and directions: laying them on the CT would be a guess."""
    return GeometryError(
        "The header of the mask file does not say where its voxels lie.",
        where=path,
        found=found,
        fix="write the file again with the geometry of its CT, or give an .npz on the CT's own voxels",
    )


def _decompressed(file: BinaryIO, compression: Compression, most: int) -> BinaryIO:
    if compression == "gzip":
        return cast(BinaryIO, gzip.GzipFile(fileobj=file))
    if compression == "bzip2":
        return cast(BinaryIO, bz2.BZ2File(file))
    if compression == "zlib":
        return cast(BinaryIO, _ZlibStream(file, most))
    return file


class _ZlibStream:
    """A zlib stream that is read like a file, never more than `most` bytes at once."""

    def __init__(self, file: BinaryIO, most: int) -> None:
        self._file, self._most, self._engine = file, most, zlib.decompressobj()

    def read(self, size: int) -> bytes:
        parts, left = [], min(size, self._most)
        while left and not self._engine.eof:
            chunk = self._engine.unconsumed_tail or self._file.read(1 << 20)
            if not chunk:
                raise EOFError("the compressed voxels end too early")
            parts.append(self._engine.decompress(chunk, left))
            left -= len(parts[-1])
        return b"".join(parts)


def _skip(stream: BinaryIO, count: int) -> None:
    while count > 0:
        data = stream.read(min(count, 1 << 20))
        if not data:
            raise EOFError("the file ends within its header")
        count -= len(data)


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
