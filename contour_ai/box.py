"""The part of a voxel grid that holds a mask, as an index: `array[box]`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Box = tuple[slice, slice, slice]
"""Slices along k, i and j, each with a start and a stop."""


def bounding_box(mask: NDArray[np.bool_]) -> Box | None:
    """The smallest box that holds every True voxel of a mask (k, i, j); None where there is none."""
    along_k = np.array([image.any() for image in mask], dtype=bool)  # stops at the first voxel of a slice
    if not along_k.any():
        return None
    k = _from_first_to_last(along_k)
    flat: NDArray[np.bool_] = np.logical_or.reduce(mask[k], axis=0)
    rows, columns = (np.logical_or.reduce(flat, axis=axis) for axis in (1, 0))
    return k, _from_first_to_last(rows), _from_first_to_last(columns)


def with_margin(box: Box, margin_kij: Sequence[int], shape_kij: Sequence[int]) -> Box:
    """A box with so many more voxels on either side along k, i and j, as far as the grid goes."""
    k, i, j = (
        slice(max(s.start - m, 0), min(s.stop + m, n))
        for s, m, n in zip(box, margin_kij, shape_kij, strict=True)
    )
    return k, i, j


def _from_first_to_last(occupied: NDArray[np.bool_]) -> slice:
    found = np.flatnonzero(occupied)
    return slice(int(found[0]), int(found[-1]) + 1)
