"""The loss of partially contoured patients: Dice + binary cross-entropy over the ROIs that each patient has."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from contour_ai.errors import ContourAIError

DICE_SMOOTHING_VOXELS = 1.0
"""Added to both halves of the Dice ratio: an organ outside the crop then still has a gradient, towards empty."""


def masked_loss(
    logits: Tensor | Sequence[Tensor],
    targets: Tensor,
    presence: Tensor,
    *,
    dice_weight: float = 1.0,
    bce_weight: float = 1.0,
) -> Tensor:
    """Dice + BCE over the contoured ROIs, in fp32.

    A ROI that is not contoured in a patient gives that patient's channel no loss and a gradient of exactly
    zero: it is never taught as background. Dice is taken over the batch (sums before the ratio), which is
    steadier for small organs; every ROI that occurs in the batch weighs the same in both terms, however many
    patients have it.

    Args:
        logits: (N, R, K, I, J), or a list of them from deep supervision, finest first, the later ones
            coarser. The weights halve from map to map and add up to one.
        targets: (N, R, K, I, J) 0 or 1 of any dtype.
        presence: (N, R), true where the ROI is contoured in that patient.
        dice_weight: weight of the Dice term.
        bce_weight: weight of the cross-entropy.

    Returns:
        A scalar; zero, with zero gradients, where nothing is contoured.
    """
    maps = [logits] if isinstance(logits, Tensor) else list(logits)
    present = presence.to(device=maps[0].device, dtype=torch.bool)
    weights = [0.5**n for n in range(len(maps))]
    # The ROIs to be taught are picked first, so that all that follows costs nothing for the others.
    rois = present.nonzero()[:, 1]  # (P,)
    picked = targets[present].float()  # (P, K, I, J)
    total = maps[0].new_zeros((), dtype=torch.float32)
    for weight, map_ in zip(weights, maps, strict=True):
        truth = coarser(picked, map_.shape[2:])
        loss = _dice_and_bce(map_[present].float(), truth, rois, present.shape[1], dice_weight, bce_weight)
        total = total + loss * (weight / sum(weights))
    return total


def coarser(targets: Tensor, size_kij: Sequence[int]) -> Tensor:
    """(P, K, I, J) targets as the covered fraction of each voxel of a coarser map (sizes divided, rounded up)."""
    if tuple(targets.shape[1:]) == tuple(size_kij):
        return targets
    strides = [-(-n // m) for n, m in zip(targets.shape[1:], size_kij, strict=True)]
    pooled = F.avg_pool3d(targets[None], strides, strides, ceil_mode=True, count_include_pad=False)[0]
    if tuple(pooled.shape[1:]) != tuple(size_kij):
        raise ContourAIError(
            "A coarse logit map does not fit its targets.",
            found=tuple(size_kij),
            expected=f"{tuple(targets.shape[1:])} divided by whole strides",
        )
    return pooled


def _dice_and_bce(
    logits: Tensor, targets: Tensor, rois: Tensor, number: int, dice_weight: float, bce_weight: float
) -> Tensor:
    """Loss of P picked channels: logits and targets (P, K, I, J) fp32, `rois` (P,) the ROI of each."""
    if not len(rois):
        return logits.sum()
    space = (1, 2, 3)
    probability = logits.sigmoid()
    sums = torch.stack(
        [
            (probability * targets).sum(space),
            probability.sum(space) + targets.sum(space),
            F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(space),
            torch.ones_like(rois, dtype=torch.float32),
        ]
    )  # (4, P)
    intersection, both, bce, patients = sums.new_zeros(4, number).index_add(1, rois, sums)  # (R,) each
    occurs = patients > 0
    dice = (2 * intersection + DICE_SMOOTHING_VOXELS) / (both + DICE_SMOOTHING_VOXELS)
    loss = dice_weight * (1 - dice) + bce_weight * bce / patients.clamp(min=1)
    return loss[occurs].mean()
