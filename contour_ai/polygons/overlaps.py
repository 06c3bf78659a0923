"""What contours of one slice mean that overlap each other: copies, holes, or parts of one area.

Even-odd filling is right for what draws every boundary once: outlines, holes, islands in holes. Other programs also
write a contour twice (to the digit or not), strokes that overlap in part, and holes that poke out of their outline.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contour_ai.polygons.filling import Polygon, distinct_polygons, edges_of, fill_crossings, row_crossings
from contour_ai.polygons.tracing import mask_to_polygons

COPY_APART_VOXELS = 1.0
"""Two contours are one only where their outlines are nowhere so far apart."""

COPY_BETWEEN = 1 / 3
"""Two contours are one where fewer voxels lie between them than this part of those along the outline. Copies that were
rounded, thinned, resampled or moved by 0.2 mm have at most 0.2; a ring one voxel wide, which stays one, has 0.93."""

COPY_BETWEEN_VOXELS = 2
"""So few voxels are no ring, however small the contour."""

HOLE_INSIDE = 0.9
"""A contour with this part of its voxels inside another one is a hole, even if it pokes out."""

HOLE_POKES_OUT = 0.5
"""What pokes out of a hole is at most this part of what is left of its outline. More is no hole, but a copy that was
moved: as a hole it would leave two crescents of an organ."""

SAMPLE_VOXELS = 0.5
"""Distance of the points at which outlines are compared."""

FEWEST_POINTS = 3
NO_PAIRS = np.empty((0, 2), np.intp)

WORK_VOXELS = 1 << 22
"""Voxels filled at once, which bounds memory."""


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """The contours of a slice as polygons that can be filled even-odd, and what was done for that.

    Args:
        polygons: unchanged ones, but without copies, and with new outlines where contours overlap in part.
        copies: contours left out because they are there already.
        joined: contours that overlap another one in part.
        poking: holes that poke out of their outline.
    """

    polygons: list[Polygon]
    copies: int = 0
    joined: int = 0
    poking: int = 0


def resolve_overlaps(
    slices: Mapping[int, Sequence[Polygon]], shape_ij: tuple[int, int], *, even_odd: Collection[int] = ()
) -> dict[int, Resolved]:
    """{k: polygons whose even-odd filling is the area that is meant} of {k: contours} on (I, J) slices.

    Two contours are one where their outlines are nowhere a pixel apart and nearly no voxel lies between them
    (`COPY_BETWEEN`). A contour inside another one is a hole, and one inside a hole an island. Contours that overlap in
    part are one area. Outlines, holes and islands that do not cross stay as they are, so that what `tracing` makes of a
    mask gives the mask back.

    Args:
        even_odd: slices whose contours ask for it themselves (CLOSEDPLANAR_XOR): only those that are there twice to
            the digit are left out.
    """
    distinct = {k: distinct_polygons(polygons) for k, polygons in slices.items()}
    copies = {k: len(polygons) - len(distinct[k]) for k, polygons in slices.items()}
    resolved = {k: Resolved(polygons=kept, copies=copies[k]) for k, kept in distinct.items()}
    several = [k for k, kept in distinct.items() if len(kept) > 1 and k not in even_odd]
    # All slices at once: most have nothing to decide, and that is soon found out.
    flat = [(k, polygon) for k in several for polygon in distinct[k] if len(polygon) >= FEWEST_POINTS]
    pairs = _pairs_of_boxes(flat, shape_ij)
    involved = np.unique(pairs).tolist()
    regions = dict(zip(involved, _regions([flat[n][1] for n in involved], shape_ij), strict=True))
    of_slices: dict[int, list[tuple[int, int]]] = {}
    for one, two in pairs.tolist():
        of_slices.setdefault(flat[one][0], []).append((one, two))
    outlines = dict(enumerate(polygon for _, polygon in flat))
    for k, meeting in of_slices.items():
        resolved[k] = _resolved(distinct[k], copies[k], outlines, regions, meeting)
    return resolved


def _resolved(
    kept: list[Polygon],
    copies: int,
    outlines: Mapping[int, Polygon],
    regions: Mapping[int, _Region | None],
    pairs: Sequence[tuple[int, int]],
) -> Resolved:
    """One slice: its polygons, the voxels of those whose boxes meet, by number, and the pairs of these."""
    gone: set[int] = set()
    overlaps: dict[tuple[int, int], int] = {}
    for one, two in pairs:
        a, b = regions[one], regions[two]
        if one in gone or two in gone or a is None or b is None:
            continue
        common = a.common(b)
        if common and _is_copy(outlines[one], a, outlines[two], b, common):
            gone.add(two)
        elif common:
            overlaps[one, two] = common
    overlaps = {pair: n for pair, n in overlaps.items() if gone.isdisjoint(pair)}
    here = {n: r for pair in overlaps for n in pair if (r := regions[n]) is not None}
    relations = _Relations(here, overlaps)
    replaced = {id(outlines[n]) for n in gone | relations.crossing}
    return Resolved(
        polygons=[p for p in kept if id(p) not in replaced] + relations.new_outlines(),
        copies=copies + len(gone),
        joined=len(relations.joined),
        poking=len(relations.poking),
    )


# -- voxels of single polygons ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class _Region:
    """The voxels inside one polygon: `inside` (rows, columns), its first voxel at (top, left), `size` of them True."""

    top: int
    left: int
    inside: NDArray[np.bool_]
    size: int

    @property
    def bottom(self) -> int:
        return self.top + self.inside.shape[0]

    @property
    def right(self) -> int:
        return self.left + self.inside.shape[1]

    def part(self, top: int, left: int, bottom: int, right: int) -> NDArray[np.bool_]:
        """The voxels of a part of the slice that lies within this region's box."""
        return self.inside[top - self.top : bottom - self.top, left - self.left : right - self.left]

    def common(self, other: _Region) -> int:
        """Number of voxels that are inside both."""
        box = (
            max(self.top, other.top), max(self.left, other.left),
            min(self.bottom, other.bottom), min(self.right, other.right),
        )  # fmt: skip
        if box[0] >= box[2] or box[1] >= box[3]:
            return 0
        return int(np.count_nonzero(self.part(*box) & other.part(*box)))

    def on(self, top: int, left: int, bottom: int, right: int) -> NDArray[np.bool_]:
        """The voxels on a part of the slice that holds this region's box."""
        whole = np.zeros((bottom - top, right - left), dtype=bool)
        whole[self.top - top : self.bottom - top, self.left - left : self.right - left] = self.inside
        return whole


