"""Polygons to masks: which voxel centres lie inside, even-odd over all polygons of a slice together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from contour_ai.box import Box, bounding_box

Polygon = NDArray[np.float64]
BoxIJ = tuple[slice, slice]

SAME_POINT = 4
"""Decimals (of a voxel) to which two polygons must agree to count as the same one: far below what can be drawn."""

SLICES_AT_ONCE = 16
"""Slices traced or filled in one go: enough to keep NumPy busy, few enough that work arrays stay small."""


def polygons_to_mask(polygons: Sequence[Polygon], shape_ij: tuple[int, int]) -> NDArray[np.bool_]:
    """(I, J) boolean: the voxel centres that lie inside an odd number of the polygons.

    Polygons that occur more than once (whatever their first point and direction) count once: some systems export
    every contour twice. Centres exactly on an edge count as inside on the sides of lower row and column only.
    """
    mask = np.zeros(shape_ij, dtype=bool)
    fill_polygons(mask, polygons)
    return mask


def fill_polygons(mask_ij: NDArray[np.bool_], polygons: Sequence[Polygon]) -> None:
    """Sets the voxels of `polygons` (even-odd, see `polygons_to_mask`) in `mask_ij`; leaves all others as they are."""
    box, inside = filled_box(polygons, (mask_ij.shape[0], mask_ij.shape[1]))
    mask_ij[box] |= inside


def filled_box(polygons: Sequence[Polygon], shape_ij: tuple[int, int]) -> tuple[BoxIJ, NDArray[np.bool_]]:
    """The part of an (I, J) slice that `polygons` reach, and the filled voxels in it."""
    for _, box, inside in filled_slices({0: polygons}, shape_ij):
        return box, inside
    return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), dtype=bool)


def filled_slices(
    polygons: Mapping[int, Sequence[Polygon]], shape_ij: tuple[int, int]
) -> Iterator[tuple[int, BoxIJ, NDArray[np.bool_]]]:
    """(k, box, filled voxels in the box) of the slices in {k: polygons}; slices without a voxel may be left out.

    Same as `filled_box` slice by slice, and faster; a box may be larger than needed.
    """
    ks = list(polygons)
    for start in range(0, len(ks), SLICES_AT_ONCE):
        chunk = ks[start : start + SLICES_AT_ONCE]
        edges = edges_of([[p for p in distinct_polygons(polygons[k]) if len(p) >= 3] for k in chunk])
        crossings = row_crossings(*edges, shape_ij)
        if crossings is not None:
            box, inside = fill_crossings(*crossings, len(chunk))
            yield from ((k, box, inside[n]) for n, k in enumerate(chunk))


def edges_of(
    of_slices: Sequence[Sequence[Polygon]],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
    """Both ends (2, N) of every edge, and which of the slices it is in."""
    loops = [(n, p) for n, polygons in enumerate(of_slices) for p in polygons]
    if not loops:
        return np.empty((2, 0)), np.empty((2, 0)), np.empty(0, np.intp)
    lengths = np.array([len(p) for _, p in loops])
    ends = np.cumsum(lengths)
    after = np.arange(1, ends[-1] + 1)
    after[ends - 1] = ends - lengths
    points = np.ascontiguousarray(np.concatenate([p for _, p in loops]).T)
    return points, points[:, after], np.repeat([n for n, _ in loops], lengths)


def row_crossings(
    one: NDArray[np.float64], two: NDArray[np.float64], slices: NDArray[np.intp], shape_ij: tuple[int, int]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]] | None:
    """Where edges cross rows of voxel centres: slice, row, and the first column at or after; None if they never do."""
    # Always from the upper end to the lower: the two sides of a keyhole channel then cross a row at the same place.
    upside = one[0] > two[0]
    (i0, j0), (i1, j1) = np.where(upside, two, one), np.where(upside, one, two)
    rows, columns = shape_ij
    first = np.clip(np.ceil(i0), 0, rows).astype(np.intp)  # rows r with i0 <= r < i1
    count = np.clip(np.ceil(i1), 0, rows).astype(np.intp) - first
    crossing = np.flatnonzero(count)
    if not len(crossing):
        return None
    i0, j0, first, count = i0[crossing], j0[crossing], first[crossing], count[crossing]
    slope = (j1[crossing] - j0) / (i1[crossing] - i0)
    edge = np.repeat(np.arange(len(count)), count)
    row = np.arange(len(edge)) - (np.cumsum(count) - count - first)[edge]
    column = np.clip(np.ceil(j0[edge] + (row - i0[edge]) * slope[edge]), 0, columns).astype(np.intp)
    return slices[crossing][edge], row, column


def fill_crossings(
    slices: NDArray[np.intp], rows: NDArray[np.intp], columns: NDArray[np.intp], depth: int
) -> tuple[BoxIJ, NDArray[np.bool_]]:
    """The part of the slices that the crossings span, and the filled voxels in it (slices, rows, columns).

    Every crossing changes the side of all centres from its column on: the changes are marked and added up, 64
    columns at a time as the bits of a word, the lowest first.
    """
    top, left = int(rows.min()), int(columns.min())
    height, width = int(rows.max()) - top + 1, int(columns.max()) - left
    words = np.zeros((depth * height, width // 64 + 1), np.uint64)
    columns = columns - left
    at = (slices * height + rows - top) * words.shape[1] + (columns >> 6)
    np.bitwise_xor.at(words.reshape(-1), at, np.uint64(1) << (columns & 63).astype(np.uint64))
    for shift in (1, 2, 4, 8, 16, 32):
        words ^= words << np.uint64(shift)
    before = np.bitwise_xor.accumulate(words >> np.uint64(63), axis=1)[:, :-1]
    words[:, 1:] ^= np.uint64(0) - before  # all 64 bits where the words before end inside
    bits = np.unpackbits(words.astype("<u8", copy=False).view(np.uint8), axis=1, bitorder="little")
    box = slice(top, top + height), slice(left, left + width)
    return box, bits[:, :width].view(bool).reshape(depth, height, width)


def distinct_polygons(polygons: Sequence[Polygon]) -> list[Polygon]:
    """The polygons without repetitions, whatever the first point and the direction of each."""
    if len(polygons) < 2:
        return list(polygons)
    groups: dict[tuple[float, ...], list[int]] = {}
    for n, p in enumerate(polygons):
        size = (0.0, 0.0) if not len(p) else np.round(p.max(axis=0) + p.min(axis=0), SAME_POINT - 1).tolist()
        groups.setdefault((len(p), *size), []).append(n)
    repeated: set[int] = set()
    for group in groups.values():
        seen: set[bytes] = set()
        for n in group if len(group) > 1 else ():
            key = _canonical(polygons[n])
            if key in seen:
                repeated.add(n)
            seen.add(key)
    return [p for n, p in enumerate(polygons) if n not in repeated]


def _canonical(polygon: Polygon) -> bytes:
    """The same bytes for every way to write one closed polygon."""
    p = np.round(polygon, SAME_POINT) + 0.0  # no negative zero
    if not len(p):
        return b""
    least = p[np.lexsort((p[:, 1], p[:, 0]))[0]]
    ways = []
    for start in np.flatnonzero((p == least).all(axis=1)):
        turned = np.roll(p, -start, axis=0)
        ways += [turned.tobytes(), np.roll(turned[::-1], 1, axis=0).tobytes()]
    return min(ways)


def stack_from_polygons(
    polygons: Mapping[int, Sequence[Polygon]], shape_kij: tuple[int, int, int]
) -> NDArray[np.bool_]:
    """(k, i, j) mask of {k: polygons}."""
    mask = np.zeros(shape_kij, dtype=bool)
    for k, box, inside in filled_slices(polygons, shape_kij[1:]):
        mask[k][box] = inside
    return mask


def stack_in_box(
    polygons: Mapping[int, Sequence[Polygon]], shape_kij: tuple[int, int, int]
) -> tuple[Box, NDArray[np.bool_]] | None:
    """The smallest box that holds every voxel of {k: polygons}, and the mask in it; None where there is none."""
    found = [(k, box, inside) for k, box, inside in filled_slices(polygons, shape_kij[1:]) if inside.any()]
    if not found:
        return None
    reach = tuple(
        slice(min(box[a].start for _, box, _ in found), max(box[a].stop for _, box, _ in found))
        for a in (0, 1)
    )
    ks = [k for k, _, _ in found]
    first = min(ks)
    mask = np.zeros((max(ks) + 1 - first, *(s.stop - s.start for s in reach)), dtype=bool)
    for k, box, inside in found:
        rows, columns = (slice(b.start - r.start, b.stop - r.start) for b, r in zip(box, reach, strict=True))
        mask[k - first, rows, columns] = inside
    part = bounding_box(mask)
    assert part is not None
    starts = (first, reach[0].start, reach[1].start)
    k_box, i_box, j_box = (slice(p.start + s, p.stop + s) for p, s in zip(part, starts, strict=True))
    return (k_box, i_box, j_box), mask[part]
