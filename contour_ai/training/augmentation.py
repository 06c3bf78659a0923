"""Random views of a patient, made on the training device from tensors that are already there.

Every decision is drawn first (`draw`, on the CPU, from a generator of the step), then carried out; so a step's
augmentation depends on the seed and on the step's number alone, and resuming needs no state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from contour_ai.device_transfer import to_device
from contour_ai.preprocess import AIR_BELOW_HU, window
from contour_ai.training.config import AugmentationConfig
from contour_ai.volume import CONTOURED, PSEUDO_LABEL

Triple = tuple[int, int, int]
Triplet = tuple[float, float, float]

METAL_PLACED_ABOVE_HU = 500.0
"""Metal is put where it is brighter."""

STREAKS = 12
"""Waves of a streak pattern around its piece of metal."""
STREAK_FADES_MM = (30.0, 95.0)
"""Least and most distance over which streaks fade to a third along a slice."""
STREAK_HEIGHTS_MM = (2.5, 10.0)
"""The same across the slices."""


@dataclass(frozen=True, kw_only=True)
class Draw:
    """What will be done to one sample; the defaults change nothing."""

    flip: bool = False
    rotation_deg: Triplet = (0.0, 0.0, 0.0)
    """About the k, i and j axes."""
    scale: float = 1.0
    shift_mm: Triplet = (0.0, 0.0, 0.0)
    cut_low: float = 0.0
    """Share of the slices cut off at the feet end."""
    cut_high: float = 0.0
    """Share cut off at the head end."""
    noise_hu: float = 0.0
    blur_voxels: float = 0.0
    low_resolution: float = 1.0
    brightness: float = 1.0
    contrast: float = 1.0
    gamma: float = 1.0
    seed: int = 0
    """Of the noise and the streaks."""
    streak_hu: float = 0.0

    @property
    def is_affine(self) -> bool:
        """Whether voxels have to be interpolated."""
        return any(self.rotation_deg) or self.scale != 1.0


def draw(rng: np.random.Generator, config: AugmentationConfig) -> Draw:
    """The random decisions for one sample."""

    def maybe(probability: float, low: float, high: float, neutral: float) -> float:
        # Both numbers are always drawn, so that switching one change off leaves the others as they were.
        chance, value = rng.random(), rng.uniform(low, high)
        return float(value) if chance < probability else neutral

    angle, shift = config.rotation_deg, config.shift_mm
    k, i, j = (maybe(config.rotation_probability, -angle, angle, 0.0) for _ in range(3))
    dk, di, dj = (float(rng.uniform(-shift, shift)) for _ in range(3))
    return Draw(
        flip=bool(rng.random() < 0.5) and config.flip,
        rotation_deg=(k, i, j),
        scale=maybe(config.scale_probability, *config.scale, 1.0),
        shift_mm=(dk, di, dj),
        cut_low=maybe(config.cut_probability, 0.0, config.cut_share, 0.0),
        cut_high=maybe(config.cut_probability, 0.0, config.cut_share, 0.0),
        noise_hu=maybe(config.noise_probability, 0.0, 1.0, 0.0) ** 0.5 * config.noise_hu,
        blur_voxels=maybe(config.blur_probability, *config.blur_voxels, 0.0),
        low_resolution=maybe(config.low_resolution_probability, *config.low_resolution, 1.0),
        brightness=maybe(config.brightness_probability, *config.brightness, 1.0),
        contrast=maybe(config.contrast_probability, *config.contrast, 1.0),
        gamma=maybe(config.gamma_probability, *config.gamma, 1.0),
        seed=int(rng.integers(2**62)),
        streak_hu=maybe(config.streak_probability, 0.0, config.streak_hu, 0.0),
    )


# -- space --------------------------------------------------------------------------------------------------


class SampleView(NamedTuple):
    """What a sample shows of a patient; ROIs in their order."""

    image: Tensor
    """(k, i, j) float32 HU."""
    masks: Tensor
    """(R, k, i, j) bool."""
    states: list[int]


def view(
    hu: Tensor,
    bits: Tensor,
    states: Sequence[int],
    *,
    centre_kij: Sequence[float],
    size_kij: Triple,
    spacing_mm_kij: Sequence[float],
    outside_hu: float,
    mirror: Sequence[int],
    chosen: Draw,
) -> SampleView:
    """A patient cut, rotated, scaled and mirrored.

    Args:
        hu: (k, i, j) integer or float tensor on any device.
        bits: (k, i, j) signed integer; bit r is ROI r.
        states: what is known of each ROI, as `Case.states` has it.
        centre_kij: voxel of the patient that comes to the centre of the view.
        size_kij: voxels of the view; what lies beyond the patient is `outside_hu` and no ROI.
        spacing_mm_kij: voxel size; rotations are in millimetres.
        outside_hu: air.
        mirror: channel each ROI becomes in a mirror.
        chosen: what to do.
    """
    low = round(chosen.cut_low * hu.shape[0])
    high = hu.shape[0] - round(chosen.cut_high * hu.shape[0])
    hu, bits = hu[low:high], bits[low:high]
    centre = [centre_kij[0] - low, centre_kij[1], centre_kij[2]]
    centre = [c + s / mm for c, s, mm in zip(centre, chosen.shift_mm, spacing_mm_kij, strict=True)]
    if chosen.is_affine:
        matrix = affine_matrix(chosen.rotation_deg, chosen.scale, spacing_mm_kij)
        image, masks = _interpolated(hu, bits, states, centre, size_kij, matrix, outside_hu)
    else:
        image, masks = _cut(hu, bits, len(states), centre, size_kij, outside_hu)
    kept = [int(state) for state in states]
    if chosen.flip:
        image, masks = image.flip(-1), masks.flip(-1)
        order = to_device(torch.tensor(mirror), masks.device)
        masks, kept = masks.index_select(0, order), [kept[m] for m in mirror]
    return SampleView(image, masks, kept)


def affine_matrix(
    rotation_deg: Sequence[float], scale: float, spacing_mm_kij: Sequence[float]
) -> NDArray[np.float64]:
    """(3, 3) matrix from an offset in voxels of the view to one in voxels of the patient, both (k, i, j).

    `scale` 2 shows the patient twice as large. Rotations are about k, then i, then j, in millimetres.
    """
    turn = np.eye(3)
    for axis, angle in enumerate(rotation_deg):
        a, b = (n for n in range(3) if n != axis)
        c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        one = np.eye(3)
        one[a, a], one[a, b], one[b, a], one[b, b] = c, -s, s, c
        turn = one @ turn
    mm = np.asarray(spacing_mm_kij, dtype=np.float64)
    return np.asarray(turn * mm[None, :] / mm[:, None] / scale)


def unpack(bits: Tensor, number: int) -> Tensor:
    """(k, i, j) bits to (R, k, i, j) bool."""
    rois = torch.arange(number, device=bits.device, dtype=bits.dtype).view(-1, 1, 1, 1)
    return ((bits[None] >> rois) & 1).bool()


def _cut(
    hu: Tensor, bits: Tensor, number: int, centre: Sequence[float], size: Triple, outside_hu: float
) -> tuple[Tensor, Tensor]:
    """A box of whole voxels around `centre`, padded with air where it reaches beyond the patient."""
    starts = [round(c - (n - 1) / 2) for c, n in zip(centre, size, strict=True)]
    box, place = [], []
    for start, n, there in zip(starts, size, hu.shape, strict=True):
        a, b = max(start, 0), max(min(start + n, there), 0)
        box.append(slice(a, max(a, b)))
        place.append(slice(a - start, a - start + max(b - a, 0)))
    image = torch.full(size, outside_hu, dtype=torch.float32, device=hu.device)
    masks = torch.zeros((number, *size), dtype=torch.bool, device=hu.device)
    k, i, j = place
    image[k, i, j] = hu[tuple(box)].float()
    masks[:, k, i, j] = unpack(bits[tuple(box)], number)
    return image, masks


def _interpolated(
    hu: Tensor,
    bits: Tensor,
    states: Sequence[int],
    centre: Sequence[float],
    size: Triple,
    matrix: NDArray[np.float64],
    outside_hu: float,
) -> tuple[Tensor, Tensor]:
    """The same through a matrix: linear for the image, linear and a threshold of one half for the masks."""
    # Only the part of the patient that the view can reach is unpacked.
    reach = np.abs(matrix) @ ((np.array(size) - 1) / 2) + 1
    box = []
    for c, r, n in zip(centre, reach, hu.shape, strict=True):
        a = min(max(math.floor(c - r), 0), n - 1)
        box.append(slice(a, max(min(math.ceil(c + r) + 1, n), a + 1)))
    inside = [c - b.start for c, b in zip(centre, box, strict=True)]
    hu, bits = hu[tuple(box)], bits[tuple(box)]
    present = [r for r, state in enumerate(states) if state in (CONTOURED, PSEUDO_LABEL)]
    # Air is what grid_sample pads with: 0.
    layers = [hu.float() - outside_hu] + [((bits >> r) & 1).float() for r in present]
    source = torch.stack(layers)[None]  # (1, 1 + present, k, i, j)

    there = np.array(hu.shape, dtype=np.float64)
    theta = np.zeros((3, 4))
    theta[:, :3] = (matrix * np.array(size) / there[:, None])[
        ::-1, ::-1
    ]  # grid_sample counts x first: j, i, k
    theta[:, 3] = ((2 * np.array(inside) + 1) / there - 1)[::-1]
    theta_there = to_device(torch.as_tensor(theta, dtype=torch.float32), hu.device)
    grid = F.affine_grid(theta_there[None], [1, 1, *size], align_corners=False)
    seen = F.grid_sample(source, grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0]
    masks = torch.zeros((len(states), *size), dtype=torch.bool, device=hu.device)
    for layer, r in enumerate(present, start=1):
        masks[r] = seen[layer] > 0.5
    return seen[0] + outside_hu, masks


# -- intensity ----------------------------------------------------------------------------------------------


def shade(
    image_hu: Tensor,
    windows_hu: Sequence[tuple[float, float]],
    spacing_mm_kij: Sequence[float],
    chosen: Draw,
) -> Tensor:
    """(k, i, j) HU to (C, k, i, j) float32 in [-1, 1], with streaks, noise, blur, coarseness and other brightness.

    What the scanner does (streaks, resolution, blur, noise) is done in HU, before the windows; the rest in each window.
    """
    if chosen.streak_hu > 0:
        image_hu = streaked(image_hu, spacing_mm_kij, chosen.streak_hu, chosen.seed)
    if chosen.low_resolution < 1:
        image_hu = coarsened(image_hu, chosen.low_resolution)
    if chosen.blur_voxels > 0:
        image_hu = blurred(image_hu, chosen.blur_voxels)
    if chosen.noise_hu > 0:
        generator = torch.Generator(image_hu.device).manual_seed(chosen.seed)
        noise = torch.randn(image_hu.shape, generator=generator, device=image_hu.device)
        image_hu = image_hu + noise * chosen.noise_hu
    image = torch.stack([window(image_hu, low, high) for low, high in windows_hu])  # (C, k, i, j)
    if chosen.brightness == chosen.contrast == chosen.gamma == 1:
        return image
    image = (image + 1) / 2
    if chosen.brightness != 1:
        image = image * chosen.brightness
    if chosen.contrast != 1:
        mean = image.mean((1, 2, 3), keepdim=True)
        image = (image - mean) * chosen.contrast + mean
    image = image.clamp(0, 1)
    if chosen.gamma != 1:
        image = image**chosen.gamma
    return image * 2 - 1


def streaked(image_hu: Tensor, spacing_mm_kij: Sequence[float], strength_hu: float, seed: int) -> Tensor:
    """(k, i, j) HU with bright and dark rays that start from a voxel of bone and fade along and across the slices.

    Where there is no bone the image stays as it is.

    Args:
        strength_hu: standard deviation of the rays beside the metal.
        seed: of the place and the pattern.
    """
    rng = np.random.default_rng(seed)
    place, found = _chosen_voxel(image_hu > METAL_PLACED_ABOVE_HU, float(rng.random()))
    k, i, j = (
        (torch.arange(n, device=image_hu.device, dtype=torch.float32) - centre) * mm
        for n, centre, mm in zip(image_hu.shape, place, spacing_mm_kij, strict=True)
    )
    angle, distance = torch.atan2(i[:, None], j[None, :]), torch.hypot(i[:, None], j[None, :])
    rays = torch.zeros_like(angle)
    for wave in range(2, STREAKS + 2):
        rays += float(rng.normal()) * torch.cos(wave * angle + float(rng.uniform(0, 2 * math.pi)))
    rays *= (2 / STREAKS) ** 0.5 * torch.exp(-distance / float(rng.uniform(*STREAK_FADES_MM)))
    slices = torch.exp(-((k / float(rng.uniform(*STREAK_HEIGHTS_MM))) ** 2))
    seen = (image_hu > AIR_BELOW_HU) & found
    return image_hu + strength_hu * slices[:, None, None] * rays * seen


class _Voxel(NamedTuple):
    kij: tuple[Tensor, Tensor, Tensor]
    exists: Tensor


def _chosen_voxel(mask: Tensor, share: float) -> _Voxel:
    """The voxel at `share` of those of a mask, in their order.

    All on the device: `nonzero` would wait for a GPU.
    """
    number = mask.flatten().cumsum(0)  # of voxels up to here
    wanted = torch.minimum((number[-1:] * share).long() + 1, number[-1:])
    at = torch.searchsorted(number, wanted)[0].clamp(max=mask.numel() - 1)
    _, i, j = mask.shape
    return _Voxel((at // (i * j), at // j % i, at % j), number[-1] > 0)


def blurred(image: Tensor, sigma_voxels: float) -> Tensor:
    """(k, i, j) convolved with a Gaussian, axis by axis, the edges repeated."""
    radius = max(1, math.ceil(3 * sigma_voxels))
    x = torch.arange(-radius, radius + 1, dtype=torch.float32)
    gaussian = torch.exp(-((x / sigma_voxels) ** 2) / 2)
    weights = (gaussian / gaussian.sum()).tolist()
    for axis in range(3):
        n = image.shape[axis]
        index = torch.arange(-radius, n + radius, device=image.device).clamp(0, n - 1)
        padded = image.index_select(axis, index)
        image = padded.narrow(axis, 0, n) * weights[0]
        for shift, weight in enumerate(weights[1:], start=1):
            image = image.add(padded.narrow(axis, shift, n), alpha=weight)
    return image


def coarsened(image: Tensor, share: float) -> Tensor:
    """(k, i, j) brought to `share` of its resolution (nearest) and back (linear), as a coarser scan looks."""
    size = [max(1, round(n * share)) for n in image.shape]
    small = F.interpolate(image[None, None], size=size, mode="nearest-exact")
    return F.interpolate(small, size=list(image.shape), mode="trilinear", align_corners=False)[0, 0]