def _box_of(regions: Sequence[_Region]) -> tuple[int, int, int, int]:
    """Top, left, bottom, right of the part of the slice that holds all regions."""
    return (
        min(r.top for r in regions),
        min(r.left for r in regions),
        max(r.bottom for r in regions),
        max(r.right for r in regions),
    )


def _pairs_of_boxes(polygons: Sequence[tuple[int, Polygon]], shape_ij: tuple[int, int]) -> NDArray[np.intp]:
    """(N, 2) numbers of polygons of one slice whose boxes have a voxel centre in common, the lower number first.

    Args:
        polygons: slice and points of each.
    """
    if len(polygons) < 2:
        return NO_PAIRS
    lengths = np.array([len(p) for _, p in polygons])
    starts = np.cumsum(lengths) - lengths
    points = np.concatenate([p for _, p in polygons])
    low = np.maximum(np.ceil(np.minimum.reduceat(points, starts)), 0)
    high = np.minimum(np.floor(np.maximum.reduceat(points, starts)), np.array(shape_ij) - 1)
    reaches = np.flatnonzero((low <= high).all(axis=1))
    # One slice below the other, so that boxes of different slices never meet.
    down = np.array([k for k, _ in polygons])[reaches] * (shape_ij[0] + 1)
    top, bottom = low[reaches, 0] + down, high[reaches, 0] + down
    order = np.argsort(top, kind="stable")
    top, bottom, numbers = top[order], bottom[order], reaches[order]
    # Of every box, only those that begin before it ends can overlap it.
    count = np.searchsorted(top, bottom, side="right") - np.arange(len(order)) - 1
    one = np.repeat(np.arange(len(order)), count)
    two = np.arange(len(one)) - np.repeat(np.cumsum(count) - count, count) + one + 1
    one, two = numbers[one], numbers[two]
    meet = (low[two, 1] <= high[one, 1]) & (high[two, 1] >= low[one, 1])
    pairs = np.sort(np.stack([one[meet], two[meet]], axis=1), axis=1)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _regions(polygons: Sequence[Polygon], shape_ij: tuple[int, int]) -> list[_Region | None]:
    """The voxels inside every polygon by itself, None where it has none."""
    found: list[_Region | None] = [None] * len(polygons)
    crossings = row_crossings(*edges_of([[p] for p in polygons]), shape_ij) if polygons else None
    if crossings is None:
        return found
    owner, rows, columns = crossings
    owners, first = np.unique(owner, return_index=True)
    ends = np.append(first[1:], len(owner))
    top, bottom = np.minimum.reduceat(rows, first), np.maximum.reduceat(rows, first) + 1
    left, right = np.minimum.reduceat(columns, first), np.maximum.reduceat(columns, first)
    size = (bottom - top) * np.maximum(right - left, 1)
    order = np.argsort(size, kind="stable")
    while len(order):
        # Every region of a batch takes as much memory as the largest one.
        largest = np.maximum.accumulate((bottom - top)[order]) * np.maximum.accumulate((right - left)[order])
        number = max(1, int(np.searchsorted(largest * np.arange(1, len(order) + 1), WORK_VOXELS)))
        batch, order = np.sort(order[:number]), order[number:]
        at = np.concatenate([np.arange(first[n], ends[n]) for n in batch])
        place = np.repeat(np.arange(len(batch)), ends[batch] - first[batch])
        shifted = rows[at] - top[batch][place], columns[at] - left[batch][place]
        _, inside = fill_crossings(place, *shifted, len(batch))
        for m, n in enumerate(batch.tolist()):
            part = inside[m, : bottom[n] - top[n], : right[n] - left[n]]
            voxels = int(np.count_nonzero(part))
            if voxels:
                found[int(owners[n])] = _Region(top=int(top[n]), left=int(left[n]), inside=part, size=voxels)
    return found


