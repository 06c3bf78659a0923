"""From cached patients to batches on the training device: which patients a step sees, where it looks, what it gets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from contour_ai.device_transfer import to_device
from contour_ai.preprocess import PreprocessSettings
from contour_ai.training.augmentation import Draw, draw, shade, view
from contour_ai.training.cache import Case
from contour_ai.training.config import AugmentationConfig
from contour_ai.training.patients import PatientsOnDevice
from contour_ai.training.synthetic import SyntheticPart, interleaved
from contour_ai.volume import roi_voxels

POINTS_PER_ROI = 256
"""Voxels remembered per patient and ROI, to centre patches on."""


@dataclass(frozen=True)
class Batch:
    """What one process sees in one training step."""

    images: Tensor
    """(N, C, k, i, j) float32, channels_last_3d."""
    targets: Tensor
    """(N, R, k, i, j) bool."""
    states: Tensor
    """(N, R) int8 on the CPU: what is known of each ROI, as `Case.states` has it."""

    def pieces(self, number: int) -> list[Batch]:
        """The samples in about `number` smaller batches."""
        parts = zip(*(x.chunk(number) for x in (self.images, self.targets, self.states)), strict=True)
        return [Batch(images, targets, states) for images, targets, states in parts]


def _shuffled(position: int, number: int, seed: list[int]) -> int:
    """The item at a position of an endless sequence of permutations of `number` items."""
    epoch, place = divmod(position, number)
    return int(np.random.default_rng([*seed, epoch]).permutation(number)[place])


class BatchMaker:
    """Makes the batch of any step; the same one whenever it is asked for the same step.

    A sample depends on the seed and on its position in the endless sequence of samples alone, so that several processes
    see together what one with as many samples a step would see.

    Args:
        cases: the training patients, all with the same ROIs.
        settings: windows, spacing and air of the model.
        patch_kij: voxels per sample.
        batch_size: samples per step and process.
        foreground_fraction: share of the samples centred on a ROI where the patch does not hold the whole body.
        augmentation: strengths; None for no augmentation.
        mirror: channel each ROI becomes in a mirror.
        synthetic: which of the patients are synthetic, and how often they are shown; None for no difference.
        seed: of every choice.
        device: where batches are made.
        process: number of this process, and of all.
        stay: whether patients stay on the device; None to let its memory decide.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        settings: PreprocessSettings,
        *,
        patch_kij: tuple[int, int, int],
        batch_size: int,
        foreground_fraction: float,
        augmentation: AugmentationConfig | None,
        mirror: Sequence[int],
        synthetic: SyntheticPart | None = None,
        seed: int,
        device: torch.device,
        process: tuple[int, int] = (0, 1),
        stay: bool | None = None,
    ) -> None:
        self.cases, self.settings = cases, settings
        self.patch_kij, self.batch_size, self.foreground_fraction = patch_kij, batch_size, foreground_fraction
        self.augmentation, self.mirror, self.seed = augmentation, tuple(mirror), seed
        self.process = process
        self.synthetic = synthetic
        self.patients = PatientsOnDevice(cases, device, stay=stay)
        self._points = [_roi_points(case) for case in cases]
        self.usual_shares = to_device(usual_shares(cases, math.prod(patch_kij)), device)
        """(R,) of a sample's voxels that each ROI has in the patients, on the device."""

    def batch(self, step: int) -> Batch:
        """The batch of step number `step`, counted from 0."""
        samples = [self._sample(position) for position in self._positions(step)]
        self.patients.expect(self._patient(position) for position in self._positions(step + 1))
        images = torch.stack([image for image, _, _ in samples])
        return Batch(
            images.contiguous(memory_format=torch.channels_last_3d),
            torch.stack([masks for _, masks, _ in samples]),
            torch.tensor([states for _, _, states in samples], dtype=torch.int8),
        )

    def patient_ids(self, step: int) -> tuple[str, ...]:
        """Whose samples a step holds, all processes together."""
        total = self.batch_size * self.process[1]
        return tuple(self.cases[self._patient(step * total + n)].patient_id for n in range(total))

    def _positions(self, step: int) -> range:
        """This process's share of the samples of a step."""
        rank, processes = self.process
        first = (step * processes + rank) * self.batch_size
        return range(first, first + self.batch_size)

    def _patient(self, position: int) -> int:
        """The patient at a position of the endless sequence: every epoch is a permutation of its own.

        Synthetic patients are a sequence of their own, interleaved with the others.
        """
        number = len(self.cases)
        if self.synthetic is None:
            return _shuffled(position, number, [self.seed, 2])
        own = number - self.synthetic.number
        is_synthetic, place = interleaved(position, self.synthetic.share)
        if is_synthetic:
            return own + _shuffled(place, self.synthetic.number, [self.seed, 3])
        return _shuffled(place, own, [self.seed, 2])

    def _sample(self, position: int) -> tuple[Tensor, Tensor, list[int]]:
        rng = np.random.default_rng([self.seed, 1, position])
        index = self._patient(position)
        hu, bits = self.patients[index]
        chosen = Draw() if self.augmentation is None else draw(rng, self.augmentation)
        image, masks, states = view(
            hu,
            bits,
            self.cases[index].states,
            centre_kij=self._centre(index, tuple(hu.shape), rng),
            size_kij=self.patch_kij,
            spacing_mm_kij=self.settings.spacing_mm_kij,
            outside_hu=self.settings.outside_hu,
            mirror=self.mirror,
            chosen=chosen,
        )
        return shade(image, self.settings.windows_hu, self.settings.spacing_mm_kij, chosen), masks, states

    def _centre(self, index: int, shape: Sequence[int], rng: np.random.Generator) -> list[float]:
        """Where to look: on a voxel of a random ROI, or anywhere that keeps the patch inside the patient."""
        on_roi, roi, point = rng.random() < self.foreground_fraction, rng.random(), rng.random()
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


def usual_shares(cases: Sequence[Case], voxels: int) -> Tensor:
    """(R,) mean number of voxels of each ROI over the patients that have it, as a share of `voxels`; at most 1."""
    total, patients = np.zeros(len(cases[0].rois)), np.zeros(len(cases[0].rois))
    for case in cases:
        values, numbers = np.unique(np.asarray(case.bits), return_counts=True)  # few values occur
        for r, present in enumerate(case.presence):
            found = int(numbers[roi_voxels(values, r)].sum()) if present else 0
            total[r] += found
            patients[r] += found > 0
    shares = total / np.maximum(patients, 1) / voxels
    return torch.from_numpy(np.minimum(shares, 1.0).astype(np.float32))


def _roi_points(case: Case) -> list[np.ndarray]:
    """(P, 3) voxels of every contoured ROI that is not empty: evenly picked, at most `POINTS_PER_ROI` each."""
    found = []
    flat = np.asarray(case.bits).ravel()
    for r, present in enumerate(case.presence):
        if not present:
            continue
        voxels = np.flatnonzero(roi_voxels(flat, r))
        if len(voxels):
            picked = voxels[:: max(1, len(voxels) // POINTS_PER_ROI)]
            found.append(np.stack(np.unravel_index(picked, case.bits.shape), axis=1))
    return found
