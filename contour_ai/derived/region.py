"""A ROI as its contours on the slices of a grid, and its signed distance to them: what every operation works on.

A level is the signed distance in mm, within the slice, from a voxel centre to the nearest contour: positive inside.
Its sign is exactly the mask's, its zero runs where the contours run, between the voxel centres.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from contour_ai.box import Box
from contour_ai.derived.nearest import MILLIMETRES, MOST_TURN_RADIANS, disc, nearest_gauge, nearest_segment
from contour_ai.grid import Grid
from contour_ai.polygons import HoleStyle, Polygon, distinct_polygons, filled_slices, stack_to_polygons

NARROW_BAND_VOXELS = 2.0
"""A level is the exact distance to the contours up to here; beyond, it is measured to points along them."""

POINT_SPACING_VOXELS = 0.7
"""Distance of those points. At 2 voxels the distance is too large by at most 0.03 voxel, at 5 voxels by 0.012."""

SAME_POINT_DECIMALS = 4
"""Decimals, in voxels, to which the two passages through a channel agree."""


@dataclass(frozen=True, eq=False)
class Region:
    """A ROI's contours on a grid, filled even-odd.

    Args:
        slices: {slice k: (N, 2) polygons in slice coordinates (i, j)}.
        level: what the contours were traced from, within the image; None where they are those of a file.
    """

    slices: Mapping[int, Sequence[Polygon]]
    grid: Grid
    level: Level | None = None

    @cached_property
    def filled(self) -> tuple[Box, NDArray[np.bool_]]:
        """(box, mask in the box) of the voxels whose centre is inside; an empty box where there is none."""
        parts = [
            (k, box, inside)
            for k, box, inside in filled_slices(self.slices, self.grid.shape_kij[1:])
            if inside.any()
        ]
        if not parts:
            return (slice(0, 0), slice(0, 0), slice(0, 0)), np.zeros((0, 0, 0), dtype=bool)
        low = [min(p[0] for p in parts), *(min(p[1][a].start for p in parts) for a in (0, 1))]
        high = [max(p[0] for p in parts) + 1, *(max(p[1][a].stop for p in parts) for a in (0, 1))]
        mask = np.zeros([b - a for a, b in zip(low, high, strict=True)], dtype=bool)
        for k, (rows, columns), inside in parts:
            mask[
                k - low[0],
                rows.start - low[1] : rows.stop - low[1],
                columns.start - low[2] : columns.stop - low[2],
            ] = inside
        return (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])), mask

    @property
    def is_empty(self) -> bool:
        """Whether no voxel centre lies inside."""
        return self.filled[1].size == 0

    @cached_property
    def volume_cm3(self) -> float:
        """Volume of the voxels inside, each slice with its own width."""
        (ks, _, _), mask = self.filled
        return float(mask.sum(axis=(1, 2)) @ self.grid.voxel_volumes_cm3[ks])

    @property
    def slice_range(self) -> tuple[int, int] | None:
        """First and last slice k with a voxel inside, None where it is empty."""
        (ks, _, _), _ = self.filled
        return None if self.is_empty else (ks.start, ks.stop - 1)


@dataclass(frozen=True, eq=False)
class Level:
    """A level field: `values` (k, i, j) float32 in mm, the first of them at voxel `start`; outside of it, outside.

    Voxels may lie beyond the image.
    """

    values: NDArray[np.float32]
    start: tuple[int, int, int]

    @property
    def stop(self) -> tuple[int, int, int]:
        """The voxel behind the last one."""
        k, i, j = (a + n for a, n in zip(self.start, self.values.shape, strict=True))
        return k, i, j

    def on(self, start: Sequence[int], stop: Sequence[int], outside: float) -> NDArray[np.float32]:
        """The values from `start` to `stop`, `outside` where the field has none."""
        result = np.full([b - a for a, b in zip(start, stop, strict=True)], outside, np.float32)
        low = [max(a, b) for a, b in zip(start, self.start, strict=True)]
        high = [min(a, b) for a, b in zip(stop, self.stop, strict=True)]
        if all(a < b for a, b in zip(low, high, strict=True)):
            result[tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))] = (
                self.values[tuple(slice(a - s, b - s) for a, b, s in zip(low, high, self.start, strict=True))]
            )
        return result


def stack_offsets(grid: Grid) -> NDArray[np.float64]:
    """(K, 2) voxels (i, j): how far each slice lies sideways of the first one along the normal (gantry tilt).

    A point (i, j) of slice k plus its offset is the same point in coordinates that all slices share. Zero for stacks
    that are not sheared.
    """
    if not grid.is_sheared:
        return np.zeros((grid.shape_kij[0], 2))
    offsets = grid.positions_lps - grid.positions_lps[0]
    steps = np.stack([grid.step_i_lps, grid.step_j_lps], axis=1)
    return offsets @ (steps / (steps**2).sum(axis=0))


def level_of(
    region: Region,
    reach_mm: float,
    *,
    slices: tuple[int, int] | None = None,
    offsets_ij: NDArray[np.float64] | None = None,
    without_holes: bool = False,
) -> Level:
    """The level of a ROI, on its slices (or from `slices[0]` up to, not including, `slices[1]`) and `reach_mm` around.

    Distances end at `reach_mm`, of either sign.

    Args:
        offsets_ij: of `stack_offsets`, for levels that are to be compared from slice to slice.
        without_holes: what contours enclose within a slice is inside, and only the outermost ones count.
    """
    spacing = region.grid.spacing_mm[1:]
    span = region.slice_range or (0, 0)
    first, stop = slices or (span[0], span[1] + 1)
    polygons = {
        k: [
            p if offsets_ij is None else p + offsets_ij[k]
            for p in distinct_polygons(region.slices.get(k, ()))
        ]
        for k in range(first, stop)
    }
    points = [p for of_slice in polygons.values() for p in of_slice if len(p) >= 3]
    if not points:
        return Level(np.full((stop - first, 0, 0), -reach_mm, np.float32), (first, 0, 0))
    every = np.concatenate(points)
    around = np.array([int(np.ceil(reach_mm / s)) + 2 for s in spacing])
    low = np.floor(every.min(axis=0)).astype(int) - around
    high = np.ceil(every.max(axis=0)).astype(int) + around + 1
    shape = stop - first, int(high[0] - low[0]), int(high[1] - low[1])
    # Filled over all voxel centres, those beyond the image included: there a contour goes on, too.
    inside = np.zeros(shape, dtype=bool)
    shifted = {k - first: [p - low for p in of_slice] for k, of_slice in polygons.items() if of_slice}
    for k, box, part in filled_slices(shifted, shape[1:]):
        inside[k][box] = part
    if without_holes:
        from scipy import ndimage

        for of_slice in inside:
            ndimage.binary_fill_holes(of_slice, output=of_slice)
    edges = _edges(shifted, inside, spacing)
    squared = np.full(shape, reach_mm**2, np.float32)
    nearest_segment(squared, edges.slices, edges.one * spacing, edges.two * spacing, spacing)
    if reach_mm > NARROW_BAND_VOXELS * min(spacing):
        middle = edges.middle * spacing
        nearest_gauge(squared, edges.slices, middle, spacing, MILLIMETRES, disc(reach_mm), edges.normals)
    distance = np.sqrt(squared, out=squared)
    np.negative(distance, out=distance, where=~inside)
    return Level(distance, (first, int(low[0]), int(low[1])))


def region_of_level(level: Level, grid: Grid, offsets_ij: NDArray[np.float64] | None = None) -> Region:
    """The contours along the zero of a level, within the image; voxel centres are inside where it is above zero."""
    kept = within_image(level, grid, offsets_ij)
    return Region({}, grid) if kept is None else Region(traced_contours(kept), grid, kept)


def within_image(level: Level, grid: Grid, offsets_ij: NDArray[np.float64] | None = None) -> Level | None:
    """The part of a level, at the voxel centres of the image, where it is above zero; None where there is none."""
    if offsets_ij is not None and np.abs(offsets_ij).max() > 0:
        level = _in_slice_coordinates(level, offsets_ij)
    low = [max(a, 0) for a in level.start]
    high = [min(b, n) for b, n in zip(level.stop, grid.shape_kij, strict=True)]
    if any(a >= b for a, b in zip(low, high, strict=True)):
        return None
    values = level.values[tuple(slice(a - s, b - s) for a, b, s in zip(low, high, level.start, strict=True))]
    inside: NDArray[np.bool_] = values > 0
    in_slice = np.logical_or.reduce(inside, axis=0)
    # One voxel more all around, so that only the border of the image clamps contours.
    spans = []
    for along in (inside.any(axis=(1, 2)), in_slice.any(axis=1), in_slice.any(axis=0)):
        found = np.flatnonzero(along)
        if not len(found):
            return None
        spans.append(slice(max(int(found[0]) - 1, 0), int(found[-1]) + 2))
    k, i, j = (a + s.start for a, s in zip(low, spans, strict=True))
    return Level(values[spans[0], spans[1], spans[2]].copy(), (k, i, j))


def traced_contours(level: Level, holes: HoleStyle = "keyhole") -> dict[int, list[Polygon]]:
    """{slice k: contours} along the zero of a level."""
    traced = stack_to_polygons(level.values, holes=holes)
    return {k + level.start[0]: [p + level.start[1:] for p in ps] for k, ps in traced.items()}


def redrawn(region: Region) -> Region:
    """The ROI with contours that keep their distance from voxel centres; its voxels are the same."""
    if region.level is not None or region.is_empty:
        return region
    return region_of_level(level_of(region, 3 * max(region.grid.spacing_mm[1:])), region.grid)


def _in_slice_coordinates(level: Level, offsets_ij: NDArray[np.float64]) -> Level:
    """The level at every slice's own voxel centres, from the coordinates that all slices share."""
    from scipy import ndimage

    own = offsets_ij[max(level.start[0], 0) : level.stop[0]]
    low = np.floor(-own.max(axis=0)).astype(int) - 1
    high = np.ceil(-own.min(axis=0)).astype(int) + 1
    shape = level.values.shape
    values = np.full((shape[0], *(shape[1:] + high - low)), level.values.min(), np.float32)
    for n in range(shape[0]):
        k = n + level.start[0]
        if 0 <= k < len(offsets_ij):
            values[n] = ndimage.affine_transform(
                level.values[n],
                np.ones(2),
                offset=low + offsets_ij[k],
                output_shape=values.shape[1:],
                order=1,
                mode="nearest",
            )
    return Level(values, (level.start[0], level.start[1] + int(low[0]), level.start[2] + int(low[1])))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Edges:
    """Pieces of contours, at most `POINT_SPACING_VOXELS` long: slice, both ends and middle (N, 2) in voxels."""

    slices: NDArray[np.intp]
    one: NDArray[np.float64]
    two: NDArray[np.float64]
    middle: NDArray[np.float64]
    normals: NDArray[np.float64]
    """(N, 2) in mm, of any length and either sign; (0, 0) where the contour turns or ends beside the piece."""


