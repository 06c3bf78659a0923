"""Margins: a ROI grown or shrunk in three dimensions by distances in mm, isotropic or by direction."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contour_ai.derived.nearest import Gauge, nearest_gauge
from contour_ai.derived.region import Level, Region, region_of_level, stack_offsets, within_image
from contour_ai.derived.solid import HeightLevel, Solid
from contour_ai.derived.sweep import swept
from contour_ai.errors import ConfigError, GeometryError
from contour_ai.grid import Grid

DIRECTIONS = ("left", "right", "anterior", "posterior", "superior", "inferior")
"""Directions in the patient; DICOM's axes point left, posterior and superior (PS3.3 C.7.6.2.1.1)."""

ALIGNED_DEGREES = 5.0
"""Slices count as lying along the patient's axes up to here: a margin of 20 mm goes astray by less than 2 mm sideways,
and by less than 0.1 mm in length."""

WINDOW_VOXELS = 1.5
"""How far beyond the margin gauges are worked out: a level needs the voxels on both sides of its zero."""

REACH_SLICES, REACH_VOXELS = 1.5, 1.5
"""How far levels of slices are distances, for what lies between them: contours of neighbouring slices farther apart
than this, as at the poles of something large, are interpolated less well."""

FAR_VOXELS = 12.0
"""From so far away points a voxel apart are as good as a line: the distance to them is 0.01 voxel too large at most."""

FAR_GAUGE = 1e3

FINEST_STEP_MM = 0.5
LEAST_RISE = 1e-3
"""Levels nearer than this part of the half-axis are the two sides of a flat end: nothing lies between them."""

MOST_VOXELS_AT_ONCE = 6_000_000
MOST_THREADS = 2
"""Each holds its own fields of so many voxels."""


@dataclass(frozen=True, kw_only=True)
class Margins:
    """Margins in mm towards the patient's left, right, anterior, posterior, superior, inferior; negative shrink."""

    left: float = 0.0
    """Towards the patient's left."""
    right: float = 0.0
    """Towards the patient's right."""
    anterior: float = 0.0
    """Towards the front."""
    posterior: float = 0.0
    """Towards the back."""
    superior: float = 0.0
    """Towards the head."""
    inferior: float = 0.0
    """Towards the feet."""

    def __post_init__(self) -> None:
        for name in DIRECTIONS:
            if not np.isfinite(getattr(self, name)) or abs(getattr(self, name)) > 300:
                raise ConfigError(
                    f"The margin {name} is out of range.",
                    found=getattr(self, name),
                    expected="-300 to 300 mm",
                )

    @classmethod
    def all_around(cls, margin_mm: float) -> Margins:
        """The same margin in all directions."""
        return cls(**dict.fromkeys(DIRECTIONS, float(margin_mm)))

    @property
    def values(self) -> tuple[float, ...]:
        """In the order of `DIRECTIONS`."""
        return tuple(getattr(self, name) for name in DIRECTIONS)

    @property
    def isotropic_mm(self) -> float | None:
        """The margin, where it is the same in all directions."""
        return self.left if len(set(self.values)) == 1 else None


@dataclass(frozen=True, kw_only=True)
class _Axes:
    """Half-axes in mm of an ellipsoid's octants along the grid's axes: towards lower and higher k, i, j."""

    low_k: float
    high_k: float
    plane: Gauge

    @property
    def largest(self) -> float:
        p = self.plane
        return max(self.low_k, self.high_k, p.low_i, p.high_i, p.low_j, p.high_j)

    def mirrored(self) -> _Axes:
        p = self.plane
        plane = Gauge(low_i=p.high_i, high_i=p.low_i, low_j=p.high_j, high_j=p.low_j)
        return _Axes(low_k=self.high_k, high_k=self.low_k, plane=plane)


