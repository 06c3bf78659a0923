"""The phantoms: anatomy in its place, different for each seed, the same for the same one."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from contour_ai.errors import InputError
from contour_ai.sample.phantom import REGIONS, Phantom, draw_phantom

PLAUSIBLE_CM3 = {
    "Brainstem": (12, 45),
    "SpinalCord": (10, 40),
    "Parotid_L": (12, 60),
    "Parotid_R": (12, 60),
    "Bone_Mandible": (45, 130),
    "Larynx": (20, 70),
    "Prostate": (12, 120),
    "Bladder": (40, 400),
    "Rectum": (40, 220),
    "Femur_Head_L": (30, 110),
    "Femur_Head_R": (30, 110),
}


@cache
def phantom(region: str, seed: int) -> Phantom:
    return draw_phantom(region, seed)


def centre(p: Phantom, roi: str) -> np.ndarray:
    return p.volume.grid.index_to_lps(np.argwhere(p.structures.mask(roi))).mean(axis=0)


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("seed", [3, 4])
def test_anatomy(region: str, seed: int) -> None:
    p = phantom(region, seed)
    assert p.structures.contoured() == REGIONS[region].rois
    assert p.volume.hu.dtype == np.int16
    assert p.volume.hu.nbytes < 1.5e6
    body = p.structures.mask("External")
    assert np.abs(np.median(p.volume.hu[~body]) + 1000) < 20
    volume = float(np.prod(p.volume.grid.spacing_mm)) / 1000
    for roi, mask in p.structures.masks():
        assert not (mask & ~body).any(), roi
        if roi != "External":
            low, high = PLAUSIBLE_CM3[roi]
            assert low < mask.sum() * volume < high, roi


@pytest.mark.parametrize("seed", [3, 4])
def test_organs_are_on_their_side_and_level(seed: int) -> None:
    head, pelvis = phantom("headneck", seed), phantom("pelvis", seed)
    for p, left, right in ((head, "Parotid_L", "Parotid_R"), (pelvis, "Femur_Head_L", "Femur_Head_R")):
        assert centre(p, left)[0] > centre(p, right)[0] + 50, "the patient's left is at larger x"
    assert centre(head, "Brainstem")[2] > centre(head, "Larynx")[2] + 50
    assert centre(head, "Bone_Mandible")[1] < centre(head, "SpinalCord")[1] - 30
    assert centre(pelvis, "Bladder")[2] > centre(pelvis, "Prostate")[2] + 20
    assert centre(pelvis, "Rectum")[1] > centre(pelvis, "Prostate")[1] + 15


def test_tissues_have_their_hu() -> None:
    head, pelvis = phantom("headneck", 3), phantom("pelvis", 3)

    def median(p: Phantom, roi: str) -> float:
        return float(np.median(p.volume.hu[p.structures.mask(roi)]))

    assert 45 < median(head, "Brainstem") < 75
    assert -40 < median(head, "Parotid_L") < 40
    assert median(head, "Bone_Mandible") > 400
    assert -15 < median(pelvis, "Bladder") < 30
    assert 35 < median(pelvis, "Prostate") < 70
    assert median(pelvis, "Femur_Head_R") > 250


def test_a_couch_is_under_the_patient() -> None:
    for region in REGIONS:
        p = phantom(region, 3)
        outside = ~p.structures.mask("External")
        assert ((p.volume.hu > -200) & outside).sum() > 1000


def test_a_seed_is_one_patient() -> None:
    first, again, other = draw_phantom("pelvis", 5), draw_phantom("pelvis", 5), phantom("pelvis", 3)
    np.testing.assert_array_equal(first.volume.hu, again.volume.hu)
    np.testing.assert_array_equal(first.structures.bits, again.structures.bits)
    assert first.volume.grid.matches(again.volume.grid, tol_mm=0)
    assert not first.volume.grid.matches(other.volume.grid)


def test_rois_can_be_missing_without_changing_the_image() -> None:
    whole, part = phantom("pelvis", 3), draw_phantom("pelvis", 3, missing=0.6)
    np.testing.assert_array_equal(whole.volume.hu, part.volume.hu)
    assert 0 < len(part.structures.contoured()) < len(whole.structures.contoured())
    assert len(draw_phantom("pelvis", 3, missing=1.0).structures.contoured()) == 1


def test_wrong_arguments() -> None:
    with pytest.raises(InputError, match="Unknown body region") as caught:
        draw_phantom("thorax", 1)
    assert caught.value.expected == "headneck, pelvis"
    with pytest.raises(InputError, match="seed of 0 or more"):
        draw_phantom("pelvis", -1)
