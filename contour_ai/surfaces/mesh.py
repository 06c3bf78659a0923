"""Closed triangle meshes from masks and level fields, with every voxel centre on its side and the voxels' volume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, gaussian_filter
from skimage.measure import marching_cubes

from contour_ai.box import Box, bounding_box, with_margin
from contour_ai.grid import Grid

ToLps = Callable[[NDArray[np.float64]], NDArray[np.float64]]

VOLUME_TOLERANCE = 0.005
"""Of the volume: the search stops here, below the 1 % that is promised; a field is changed no further."""
MOST_TRIES = 14
PAD = 2
"""Voxels around the box: one for the surface, one for the smoothing."""
SMOOTHING_VOXELS = 0.8
"""Sigma of the smoothing of a mask: rounds the stairs of voxels off, moves no voxel's centre to the other side."""
LEAST_SMOOTHED = np.float32(0.1)
"""Of one half: no voxel is smoothed away further."""
LEAST_LEVEL = 0.05
"""Of the usual value beside the surface: less would put the surface onto a voxel centre, a triangle of no area."""
FIRST_STEP = 0.25
LARGEST_POWER = 6.0
"""Of e: values inside are multiplied by that much at most, where the surface touches the centres outside."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Mesh:
    """A closed surface.

    Args:
        vertices_lps: (V, 3) float64, LPS mm.
        faces: (F, 3) int32, vertex numbers counter-clockwise seen from outside.
    """

    vertices_lps: NDArray[np.float64]
    faces: NDArray[np.int32]

    @property
    def volume_cm3(self) -> float:
        """What the surface encloses, by the divergence theorem."""
        return _signed_volume_mm3(self.vertices_lps, self.faces) / 1000


EMPTY = Mesh(vertices_lps=np.zeros((0, 3)), faces=np.zeros((0, 3), np.int32))


def mesh_of_mask(mask: NDArray[np.bool_], grid: Grid, *, box: Box | None = None) -> Mesh:
    """The smooth surface of a mask.

    The surface runs half-way between voxel centres inside and outside, smoothed by `SMOOTHING_VOXELS`; at the ends of
    the scan it is closed where the outer slices end.

    Args:
        mask: (k, i, j) on `grid`, or the part in `box`.
        box: where `mask` lies on the grid.
    """
    start = np.zeros(3, int) if box is None else np.array([s.start for s in box])
    held = bounding_box(mask)
    if held is None:
        return EMPTY
    inside = np.pad(mask[held], PAD)
    field = smoothed(gaussian_filter(inside.astype(np.float32), SMOOTHING_VOXELS) - np.float32(0.5), inside)
    first = start + [s.start for s in held]
    return closed_mesh(
        field, inside, volume_cm3(mask[held], grid, first), lambda at: grid.index_to_lps(at + first)
    )


def smoothed(field: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """A smoothed field; where smoothing would take a thin part away, or close a thin gap, the mask counts."""
    return np.where(inside, np.maximum(field, LEAST_SMOOTHED), np.minimum(field, -LEAST_SMOOTHED))


def mesh_of_field(level: NDArray[np.floating], grid: Grid, box: Box) -> Mesh:
    """The surface of a level field, as a network gives it: positive inside.

    Args:
        level: (k, i, j), the part of the grid in `box`.
    """
    start = np.array([s.start for s in box])
    held = bounding_box(level > 0)
    if held is None:
        return EMPTY
    # The field around what is inside; beyond the box it goes on as the negative of its border.
    wide = with_margin(held, (PAD, PAD, PAD), level.shape)
    part = np.asarray(level[wide], np.float32)
    missing = [(PAD - (s.start - w.start), PAD - (w.stop - s.stop)) for s, w in zip(held, wide, strict=True)]
    field = np.pad(part, missing, mode="edge")
    beyond = np.pad(np.zeros(part.shape, bool), missing, constant_values=True)
    field[beyond] = -np.abs(field[beyond])
    first = start + [s.start for s in held]
    wanted_cm3 = volume_cm3(level[held] > 0, grid, first)
    return closed_mesh(field, field > 0, wanted_cm3, lambda at: grid.index_to_lps(at + first))


def volume_cm3(inside: NDArray[np.bool_], grid: Grid, first: NDArray[np.int64]) -> float:
    """The volume of the voxels of a part of the grid that begins at voxel `first`."""
    counts = np.count_nonzero(inside, axis=(1, 2))
    return float(counts @ grid.voxel_volumes_cm3[int(first[0]) : int(first[0]) + len(counts)])


def closed_mesh(
    field: NDArray[np.float32], inside: NDArray[np.bool_], wanted_cm3: float, to_lps: ToLps
) -> Mesh:
    """The surface between the centres inside and those outside, as far out as the volume asks for.

    Where between two centres it runs is the ratio of their values; values inside are multiplied by one factor, which is
    searched for. Whatever the factor, no centre changes sides.

    Args:
        field: (k, i, j) with `PAD` voxels around what is inside.
        wanted_cm3: what the surface is to enclose.
        to_lps: (N, 3) indices, counted from the first voxel after the padding, to LPS mm.
    """
    border = inside & ~binary_erosion(inside)
    least = LEAST_LEVEL * (float(np.median(np.abs(field[border]))) or 1.0)
    field = np.where(inside, np.maximum(field, least), np.minimum(field, -least))
    power, below, above = 0.0, (-LARGEST_POWER, -1.0), (LARGEST_POWER, 1.0)
    bracketed = 0
    for _ in range(MOST_TRIES):
        mesh = _at(field, inside, float(np.exp(power)), to_lps)
        error = mesh.volume_cm3 / wanted_cm3 - 1
        if abs(error) <= VOLUME_TOLERANCE:
            break
        bracketed |= 1 if error < 0 else 2
        below, above = ((power, error), above) if error < 0 else (below, (power, error))
        if bracketed < 3:  # everything was too small, or too large, so far
            reach = 4 * max(FIRST_STEP, abs(power)) if power else FIRST_STEP
            power = min(reach, LARGEST_POWER) if error < 0 else -min(reach, LARGEST_POWER)
        else:
            share = float(np.clip(-below[1] / (above[1] - below[1]), 0.15, 0.85))
            power = below[0] + share * (above[0] - below[0])
    return mesh


def _at(field: NDArray[np.float32], inside: NDArray[np.bool_], factor: float, to_lps: ToLps) -> Mesh:
    values = np.where(inside, field * np.float32(factor), field)
    vertices, faces, _, _ = marching_cubes(values, 0.0)  # type: ignore[no-untyped-call]
    points = to_lps(vertices.astype(np.float64) - PAD)
    faces = faces.astype(np.int32)
    if (
        _signed_volume_mm3(points, faces) < 0
    ):  # axes that are left-handed in the patient turn every triangle round
        faces = faces[:, ::-1]
    return Mesh(vertices_lps=points, faces=np.ascontiguousarray(faces))


def _signed_volume_mm3(points: NDArray[np.float64], faces: NDArray[np.int32]) -> float:
    if not len(faces):
        return 0.0
    a, b, c = (points[faces[:, n]] - points.mean(axis=0) for n in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum()) / 6
