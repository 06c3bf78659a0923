"""Holes are filled within slices, never across them."""

from __future__ import annotations

import numpy as np

from contour_ai.holes import fill_slice, fill_slices


def test_a_hole_is_filled_and_a_bay_is_not() -> None:
    mask = np.zeros((3, 7, 7), bool)
    mask[0, 1:6, 1:6] = mask[1, 1:6, 1:6] = True
    mask[0, 3, 3] = mask[1, 3, 3:] = False
    filled = fill_slices(mask)
    assert filled[0, 3, 3] and not filled[1, 3, 3:].any() and not filled[2].any()
    assert np.count_nonzero(filled ^ mask) == 1


def test_background_that_touches_at_a_corner_only_is_a_hole() -> None:
    mask = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], bool)
    assert fill_slice(mask)[1, 1] and np.count_nonzero(fill_slice(mask)) == 5


def test_slices_alone_and_together_are_the_same() -> None:
    mask = np.random.default_rng(0).random((5, 30, 40)) < 0.6
    np.testing.assert_array_equal(fill_slices(mask), [fill_slice(plane) for plane in mask])
    assert fill_slices(np.zeros((0, 3, 3), bool)).shape == (0, 3, 3)
