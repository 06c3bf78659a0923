"""Prepared patients with coarser voxels, for the training of a second reader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from contour_ai.files import private_folder
from contour_ai.preprocess.coarser import Spacing, coarser_shape, coarser_spacing, to_coarser
from contour_ai.progress import OnProgress, ProgressEvent, no_progress
from contour_ai.training.cache import Case
from contour_ai.volume import roi_voxels, set_roi_voxels

INSIDE = 0.5
"""Share of a coarse voxel from which it belongs to a ROI."""
STAGE = "coarser patients for the second reader"


def coarser_cases(
    cases: Sequence[Case], wanted_mm: Spacing, folder: Path, on_progress: OnProgress = no_progress
) -> list[Case]:
    """The patients with voxels of about `wanted_mm`, their arrays in files of `folder`, which are written anew."""
    private_folder(folder)
    found = []
    for n, case in enumerate(cases):
        on_progress(ProgressEvent(stage=STAGE, done=n, total=len(cases)))
        found.append(_coarser(case, wanted_mm, folder / f"{n}"))
    on_progress(ProgressEvent(stage=STAGE, done=len(cases), total=len(cases)))
    return found


def _coarser(case: Case, wanted_mm: Spacing, stem: Path) -> Case:
    hu, bits = np.asarray(case.hu), np.asarray(case.bits)
    shape = coarser_shape(hu.shape, case.spacing_mm_kij, wanted_mm)
    coarse = np.zeros_like(bits, shape=shape)
    for r in range(len(case.rois)):
        mask = roi_voxels(bits, r)
        if mask.any():
            set_roi_voxels(coarse, r, to_coarser(mask, shape) >= INSIDE)
    image, labels = stem.with_name(f"{stem.name}-hu.npy"), stem.with_name(f"{stem.name}-bits.npy")
    np.save(image, np.rint(to_coarser(hu, shape)).astype(np.int16))
    np.save(labels, coarse)
    spacing = coarser_spacing(hu.shape, case.spacing_mm_kij, shape)
    return replace(case, image=image, labels=labels, spacing_mm_kij=spacing).without_empty()
