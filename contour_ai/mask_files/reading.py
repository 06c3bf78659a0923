"""Masks of a file or folder, one after the other, on a CT's grid."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contour_ai.dicom.seg_place import masks_on_grid
from contour_ai.dicom.seg_read import is_segmentation, read_segmentation
from contour_ai.errors import InputError
from contour_ai.grid import Grid
from contour_ai.mask_files.labels import named_masks, read_names
from contour_ai.mask_files.metaimage import read_metaimage
from contour_ai.mask_files.nifti import read_nifti
from contour_ai.mask_files.npz import read_npz
from contour_ai.mask_files.nrrd import read_nrrd
from contour_ai.mask_files.placing import OnNote, on_grid
from contour_ai.mask_files.stored import StoredImage

log = logging.getLogger(__name__)

READERS: Mapping[str, Callable[[Path, int], StoredImage]] = {
    ".nii.gz": read_nifti,
    ".nii": read_nifti,
    ".nrrd": read_nrrd,
    ".nhdr": read_nrrd,
    ".mha": read_metaimage,
    ".mhd": read_metaimage,
}
IMAGE_SUFFIXES = tuple(READERS)
EXPECTED = f".npz, {', '.join(IMAGE_SUFFIXES)} or a DICOM SEG"
DICOM_SUFFIXES = ("", ".dcm", ".ima")

MIN_LIMIT_BYTES = 256 << 20
BYTES_PER_CT_VOXEL = 32
"""An image may take as much uncompressed: 64-bit voxels on a grid four times as fine as the CT's."""

MAGIC = (
    (b"PK\x03\x04", "a zip archive", "unpack it first"),
    (b"\x93NUMPY", "a single NumPy array (.npy)", "save it with numpy.savez under its ROI's name"),
    (b"\x89HDF", "HDF5", None),
    (b"MATLAB", "a MATLAB file", None),
    (b"solid ", "a surface (STL)", None),
    (b"# vtk", "VTK", None),
    (b"\x89PNG", "a picture", None),
)


def read_masks(
    source: Path, grid: Grid, *, on_note: OnNote | None = None
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """(ROI name, mask (k, i, j) on `grid`) of a ``.npz``, an image file, a DICOM SEG, or a folder of such
    files, one at a time.

    Images whose voxels are those of the grid (in any axis order, also a part of it) are taken voxel by voxel; others
    are resampled, which `on_note` is told (without it, the log).

    Raises:
        InputError: nothing to read, a damaged file or one cut short, several labels without names, a mask without a
            name, or two of one name.
        GeometryError: an array of another shape, masks outside the CT, or a file that does not say where it lies.
    """
    source = Path(source)
    note = on_note or log.warning
    if not source.exists():
        raise InputError("There are no masks here.", where=source, found="no such file or folder")
    taken: set[str] = set()
    is_npz = source.suffix.lower() == ".npz" and source.is_file()
    for given, mask in read_npz(source, grid) if is_npz else _images(source, grid, note):
        name = given.strip()  # DICOM has no spaces at the ends of a name
        if not name:
            raise InputError(
                "A mask has no name.",
                where=source,
                found=repr(given),
                fix="name it: by its key in the .npz, its file name, or the names that come with the labels",
            )
        if name in taken:
            raise InputError(
                "Two masks have the same ROI name.",
                where=source,
                found=name,
                fix="rename one of them; of a folder with several patients, give one patient's file",
            )
        taken.add(name)
        yield name, mask
    if not taken:
        raise InputError("There are no masks here.", where=source, expected=EXPECTED)


def _images(source: Path, grid: Grid, note: OnNote) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    names = read_names(source, None if source.is_dir() else _stem(source) or source.stem)
    order = {file: n for n, file in enumerate([*names.files, *names.tables])}  # as they were written
    limit = max(MIN_LIMIT_BYTES, BYTES_PER_CT_VOXEL * int(np.prod(grid.shape_kij)))
    files = (
        [source] if source.is_file() else [p for p in source.iterdir() if p.is_file() and _may_hold_masks(p)]
    )
    files.sort(key=lambda p: (order.get(p.name, len(order)), p.name))
    if source.is_dir() and not files:
        archives = sorted(p for p in source.iterdir() if p.suffix.lower() == ".npz")
        if archives:
            raise InputError(
                "A folder of masks holds image files; an .npz is given by its own name.",
                where=source,
                found=", ".join(p.name for p in archives[:3]),
                fix=f"give {archives[0]}",
            )
    for path in files:
        stem = _stem(path)
        if stem is None and is_segmentation(path):
            yield from masks_on_grid(read_segmentation(path), grid, path, note)
            continue
        if stem is None:
            raise _no_mask_file(path)
        image = READERS[_suffix(path)](path, limit)
        for text in image.notes:
            note(text)
        for name, array in named_masks(image, path, stem, names):
            yield name, on_grid(array, image.affine, grid, f"{path}, {name}", note)


def _may_hold_masks(path: Path) -> bool:
    """Whether a file of a folder is an image file, or a DICOM SEG."""
    return _stem(path) is not None or (path.suffix.lower() in DICOM_SUFFIXES and is_segmentation(path))


def _suffix(path: Path) -> str:
    return next((s for s in IMAGE_SUFFIXES if path.name.lower().endswith(s)), "")


def _stem(path: Path) -> str | None:
    """File name without the suffix of an image, None for other files."""
    suffix = _suffix(path)
    return path.name[: -len(suffix)] or None if suffix and not path.name.startswith(".") else None


def _no_mask_file(path: Path) -> InputError:
    """The refusal of a file, named by what it is."""
    try:
        with path.open("rb") as file:
            start = file.read(264)
    except OSError:
        start = b""
    found, fix = next(
        ((what, way_out) for magic, what, way_out in MAGIC if start.startswith(magic)), (None, None)
    )
    if start[128:132] == b"DICM":
        found, fix = _dicom_kind(path)
    elif start[257:262] == b"ustar":
        found, fix = "a tar archive", "unpack it first"
    return InputError("This is no mask file.", where=path, found=found, expected=EXPECTED, fix=fix)


def _dicom_kind(path: Path) -> tuple[str, str | None]:
    import pydicom

    from contour_ai.dicom.header import UNREADABLE

    try:
        modality = str(
            pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["Modality"]).get("Modality")
        )
    except UNREADABLE:
        return "a DICOM file that cannot be read", None
    if modality == "RTSTRUCT":
        return "a DICOM RTSTRUCT", "to-masks makes masks of it"
    return f"a DICOM file of modality {modality}", None
