"""Distances between the surfaces of two masks, weighted by surface area as DeepMind's surface-distance does.

A surface element sits at every voxel corner whose eight voxels are neither all inside nor all outside; its area is that
of the triangles of `surface_elements.txt`. Distances go from element to nearest element of the other surface. Unlike
its model, this takes each element's place in the patient from the grid, so unequal slice distances are right too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from contour_ai.box import bounding_box
from contour_ai.errors import GeometryError
from contour_ai.grid import Grid

Float = NDArray[np.float64]

THREADED = 20_000
"""Elements from which a search tree is worth asking in several threads: below, starting them takes longer."""
PLACES_AROUND = 150
"""How many places around a corner are looked at before a search tree is asked: a ball of 4 mm on a planning CT."""


@dataclass(frozen=True, eq=False)
class Surface:
    """Surface elements of a mask.

    `corners` (N, 3), sorted: corner (k, i, j) is where voxels k - 1 and k, i - 1 and i, j - 1 and j meet.
    `areas_mm2` (N,).
    """

    corners: NDArray[np.int64]
    areas_mm2: Float


@dataclass(frozen=True, eq=False, kw_only=True)
class SurfaceDistances:
    """Distances (mm) of every element of one surface to the other, with the elements' areas (mm²), by distance.

    Where a surface is empty its own arrays are empty, and the other's distances infinite.
    """

    predicted_mm: Float
    predicted_mm2: Float
    reference_mm: Float
    reference_mm2: Float

    def percentile(self, percent: float) -> float:
        """HD: the larger of both directed percentiles (by area) in mm; 100 gives the Hausdorff distance.

        Infinite where one surface is empty, NaN where both are.
        """
        directed = [
            _percentile(d, a, percent)
            for d, a in ((self.predicted_mm, self.predicted_mm2), (self.reference_mm, self.reference_mm2))
            if d.size
        ]
        return max(directed, default=float("nan"))

    def directed_means(self) -> tuple[float, float]:
        """(predicted to reference, reference to predicted) mean distance in mm; NaN for an empty surface."""
        return _mean(self.predicted_mm, self.predicted_mm2), _mean(self.reference_mm, self.reference_mm2)

    def masd(self) -> float:
        """Mean of the two directed means, mm."""
        both = [m for m in self.directed_means() if not np.isnan(m)]
        return float(np.mean(both)) if both else float("nan")

    def assd(self) -> float:
        """Mean over the elements of both surfaces pooled, mm."""
        return _mean(
            np.concatenate([self.predicted_mm, self.reference_mm]),
            np.concatenate([self.predicted_mm2, self.reference_mm2]),
        )

    def surface_dsc(self, tau_mm: float) -> float:
        """Share of both surfaces, by area, that lies within `tau_mm` of the other; NaN where both are empty."""
        total = self.predicted_mm2.sum() + self.reference_mm2.sum()
        if not total:
            return float("nan")
        near = self.predicted_mm2[self.predicted_mm <= tau_mm].sum()
        near += self.reference_mm2[self.reference_mm <= tau_mm].sum()
        return float(near / total)


def surface_of(mask: NDArray[np.bool_], grid: Grid) -> Surface:
    """The surface elements of a (k, i, j) mask; the outside of the array counts as outside the mask.

    Raises:
        GeometryError: mask and grid differ in shape.
    """
    if mask.shape != grid.shape_kij:
        raise GeometryError(
            "A mask must have the shape of its grid.", found=mask.shape, expected=grid.shape_kij
        )
    box = bounding_box(mask)
    if box is None:
        return Surface(np.empty((0, 3), np.int64), np.empty(0))
    codes = _neighbour_codes(np.pad(mask[box], 1))
    # Codes 1 to 254, in one comparison: 0 wraps around to 255.
    at = np.flatnonzero(codes - np.uint8(1) < 254)
    corners = np.stack(np.unravel_index(at, codes.shape), axis=1)
    corners += [s.start for s in box]
    gaps = _slice_gaps_mm(grid)
    which, table = np.unique(gaps, return_inverse=True)
    areas = np.stack([_areas_mm2(float(gap), *grid.spacing_mm[1:]) for gap in which])
    return Surface(corners, areas[table[corners[:, 0]], codes.ravel()[at]])


def surface_distances(predicted: Surface, reference: Surface, grid: Grid) -> SurfaceDistances:
    """Distances between two surfaces on the same grid, both ways."""
    forth = _nearest_mm(predicted.corners, reference.corners, grid)
    back = _nearest_mm(reference.corners, predicted.corners, grid)
    p, r = _by_distance(forth, predicted.areas_mm2), _by_distance(back, reference.areas_mm2)
    return SurfaceDistances(
        predicted_mm=forth[p],
        predicted_mm2=predicted.areas_mm2[p],
        reference_mm=back[r],
        reference_mm2=reference.areas_mm2[r],
    )


def _neighbour_codes(padded: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """For every corner between voxels, which of its eight voxels are inside, as bits."""
    # Bit 4 a + 2 b + c is the voxel a before the corner along k, b along i, c along j: one axis after the other.
    codes = padded.view(np.uint8)
    codes = codes[:, :, 1:] | codes[:, :, :-1] << np.uint8(1)
    codes = codes[:, 1:] | codes[:, :-1] << np.uint8(2)
    return codes[1:] | codes[:-1] << np.uint8(4)


def _slice_gaps_mm(grid: Grid) -> Float:
    """(K + 1,) mm between slices k - 1 and k, for every corner k; the ends take the gap beside them."""
    if grid.is_regular:
        return np.full(grid.shape_kij[0] + 1, grid.spacing_mm[0])
    gaps = grid.slice_spacings_mm
    return np.concatenate([gaps[:1], gaps, gaps[-1:]])


@cache
def _area_vectors() -> Float:
    """(256, 4, 3): area vectors of the triangles of every neighbourhood code, in voxel face areas."""
    vectors = np.zeros((256, 4, 3))
    text = resources.files("contour_ai.evaluation").joinpath("surface_elements.txt").read_text("utf-8")
    for line in text.splitlines():
        code, _, triangles = line.partition(":")
        if not line.startswith("#"):
            for n, triangle in enumerate(triangles.split(",")):
                vectors[int(code), n] = [int(number) / 8 for number in triangle.split()]
    return vectors


def _areas_mm2(dk: float, di: float, dj: float) -> Float:
    """(256,) surface area of every neighbourhood code for voxels of dk x di x dj mm."""
    return np.linalg.norm(_area_vectors() * (di * dj, dk * dj, dk * di), axis=2).sum(axis=1)


def _nearest_mm(start: NDArray[np.int64], end: NDArray[np.int64], grid: Grid) -> Float:
    """(N,) distance in mm from every corner in `start` to the nearest in `end`."""
    if not len(end) or not len(start):
        return np.full(len(start), np.inf)
    if not grid.is_regular:
        found, _ = cKDTree(_places_mm(end, grid)).query(_places_mm(start, grid), workers=_workers(start))
        return np.asarray(found, np.float64)
    distances, far = _near_mm(start, end, grid.spacing_mm)
    if far.size:
        tree = cKDTree(_places_mm(end, grid), balanced_tree=False, compact_nodes=False)
        _, nearest = tree.query(_places_mm(start[far], grid), workers=_workers(far))
        distances[far] = _lengths_mm(start[far] - end[nearest], grid.spacing_mm)
    return distances


def _workers(elements: NDArray[np.integer]) -> int:
    return -1 if len(elements) > THREADED else 1


def _near_mm(
    start: NDArray[np.int64], end: NDArray[np.int64], spacing_mm: tuple[float, float, float]
) -> tuple[Float, NDArray[np.intp]]:
    """(N,) distances from `start` to `end` within `PLACES_AROUND`, and the numbers of those that are farther away.

    Surfaces of one organ lie within a few voxels of each other: looking around every corner, the nearest places first,
    finds nearly all of them many times faster than a search tree.
    """
    steps = _steps(spacing_mm)
    lengths = _lengths_mm(steps, spacing_mm)
    margin = np.abs(steps).max(axis=0)
    low = np.minimum(start.min(axis=0), end.min(axis=0)) - margin
    shape = np.maximum(start.max(axis=0), end.max(axis=0)) + margin + 1 - low
    along = np.array([shape[1] * shape[2], shape[2], 1])
    held = np.zeros(int(shape.prod()), bool)
    held[(end - low) @ along] = True
    distances = np.full(len(start), np.inf)
    left, places = np.arange(len(start)), (start - low) @ along
    for step, length_mm in zip(steps @ along, lengths, strict=True):
        hit = held[places + step]
        if hit.any():
            distances[left[hit]] = length_mm
            left, places = left[~hit], places[~hit]
            if not left.size:
                break
    return distances, left


@cache
def _steps(spacing_mm: tuple[float, float, float]) -> NDArray[np.int64]:
    """(N, 3) steps between corners (k, i, j), shortest first: a whole ball, so that what is found is the nearest."""
    reach_mm = (PLACES_AROUND * 3 / (4 * math.pi) * math.prod(spacing_mm)) ** (1 / 3)
    ranges = [np.arange(-n, n + 1) for n in (int(reach_mm / s) for s in spacing_mm)]
    steps = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
    lengths = _lengths_mm(steps, spacing_mm)
    order = np.argsort(lengths, kind="stable")
    return steps[order[lengths[order] <= reach_mm]]


def _lengths_mm(steps: NDArray[np.int64], spacing_mm: tuple[float, float, float]) -> Float:
    """(N,) mm of whole steps (k, i, j); computed in one way only, so that equal distances are equal numbers."""
    lengths: Float = np.sqrt(((np.abs(steps) * np.array(spacing_mm)) ** 2).sum(axis=1))
    return lengths


def _places_mm(corners: NDArray[np.int64], grid: Grid) -> Float:
    """(N, 3) where corners lie, in mm."""
    if grid.is_regular:
        return corners * np.array(grid.spacing_mm)
    return grid.index_to_lps(corners - 0.5)


def _by_distance(distances: Float, areas: Float) -> NDArray[np.intp]:
    return np.lexsort((areas, distances))


def _percentile(distances: Float, areas: Float, percent: float) -> float:
    """The distance within which `percent` of the area lies."""
    share = np.cumsum(areas) / areas.sum()
    return float(distances[min(int(np.searchsorted(share, percent / 100)), len(distances) - 1)])


def _mean(distances: Float, areas: Float) -> float:
    return float((distances * areas).sum() / areas.sum()) if distances.size else float("nan")
