"""Distances from voxel centres to points and short edges, written into a field where they are the least so far.

Fields are squared and lie on slices of one shape; coordinates are (N, 2) in mm from the centre of voxel (0, 0) of the
field. Each point reaches the voxels in a window around it, so that the cost goes with the length of the contours, not
with the size of the image.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SEGMENT_REACH_VOXELS = 2.5
POINTS_AT_ONCE = 8192
CELLS_AT_ONCE = 200_000
"""Voxels in all windows that are worked on in one go: what stays in a processor's cache."""

MOST_TURN_RADIANS = math.radians(10.0)
"""Where a contour turns by no more than this, it is the nearest only to voxels about its normal."""

BEAM_WIDTH_VOXELS = 0.4
"""How far along a contour the nearest of its points lies at most: points are 0.8 voxel apart or less."""

LEAST_POINTS_PER_BEAM = 1500
MOST_BEAMS = 16
"""Directions into which normals are sorted, fewer where there are few points: each has its own voxels to visit."""


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

    @property
    def is_round(self) -> bool:
        """Whether it is the same in all directions."""
        return self.low_i == self.high_i == self.low_j == self.high_j

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
    normals: NDArray[np.float64] | None = None,
) -> None:
    """Lowers `squared` (S, I, J) to the squared gauge of (voxel centre - point), in a window around each point.

    Voxels farther than the window's half-axes may keep their value. Windows that leave the field are cut off.

    Args:
        normals: (N, 2) of any length, in mm, of the contours at the points: with a gauge that is the same in all
            directions, only the voxels about them are visited, for other voxels have a nearer point. (0, 0) where a
            contour turns; all voxels around such a point are.
    """
    if not len(points_mm):
        return
    rows, columns = squared.shape[1:]
    di, dj = spacing_ij_mm
    height = int((window.low_i + window.high_i) / di) + 1
    width = int((window.low_j + window.high_j) / dj) + 1
    i = np.ceil((points_mm[:, 0] - window.low_i) / di).astype(np.intp)
    j = np.ceil((points_mm[:, 1] - window.low_j) / dj).astype(np.intp)
    pad_i = max(-int(i.min()), 0), max(int(i.max()) + height - rows, 0)
    pad_j = max(-int(j.min()), 0), max(int(j.max()) + width - columns, 0)
    is_padded = any((*pad_i, *pad_j))
    field = np.pad(squared, ((0, 0), pad_i, pad_j)) if is_padded else squared
    flat, wide = field.reshape(-1), field.shape[2]
    first = (slices * field.shape[1] + i + pad_i[0]) * wide + j + pad_j[0]
    near_i = _nearest_of_rows(height, di, window.low_i, window.high_i)
    near_j = _nearest_of_rows(width, dj, window.low_j, window.high_j)
    within = near_i[:, None] + near_j <= 1
    # Of the middle of where the voxel may lie.
    offsets_i = di * np.arange(0.5, height, dtype=np.float64) - window.low_i
    offsets_j = dj * np.arange(0.5, width, dtype=np.float64) - window.low_j
    for beam, members in _by_direction(normals if gauge.is_round else None, len(points_mm)):
        visited = within if beam is None else within & beam.visits(offsets_i, offsets_j, (di, dj))
        cells = np.argwhere(visited).tolist()
        # All points at once, cell by cell of their windows: those of one group begin in different voxels, so that none
        # of them writes where another does.
        for group in _without_equals(first[members]):
            for start in range(0, len(group), POINTS_AT_ONCE):
                some = members[group[start : start + POINTS_AT_ONCE]]
                p, at = points_mm[some], first[some]
                a = _scaled((i[some] + np.arange(height)[:, None]) * di - p[:, 0], gauge.low_i, gauge.high_i)
                b = _scaled((j[some] + np.arange(width)[:, None]) * dj - p[:, 1], gauge.low_j, gauge.high_j)
                value, here = np.empty(len(at), np.float32), np.empty(len(at), np.float32)
                for row, column in cells:
                    from_here = flat[row * wide + column :]
                    np.add(a[row], b[column], out=value)
                    from_here.take(at, out=here, mode="clip")
                    from_here[at] = np.minimum(value, here, out=value)
    if is_padded:
        squared[...] = field[:, pad_i[0] : pad_i[0] + rows, pad_j[0] : pad_j[0] + columns]


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
        a = (i * di - p[:, :1]).astype(np.float32)[:, :, None]
        b = (j * dj - p[:, 1:]).astype(np.float32)[:, None, :]
        u, v = along.astype(np.float32).T[:, :, None, None]
        length2 = np.maximum(u * u + v * v, np.float32(1e-12))
        t = a * (u / length2) + b * (v / length2)
        np.clip(t, 0, 1, out=t)
        value = (a - t * u) ** 2
        value += (b - t * v) ** 2
        value[((i < 0) | (i >= rows))[:, :, None] | ((j < 0) | (j >= columns))[:, None, :]] = np.inf
        start = slices[chunk, None] * rows + np.clip(i, 0, rows - 1)
        at = (start * columns)[:, :, None] + np.clip(j, 0, columns - 1)[:, None, :]
        np.minimum.at(flat, at.reshape(-1), value.reshape(-1))


