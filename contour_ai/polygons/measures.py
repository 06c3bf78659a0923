"""Figures of single polygons: area, and how often one crosses itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from contour_ai.polygons.filling import Polygon, edges_of


def polygon_area(polygon: Polygon) -> float:
    """Signed area in voxels of one polygon (keyholes count as holes): positive where the inside lies to the right."""
    i, j = polygon.T
    return float(np.dot(j, np.roll(i, -1)) - np.dot(i, np.roll(j, -1))) / 2


def count_self_intersections(polygon: Polygon) -> int:
    """How often the edges of a polygon cross each other; edges that only touch, as in a keyhole channel, do not."""
    (i0, j0), (i1, j1), _ = edges_of([[polygon]])
    order = np.argsort(np.minimum(i0, i1), kind="stable")
    i0, j0, i1, j1 = i0[order], j0[order], i1[order], j1[order]
    low, high = np.minimum(i0, i1), np.maximum(i0, i1)
    # Of every edge, only those that begin before it ends can cross it.
    count = np.searchsorted(low, high, side="right") - np.arange(len(low)) - 1
    one = np.repeat(np.arange(len(low)), count)
    two = np.arange(len(one)) - np.repeat(np.cumsum(count) - count, count) + one + 1
    left, right = np.minimum(j0, j1), np.maximum(j0, j1)
    near = (left[two] < right[one]) & (right[two] > left[one])
    one, two = one[near], two[near]

    def side(edge: NDArray[np.intp], i: NDArray[np.float64], j: NDArray[np.float64]) -> NDArray[np.float64]:
        cross = (i1[edge] - i0[edge]) * (j - j0[edge]) - (j1[edge] - j0[edge]) * (i - i0[edge])
        return np.where(np.abs(cross) < 1e-9, 0.0, np.sign(cross))

    apart = (side(one, i0[two], j0[two]) * side(one, i1[two], j1[two]) < 0) & (
        side(two, i0[one], j0[one]) * side(two, i1[one], j1[one]) < 0
    )
    return int(apart.sum())
