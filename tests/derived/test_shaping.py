"""Booleans voxel by voxel; hull, holes, parts, smoothing, slices and sides against what they must be."""

from __future__ import annotations

import numpy as np
import pytest
from solids import axial_grid, ball, block, oblique_grid, polygon_volume_cm3, sphere_cm3, tilted_grid

from contour_ai.derived import shaping
from contour_ai.derived.margin import Margins, with_margins
from contour_ai.derived.region import Region, redrawn
from contour_ai.errors import GeometryError
from contour_ai.grid import Grid
from contour_ai.polygons import level_to_polygons, mask_to_polygons


def whole(region: Region) -> np.ndarray:
    """The mask on the whole grid."""
    mask = np.zeros(region.grid.shape_kij, dtype=bool)
    box, inside = region.filled
    mask[box] = inside
    return mask


def speckles(grid: Grid, seed: int) -> Region:
    """Voxels set at random: every shape that a mask can have."""
    mask = np.random.default_rng(seed).random(grid.shape_kij) > 0.5
    return Region({k: mask_to_polygons(m) for k, m in enumerate(mask)}, grid)


@pytest.mark.parametrize(
    "grid", [axial_grid(10, (5, 5)), tilted_grid(), oblique_grid()], ids=["axial", "tilted", "oblique"]
)
def test_booleans_have_exactly_the_voxels_of_their_masks(grid: Grid) -> None:
    one, two = ball(grid, (3.3, 0.2, 1), 20), ball(grid, (-10, 6.1, 4), 22)
    for a, b in ((one, two), (speckles(axial_grid(20, (4, 4)), 1), speckles(axial_grid(20, (4, 4)), 2))):
        assert np.array_equal(whole(shaping.united([a, b])), whole(a) | whole(b))
        assert np.array_equal(whole(shaping.intersection(a, b)), whole(a) & whole(b))
        assert np.array_equal(whole(shaping.difference(a, b)), whole(a) & ~whole(b))


def test_booleans_of_what_does_not_meet() -> None:
    grid = axial_grid()
    one, far = ball(grid, (-30, 0, 0), 10), ball(grid, (30, 0, 0), 10)
    assert shaping.intersection(one, far).is_empty
    assert np.array_equal(whole(shaping.difference(one, far)), whole(one))
    assert shaping.difference(one, one).is_empty
    assert shaping.united([one, Region({}, grid)]) is one


def test_redrawn_contours_have_the_same_voxels() -> None:
    region = speckles(axial_grid(20, (4, 4)), 3)
    again = redrawn(region)
    assert again.level is not None and np.array_equal(whole(again), whole(region))


def test_the_hull_of_a_ball_is_the_ball_and_that_of_two_spans_them() -> None:
    grid = axial_grid()
    one = ball(grid, (-20.3, 0.1, 0), 12)
    assert shaping.hull(one, "volume").volume_cm3 == pytest.approx(one.volume_cm3, rel=0.01)
    both = shaping.united([one, ball(grid, (20.3, 0.1, 0), 12)])
    capsule = np.pi * 12**2 * 40.6 / 1000 + sphere_cm3(12)
    assert shaping.hull(both, "volume").volume_cm3 == pytest.approx(capsule, rel=0.02)
    assert shaping.hull(both, "slice").volume_cm3 == pytest.approx(capsule, rel=0.02)
    assert shaping.hull(Region({}, grid), "slice").is_empty


def test_a_hull_of_one_slice_stays_on_it() -> None:
    grid = axial_grid()
    flat = Region({7: ball(grid, (0, 0, 0), 20).slices[16]}, grid)
    assert shaping.hull(flat, "volume").slice_range == (7, 7)


def test_holes_are_filled_and_outlines_stay() -> None:
    grid = axial_grid()
    i, j = np.mgrid[:100, :100] - 50.0
    r = np.hypot(i, j)
    full = Region({5: level_to_polygons(20 - r)}, grid)
    for inner in (3, 10, 18.5):
        ring = Region({5: level_to_polygons(np.minimum(20 - r, r - inner))}, grid)
        filled = shaping.without_holes(ring)
        assert np.array_equal(whole(filled), whole(full)), inner
        assert polygon_volume_cm3(filled) == pytest.approx(polygon_volume_cm3(full), rel=0.001)


