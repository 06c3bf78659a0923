"""Random fields on a voxel grid: smooth noise, sheets and tubes. Every number comes from the `RandomState` given."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Shape = tuple[int, int, int]


def smooth_noise(
    state: np.random.RandomState, shape: Shape, spacing_mm: tuple[float, float, float], size_mm: float
) -> Float32:
    """(k, i, j) noise of mean 0 and standard deviation 1 whose blobs are about `size_mm` wide.

    White noise on a grid of that spacing, joined by cubic B-splines.
    """
    field: Float32 = np.asarray(
        state.standard_normal([_knots(n, mm, size_mm) for n, mm in zip(shape, spacing_mm, strict=True)]),
        np.float32,
    )
    for axis, (n, mm) in enumerate(zip(shape, spacing_mm, strict=True)):
        weights = _spline_weights(n, mm, size_mm, float(state.random_sample()))
        field = np.moveaxis(np.tensordot(weights, field, axes=(1, axis)), 0, axis)
    field -= field.mean()
    return np.ascontiguousarray(field / (field.std() + 1e-6), np.float32)


def linear_upsampled(field: NDArray[np.floating], shape: Shape, step: tuple[int, int, int]) -> Float32:
    """A field known at every `step`-th voxel (from voxel 0 on), at all voxels, by straight lines."""
    result = np.asarray(field, np.float32)
    for axis, (n, s) in enumerate(zip(shape, step, strict=True)):
        if s == 1:
            continue
        at = np.minimum(np.arange(n) / s, field.shape[axis] - 1)
        low = np.minimum(at.astype(int), max(field.shape[axis] - 2, 0))
        high = np.minimum(low + 1, field.shape[axis] - 1)
        t = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        result = np.take(result, low, axis) * (1 - t) + np.take(result, high, axis) * t
    return np.ascontiguousarray(result)


def _knots(n: int, mm: float, size_mm: float) -> int:
    return int(np.ceil(n * mm / size_mm)) + 5


def _spline_weights(n: int, mm: float, size_mm: float, phase: float) -> Float32:
    """(n, knots) weights of a cubic B-spline with knots `size_mm` apart, shifted by `phase` of a knot."""
    at = np.arange(n) * mm / size_mm + phase + 1
    cell = at.astype(int)
    t = at - cell
    pieces = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    weights = np.zeros((n, _knots(n, mm, size_mm)), np.float32)
    for offset, values in enumerate(pieces):
        weights[np.arange(n), cell - 1 + offset] = values / 6
    return weights
