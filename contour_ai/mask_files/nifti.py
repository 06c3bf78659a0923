"""NIfTI-1 and NIfTI-2 files (.nii, .nii.gz), after the nifti1.h and nifti2.h of the NIfTI Data Format Working Group."""

from __future__ import annotations

import gzip
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from contour_ai.errors import GeometryError, InputError
from contour_ai.mask_files.stored import (
    READ_AGAIN,
    StoredImage,
    StoredSegment,
    VoxelBlock,
    Voxels,
    checked_affine,
    damaged_file,
    no_placement,
    read_voxels,
)

GZIP_MAGIC = b"\x1f\x8b"
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
DTYPES = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
UNIT_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""xyzt_units: unknown (taken as mm), metre, mm, micrometre."""

AGREE_VOXELS = 0.5
"""The two matrices of a header (sform, qform) are one where no corner is further apart than this."""

MAX_EXTENSION_BYTES = 1 << 20
LABEL_IN_EXTENSION = re.compile(
    rb'<Label\b[^>]*\bKey="(\d+)"[^>]*>(?:<!\[CDATA\[)?(.*?)(?:\]\]>)?</Label>', re.S
)
"""Names in the Caret label table that TotalSegmentator and Connectome Workbench write as a header extension."""


@dataclass(frozen=True, kw_only=True)
class _Header:
    sizes: tuple[int, ...]
    """dim[1:], as many as dim[0] says."""
    datatype: int
    offset: int
    slope: float
    intercept: float
    sform_code: int
    qform_code: int
    sform: tuple[float, ...]
    quaternion: tuple[float, ...]
    """b, c, d."""
    origin: tuple[float, ...]
    pixdim: tuple[float, ...]
    units: int
    order: str
    """Byte order as `struct` writes it."""


def read_nifti(path: Path, max_bytes: int) -> StoredImage:
    """A NIfTI file of one volume.

    Raises:
        InputError: not NIfTI, several volumes, a voxel type that no mask has, cut short, damaged or too large.
        GeometryError: no matrix, or two that contradict each other.
    """
    with damaged_file(path):
        with path.open("rb") as file:
            zipped = file.read(2) == GZIP_MAGIC
        with cast(BinaryIO, gzip.open(path)) if zipped else path.open("rb") as stream:
            start = stream.read(544)
            header = _header(start, path)
            extension = stream.read(min(max(header.offset - 544, 0), MAX_EXTENSION_BYTES))
    shape = _volume_shape(header.sizes, path)
    if header.datatype not in DTYPES:
        raise InputError(
            "The voxels of a mask must be whole or real numbers.",
            where=path,
            found=f"NIfTI data type {header.datatype} (bits, colours or complex numbers)",
            fix="save the mask as unsigned 8 bit",
        )
    block = VoxelBlock(
        path=path,
        offset=header.offset,
        compression="raw",
        shape=shape[::-1],
        dtype=np.dtype(header.order + DTYPES[header.datatype]),
    )
    array = _scaled(read_voxels(block, max_bytes, inside_gzip=zipped), header)
    return StoredImage(
        layers=(array,),
        affine=checked_affine(_affine(header, shape, path), path),
        segments=_segments((start + extension)[: header.offset][352:]),
    )


def _header(data: bytes, path: Path) -> _Header:
    for order in "<>":
        size = struct.unpack_from(f"{order}i", data)[0] if len(data) >= 4 else 0
        if size == 348 and len(data) >= 348 and data[344:348] in (b"n+1\0", b"ni1\0"):
            if data[344:348] == b"ni1\0":
                raise InputError(
                    "This NIfTI file keeps its voxels in another file (.hdr and .img).",
                    where=path,
                    fix="save it as one .nii or .nii.gz file",
                )
            return _header_1(data, order, path)
        if size == 540 and len(data) >= 540 and data[4:8] == b"n+2\0":
            return _header_2(data, order, path)
    raise InputError(
        "The mask file cannot be read: it is not NIfTI, or cut short within its header.",
        where=path,
        found=f"{len(data)} bytes, the first {data[:8]!r}",
        fix=READ_AGAIN,
    )


def _header_1(data: bytes, order: str, path: Path) -> _Header:
    def get(form: str, at: int) -> tuple[float, ...]:
        return struct.unpack_from(order + form, data, at)

    dim = struct.unpack_from(f"{order}8h", data, 40)
    return _Header(
        sizes=_sizes(dim, path),
        datatype=int(get("h", 70)[0]),
        offset=_offset(get("f", 108)[0], 352, path),
        slope=get("f", 112)[0],
        intercept=get("f", 116)[0],
        qform_code=int(get("h", 252)[0]),
        sform_code=int(get("h", 254)[0]),
        sform=get("12f", 280),
        quaternion=get("3f", 256),
        origin=get("3f", 268),
        pixdim=get("8f", 76),
        units=data[123] & 7,
        order=order,
    )


def _header_2(data: bytes, order: str, path: Path) -> _Header:
    def get(form: str, at: int) -> tuple[float, ...]:
        return struct.unpack_from(order + form, data, at)

    dim = struct.unpack_from(f"{order}8q", data, 16)
    return _Header(
        sizes=_sizes(dim, path),
        datatype=int(get("h", 12)[0]),
        offset=_offset(get("q", 168)[0], 544, path),
        slope=get("d", 176)[0],
        intercept=get("d", 184)[0],
        qform_code=int(get("i", 344)[0]),
        sform_code=int(get("i", 348)[0]),
        sform=get("12d", 400),
        quaternion=get("3d", 352),
        origin=get("3d", 376),
        pixdim=get("8d", 104),
        units=int(get("i", 500)[0]) & 7,
        order=order,
    )


def _sizes(dim: tuple[int, ...], path: Path) -> tuple[int, ...]:
    if not 1 <= dim[0] <= 7:
        raise InputError(
            "The header of the NIfTI file is damaged.",
            where=path,
            found=f"{dim[0]} dimensions",
            fix=READ_AGAIN,
        )
    return tuple(int(n) for n in dim[1 : 1 + dim[0]])


def _offset(value: float, least: int, path: Path) -> int:
    if value == 0:
        return least
    if not least <= value < 1 << 30 or value != int(value):
        raise InputError(
            "The header of the NIfTI file is damaged.",
            where=path,
            found=f"voxels from byte {value:g}",
            expected=f"at least {least}",
            fix=READ_AGAIN,
        )
    return int(value)


def _volume_shape(sizes: tuple[int, ...], path: Path) -> tuple[int, int, int]:
    """(x, y, z); further dimensions of one are dropped."""
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes = sizes[:-1]
    if len(sizes) != 3:
        raise InputError(
            "A mask file must hold one volume.",
            where=path,
            found=f"{len(sizes)} dimensions, {' x '.join(map(str, sizes))}",
            expected="three dimensions; a fourth may only be 1",
            fix="write one file for each ROI, or one file of labels with a file of names",
        )
    return sizes[0], sizes[1], sizes[2]


def _scaled(array: Voxels, header: _Header) -> Voxels:
    slope, intercept = header.slope, header.intercept
    if not np.isfinite([slope, intercept]).all() or slope == 0 or (slope, intercept) == (1, 0):
        return array
    return (array.astype(np.float64) * slope + intercept).astype(np.float32)


def _affine(header: _Header, shape: tuple[int, int, int], path: Path) -> NDArray[np.float64]:
    """(4, 4) from (k, i, j, 1) to LPS mm: sform where there is one, else qform."""
    if header.sform_code <= 0 and header.qform_code <= 0:
        raise no_placement(path, "neither an sform nor a qform (both codes are 0)")
    matrices = []
    if header.sform_code > 0:
        matrices.append(np.vstack([np.array(header.sform).reshape(3, 4), [0, 0, 0, 1]]))
    if header.qform_code > 0:
        matrices.append(_qform(header))
    scale = np.diag([*[UNIT_MM.get(header.units, 1.0)] * 3, 1.0])
    placed = [checked_affine(RAS_TO_LPS @ scale @ m, path) for m in matrices]
    if len(placed) == 2:
        _refuse_contradiction(placed[0], placed[1], shape, path)
    return placed[0][:, [2, 1, 0, 3]]


def _qform(header: _Header) -> NDArray[np.float64]:
    """The rotation of the quaternion (a, b, c, d), as nifti1.h has it (method 2)."""
    b, c, d = header.quaternion
    a = np.sqrt(max(0.0, 1.0 - (b * b + c * c + d * d)))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    steps = np.abs(header.pixdim[1:4]) * [1, 1, -1 if header.pixdim[0] < 0 else 1]
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation * steps, header.origin
    return matrix


def _refuse_contradiction(
    sform: NDArray[np.float64], qform: NDArray[np.float64], shape: tuple[int, int, int], path: Path
) -> None:
    ends = np.stack(np.meshgrid(*[(0, n - 1) for n in shape], indexing="ij"), axis=-1).reshape(-1, 3)
    corners = np.column_stack([ends, np.ones(len(ends))]).T
    apart_mm = np.linalg.norm(((sform - qform) @ corners)[:3], axis=0).max()
    voxel_mm = np.linalg.norm(sform[:3, :3], axis=0).min()
    if apart_mm > AGREE_VOXELS * voxel_mm:
        raise GeometryError(
            "The header of the NIfTI file contradicts itself: its sform and its qform lie apart.",
            where=path,
            found=f"{apart_mm:.1f} mm between them",
            expected=f"at most {AGREE_VOXELS * voxel_mm:.1f} mm (half a voxel)",
            fix="set the code of the wrong one to 0, or write the file again with the geometry of its CT",
        )


def _segments(extension: bytes) -> tuple[StoredSegment, ...]:
    """Names of labels in a header extension; 0 is the background."""
    return tuple(
        StoredSegment(name.decode("utf-8", "replace").strip(), (int(label),))
        for label, name in LABEL_IN_EXTENSION.findall(extension)
        if int(label) != 0 and name.strip()
    )


# -- writing -----------------------------------------------------------------------------------------------------


def nifti_bytes(mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> tuple[bytes, Voxels]:
    """(header, voxels in the order of the file) of a NIfTI-1 file; `affine` takes (k, i, j, 1) to LPS mm."""
    ras = (RAS_TO_LPS @ affine)[:, [2, 1, 0, 3]]
    steps = np.linalg.norm(ras[:3, :3], axis=0)
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *mask.shape[::-1], 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 2, 8)
    struct.pack_into("<8f", header, 76, 1, *steps, 0, 0, 0, 0)
    struct.pack_into("<3f", header, 108, 352, 1, 0)
    header[123] = 2  # mm
    quaternion = _quaternion(ras[:3, :3] / steps)
    struct.pack_into("<2h", header, 252, 0 if quaternion is None else 1, 1)
    struct.pack_into("<6f", header, 256, *(quaternion or (0, 0, 0)), *ras[:3, 3])
    struct.pack_into("<12f", header, 280, *ras[:3].ravel())
    header[344:348] = b"n+1\0"
    return bytes(header), mask.astype(np.uint8)


def _quaternion(rotation: NDArray[np.float64]) -> tuple[float, float, float] | None:
    """(b, c, d) of a right-handed rotation; None where the axes are not perpendicular to 1e-4."""
    from scipy.spatial.transform import Rotation

    if np.abs(rotation.T @ rotation - np.eye(3)).max() > 1e-4 or np.linalg.det(rotation) < 0:
        return None
    b, c, d, a = Rotation.from_matrix(rotation).as_quat()
    sign = -1.0 if a < 0 else 1.0
    return float(sign * b), float(sign * c), float(sign * d)