def with_margins(region: Region, margins: Margins) -> Region:
    """The ROI with margins: grown where they are positive, then shrunk where they are negative.

    Growing adds every point whose distance from the ROI is within the margin: within an ellipsoid of eight octants,
    whose half-axes are the margins, around some point of the ROI. Shrinking by a margin to the right takes away what
    growing the outside to the left by it would add. At the ends of the scan the ROI is taken to go on. See `solid` for
    what lies between the slices.

    Raises:
        GeometryError: margins that differ, on slices more than `ALIGNED_DEGREES` off the patient's axes.
    """
    if region.is_empty:
        return region
    grow = [max(v, 0.0) for v in margins.values]
    shrink = [max(-v, 0.0) for v in margins.values]
    if any(grow):
        region = _moved(region, _axes_on(region.grid, grow), grows=True)
    if any(shrink) and not region.is_empty:
        region = _moved(region, _axes_on(region.grid, shrink), grows=False)
    return region


def patient_axes(grid: Grid) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """For each patient axis (left, posterior, superior): the grid's axis nearest to it, and its sign.

    Raises:
        GeometryError: the grid is turned by more than `ALIGNED_DEGREES`.
    """
    axes = np.stack(
        [grid.normal, *(v / np.linalg.norm(v) for v in (grid.step_i_lps, grid.step_j_lps))]
    )  # (k, i, j) by (x, y, z)
    result = []
    for patient in range(3):
        nearest = int(np.abs(axes[:, patient]).argmax())
        cosine = float(axes[nearest, patient])
        if abs(cosine) < np.cos(np.radians(ALIGNED_DEGREES)):
            raise GeometryError(
                "Directions in the patient need slices along the patient's axes.",
                found=f"slices turned by {np.degrees(np.arccos(abs(cosine))):.1f} degrees",
                expected=f"at most {ALIGNED_DEGREES:g} degrees",
                fix="give one margin for all directions; it is exact on any slices",
            )
        result.append((nearest, 1 if cosine > 0 else -1))
    return result[0], result[1], result[2]


def _axes_on(grid: Grid, margins: Sequence[float]) -> _Axes:
    """Margins in the order of `DIRECTIONS`, none negative, along the grid's axes."""
    if len(set(margins)) == 1:
        r = margins[0]
        return _Axes(low_k=r, high_k=r, plane=Gauge(low_i=r, high_i=r, low_j=r, high_j=r))
    left, right, anterior, posterior, superior, inferior = margins
    # By axis of the patient: towards its positive end, towards its negative end.
    ends = ((left, right), (posterior, anterior), (superior, inferior))
    by_axis = {}
    for (axis, sign), (plus, minus) in zip(patient_axes(grid), ends, strict=True):
        by_axis[axis] = (minus, plus) if sign > 0 else (plus, minus)
    plane = Gauge(low_i=by_axis[1][0], high_i=by_axis[1][1], low_j=by_axis[2][0], high_j=by_axis[2][1])
    return _Axes(low_k=by_axis[0][0], high_k=by_axis[0][1], plane=plane)


def _moved(region: Region, axes: _Axes, *, grows: bool) -> Region:
    grid = region.grid
    span = region.slice_range
    assert span is not None
    offsets = stack_offsets(grid) if grid.is_sheared else None
    heights = grid.slice_offsets_mm
    first, last = span
    if grows:
        # An end may lie almost a whole slice beyond the last contour.
        low = heights[first] - axes.low_k - _gap(heights, first, -1)
        high = heights[last] + axes.high_k + _gap(heights, last, +1)
        targets = np.flatnonzero((heights >= low) & (heights <= high))
    else:
        targets = np.arange(first, last + 1)
        axes = axes.mirrored()

    def part(chunk: NDArray[np.intp]) -> Level | None:
        return within_image(_level(region, axes, chunk, grows, offsets), grid, offsets)

    chunks = _chunks(region, targets, axes)
    if len(chunks) == 1:
        levels = [part(chunks[0])]
    else:  # NumPy lets other threads work while it does
        with ThreadPoolExecutor(MOST_THREADS) as threads:
            levels = list(threads.map(part, chunks))
    return _joined([level for level in levels if level is not None], grid)


def _joined(levels: Sequence[Level], grid: Grid) -> Region:
    """Levels of stretches of slices, one after the other, as one region."""
    if not levels:
        return Region({}, grid)
    if len(levels) == 1:
        return region_of_level(levels[0], grid)
    start = [min(level.start[a] for level in levels) for a in range(3)]
    stop = [max(level.stop[a] for level in levels) for a in range(3)]
    values = np.full([b - a for a, b in zip(start, stop, strict=True)], -1.0, np.float32)
    for level in levels:
        place = tuple(slice(a - s, b - s) for a, b, s in zip(level.start, level.stop, start, strict=True))
        values[place] = level.values
    return region_of_level(Level(values, (start[0], start[1], start[2])), grid)


