"""Gauges of the levels of a ROI: how far voxels lie from its contours, in half-axes of a margin's ellipsoid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contour_ai.derived.nearest import MOST_TURN_RADIANS, Gauge, nearest_gauge

WINDOW_VOXELS = 1.5
"""How far beyond the margin gauges are worked out: a level needs the voxels on both sides of its zero."""

FAR_VOXELS = 12.0
"""From so far away points a voxel apart are as good as a line: the distance to them is 0.01 voxel too large at most."""

FAR_GAUGE = 1e3
"""Of voxels farther from the contours than that."""

LEAST_RISE = 1e-3
"""Levels nearer than this part of the half-axis are the two sides of a flat end: nothing lies between them."""

Pad = tuple[tuple[int, int], tuple[int, int]]
"""Voxels before and behind, of rows and of columns."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Gauges:
    """Gauges (levels, I, J) of some levels, positive on the side that is to be reached, negative on the other.

    Growing reaches the outside, shrinking the inside.
    """

    values: NDArray[np.float32]
    is_near: NDArray[np.bool_]
    """Where the gauge was worked out; elsewhere it is `FAR_GAUGE` of either sign."""
    is_reached: NDArray[np.bool_]
    """Where the gauge is negative."""

    @classmethod
    def of_levels(
        cls,
        levels: Sequence[NDArray[np.float32]],
        pad: Pad,
        plane: Gauge,
        spacing: tuple[float, float],
        *,
        grows: bool,
    ) -> Gauges:
        """Of levels (I, J), at their voxels and `pad` more around them."""
        field = np.stack(levels)
        inside = field > 0
        smallest = min(plane.low_i, plane.high_i, plane.low_j, plane.high_j) / max(spacing)
        found = _crossings(field, inside, spacing, half_way=smallest < FAR_VOXELS)
        shape = [n + sum(p) for n, p in zip(field.shape[1:], pad, strict=True)]
        values = np.full((len(field), *shape), FAR_GAUGE**2, np.float32)
        window = plane.grown(WINDOW_VOXELS * max(spacing))
        points = (found.points + np.array([pad[0][0], pad[1][0]])) * spacing
        nearest_gauge(values, found.levels, points, spacing, plane, window, found.normals)
        is_near = values < FAR_GAUGE**2
        np.sqrt(values, out=values)
        reached = np.pad(inside == grows, ((0, 0), *pad), constant_values=not grows)
        np.negative(values, out=values, where=reached)
        return cls(values=values, is_near=is_near, is_reached=reached)

    def deepest(
        self,
        heights: Sequence[float],
        height_mm: float,
        ends: tuple[float, float],
        out: NDArray[np.float32],
    ) -> bool:
        """The largest of (half-width of the ellipsoid at a level - gauge from that level), over all heights, in `out`.

        Between two levels the gauge is taken as linear in the height. At a part u of the half-axis the ellipsoid is
        sqrt(1 - u^2) wide, so that the largest value for a gauge of slope g lies at u = -g / sqrt(1 + g^2).

        Args:
            heights: of the levels, ascending.
            ends: half-axes towards lower and higher heights.
            out: (I, J) for the result.

        Returns:
            False where no level is near enough; `out` is as before then.
        """
        low_k, high_k = ends
        # The levels in reach, and one more on either side: between it and the last one, some is in reach, too.
        first = max(int(np.searchsorted(heights, height_mm - high_k - 1e-6)) - 1, 0)
        stop = int(np.searchsorted(heights, height_mm + low_k + 1e-6, side="right")) + 1
        rises = [height_mm - height for height in heights[first:stop]]
        if not rises:
            return False
        # Voxels far from the contours of all these levels lie within all of them, or within none.
        reached = self.is_reached[first:stop]
        everywhere = reached.all(axis=0)
        changes = self.is_near[first:stop].any(axis=0) | (reached.any(axis=0) != everywhere)
        columns = np.flatnonzero(changes)
        values = self.values[first:stop].reshape(len(rises), -1)
        best = _deepest(rises, values.take(columns, axis=1), low_k, high_k)
        if best is None:
            return False
        out[...] = -FAR_GAUGE
        out[everywhere] = FAR_GAUGE
        out.reshape(-1)[columns] = best
        return True


