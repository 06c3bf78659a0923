"""Which ROIs never overlap, measured in the training patients: one that is contoured then says where another is not."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from contour_ai.structures import roi_info
from contour_ai.training.cache import Case

PAIRS_NAMED = 24
"""Pairs of ROIs that are named in the plan."""

TOGETHER_PATIENTS = 3
"""Two ROIs must be contoured together in so many patients before never having overlapped says anything."""


def exclusive_pairs(
    cases: Sequence[Case], mirror: Sequence[int], may_overlap: Sequence[Sequence[str]] = ()
) -> NDArray[np.bool_]:
    """(R, R) true for two organs that no training patient has in the same voxel, though enough have both.

    Targets, the body outline and everything else that is no organ may overlap anything. A pair and its mirror image
    count as one, since samples are mirrored.

    Args:
        cases: the training patients, all with the same ROIs.
        mirror: channel each ROI becomes in a mirror.
        may_overlap: pairs of ROI names that may overlap, whatever was measured.
    """
    rois = cases[0].rois
    together = np.zeros((len(rois), len(rois)), np.int64)
    overlapping = np.zeros_like(together)
    for case in cases:
        present = np.asarray(case.presence, dtype=bool)
        together += present[:, None] & present[None, :]
        overlapping += _shared_voxels(case)
    there = np.asarray(mirror)
    overlapping = overlapping + overlapping[np.ix_(there, there)]
    a, b = np.indices(together.shape)
    own_image = ((there[a] == a) & (there[b] == b)) | ((there[a] == b) & (there[b] == a))
    together = together + np.where(own_image, 0, together[np.ix_(there, there)])
    organ = np.array([roi_info(roi).interpreted_type == "ORGAN" for roi in rois])
    exclusive = (together >= TOGETHER_PATIENTS) & (overlapping == 0) & organ[:, None] & organ[None, :]
    for one, other in may_overlap:
        for x, y in ((one, other), (other, one)):
            if x in rois and y in rois:
                m, n = rois.index(x), rois.index(y)
                exclusive[m, n] = exclusive[there[m], there[n]] = False
    np.fill_diagonal(exclusive, False)
    return exclusive


def pair_names(exclusive: NDArray[np.bool_], rois: Sequence[str]) -> list[str]:
    """The pairs as text, each once."""
    return [f"{rois[a]}/{rois[b]}" for a, b in np.argwhere(np.triu(exclusive, 1))]


def described(exclusive: NDArray[np.bool_], rois: Sequence[str]) -> str:
    """The pairs in one line: named where they are few, so that one that does not hold elsewhere is noticed."""
    names = pair_names(exclusive, rois)
    if not names:
        return "none seen: all may overlap"
    listing = ", ".join(names[:PAIRS_NAMED]) + (", ..." if len(names) > PAIRS_NAMED else "")
    return f"{len(names)} pairs of {math.comb(len(rois), 2)}, assumed not to overlap: {listing}"


def _shared_voxels(case: Case) -> NDArray[np.int64]:
    """(R, R) 1 where two contoured ROIs of a patient have a voxel in common."""
    bits = np.asarray(case.bits).ravel()
    combinations = np.unique(bits[bits != 0])  # few: the voxel values that occur
    rois = np.arange(len(case.rois), dtype=bits.dtype)
    has = ((combinations[:, None] >> rois[None, :]) & bits.dtype.type(1)).astype(np.int64)  # (values, R)
    return (has.T @ has > 0).astype(np.int64)