def _gap(heights: NDArray[np.float64], k: int, direction: int) -> float:
    n = k + direction
    return abs(float(heights[n] - heights[k])) if 0 <= n < len(heights) else 0.0


def _step_mm(axes: _Axes) -> float:
    """Distance of levels between slices: small against the ellipsoid, whose surface they cut."""
    return max(FINEST_STEP_MM, max(axes.low_k, axes.high_k) / 3)


def _chunks(region: Region, targets: NDArray[np.intp], axes: _Axes) -> list[NDArray[np.intp]]:
    """The slices to work out, in pieces that need little memory."""
    (_, rows, columns), _ = region.filled
    pads = [2 * (axes.largest / s + 4) for s in region.grid.spacing_mm[1:]]
    area = (rows.stop - rows.start + pads[0]) * (columns.stop - columns.start + pads[1])
    fine = area * max(1.0, region.grid.spacing_mm[0] / _step_mm(axes))
    number = max(4, int(MOST_VOXELS_AT_ONCE / fine))
    return [targets[n : n + number] for n in range(0, len(targets), number)]


def _level(
    region: Region,
    axes: _Axes,
    targets: NDArray[np.intp],
    grows: bool,
    offsets: NDArray[np.float64] | None,
) -> Level:
    """The level of the grown or shrunk ROI on some neighbouring slices."""
    grid = region.grid
    heights = grid.slice_offsets_mm
    span = region.slice_range
    assert span is not None
    # A part of the ROI reaches a slice from at most the half-axis away, and may end a slice farther.
    low, high = heights[targets[0]] - axes.high_k, heights[targets[-1]] + axes.low_k
    first = max(int(np.searchsorted(heights, low)) - 3, span[0])
    stop = min(int(np.searchsorted(heights, high, side="right")) + 3, span[1] + 1)
    spacing = grid.spacing_mm[1:]
    reach = REACH_SLICES * grid.spacing_mm[0] + REACH_VOXELS * max(spacing)
    if first >= stop:
        return Level(np.zeros((0, 0, 0), np.float32), (0, 0, 0))
    solid = Solid(region, reach, slices=(first, stop), offsets_ij=offsets)
    levels = list(solid.at_slices())
    step = _step_mm(axes)
    for below, height in solid.heights_between(step):
        levels.append(solid.between(below, height))
    margin = grid.slice_widths_mm.max()
    levels = [f for f in levels if low - margin <= f.height_mm <= high + margin]
    return _combined(levels, axes, targets, solid.start_ij, grid, grows=grows)


def _combined(
    levels: Sequence[HeightLevel],
    axes: _Axes,
    targets: NDArray[np.intp],
    start_ij: tuple[int, int],
    grid: Grid,
    *,
    grows: bool,
) -> Level:
    """The level of every slice in `targets` from the levels at all heights around it."""
    spacing = grid.spacing_mm[1:]
    pad = [(2, 2), (2, 2)]
    if grows or axes.plane.is_flat:
        plane = axes.plane
        ends = ((plane.low_i, plane.high_i), (plane.low_j, plane.high_j))
        pad = [
            (int(np.ceil(low / s)) + 2, int(np.ceil(high / s)) + 2)
            for (low, high), s in zip(ends, spacing, strict=True)
        ]
    rows, columns = levels[0].values.shape if levels else (0, 0)
    outside = np.float32(min((float(f.values.min(initial=-1.0)) for f in levels), default=-1.0))
    field = np.full((len(levels), rows + sum(pad[0]), columns + sum(pad[1])), outside)
    for n, level in enumerate(levels):
        field[n, pad[0][0] : pad[0][0] + rows, pad[1][0] : pad[1][0] + columns] = level.values
    start = (int(targets[0]), start_ij[0] - pad[0][0], start_ij[1] - pad[1][0])
    heights = [f.height_mm for f in levels]
    of_slices = [float(grid.slice_offsets_mm[k]) for k in targets]
    if axes.plane.is_flat:
        sign = np.float32(1 if grows else -1)
        found = [
            swept(sign * field, heights, z, axes.low_k, axes.high_k, axes.plane, spacing) for z in of_slices
        ]
        scale = float(np.abs(field).max(initial=1.0))
    else:
        gauges = _gauges(field, axes.plane, spacing, grows=grows)
        scale = axes.largest
        found = [_deepest(heights, gauges, z, axes) for z in of_slices]
    result = np.full((len(targets), *field.shape[1:]), -scale, np.float32)
    for n, best in enumerate(found):
        if best is not None:
            result[n] = best * np.float32((1 if axes.plane.is_flat else scale) * (1 if grows else -1))
    return Level(result, start)