def _edges(
    polygons: Mapping[int, Sequence[Polygon]], inside: NDArray[np.bool_], spacing: tuple[float, float]
) -> _Edges:
    """The pieces that separate inside from outside: without the channels that join a hole to its outline.

    An edge that is passed twice changes no side. Pieces in a square of four voxel centres that are all on one side
    separate none of them either: such are channels whose two sides were rounded differently.
    """
    every = [(n, p) for n, of_slice in polygons.items() for p in of_slice if len(p) >= 3]
    if not every:
        nothing = np.empty((0, 2))
        return _Edges(slices=np.empty(0, np.intp), one=nothing, two=nothing, middle=nothing, normals=nothing)
    lengths = np.array([len(p) for _, p in every])
    k = np.repeat(np.array([n for n, _ in every], np.intp), lengths)
    one = np.concatenate([p for _, p in every])
    following = np.arange(1, len(one) + 1)
    following[np.cumsum(lengths) - 1] = np.cumsum(lengths) - lengths
    two = one[following]
    number = np.maximum(np.ceil(np.linalg.norm(two - one, axis=1) / POINT_SPACING_VOXELS), 1).astype(np.intp)
    number[~_passed_once(k, one, two)] = 0
    edge = np.repeat(np.arange(len(number)), number)
    part = np.arange(len(edge)) - np.repeat(np.cumsum(number) - number, number)
    step = ((two - one) / np.maximum(number, 1)[:, None])[edge]
    start = one[edge] + part[:, None] * step
    middle = start + step / 2
    i, j = np.clip(np.floor(middle), 0, np.array(inside.shape[1:]) - 2).astype(np.intp).T
    count = sum(inside[k[edge], i + di, j + dj].astype(np.int8) for di in (0, 1) for dj in (0, 1))
    mixed = (count > 0) & (count < 4)
    edge, start, step = edge[mixed], start[mixed], step[mixed]
    is_whole = np.bincount(edge, minlength=len(number)) == np.maximum(number, 1)
    normals = _normals((two - one) * spacing, following, is_whole)
    return _Edges(slices=k[edge], one=start, two=start + step, middle=middle[mixed], normals=normals[edge])


