"""Small surfaces to look at: from a mask on coarser voxels, with the volume that it has on its own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from contour_ai.box import Box, bounding_box
from contour_ai.grid import Grid
from contour_ai.surfaces.mesh import EMPTY, PAD, SMOOTHING_VOXELS, Mesh, closed_mesh, smoothed, volume_cm3

SQUARES = 2400
"""About how many sides of coarse voxels lie on the surface; there are about twice as many triangles."""


def reduced_mesh(
    mask: NDArray[np.bool_], grid: Grid, *, box: Box | None = None, squares: int = SQUARES
) -> Mesh:
    """A surface of few triangles, for a picture; for measuring there is `mesh_of_mask`.

    Voxels are taken together until about `squares` sides of them cover the surface. It runs where a coarse voxel is
    half inside, or half as much as the fullest.

    Args:
        mask: (k, i, j) on `grid`, or the part in `box`.
    """
    start = np.zeros(3, int) if box is None else np.array([s.start for s in box])
    held = bounding_box(mask)
    if held is None:
        return EMPTY
    inside, first = mask[held], start + [s.start for s in held]
    spacing = np.array(grid.spacing_mm)
    coarse_mm = max(np.sqrt(_area_mm2(inside, spacing) / squares), spacing.min())
    bins = np.maximum(1, np.rint(coarse_mm / spacing)).astype(int)
    shares = np.pad(_shares(inside, bins), PAD)
    limit = np.float32(min(0.5, float(shares.max()) / 2))
    within = shares > limit
    field = smoothed(gaussian_filter(shares, SMOOTHING_VOXELS) - limit, within)

    def to_lps(at: NDArray[np.float64]) -> NDArray[np.float64]:
        return grid.index_to_lps(first + (at + 0.5) * bins - 0.5)

    return closed_mesh(field, within, volume_cm3(inside, grid, first), to_lps)


def _area_mm2(inside: NDArray[np.bool_], spacing_mm: NDArray[np.float64]) -> float:
    """The area of a smooth surface around the voxels: that of their outer sides is about 1.5 times as large."""
    padded = np.pad(inside, 1)
    sides = [
        np.count_nonzero(np.diff(padded, axis=axis)) * spacing_mm.prod() / spacing_mm[axis]
        for axis in range(3)
    ]
    return float(sum(sides)) / 1.5


def _shares(inside: NDArray[np.bool_], bins: NDArray[np.int64]) -> NDArray[np.float32]:
    """The share of every block of `bins` voxels that is inside."""
    padded = np.pad(inside, [(0, int(-n % b)) for n, b in zip(inside.shape, bins, strict=True)])
    k, i, j = (int(n // b) for n, b in zip(padded.shape, bins, strict=True))
    return padded.reshape(k, bins[0], i, bins[1], j, bins[2]).mean(axis=(1, 3, 5), dtype=np.float32)
