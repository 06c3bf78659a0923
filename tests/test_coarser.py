"""Images with coarser voxels: extent and mean stay, whatever the sizes."""

from __future__ import annotations

import numpy as np
import pytest

from contour_ai.preprocess.coarser import coarser_shape, coarser_spacing, to_coarser


def test_shape_and_spacing_cover_the_same_extent() -> None:
    shape = coarser_shape((60, 101, 7), (2.5, 4.0, 4.0), (3.75, 6.0, 6.0))
    assert shape == (40, 67, 5)
    spacing = coarser_spacing((60, 101, 7), (2.5, 4.0, 4.0), shape)
    assert np.allclose(np.multiply(shape, spacing), np.multiply((60, 101, 7), (2.5, 4.0, 4.0)))
    assert coarser_shape((1, 2, 3), (1.0, 1.0, 1.0), (9.0, 9.0, 0.5)) == (1, 1, 3)  # never finer


@pytest.mark.parametrize("shape", [(6, 5, 4), (4, 4, 4), (3, 7, 2), (9, 9, 9)])
def test_a_linear_image_stays_linear(shape: tuple[int, int, int]) -> None:
    k, i, j = np.indices((9, 9, 9), np.float32)
    image = 2 * k - i + 3 * j
    coarse = to_coarser(image, shape)
    assert coarse.shape == shape
    centres = [(np.arange(n) + 0.5) * 9 / n - 0.5 for n in shape]
    wanted = 2 * centres[0][:, None, None] - centres[1][None, :, None] + 3 * centres[2][None, None, :]
    inner = tuple(slice(1, -1) if n > 2 else slice(None) for n in shape)
    assert np.allclose(coarse[inner], wanted[inner], atol=0.3 if min(shape) < 4 else 0.05)
    assert np.allclose(to_coarser(np.full((9, 9, 9), -1024, np.int16), shape), -1024)
