"""Operations on one ROI or several, other than margins: booleans, hull, holes, parts, smoothing, slices, sides."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from contour_ai.derived.margin import patient_axes
from contour_ai.derived.region import Level, Region, level_of, region_of_level, stack_offsets
from contour_ai.errors import GeometryError
from contour_ai.grid import Grid

HullKind = Literal["slice", "volume"]
Side = Literal["left", "right"]

SHAPING_REACH_VOXELS = 3.0
"""How far levels reach where only their zero matters."""

TOUCHING = np.ones((3, 3, 3), dtype=bool)
"""Voxels that share a face, an edge or a corner belong to one part."""

SMOOTHING_CUT = 3.0
"""Standard deviations of the Gauss filter that count."""


def united(regions: Sequence[Region]) -> Region:
    """What lies in any of the ROIs; its voxels are exactly theirs."""
    regions = [r for r in regions if not r.is_empty]
    if len(regions) == 1:
        return regions[0]
    if not regions:
        raise ValueError("a union needs a ROI that is not empty")
    grid = regions[0].grid
    levels = [level_of(r, _reach(grid)) for r in regions]
    start = [min(v.start[a] for v in levels) for a in range(3)]
    stop = [max(v.stop[a] for v in levels) for a in range(3)]
    values = levels[0].on(start, stop, -_reach(grid))
    for level in levels[1:]:
        np.maximum(values, level.on(start, stop, -_reach(grid)), out=values)
    return region_of_level(Level(values, (start[0], start[1], start[2])), grid)


def intersection(one: Region, two: Region) -> Region:
    """What lies in both; its voxels are exactly those of both."""
    return _limited(one, two, 1.0)


def difference(one: Region, two: Region) -> Region:
    """What lies in `one` and not in `two`; its voxels are exactly those of `one` without those of `two`."""
    return one if two.is_empty else _limited(one, two, -1.0)


def _limited(one: Region, two: Region, sign: float) -> Region:
    reach = _reach(one.grid)
    first = level_of(one, reach)
    second = level_of(two, reach).on(first.start, first.stop, -reach)
    return region_of_level(Level(np.minimum(first.values, sign * second), first.start), one.grid)


def hull(region: Region, kind: HullKind) -> Region:
    """The convex hull of the contours of every slice, or of all contours in three dimensions."""
    if region.is_empty:
        return region
    return _hull_of_slices(region) if kind == "slice" else _hull_of_volume(region)


def _hull_of_slices(region: Region) -> Region:
    from scipy.spatial import ConvexHull, QhullError

    slices = {}
    for k, polygons in region.slices.items():
        points = np.concatenate([p for p in polygons if len(p) >= 3] or [np.empty((0, 2))])
        if len(points) < 3:
            continue
        try:
            slices[k] = [points[ConvexHull(points).vertices]]
        except QhullError:  # all on a line
            slices[k] = list(polygons)
    return Region(slices, region.grid)


def _hull_of_volume(region: Region) -> Region:
    from scipy.spatial import ConvexHull, QhullError

    grid = region.grid
    points = [
        grid.index_to_lps(np.column_stack([np.full(len(p), float(k)), p]))
        for k, polygons in region.slices.items()
        for p in polygons
    ]
    try:
        planes = ConvexHull(np.concatenate(points)).equations
    except QhullError:  # all on one slice
        return _hull_of_slices(region)
    (ks, rows, columns), _ = region.filled
    values = []
    i, j = (np.arange(s.start - 2, s.stop + 2, dtype=np.float64) for s in (rows, columns))
    for k in range(ks.start, ks.stop):
        base = planes[:, :3] @ grid.positions_lps[k] + planes[:, 3]
        along_i = np.outer(planes[:, :3] @ grid.step_i_lps, i)
        along_j = np.outer(planes[:, :3] @ grid.step_j_lps, j)
        farthest = np.full((len(i), len(j)), -np.inf)
        for n in range(len(planes)):
            np.maximum(farthest, base[n] + along_i[n][:, None] + along_j[n], out=farthest)
        values.append(-farthest)
    level = Level(np.stack(values).astype(np.float32), (ks.start, rows.start - 2, columns.start - 2))
    # The first and last slices lie in the hull's surface, where only their own contours tell inside from outside.
    return united([region_of_level(level, grid), _hull_of_slices(region)])


def without_holes(region: Region) -> Region:
    """The ROI with all that its contours enclose within a slice."""
    if region.is_empty:
        return region
    return region_of_level(level_of(region, _reach(region.grid), without_holes=True), region.grid)


def without_small_parts(region: Region, *, below_cm3: float = 0.0, keep: int | None = None) -> Region:
    """The ROI without connected parts below a volume, or with its `keep` largest parts only."""
    if region.is_empty:
        return region
    level = level_of(region, _reach(region.grid))
    labels, number = ndimage.label(level.values > 0, structure=TOUCHING)
    volumes = region.grid.voxel_volumes_cm3[level.start[0] : level.stop[0]]
    weights = np.broadcast_to(volumes[:, None, None], labels.shape)
    sizes = ndimage.sum_labels(weights, labels, np.arange(1, number + 1))
    kept = sizes >= below_cm3
    if keep is not None:
        kept &= np.isin(np.arange(number), np.argsort(-sizes, kind="stable")[:keep])
    if kept.all():
        return region
    stays = np.append(True, kept)[labels]
    return region_of_level(
        Level(np.where(stays, level.values, -np.abs(level.values)), level.start), region.grid
    )


def smoothed(region: Region, width_mm: float) -> Region:
    """The ROI with its signed distance averaged by a Gauss filter of standard deviation `width_mm` in three dimensions.

    Within a slice no contour moves by more than `width_mm`. A slice that had a contour keeps it unless nothing is left.
    """
    if region.is_empty or width_mm <= 0:
        return region
    grid = region.grid
    offsets = stack_offsets(grid) if grid.is_sheared else None
    reach = (SMOOTHING_CUT + 1) * width_mm + 2 * max(grid.spacing_mm[1:])
    level = level_of(region, reach, offsets_ij=offsets)
    spacing = grid.spacing_mm
    values = ndimage.gaussian_filter(
        level.values,
        [width_mm / s for s in spacing],
        mode="nearest",
        truncate=SMOOTHING_CUT,
    )
    values = np.clip(values, level.values - width_mm, level.values + width_mm)
    return region_of_level(Level(values, level.start), grid, offsets)


def interpolated(region: Region, largest_gap_mm: float) -> tuple[Region, tuple[int, ...]]:
    """(the ROI with slices without contour between two that have one, drawn by shape; their numbers).

    Only where the two lie at most `largest_gap_mm` apart and their shapes meet. Slices with contours keep them.
    """
    span = region.slice_range
    if span is None:
        return region, ()
    grid = region.grid
    drawn = sorted(
        k for k, p in region.slices.items() if any(len(q) >= 3 for q in p) and span[0] <= k <= span[1]
    )
    added: dict[int, Sequence[NDArray[np.float64]]] = {}
    for low, high in itertools.pairwise(drawn):
        distance = float(grid.slice_offsets_mm[high] - grid.slice_offsets_mm[low])
        if high - low < 2 or distance > largest_gap_mm:
            continue
        for k, polygons in _between(region, low, high).items():
            added[k] = polygons
    return Region(dict(sorted({**region.slices, **added}.items())), grid), tuple(sorted(added))


def _between(region: Region, low: int, high: int) -> dict[int, Sequence[NDArray[np.float64]]]:
    """Contours of the slices between two, from the levels of both."""
    grid = region.grid
    offsets = stack_offsets(grid) if grid.is_sheared else None
    ends = [Region({k: region.slices[k]}, grid) for k in (low, high)]
    diameter = max(
        max(s.stop - s.start for s in part.filled[0][1:]) * max(grid.spacing_mm[1:]) for part in ends
    )
    levels = [level_of(part, diameter, offsets_ij=offsets) for part in ends]
    start = [min(v.start[a] for v in levels) for a in (1, 2)]
    stop = [max(v.stop[a] for v in levels) for a in (1, 2)]
    one, two = (v.on((v.start[0], *start), (v.stop[0], *stop), -diameter)[0] for v in levels)
    share = (grid.slice_offsets_mm[low + 1 : high] - grid.slice_offsets_mm[low]) / (
        grid.slice_offsets_mm[high] - grid.slice_offsets_mm[low]
    )
    t = share.astype(np.float32)[:, None, None]
    level = Level(one * (1 - t) + two * t, (low + 1, start[0], start[1]))
    return dict(region_of_level(level, grid, offsets).slices)


def extended(region: Region, superior_mm: float, inferior_mm: float) -> Region:
    """The ROI with its last contours repeated on the slices up to a distance beyond its ends, along the body.

    Raises:
        GeometryError: the slices do not lie across the body.
    """
    span = region.slice_range
    if span is None:
        return region
    sign = _along_body(region.grid)
    heights = region.grid.slice_offsets_mm
    up, down = (superior_mm, inferior_mm) if sign > 0 else (inferior_mm, superior_mm)
    slices = dict(region.slices)
    offsets = stack_offsets(region.grid)
    for end, ks in (
        (span[1], np.flatnonzero((heights > heights[span[1]]) & (heights <= heights[span[1]] + up + 1e-3))),
        (span[0], np.flatnonzero((heights < heights[span[0]]) & (heights >= heights[span[0]] - down - 1e-3))),
    ):
        for k in ks.tolist():
            slices[k] = [p + offsets[end] - offsets[k] for p in region.slices[end]]
    return Region(dict(sorted(slices.items())), region.grid)


def _along_body(grid: Grid) -> int:
    axis, sign = patient_axes(grid)[2]
    if axis != 0:
        raise GeometryError(
            "Extending along the body needs slices across it.",
            found="slices along the body (coronal or sagittal)",
            fix="use a margin to superior or inferior instead",
        )
    return sign


def extent_mm(region: Region) -> tuple[float, float] | None:
    """(lower, upper) end of a ROI along the body in mm (DICOM's z, towards the head), its slices with their width."""
    if region.is_empty:
        return None
    grid = region.grid
    low, high = np.inf, -np.inf
    for k, polygons in region.slices.items():
        points = np.concatenate([p for p in polygons if len(p)] or [np.empty((0, 2))])
        if len(points):
            z = grid.index_to_lps(np.column_stack([np.full(len(points), float(k)), points]))[:, 2]
            half = float(grid.slice_widths_mm[k]) / 2 * abs(float(grid.normal[2]))
            low, high = min(low, float(z.min()) - half), max(high, float(z.max()) + half)
    return low, high


def cut_between(region: Region, low: float, high: float, axis: Literal["x", "z"] = "z") -> Region:
    """What lies between two planes across an axis of the patient: coordinates in mm, DICOM's x or z."""
    if region.is_empty:
        return region
    grid = region.grid
    level = level_of(region, _reach(grid))
    component = "xyz".index(axis)
    steps = grid.step_i_lps[component], grid.step_j_lps[component]
    ks = np.clip(np.arange(level.start[0], level.stop[0]), 0, grid.shape_kij[0] - 1)
    i, j = (np.arange(level.start[a], level.stop[a]) for a in (1, 2))
    place = (
        grid.positions_lps[ks, component][:, None, None]
        + (i * steps[0])[None, :, None]
        + (j * steps[1])[None, None, :]
    )
    within = np.minimum(place - low, high - place).astype(np.float32)
    return region_of_level(Level(np.minimum(level.values, within), level.start), grid)


def centre_x_mm(region: Region) -> float:
    """Mean x (towards the patient's left) of a ROI's voxels in mm."""
    (ks, rows, columns), mask = region.filled
    k, i, j = np.nonzero(mask)
    index = np.stack([k + ks.start, i + rows.start, j + columns.start], axis=1)
    return float(region.grid.index_to_lps(index)[:, 0].mean())


def side_of(region: Region, side: Side, plane_x_mm: float) -> Region:
    """What lies to the patient's left (or right) of a sagittal plane."""
    return cut_between(region, *((plane_x_mm, np.inf) if side == "left" else (-np.inf, plane_x_mm)), axis="x")


def _reach(grid: Grid) -> float:
    return SHAPING_REACH_VOXELS * max(grid.spacing_mm[1:])


def count_gaps(region: Region) -> int:
    """How many slices between the ROI's first and last have no contour, as where every second one was drawn."""
    span = region.slice_range
    if span is None:
        return 0
    _, mask = region.filled
    return int(np.count_nonzero(~mask.any(axis=(1, 2))))
