"""Margins against analytic volumes, on every kind of grid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from solids import (
    axial_grid,
    ball,
    block,
    extent,
    oblique_grid,
    polygon_volume_cm3,
    sphere_cm3,
    tilted_grid,
    unequal_grid,
)

from contour_ai.derived import nearest
from contour_ai.derived.margin import Margins, with_margins
from contour_ai.derived.region import Region, level_of
from contour_ai.errors import ConfigError, GeometryError
from contour_ai.grid import Grid
from contour_ai.polygons import level_to_polygons, mask_to_polygons


@pytest.mark.parametrize("offset_mm", [0.0, 0.7, 1.5, 2.3])
def test_a_sphere_with_a_margin_has_the_volume_of_the_larger_sphere(offset_mm: float) -> None:
    grown = with_margins(ball(axial_grid(), (0.3, -0.2, offset_mm), 20), Margins.all_around(5))
    assert grown.volume_cm3 == pytest.approx(sphere_cm3(25), rel=0.005)
    assert polygon_volume_cm3(grown) == pytest.approx(sphere_cm3(25), rel=0.005)


@pytest.mark.parametrize(
    ("grid", "tolerance"),
    [
        (axial_grid(1.0), 0.005),
        (axial_grid(2.5, (0.8, 1.3)), 0.006),
        (unequal_grid(), 0.01),
        (tilted_grid(), 0.008),
        (oblique_grid(), 0.006),
    ],
    ids=["1 mm", "non-square", "unequal", "tilted", "oblique"],
)
@pytest.mark.parametrize("margin_mm", [3.0, 8.0, -4.0])
def test_margins_are_millimetres_on_any_grid(grid: Grid, tolerance: float, margin_mm: float) -> None:
    grown = with_margins(ball(grid, (0.3, -0.2, 0.7), 22), Margins.all_around(margin_mm))
    # What slices this far apart make of the sphere itself is not the margin's error.
    wanted = polygon_volume_cm3(ball(grid, (0.3, -0.2, 0.7), 22 + margin_mm))
    assert polygon_volume_cm3(grown) == pytest.approx(wanted, rel=tolerance)


def test_a_large_margin_is_as_exact() -> None:
    grid = axial_grid(2.5, size_mm=150.0)
    grown = with_margins(ball(grid, (0.3, -0.2, 0.7), 25), Margins.all_around(30))
    assert grown.volume_cm3 == pytest.approx(sphere_cm3(55), rel=0.005)


def test_margins_smaller_than_a_voxel_are_margins_all_the_same() -> None:
    """Half a millimetre on 1 mm: in the slices that the ball has, contours move by it."""
    grid = axial_grid(1.0)
    one = ball(grid, (0.3, -0.2, 0.7), 20)
    for margin_mm in (0.5, -0.5):
        moved = with_margins(one, Margins.all_around(margin_mm))
        assert polygon_volume_cm3(moved) == pytest.approx(sphere_cm3(20 + margin_mm), rel=0.005)


def test_a_margin_moves_with_the_grid() -> None:
    grid = axial_grid()
    one = with_margins(ball(grid, (0.3, -0.2, 0.7), 12), Margins.all_around(4))
    moved = replace(grid, positions_lps=grid.positions_lps + np.array([31.7, -12.2, 8.4]))
    two = with_margins(
        ball(moved, np.array([0.3, -0.2, 0.7]) + np.array([31.7, -12.2, 8.4]), 12), Margins.all_around(4)
    )
    assert one.slices.keys() == two.slices.keys()
    assert np.array_equal(one.filled[1], two.filled[1])
    by_voxels = with_margins(
        ball(grid, np.array([0.3, -0.2, 0.7]) + np.array([5, 7, 6]), 12), Margins.all_around(4)
    )
    assert np.array_equal(one.filled[1], by_voxels.filled[1])
    assert [s.start - t.start for s, t in zip(by_voxels.filled[0], one.filled[0], strict=True)] == [2, 7, 5]


@pytest.mark.parametrize("margin_mm", [3.0, 5.0, 7.0, -2.0, -3.0])
def test_voxels_exactly_as_far_away_as_the_margin_are_inside_on_every_slice(margin_mm: float) -> None:
    grid = Grid.axial((21, 41, 41), (3, 2, 2), (-40, -40, -30))
    low, high = np.array([-11.0, -15.0, -13.0]), np.array([15.0, 9.0, 13.0])
    (ks, rows, columns), mask = with_margins(block(grid, low, high), Margins.all_around(margin_mm)).filled
    assert np.array_equal(mask, mask[::-1]) and (ks.start, ks.stop) == (20 - ks.stop + 1, 20 - ks.start + 1)
    middle = mask[len(mask) // 2]
    corners = low[:2] - margin_mm, high[:2] + margin_mm
    assert grid.index_to_lps(np.array([[10, rows.start, columns.start]]))[0, :2] == pytest.approx(
        np.ceil(corners[0] / 2) * 2
    )
    assert middle.any(axis=0).all() and middle.any(axis=1).all()
    assert grid.index_to_lps(np.array([[10, rows.stop - 1, columns.stop - 1]]))[0, :2] == pytest.approx(
        np.floor(corners[1] / 2) * 2
    )


@pytest.mark.parametrize(
    ("margins", "low", "high"),
    [
        ({"left": 7.3}, (-10.2, -8.3, -9), (17.7, 8.1, 9)),
        ({"right": 4, "posterior": 2.5}, (-14.2, -8.3, -9), (10.4, 10.6, 9)),
        ({"superior": 10}, (-10.2, -8.3, -9), (10.4, 8.1, 18)),
        ({"inferior": -4, "anterior": -3}, (-10.2, -5.3, -6), (10.4, 8.1, 9)),
        (
            {"left": 10, "right": 3, "anterior": 5, "posterior": 8, "superior": 6, "inferior": 12},
            (-13.2, -13.3, -21),
            (20.4, 16.1, 15),
        ),
    ],
)
def test_margins_by_direction_go_to_the_patients_sides(
    margins: dict[str, float], low: tuple[float, ...], high: tuple[float, ...]
) -> None:
    grid = Grid.axial((33, 100, 100), (3, 1, 1), (-50, -50, -48))
    result = extent(with_margins(block(grid, (-10.2, -8.3, -10), (10.4, 8.1, 10)), Margins(**margins)))
    assert result[0] == pytest.approx(low, abs=0.06) and result[1] == pytest.approx(high, abs=0.06)


def test_directions_are_the_patients_in_any_orientation() -> None:
    """A prone, feet-first grid: rows run to the right, columns to the front, slices to the feet."""
    plain = axial_grid(2.0)
    turned = Grid(
        shape_kij=plain.shape_kij,
        positions_lps=plain.positions_lps[::-1] + np.array([99.0, 0.0, 0.0]),
        step_i_lps=np.array([0.0, 1.0, 0.0]),
        step_j_lps=np.array([-1.0, 0.0, 0.0]),
    )
    margins = Margins(left=6, posterior=3, superior=8)
    one, two = (with_margins(ball(g, (0, 0, 0), 10), margins) for g in (plain, turned))
    for a, b in zip(extent(one), extent(two), strict=True):
        assert a == pytest.approx(b, abs=0.1)
    assert extent(one)[1][0] == pytest.approx(16, abs=0.2) and extent(one)[0][0] == pytest.approx(
        -10, abs=0.2
    )


def test_an_asymmetrical_margin_is_made_of_octants_of_ellipsoids() -> None:
    """Around a small ball: half-axes 15 and 5 across, 6 along."""
    grid = axial_grid(1.0)
    grown = with_margins(
        ball(grid, (0.1, 0.2, 0.3), 1.0),
        Margins(left=14, right=4, anterior=9, posterior=9, superior=9, inferior=4),
    )
    halves = [4 / 3 * np.pi * a * 10 * c / 8 * 2 / 1000 for a in (15, 5) for c in (10, 5)]
    assert polygon_volume_cm3(grown) == pytest.approx(sum(halves), rel=0.03)


def test_directions_on_oblique_slices_are_refused() -> None:
    with pytest.raises(GeometryError, match=r"slices turned by \d+\.\d degrees"):
        with_margins(ball(oblique_grid(), (0, 0, 0), 10), Margins(left=5))


def test_a_channel_between_hole_and_outline_is_no_border() -> None:
    """A pipe of 10 to 20 mm, its holes joined to the outlines by channels: 3 mm less on either side."""
    grid = Grid.axial((9, 60, 60), (3, 1, 1), (-30, -30, -12))
    i, j = np.mgrid[:60, :60] - 30.0
    r = np.hypot(i, j)
    polygons = level_to_polygons(np.minimum(20 - r, r - 10))
    assert len(polygons) == 1
    pipe = Region(dict.fromkeys(range(9), polygons), grid)
    thinner = with_margins(pipe, Margins.all_around(-3))
    assert thinner.slice_range == (0, 8)  # the scan ends there, the pipe does not
    assert polygon_volume_cm3(thinner) == pytest.approx(27 * np.pi * (17**2 - 13**2) / 1000, rel=0.01)


def test_contours_that_are_there_twice_count_once() -> None:
    grid = axial_grid()
    one = ball(grid, (0, 0, 0), 10)
    twice = Region({k: [*p, np.roll(p[0][::-1], 5, axis=0)] for k, p in one.slices.items()}, grid)
    margins = Margins.all_around(4)
    assert np.array_equal(with_margins(one, margins).filled[1], with_margins(twice, margins).filled[1])


def test_what_is_thinner_than_twice_the_margin_vanishes() -> None:
    assert with_margins(ball(axial_grid(), (0, 0, 0), 5), Margins.all_around(-6)).is_empty
    assert with_margins(Region({}, axial_grid()), Margins.all_around(6)).is_empty


def test_a_margin_ends_at_the_border_of_the_image() -> None:
    grid = axial_grid()
    grown = with_margins(ball(grid, (-45, 0, 0), 10), Margins.all_around(10))
    low, _ = extent(grown)
    assert low[0] == pytest.approx(-50.5)
    assert all(p.min() >= -0.5 for polygons in grown.slices.values() for p in polygons)


def test_a_flat_end_is_half_a_slice_beyond_the_last_contour() -> None:
    """21 mm of box on 7 slices: a margin of 4 mm reaches slices within 5.5 mm of the last, one of 1 mm none."""
    box = block(Grid.axial((33, 100, 100), (3, 1, 1), (-50, -50, -48)), (-10, -10, -10), (10, 10, 10))
    assert box.slice_range == (13, 19)
    assert with_margins(box, Margins.all_around(4)).slice_range == (12, 20)
    assert with_margins(box, Margins.all_around(1)).slice_range == (13, 19)


def test_margins_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="margin left is out of range"):
        Margins(left=float("nan"))


def test_large_regions_in_pieces_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    region = ball(axial_grid(), (0.2, 0.1, 0.4), 20)
    whole = with_margins(region, Margins.all_around(-5)), with_margins(region, Margins.all_around(5))
    monkeypatch.setattr("contour_ai.derived.margin.MOST_VOXELS_AT_ONCE", 1)
    pieces = with_margins(region, Margins.all_around(-5)), with_margins(region, Margins.all_around(5))
    for a, b in zip(whole, pieces, strict=True):
        assert a.filled[0] == b.filled[0] and np.array_equal(a.filled[1], b.filled[1])


CIRCLE = np.stack(
    [np.sin(np.linspace(0, 2 * np.pi, 150)[:-1]), np.cos(np.linspace(0, 2 * np.pi, 150)[:-1])], axis=1
)
SPIKES = [
    (40 + r * np.sin(a), 40 + r * np.cos(a)) for a, r in zip(np.arange(14) * 0.45, [30, 8] * 7, strict=True)
]
CROSSING = 40 + CIRCLE * (25, 30)
CROSSING[:, 1] = 40 + 30 * CIRCLE[:, 0] * CIRCLE[:, 1] * 2  # an eight


@pytest.mark.parametrize(
    "polygons",
    [
        [np.array(SPIKES)],
        [CROSSING],
        [40 + r * CIRCLE for r in (10, 20, 24, 33)],
        mask_to_polygons(np.add.outer((np.arange(80) - 40) ** 2, (np.arange(80) - 45) ** 2) % 900 < 500),
    ],
    ids=["spikes", "crossing", "rings", "voxels"],
)
@pytest.mark.parametrize("margin_mm", [5.0, -3.0])
def test_only_voxels_about_the_normal_of_a_contour_are_visited_and_none_is_missed(
    polygons: list[NDArray[np.float64]], margin_mm: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = Grid.axial((5, 80, 80), (3, 1, 1.3), (-40, -50, -6))
    region = Region({1: polygons, 2: polygons, 3: polygons}, grid)
    results = []
    for least in (1, 10**9):  # with beams for any number of points, and without
        monkeypatch.setattr(nearest, "LEAST_POINTS_PER_BEAM", least)
        moved = with_margins(region, Margins.all_around(margin_mm)).level
        results.append((level_of(region, 6.0).values, None if moved is None else moved.values))
    assert np.allclose(results[0][0], results[1][0], atol=1e-3)
    assert (results[0][1] is None) == (results[1][1] is None)
    if results[0][1] is not None and results[1][1] is not None:
        near = np.abs(results[1][1]) < 1.5
        assert np.allclose(results[0][1][near], results[1][1][near], atol=1e-3)
