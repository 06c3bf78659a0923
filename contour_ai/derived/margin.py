"""Margins: a ROI grown or shrunk in three dimensions by distances in mm, isotropic or by direction."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contour_ai.derived.gauges import Gauges
from contour_ai.derived.nearest import Gauge
from contour_ai.derived.region import Level, Region, region_of_level, stack_offsets
from contour_ai.derived.solid import HeightLevel, Solid
from contour_ai.derived.sweep import swept
from contour_ai.errors import ConfigError, GeometryError
from contour_ai.grid import Grid

DIRECTIONS = ("left", "right", "anterior", "posterior", "superior", "inferior")
"""Directions in the patient; DICOM's axes point left, posterior and superior (PS3.3 C.7.6.2.1.1)."""

ALIGNED_DEGREES = 5.0
"""Slices count as lying along the patient's axes up to here: a margin of 20 mm goes astray by less than 2 mm sideways,
and by less than 0.1 mm in length."""

REACH_SLICES, MARGIN_REACH_VOXELS = 1.5, 1.5
"""How far levels of slices are distances, for what lies between them: contours of neighbouring slices farther apart
than this, as at the poles of something large, are interpolated less well."""

FINEST_STEP_MM = 0.5

TIE_MM = 1e-3
"""Voxel centres that are as far away as the margin, to within this, are inside: else rounding would decide, and not on
every slice the same."""

MOST_VOXELS_AT_ONCE = 6_000_000
MARGIN_THREADS = 2
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

    def part(chunk: NDArray[np.intp]) -> Region:
        return region_of_level(_level(region, axes, chunk, grows, offsets), grid, offsets)

    chunks = _chunks(region, targets, axes)
    if len(chunks) == 1:
        return part(chunks[0])
    with ThreadPoolExecutor(MARGIN_THREADS) as threads:  # NumPy lets other threads work while it does
        return _joined(list(threads.map(part, chunks)), grid)


def _joined(parts: Sequence[Region], grid: Grid) -> Region:
    """Stretches of slices, one after the other, as one region."""
    levels = [part.level for part in parts if part.level is not None]
    if not levels:
        return Region({}, grid)
    start = [min(level.start[a] for level in levels) for a in range(3)]
    stop = [max(level.stop[a] for level in levels) for a in range(3)]
    values = np.empty([b - a for a, b in zip(start, stop, strict=True)], np.float32)
    end = start[0]
    for level in levels:
        ks = slice(level.start[0] - start[0], level.stop[0] - start[0])
        values[end - start[0] : ks.stop] = -1.0
        place = tuple(slice(a - s, b - s) for a, b, s in zip(level.start, level.stop, start, strict=True))
        values[place] = level.values
        end = level.stop[0]
    slices = {k: polygons for part in parts for k, polygons in part.slices.items()}
    return Region(slices, grid, Level(values, (start[0], start[1], start[2])))


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
    reach = REACH_SLICES * grid.spacing_mm[0] + MARGIN_REACH_VOXELS * max(spacing)
    if first >= stop:
        return Level(np.zeros((0, 0, 0), np.float32), (0, 0, 0))
    solid = Solid(region, reach, slices=(first, stop), offsets_ij=offsets)
    levels = list(solid.at_slices())
    step = _step_mm(axes)
    for below, height in solid.heights_between(step):
        levels.append(solid.between(below, height))
    margin = grid.slice_widths_mm.max()
    levels = sorted(
        (f for f in levels if low - margin <= f.height_mm <= high + margin), key=lambda f: f.height_mm
    )
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
    """The level of every slice in `targets` from the levels at all heights around it, which ascend."""
    spacing = grid.spacing_mm[1:]
    pad = ((2, 2), (2, 2))
    if grows or axes.plane.is_flat:
        plane = axes.plane
        pad = (
            (_voxels(plane.low_i, spacing[0]) + 2, _voxels(plane.high_i, spacing[0]) + 2),
            (_voxels(plane.low_j, spacing[1]) + 2, _voxels(plane.high_j, spacing[1]) + 2),
        )
    start = (int(targets[0]), start_ij[0] - pad[0][0], start_ij[1] - pad[1][0])
    heights = [f.height_mm for f in levels]
    fields = [f.values for f in levels]
    of_slices = [float(grid.slice_offsets_mm[k]) for k in targets]
    rows, columns = fields[0].shape if fields else (0, 0)
    shape = len(targets), rows + sum(pad[0]), columns + sum(pad[1])
    result = np.full(shape, -1.0, np.float32)
    if fields and axes.plane.is_flat:
        sign = np.float32(1 if grows else -1)
        outside = sign * min(float(f.min(initial=-1.0)) for f in fields)
        field = np.stack([np.pad(sign * f, pad, constant_values=outside) for f in fields])
        result *= float(np.abs(field).max(initial=1.0))
        for height, out in zip(of_slices, result, strict=True):
            best = swept(field, heights, height, axes.low_k, axes.high_k, axes.plane, spacing)
            if best is not None:
                np.multiply(best, sign, out=out)
    elif fields:
        gauges = Gauges.of_levels(fields, pad, axes.plane, spacing, grows=grows)
        for height, out in zip(of_slices, result, strict=True):
            if gauges.deepest(heights, height, (axes.low_k, axes.high_k), out) and not grows:
                np.negative(out, out=out)
        result *= np.float32(axes.largest)
        result += np.float32(TIE_MM)
    return Level(result, start)


def _voxels(length_mm: float, spacing_mm: float) -> int:
    return int(np.ceil(length_mm / spacing_mm))
