"""Overlay pictures of the validation patients that the network does worst."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from contour_ai.files import atomic_folder, safe_name
from contour_ai.grid import Grid
from contour_ai.polygons import mask_to_polygons
from contour_ai.preprocess import AIR_BELOW_HU
from contour_ai.render import overlay_panels, slice_plane, view_of
from contour_ai.structures import roi_info
from contour_ai.training.cache import Case
from contour_ai.volume import Volume, roi_voxels

"""What is below is no part of the picture, at its borders."""


def worst_picture(case: Case, roi: str, logits: NDArray[np.float32]) -> Image.Image:
    """The slice where the prediction of a ROI disagrees most with its contours: CT, ground truth, prediction, both.

    Args:
        logits: (R, k, i, j) of the ROIs of `case`, on its grid.
    """
    shape = case.hu.shape
    grid = Grid.axial((shape[0], shape[1], shape[2]), case.spacing_mm_kij)
    bits, r = np.asarray(case.bits), case.rois.index(roi)
    wrong = roi_voxels(bits, r) ^ (logits[r] > 0)
    k = int(wrong.sum(axis=(1, 2)).argmax())
    shown = [n for n, here in enumerate(case.presence) if here]
    predicted = {case.rois[n]: mask_to_polygons(logits[n, k] > 0, holes="separate") for n in shown}
    truth = {case.rois[n]: mask_to_polygons(roi_voxels(bits[k], n), holes="separate") for n in shown}
    volume = Volume(np.ascontiguousarray(case.hu), grid)
    plane = slice_plane(volume, k, predicted, truth)
    visible = [roi_info(case.rois[n]) for n in shown if predicted[case.rois[n]] or truth[case.rois[n]]]
    view = view_of(volume.hu[k] > AIR_BELOW_HU, plane.spacing_mm)
    return overlay_panels(plane, visible or [roi_info(roi)], view=view)


def save_pictures(folder: Path, pictures: Mapping[str, Image.Image]) -> None:
    """Writes pictures as PNG files, in place of those of the validation before; other files in the folder stay.

    Raises:
        OutputError: they cannot be written.
    """
    with atomic_folder(folder, overwrite=True, owned=True, private=True) as temporary:
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.suffix != ".png":
                shutil.copytree(path, temporary / path.name) if path.is_dir() else shutil.copy2(
                    path, temporary
                )
        for name, picture in pictures.items():
            picture.save(temporary / f"{safe_name(name)}.png")
