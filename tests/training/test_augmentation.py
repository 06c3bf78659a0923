"""Augmentation keeps image, ROIs and presence together, and left left."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from training_cases import ROIS, ball, case

from contour_ai.training.augmentation import (
    Draw,
    affine_matrix,
    blurred,
    coarsened,
    draw,
    shade,
    streaked,
    unpack,
    view,
)
from contour_ai.training.config import AugmentationConfig
from contour_ai.volume import ABSENT, CONTOURED, UNKNOWN

MIRROR = (1, 0, 2)
SPACING = (2.5, 3.8, 3.8)
LEFT, RIGHT = 0, 1


def seen(chosen: Draw, presence=(True, True, True), size=(20, 24, 28), centre=None, states=None):  # type: ignore[no-untyped-def]
    one = case(5, presence=presence)
    return view(
        torch.from_numpy(one.hu),
        torch.from_numpy(one.bits),
        one.states if states is None else states,
        centre_kij=[(n - 1) / 2 for n in one.hu.shape] if centre is None else centre,
        size_kij=size,
        spacing_mm_kij=one.spacing_mm_kij,
        outside_hu=-1024,
        mirror=MIRROR,
        chosen=chosen,
    )


def centre_j(mask: torch.Tensor) -> float:
    return float(mask.nonzero()[:, 2].float().mean())


def test_nothing_drawn_changes_nothing() -> None:
    image, masks, presence = seen(Draw())
    one = case(5)
    np.testing.assert_array_equal(image.numpy(), one.hu)
    np.testing.assert_array_equal(masks.numpy(), unpack(torch.from_numpy(one.bits), 3).numpy())
    assert presence == [1, 1, 1]


def test_mirrored_twice_is_the_same() -> None:
    image, masks, presence = seen(Draw(), presence=(True, False, True))
    once, swapped, there = seen(Draw(flip=True), presence=(True, False, True))
    assert there == [0, 1, 1]
    assert torch.equal(once.flip(-1), image)
    assert torch.equal(swapped[list(MIRROR)].flip(-1), masks)
    assert [there[m] for m in MIRROR] == presence


def test_what_is_known_moves_with_the_side() -> None:
    presence = (True, False, False)
    _, _, states = seen(Draw(flip=True), presence=presence, states=(CONTOURED, ABSENT, UNKNOWN))
    assert states == [ABSENT, CONTOURED, UNKNOWN]
    _, _, states = seen(Draw(scale=1.2), presence=presence, states=(CONTOURED, ABSENT, UNKNOWN))
    assert states == [CONTOURED, ABSENT, UNKNOWN]


@pytest.mark.parametrize(
    "chosen", [Draw(), Draw(flip=True), Draw(flip=True, rotation_deg=(20.0, -15.0, 10.0), scale=1.2)]
)
def test_left_stays_left(chosen: Draw) -> None:
    _, masks, _ = seen(chosen)
    # j grows to the patient's left, so the left organ has the larger j in every view of a patient.
    assert centre_j(masks[LEFT]) > centre_j(masks[RIGHT])


def test_identity_through_interpolation_is_the_cut() -> None:
    exact, exact_masks, _ = seen(Draw())
    almost, masks, _ = seen(Draw(scale=1.0 + 1e-7))
    torch.testing.assert_close(almost, exact, rtol=0, atol=0.1)
    assert torch.equal(masks, exact_masks)


def test_interpolated_and_cut_agree_off_centre_and_outside() -> None:
    for centre in ([3.0, 20.0, 9.0], [19.0, 0.0, 27.0]):
        exact, exact_masks, _ = seen(Draw(), size=(9, 11, 13), centre=centre)
        almost, masks, _ = seen(Draw(scale=1.0 + 1e-7), size=(9, 11, 13), centre=centre)
        torch.testing.assert_close(almost, exact, rtol=0, atol=0.1)
        assert torch.equal(masks, exact_masks)


def test_a_quarter_turn_moves_voxels_to_where_they_belong() -> None:
    # About k by 90 degrees a voxel of the view at offset (0, i, j) shows the patient's at (0, -j, i).
    matrix = affine_matrix((90.0, 0.0, 0.0), 1.0, (3.0, 2.0, 2.0))
    np.testing.assert_allclose(matrix @ [0, 1, 0], [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(matrix @ [0, 0, 1], [0, -1, 0], atol=1e-12)
    # In millimetres: a turn about i takes one slice of 3 mm to 1.5 columns of 2 mm.
    np.testing.assert_allclose(
        np.abs(affine_matrix((0.0, 90.0, 0.0), 1.0, (3.0, 2.0, 2.0)) @ [1, 0, 0]), [0, 0, 1.5], atol=1e-12
    )


def test_scale_two_shows_eight_times_the_volume() -> None:
    shape = (32, 32, 32)
    mask = ball(shape, (15.5, 15.5, 15.5), 6).astype(np.uint8)
    _, masks, _ = view(
        torch.zeros(shape),
        torch.from_numpy(mask),
        [True],
        centre_kij=(15.5, 15.5, 15.5),
        size_kij=shape,
        spacing_mm_kij=(2.0, 2.0, 2.0),
        outside_hu=-1024,
        mirror=(0,),
        chosen=Draw(scale=2.0),
    )
    assert int(masks.sum()) == pytest.approx(8 * int(mask.sum()), rel=0.05)


def test_a_cut_scan_is_air_without_rois() -> None:
    image, masks, presence = seen(Draw(cut_low=0.2, cut_high=0.1))
    assert (image[:4] == -1024).all() and not masks[:, :4].any()
    assert (image[18:] == -1024).all()
    assert torch.equal(image[4:18], seen(Draw())[0][4:18])
    assert presence == [1, 1, 1]


def test_a_missing_roi_stays_missing_under_rotation() -> None:
    _, masks, presence = seen(Draw(rotation_deg=(10.0, 0.0, 0.0)), presence=(True, False, True))
    assert not masks[1].any() and presence == [True, False, True]


def test_shading_stays_in_range_and_does_what_it_says() -> None:
    image = torch.from_numpy(case(1).hu).float()
    windows = ((-160.0, 240.0), (-500.0, 1500.0))
    plain = shade(image, windows, SPACING, Draw())
    assert plain.shape == (2, *image.shape) and plain.dtype == torch.float32
    everything = Draw(
        noise_hu=50.0, blur_voxels=0.8, low_resolution=0.6, brightness=1.2, contrast=0.8, gamma=1.4, seed=4
    )
    changed = shade(image, windows, SPACING, everything)
    assert float(changed.min()) >= -1 and float(changed.max()) <= 1
    assert torch.equal(changed, shade(image, windows, SPACING, everything))
    assert not torch.equal(changed, shade(image, windows, SPACING, replace(everything, seed=5)))
    assert float(shade(image, windows, SPACING, Draw(brightness=1.2)).mean()) > float(plain.mean())
    inside = image > -200
    wide = shade(image, windows, SPACING, Draw(contrast=1.25))[0][inside].std()
    assert float(wide) > float(plain[0][inside].std())


def test_streaks_start_from_bone_and_fade() -> None:
    image = torch.zeros(21, 61, 61)
    image[:, :, :5] = -1024
    assert torch.equal(streaked(image, SPACING, 300.0, 1), image)  # no bone
    image[10, 30, 30] = 1000
    change = streaked(image, SPACING, 300.0, 1) - image
    torch.testing.assert_close(change, streaked(image, SPACING, 300.0, 1) - image)
    assert not torch.equal(change, streaked(image, SPACING, 300.0, 2) - image)
    assert change[10].abs().max() > 100 and not change[:, :, :5].any()
    near, far = change[10, 25:36, 25:36], change[10, :, 45:]
    assert near.std() > 2 * far.std() and change[10].std() > 10 * change[0].std()
    assert near.max() > 50 and near.min() < -50
    # As far in millimetres on a finer grid.
    fine = torch.zeros(42, 122, 122)
    fine[:, :, :10] = -1024
    fine[20, 60, 60] = 1000
    finer = streaked(fine, tuple(mm / 2 for mm in SPACING), 300.0, 1) - fine
    torch.testing.assert_close(finer[::2, ::2, ::2][:21, :61, :61], change, rtol=1e-4, atol=1e-2)


def test_blur_keeps_the_mean_of_a_point_and_coarsening_a_ramp() -> None:
    point = torch.zeros(15, 15, 15)
    point[7, 7, 7] = 1
    spread = blurred(point, 1.0)
    assert float(spread.sum()) == pytest.approx(1, abs=1e-5)
    variance = (spread.sum((1, 2)) * (torch.arange(15) - 7.0) ** 2).sum()
    assert float(variance) == pytest.approx(1.0, rel=0.03)
    ramp = torch.arange(32.0).view(-1, 1, 1).expand(32, 8, 8).contiguous()
    assert float((coarsened(ramp, 0.5) - ramp)[4:-4].abs().max()) <= 1.0


def test_strengths_and_probabilities_are_kept() -> None:
    rng = np.random.default_rng(0)
    config = AugmentationConfig()
    draws = [draw(rng, config) for _ in range(2000)]
    assert 0.45 < np.mean([d.flip for d in draws]) < 0.55
    assert 0.15 < np.mean([d.scale != 1 for d in draws]) < 0.25
    assert 0.25 < np.mean([d.gamma != 1 for d in draws]) < 0.35
    assert max(abs(d.rotation_deg[1]) for d in draws) <= config.rotation_deg
    assert all(0.7 <= d.scale <= 1.4 and d.noise_hu <= config.noise_hu for d in draws)


def test_switched_off_is_off() -> None:
    off = AugmentationConfig(
        flip=False,
        shift_mm=0,
        **{name: 0.0 for name in vars(AugmentationConfig()) if name.endswith("_probability")},
    )
    chosen = draw(np.random.default_rng(1), off)
    assert replace(chosen, seed=0) == Draw()
    assert len(ROIS) == len(MIRROR)