# -- copies ------------------------------------------------------------------------------------------------------------


def _is_copy(one: Polygon, a: _Region, two: Polygon, b: _Region, common: int) -> bool:
    """Whether two contours are the same one, written twice."""
    between = a.size + b.size - 2 * common
    if not between:
        return True
    apart = max(
        np.abs(one.min(axis=0) - two.min(axis=0)).max(), np.abs(one.max(axis=0) - two.max(axis=0)).max()
    )
    if apart >= COPY_APART_VOXELS:
        return False
    larger = a.inside if a.size >= b.size else b.inside
    if between >= max(COPY_BETWEEN * _outline_voxels(larger), COPY_BETWEEN_VOXELS):
        return False
    box = _box_of((a, b))
    differs = np.pad(a.on(*box) ^ b.on(*box), 2)
    near = np.zeros_like(differs)
    for di in (-1, 0, 1):
        for dj in (-1, 0, 1):
            near |= np.roll(differs, (di, dj), axis=(0, 1))
    return not (_leaves(one, two, near, box) or _leaves(two, one, near, box))


def _outline_voxels(inside: NDArray[np.bool_]) -> int:
    """Number of voxels with a neighbour in their row or column that is outside."""
    around = np.pad(inside, 1)
    whole = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    return int(np.count_nonzero(inside & ~whole))


