"""A cut-out patient as a clinic would have scanned it: devices outside, the anatomy where it was."""

from __future__ import annotations

import dataclasses
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from contour_ai.errors import ConfigError
from contour_ai.evaluation.metrics import centroid_lps, volume_cm3
from contour_ai.grid import Grid
from contour_ai.mask_agreement import dice
from contour_ai.preprocess import body_mask
from contour_ai.sample.devices import DEVICES
from contour_ai.sample.variants import COUCHES, METAL_HU, Position, Scan, Scanned, scanned
from contour_ai.volume import Structures, Volume

PLAIN = Scan(pixel_mm=2.0, slice_mm=3.0, matrix=160, couch="none", mask=False, head_rest=False, noise_hu=0.0)
GRID = Grid.axial((12, 32, 40), (5.0, 4.0, 4.0), (-78.0, -62.0, 0.0))
AWAY = -1024


def patient() -> tuple[Volume, Structures]:
    """An elliptic body of 0 HU on nothing, with an organ of 100 HU left of its middle."""
    k, i, j = np.indices(GRID.shape_kij)
    body = ((i - 15.5) / 12) ** 2 + ((j - 19.5) / 16) ** 2 <= 1
    organ = ((k - 5.5) * 5) ** 2 + ((i - 14) * 4) ** 2 + ((j - 25) * 4) ** 2 <= 18**2
    hu = np.where(organ, 100, np.where(body, 0, AWAY)).astype(np.int16)
    return Volume(hu, GRID), Structures.from_masks({"Organ": organ}, GRID, names=("Organ", "Other"))


def made(**changes: object) -> Scanned:
    return scanned(*patient(), dataclasses.replace(PLAIN, **changes), seed=7)  # type: ignore[arg-type]


def surrounding(patient: Scanned) -> NDArray[np.generic]:
    """HU of what is no body."""
    return patient.volume.hu[~patient.body]


def test_the_anatomy_stays_where_it_was_on_finer_voxels() -> None:
    before, after = patient()[1], made()
    assert after.volume.grid.spacing_mm == (3.0, 2.0, 2.0)
    assert after.structures.presence == (True, False), "what was not contoured stays so"
    old, new = before.mask("Organ"), after.structures.mask("Organ")
    np.testing.assert_allclose(centroid_lps(new, after.volume.grid), centroid_lps(old, GRID), atol=0.6)
    assert volume_cm3(new, after.volume.grid) == pytest.approx(volume_cm3(old, GRID), rel=0.1)
    assert float(np.median(after.volume.hu[new])) == 100.0
    assert dice(body_mask(after.volume), after.body, neither=0.0) > 0.99
    assert surrounding(after).max() < -300 + 1, "nothing but air and the skin's half voxels"


@pytest.mark.parametrize("couch", COUCHES)
def test_a_couch_lies_under_the_patient_and_nowhere_in_it(couch: str) -> None:
    without, with_it = made(), made(couch=couch)
    changed = with_it.volume.hu != without.volume.hu
    assert changed.any() == (couch != "none")
    assert not (changed & with_it.body).any()
    if couch == "none":
        return
    posterior = [np.flatnonzero(m.any(axis=(0, 2))).mean() for m in (changed, with_it.body)]
    assert posterior[0] > posterior[1], "behind a patient who lies on the back"
    assert (surrounding(with_it).max() == METAL_HU) == (couch == "rails")


@pytest.mark.parametrize("position", get_args(Position))
def test_every_position_shows_the_same_patient(position: Position) -> None:
    turned, plain = made(position=position), made()
    np.testing.assert_allclose(
        centroid_lps(turned.structures.mask("Organ"), turned.volume.grid),
        centroid_lps(plain.structures.mask("Organ"), plain.volume.grid),
        atol=1e-6,
    )
    assert np.count_nonzero(turned.body) == np.count_nonzero(plain.body)
    assert sorted(turned.volume.grid.shape_kij) == sorted(plain.volume.grid.shape_kij)
    same_way = np.allclose(turned.volume.grid.affine, plain.volume.grid.affine)
    assert same_way == (position == "HFS")


def test_mask_and_head_rest_leave_the_body_as_it_is() -> None:
    dressed = made(mask=True, head_rest=True)
    assert surrounding(dressed).max() > -100, "the mask is denser than air"
    np.testing.assert_array_equal(dressed.body, made().body)


@pytest.mark.parametrize("position", ["HFS", "FFP"])
@pytest.mark.parametrize("device", DEVICES)
def test_a_device_lies_at_the_patient_and_nowhere_in_it(device: str, position: Position) -> None:
    without, with_it = made(position=position), made(devices=(device,), position=position)
    changed = with_it.volume.hu != without.volume.hu
    assert changed.any()
    assert not (changed & with_it.body).any()
    assert np.count_nonzero(changed & (with_it.volume.hu > -300)) > 100, "as dense as a patient"


def test_devices_keep_their_distance_from_the_skin() -> None:
    def touching(gap_mm: float) -> int:
        patient = made(devices=("head blocks",), device_gap_mm=gap_mm)
        block = (patient.volume.hu > 50) & ~patient.body
        beside = np.roll(patient.body, 1, axis=2) | np.roll(patient.body, -1, axis=2)
        return int(np.count_nonzero(block & beside))

    assert touching(6.0) == 0 < touching(0.0) < touching(-4.0)


def test_noise_has_its_strength_and_its_seed() -> None:
    plain, noisy = made(), made(noise_hu=25.0)
    inside = plain.body
    difference = noisy.volume.hu[inside].astype(float) - plain.volume.hu[inside]
    assert difference.std() == pytest.approx(25.0, rel=0.1)
    np.testing.assert_array_equal(noisy.volume.hu, made(noise_hu=25.0).volume.hu)
    other = scanned(*patient(), dataclasses.replace(PLAIN, noise_hu=25.0), seed=8)
    assert (other.volume.hu != noisy.volume.hu).any()


def test_a_small_field_of_view_cuts_image_body_and_organs() -> None:
    small = made(field_of_view_mm=60.0, padding_hu=-2000)
    corners = small.volume.hu[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == -2000).all()
    assert np.count_nonzero(small.body) < np.count_nonzero(made().body)
    assert not (small.structures.mask("Organ") & (small.volume.hu == -2000)).any()


def test_cuts_shorten_the_scan_from_the_named_end() -> None:
    whole, below, above = made(), made(below_mm=15.0), made(above_mm=15.0)
    assert below.volume.grid.shape_kij[0] < whole.volume.grid.shape_kij[0]
    assert below.volume.grid.positions_lps[0, 2] > whole.volume.grid.positions_lps[0, 2]
    assert above.volume.grid.positions_lps[-1, 2] < whole.volume.grid.positions_lps[-1, 2]


def test_streaks_add_and_take_away() -> None:
    difference = made(streaks_hu=300.0).volume.hu.astype(int) - made().volume.hu
    assert difference.max() > 50 and difference.min() < -50


@pytest.mark.parametrize(
    "changes", [{"couch": "hammock"}, {"devices": ("pillow",)}, {"position": "HFX"}, {"below_mm": 500.0}]
)
def test_what_cannot_be_scanned_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        made(**changes)
