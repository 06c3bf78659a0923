"""Femoral heads by a sphere, the rectum by its section, a continuation below the map."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from drawn_label_map import HEADS_MM, PROSTATE_MM, SIGMOID_JOINS_MM, SPACING, drawn_label_map

from contour_ai.errors import InputError
from contour_ai.sample.synthesis.anatomy import BELOW_MM, Anatomy, anatomy_of, rectum_of
from contour_ai.sample.synthesis.pose import mirrored
from contour_ai.sample.synthesis.tissues import Tissue

ADDED_MM = int(BELOW_MM / SPACING[0]) * SPACING[0]


@pytest.fixture(scope="module")
def anatomy() -> Anatomy:
    return anatomy_of(drawn_label_map())


def test_the_centres_of_the_heads_are_found_to_a_millimetre(anatomy: Anatomy) -> None:
    for found, true in zip(anatomy.heads_mm, (HEADS_MM["left"], HEADS_MM["right"]), strict=True):
        np.testing.assert_allclose(found - [ADDED_MM, 0, 0], true, atol=1.0)


def test_the_rectum_ends_where_the_sigmoid_joins_it(anatomy: Anatomy) -> None:
    ks = np.flatnonzero((anatomy.codes == Tissue.RECTUM).any(axis=(1, 2))) * SPACING[0] - ADDED_MM
    assert ks[0] == 88.0
    assert SIGMOID_JOINS_MM - 4 <= ks[-1] < SIGMOID_JOINS_MM
    assert (anatomy.codes == Tissue.COLON).any()


def test_the_rectum_follows_the_part_that_touches_the_section_below() -> None:
    colon = np.zeros((20, 20, 20), bool)
    colon[2:18, 5:9, 5:9] = True
    colon[6:18, 15:18, 15:18] = True  # another loop, beside it
    rectum = rectum_of(colon, (5.0, 5.0, 5.0))
    assert rectum[2:18, 5:9, 5:9].all()
    assert not rectum[:, 15:, 15:].any()
    assert not rectum_of(np.zeros_like(colon), (5.0, 5.0, 5.0)).any()


def test_below_the_map_a_femur_goes_on_and_a_prostate_that_is_cut_closes() -> None:
    whole = drawn_label_map()
    cut = int(PROSTATE_MM[0] / SPACING[0])
    anatomy = anatomy_of(replace(whole, labels=whole.labels[cut:]))
    added = int(BELOW_MM / SPACING[0])
    prostate = (anatomy.codes == Tissue.PROSTATE).sum(axis=(1, 2))
    assert prostate[added] > 20
    assert 0 < prostate[added - 4] < prostate[added]
    assert not prostate[: added - int(45 / SPACING[0])].any()
    assert (anatomy.codes == Tissue.FEMUR_LEFT)[:added].any(axis=(1, 2)).all()


def test_a_mirror_changes_sides_and_keeps_names_to_them(anatomy: Anatomy) -> None:
    other = mirrored(anatomy)
    width = (anatomy.codes.shape[2] - 1) * SPACING[2]
    assert other.heads_mm[0][2] == pytest.approx(width - anatomy.heads_mm[1][2])
    assert other.heads_mm[0][2] > other.heads_mm[1][2]
    columns = np.flatnonzero((other.codes == Tissue.FEMUR_LEFT).any(axis=(0, 1)))
    assert columns.mean() > other.codes.shape[2] / 2


def test_a_map_without_femora_is_refused() -> None:
    label_map = drawn_label_map()
    names = tuple(name.replace("femur", "tail") for name in label_map.names)
    with pytest.raises(InputError, match="needs both femora and hip bones") as raised:
        anatomy_of(replace(label_map, names=names))
    assert "femur_left, femur_right" in str(raised.value)


def test_femora_away_from_their_joints_are_refused() -> None:
    label_map = drawn_label_map()
    labels = label_map.labels.copy()
    hips = [n + 1 for n, name in enumerate(label_map.names) if name.startswith("hip")]
    upper = np.isin(labels, hips)
    upper[40:] = False
    labels[upper] = 0
    with pytest.raises(InputError, match=r"does not meet the hip bone|No femoral head fits"):
        anatomy_of(replace(label_map, labels=labels))