def _leaves(one: Polygon, two: Polygon, near: NDArray[np.bool_], box: tuple[int, int, int, int]) -> bool:
    """Whether outline `one` is somewhere `COPY_APART_VOXELS` or more from outline `two`.

    Only looked at beside the voxels that are inside one of them alone: the channel of a keyhole has the inside on both
    sides, and copies may have it in different places.
    """
    start, step = one, np.roll(one, -1, axis=0) - one
    count = np.maximum(np.ceil(np.hypot(*step.T) / SAMPLE_VOXELS), 1).astype(np.intp)
    edge = np.repeat(np.arange(len(one)), count)
    along = (np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)) / count[edge]
    points = start[edge] + along[:, None] * step[edge]
    index = np.rint(points).astype(np.intp) - np.array(box[:2]) + 2
    inside = ((index >= 0) & (index < near.shape)).all(axis=1)
    points = points[inside][near[tuple(index[inside].T)]]
    to = np.roll(two, -1, axis=0) - two
    length2 = np.maximum((to**2).sum(axis=1), 1e-12)
    for part in np.array_split(points, max(1, len(points) * len(two) // WORK_VOXELS + 1)):
        from_two = part[:, None] - two[None]
        share = np.clip((from_two * to).sum(axis=2) / length2, 0, 1)
        apart2 = ((from_two - share[:, :, None] * to) ** 2).sum(axis=2).min(axis=1)
        if (apart2 >= COPY_APART_VOXELS**2).any():
            return True
    return False


# -- holes and unions ----------------------------------------------------------------------------------------------


class _Relations:
    """Which of the regions of a slice lie in which, and which overlap in part.

    Attributes:
        joined: regions that overlap another one in part and are no holes of it.
        poking: holes that poke out.
        crossing: regions that need a new outline: those two kinds, and all that overlap with them.
    """

    def __init__(self, regions: dict[int, _Region], overlaps: dict[tuple[int, int], int]) -> None:
        self.regions = regions
        self.around: dict[int, set[int]] = {
            n: set() for n in regions
        }  # the regions that each one is a hole in
        self.joined: set[int] = set()
        self.poking: set[int] = set()
        for pair, common in overlaps.items():
            inner, outer = sorted(pair, key=lambda n: (regions[n].size, -n))
            out, left = regions[inner].size - common, regions[outer].size - common
            if not out or (common >= HOLE_INSIDE * regions[inner].size and out <= HOLE_POKES_OUT * left):
                self.around[inner].add(outer)
                if out:
                    self.poking.add(inner)
            else:
                self.joined |= {inner, outer}
        self.groups = [
            g for g in _connected(regions, overlaps) if not g.isdisjoint(self.joined | self.poking)
        ]
        self.crossing = set().union(*self.groups)

    def new_outlines(self) -> list[Polygon]:
        """Polygons around the area that the crossing regions mean together."""
        return [polygon for group in self.groups for polygon in self._outlines(group)]

    def _outlines(self, group: set[int]) -> list[Polygon]:
        box = _box_of([self.regions[n] for n in group])
        whole = np.zeros((box[2] - box[0], box[3] - box[1]), dtype=bool)
        holes: dict[int, NDArray[np.bool_]] = {}
        # From the smallest on: an island is there before the hole that it is cut out of.
        for n in sorted(group, key=lambda m: (self.regions[m].size, -m)):
            area = self.regions[n].on(*box)
            if n in holes:
                area &= ~holes[n]
            outer = self._innermost_around(n)
            for m in outer:
                holes[m] = holes[m] | area if m in holes else area
            if not outer:
                whole |= area
        return [p + np.array(box[:2], dtype=np.float64) for p in mask_to_polygons(whole)]

    def _innermost_around(self, n: int) -> set[int]:
        """The regions that a region is a hole in, without those that lie around another one of them."""
        around = self.around[n]
        return {m for m in around if not any(m in self.around[other] for other in around)}


def _connected(regions: dict[int, _Region], overlaps: dict[tuple[int, int], int]) -> list[set[int]]:
    """The regions in groups that overlap, directly or through others."""
    group_of = {n: {n} for n in regions}
    for one, two in overlaps:
        if group_of[one] is not group_of[two]:
            group_of[one] |= group_of[two]
            for n in group_of[two]:
                group_of[n] = group_of[one]
    return list({id(group): group for group in group_of.values()}.values())
