"""Solids with an analytic volume as regions on grids of any kind, for the tests of derived structures."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contour_ai.derived.region import Region
from contour_ai.grid import Grid
from contour_ai.polygons import polygon_area

POINTS = 360


def axial_grid(dz: float = 3.0, pixel: tuple[float, float] = (1.0, 1.0), size_mm: float = 100.0) -> Grid:
    """A cube of `size_mm` with its middle at the origin."""
    shape = (int(size_mm / dz), int(size_mm / pixel[0]), int(size_mm / pixel[1]))
    return Grid.axial(shape, (dz, *pixel), (-size_mm / 2, -size_mm / 2, -size_mm / 2))


def unequal_grid() -> Grid:
    """Slices 2 to 4 mm apart."""
    z = np.cumsum(np.tile([2.0, 4.0, 3.0, 2.5], 10)) - 55
    positions = np.column_stack([np.full(len(z), -50.0), np.full(len(z), -50.0), z])
    return Grid(
        shape_kij=(len(z), 100, 100),
        positions_lps=positions,
        step_i_lps=np.array([0, 1.0, 0]),
        step_j_lps=np.array([1.0, 0, 0]),
    )


def tilted_grid(degrees: float = 20.0) -> Grid:
    """A gantry tilt: slices across a tilted axis, stacked along the patient's."""
    a = np.radians(degrees)
    step_i = np.array([0.0, np.cos(a), np.sin(a)])
    positions = np.array([-50.0, -50.0, -65.0]) + np.arange(40)[:, None] * np.array([0.0, 0.0, 3.0])
    return Grid(
        shape_kij=(40, 110, 100), positions_lps=positions, step_i_lps=step_i, step_j_lps=np.array([1.0, 0, 0])
    )


def oblique_grid() -> Grid:
    """Slices turned about two axes."""
    row = np.array([0.9, 0.3, 0.2])
    row /= np.linalg.norm(row)
    column = np.cross([-0.1, -0.2, 1.0], row)
    column /= np.linalg.norm(column)
    normal = np.cross(row, column)
    middle = np.array([49.5, 49.5])
    origin = -middle[0] * column - middle[1] * row - 19 * 2.5 * normal
    return Grid(
        shape_kij=(39, 100, 100),
        positions_lps=origin + np.arange(39)[:, None] * 2.5 * normal,
        step_i_lps=column,
        step_j_lps=row,
    )


def ball(grid: Grid, centre: ArrayLike, radius: float) -> Region:
    """A sphere: on each slice a polygon of the circle's area."""
    centre = np.asarray(centre, np.float64)
    angle = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
    along_i = grid.step_i_lps / np.linalg.norm(grid.step_i_lps)
    along_j = grid.step_j_lps / np.linalg.norm(grid.step_j_lps)
    swell = np.sqrt(np.pi / (POINTS / 2 * np.sin(2 * np.pi / POINTS)))
    slices = {}
    for k, height in enumerate(grid.slice_offsets_mm.tolist()):
        away = height - float(centre @ grid.normal)
        if abs(away) < radius:
            r = np.sqrt(radius**2 - away**2) * swell
            points = (
                centre
                + away * grid.normal
                + r * (np.cos(angle)[:, None] * along_i + np.sin(angle)[:, None] * along_j)
            )
            slices[k] = [grid.lps_to_index(points)[:, 1:]]
    return Region(slices, grid)


def block(grid: Grid, low: ArrayLike, high: ArrayLike) -> Region:
    """A box on an axial grid, on the slices within it."""
    (x0, y0, z0), (x1, y1, z1) = np.asarray(low, float), np.asarray(high, float)
    slices = {}
    for k, z in enumerate(grid.positions_lps[:, 2].tolist()):
        if z0 <= z <= z1:
            corners = np.array([[x0, y0, z], [x1, y0, z], [x1, y1, z], [x0, y1, z]])
            slices[k] = [grid.lps_to_index(corners)[:, 1:]]
    return Region(slices, grid)


def polygon_volume_cm3(region: Region) -> float:
    """Volume between the polygons, each slice with its own width."""
    grid = region.grid
    pixel = grid.spacing_mm[1] * grid.spacing_mm[2]
    return sum(
        abs(sum(polygon_area(p) for p in polygons)) * pixel * float(grid.slice_widths_mm[k]) / 1000
        for k, polygons in region.slices.items()
    )


def sphere_cm3(radius: float) -> float:
    """Volume of a sphere."""
    return 4 / 3 * np.pi * radius**3 / 1000


def extent(region: Region) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(lowest, highest) LPS coordinates of the contours."""
    points = np.concatenate(
        [
            region.grid.index_to_lps(np.column_stack([np.full(len(p), float(k)), p]))
            for k, polygons in region.slices.items()
            for p in polygons
        ]
    )
    return points.min(axis=0), points.max(axis=0)
