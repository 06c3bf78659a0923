"""Draws relatives of a contoured patient: the same body turned, stretched and bent, its organs grown or shrunk, its
tissues given other Hounsfield units, scanned again.

Where label maps know whole bodies, contoured patients of any region have what surrounds their organs in their own CT:
it is deformed with them instead of being drawn.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from contour_ai.box import bounding_box, with_margin
from contour_ai.sample.shapes import RandomDraws
from contour_ai.sample.synthesis.noise import smooth_noise
from contour_ai.sample.synthesis.pose import draw_bend, draw_stature
from contour_ai.sample.synthesis.recipe import RelativeConfig, SynthesisRecipe
from contour_ai.sample.synthesis.scanner import HIGHEST_HU, LOWEST_HU
from contour_ai.volume import roi_voxels

Bits = NDArray[np.unsignedinteger]
Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]
Triple = tuple[float, float, float]

RELATIVES_KEY = 8219
"""Keeps these random numbers apart from those of other drawings; never change it."""
REACH_MM = 8.0
"""Beside an organ that grows, so far away a third of the movement is left."""
FARTHEST_MOVED_MM = 24.0
"""Farther away nothing moves."""
LEAST_SHOWN = 0.8
"""A slice is kept where so much of it lies within the patient's scan."""
TISSUES_HU = (-1024.0, -850.0, -100.0, 45.0, 250.0, 1200.0, 3071.0)
"""Air, lung, fat, soft tissue, cancellous and cortical bone, metal: values in between move with their neighbours."""


class Relative(NamedTuple):
    """A drawn relative on the patient's own voxels; it may have fewer slices."""

    hu: NDArray[np.int16]
    """(k, i, j)."""
    bits: Bits
    """(k, i, j) one bit a ROI, as the patient's."""


def draw_relative(
    hu: NDArray[np.int16], bits: Bits, count: int, spacing_mm: Triple, recipe: SynthesisRecipe, seed: int
) -> Relative:
    """Draws a relative; the same arguments always give the same voxels.

    Args:
        hu: (k, i, j) of the patient, towards head, back and left; air outside the body.
        bits: (k, i, j) bit r is ROI r.
        count: number of ROIs.
        spacing_mm: of the voxels, (k, i, j).
        recipe: its parts `pose` (without the mirror), `relatives` and `scanner` (grain alone) count.
        seed: any whole number from 0.
    """
    draws = RandomDraws(np.random.RandomState([RELATIVES_KEY, seed]))
    masks = [roi_voxels(bits, r) for r in range(count)]
    source = _turned(hu.shape, spacing_mm, recipe, draws)
    source -= _grown(masks, spacing_mm, recipe.relatives, draws)
    at = source / np.array(spacing_mm, np.float32)[:, None, None, None]
    shown = _shown(at[0], hu.shape[0])
    at = at[:, shown]
    drawn = np.zeros(at.shape[1:], bits.dtype)
    values = ndimage.map_coordinates(hu.astype(np.float32), at, order=1, mode="nearest")
    values = _other_tissues(values, recipe.relatives, draws)
    for r, mask in enumerate(masks):
        if not mask.any():
            continue
        share = ndimage.map_coordinates(mask.astype(np.float32), at, order=1, mode="constant")
        drawn |= (share >= 0.5).astype(bits.dtype) << bits.dtype.type(r)
        shift = draws.about(0, recipe.relatives.organ_hu / 2)
        values += np.float32(shift) * share * (values > -300)
    return Relative(_scanned(values, spacing_mm, recipe, draws), drawn)


