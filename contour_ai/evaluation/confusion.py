"""Which ROI voxels are taken for which: a confusion matrix where ROIs exclude each other, and the figures from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contour_ai.volume import roi_voxels

OVERLAP_SHARE = 0.01
"""ROIs exclude each other where less of what is contoured lies in two of them: strokes that touch, no more."""


@dataclass(frozen=True, kw_only=True)
class Accuracies:
    """Figures of a confusion matrix over background and ROIs; `i` is a class, `n_ij` voxels of `i` taken for `j`."""

    overall_accuracy: float
    """Σ n_ii / Σ n_ij: the share of voxels that are right. Background is most of them."""
    mean_accuracy: float
    """Mean over the classes that occur of n_ii / Σ_j n_ij: the share of each class that is found."""
    frequency_weighted_accuracy: float
    """Mean of the classes' Dice, weighted by how many voxels each has."""
    mean_class_dice: float
    """Mean over the classes that occur or are predicted of 2 n_ii / (Σ_j n_ij + Σ_j n_ji)."""


class Confusion:
    """A confusion matrix that grows patient by patient. Class 0 is background, class r + 1 is ROI r.

    Args:
        rois: how many.
    """

    def __init__(self, rois: int) -> None:
        self.matrix: NDArray[np.int64] = np.zeros((rois + 1, rois + 1), np.int64)
        """(R + 1, R + 1) voxels by true class (rows) and predicted class (columns)."""
        self.in_one = 0
        """Contoured voxels in one ROI."""
        self.in_several = 0
        """Contoured voxels in more than one ROI; they are left out of the matrix."""

    def add(
        self,
        logits: NDArray[np.float32],
        bits: NDArray[np.unsignedinteger],
        contoured: Sequence[bool],
        absent: Sequence[bool] = (),
    ) -> None:
        """Counts a patient's voxels.

        A voxel is predicted to belong to the ROI of the largest positive logit. ROIs of which nothing is known in this
        patient are neither true nor predicted there.

        Args:
            logits: (R, k, i, j).
            bits: (k, i, j), bit r for ROI r.
            contoured: whether each ROI is contoured in this patient; bits of others do not count.
            absent: whether each ROI is certainly not in this patient; none of them by default.
        """
        absent = absent or (False,) * len(contoured)
        channels = [r for r in range(len(contoured)) if contoured[r] or absent[r]]
        if not channels:
            return
        number = np.zeros(bits.shape, np.uint8)  # of ROIs that a voxel lies in
        truth = np.zeros(bits.shape, np.int64)
        for r in (r for r in channels if contoured[r]):
            inside = roi_voxels(bits, r)
            number += inside
            truth[inside] = r + 1
        best = np.argmax(logits[channels], axis=0)
        predicted = np.where(
            np.take_along_axis(logits[channels], best[None], axis=0)[0] > 0, np.array(channels)[best] + 1, 0
        )
        clear = number < 2
        size = len(self.matrix)
        pairs = truth[clear] * size + predicted[clear]
        self.matrix += np.bincount(pairs, minlength=size * size).reshape(size, size)
        self.in_one += int(np.count_nonzero(number == 1))
        self.in_several += int(np.count_nonzero(number > 1))

    def merge(self, other: Confusion) -> None:
        """Adds what was counted elsewhere."""
        self.matrix += other.matrix
        self.in_one += other.in_one
        self.in_several += other.in_several

    @property
    def exclusive(self) -> bool:
        """Whether the ROIs exclude each other, so that every voxel has one class."""
        return self.in_several <= OVERLAP_SHARE * (self.in_one + self.in_several)

    def accuracies(self) -> Accuracies | None:
        """The figures; None where nothing was counted or ROIs overlap."""
        if not self.matrix.any() or not self.exclusive:
            return None
        right = np.diag(self.matrix).astype(float)
        true, predicted = self.matrix.sum(axis=1), self.matrix.sum(axis=0)
        occurs, seen = true > 0, true + predicted > 0
        dice = 2 * right[seen] / (true + predicted)[seen]
        return Accuracies(
            overall_accuracy=float(right.sum() / self.matrix.sum()),
            mean_accuracy=float(np.mean(right[occurs] / true[occurs])),
            frequency_weighted_accuracy=float((true[seen] / true.sum() * dice).sum()),
            mean_class_dice=float(dice.mean()),
        )
