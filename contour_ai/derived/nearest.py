"""Distances from voxel centres to points and short edges, written into a field where they are the least so far.

Fields are squared and lie on slices of one shape; coordinates are (N, 2) in mm from the centre of voxel (0, 0) of the
field. Each point reaches the voxels in a window around it, so that the cost goes with the length of the contours, not
with the size of the image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SEGMENT_REACH_VOXELS = 2.5
CELLS_AT_ONCE = 200_000
"""Voxels in all windows that are worked on in one go: what stays in a processor's cache."""


@dataclass(frozen=True, kw_only=True)
class Gauge:
    """The half-axes in mm of a shape of four quarter ellipses around a point: towards lower and higher i and j."""

    low_i: float
    high_i: float
    low_j: float
    high_j: float

    @property
    def is_flat(self) -> bool:
        """Whether it has no extent in some direction, so that there is no gauge."""
        return min(self.low_i, self.high_i, self.low_j, self.high_j) <= 0

    def grown(self, by_mm: float) -> Gauge:
        """The same with longer half-axes."""
        return Gauge(
            low_i=self.low_i + by_mm,
            high_i=self.high_i + by_mm,
            low_j=self.low_j + by_mm,
            high_j=self.high_j + by_mm,
        )


MILLIMETRES = Gauge(low_i=1.0, high_i=1.0, low_j=1.0, high_j=1.0)
"""With this one the gauge is the distance in mm."""


def disc(radius_mm: float) -> Gauge:
    """All half-axes the same."""
    return Gauge(low_i=radius_mm, high_i=radius_mm, low_j=radius_mm, high_j=radius_mm)


def nearest_gauge(
    squared: NDArray[np.float32],
    slices: NDArray[np.intp],
    points_mm: NDArray[np.float64],
    spacing_ij_mm: tuple[float, float],
    gauge: Gauge,
    window: Gauge,
) -> None:
    """Lowers `squared` (S, I, J) to the squared gauge of (voxel centre - point), in a window around each point.

    Windows that leave the field are cut off.
    """
    rows, columns = squared.shape[1:]
    di, dj = spacing_ij_mm
    below, right = window.low_i, window.low_j
    height = int((window.low_i + window.high_i) / di) + 1
    width = int((window.low_j + window.high_j) / dj) + 1
    flat = squared.reshape(-1)
    for chunk in _chunks(len(points_mm), height * width):
        p = points_mm[chunk]
        i = np.ceil((p[:, :1] - below) / di).astype(np.int64) + np.arange(height)
        j = np.ceil((p[:, 1:] - right) / dj).astype(np.int64) + np.arange(width)
        a = _scaled(i * di - p[:, :1], gauge.low_i, gauge.high_i)
        b = _scaled(j * dj - p[:, 1:], gauge.low_j, gauge.high_j)
        a[(i < 0) | (i >= rows)] = np.inf
        b[(j < 0) | (j >= columns)] = np.inf
        start = slices[chunk, None] * rows + np.clip(i, 0, rows - 1)
        at = (start * columns)[:, :, None] + np.clip(j, 0, columns - 1)[:, None, :]
        value = a[:, :, None] + b[:, None, :]
        np.minimum.at(flat, at.reshape(-1), value.reshape(-1))


def nearest_segment(
    squared: NDArray[np.float32],
    slices: NDArray[np.intp],
    one_mm: NDArray[np.float64],
    two_mm: NDArray[np.float64],
    spacing_ij_mm: tuple[float, float],
) -> None:
    """Lowers `squared` (S, I, J), mm2, to the squared distance to the nearest edge, within `SEGMENT_REACH_VOXELS`."""
    rows, columns = squared.shape[1:]
    di, dj = spacing_ij_mm
    reach = SEGMENT_REACH_VOXELS
    size = 2 * math.ceil(reach)
    flat = squared.reshape(-1)
    for chunk in _chunks(len(one_mm), size * size):
        p, along = one_mm[chunk], two_mm[chunk] - one_mm[chunk]
        middle = p + along / 2
        i = np.floor(middle[:, :1] / di).astype(np.int64) + np.arange(1 - size // 2, 1 + size // 2)
        j = np.floor(middle[:, 1:] / dj).astype(np.int64) + np.arange(1 - size // 2, 1 + size // 2)
        a, b = (i * di - p[:, :1])[:, :, None], (j * dj - p[:, 1:])[:, None, :]
        u, v = along[:, 0, None, None], along[:, 1, None, None]
        length2 = np.maximum(u * u + v * v, 1e-12)
        t = np.clip((a * u + b * v) / length2, 0.0, 1.0)
        value = ((a - t * u) ** 2 + (b - t * v) ** 2).astype(np.float32)
        value[((i < 0) | (i >= rows))[:, :, None] | ((j < 0) | (j >= columns))[:, None, :]] = np.inf
        start = slices[chunk, None] * rows + np.clip(i, 0, rows - 1)
        at = (start * columns)[:, :, None] + np.clip(j, 0, columns - 1)[:, None, :]
        np.minimum.at(flat, at.reshape(-1), value.reshape(-1))


def _scaled(distance: NDArray[np.float64], low: float, high: float) -> NDArray[np.float32]:
    scaled = distance / high if low == high else np.where(distance > 0, distance / high, distance / low)
    return (scaled * scaled).astype(np.float32)


def _chunks(number: int, cells_each: int) -> Iterator[slice]:
    step = max(1, CELLS_AT_ONCE // max(cells_each, 1))
    for start in range(0, number, step):
        yield slice(start, min(start + step, number))
