"""Brings images and masks on a model's grid to coarser voxels, for networks that look at less detail."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from contour_ai.preprocess.weights import axis_weights

Float32 = NDArray[np.float32]
Triple = tuple[int, int, int]
Spacing = tuple[float, float, float]


def coarser_shape(
    shape_kij: Sequence[int], spacing_mm: Sequence[float], wanted_mm: Sequence[float]
) -> Triple:
    """How many voxels of about `wanted_mm` cover the same image; never more than it has."""
    k, i, j = (
        min(n, max(1, round(n * s / w))) for n, s, w in zip(shape_kij, spacing_mm, wanted_mm, strict=True)
    )
    return k, i, j


def coarser_spacing(
    shape_kij: Sequence[int], spacing_mm: Sequence[float], coarser_kij: Sequence[int]
) -> Spacing:
    """The size of voxels of which `coarser_kij` cover the same image."""
    k, i, j = (n * s / m for n, s, m in zip(shape_kij, spacing_mm, coarser_kij, strict=True))
    return k, i, j


def to_coarser(image: NDArray[np.generic], shape_kij: Triple) -> Float32:
    """An image (k, i, j) as the mean over each of `shape_kij` voxels that cover the same extent."""
    found = np.asarray(image, np.float32)
    for axis, count in enumerate(shape_kij):
        if count == found.shape[axis]:
            continue
        size = found.shape[axis] / count
        weights = axis_weights(
            np.arange(found.shape[axis], dtype=np.float64),
            (np.arange(count) + 0.5) * size - 0.5,
            target_mm=size,
            sample_mm=1.0,
            outside="edge",
        )
        found = np.moveaxis(np.tensordot(weights, found, (1, axis)), 0, axis)
    return np.ascontiguousarray(found)
