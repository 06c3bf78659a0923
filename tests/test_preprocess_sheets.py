"""Bolus on the skin is no part of the body; skin, fat and muscle that rise and fall like one are."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from test_preprocess_devices import (
    AIR_HU,
    FAT_HU,
    MUSCLE_HU,
    SKIN_HU,
    X,
    Y,
    Z,
    missing_and_extra_cm3,
    trunk,
)

from contour_ai.grid import Grid
from contour_ai.preprocess import body as body_module
from contour_ai.preprocess import body_mask
from contour_ai.volume import Volume

Bool = NDArray[np.bool_]


def layer(
    thick_mm: float, *, side: str, width: float = 50.0, length: float = 40.0, tilt: float = 0.0
) -> Bool:
    """What lies on the trunk's front, back or left, so thick; `tilt` moves its ends by so many mm of width."""
    away = np.hypot(X / (70 + thick_mm), Y / (50 + thick_mm))
    on = (away < 1) & (np.hypot(X / 70, Y / 50) >= 1)
    across, towards = {"front": (X, -Y), "back": (X, Y), "left": (Y, X)}[side]
    found: Bool = on & (towards > 0) & (np.abs(across) < width) & (np.abs(Z + tilt * across) < length)
    return found


@pytest.mark.parametrize("side", ["front", "back", "left"])
@pytest.mark.parametrize(("thick_mm", "hu"), [(6.0, 0), (8.0, 80), (10.0, 120)])
def test_bolus_is_no_part_of_the_body(side: str, thick_mm: float, hu: int) -> None:
    patient = trunk()
    bolus = layer(thick_mm, side=side, width=35.0 if side == "left" else 50.0)
    missing, extra = missing_and_extra_cm3(patient, np.where(bolus, hu, patient).astype(np.int16))
    assert missing < 2.0
    assert extra < 0.25 * np.count_nonzero(bolus) * 0.02


def test_bolus_that_bridges_a_hollow_goes_and_the_hollow_stays() -> None:
    patient = trunk()
    patient[(np.abs(X) < 12) & (Y < -40)] = AIR_HU
    bolus = layer(8.0, side="front")
    missing, extra = missing_and_extra_cm3(patient, np.where(bolus, 80, patient).astype(np.int16))
    assert missing < 2.0
    # Air that is enclosed in a slice counts as the patient's.
    assert extra < 0.6 * np.count_nonzero(bolus) * 0.02


def skin_over(thick_mm: float, inner_hu: int) -> NDArray[np.int16]:
    """HU of a patient whose front rises by a fold with square ends: skin of 2.5 mm over something else."""
    hu = trunk()
    fold = layer(thick_mm, side="front")
    hu[fold] = inner_hu
    hu[fold & ~layer(thick_mm - 2.5, side="front", width=47.5, length=37.5)] = SKIN_HU
    return hu


@pytest.mark.parametrize(
    ("thick_mm", "inner_hu"), [(8.0, FAT_HU), (12.0, FAT_HU), (18.0, FAT_HU), (16.0, -60)]
)
def test_a_fold_of_fat_stays(thick_mm: float, inner_hu: int) -> None:
    missing, extra = missing_and_extra_cm3(hu := skin_over(thick_mm, inner_hu), hu)
    assert missing < 2.0 and extra < 5.0


def test_a_round_part_of_muscle_stays() -> None:
    """It rises and falls over several slices."""
    hu = trunk()
    bump = np.hypot(np.hypot(X / 45, (Y + 50) / 16), Z / 45) < 1
    hu[bump & (hu == AIR_HU)] = MUSCLE_HU
    missing, extra = missing_and_extra_cm3(hu, hu)
    assert missing < 2.0 and extra < 5.0


def test_what_ends_at_one_end_alone_stays() -> None:
    """A chin: the front rises at once, and falls nowhere."""
    hu = trunk()
    chin = layer(10.0, side="front", length=1e9) & (Z > -20)
    hu[chin] = MUSCLE_HU
    missing, extra = missing_and_extra_cm3(hu, hu)
    assert missing < 2.0 and extra < 5.0


FINE = Grid.axial((9, 240, 300), (5.0, 1.0, 1.0))


def neck_and(thing: str) -> tuple[NDArray[np.int16], Bool]:
    """HU of a neck in pixels of 1 mm with something thin at its skin, and what of it is patient."""
    _, i, j = np.indices(FINE.shape_kij)
    y, x = i - 119.5, j - 149.5
    away = np.hypot(x / 70, y / 60)
    hu = np.full(FINE.shape_kij, AIR_HU, np.int16)
    for inside, value in ((1.0, SKIN_HU), (0.96, FAT_HU), (0.85, MUSCLE_HU)):
        hu[away < inside] = value
    hu[np.hypot(x, y - 20) < 14] = 900
    patient = hu > -300
    shell = (np.hypot(x / 71.5, y / 61.5) >= 1) & (np.hypot(x / 74, y / 64) < 1)
    if thing == "mask":
        hu[shell & (y < 20)] = 0
    elif thing == "mask that touches the nose":
        nose = (np.abs(x) < 8) & (y < -55) & (y > -65)
        hu[nose | (shell & (y < 20))] = 0
        patient = patient | nose
    elif thing == "ears":
        ears = (np.abs(np.abs(x) - 72) < 1.6) & (np.abs(y - x * 0.1) < 20)
        ears |= (np.abs(x) > 68) & (np.abs(x) < 74) & (np.abs(y) < 5)
        hu[ears] = SKIN_HU
        patient = patient | ears
    noisy = hu + np.random.default_rng(5).normal(0, 20, hu.shape)
    return noisy.astype(np.int16), patient


@pytest.mark.parametrize("thing", ["mask", "mask that touches the nose"])
def test_a_mask_over_a_thin_layer_of_air_is_no_part_of_the_body(thing: str) -> None:
    hu, patient = neck_and(thing)
    found = body_mask(Volume(hu, FINE))
    cm3 = float(np.prod(FINE.spacing_mm)) / 1000
    assert np.count_nonzero(patient & ~found) * cm3 < 1.0
    shell = np.count_nonzero((hu > -300) & ~patient) * cm3
    assert shell > 20 and np.count_nonzero(found & ~patient) * cm3 < 0.15 * shell


def test_ears_are_as_thin_as_a_mask_and_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    hu, patient = neck_and("ears")
    found = body_mask(Volume(hu, FINE))
    monkeypatch.setattr(body_module, "_without_shells", lambda tissue, pixel_mm: tissue)
    np.testing.assert_array_equal(found, body_mask(Volume(hu, FINE)))
    assert np.count_nonzero(patient & ~found) < 0.005 * np.count_nonzero(patient)