def _deepest(
    heights: Sequence[float], gauges: NDArray[np.float32], height_mm: float, axes: _Axes
) -> NDArray[np.float32] | None:
    """The largest of (half-width of the ellipsoid at a level - gauge from that level), over all heights of levels.

    Between two levels the gauge is taken as linear in the height. At a part u of the half-axis the ellipsoid is
    sqrt(1 - u^2) wide, so that the largest value for a gauge of slope g lies at u = -g / sqrt(1 + g^2).
    """
    best: NDArray[np.float32] | None = None
    for side, half in ((+1, axes.high_k), (-1, axes.low_k)):
        before: tuple[float, NDArray[np.float32]] | None = None
        rises = [side * (height_mm - height) for height in heights]
        for f in sorted((f for f, rise in enumerate(rises) if rise > -1e-9), key=lambda f: rises[f]):
            rise = max(rises[f], 0.0)
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


def _gauges(
    field: NDArray[np.float32], plane: Gauge, spacing: tuple[float, float], *, grows: bool
) -> NDArray[np.float32]:
    """(levels, I, J): the gauge of each voxel centre from the contours, positive on the side that is to be reached.

    Growing reaches outside, shrinking inside; on the other side it is negative.
    """
    squared = np.full(field.shape, FAR_GAUGE**2, np.float32)
    smallest = min(plane.low_i, plane.high_i, plane.low_j, plane.high_j) / max(spacing)
    slices, points = _crossings(field, half_way=smallest < FAR_VOXELS)
    beyond = WINDOW_VOXELS * max(spacing)
    nearest_gauge(squared, slices, points * spacing, spacing, plane, plane.grown(beyond))
    gauge = np.sqrt(squared, out=squared)
    return np.negative(gauge, out=gauge, where=(field > 0) == grows)


def _crossings(field: NDArray[np.float32], *, half_way: bool) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Points of the zero of a stack of levels: slice number, (N, 2) voxels (i, j).

    Where it passes between two neighbours of a slice; with `half_way` also between two such points of a square of four.
    """
    inside = field > 0
    rows, columns = field.shape[1:]
    slices, points, squares = [], [], []
    for axis, back in ((1, 1), (2, columns)):
        one = [slice(None)] * 3
        two = [slice(None)] * 3
        one[axis], two[axis] = slice(None, -1), slice(1, None)
        at = np.nonzero(inside[tuple(one)] != inside[tuple(two)])
        a, b = field[tuple(one)][at].astype(np.float64), field[tuple(two)][at].astype(np.float64)
        crossing = np.stack(at[1:], axis=1).astype(np.float64)
        crossing[:, axis - 1] += a / (a - b)
        slices.append(at[0])
        points.append(crossing)
        square = (at[0] * rows + at[1]) * columns + at[2]
        squares.append(np.stack([square, square - back]))
    k, p = np.concatenate(slices), np.concatenate(points)
    if not half_way:
        return k, p
    both = np.concatenate(squares, axis=1).reshape(-1)
    order = np.argsort(both, kind="stable")
    of_square = both[order]
    # Squares with exactly two crossings; saddles, with four, do without.
    new = np.flatnonzero(np.append(True, of_square[1:] != of_square[:-1]))
    two_only = new[np.diff(np.append(new, len(of_square))) == 2] if len(of_square) else new[:0]
    first, second = (order[two_only + n] % max(len(p), 1) for n in (0, 1))
    return np.concatenate([k, k[first]]), np.concatenate([p, (p[first] + p[second]) / 2])
