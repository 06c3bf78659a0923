"""The steps of a drawing one by one: noise, growth of organs, streaks of metal, hulls."""

from __future__ import annotations

import numpy as np
import pytest

from contour_ai.sample.shapes import RandomDraws
from contour_ai.sample.synthesis.hulls import Build, Landmarks, hulls_of
from contour_ai.sample.synthesis.implants import Implants, add_streaks
from contour_ai.sample.synthesis.noise import linear_upsampled, smooth_noise
from contour_ai.sample.synthesis.organs import behind_pubis, resized, volume_cm3
from contour_ai.sample.synthesis.scene import Scene
from contour_ai.sample.synthesis.tissues import Tissue

SPACING = (3.0, 3.0, 3.0)


def scene(shape: tuple[int, int, int] = (24, 40, 50)) -> Scene:
    middle = (shape[2] - 1) / 2 * SPACING[2]
    heads = (np.array([30.0, 60.0, middle + 30]), np.array([30.0, 60.0, middle - 30]))
    return Scene(
        codes=np.zeros(shape, np.uint8),
        spacing_mm=SPACING,
        heads_mm=heads,
        hips_end_mm=0.0,
        female=False,
        draws=RandomDraws(np.random.RandomState(1)),
    )


def test_noise_is_standard_smooth_and_the_same_for_the_same_state() -> None:
    field = smooth_noise(np.random.RandomState(3), (30, 40, 50), SPACING, 18.0)
    assert field.shape == (30, 40, 50)
    assert field.mean() == pytest.approx(0, abs=1e-4) and field.std() == pytest.approx(1, abs=1e-4)
    assert np.abs(np.diff(field, axis=2)).mean() < 0.35
    np.testing.assert_array_equal(field, smooth_noise(np.random.RandomState(3), (30, 40, 50), SPACING, 18.0))


@pytest.mark.parametrize("shape", [(9, 7, 11), (10, 8, 12)])
def test_upsampling_keeps_a_linear_field(shape: tuple[int, int, int]) -> None:
    k, i, j = np.indices(shape)
    field = (2.0 * k - i + 0.5 * j).astype(np.float32)
    inner = tuple(slice(0, n - (n - 1) % 2) for n in shape)
    found = linear_upsampled(field[::2, ::2, ::2], shape, (2, 2, 2))
    np.testing.assert_allclose(found[inner], field[inner], atol=1e-5)


@pytest.mark.parametrize("target", [15.0, 60.0])
def test_an_organ_takes_the_volume_asked_for_in_one_part_and_stays_where_it_may_grow(target: float) -> None:
    drawing = scene()
    organ = drawing.ellipsoid((36.0, 60.0, 75.0), (18.0, 18.0, 18.0))
    allowed = np.ones(organ.shape, bool)
    allowed[:, :, 30:] = False
    grown = resized(drawing, organ, allowed, target, roughness_mm=1.0)
    assert volume_cm3(drawing, grown) == pytest.approx(target, rel=0.15)
    assert not (grown & ~(allowed | organ)).any()


def test_organs_grow_behind_the_pubic_bones_and_not_through_the_symphysis() -> None:
    drawing = scene()
    middle = drawing.midline
    drawing.codes[4:8, 10:14, middle - 9 : middle - 1] = Tissue.HIP_RIGHT
    drawing.codes[4:8, 10:14, middle + 2 : middle + 10] = Tissue.HIP_LEFT
    drawing.codes[10:12, 10:14, middle - 9 : middle - 5] = Tissue.HIP_RIGHT
    drawing.codes[10:12, 10:14, middle + 6 : middle + 10] = Tissue.HIP_LEFT
    behind = behind_pubis(drawing)
    assert not behind[5, :14, middle].any() and behind[5, 14:, middle].all()
    assert not behind[5, :, 0].any()
    assert behind[11, 5, middle]  # above the symphysis there is no bone in front
    assert behind[20].all()


def test_streaks_lie_in_the_slices_of_metal_dark_and_bright_and_fade() -> None:
    drawing = scene((8, 60, 60))
    drawing.codes[:] = Tissue.LOOSE_MUSCLE
    metal = drawing.ellipsoid((12.0, 90.0, 45.0), (5.0, 14.0, 14.0))
    metal |= drawing.ellipsoid((12.0, 90.0, 135.0), (5.0, 14.0, 14.0))
    hu = np.full(drawing.codes.shape, 50.0, np.float32)
    add_streaks(drawing, hu, Implants(large=metal, small=metal & False, replaced=(True, True)), 1.0)
    shown = metal.any(axis=(1, 2))
    assert (hu[~shown] == 50).all() and (hu[metal] == 50).all()
    k = int(np.flatnonzero(shown)[len(np.flatnonzero(shown)) // 2])
    assert hu[k, 30, 30] < 40  # the dark band between two hips
    assert hu[k].max() > 60
    assert np.abs(hu[k, :6, :6] - 50).mean() < np.abs(hu[k, 24:36, 24:36] - 50).mean()


def test_without_metal_nothing_changes() -> None:
    drawing = scene((6, 20, 20))
    hu = np.full(drawing.codes.shape, 50.0, np.float32)
    none = np.zeros(hu.shape, bool)
    add_streaks(drawing, hu, Implants(large=none, small=none, replaced=(False, False)), 1.0)
    assert (hu == 50).all()


def test_the_skin_lies_outside_the_muscle_and_as_far_as_the_fat_is_thick() -> None:
    codes = np.zeros((40, 50, 60), np.uint8)
    codes[:, 20:30, 20:40] = Tissue.COLON
    build = Build(fat=(20.0, 15.0, 10.0), belly=0.0, wall=8.0, thigh=30.0, gap=10.0)
    hulls = hulls_of(codes, SPACING, Landmarks(heads_height=-200, hips_end=-300, midline=88.5), build)
    inside_skin, inside_muscle = hulls.skin[20] < 0, hulls.muscle[20] < 0
    assert (inside_skin | ~inside_muscle).all()
    rows = {
        name: np.flatnonzero(mask[:, 30]) * 3.0
        for name, mask in (("skin", inside_skin), ("muscle", inside_muscle))
    }
    assert rows["muscle"][0] - rows["skin"][0] == pytest.approx(20, abs=4)
    assert rows["skin"][-1] - rows["muscle"][-1] == pytest.approx(10, abs=4)


def test_far_below_the_hips_there_are_two_thighs() -> None:
    codes = np.zeros((40, 40, 80), np.uint8)
    codes[:, 15:22, 10:18] = Tissue.FEMUR_RIGHT
    codes[:, 15:22, 62:70] = Tissue.FEMUR_LEFT
    build = Build(fat=(10.0, 10.0, 10.0), belly=0.0, wall=8.0, thigh=30.0, gap=30.0)
    hulls = hulls_of(codes, SPACING, Landmarks(heads_height=200, hips_end=150, midline=118.5), build)
    row = hulls.skin[3, 18] < 0
    assert row[14] and row[66] and not row[39]
