"""Figures of many closed contours at once: area, plane, points that repeat, place on the slices of a CT.

A structure set has thousands of contours of a few dozen points; one after the other, the calls would take longer than
the arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contour_ai.grid import Grid

Points = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class OnSlices:
    """A contour as one of a CT.

    Args:
        k: the slice nearest to its middle.
        slice_offset_mm: of its middle, along the normal.
        off_mm: how far the farthest point lies from that slice.
        outside_voxels: how far the farthest point lies outside the image; negative where all are inside.
    """

    k: int
    slice_offset_mm: float
    off_mm: float
    outside_voxels: float


@dataclass(frozen=True, kw_only=True)
class ContourShape:
    """A closed contour.

    Args:
        largest_triangle_mm2: twice the area of the largest triangle of its first point and an edge; 0 on a line.
        is_closed_twice: whether its first point stands at its end again.
        repeated: points that follow themselves.
        normal: (3,) of the plane that fits its points.
        thickness_mm: how far its points spread along that normal.
        on_slices: None without a CT.
    """

    largest_triangle_mm2: float
    is_closed_twice: bool
    repeated: int
    normal: NDArray[np.float64]
    thickness_mm: float
    on_slices: OnSlices | None


def shapes_of(contours: Sequence[Points], grid: Grid | None) -> list[ContourShape]:
    """The figures of each contour.

    Args:
        contours: (N, 3) LPS mm each, N at least 1.
        grid: of the CT, None where there is none.
    """
    if not contours:
        return []
    points = np.concatenate(contours)
    lengths = np.array([len(contour) for contour in contours])
    ends = np.cumsum(lengths)
    starts = ends - lengths
    contour_of = np.repeat(np.arange(len(contours)), lengths)
    edges = points - points[starts][contour_of]
    following = np.roll(edges, -1, axis=0)
    following[ends - 1] = 0.0  # the first point's
    sizes = np.linalg.norm(np.cross(edges, following), axis=1)
    largest = np.maximum.reduceat(sizes, starts)
    again = np.zeros(len(points), np.intp)
    again[1:] = (points[1:] == points[:-1]).all(axis=1)
    again[starts] = 0
    repeated = np.add.reduceat(again, starts)
    twice = (points[starts] == points[ends - 1]).all(axis=1)
    # Of the plane that fits all points: one triangle of a small contour makes much of the rounding of its corners.
    centred = points - (np.add.reduceat(points, starts) / lengths[:, None])[contour_of]
    spread = np.add.reduceat(centred[:, :, None] * centred[:, None, :], starts)
    normals = np.linalg.eigh(spread)[1][:, :, 0]
    along = np.einsum("na,na->n", centred, normals[contour_of])
    thickness = np.maximum.reduceat(along, starts) - np.minimum.reduceat(along, starts)
    places = [None] * len(contours) if grid is None else _on_slices(points, starts, lengths, grid)
    return [
        ContourShape(
            largest_triangle_mm2=float(largest[n]),
            is_closed_twice=bool(twice[n]),
            repeated=int(repeated[n]),
            normal=normals[n],
            thickness_mm=float(thickness[n]),
            on_slices=places[n],
        )
        for n in range(len(contours))
    ]


def _on_slices(
    points: Points, starts: NDArray[np.intp], lengths: NDArray[np.intp], grid: Grid
) -> list[OnSlices | None]:
    offsets_mm = points @ grid.normal
    means = np.add.reduceat(offsets_mm, starts) / lengths
    k = np.abs(grid.slice_offsets_mm[None] - means[:, None]).argmin(axis=1)
    away = np.abs(offsets_mm - np.repeat(grid.slice_offsets_mm[k], lengths))
    off = np.maximum.reduceat(away, starts)
    index = grid.lps_to_index(points)[:, 1:]
    size = np.array(grid.shape_kij[1:])
    outside = np.maximum.reduceat(np.maximum(-0.5 - index, index - (size - 0.5)).max(axis=1), starts)
    return [
        OnSlices(k=int(a), slice_offset_mm=float(b), off_mm=float(c), outside_voxels=float(d))
        for a, b, c, d in zip(k, means, off, outside, strict=True)
    ]