@dataclass(frozen=True)
class _Beam:
    """Normals (of either sign) that differ from the unit vector (i, j) by less than an angle."""

    i: float
    j: float
    angle: float

    def visits(
        self, offsets_i: NDArray[np.float64], offsets_j: NDArray[np.float64], spacing: tuple[float, float]
    ) -> NDArray[np.bool_]:
        """(I, J): which voxels can lie in the beam; an offset in mm from the point is known to half a voxel."""
        across = np.abs(offsets_i[:, None] * self.i + offsets_j * self.j)
        along = np.abs(offsets_i[:, None] * self.j - offsets_j * self.i)
        half_i, half_j = spacing[0] / 2, spacing[1] / 2
        across = across + half_i * abs(self.i) + half_j * abs(self.j)
        along = along - half_i * abs(self.j) - half_j * abs(self.i)
        visited: NDArray[np.bool_] = along <= across * math.tan(self.angle) + BEAM_WIDTH_VOXELS * max(spacing)
        return visited


def _by_direction(
    normals: NDArray[np.float64] | None, number: int
) -> Iterator[tuple[_Beam | None, NDArray[np.intp]]]:
    """All points, by the direction of their normals: beam, None for any direction, and point numbers."""
    beams = min(number // LEAST_POINTS_PER_BEAM, MOST_BEAMS)
    if normals is None or beams < MOST_BEAMS // 2:
        yield None, np.arange(number)
        return
    angle = np.arctan2(normals[:, 1], normals[:, 0]) % math.pi
    direction = np.minimum((angle * (beams / math.pi)).astype(np.intp), beams - 1)
    direction[~normals.any(axis=1)] = beams
    order = np.argsort(direction, kind="stable")
    ends = np.searchsorted(direction[order], np.arange(beams + 2))
    for n, (start, stop) in enumerate(itertools.pairwise(ends.tolist())):
        if start < stop:
            middle = (n + 0.5) * math.pi / beams
            beam = _Beam(math.cos(middle), math.sin(middle), math.pi / beams / 2 + MOST_TURN_RADIANS)
            yield (beam if n < beams else None), order[start:stop]


def _nearest_of_rows(number: int, step: float, low: float, high: float) -> NDArray[np.float64]:
    """(number,) squared: how near a window's rows can be to its point, in half-axes of the window."""
    begin = step * np.arange(number) - low  # a row lies up to a step farther on
    near = np.where(begin > 0, begin / high, np.where(begin + step < 0, (begin + step) / low, 0.0))
    return near * near


def _without_equals(keys: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
    """All indices, in groups in which no key comes twice, sorted by key."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    first = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    rank = np.arange(len(keys)) - np.repeat(first, np.diff(np.append(first, len(keys))))
    for n in range(int(rank.max()) + 1):
        yield order[rank == n]


def _scaled(distance: NDArray[np.float64], low: float, high: float) -> NDArray[np.float32]:
    scaled = distance / high if low == high else np.where(distance > 0, distance / high, distance / low)
    return (scaled * scaled).astype(np.float32)


def _chunks(number: int, cells_each: int) -> Iterator[slice]:
    step = max(1, CELLS_AT_ONCE // max(cells_each, 1))
    for start in range(0, number, step):
        yield slice(start, min(start + step, number))
