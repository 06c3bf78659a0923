"""Margins without extent in some direction of the slice: a level moved along all the ways that remain.

Where a half-axis is zero there is no gauge to measure with. The grown ROI is then the union of the ROI moved by every
vector of the (flat) shape; its level is the largest of the moved levels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from contour_ai.derived.nearest import Gauge

MOVE_VOXELS = 0.5
"""Distance of neighbouring moves."""


def swept(
    field: NDArray[np.float32],
    slice_offsets_mm: Sequence[float],
    height_mm: float,
    low_k: float,
    high_k: float,
    plane: Gauge,
    spacing_ij_mm: tuple[float, float],
) -> NDArray[np.float32] | None:
    """The largest level (I, J) at a height of the levels (F, I, J) moved by the vectors of an ellipsoid's octants.

    Args:
        low_k, high_k: half-axes in mm towards lower and higher heights.
        plane: the half-axes within the slice, some of which are zero.

    Returns:
        None where no level is near enough.
    """
    best: NDArray[np.float32] | None = None
    for values, height in zip(field, slice_offsets_mm, strict=True):
        rise = height_mm - height
        half = high_k if rise > 0 else low_k
        if abs(rise) > half + 1e-9 and abs(rise) > 1e-9:
            continue
        width = math.sqrt(max(1 - (rise / half) ** 2, 0.0)) if half > 0 else 1.0
        for i, j in _moves(plane, width, spacing_ij_mm):
            moved = _moved(values, i, j)
            best = moved.copy() if best is None else np.maximum(best, moved, out=best)
    return best


def _moves(plane: Gauge, width: float, spacing: tuple[float, float]) -> list[tuple[float, float]]:
    """Vectors (i, j) in voxels that fill the shape, `width` times its size, at `MOVE_VOXELS`."""
    low_i, high_i, low_j, high_j = (
        width * a / s
        for a, s in zip(
            (plane.low_i, plane.high_i, plane.low_j, plane.high_j),
            (spacing[0], spacing[0], spacing[1], spacing[1]),
            strict=True,
        )
    )
    moves = {(0.0, 0.0)}
    for a, b in ((high_i, high_j), (-low_i, high_j), (high_i, -low_j), (-low_i, -low_j)):
        rings = max(math.ceil(max(abs(a), abs(b)) / MOVE_VOXELS), 1)
        for ring in range(1, rings + 1):
            if not a or not b:  # a quarter without one of its axes is a line
                moves.add((a * ring / rings, b * ring / rings))
                continue
            turns = max(math.ceil(math.pi / 2 * max(abs(a), abs(b)) * ring / rings / MOVE_VOXELS), 1)
            if ring < rings and ring % 2:
                continue
            for turn in range(turns + 1):
                angle = math.pi / 2 * turn / turns
                moves.add((a * ring / rings * math.cos(angle), b * ring / rings * math.sin(angle)))
    return sorted(moves)


def _moved(values: NDArray[np.float32], i: float, j: float) -> NDArray[np.float32]:
    """(I, J) values moved by fractions of voxels, linear in between."""
    result = values
    for axis, by in ((0, i), (1, j)):
        whole = math.floor(by)
        part = np.float32(by - whole)
        near = np.roll(result, whole, axis=axis)
        result = near if part == 0 else near * (1 - part) + np.roll(near, 1, axis=axis) * part
    return result