def _turned(
    shape: tuple[int, ...], spacing_mm: Triple, recipe: SynthesisRecipe, draws: RandomDraws
) -> Float32:
    """(3, k, i, j) where each voxel lies in the patient, in mm from voxel 0: turned and stretched about the middle
    of the scan, then bent."""
    middle = [(n - 1) / 2 * mm for n, mm in zip(shape, spacing_mm, strict=True)]
    _, stretch, turn = draw_stature(recipe.pose, draws)
    axes = [np.arange(n) * mm - c for n, mm, c in zip(shape, spacing_mm, middle, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)
    backward = (np.diag(1 / stretch) @ turn).astype(np.float32)
    source = np.tensordot(backward, grid, axes=1) + np.array(middle, np.float32)[:, None, None, None]
    draw_bend(source, spacing_mm, recipe.pose, draws)
    return np.asarray(source, np.float32)


def _grown(masks: list[Bool], spacing_mm: Triple, wanted: RelativeConfig, draws: RandomDraws) -> Float32:
    """(3, k, i, j) movement in mm by which each organ's surface goes outwards, fading inside and around it."""
    moved = np.zeros((3, *masks[0].shape), np.float32) if masks else np.zeros(1, np.float32)
    for mask in masks:
        wish = draws.between(*wanted.organ_mm)
        found = bounding_box(mask)
        if found is None:
            continue
        box = with_margin(found, [int(np.ceil(FARTHEST_MOVED_MM / mm)) + 1 for mm in spacing_mm], mask.shape)
        part = mask[box]
        inside = ndimage.distance_transform_edt(part, sampling=spacing_mm)
        outside = ndimage.distance_transform_edt(~part, sampling=spacing_mm)
        thick = float(inside.max())
        level = (outside - inside).astype(np.float32)
        amount = float(np.clip(wish, -0.35 * thick, 0.6 * thick))  # a thin organ stays one
        slope = np.stack(np.gradient(ndimage.gaussian_filter(level, 1.0), *spacing_mm))
        slope /= np.maximum(np.linalg.norm(slope, axis=0), 0.3)
        beyond = np.maximum(np.abs(level) - abs(amount), 0)  # the new surface moved in full
        fading = amount * np.exp(-beyond / REACH_MM) * (level < FARTHEST_MOVED_MM)
        moved[(slice(None), *box)] += slope * fading.astype(np.float32)
    return moved


def _shown(height: Float32, slices: int) -> slice:
    """The slices that lie within the patient's scan; at least one."""
    within = ((height > -0.5) & (height < slices - 0.5)).mean(axis=(1, 2)) >= LEAST_SHOWN
    hits = np.flatnonzero(within)
    return (
        slice(int(hits[0]), int(hits[-1]) + 1) if hits.size else slice(len(within) // 2, len(within) // 2 + 1)
    )


def _other_tissues(values: Float32, wanted: RelativeConfig, draws: RandomDraws) -> Float32:
    """Fat, soft tissue and bone of other densities; air and metal stay."""
    air, lung, fat, soft, cancellous, cortical, metal = TISSUES_HU
    to = (
        air,
        lung + draws.about(0, 1) * wanted.lung_hu / 2,
        fat + draws.about(0, 1) * wanted.tissue_hu / 2,
        soft + draws.about(0, 1) * wanted.tissue_hu / 2,
        cancellous * draws.between(*wanted.bone_factor),
        cortical * draws.between(*wanted.bone_factor),
        metal,
    )
    return np.interp(values, TISSUES_HU, np.maximum.accumulate(to)).astype(np.float32)


def _scanned(
    values: Float32, spacing_mm: Triple, recipe: SynthesisRecipe, draws: RandomDraws
) -> NDArray[np.int16]:
    """Texture, kernel and grain; air outside the body stays as it is."""
    size = (values.shape[0], values.shape[1], values.shape[2])
    body = values > -950
    for grain_mm in (5.0, 18.0):
        strength = draws.between(0, recipe.relatives.texture_hu)
        values = (
            values + strength * smooth_noise(draws.state, size, spacing_mm, max(grain_mm, *spacing_mm)) * body
        )
    if draws.between(0, 1) < recipe.relatives.blur_probability:
        values = ndimage.gaussian_filter(values, [draws.between(0.2, 0.7)] * 3)
    width = draws.between(*recipe.scanner.noise_width_px)
    grain = ndimage.gaussian_filter(
        draws.state.standard_normal(size).astype(np.float32), (0.25, width, width)
    )
    strength = draws.between(0, recipe.relatives.noise_hu)
    values = values + body * grain * np.float32(strength / max(float(grain.std()), 1e-6))
    return np.rint(values).clip(LOWEST_HU, HIGHEST_HU).astype(np.int16)
