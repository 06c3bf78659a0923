"""Masks to polygons and back: exact for every mask, whatever the shape."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from contour_ai.errors import InputError
from contour_ai.polygons import (
    CLEARANCE,
    fill_polygons,
    level_to_polygons,
    mask_to_polygons,
    polygon_area,
    polygons_to_mask,
    stack_from_polygons,
    stack_to_polygons,
)

MASKS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12))


def disc(shape, centre, radius):
    i, j = np.ogrid[: shape[0], : shape[1]]
    return (i - centre[0]) ** 2 + (j - centre[1]) ** 2 < radius**2


def filled_one_by_one(polygons, shape):
    """How readers fill that know no holes: the union of every polygon on its own."""
    mask = np.zeros(shape, bool)
    for polygon in polygons:
        mask |= polygons_to_mask([polygon], shape)
    return mask


@settings(max_examples=300)
@given(MASKS, st.sampled_from([0.05, 0.4, 0.5, 0.95]), st.sampled_from(["keyhole", "separate"]))
def test_no_mask_changes(mask, outline, holes):
    polygons = mask_to_polygons(mask, outline=outline, holes=holes)
    assert np.array_equal(polygons_to_mask(polygons, mask.shape), mask)
    for p in polygons:
        assert len(p) >= 3
        assert p.min() >= -0.5
        assert (p.max(axis=0) <= np.array(mask.shape) - 0.5).all()
        assert not np.array_equal(p[0], p[-1])


@settings(max_examples=200)
@given(MASKS)
def test_keyholes_need_no_even_odd_rule(mask):
    assert np.array_equal(filled_one_by_one(mask_to_polygons(mask), mask.shape), mask)


@settings(max_examples=200)
@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=10),
        elements=st.floats(-1e6, 1e6, width=32),
    ),
    st.sampled_from([2, 6]),
)
def test_level_contours_agree_with_the_level_at_every_centre(level, decimals):
    polygons = [np.round(p, decimals) for p in level_to_polygons(level)]
    assert np.array_equal(polygons_to_mask(polygons, level.shape), level > 0)


def test_level_contours_are_smooth():
    i, j = np.ogrid[:41, :41]
    level = 12.3 - np.hypot(i - 20.2, j - 19.7)
    (polygon,) = level_to_polygons(level)
    radii = np.hypot(polygon[:, 0] - 20.2, polygon[:, 1] - 19.7)
    assert np.abs(radii - 12.3).max() < CLEARANCE + 0.01
    assert polygon_area(polygon) == pytest.approx(np.pi * 12.3**2, rel=0.01)


def test_levels_that_are_not_finite_are_drawn_half_way():
    level = np.array([[np.nan, np.inf, -np.inf]])
    (polygon,) = level_to_polygons(level)
    assert np.array_equal(polygons_to_mask([polygon], (1, 3)), level > 0)
    assert sorted(polygon[:, 1].tolist()) == [0.5, 1, 1, 1.5]


def test_one_voxel_is_a_diamond():
    mask = np.zeros((3, 4), bool)
    mask[1, 2] = True
    (polygon,) = mask_to_polygons(mask)
    assert {tuple(p) for p in polygon.tolist()} == {(0.5, 2), (1, 2.5), (1.5, 2), (1, 1.5)}
    assert polygon_area(polygon) == 0.5


def test_a_straight_outline_has_only_its_corners():
    mask = np.zeros((30, 30), bool)
    mask[5:25, 10:20] = True
    (polygon,) = mask_to_polygons(mask)
    assert len(polygon) == 8
    assert polygon_area(polygon) == 20 * 10 - 4 * 0.125


def test_an_outline_of_one_half_keeps_the_area_and_others_shift_it():
    mask = disc((90, 90), (44.6, 45.1), 40)
    areas = {o: sum(map(polygon_area, mask_to_polygons(mask, outline=o))) for o in (0.4, 0.5)}
    assert areas[0.5] == pytest.approx(mask.sum(), rel=0.001)
    assert areas[0.4] < areas[0.5]


def test_thin_diagonal_lines_and_gaps_have_their_area():
    line = np.zeros((20, 20), bool)
    line[np.arange(4, 16), np.arange(4, 16)] = True
    (polygon,) = mask_to_polygons(line)
    assert polygon_area(polygon) == 12 - 0.5
    (gap,) = mask_to_polygons(~line)
    assert polygon_area(gap) == 20 * 20 - 0.5 - (12 - 0.5)


def test_a_hole_is_a_keyhole_and_an_island_in_it_a_polygon_of_its_own():
    mask = disc((60, 60), (30, 30), 25) & ~disc((60, 60), (30, 30), 15) | disc((60, 60), (30, 30), 5)
    assert len(mask_to_polygons(mask)) == 2
    assert len(mask_to_polygons(mask, holes="separate")) == 3
    (ring, _) = sorted(mask_to_polygons(mask), key=len, reverse=True)
    assert polygon_area(ring) == pytest.approx(np.pi * (25**2 - 15**2), rel=0.02)


def test_channels_stay_away_from_voxel_centres_and_add_no_area():
    rng = np.random.default_rng(3)
    mask = rng.random((40, 40)) < 0.7
    keyholes, separate = mask_to_polygons(mask), mask_to_polygons(mask, holes="separate")
    assert sum(map(polygon_area, keyholes)) == pytest.approx(sum(map(polygon_area, separate)))
    centres = np.argwhere(np.ones_like(mask)).astype(float)
    for polygon in keyholes:
        a, b = polygon[:, None], np.roll(polygon, -1, axis=0)[:, None]
        along = np.clip(((centres - a) * (b - a)).sum(-1) / ((b - a) ** 2).sum(-1), 0, 1)
        assert np.linalg.norm(a + along[..., None] * (b - a) - centres, axis=-1).min() > 0.35


def test_polygons_given_twice_count_once():
    mask = disc((40, 40), (20, 20), 12)
    (polygon,) = mask_to_polygons(mask)
    again = np.roll(polygon[::-1], 7, axis=0)
    assert np.array_equal(polygons_to_mask([polygon, again, polygon.copy()], mask.shape), mask)


def test_centres_on_an_edge_belong_to_the_side_of_lower_row_and_column():
    square = np.array([[1, 1], [1, 3], [3, 3], [3, 1]], float)
    expected = np.zeros((5, 5), bool)
    expected[1:3, 1:3] = True
    assert np.array_equal(polygons_to_mask([square], (5, 5)), expected)


def test_polygons_may_leave_the_slice():
    triangle = np.array([[-50.0, -50.0], [-50.0, 90.0], [90.0, 20.0]])
    whole = polygons_to_mask([triangle + 60], (200, 200))
    assert np.array_equal(polygons_to_mask([triangle], (40, 40)), whole[60:100, 60:100])


def test_filling_leaves_what_was_there():
    mask = np.zeros((6, 6), bool)
    mask[0, 0] = True
    fill_polygons(mask, [np.array([[2.5, 2.5], [2.5, 4.5], [4.5, 4.5], [4.5, 2.5]]), np.zeros((2, 2))])
    assert mask.sum() == 5


def test_stacks_agree_with_single_slices():
    rng = np.random.default_rng(5)
    masks = rng.random((40, 9, 11)) < 0.6
    masks[7] = False
    stack = stack_to_polygons(masks)
    assert 7 not in stack
    assert list(stack) == sorted(stack)
    for k, polygons in stack.items():
        for a, b in zip(polygons, mask_to_polygons(masks[k]), strict=True):
            assert np.array_equal(a, b)
    assert np.array_equal(stack_from_polygons(stack, masks.shape), masks)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"outline": 0.01}, "so close to a voxel centre"), ({"holes": "none"}, "Unknown way to write holes")],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        mask_to_polygons(np.ones((2, 2), bool), **options)
    with pytest.raises(InputError, match="stack of slices"):
        stack_to_polygons(np.ones((2, 2), bool))
