"""What lies at the patient goes, what is the patient stays: blocks, boards and rods against limbs, folds and hands."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from contour_ai.grid import Grid
from contour_ai.preprocess import body as body_module
from contour_ai.preprocess import body_mask
from contour_ai.volume import Volume

Bool = NDArray[np.bool_]

GRID = Grid.axial((24, 130, 170), (5.0, 2.0, 2.0))
Z, Y, X = (
    step * np.indices(GRID.shape_kij)[axis] - middle
    for axis, (step, middle) in enumerate(((5.0, 57.5), (2.0, 129.0), (2.0, 169.0)))
)
"""mm from the middle: towards the head, the back and the left."""

SKIN_HU, FAT_HU, MUSCLE_HU, BONE_HU, AIR_HU = 10, -100, 55, 900, -1000


def limb(
    x: float, y: float, radius: float, *, bone: float | None = None, height: float = 1e9
) -> NDArray[np.int16]:
    """HU of an upright limb: bone of a quarter of its radius, muscle, fat, skin; air outside."""
    away = np.hypot(X - x, Y - y)
    away = np.where(np.abs(Z) < height, away, 1e9)
    bone = radius / 4 if bone is None else bone
    hu = np.full(GRID.shape_kij, AIR_HU, np.int16)
    for inside, value in (
        (radius, SKIN_HU),
        (radius - 2.5, FAT_HU),
        (0.8 * radius, MUSCLE_HU),
        (bone, BONE_HU),
    ):
        hu[away < inside] = value
    return hu


def trunk() -> NDArray[np.int16]:
    """A neck or trunk of 70 by 50 mm with a spine."""
    away = np.hypot(X / 70, Y / 50)
    hu = np.full(GRID.shape_kij, AIR_HU, np.int16)
    for inside, value in ((1.0, SKIN_HU), (0.96, FAT_HU), (0.85, MUSCLE_HU)):
        hu[away < inside] = value
    hu[np.hypot(X, Y - 20) < 14] = BONE_HU
    return hu


def block(x: tuple[float, float], y: tuple[float, float], z: tuple[float, float] = (-40, 40)) -> Bool:
    inside = [(low < at) & (at < high) for at, (low, high) in zip((X, Y, Z), (x, y, z), strict=True)]
    found: Bool = np.logical_and.reduce(inside)
    return found


def rod(x: float, y: float, radius: float) -> Bool:
    found: Bool = np.hypot(X - x, Y - y) < radius
    return found


def together(*parts: NDArray[np.int16]) -> NDArray[np.int16]:
    return np.maximum.reduce(parts)


def missing_and_extra_cm3(patient: NDArray[np.int16], hu: NDArray[np.int16]) -> tuple[float, float]:
    """cm3 of the patient that `body_mask` loses, and of other things that it takes in, in a noisy image."""
    noisy = (hu + np.random.default_rng(3).normal(0, 20, hu.shape)).astype(np.int16)
    body, found = patient > -300, body_mask(Volume(noisy, GRID))
    voxel_cm3 = float(np.prod(GRID.spacing_mm)) / 1000
    return float((body & ~found).sum() * voxel_cm3), float((found & ~body).sum() * voxel_cm3)


DEVICES = {
    "a block of 40 mm beside the head, apart": block((74, 114), (-40, 40)),
    "a block of 25 mm that the cheek touches": block((66, 91), (-45, 45)),
    "a block that the cheek is pressed against": block((63, 88), (-45, 45)),
    "blocks on both sides": block((66, 90), (-45, 45)) | block((-90, -66), (-45, 45)),
    "a board under the back": block((-150, 150), (47, 65), (-50, 30)),
    "a rest under the neck": block((-45, 45), (46, 74)),
    "an inclined board": (np.abs(X) < 150) & (np.abs(Y - 75 - Z / 8) < 10),
    "a curved support": (np.hypot(X - 112, Y + 10) < 40) & (np.hypot(X - 112, Y + 10) > 20) & (Y > -10),
}


@pytest.mark.parametrize("device_hu", [40, 120])
@pytest.mark.parametrize("name", DEVICES)
def test_devices_are_no_part_of_the_body(name: str, device_hu: int) -> None:
    patient = np.where(DEVICES[name], AIR_HU, trunk()).astype(np.int16)  # the skin is pressed flat
    hu = np.where(DEVICES[name], device_hu, patient).astype(np.int16)
    missing, extra = missing_and_extra_cm3(patient, hu)
    assert missing < 1.0
    assert extra < 15.0


@pytest.mark.parametrize("rod_hu", [250, 3000])
def test_rods_of_hard_plastic_or_metal_go(rod_hu: int) -> None:
    patient = trunk()
    rods = rod(100, 0, 12) | rod(-88, 0, 17)
    missing, extra = missing_and_extra_cm3(patient, np.where(rods, rod_hu, patient).astype(np.int16))
    assert missing < 1.0 and extra < 5.0


PATIENTS = {
    "arms beside the body": together(trunk(), limb(105, 0, 32), limb(-105, 0, 32)),
    "arms that touch": together(trunk(), limb(100, 0, 32), limb(-100, 0, 32)),
    "a child's arms": together(trunk(), limb(86, 0, 11, bone=3.5), limb(-86, 0, 11, bone=3.5)),
    "two legs": together(limb(62, 0, 55), limb(-62, 0, 55)),
    "two legs that touch": together(limb(50, 0, 52), limb(-50, 0, 52)),
    "a child's legs": together(limb(25, 0, 17), limb(-25, 0, 17)),
    "an arm alone": limb(0, 0, 35),
    "a child's neck": limb(0, 0, 28),
    "a hand before the body": together(trunk(), limb(20, -75, 13, bone=4, height=42)),
}


@pytest.mark.parametrize("name", PATIENTS)
def test_limbs_are_part_of_the_body(name: str) -> None:
    missing, extra = missing_and_extra_cm3(PATIENTS[name], PATIENTS[name])
    assert missing < 1.0 and extra < 5.0


def test_a_limb_stays_when_a_larger_block_goes() -> None:
    """The largest part is not the patient."""
    patient = limb(-40, 0, 20)
    hu = np.where(block((0, 120), (-60, 60), (-60, 60)), 80, patient).astype(np.int16)
    missing, extra = missing_and_extra_cm3(patient, hu)
    assert missing < 1.0 and extra < 15.0


def soft(where: Bool, fat: bool) -> NDArray[np.int16]:
    return np.where(where, FAT_HU if fat else MUSCLE_HU, AIR_HU).astype(np.int16)


FOLDS = {
    "a fold of fat in front of the belly": soft(
        ((X / 60) ** 2 + ((Y + 62) / 14) ** 2 < 1) & (np.abs(Z) < 50), fat=True
    ),
    "a breast": soft((X - 30) ** 2 + (Y + 60) ** 2 + (Z * 0.8) ** 2 < 38**2, fat=False),
    "a scrotum": soft(X**2 + ((Y + 64) / 0.9) ** 2 + (Z * 0.7) ** 2 < 24**2, fat=False),
    "a penis before the body": soft(np.hypot(X / 1.2, Y + 61) < 16, fat=False),
    "a nose": soft(X**2 + ((Y + 55) / 1.3) ** 2 + (Z * 0.6) ** 2 < 15**2, fat=False),
}


@pytest.mark.parametrize("name", FOLDS)
def test_soft_parts_without_bone_stay(name: str) -> None:
    patient = together(trunk(), FOLDS[name])
    missing, _ = missing_and_extra_cm3(patient, patient)
    assert missing < 1.0


def test_arms_that_the_field_of_view_cuts_stay() -> None:
    """What is left of an arm is skin, fat and some muscle without bone, with one straight face."""
    patient = together(trunk(), limb(110, 0, 40), limb(-110, 0, 40))
    patient[np.abs(X) > 104] = AIR_HU
    missing, _ = missing_and_extra_cm3(patient, patient)
    assert missing < 1.0


def test_a_phantom_of_one_density_stays_whole() -> None:
    slab = np.where(block((-75, 75), (-15, 15), (-50, 50)), 0, AIR_HU).astype(np.int16)
    water = np.where(np.hypot(X, Y) < 90, 0, AIR_HU).astype(np.int16)
    for phantom in (slab, water):
        missing, extra = missing_and_extra_cm3(phantom, phantom)
        assert missing < 1.0 and extra < 1.0


def test_a_board_that_ends_below_the_head_takes_nothing_of_the_head() -> None:
    """In most slices the board, in the others the back of the head lies at the same place."""
    patient = np.where((Z > 10) | (Y < 35), trunk(), AIR_HU).astype(np.int16)
    board = block((-150, 150), (35, 50), (-70, 10))
    hu = np.where(board & (patient <= -300), 60, patient).astype(np.int16)
    missing, extra = missing_and_extra_cm3(patient, hu)
    assert missing < 2.0 and extra < 15.0


@pytest.mark.parametrize("padding_hu", [-940, -880, -700])
def test_the_film_of_a_bag_and_the_cover_of_a_foam_are_no_skin(padding_hu: int) -> None:
    """A film of 2 mm on the skin of the back, foam or beads behind it: the film would add 40 cm3."""
    patient = trunk()
    away = np.hypot(X / 70, Y / 50)
    further = np.hypot(X / 72, Y / 52)
    padding = (np.hypot(X / 120, Y / 100) < 1) & (Y > 0) & (away >= 1)
    hu = np.where(padding, padding_hu, patient).astype(np.int16)
    film = padding & (further < 1)
    hu[film] = -200
    assert film.sum() * np.prod(GRID.spacing_mm) / 1000 > 40
    missing, extra = missing_and_extra_cm3(patient, hu)
    assert missing < 1.0
    assert extra < 15.0
    # Bare skin on foam, half of whose pixels are half air, loses nothing.
    bare = np.where(padding, padding_hu, patient).astype(np.int16)
    bare[(away >= 0.97) & (away < 1) & (Y > 0) & (np.round(X) % 4 > 1)] = -200
    assert missing_and_extra_cm3(bare, bare)[0] < 1.0
    # A coat or skin in plain air stays: nothing says that it is a cover.
    coat = patient.copy()
    coat[film] = -200
    assert missing_and_extra_cm3(coat, coat)[0] < 1.0


def test_a_slice_whose_padding_touches_no_surface_keeps_its_body() -> None:
    """A drawn chest whose field of view cut both sides met this: there was nothing to take the percentiles of."""
    body = np.ones((12, 12), bool)
    body_module._peel(body, np.full((12, 12), -90, np.int16), np.ones((12, 12), bool), 3)
    assert body.all()
    body[:, 6:] = False
    where = np.zeros((12, 12), bool)
    where[:, 9:] = True
    body_module._peel(body, np.full((12, 12), -90, np.int16), where, 3)
    assert body[:, :6].all()
