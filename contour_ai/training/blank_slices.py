"""Ends of a scan that are blank but for a margin around the contours, as cropped or masked archives have them.

There the image gives the answer away: a network that learns from such slices learns to fill what is not air, and one
that is measured on them looks better than it is.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

NEAR_CONTOUR_MM = 12.0
"""Within this distance of a contour, in its slice, an image may only be there because of the contour."""

NEAR_SHARE = 0.8
"""A slice is blank where so much of what is not air lies near contours. With brain or bone contoured, true slices can
be like that; they grow slowly out of their neighbours, blank ones do not."""

EDGE = 2.0
"""Where the area that is not air changes by this factor from one slice to the next, one may begin."""


def shown_slices(
    hu: NDArray[np.integer],
    contoured: NDArray[np.bool_],
    outside_hu: int,
    spacing_mm_kij: tuple[float, float, float],
) -> tuple[int, int]:
    """The slices from the first to before the last number that show the patient; the others, at the ends, are blank.

    Args:
        hu: (k, i, j) of a prepared patient, `outside_hu` outside the body.
        contoured: (k, i, j) of every organ that is contoured.

    Returns:
        (0, K) of a scan of K slices with nothing blank.
    """
    whole = (0, hu.shape[0])
    here = hu != outside_hu
    area = np.count_nonzero(here, axis=(1, 2))
    less, more = np.minimum(area[1:], area[:-1]), np.maximum(area[1:], area[:-1])
    bounds = [0, *(np.flatnonzero((more >= EDGE * less) & (more > 0)) + 1), hu.shape[0]]
    pieces = [slice(int(first), int(stop)) for first, stop in pairwise(bounds)]
    if len(pieces) == 1:
        return whole
    blank = _blank(here, area, contoured, spacing_mm_kij)
    lowest = highest = max(range(len(pieces)), key=lambda n: int(area[pieces[n]].sum()))
    while lowest > 0 and not blank[pieces[lowest - 1]].any():
        lowest -= 1
    while highest < len(pieces) - 1 and not blank[pieces[highest + 1]].any():
        highest += 1
    return pieces[lowest].start, pieces[highest].stop


def _blank(
    here: NDArray[np.bool_],
    area: NDArray[np.integer],
    contoured: NDArray[np.bool_],
    spacing_mm_kij: tuple[float, float, float],
) -> NDArray[np.bool_]:
    """(K,) of the slices in which contours account for what is not air."""
    slices = np.flatnonzero((area > 0) & contoured.any(axis=(1, 2)))
    near = contoured[slices]
    for axis in (1, 2):
        width = 2 * int(NEAR_CONTOUR_MM / spacing_mm_kij[axis]) + 1
        near = ndimage.maximum_filter1d(near.view(np.uint8), width, axis=axis, mode="constant").view(np.bool_)
    blank = np.zeros(area.shape, np.bool_)
    blank[slices] = np.count_nonzero(here[slices] & near, axis=(1, 2)) >= NEAR_SHARE * area[slices]
    return blank