def _normals(
    along: NDArray[np.float64], following: NDArray[np.intp], is_whole: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """(N, 2) normals of edges; (0, 0) of those that turn from, or into, their neighbours, or have one in part."""
    length = np.hypot(along[:, 0], along[:, 1])
    cosine = (along * along[following]).sum(axis=1) / np.maximum(length * length[following], 1e-12)
    goes_on = (cosine >= np.cos(MOST_TURN_RADIANS)) & is_whole & is_whole[following]
    is_straight = goes_on.copy()
    is_straight[following] &= goes_on
    return np.where(is_straight[:, None], np.stack([-along[:, 1], along[:, 0]], axis=1), 0.0)


def _passed_once(
    k: NDArray[np.intp], one: NDArray[np.float64], two: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """(N,) False for edges that are passed an even number of times, in either direction."""
    ends = np.stack([np.round(one, SAME_POINT_DECIMALS), np.round(two, SAME_POINT_DECIMALS)], axis=1) + 0.0
    swap = (ends[:, 0, 0] > ends[:, 1, 0]) | (
        (ends[:, 0, 0] == ends[:, 1, 0]) & (ends[:, 0, 1] > ends[:, 1, 1])
    )
    ends[swap] = ends[swap][:, ::-1]
    order = np.lexsort((ends[:, 1, 1], ends[:, 1, 0], ends[:, 0, 1], ends[:, 0, 0], k))
    rows = np.column_stack([k, ends.reshape(-1, 4)])[order]
    new = np.append(True, (rows[1:] != rows[:-1]).any(axis=1))
    group = np.cumsum(new) - 1
    odd = np.bincount(group) % 2 == 1
    once = np.empty(len(k), dtype=bool)
    once[order] = new & odd[group]  # of an odd number, one stays
    return once
