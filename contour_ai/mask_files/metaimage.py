"""MetaImage files (.mha, .mhd), after https://itk.org/Wiki/MetaIO/Documentation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from contour_ai.errors import InputError
from contour_ai.mask_files.stored import (
    READ_AGAIN,
    StoredImage,
    VoxelBlock,
    checked_affine,
    damaged_file,
    data_file_beside,
    no_placement,
    read_voxels,
)

LARGEST_META_HEADER = 1 << 20

TYPES: Mapping[str, str] = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}


def read_metaimage(path: Path, max_bytes: int) -> StoredImage:
    """A MetaImage of one volume, with its data inside or in one file of its own.

    Raises:
        InputError: not MetaImage, several values a voxel, data in many files, cut short, damaged or too large.
        GeometryError: it does not say where its voxels lie.
    """
    fields, offset = _header(path)
    sizes = [int(n) for n in _numbers(fields, "DimSize", path)]
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    channels = fields.get("ElementNumberOfChannels", "1")
    if len(sizes) != 3 or channels != "1":
        raise InputError(
            "A mask file must hold one volume.",
            where=path,
            found=f"{len(sizes)} dimensions, {channels} values a voxel",
            fix="write one file for each ROI, or one file of labels with a file of names",
        )
    kind = fields.get("ElementType", "")
    if kind not in TYPES or fields.get("BinaryData", "True").lower() != "true":
        raise InputError(
            "The voxels of a mask must be binary whole or real numbers.",
            where=path,
            found=f"ElementType {kind}, BinaryData {fields.get('BinaryData')}",
            fix="save the mask as MET_UCHAR",
        )
    big = fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False")).lower() == "true"
    dtype = np.dtype((">" if big else "<") + TYPES[kind])
    compressed = fields.get("CompressedData", "False").lower() == "true"
    data_path, offset = _data_file(fields, path, offset, math.prod(sizes) * dtype.itemsize, compressed)
    block = VoxelBlock(
        path=data_path,
        offset=offset,
        compression="zlib" if compressed else "raw",
        shape=tuple(sizes[::-1]),
        dtype=dtype,
    )
    array = read_voxels(block, max_bytes)
    return StoredImage(layers=(array,), affine=_affine(fields, path))


def _header(path: Path) -> tuple[dict[str, str], int]:
    fields: dict[str, str] = {}
    with damaged_file(path), path.open("rb") as file:
        while file.tell() < LARGEST_META_HEADER:
            line = file.readline(1 << 16)
            key, separator, value = line.decode("latin-1").partition("=")
            if not separator:
                break
            fields[key.strip()] = value.strip()
            if key.strip() == "ElementDataFile":
                return fields, file.tell()
    raise InputError(
        "The mask file cannot be read: it is not MetaImage.",
        where=path,
        found=f"{len(fields)} fields, no ElementDataFile",
        fix=READ_AGAIN,
    )


def _numbers(fields: Mapping[str, str], name: str, path: Path, count: int | None = None) -> list[float]:
    try:
        numbers = [float(part) for part in fields.get(name, "").split()]
    except ValueError:
        numbers = []
    usable = bool(numbers) and bool(np.isfinite(numbers).all()) and count in (None, len(numbers))
    if not usable or (name == "DimSize" and any(n < 1 or n != int(n) for n in numbers)):
        raise InputError(
            "The header of the MetaImage is damaged.",
            where=path,
            found=f"{name} = {fields.get(name, '')[:60]!r}",
            fix=READ_AGAIN,
        )
    return numbers


def _data_file(
    fields: Mapping[str, str], path: Path, offset: int, size_bytes: int, compressed: bool
) -> tuple[Path, int]:
    """The file that holds the voxels, and the byte at which they begin."""
    named = fields["ElementDataFile"]
    if named.upper() != "LOCAL":
        if named.upper().startswith("LIST") or "%" in named:
            raise InputError(
                "The MetaImage lists several data files.",
                where=path,
                found=named[:60],
                fix="save it as one .mha file",
            )
        path, offset = data_file_beside(path, named), 0
    skip = int(_numbers({"HeaderSize": "0", **fields}, "HeaderSize", path, 1)[0])
    if skip == -1 and not compressed:  # the voxels are the last bytes of the file
        return path, max(0, path.stat().st_size - size_bytes)
    return path, offset + max(skip, 0)


def _affine(fields: Mapping[str, str], path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """(4, 4) from (k, i, j, 1) to LPS mm. TransformMatrix holds the direction of one axis after the other."""
    origin = next((key for key in ("Offset", "Position", "Origin") if key in fields), None)
    if origin is None:
        raise no_placement(path, "no Offset in the header")
    matrix = next((key for key in ("TransformMatrix", "Rotation", "Orientation") if key in fields), None)
    directions = np.eye(3)
    if matrix is not None:
        numbers = _numbers(fields, matrix, path)
        if len(numbers) not in (9, 16):
            raise no_placement(path, f"{matrix} of {len(numbers)} numbers")
        dimensions = 3 if len(numbers) == 9 else 4
        directions = np.array(numbers).reshape(dimensions, dimensions)
    steps = _numbers(fields, "ElementSpacing", path) if "ElementSpacing" in fields else [1.0] * 3
    where = _numbers(fields, origin, path)
    if len(steps) < 3 or len(where) < 3:
        raise no_placement(path, f"spacing {steps}, origin {where}")
    affine = np.eye(4)
    affine[:3, :3] = (directions[:3, :3].T * steps[:3])[:, ::-1]
    affine[:3, 3] = where[:3]
    return checked_affine(affine, path)
