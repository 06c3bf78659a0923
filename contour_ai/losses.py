"""The loss of partially contoured patients: Dice + binary cross-entropy over what is known of each ROI."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from contour_ai.device_transfer import to_device
from contour_ai.errors import ContourAIError
from contour_ai.volume import CONTOURED, PSEUDO_LABEL, UNKNOWN

DICE_SMOOTHING_VOXELS = 1.0
"""Added to both halves of the Dice ratio."""

VOLUMES = 32
"""Cross-entropy is summed over voxels and divided by so many times the ROI's volume."""

LEAST_SHARE = 1 / 2000
"""Of the voxels: a ROI is taken to have at least this volume."""


def masked_loss(
    logits: Tensor | Sequence[Tensor],
    targets: Tensor,
    states: Tensor,
    *,
    exclusive: Tensor | None = None,
    usual_shares: Tensor | None = None,
    dice_weight: float = 1.0,
    bce_weight: float = 1.0,
    pseudo_label_weight: float = 1.0,
    total: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Dice + BCE over what is known, in fp32.

    A ROI that is contoured in a patient, or absent, is known in every voxel there. One that is not contoured is
    unknown: it is taught nothing, its gradient is exactly zero, except in voxels that are certainly not in it: those of
    contoured ROIs that never overlap it. Those add to both terms of the ROI without counting as another patient that
    has it.

    Dice is taken over the batch (sums before the ratio), which is steadier for small organs; every ROI that is known
    somewhere in the batch weighs the same in both terms, however many patients have it. A ROI of which the batch shows
    no voxel (beyond the patch, absent, or known for other ROIs' voxels alone) gets cross-entropy alone: its Dice would
    be 1 / (sum + 1), whose gradient decreases the probability in every voxel, so that a small organ would not be found
    later either.

    A pseudo-label counts as contoured, but less: against the other patients of the batch in the sums of
    its Dice, and against the other ROIs.

    Cross-entropy is divided by 32 times the volume of the ROI (at least 1/2000 of the voxels, at most all of them), not
    by the number of voxels. Early in the training all probabilities are near zero, where the gradient of Dice nearly
    vanishes and only cross-entropy increases them. As a mean over half a million voxels its gradient for an organ of
    500 voxels would be fifty times smaller than that of the others' Dice, and a small organ that few patients have
    would not be found for thousands of steps.

    The volume is at least the usual one of the ROI, whatever the batch shows of it. Otherwise the gradient of a batch
    without any lung would be 62 times as large as that of a batch with a lung, in the opposite direction, and large
    organs would not be found for hundreds of steps.

    Args:
        logits: (N, R, K, I, J), or a list of them from deep supervision, finest first, the later ones
            coarser. The weights halve from map to map and add up to one.
        targets: (N, R, K, I, J) 0 or 1 of any dtype.
        states: (N, R): 0 or False unknown, 1 or True contoured, 2 absent (its targets are 0), 3 pseudo-label.
        exclusive: (R, R) bool, true for pairs of ROIs that never overlap; None where all may overlap.
        usual_shares: (R,) of a sample's voxels that each ROI usually has, on the device of `targets`; None for no more
            than 1/2000.
        dice_weight: weight of the Dice term.
        bce_weight: weight of the cross-entropy.
        pseudo_label_weight: weight of pseudo-labels, above 0.
        total: adds a tensor up over all processes that share the batch, differentiably; None where there is one.

    Returns:
        A scalar; zero, with zero gradients, where nothing is known.
    """
    maps = [logits] if isinstance(logits, Tensor) else list(logits)
    states = states.cpu()
    known, partly, negative = _what_is_known(targets, states, exclusive)
    counts = torch.where(states == PSEUDO_LABEL, pseudo_label_weight, 1.0)[states != UNKNOWN]  # (P,)
    counts = to_device(counts, targets.device)
    number = states.shape[1]
    # The channels to be taught are picked first, so that all that follows costs nothing for the others.
    truth = known.of(targets).float()  # (P, K, I, J)
    sums = []
    for map_ in maps:
        size = map_.shape[2:]
        found = _sums_known(known.of(map_).float(), coarser(truth, size), counts, known.rois, number)
        if negative is not None:
            # A coarse voxel is a certain negative where all of it is.
            certain = coarser(negative, size) >= 1
            found = found + _sums_negative(partly.of(map_).float(), certain, partly.rois, number)
        sums.append(found)
    stacked = torch.stack(sums)  # (maps, 8, R)
    if total is not None:
        stacked = total(stacked)
    weights = [0.5**n for n in range(len(maps))]
    least = stacked.new_full((number,), LEAST_SHARE)
    if usual_shares is not None:
        least = torch.maximum(least, usual_shares)
    losses = [
        _from_sums(found, least, dice_weight, bce_weight) * w
        for found, w in zip(stacked, weights, strict=True)
    ]
    return torch.stack(losses).sum() / sum(weights)


def certain_negatives(
    targets: Tensor, states: Tensor, exclusive: Tensor
) -> tuple[list[tuple[int, int]], Tensor]:
    """Where unknown ROIs certainly are not: inside contoured ROIs that never overlap them.

    Args:
        targets: (N, R, K, I, J) 0 or 1.
        states: (N, R) on the CPU, as `masked_loss` takes them.
        exclusive: (R, R) bool.

    Returns:
        The U (sample, ROI) that have such voxels declared, and (U, K, I, J) bool.
    """
    pairs = exclusive.cpu()
    channels, others = [], []
    for n, r in (states == UNKNOWN).nonzero().tolist():
        found = ((states[n] == CONTOURED) & pairs[r]).nonzero()[:, 0]
        if len(found):
            channels.append((n, r))
            others.append(found)
    if not channels:
        return [], targets.new_zeros((0, *targets.shape[2:]), dtype=torch.bool)
    there = torch.split(to_device(torch.cat(others), targets.device), [len(found) for found in others])
    masks = [
        targets[n].index_select(0, rois).bool().any(0) for (n, _), rois in zip(channels, there, strict=True)
    ]
    return channels, torch.stack(masks)


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


class _Channels:
    """Some channels of a batch.

    Args:
        samples: (P,) index of the first axis, on the CPU.
        rois: (P,) index of the second.
        shape: (N, R) of the batch.
        device: of what they are taken from.
    """

    def __init__(self, samples: Tensor, rois: Tensor, shape: Sequence[int], device: torch.device) -> None:
        self.rois = to_device(rois, device)
        """On the device."""
        # Each occurs once: as many as there are, in their order, are all of them.
        self._all = len(samples) == shape[0] * shape[1]
        self._at = (to_device(samples, device), self.rois)

    def of(self, maps: Tensor) -> Tensor:
        """(P, K, I, J) of (N, R, K, I, J)."""
        return maps.flatten(0, 1) if self._all else maps[self._at]


class _Known(NamedTuple):
    """What a batch says of its channels."""

    whole: _Channels
    """Known in every voxel."""
    partly: _Channels
    """Known in some."""
    where: Tensor | None
    """(U, K, I, J) fp32 where the latter are known; None for nowhere."""


def _what_is_known(targets: Tensor, states: Tensor, exclusive: Tensor | None) -> _Known:
    samples, rois = (states != UNKNOWN).nonzero().unbind(1)
    known = _Channels(samples, rois, states.shape, targets.device)
    if exclusive is None:
        return _Known(known, known, None)
    channels, negative = certain_negatives(targets, states, exclusive)
    if not channels:
        return _Known(known, known, None)
    samples, rois = torch.tensor(channels).unbind(1)
    return _Known(known, _Channels(samples, rois, states.shape, targets.device), negative.float())


def _sums_known(logits: Tensor, truth: Tensor, counts: Tensor, rois: Tensor, number: int) -> Tensor:
    """Sums of P whole channels by ROI, each times what it counts: intersection, volumes found and true, BCE, voxels.

    Returns:
        (8, R): these, 0, what the channels count, and their number.
    """
    space = (1, 2, 3)
    probability = logits.sigmoid()
    voxels = torch.full_like(rois, logits[0].numel() if len(logits) else 0, dtype=torch.float32)
    sums = torch.stack(
        [
            (probability * truth).sum(space),
            probability.sum(space),
            truth.sum(space),
            F.binary_cross_entropy_with_logits(logits, truth, reduction="none").sum(space),
            voxels,
            torch.zeros_like(voxels),
            torch.ones_like(voxels),
        ]
    )
    sums = torch.cat([sums * counts, torch.ones_like(voxels)[None]])  # (8, P)
    return sums.new_zeros(8, number).index_add(1, rois, sums)


def _sums_negative(logits: Tensor, certain: Tensor, rois: Tensor, number: int) -> Tensor:
    """The same of U channels that are known to be 0 where `certain` (U, K, I, J), and unknown elsewhere."""
    space = (1, 2, 3)
    # Chosen before any arithmetic: whatever stands elsewhere, even infinity, has a gradient of exactly zero.
    there = torch.where(certain, logits, torch.zeros_like(logits))
    zeros = torch.zeros_like(rois, dtype=torch.float32)
    sums = torch.stack(
        [
            zeros,
            (there.sigmoid() * certain).sum(space),
            zeros,
            (F.softplus(there) * certain).sum(space),
            zeros,
            torch.full_like(zeros, logits[0].numel()),
            zeros,
            zeros,
        ]
    )  # (8, U)
    return sums.new_zeros(8, number).index_add(1, rois, sums)


def _from_sums(sums: Tensor, least_shares: Tensor, dice_weight: float, bce_weight: float) -> Tensor:
    """The loss of one map from its sums (8, R) over the whole batch, and the least share of the voxels of each ROI."""
    intersection, found, true, bce, known, partly, weight, channels = sums
    dice = (2 * intersection + DICE_SMOOTHING_VOXELS) / (found + true + DICE_SMOOTHING_VOXELS)
    voxels = torch.where(known > 0, known, partly)
    volume = torch.minimum(VOLUMES * torch.maximum(true, least_shares * voxels), voxels)
    loss = bce_weight * bce / volume.clamp(min=1)
    loss = loss + dice_weight * (1 - dice) * (true > 0)
    loss = loss * torch.where(channels > 0, weight / channels.clamp(min=1), 1.0)
    taught = (known > 0) | (partly > 0)
    return (loss * taught).sum() / (known > 0).sum().clamp(min=1)
