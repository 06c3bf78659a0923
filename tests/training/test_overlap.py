"""ROIs that never overlap are found by looking, with care for few patients, targets and mirrors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from training_cases import case

from contour_ai.training.cache import Case
from contour_ai.training.overlap import described, exclusive_pairs, pair_names

ROIS = ("Parotid_L", "Parotid_R", "Larynx", "PTV")


def patient(boxes: dict[int, slice]) -> Case:
    """ROIs as ranges along one axis."""
    bits = np.zeros((1, 1, 20), np.uint8)
    for r, where in boxes.items():
        bits[..., where] |= 1 << r
    presence = tuple(r in boxes for r in range(len(ROIS)))
    return replace(case(0), image=np.zeros(bits.shape, np.int16), labels=bits, rois=ROIS, presence=presence)


APART = {0: slice(0, 3), 1: slice(4, 7), 2: slice(8, 11), 3: slice(12, 15)}
MIRROR = (1, 0, 2, 3)


def test_organs_apart_in_enough_patients_exclude_each_other() -> None:
    found = exclusive_pairs([patient(APART)] * 3, MIRROR)
    assert pair_names(found, ROIS) == ["Parotid_L/Parotid_R", "Parotid_L/Larynx", "Parotid_R/Larynx"]
    assert (found == found.T).all()


def test_one_shared_voxel_ends_it_for_the_pair_and_its_mirror_image() -> None:
    touching = patient(APART | {2: slice(6, 11)})  # the larynx reaches into the right parotid
    assert pair_names(exclusive_pairs([touching, *[patient(APART)] * 9], MIRROR), ROIS) == [
        "Parotid_L/Parotid_R"
    ]


def test_few_patients_prove_nothing() -> None:
    assert not exclusive_pairs([patient({0: APART[0], 2: APART[2]})] * 2, MIRROR).any()
    assert not exclusive_pairs([patient(APART)] * 2, (0, 1, 2, 3))[0, 1]
    assert pair_names(exclusive_pairs([patient({0: APART[0], 1: APART[1]})] * 2, MIRROR), ROIS) == []
    # A pair and its mirror image are counted together: two patients with the left, one with the right.
    found = [patient({0: APART[0], 2: APART[2]})] * 2 + [patient({1: APART[1], 2: APART[2]})]
    assert pair_names(exclusive_pairs(found, MIRROR), ROIS) == ["Parotid_L/Larynx", "Parotid_R/Larynx"]


def test_pairs_can_be_declared_to_overlap() -> None:
    found = exclusive_pairs([patient(APART)] * 3, MIRROR, [("Larynx", "Parotid_L"), ("Heart", "Larynx")])
    assert pair_names(found, ROIS) == ["Parotid_L/Parotid_R"]


def test_the_plan_names_them_while_they_are_few() -> None:
    found = exclusive_pairs([patient(APART)] * 3, MIRROR)
    assert described(found, ROIS) == (
        "3 pairs of 6, assumed not to overlap: Parotid_L/Parotid_R, Parotid_L/Larynx, Parotid_R/Larynx"
    )
    assert described(np.zeros((4, 4), bool), ROIS) == "none seen: all may overlap"
    many = [f"ROI{n}" for n in range(10)]
    assert described(np.ones((10, 10), bool), many).endswith("ROI2/ROI9, ...")
