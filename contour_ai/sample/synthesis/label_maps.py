"""Reads label maps: `.npz` files, or subjects of the TotalSegmentator data set as they are distributed."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contour_ai.errors import InputError
from contour_ai.mask_files.nifti import read_nifti

KEYS = ("lab", "names", "spacing_mm_kij")
SEGMENTATIONS = "segmentations"
NIFTI = (".nii.gz", ".nii")
MAX_MASK_BYTES = 1 << 30


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelMap:
    """A body of labelled structures; k runs to the head, i to the back, j to the patient's left."""

    name: str
    labels: NDArray[np.uint8]
    """(k, i, j): 0 is not labelled, n is `names[n - 1]`."""
    names: tuple[str, ...]
    spacing_mm_kij: tuple[float, float, float]
    sha256: str
    """Of the file, or of the files in order of their names."""


def read_label_maps(source: Path) -> list[LabelMap]:
    """Every label map at or below `source`, in order of their names.

    Args:
        source: an `.npz` file with `lab` (k, i, j; towards head, back and left), `names` (label n is names[n - 1]) and
            `spacing_mm_kij`; a subject's folder with `segmentations/*.nii.gz`; or a folder of such files and folders.

    Raises:
        InputError: there is none, or one cannot be read.
    """
    source = Path(source)
    if source.is_file():
        return [_read_npz(source)]
    found = sorted(source.rglob("*.npz"))
    subjects = sorted(p for p in source.rglob(SEGMENTATIONS) if p.is_dir())
    if source.name == SEGMENTATIONS:
        subjects.append(source)
    if not found and not subjects:
        raise InputError(
            "There are no label maps here.",
            where=source,
            expected="label maps as .npz (lab, names, spacing_mm_kij), or folders segmentations/ with a .nii.gz per "
            "structure, as in the TotalSegmentator data set",
            fix="give the folder that holds them",
        )
    return [_read_npz(path) for path in found] + [_read_subject(folder) for folder in subjects]


def _read_npz(path: Path) -> LabelMap:
    try:
        with np.load(path, allow_pickle=False) as content:
            missing = [key for key in KEYS if key not in content]
            if missing:
                raise InputError(
                    "This is no label map.",
                    where=path,
                    found=f"arrays {', '.join(content.files) or 'none'}",
                    expected=f"arrays {', '.join(KEYS)}",
                )
            labels, names, spacing = (content[key] for key in KEYS)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError("A label map cannot be read.", where=path, found=error) from error
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return _checked(path, path.stem, labels, tuple(map(str, names)), tuple(map(float, spacing)), digest)


def _checked(
    path: Path,
    name: str,
    labels: NDArray[np.generic],
    names: tuple[str, ...],
    spacing: tuple[float, ...],
    digest: str,
) -> LabelMap:
    if labels.ndim != 3 or labels.dtype.kind not in "ui" or not labels.any():
        raise InputError(
            "A label map must be three-dimensional, of whole numbers, and not empty.",
            where=path,
            found=f"{labels.dtype} of shape {labels.shape}",
        )
    if int(labels.max()) > min(len(names), 255) or int(labels.min()) < 0:
        raise InputError(
            "A label map has labels without a name.",
            where=path,
            found=f"labels {int(labels.min())} to {int(labels.max())}",
            expected=f"0 to {min(len(names), 255)}, the number of names",
        )
    if len(spacing) != 3 or not all(0.1 <= s <= 20 for s in spacing):
        raise InputError(
            "The voxel size of a label map is not valid.",
            where=path,
            found=spacing,
            expected="three numbers (k, i, j) of 0.1 to 20 mm",
            fix="correct `spacing_mm_kij` in the file, or the header of the NIfTI files",
        )
    return LabelMap(
        name=name,
        labels=labels.astype(np.uint8),
        names=names,
        spacing_mm_kij=(spacing[0], spacing[1], spacing[2]),
        sha256=digest,
    )


def _read_subject(folder: Path) -> LabelMap:
    """A folder with one NIfTI mask per structure; the first structure by name wins where two overlap."""
    files = sorted(p for p in folder.iterdir() if p.name.endswith(NIFTI))
    labels: NDArray[np.uint8] | None = None
    names: list[str] = []
    spacing: tuple[float, ...] = ()
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.read_bytes())
        mask, spacing = _read_mask(path)
        if labels is None:
            labels = np.zeros(mask.shape, np.uint8)
        if mask.shape != labels.shape:
            raise InputError(
                "The masks of a subject differ in shape.", where=path, found=mask.shape, expected=labels.shape
            )
        if mask.any() and len(names) < 255:
            names.append(path.name.split(".nii")[0])
            labels[mask & (labels == 0)] = len(names)
    if labels is None:
        raise InputError("There are no masks here.", where=folder, expected="files *.nii.gz")
    return _checked(
        folder, folder.parent.name or folder.name, labels, tuple(names), spacing, digest.hexdigest()
    )


def _read_mask(path: Path) -> tuple[NDArray[np.bool_], tuple[float, ...]]:
    """A mask turned to (head, back, left), and its voxel size."""
    image = read_nifti(path, MAX_MASK_BYTES)
    mask = image.layers[0] != 0
    if len(image.layers) != 1:
        raise InputError(
            "A mask must have one value per voxel.", where=path, found=f"{len(image.layers)} values"
        )
    directions = image.affine[:3, :3]  # columns: LPS mm per step along k, i, j
    spacing = np.linalg.norm(directions, axis=0)
    # For superior, posterior, left in turn the array's axis that runs most along it.
    order = [int(np.abs(directions[world] / spacing).argmax()) for world in (2, 1, 0)]
    if sorted(order) != [0, 1, 2]:
        raise InputError("The axes of a mask are too oblique.", where=path)
    backwards = [directions[world, axis] < 0 for world, axis in zip((2, 1, 0), order, strict=True)]
    turned = np.transpose(mask, order)[tuple(slice(None, None, -1 if b else 1) for b in backwards)]
    return np.ascontiguousarray(turned), tuple(float(spacing[axis]) for axis in order)
