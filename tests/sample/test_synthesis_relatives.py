"""Relatives of a contoured patient: image and contours move together, organs change size, a seed gives one relative."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from contour_ai.sample.synthesis.recipe import PoseConfig, RelativeConfig, SynthesisRecipe
from contour_ai.sample.synthesis.relatives import draw_relative

MM = (4.0, 3.0, 3.0)
STILL = SynthesisRecipe(
    pose=PoseConfig(scale=(1.0, 1.0), stretch=0.0, rotation_deg=0.0, bend_mm=((0.0, 0.0), (0.0, 0.0))),
    relatives=RelativeConfig(
        organ_mm=(0.0, 0.0),
        organ_hu=0.0,
        tissue_hu=0.0,
        lung_hu=0.0,
        bone_factor=(1.0, 1.0),
        texture_hu=0.0,
        noise_hu=0.0,
        blur_probability=0.0,
    ),
)


@pytest.fixture(scope="module")
def patient() -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """A body of 0 HU with a bright ball (ROI 0), a rod (ROI 1) and a ROI without a voxel (2)."""
    k, i, j = np.ogrid[:24, :48, :48]
    hu = np.full((24, 48, 48), -1000, np.int16)
    hu[(i - 24) ** 2 + (j - 24) ** 2 + 0 * k < 400] = 0
    ball = ((k - 12) * 4.0) ** 2 + ((i - 20) * 3.0) ** 2 + ((j - 30) * 3.0) ** 2 < 18.0**2
    rod = ((i - 30) ** 2 + (j - 18) ** 2 + 0 * k) < 3
    hu[ball] = 100
    hu[rod] = 200
    return hu, (ball * 1 + rod * 2).astype(np.uint8)


def test_without_changes_it_is_the_patient(patient: tuple[NDArray[np.int16], NDArray[np.uint8]]) -> None:
    hu, bits = patient
    drawn = draw_relative(hu, bits, 3, MM, STILL, 1)
    assert np.array_equal(drawn.hu, hu) and np.array_equal(drawn.bits, bits)


def test_a_seed_gives_one_relative_and_others_another(
    patient: tuple[NDArray[np.int16], NDArray[np.uint8]],
) -> None:
    first, again, other = (draw_relative(*patient, 3, MM, SynthesisRecipe(), seed) for seed in (5, 5, 6))
    assert np.array_equal(first.hu, again.hu) and np.array_equal(first.bits, again.bits)
    assert first.hu.shape != other.hu.shape or not np.array_equal(first.bits, other.bits)
    assert not (first.bits & 4).any()  # what the patient has not, no relative has


@pytest.mark.parametrize("seed", range(4))
def test_image_and_contours_move_together(
    patient: tuple[NDArray[np.int16], NDArray[np.uint8]], seed: int
) -> None:
    quiet = replace(STILL, pose=PoseConfig(), relatives=replace(STILL.relatives, organ_mm=(-3.0, 3.0)))
    drawn = draw_relative(*patient, 3, MM, quiet, seed)
    bright, ball = drawn.hu > 50, (drawn.bits & 1).astype(bool)
    near = ndimage.binary_dilation(ball, iterations=2)
    seen = bright & near
    assert 2 * np.count_nonzero(seen & ball) / (np.count_nonzero(seen) + np.count_nonzero(ball)) > 0.93
    rod = (drawn.bits & 2).astype(bool)
    assert rod.any(axis=(1, 2)).sum() > 14  # as long as it was, and no thinner than a voxel


@pytest.mark.parametrize("outwards_mm", [-3.0, 3.0])
def test_an_organ_grows_as_far_as_the_recipe_says(
    patient: tuple[NDArray[np.int16], NDArray[np.uint8]], outwards_mm: float
) -> None:
    grown = replace(STILL, relatives=replace(STILL.relatives, organ_mm=(outwards_mm, outwards_mm)))
    drawn = draw_relative(*patient, 3, MM, grown, 1)
    ball = np.count_nonzero(drawn.bits & 1) * np.prod(MM)
    radius = (ball * 3 / (4 * np.pi)) ** (1 / 3)
    assert radius == pytest.approx(18.0 + outwards_mm, abs=0.9)
