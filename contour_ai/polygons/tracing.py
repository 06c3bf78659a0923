"""Masks and level fields to polygons: marching squares between voxel centres.

Every pair of neighbouring voxels that differ gives one vertex, and in every square of four voxel centres the vertices
are joined so that the inside lies to the right.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from contour_ai.errors import InputError
from contour_ai.polygons.filling import SLICES_AT_ONCE, Polygon

HoleStyle = Literal["keyhole", "separate"]

CLEARANCE = 0.05
"""Voxels: a level crossing keeps at least this distance from both voxel centres, so that rounding the coordinates of a
file (at most 0.01 voxel, see `dicom.rtstruct_write`) can never put a centre on the other side."""


def mask_to_polygons(
    mask_ij: NDArray[np.bool_], *, outline: float = 0.5, holes: HoleStyle = "keyhole"
) -> list[Polygon]:
    """Polygons around the True voxels of one slice.

    Args:
        mask_ij: (I, J) boolean.
        outline: how far outside the voxel centres the outline runs, in voxels (0.05 to 0.95). 0.5 keeps the
            enclosed area; readers that count touched voxels as inside want less.
        holes: "keyhole" joins every hole to its outline by a channel of no width, "separate" gives it its own polygon.

    Returns:
        (N, 2) float64 polygons, within [-0.5, I - 0.5] x [-0.5, J - 0.5]; none for an empty mask.
    """
    return stack_to_polygons(np.asarray(mask_ij)[None], outline=outline, holes=holes).get(0, [])


def level_to_polygons(level_ij: NDArray[np.floating], *, holes: HoleStyle = "keyhole") -> list[Polygon]:
    """Polygons along the zero level of one slice, inside where `level_ij` (I, J) is above zero.

    Vertices lie where the level, linear between neighbouring voxel centres, is zero, but `CLEARANCE` away from both; so
    rasterising gives `level_ij > 0` back.
    """
    return stack_to_polygons(np.asarray(level_ij)[None], holes=holes).get(0, [])


def stack_to_polygons(
    field_kij: NDArray[np.generic], *, outline: float = 0.5, holes: HoleStyle = "keyhole"
) -> dict[int, list[Polygon]]:
    """{k: polygons} of every slice that has any, of a boolean mask or a float level field (k, i, j).

    Same as `mask_to_polygons` (for boolean arrays) or `level_to_polygons` (for floats) slice by slice, and faster.
    """
    if field_kij.ndim != 3:
        raise InputError("Tracing needs a stack of slices.", found=field_kij.shape, expected="(k, i, j)")
    if not CLEARANCE <= outline <= 1 - CLEARANCE:
        raise InputError(
            "The outline cannot run so close to a voxel centre.",
            found=outline,
            expected=f"{CLEARANCE} to {1 - CLEARANCE} voxel",
        )
    if holes not in ("keyhole", "separate"):
        raise InputError("Unknown way to write holes.", found=holes, expected="keyhole or separate")
    found: dict[int, list[Polygon]] = {}
    for start in range(0, field_kij.shape[0], SLICES_AT_ONCE):
        chunk = field_kij[start : start + SLICES_AT_ONCE]
        level = chunk.astype(np.float32, copy=False) if chunk.dtype.kind == "f" else None
        inside = np.pad(chunk != 0 if level is None else level > 0, ((0, 0), (1, 1), (1, 1)))
        for k, polygons in _Tracing(inside, level, outline).polygons(holes).items():
            found[start + k] = polygons
    return found


class _Tracing:
    """The vertices of a chunk of slices, each with the number of the one that follows it.

    Voxels are flat indices into the padded chunk (one False voxel around every slice). A vertex on a "down" edge lies
    between (i, j) and (i + 1, j), one on an "across" edge between (i, j) and (i, j + 1); `down` and `across` are the
    voxels (i, j), ascending. Down vertices come first.
    """

    def __init__(self, inside: NDArray[np.bool_], level: NDArray[np.float32] | None, outline: float) -> None:
        self.inside = inside
        self.is_mask = level is None
        self.flat = inside.reshape(-1)
        self.row = inside.shape[2]
        # From one row, or slice, to the next there are no edges: both are padding there.
        self.down = np.flatnonzero(self.flat[self.row :] != self.flat[: -self.row])
        self.across = np.flatnonzero(self.flat[1:] != self.flat[:-1])
        self.slices = np.concatenate([self.down, self.across]) // (inside.shape[1] * self.row)
        self.points = self._points(level, outline)
        self.following = self._following(level)
        self.in_channel = np.zeros(len(self.points), dtype=bool)

    def _points(self, level: NDArray[np.float32] | None, outline: float) -> Polygon:
        """(N, 2) slice coordinates of every vertex."""
        points = np.empty((len(self.slices), 2))
        rows, columns = np.divmod(np.concatenate([self.down, self.across]), self.row)
        points[:, 0] = rows - self.slices * self.inside.shape[1]
        points[:, 1] = columns
        n1 = len(self.down)
        points[:n1, 0] += self._shift(level, outline, self.down, (1, 0))
        points[n1:, 1] += self._shift(level, outline, self.across, (0, 1))
        points -= 1
        for axis, size in enumerate(self.inside.shape[1:]):
            np.clip(points[:, axis], -0.5, size - 2.5, out=points[:, axis])
        return points

    def _shift(
        self, level: NDArray[np.float32] | None, outline: float, at: NDArray[np.intp], step: tuple[int, int]
    ) -> NDArray[np.float64]:
        """How far along its edge every vertex lies, 0 to 1."""
        if level is None:
            return np.where(self.flat[at], outline, 1 - outline)
        k, i, j = np.unravel_index(at, self.inside.shape)
        rows, columns = level.shape[1:]

        def value(di: int, dj: int) -> NDArray[np.float64]:
            a, b = i + di - 1, j + dj - 1
            beyond = (a < 0) | (b < 0) | (a >= rows) | (b >= columns)
            found = level[k, np.clip(a, 0, rows - 1), np.clip(b, 0, columns - 1)].astype(np.float64)
            return np.where(beyond, np.nan, found)

        one, two = value(0, 0), value(*step)
        with np.errstate(invalid="ignore", divide="ignore"):
            shift = one / (one - two)
        # Beyond the slice, and where the field is not finite, there is nothing to interpolate: half-way.
        return np.clip(np.where(np.isfinite(shift), shift, 0.5), CLEARANCE, 1 - CLEARANCE)

    def _following(self, level: NDArray[np.float32] | None) -> NDArray[np.int32]:
        """(N,) number of the vertex that follows each one, the inside to its right."""
        n1, row, size = len(self.down), self.row, self.flat.size
        # Numbers of the vertices by voxel: those on its down edge, then those on its across edge.
        numbers = np.empty(2 * size, np.int32)
        numbers[self.down] = np.arange(n1, dtype=np.int32)
        numbers[self.across + size] = np.arange(n1, len(self.slices), dtype=np.int32)
        following = np.empty(len(self.slices), np.int32)
        first1, first2 = self.flat[self.down], self.flat[self.across]
        # Walking through a square of four centres, with the inside behind us to the right: turn right if both voxels
        # ahead are outside, go straight on if only the left one is, turn left if none is. If only the right one is,
        # the square is a saddle: right again keeps the two inside voxels apart, left joins them.
        for going, at, square, (right, left), (turn_right, straight, turn_left) in (
            (  # down edge, outside above: to the right
                np.flatnonzero(~first1), self.down, 0,
                (row + 1, 1), (size + row, 1, size),
            ),
            (  # down edge, inside above: to the left
                np.flatnonzero(first1), self.down, -1,
                (-1, row - 1), (size - 1, -1, size + row - 1),
            ),
            (  # across edge, inside left: downwards
                np.flatnonzero(first2), self.across, 0,
                (row, row + 1), (0, size + row, 1),
            ),
            (  # across edge, inside right: upwards
                np.flatnonzero(~first2), self.across, -row,
                (1 - row, -row), (1 - row, size - row, -row),
            ),
        ):  # fmt: skip
            voxels = at[going]
            in_right, in_left = self.flat[voxels + right], self.flat[voxels + left]
            ahead = np.where(in_right, np.where(in_left, turn_left, straight), turn_right)
            saddle = np.flatnonzero(~in_right & in_left)
            ahead[saddle[self._joined(level, voxels[saddle] + square)]] = turn_left
            following[going if at is self.down else going + n1] = numbers[voxels + ahead]
        return following

    def _joined(self, level: NDArray[np.float32] | None, at: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Whether the inside goes through saddles, squares right below `at` whose inside voxels touch by a corner only.

        In a level field where the mean of the four is above zero. In a mask where the inside is in the minority around:
        a thin diagonal structure then is one outline of the right area, and so is a thin diagonal gap.
        """
        if level is not None:
            k, i, j = np.unravel_index(at, self.inside.shape)
            corners = [level[k, i - 1 + di, j - 1 + dj] for di in (0, 1) for dj in (0, 1)]
            return np.sum(corners, axis=0) > 0
        around = np.zeros(len(at), np.intp)
        for di in range(-1, 3):
            for dj in range(-1, 3):  # what lies beyond the slice is padding, of this slice or the next
                around += self.flat.take(at + (di * self.row + dj), mode="clip")
        return around <= 8

    def polygons(self, holes: HoleStyle) -> dict[int, list[Polygon]]:
        if not len(self.points):
            return {}
        order, starts = self._outlines()
        tops = self._hole_tops(order, starts) if holes == "keyhole" else order[:0]
        if len(tops):
            order, starts = self._joined_by_keyholes(tops)
        points = self.points[order]
        lengths = np.diff(np.append(starts, len(order)))
        kept = lengths
        if len(tops) or not self.is_mask:
            previous = np.arange(len(points)) - 1
            previous[starts] = starts + lengths - 1
            # Both passages through a channel keep all its points, or rounding could make them cross each other.
            keep = _corners(points, previous) | self.in_channel[order]
            kept = np.add.reduceat(keep.astype(np.intp), starts)
            points = points[keep]
        ends = np.cumsum(kept)
        slices = self.slices[order[starts]]
        found: dict[int, list[Polygon]] = {}
        for k, start, end in zip(slices.tolist(), (ends - kept).tolist(), ends.tolist(), strict=True):
            found.setdefault(k, []).append(points[start:end].copy())
        return dict(sorted(found.items()))

    def _outlines(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The loops (see `_loops`) without channels; those of a mask without the points on straight lines.

        The uppermost down vertex of a loop is a corner in a mask, but need not be one in a level field.
        """
        if not self.is_mask:
            return _loops(self.following)
        numbers = np.arange(len(self.points))
        previous = np.empty_like(numbers)
        previous[self.following] = numbers
        corner = _corners(self.points, previous)
        corners = np.flatnonzero(corner)
        # From every vertex to the first corner at or after it, in jumps of twice the length each time.
        ahead = np.where(corner, numbers, self.following)
        while not corner[ahead].all():
            ahead = ahead[ahead]
        among_corners = np.cumsum(corner) - 1
        order, starts = _loops(among_corners[ahead[self.following[corners]]])
        return corners[order], starts

    def _hole_tops(self, order: NDArray[np.intp], starts: NDArray[np.intp]) -> NDArray[np.intp]:
        """The uppermost down vertex of every loop that bounds a hole: there the inside is above."""
        n1 = len(self.down)
        # A loop has one down vertex at least and lies in one slice, where `down` ascends row by row.
        tops = np.minimum.reduceat(np.where(order < n1, order, n1), starts)
        return tops[self.flat[self.down[tops]]]

    def _joined_by_keyholes(self, tops: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Joins every hole to the loop above it by a keyhole channel; returns the new order and starts.

        The channel leaves the hole at its uppermost down vertex (a, j), goes half-way between the columns j and j + 1
        straight up through squares whose four centres are all inside, and ends at a down vertex of the first square
        that is not. (If the voxel (a, j + 1) is outside, the vertex lies in a saddle through which the inside goes, and
        the channel crosses it to the across vertex on the other side.) It never comes near a voxel centre, crosses no
        polygon, and no two channels meet. Every channel leads to a loop that reaches higher, so all end at an outline.
        """
        ks, tops_i, tops_j = np.unravel_index(self.down[tops], self.inside.shape)
        saddle = ~self.inside[ks, tops_i, tops_j + 1]
        ends_i = tops_i.copy()  # the uppermost row of the channel
        for n in np.flatnonzero(~saddle).tolist():
            k, i, j = int(ks[n]), int(tops_i[n]), int(tops_j[n])
            full = self.inside[k, : i + 1, j] & self.inside[k, : i + 1, j + 1]
            ends_i[n] = (
                i + 1 - full[::-1].argmin()
            )  # row 0 is padding, so there is always one that is not full
        at_left = ~self.inside[ks, ends_i - 1, tops_j]
        ends = np.where(
            saddle,
            len(self.down) + self._number(self.across, (ks, tops_i, tops_j)),
            self._number(self.down, (ks, ends_i - 1, tops_j + ~at_left)),
        )
        following: list[int] = self.following.tolist()
        before_array = np.empty(len(following), np.intp)
        before_array[self.following] = np.arange(len(following))
        before: list[int] = before_array.tolist()
        extra_points: list[tuple[float, float]] = []
        extra_slices: list[int] = []
        # Two channels may end at the same vertex, from the left and from the right: the loop runs to the right
        # there, so the left one must come first; each is put directly after the vertex, so the right one goes in first.
        for n in np.lexsort((-tops_j, ends)).tolist():
            v, q, k = int(tops[n]), int(ends[n]), int(ks[n])
            middle = float(tops_j[n]) - 0.5  # less the padding
            turns = [] if saddle[n] else sorted({float(ends_i[n]) - 1, float(tops_i[n]) - 1})
            down = [(row, middle) for row in turns]
            up = [self._point(v), *down[::-1], self._point(q)]
            first = len(self.points) + len(extra_points)
            extra_points += [*down, *up]
            extra_slices += [k] * (len(down) + len(up))
            # q, down the channel, v, around the hole, v again, up the channel, q again, what followed q
            numbers = list(range(first, first + len(down) + len(up)))
            following += [0] * len(numbers)
            before += [0] * len(numbers)
            after_q, before_v = following[q], before[v]
            for path in ([q, *numbers[: len(down)], v], [before_v, *numbers[len(down) :], after_q]):
                for one, two in pairwise(path):
                    following[one] = two
                    before[two] = one
        self.points = np.concatenate([self.points, np.array(extra_points)])
        self.slices = np.concatenate([self.slices, np.array(extra_slices, self.slices.dtype)])
        self.in_channel[tops] = self.in_channel[ends] = True
        self.in_channel = np.concatenate([self.in_channel, np.ones(len(extra_slices), dtype=bool)])
        # Geometry libraries name the first contact they meet: from a hole on it is "touches itself", not "crosses".
        return _loops(following, tops.tolist())

    def _number(self, vertices: NDArray[np.intp], places: tuple[NDArray[np.intp], ...]) -> NDArray[np.intp]:
        """Where in `vertices` (down or across) the ones at `places` are; the last one for places that have none."""
        flat = np.ravel_multi_index(places, self.inside.shape)
        return np.minimum(np.searchsorted(vertices, flat), len(vertices) - 1)

    def _point(self, vertex: int) -> tuple[float, float]:
        return float(self.points[vertex, 0]), float(self.points[vertex, 1])


def _loops(
    following: NDArray[np.integer] | list[int], first: Sequence[int] = ()
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Vertex numbers loop after loop, and where in them each starts; loops with a vertex of `first` start there."""
    after = following if isinstance(following, list) else following.tolist()
    seen = bytearray(len(after))
    order: list[int] = []
    starts: list[int] = []
    add = order.append
    waiting = list(reversed(first))
    lowest = 0
    while True:
        if waiting:
            start = waiting.pop()
            if seen[start]:
                continue
        else:
            start = lowest = seen.find(0, lowest)
            if start < 0:
                return np.array(order, dtype=np.intp), np.array(starts, dtype=np.intp)
        starts.append(len(order))
        vertex = start
        while not seen[vertex]:
            seen[vertex] = 1
            add(vertex)
            vertex = after[vertex]


def _corners(points: Polygon, previous: NDArray[np.intp]) -> NDArray[np.bool_]:
    """(N,) False for points on the straight line between their neighbours; `previous` numbers the one before each."""
    incoming = points - points[previous]
    outgoing = np.empty_like(incoming)
    outgoing[previous] = incoming
    cross = incoming[:, 0] * outgoing[:, 1] - incoming[:, 1] * outgoing[:, 0]
    along = incoming[:, 0] * outgoing[:, 0] + incoming[:, 1] * outgoing[:, 1]
    return ~((np.abs(cross) < 1e-12) & (along > 0))
