"""From cached patients to batches on the training device: which patients a step sees, where it looks, what it gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from contour_ai.preprocess import PreprocessSettings
from contour_ai.training.augmentation import Draw, draw, shade, view
from contour_ai.training.cache import Case
from contour_ai.training.config import AugmentationConfig

DEVICE_SHARE = 0.4
"""The data set stays on the GPU where it takes at most this share of the free memory."""

POINTS_PER_ROI = 256
"""Voxels remembered per patient and ROI, to centre patches on."""

SIGNED = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""torch shifts these; the sign bit of the wider ones is bit 15, 31 or 63, which `& 1` after a shift gets right."""


@dataclass(frozen=True)
class Batch:
    """What one training step sees."""

    images: Tensor
    """(N, C, k, i, j) float32, channels_last_3d."""
    targets: Tensor
    """(N, R, k, i, j) bool."""
    presence: Tensor
    """(N, R) bool."""
    patient_ids: tuple[str, ...]


class BatchMaker:
    """Makes the batch of any step; the same one whenever it is asked for the same step.

    Args:
        cases: the training patients, all with the same ROIs.
        settings: windows, spacing and air of the model.
        patch_kij: voxels per sample.
        batch_size: samples per step.
        roi_share: share of the samples centred on a ROI where the patch does not hold the whole body.
        augmentation: strengths; None for no augmentation.
        mirror: channel each ROI becomes in a mirror.
        seed: of every choice.
        device: where batches are made.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        settings: PreprocessSettings,
        *,
        patch_kij: tuple[int, int, int],
        batch_size: int,
        roi_share: float,
        augmentation: AugmentationConfig | None,
        mirror: Sequence[int],
        seed: int,
        device: torch.device,
    ) -> None:
        self.cases, self.settings = cases, settings
        self.patch_kij, self.batch_size, self.roi_share = patch_kij, batch_size, roi_share
        self.augmentation, self.mirror, self.seed, self.device = augmentation, tuple(mirror), seed, device
        self._resident = [_on(case, device) for case in cases] if fits_on(cases, device) else None
        self._points = [_roi_points(case) for case in cases]

    def batch(self, step: int) -> Batch:
        """The batch of step number `step`, counted from 0."""
        rng = np.random.default_rng([self.seed, 1, step])
        chosen = [self._patient(step * self.batch_size + n) for n in range(self.batch_size)]
        samples = [self._sample(index, rng) for index in chosen]
        images = torch.stack([image for image, _, _ in samples])
        return Batch(
            images.contiguous(memory_format=torch.channels_last_3d),
            torch.stack([masks for _, masks, _ in samples]),
            torch.tensor([present for _, _, present in samples], device=self.device),
            tuple(self.cases[index].patient_id for index in chosen),
        )

    def _patient(self, position: int) -> int:
        """The patient at a position of the endless sequence: every epoch is a permutation of its own."""
        epoch, place = divmod(position, len(self.cases))
        return int(np.random.default_rng([self.seed, 2, epoch]).permutation(len(self.cases))[place])

    def _sample(self, index: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, list[bool]]:
        case = self.cases[index]
        hu, bits = self._resident[index] if self._resident is not None else _on(case, self.device)
        chosen = Draw() if self.augmentation is None else draw(rng, self.augmentation)
        image, masks, presence = view(
            hu,
            bits,
            case.presence,
            centre_kij=self._centre(index, tuple(hu.shape), rng),
            size_kij=self.patch_kij,
            spacing_mm_kij=self.settings.spacing_mm_kij,
            outside_hu=self.settings.outside_hu,
            mirror=self.mirror,
            chosen=chosen,
        )
        return shade(image, self.settings.windows_hu, chosen), masks, presence

    def _centre(self, index: int, shape: Sequence[int], rng: np.random.Generator) -> list[float]:
        """Where to look: on a voxel of a random ROI, or anywhere that keeps the patch inside the patient."""
        on_roi, roi, point = rng.random() < self.roi_share, rng.random(), rng.random()
        where = rng.random(3)
        points = self._points[index]
        larger = [n > p for n, p in zip(shape, self.patch_kij, strict=True)]
        centre = []
        target = None
        if on_roi and points and any(larger):
            voxels = points[int(roi * len(points))]
            target = voxels[int(point * len(voxels))]
        for axis, (n, p) in enumerate(zip(shape, self.patch_kij, strict=True)):
            low, high = (p - 1) / 2, n - 1 - (p - 1) / 2
            if not larger[axis]:
                centre.append((n - 1) / 2)
            elif target is not None:
                centre.append(float(min(max(target[axis], low), high)))
            else:
                centre.append(float(low + where[axis] * (high - low)))
        return centre


def fits_on(cases: Sequence[Case], device: torch.device) -> bool:
    """Whether all patients may stay in the memory of `device`; on the CPU they stay memory-mapped instead."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return sum(case.hu.nbytes + case.bits.nbytes for case in cases) <= DEVICE_SHARE * free


def _on(case: Case, device: torch.device) -> tuple[Tensor, Tensor]:
    """HU and bits of a patient on a device."""
    hu, bits = case.hu, case.bits
    return _tensor(hu, torch.int16, device), _tensor(bits, SIGNED[bits.dtype.itemsize], device)


def _tensor(array: np.ndarray, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The array's bytes as a tensor of `dtype`, without a copy on the CPU."""
    import warnings

    signed = array.view(np.dtype(str(dtype).removeprefix("torch.")))
    with warnings.catch_warnings():
        # A memory-mapped array is read-only; so is every use of the tensor.
        warnings.filterwarnings("ignore", message=".*not writable.*")
        return torch.from_numpy(signed).to(device, non_blocking=True)


def _roi_points(case: Case) -> list[np.ndarray]:
    """(P, 3) voxels of every contoured ROI that is not empty: evenly picked, at most `POINTS_PER_ROI` each."""
    found = []
    flat = np.asarray(case.bits).ravel()
    for r, present in enumerate(case.presence):
        if not present:
            continue
        voxels = np.flatnonzero(flat & flat.dtype.type(1 << r))
        if len(voxels):
            picked = voxels[:: max(1, len(voxels) // POINTS_PER_ROI)]
            found.append(np.stack(np.unravel_index(picked, case.bits.shape), axis=1))
    return found
