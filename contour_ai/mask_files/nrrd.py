"""NRRD files (.nrrd, .nhdr, .seg.nrrd of 3D Slicer), after http://teem.sourceforge.net/nrrd/format.html."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contour_ai.errors import GeometryError, InputError
from contour_ai.mask_files.stored import (
    READ_AGAIN,
    Compression,
    StoredImage,
    StoredSegment,
    VoxelBlock,
    checked_affine,
    damaged_file,
    data_file_beside,
    no_placement,
    read_voxels,
    refuse_size,
)

LARGEST_NRRD_HEADER = 4 << 20

TYPES: Mapping[str, str] = {
    name: code
    for code, names in {
        "i1": "signed char|int8|int8_t",
        "u1": "uchar|unsigned char|uint8|uint8_t",
        "i2": "short|short int|signed short|signed short int|int16|int16_t",
        "u2": "ushort|unsigned short|unsigned short int|uint16|uint16_t",
        "i4": "int|signed int|int32|int32_t",
        "u4": "uint|unsigned int|uint32|uint32_t",
        "i8": "longlong|long long|long long int|signed long long|signed long long int|int64|int64_t",
        "u8": "ulonglong|unsigned long long|unsigned long long int|uint64|uint64_t",
        "f4": "float",
        "f8": "double",
    }.items()
    for name in names.split("|")
}

ENCODINGS: Mapping[str, Compression] = {
    "raw": "raw",
    "gzip": "gzip",
    "gz": "gzip",
    "bzip2": "bzip2",
    "bz2": "bzip2",
}
TEXT_ENCODINGS = ("txt", "text", "ascii")

SPACES: Mapping[str, tuple[int, int, int]] = {
    "left-posterior-superior": (1, 1, 1),
    "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "las": (1, -1, 1),
}
"""Signs that take coordinates of a space to LPS."""

UNITS_MM: Mapping[str, float] = {"": 1.0, "mm": 1.0, "cm": 10.0, "m": 1000.0, "um": 0.001, "µm": 0.001}

VECTOR = re.compile(r"none|\(([^)]*)\)")


@dataclass(frozen=True, kw_only=True)
class _HeaderAxes:
    """What the header says of its axes, the fastest first."""

    sizes: tuple[int, ...]
    directions: tuple[NDArray[np.float64] | None, ...]
    """LPS mm a voxel; None for an axis that is not of space."""
    origin_lps: NDArray[np.float64]


def read_nrrd(path: Path, max_bytes: int) -> StoredImage:
    """A NRRD file of one volume, or of layers of segments, with its data inside or in a file of its own.

    Raises:
        InputError: not NRRD, an encoding or voxel type that no mask has, cut short, damaged or too large.
        GeometryError: it does not say where its voxels lie.
    """
    fields, keys, data_offset = _header(path)
    axes = _axes(fields, path)
    dtype = np.dtype(TYPES.get(_field(fields, "type", path).lower(), "V1"))
    if dtype.kind == "V":
        raise InputError(
            "The voxels of a mask must be whole or real numbers.",
            where=path,
            found=f"type {fields['type']}",
            fix="save the mask as unsigned char",
        )
    if dtype.itemsize > 1 and fields.get("endian", "").lower() == "big":
        dtype = dtype.newbyteorder(">")
    encoding = _field(fields, "encoding", path).lower()
    data_path, data_offset = _data_file(fields, path, data_offset)
    shape = axes.sizes[::-1]
    if encoding in TEXT_ENCODINGS:
        array = _text_voxels(data_path, data_offset, shape, dtype, max_bytes)
    elif encoding in ENCODINGS:
        offset = _skipped(fields, data_path, data_offset, shape, dtype, encoding)
        block = VoxelBlock(
            path=data_path, offset=offset, compression=ENCODINGS[encoding], shape=shape, dtype=dtype
        )
        array = read_voxels(block, max_bytes)
    else:
        raise InputError(
            "The encoding of the NRRD file is not supported.",
            where=path,
            found=encoding,
            expected="raw, gzip, bzip2 or ascii",
            fix="save it as gzip",
        )
    in_space = {n: direction for n, direction in enumerate(axes.directions) if direction is not None}
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([in_space[n] for n in sorted(in_space, reverse=True)])
    affine[:3, 3] = axes.origin_lps
    layers = _as_layers(array, sorted(in_space))
    return StoredImage(
        layers=layers,
        affine=checked_affine(affine, path),
        segments=_segments(keys, path),
        notes=() if "space" in fields else (f"{path}: the header names no space; it was taken as LPS",),
    )


def _as_layers(array: NDArray[np.generic], space_axes: Sequence[int]) -> tuple[NDArray[np.generic], ...]:
    """Arrays (k, i, j), one for every index of the axis that is not of space; axes are counted from the fastest."""
    last = array.ndim - 1
    others = [n for n in range(array.ndim) if n not in space_axes]
    ordered = np.transpose(array, [last - n for n in [*others, *reversed(space_axes)]])
    return tuple(ordered) if others else (ordered,)


class _Header(NamedTuple):
    """What stands before the data."""

    fields: dict[str, str]
    keys: dict[str, str]
    data_offset: int
    """The byte at which attached data begin."""


def _header(path: Path) -> _Header:
    with damaged_file(path), path.open("rb") as file:
        data = file.read(LARGEST_NRRD_HEADER)
    if not re.match(rb"NRRD000\d\r?\n", data):
        raise InputError(
            "The mask file cannot be read: it is not NRRD.",
            where=path,
            found=f"the first bytes {data[:8]!r}",
            fix=READ_AGAIN,
        )
    end = re.search(rb"\r?\n\r?\n", data)
    stop = len(data) if end is None else end.start()
    fields: dict[str, str] = {}
    keys: dict[str, str] = {}
    for line in data[:stop].decode("utf-8", "replace").splitlines()[1:]:
        if line.startswith("#"):
            continue
        key, separator, value = line.partition(":=")
        name, plain, text = line.partition(": ")
        if separator and (not plain or len(key) < len(name)):
            keys[key] = re.sub(r"\\([n\\])", lambda m: "\n" if m[1] == "n" else "\\", value)
        elif plain:
            if name.lower() in fields:
                raise _damaged(path, f"the field {name!r} twice")
            fields[name.lower()] = text.strip()
            if name.lower().replace(" ", "") == "datafile" and text.strip().upper().startswith("LIST"):
                break
    if end is None and "data file" not in fields and "datafile" not in fields:
        raise InputError(
            "The mask file is cut short within its header.",
            where=path,
            found=f"{len(data)} bytes without an empty line",
            fix=READ_AGAIN,
        )
    return _Header(fields, keys, len(data) if end is None else end.end())


def _field(fields: Mapping[str, str], name: str, path: Path) -> str:
    if name not in fields:
        raise _damaged(path, f"no field {name!r}")
    return fields[name]


def _numbers(text: str, count: int | None, what: str, path: Path) -> list[float]:
    try:
        numbers = [float(part) for part in re.split(r"[\s,]+", text.strip()) if part]
    except ValueError:
        numbers = []
    if not numbers or (count is not None and len(numbers) != count):
        raise _damaged(path, f"{what}: {text[:60]!r}")
    return numbers


def _axes(fields: Mapping[str, str], path: Path) -> _HeaderAxes:
    sizes = _numbers(_field(fields, "sizes", path), None, "sizes", path)
    if any(n != int(n) or n < 1 for n in sizes if np.isfinite(n)) or not np.isfinite(sizes).all():
        raise _damaged(path, f"sizes: {fields['sizes'][:60]!r}")
    if fields.get("dimension", str(len(sizes))).strip() != str(len(sizes)):
        raise _damaged(path, f"dimension {fields['dimension']}, but {len(sizes)} sizes")
    if len(sizes) < 3:
        raise _not_one_volume(path, sizes, len(sizes))
    if "space directions" not in fields or "space origin" not in fields:
        raise no_placement(path, "no 'space directions' or no 'space origin' in the header")
    space = fields.get("space", "left-posterior-superior").lower()
    if space not in SPACES:
        raise GeometryError(
            "The space of the NRRD file is not the patient's.",
            where=path,
            found=space,
            expected="left-posterior-superior, right-anterior-superior or left-anterior-superior",
            fix="write the file again with the geometry of its CT",
        )
    signs = np.array(SPACES[space], dtype=np.float64) * _unit_mm(fields, path)
    vectors = list(VECTOR.finditer(fields["space directions"]))
    directions = tuple(
        None if v[1] is None else signs * _vector(v[1], "space directions", path) for v in vectors
    )
    if len(directions) != len(sizes):
        raise _damaged(path, f"{len(directions)} space directions for {len(sizes)} axes")
    spatial = sum(d is not None for d in directions)
    if spatial != 3 or len(sizes) > 4:
        raise _not_one_volume(path, sizes, spatial)
    origin = VECTOR.fullmatch(fields["space origin"])
    if origin is None or origin[1] is None:
        raise _damaged(path, f"space origin: {fields['space origin'][:60]!r}")
    return _HeaderAxes(
        sizes=tuple(int(n) for n in sizes),
        directions=directions,
        origin_lps=signs * _vector(origin[1], "space origin", path),
    )


def _vector(text: str, what: str, path: Path) -> NDArray[np.float64]:
    numbers = _numbers(text, None, what, path)
    if len(numbers) != 3:
        raise _damaged(path, f"{what}: a vector of {len(numbers)} numbers instead of 3")
    return np.array(numbers)


def _unit_mm(fields: Mapping[str, str], path: Path) -> float:
    units = set(re.findall(r'"([^"]*)"', fields.get("space units", "")))
    if len(units) > 1 or not units <= UNITS_MM.keys():
        raise _damaged(path, f"space units: {fields['space units'][:60]!r}")
    return UNITS_MM[units.pop()] if units else 1.0


def _data_file(fields: Mapping[str, str], path: Path, offset: int) -> tuple[Path, int]:
    """The file that holds the voxels, and the byte at which they begin."""
    named = fields.get("data file", fields.get("datafile"))
    if named is None:
        return path, offset
    if named.upper().startswith("LIST") or re.search(r"%\d*d", named):
        raise InputError(
            "The NRRD header lists several data files.",
            where=path,
            found=named[:60],
            fix="save it as one .nrrd file",
        )
    return data_file_beside(path, named), 0


def _skipped(
    fields: Mapping[str, str],
    path: Path,
    offset: int,
    shape: tuple[int, ...],
    dtype: np.dtype[np.generic],
    encoding: str,
) -> int:
    """The byte at which the voxels begin, after what 'line skip' and 'byte skip' say."""
    lines = int(_numbers(fields.get("line skip", fields.get("lineskip", "0")), 1, "line skip", path)[0])
    skip = int(_numbers(fields.get("byte skip", fields.get("byteskip", "0")), 1, "byte skip", path)[0])
    size = path.stat().st_size
    if skip == -1 and encoding == "raw":  # the voxels are the last bytes of the file
        return max(offset, size - int(np.prod(shape, dtype=object)) * dtype.itemsize)
    if not 0 <= lines <= 1000 or not 0 <= skip <= size or (encoding != "raw" and skip):
        raise _damaged(path, f"line skip {lines}, byte skip {skip}")
    with path.open("rb") as file:
        file.seek(offset)
        for _ in range(lines):
            file.readline(1 << 16)
        return file.tell() + skip


def _text_voxels(
    path: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype[np.generic], max_bytes: int
) -> NDArray[np.generic]:
    count = int(np.prod(shape, dtype=object))
    refuse_size(path, shape, count * dtype.itemsize, max_bytes)
    with damaged_file(path), path.open("rb") as file:
        file.seek(offset)
        words = file.read(count * 32 + 1).split()
        if len(words) != count:
            raise InputError(
                "The mask file holds another number of voxels than its header says.",
                where=path,
                found=len(words),
                expected=count,
                fix=READ_AGAIN,
            )
        return np.array(words).astype(np.float64).astype(dtype.newbyteorder("=")).reshape(shape)


def _segments(keys: Mapping[str, str], path: Path) -> tuple[StoredSegment, ...]:
    """Segments as 3D Slicer writes them: Segment0_Name, Segment0_LabelValue, Segment0_Layer, …"""
    numbers = sorted({int(m[1]) for key in keys if (m := re.match(r"Segment(\d{1,6})_", key))})
    segments = []
    for n in numbers:
        name = keys.get(f"Segment{n}_Name", keys.get(f"Segment{n}_ID", "")).strip()
        label, layer = keys.get(f"Segment{n}_LabelValue"), keys.get(f"Segment{n}_Layer")
        if label is None and layer is None:  # before Slicer 4.11 every segment was a layer of its own
            label, layer = "1", str(n)
        if (
            not name
            or not re.fullmatch(r"\d{1,9}", label or "1")
            or not re.fullmatch(r"\d{1,6}", layer or "0")
        ):
            raise _damaged(path, f"segment {n}: name {name!r}, label {label!r}, layer {layer!r}")
        segments.append(StoredSegment(name, (int(label or "1"),), int(layer or "0")))
    return tuple(segments)


def _not_one_volume(path: Path, sizes: Sequence[float], spatial: int) -> InputError:
    return InputError(
        "A mask file must hold one volume.",
        where=path,
        found=f"{len(sizes)} dimensions, {' x '.join(f'{n:g}' for n in sizes)}; {spatial} of them in space",
        expected="three dimensions in space, and at most one of segments",
        fix="write one file for each ROI, or one file of labels with a file of names",
    )


def _damaged(path: Path, found: str) -> InputError:
    return InputError("The header of the NRRD file is damaged.", where=path, found=found, fix=READ_AGAIN)


def nrrd_header(shape_kij: tuple[int, ...], affine: NDArray[np.float64]) -> bytes:
    """The header of a gzipped mask of unsigned 8 bit; `affine` takes (k, i, j, 1) to LPS mm."""

    def vector(values: NDArray[np.float64]) -> str:
        return "(" + ",".join(repr(float(v)) for v in values) + ")"

    lines = [
        "NRRD0004",
        "type: unsigned char",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(str(n) for n in shape_kij[::-1])}",
        f"space directions: {' '.join(vector(affine[:3, n]) for n in (2, 1, 0))}",
        "kinds: domain domain domain",
        "encoding: gzip",
        f"space origin: {vector(affine[:3, 3])}",
    ]
    return ("\n".join(lines) + "\n\n").encode("ascii")