def test_small_parts_go_by_volume_or_by_number() -> None:
    grid = axial_grid()
    large, small = ball(grid, (-20, 0, 0), 12), ball(grid, (20, 0, 0), 6)
    both = shaping.united([large, small])
    for kept in (shaping.without_small_parts(both, below_cm3=2), shaping.without_small_parts(both, keep=1)):
        assert np.array_equal(whole(kept), whole(large))
    assert shaping.without_small_parts(both, below_cm3=0.1) is both
    assert shaping.without_small_parts(both, below_cm3=50).is_empty


def test_smoothing_takes_spikes_and_moves_nothing_farther_than_its_width() -> None:
    grid = axial_grid()
    smooth = ball(grid, (0.3, 0.2, 0.4), 20)
    spiky = shaping.united([smooth, block(grid, (-1, -28, -1.6), (1, 0, 1.6))])
    result = shaping.smoothed(spiky, 2.0)
    assert result.volume_cm3 == pytest.approx(smooth.volume_cm3, rel=0.03)
    # In the slice: every contour lies within 2 mm of the one before.
    grown = with_margins(spiky, Margins(left=2, right=2, anterior=2, posterior=2))
    shrunk = with_margins(spiky, Margins(left=-2.05, right=-2.05, anterior=-2.05, posterior=-2.05))
    near = with_margins(spiky, Margins(left=2.05, right=2.05, anterior=2.05, posterior=2.05))
    assert grown.volume_cm3 > result.volume_cm3
    assert not (whole(result) & ~whole(near)).any() and not (whole(shrunk) & ~whole(result)).any()


def test_missing_slices_are_drawn_between_the_others() -> None:
    grid = axial_grid()
    full = ball(grid, (0.3, 0.2, 0.4), 20)
    every_second = Region({k: p for k, p in full.slices.items() if k % 2}, grid)
    assert shaping.count_gaps(every_second) == 6
    drawn, ks = shaping.interpolated(every_second, 20)
    assert ks == tuple(k for k in range(min(every_second.slices), max(every_second.slices)) if k % 2 == 0)
    assert all(drawn.slices[k] is every_second.slices[k] for k in every_second.slices)
    for k in ks[1:-1]:
        assert whole(drawn)[k].sum() == pytest.approx(whole(full)[k].sum(), rel=0.06)
    assert shaping.interpolated(every_second, 5)[1] == ()


def test_extending_repeats_the_last_contours_towards_the_head() -> None:
    grid = axial_grid()
    box = block(grid, (-5, -5, -10), (5, 5, 10))
    first, last = box.slice_range or (0, 0)
    longer = shaping.extended(box, 9, 4)
    assert longer.slice_range == (first - 1, last + 3)
    assert np.array_equal(longer.slices[last + 3][0], box.slices[last][0])
    with pytest.raises(GeometryError, match="slices along the body"):
        coronal = Grid(
            shape_kij=(10, 10, 10),
            positions_lps=np.arange(10)[:, None] * np.array([0.0, 3.0, 0.0]),
            step_i_lps=np.array([0.0, 0.0, -1.0]),
            step_j_lps=np.array([1.0, 0.0, 0.0]),
        )
        square = np.array([[2.0, 2.0], [2.0, 6.0], [6.0, 6.0], [6.0, 2.0]])
        shaping.extended(Region({4: [square]}, coronal), 5, 5)


def test_cutting_keeps_the_stretch_of_another_roi() -> None:
    grid = axial_grid()
    cord, target = block(grid, (-5, -5, -45), (5, 5, 45)), ball(grid, (20, 0, 0), 12)
    low, high = shaping.extent_mm(target) or (0, 0)
    assert low == pytest.approx(-12.5, abs=1.6) and high == pytest.approx(12.5, abs=1.6)
    kept = shaping.cut_between(cord, low - 6, high + 3)
    z = grid.slice_offsets_mm[list(kept.slices)]
    assert z.min() > low - 6 and z.min() <= low - 3 and z.max() < high + 3 and z.max() >= high


def test_sides_are_the_patients() -> None:
    grid = axial_grid()
    both = shaping.united([ball(grid, (-20, 0, 0), 12), ball(grid, (20, 0, 0), 12)])
    middle = shaping.centre_x_mm(both)
    assert middle == pytest.approx(0, abs=0.1)
    left, right = (shaping.side_of(both, side, middle) for side in ("left", "right"))
    assert shaping.centre_x_mm(left) == pytest.approx(20, abs=0.2)
    assert shaping.centre_x_mm(right) == pytest.approx(-20, abs=0.2)
    assert np.array_equal(whole(left) | whole(right), whole(both))
