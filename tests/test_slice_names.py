"""Slices are named from 1, with their position."""

from __future__ import annotations

import numpy as np

from contour_ai.grid import Grid
from contour_ai.slice_names import slice_text, slices_text


def axial() -> Grid:
    """Ten slices, 3 mm apart, the first at z = -14 mm."""
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, :3] = np.array([[0, 0, 1.0], [0, 1.0, 0], [3.0, 0, 0]])
    affine[:3, 3] = (-10, -20, -14)
    return Grid.from_affine((10, 5, 7), affine)


def test_one_slice_has_its_number_from_1_and_its_position() -> None:
    assert slice_text(axial(), 0) == "slice 1 (z = -14.0 mm)"
    assert slice_text(axial(), 5) == "slice 6 (z = +1.0 mm)"


def test_runs_are_joined() -> None:
    assert slices_text(axial(), [7, 2, 3, 4, 2]) == "slices 3-5, 8 (z = -8.0 to +7.0 mm)"
    assert slices_text(None, [0, 9]) == "slices 1, 10"
    assert slices_text(axial(), []) == "no slice"


def test_long_lists_end_in_dots_but_give_the_whole_extent() -> None:
    assert slices_text(None, range(0, 20, 2)) == "slices 1, 3, 5, 7, 9, 11, ..."


def test_sagittal_slices_are_placed_along_x() -> None:
    affine = np.eye(4)
    affine[:3, :3] = np.array([[3.0, 0, 0], [0, 0, 1.0], [0, 1.0, 0]])
    grid = Grid.from_affine((4, 5, 7), affine)
    assert slice_text(grid, 1) == "slice 2 (x = +3.0 mm)"
