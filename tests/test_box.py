"""The box around a mask."""

from __future__ import annotations

import numpy as np

from contour_ai.box import bounding_box, with_margin


def test_the_box_holds_every_voxel_and_no_row_more() -> None:
    mask = np.zeros((4, 6, 8), bool)
    mask[1, 2, 7] = mask[2, 5, 3] = True
    assert bounding_box(mask) == (slice(1, 3), slice(2, 6), slice(3, 8))
    assert np.count_nonzero(mask[bounding_box(mask)]) == 2


def test_of_nothing_there_is_no_box() -> None:
    assert bounding_box(np.zeros((3, 4, 5), bool)) is None
    assert bounding_box(np.zeros((0, 4, 5), bool)) is None


def test_a_margin_ends_at_the_edge_of_the_grid() -> None:
    box = slice(1, 3), slice(2, 6), slice(3, 8)
    assert with_margin(box, (2, 1, 1), (9, 9, 8)) == (slice(0, 5), slice(1, 7), slice(2, 8))
    assert with_margin(box, (0, 0, 0), (9, 9, 8)) == box