def _deepest(
    rises: Sequence[float], gauges: NDArray[np.float32], low_k: float, high_k: float
) -> NDArray[np.float32] | None:
    """(N,) of `Gauges.deepest`, of gauges (levels, N) at `rises` mm below the height."""
    best: NDArray[np.float32] | None = None
    for side, half in ((+1, high_k), (-1, low_k)):
        before: tuple[float, NDArray[np.float32]] | None = None
        on_side = [(side * rise, f) for f, rise in enumerate(rises) if side * rise > -1e-9]
        for rise, f in sorted(on_side):
            rise = max(rise, 0.0)
            u = rise / half if half > 0 else (0.0 if rise < 1e-9 else np.inf)
            if u <= 1 + 1e-9:
                value = np.float32(np.sqrt(max(1 - u * u, 0.0))) - gauges[f]
                best = value if best is None else np.maximum(best, value, out=best)
            if before is not None and best is not None and half > 0 and u - before[0] > LEAST_RISE:
                slope = (gauges[f] - before[1]) * np.float32(1 / (u - before[0]))
                root = np.sqrt(1 + slope * slope)
                at = -slope / root
                inner = (at > before[0]) & (at < min(u, 1.0))
                value = root - before[1] + slope * np.float32(before[0])
                np.maximum(best, value, out=best, where=inner)
            if u > 1:
                break
            before = u, gauges[f]
    return best


@dataclass(frozen=True, eq=False, kw_only=True)
class _Crossings:
    """Points of the zeros of a stack of levels: level number, (N, 2) voxels (i, j), normals (N, 2)."""

    levels: NDArray[np.intp]
    points: NDArray[np.float64]
    normals: NDArray[np.float64]
    """Directions across the zero, of either sign and any length; (0, 0) where it turns."""


def _crossings(
    field: NDArray[np.float32], inside: NDArray[np.bool_], spacing: tuple[float, float], *, half_way: bool
) -> _Crossings:
    """Where zeros pass between two neighbours of a slice; with `half_way` also half-way between two such points.

    Two such points of a square of four voxel centres are the ends of a piece of the contour.
    """
    rows, columns = field.shape[1:]
    flat = field.reshape(-1)
    numbers, points, squares = [], [], []
    for axis, step, back in ((0, columns, 1), (1, 1, columns)):
        # The last row or column has nothing behind it: there the next voxel is another row's, or another level's.
        changes = np.zeros(inside.shape, dtype=bool)
        if axis == 0:
            np.not_equal(inside[:, :-1], inside[:, 1:], out=changes[:, :-1])
        else:
            np.not_equal(inside[:, :, :-1], inside[:, :, 1:], out=changes[:, :, :-1])
        at = np.flatnonzero(changes)
        a, b = flat[at].astype(np.float64), flat[at + step].astype(np.float64)
        number, within = np.divmod(at, rows * columns)
        crossing = np.stack(np.divmod(within, columns), axis=1).astype(np.float64)
        crossing[:, axis] += a / (a - b)
        numbers.append(number)
        points.append(crossing)
        squares.append(np.stack([at, at - back]))
    k, p = np.concatenate(numbers), np.concatenate(points)
    # Squares with exactly two crossings; saddles, with four, do without.
    both = np.concatenate(squares, axis=1).reshape(-1)
    order = np.argsort(both, kind="stable")
    of_square = both[order]
    new = np.flatnonzero(np.append(True, of_square[1:] != of_square[:-1]))
    two_only = new[np.diff(np.append(new, len(of_square))) == 2] if len(of_square) else new[:0]
    first, second = (order[two_only + n] % max(len(p), 1) for n in (0, 1))
    across, turned = _normals(p * spacing, first, second)
    if not half_way:
        return _Crossings(levels=k, points=p, normals=turned)
    return _Crossings(
        levels=np.concatenate([k, k[first]]),
        points=np.concatenate([p, (p[first] + p[second]) / 2]),
        normals=np.concatenate([turned, across]),
    )


def _normals(
    points_mm: NDArray[np.float64], first: NDArray[np.intp], second: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(pieces, 2) normals of pieces from point `first` to `second`, and (points, 2), (0, 0) where contours turn."""
    along = points_mm[second] - points_mm[first]
    along /= np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-9)[:, None]
    number = len(points_mm)
    # Of a point on a straight line the pieces on both sides point away in opposite directions.
    ends = np.concatenate([first, second])
    pieces = np.bincount(ends, minlength=number)
    sums = np.stack([np.bincount(ends, np.concatenate([v, -v]), number) for v in along.T], axis=1)
    straight = (pieces == 2) & (np.hypot(sums[:, 0], sums[:, 1]) <= 2 * np.sin(MOST_TURN_RADIANS / 2))
    # Either of the two will do for a direction: it differs by less than the turn.
    mean = np.zeros((number, 2))
    mean[first] = along
    mean[second] = along
    across = np.stack([-mean[:, 1], mean[:, 0]], axis=1)
    return np.stack([-along[:, 1], along[:, 0]], axis=1), np.where(straight[:, None], across, 0.0)
