"""A ROI between its slices and at its ends: levels at any height, from the contours of the slices alone.

Between two slices the level is interpolated (shape-based interpolation, Raya and Udupa 1990), with the curvature of the
slices around where they have it. A part that the next slice does not continue ends between the two: where its area was
shrinking, it goes on shrinking to nothing where the area of the last three slices reaches zero; otherwise it ends flat,
half-way to the next slice, as the volume of a stack of slices has it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from contour_ai.box import with_margin
from contour_ai.derived.region import Region, level_of

CURVATURE_LIMIT = 0.15
"""An interpolated level differs from a straight line between two slices by at most this part of their distance."""

MOST_BETWEEN = 8
"""Levels between two slices, at most: slices far apart are not known better by more of them."""

CAP_FRACTIONS = (0.5, 0.75, 0.9, 1.0)
"""Where, from the last slice to its end, the level of a part that shrinks to a point is taken."""

LATEST_END = 1.5
"""A part whose area points to an end at up to so many slice distances is drawn in to the next slice, which has nothing
of it; one that points farther was hardly shrinking and ends flat."""

HEIGHT_STEP_MM = 0.05
"""Heights of ends are rounded to this, so that many small parts share their levels."""

GONE_BEYOND_MM = 1e-3
"""So far beyond its end a part is gone."""

IN_SLICE = np.array([[[0, 0, 0]] * 3, [[1, 1, 1]] * 3, [[0, 0, 0]] * 3], dtype=bool)
"""Neighbours within the slice."""


@dataclass(frozen=True)
class _Taper:
    """The area of a part along the normal, relative to that of its last slice: 1 + slope h + curve h^2, h in mm."""

    slope: float
    curve: float

    def radius(self, height_mm: float) -> float:
        """The radius, relative to that of the last slice, at a height beyond it (or, negative, before it)."""
        return math.sqrt(max(1 + self.slope * height_mm + self.curve * height_mm * height_mm, 0.0))

    def ending_at(self, height_mm: float, end_mm: float) -> _Taper:
        """The same, ending at a height instead of at `end_mm`."""
        factor = end_mm / height_mm
        return _Taper(self.slope * factor, self.curve * factor * factor)

    @property
    def end_mm(self) -> float | None:
        """The first height at which the area is zero."""
        roots = np.roots([self.curve, self.slope, 1.0] if abs(self.curve) > 1e-12 else [self.slope, 1.0])
        return min((float(r.real) for r in roots if abs(r.imag) < 1e-9 and r.real > 0), default=None)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Cap:
    """The end of a part on slice `k` of a solid: its own level, in `rows` and `columns`, and how it goes on."""

    k: int
    level: NDArray[np.float32]
    rows: slice
    columns: slice
    height_mm: float
    """From the slice to the end."""
    taper: _Taper | None = None
    """How it shrinks; None where the end is flat."""
    inradius_mm: float = 0.0

    def at(self, height_mm: float) -> NDArray[np.float32]:
        """The level at a height beyond the slice, up to `height_mm`."""
        if self.taper is None:
            return self.level
        return self.level - np.float32(self.inradius_mm * (1.0 - self.taper.radius(height_mm)))

    def bulge_mm(self, height_mm: float, gap_mm: float) -> float:
        """What a straight line between the last two slices, `gap_mm` apart, lacks `height_mm` before the last one."""
        assert self.taper is not None
        straight = 1 + (self.taper.radius(-gap_mm) - 1) * height_mm / gap_mm
        return self.inradius_mm * (self.taper.radius(-height_mm) - straight)


@dataclass(frozen=True, eq=False)
class HeightLevel:
    """A level (I, J) at a height in mm along the normal."""

    height_mm: float
    values: NDArray[np.float32]


class Solid:
    """A ROI, or some neighbouring slices of it, as levels at any height.

    Args:
        region: the ROI.
        reach_mm: levels are distances up to here.
        slices: first slice and the one behind the last; None for all. Where the ROI goes on beyond them, or beyond
            the scan, it does not end there.
        offsets_ij: see `region.stack_offsets`.
    """

    def __init__(
        self,
        region: Region,
        reach_mm: float,
        *,
        slices: tuple[int, int] | None = None,
        offsets_ij: NDArray[np.float64] | None = None,
    ) -> None:
        span = region.slice_range or (0, -1)
        whole = span[0], span[1] + 1
        self.first, stop = slices or whole
        self.region, self.reach_mm = region, reach_mm
        level = level_of(region, reach_mm, slices=(self.first, stop), offsets_ij=offsets_ij)
        self.start_ij = level.start[1:]
        self.levels = level.values
        self.slice_offsets_mm = region.grid.slice_offsets_mm[self.first : stop]
        depth = region.grid.shape_kij[0]
        self.ends_below = self.first <= whole[0] and self.first > 0
        self.ends_above = stop >= whole[1] and stop < depth
        self._last_bend: tuple[int, NDArray[np.float32] | None] = (-1, None)
        self._next_below = float(region.grid.slice_offsets_mm[self.first - 1]) if self.ends_below else None
        self._next_above = float(region.grid.slice_offsets_mm[stop]) if self.ends_above else None

    @cached_property
    def _labels(self) -> NDArray[np.int32]:
        return ndimage.label(self.levels > 0, structure=IN_SLICE)[0]

    @cached_property
    def _ended(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(label,) whether the part ends above its slice, and whether it ends below."""
        labels = self._labels
        number = int(labels.max(initial=0)) + 1
        above, below = np.ones(number, dtype=bool), np.ones(number, dtype=bool)
        above[0] = below[0] = False
        # Labels ascend from slice to slice.
        highest = [0, *np.maximum.accumulate(labels.max(axis=(1, 2), initial=0)).tolist()]
        own = [slice(a + 1, b + 1) for a, b in itertools.pairwise(highest)]
        for n, (one, two) in enumerate(itertools.pairwise(labels)):
            _unset_where_continued(above, own[n], one, two)
            _unset_where_continued(below, own[n + 1], two, one)
        if not self.ends_above and len(labels):
            above[np.unique(labels[-1])] = False
        if not self.ends_below and len(labels):
            below[np.unique(labels[0])] = False
        return above, below

    @cached_property
    def _continued(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The levels without the parts that end above, and without those that end below: these count as outside."""
        result = []
        for ended in self._ended:
            if ended.any():
                sign = np.where(ended, -1, 1).astype(np.float32)
                result.append(self.levels * sign[self._labels])
            else:
                result.append(self.levels)
        return result[0], result[1]

    @cached_property
    def caps(self) -> tuple[list[_Cap], list[_Cap]]:
        """Ends above and ends below, slice by slice."""
        above, below = self._ended
        if not above.any() and not below.any():
            return [], []
        places = ndimage.find_objects(self._labels)
        return (
            [self._cap(label, places[label - 1], +1) for label in np.flatnonzero(above).tolist()],
            [self._cap(label, places[label - 1], -1) for label in np.flatnonzero(below).tolist()],
        )

    @cached_property
    def _caps_of(self) -> tuple[dict[int, list[_Cap]], dict[int, list[_Cap]]]:
        """{slice: ends above it}, {slice: ends below it}."""
        result: tuple[dict[int, list[_Cap]], dict[int, list[_Cap]]] = ({}, {})
        for by_slice, caps in zip(result, self.caps, strict=True):
            for cap in caps:
                by_slice.setdefault(cap.k, []).append(cap)
        return result

    def _cap(self, label: int, place: tuple[slice, slice, slice], direction: int) -> _Cap:
        k = place[0].start
        spacing = self.region.grid.spacing_mm[1:]
        pad = [int(np.ceil(self.reach_mm / s)) + 1 for s in spacing]
        _, rows, columns = with_margin(place, (0, *pad), self.levels.shape)
        own = self._labels[k, rows, columns] == label
        level = self.levels[k, rows, columns]
        level = np.where(own, level, -np.abs(level))
        gap = self._gap_mm(k, direction)
        taper = self._taper(label, k, direction)
        height = None if taper is None else taper.end_mm
        if taper is None or height is None or height > LATEST_END * gap:
            return _Cap(k=k, level=level, rows=rows, columns=columns, height_mm=gap / 2)
        if height > gap:  # the next slice has nothing of it
            taper, height = taper.ending_at(gap, height), gap
        deep = own & (level >= self.reach_mm - 1e-3)
        if deep.any():  # a level ends at the reach; what shrinks away must be known to its middle
            whole = ndimage.distance_transform_edt(np.pad(own, 1), sampling=spacing)[1:-1, 1:-1]
            level = np.where(deep, np.maximum(whole - min(spacing) / 2, level), level).astype(np.float32)
        return _Cap(
            k=k,
            level=level,
            rows=rows,
            columns=columns,
            height_mm=min(max(round(height / HEIGHT_STEP_MM), 1) * HEIGHT_STEP_MM, gap),
            taper=taper,
            inradius_mm=float(level.max()) + min(spacing) / 4,
        )

    def _gap_mm(self, k: int, direction: int) -> float:
        """Distance to the next slice of the scan in a direction."""
        n = k + direction
        if 0 <= n < len(self.slice_offsets_mm):
            return abs(float(self.slice_offsets_mm[n] - self.slice_offsets_mm[k]))
        beyond = self._next_above if direction > 0 else self._next_below
        assert beyond is not None  # parts at the end of the scan do not end
        return abs(beyond - float(self.slice_offsets_mm[k]))

    def _taper(self, label: int, k: int, direction: int) -> _Taper | None:
        """How a part shrinks to its end, from the areas of its last slice and the two before; None: it does not."""
        labels = self._labels
        areas, heights = [], []
        parts = np.array([label])
        for n in (k, k - direction, k - 2 * direction):
            if not 0 <= n < len(labels) or not len(parts):
                break
            inside = np.isin(labels[n], parts)
            areas.append(self._area(n, inside))
            heights.append(-abs(float(self.slice_offsets_mm[n] - self.slice_offsets_mm[k])))
            before = n - direction
            if 0 <= before < len(labels):
                parts = np.setdiff1d(np.unique(labels[before][inside]), [0])
        if len(areas) < 2 or areas[0] >= areas[1]:
            return None
        slopes = [
            (a - b) / (u - v) / areas[0]
            for (a, u), (b, v) in itertools.pairwise(zip(areas, heights, strict=True))
        ]
        if len(slopes) == 1:
            return _Taper(slopes[0], 0.0)
        curve = (slopes[0] - slopes[1]) / (heights[0] - heights[2])
        return _Taper(slopes[0] + curve * (heights[0] - heights[1]), curve)

    def _area(self, n: int, inside: NDArray[np.bool_]) -> float:
        """Area in pixels of some parts of slice n: those at the border by how much of them is inside."""
        around = ndimage.binary_dilation(inside, structure=np.ones((3, 3), dtype=bool))
        pixel = float(np.mean(self.region.grid.spacing_mm[1:]))
        return float(np.clip(self.levels[n][around] / pixel + 0.5, 0.0, 1.0).sum())

    # -- levels -------------------------------------------------------------------------------------------------

    def at_slices(self) -> Iterator[HeightLevel]:
        """The level on every slice."""
        for height, values in zip(self.slice_offsets_mm.tolist(), self.levels, strict=True):
            yield HeightLevel(height, values)

    def heights_between(self, step_mm: float) -> list[tuple[int, float]]:
        """Where levels between the slices are taken: `step_mm` apart, at the ends of parts and just beyond.

        Returns:
            (slice below, height in mm above it); slice -1 is the one below the first.
        """
        result: set[tuple[int, float]] = set()
        for n, gap in enumerate(np.diff(self.slice_offsets_mm).tolist()):
            number = min(int(np.ceil(gap / step_mm - 1e-6)), MOST_BETWEEN)
            result.update((n, gap * part / number) for part in range(1, number))
        for caps, direction in zip(self.caps, (+1, -1), strict=True):
            for cap in caps:
                gap = self._gap_mm(cap.k, direction)
                ends = [f * cap.height_mm for f in (CAP_FRACTIONS if cap.taper else (1.0,))]
                for end in (*ends, cap.height_mm + GONE_BEYOND_MM, gap):
                    height = min(end, gap - GONE_BEYOND_MM)
                    result.add((cap.k, height) if direction > 0 else (cap.k - 1, gap - height))
        return sorted(result)

    def between(self, below: int, height_mm: float) -> HeightLevel:
        """The level `height_mm` above slice `below`, which may be -1, and the last one."""
        has_below, has_above = below >= 0, below + 1 < len(self.levels)
        base = float(self.slice_offsets_mm[below]) if has_below else self._next_below
        top = float(self.slice_offsets_mm[below + 1]) if has_above else self._next_above
        assert base is not None and top is not None
        gap = top - base
        if has_below and has_above:
            values = self._interpolated(below, height_mm / gap, gap)
            self._add_bulges(values, below, height_mm, gap)
        else:
            values = np.full(self.levels.shape[1:], -self.reach_mm, np.float32)
        above, under = self._caps_of
        for caps, distance in ((above.get(below), height_mm), (under.get(below + 1), gap - height_mm)):
            for cap in caps or ():
                if distance <= cap.height_mm + 1e-9:
                    part = values[cap.rows, cap.columns]
                    np.maximum(part, cap.at(distance), out=part)
        return HeightLevel(base + height_mm, values)

    def _interpolated(self, n: int, t: float, gap: float) -> NDArray[np.float32]:
        up, down = self._continued
        one, two = up[n], down[n + 1]
        straight = one * np.float32(1 - t) + two * np.float32(t)
        second = self._bend_between(n)
        if second is None:
            return straight
        limit = CURVATURE_LIMIT * gap
        change = second * np.float32(-0.5 * t * (1 - t) * gap * gap)
        straight += np.clip(change, -limit, limit, out=change)
        return straight

    def _bend_between(self, n: int) -> NDArray[np.float32] | None:
        """The second derivative between slices n and n + 1, None where there are no others; the last one is kept."""
        if self._last_bend[0] == n:
            return self._last_bend[1]
        up, down = self._continued
        one, two = up[n], down[n + 1]
        bends = []
        if n > 0:
            bends.append(self._bend(n - 1, down[n - 1] if n - 1 == 0 else up[n - 1], one, two))
        if n + 2 < len(self.levels):
            bends.append(self._bend(n, one, two, down[n + 2]))
        second = (
            None if not bends else bends[0] if len(bends) == 1 else (bends[0] + bends[1]) * np.float32(0.5)
        )
        self._last_bend = n, second
        return second

    def _add_bulges(self, values: NDArray[np.float32], n: int, height_mm: float, gap: float) -> None:
        """Replaces the curvature between the last two slices of a part that shrinks to its end by that of the area."""
        above, below = self._caps_of
        for caps, before in ((above.get(n + 1), gap - height_mm), (below.get(n), height_mm)):
            for cap in caps or ():
                if cap.taper is not None:
                    place = cap.rows, cap.columns
                    straight = self._continued[0][n][place] * np.float32(1 - height_mm / gap)
                    straight += self._continued[1][n + 1][place] * np.float32(height_mm / gap)
                    near = cap.level > -self.reach_mm
                    bulged = straight + np.float32(cap.bulge_mm(before, gap))
                    values[place] = np.where(near, bulged, values[place])

    def _bend(
        self, n: int, a: NDArray[np.float32], b: NDArray[np.float32], c: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The second derivative along the normal, 1/mm, of slices n, n + 1, n + 2; 0 where a distance is not known."""
        h1, h2 = np.diff(self.slice_offsets_mm[n : n + 3]).tolist()
        second = ((c - b) / h2 - (b - a) / h1) * np.float32(2 / (h1 + h2))
        limit = np.float32(self.reach_mm * 0.999)
        return np.where(
            (np.abs(a) < limit) & (np.abs(b) < limit) & (np.abs(c) < limit), second, np.float32(0)
        )


def _unset_where_continued(
    ended: NDArray[np.bool_], own: slice, labels: NDArray[np.int32], beyond: NDArray[np.int32]
) -> None:
    """Sets `ended` to False for the labels (I, J) of a slice (`own`) that the slice `beyond` has something of."""
    for every in (8, 1):  # most parts are continued in so many places that a few of them tell
        if ended[own].any():
            some = labels[::every, ::every]
            ended[some[(some > 0) & (beyond[::every, ::every] > 0)]] = False
