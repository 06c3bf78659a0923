"""Counting wrong voxels within boxes is the same as comparing whole volumes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from contour_ai.dicom.verify import _wrong_voxels
from contour_ai.polygons import stack_to_polygons

SHAPE = (5, 6, 7)
SPANS = [st.tuples(st.integers(0, n), st.integers(0, n)).map(sorted) for n in SHAPE]


@given(hnp.arrays(np.bool_, SHAPE), hnp.arrays(np.bool_, SHAPE), st.tuples(*SPANS), st.booleans())
def test_wrong_voxels(read: np.ndarray, meant: np.ndarray, spans: tuple, right: bool) -> None:
    k, i, j = (slice(a, b) for a, b in spans)
    whole = np.zeros(SHAPE, bool)
    whole[k, i, j] = meant[k, i, j]
    read = whole if right else read
    wrong = np.flatnonzero((read != whole).any(axis=(1, 2)))
    expected = int((read != whole).sum()), int(wrong[0]) if len(wrong) else -1
    assert _wrong_voxels(stack_to_polygons(read), (k, i, j), meant[k, i, j], SHAPE) == expected


def test_a_mask_that_does_not_fill_its_box() -> None:
    with pytest.raises(ValueError, match=r"a mask of shape \(1, 2, 3\) does not fill its box"):
        _wrong_voxels({}, (slice(0, 1), slice(0, 2), slice(0, 2)), np.ones((1, 2, 3), bool), SHAPE)
