"""Masks written as .npz, or as a folder of NIfTI or NRRD files."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import yaml
from numpy.typing import NDArray

from contour_ai.errors import GeometryError
from contour_ai.files import NPZ, atomic_file, atomic_folder, safe_name, write_text
from contour_ai.grid import ROUNDING_NOISE_VOXELS, Grid
from contour_ai.mask_files.labels import NAMES_FILE
from contour_ai.mask_files.nifti import nifti_bytes
from contour_ai.mask_files.npz import FASTEST, write_npz
from contour_ai.mask_files.nrrd import nrrd_header
from contour_ai.mask_files.placing import OnNote

log = logging.getLogger(__name__)

MaskFormat = Literal["npz", "nifti", "nrrd"]
SUFFIXES: Mapping[str, str] = {"nifti": ".nii.gz", "nrrd": ".nrrd"}
NIFTI_LARGEST_SIZE = 32767


def save_masks(
    path: Path,
    masks: Iterable[tuple[str, NDArray[np.bool_]]],
    grid: Grid,
    *,
    format: MaskFormat = "npz",
    overwrite: bool = False,
    inputs: Sequence[Path] = (),
    on_note: OnNote | None = None,
) -> dict[str, Path]:
    """Writes masks (k, i, j) of `grid`, one in memory at a time; returns {ROI name: its file}.

    ``npz`` is one file with an array for every ROI name; ``nifti`` and ``nrrd`` are a folder with a file for every ROI,
    and `NAMES_FILE` with the ROI names, as file names cannot have all characters. Slices that are equally spaced but
    for rounding are written with equal spacing, which `on_note` is told (without it, the log).

    Args:
        inputs: files and folders that the masks come from, which are never replaced.

    Raises:
        GeometryError: image formats need equally spaced slices without shear.
        OutputError: `path` exists and is not to be, or must not be, replaced; or it cannot be written.
    """
    path = Path(path)
    if format == "npz":
        with atomic_file(path, overwrite=overwrite, inputs=inputs, kind=NPZ) as temporary:
            return dict.fromkeys(write_npz(temporary, masks), path)
    affine = _affine(grid, path, format, on_note or log.warning)
    with atomic_folder(path, overwrite=overwrite, inputs=inputs) as folder:
        names = _write_images(folder, masks, affine, format)
    return {name: path / file for file, name in names.items()}


def _affine(grid: Grid, path: Path, format: MaskFormat, note: OnNote) -> NDArray[np.float64]:
    """(4, 4) from (k, i, j, 1) to LPS mm."""
    fit = grid.regular_fit
    if fit.deviation_voxels > ROUNDING_NOISE_VOXELS:
        raise GeometryError(
            f"{format} files cannot hold these slices.",
            where=path,
            found="sheared slices (gantry tilt)" if grid.is_sheared else "unequal slice spacing",
            expected="equally spaced slices without shear",
            fix="use --format npz, which is on the CT's own voxels",
        )
    if format == "nifti" and max(grid.shape_kij) > NIFTI_LARGEST_SIZE:
        raise GeometryError(
            "nifti files cannot hold so many voxels along one axis.",
            where=path,
            found=grid.shape_kij,
            expected=f"at most {NIFTI_LARGEST_SIZE}",
            fix="use --format nrrd",
        )
    if not grid.is_regular:
        note(
            f"the CT's slices lie up to {fit.deviation_voxels:.2f} voxels from equal spacing, as rounding leaves them; "
            f"the {format} files have equal spacing"
        )
    return fit.affine


def _write_images(
    folder: Path,
    masks: Iterable[tuple[str, NDArray[np.bool_]]],
    affine: NDArray[np.float64],
    format: MaskFormat,
) -> dict[str, str]:
    """{file name: ROI name}."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for name, mask in masks:
        stem, n = safe_name(name), 1
        while stem.casefold() in taken:  # file systems may ignore case
            n += 1
            stem = f"{safe_name(name)}_{n}"
        taken.add(stem.casefold())
        file = f"{stem}{SUFFIXES[format]}"
        _write_image(folder / file, mask, affine, format)
        names[file] = name
    text = yaml.safe_dump(names, sort_keys=False, allow_unicode=True)
    write_text(folder / NAMES_FILE, text)
    return names


def _write_image(
    path: Path, mask: NDArray[np.bool_], affine: NDArray[np.float64], format: MaskFormat
) -> None:
    voxels: NDArray[np.generic] = np.ascontiguousarray(mask, dtype=np.uint8)
    plain, packed = nrrd_header(mask.shape, affine), b""
    if format == "nifti":
        plain, (packed, voxels) = b"", nifti_bytes(mask, affine)
    # No time stamp and no name in the gzip header: the same masks give the same bytes.
    with path.open("wb") as file:
        file.write(plain)
        with gzip.GzipFile("", "wb", FASTEST, file, mtime=0) as stream:
            stream.write(packed)
            stream.write(voxels.data)
