"""Fills holes of masks, slice by slice: background that cannot be reached from the border of its slice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def fill_slice(mask_ij: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """One slice (i, j) with its holes filled; background is connected over edges of pixels."""
    background, count = ndimage.label(np.pad(~mask_ij, 1, constant_values=True))
    if count <= 1:
        return mask_ij
    filled: NDArray[np.bool_] = (background != background[0, 0])[1:-1, 1:-1]
    return filled


def fill_slices(mask_kij: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """`fill_slice` of every slice of a mask (k, i, j)."""
    padded = np.pad(~mask_kij, [(0, 0), (1, 1), (1, 1)], constant_values=True)
    within = ndimage.generate_binary_structure(3, 1)
    within[[0, 2]] = False  # slices are no neighbours
    background, _ = ndimage.label(padded, within)
    outer = background[:, :1, :1]
    filled: NDArray[np.bool_] = (background != outer)[:, 1:-1, 1:-1]
    return filled
