"""Surface distances: worked by hand, recorded from DeepMind's surface-distance, and on unequal slice distances."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from contour_ai.errors import GeometryError
from contour_ai.evaluation.surface import SurfaceDistances, bounding_box, surface_distances, surface_of
from contour_ai.grid import Grid

ROOT_2, ROOT_3 = math.sqrt(2), math.sqrt(3)


def boxed(shape: tuple[int, int, int], *box: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*b) for b in box)] = True
    return mask


def distances(a: np.ndarray, b: np.ndarray, grid: Grid) -> SurfaceDistances:
    return surface_distances(surface_of(a, grid), surface_of(b, grid), grid)


def test_one_voxel_has_eight_corners_cut_off() -> None:
    surface = surface_of(boxed((3, 3, 3), (1, 2), (1, 2), (1, 2)), Grid.axial((3, 3, 3), (1, 1, 1)))
    assert len(surface.corners) == 8
    assert surface.areas_mm2.sum() == pytest.approx(8 * ROOT_3 / 8)


def test_a_cube_has_faces_bevelled_edges_and_corners() -> None:
    # 4 x 4 x 4 mm: 3 x 3 inner corners a face at 1 mm², 3 a bevelled edge at sqrt(1/2), 8 corners at sqrt(3)/8.
    surface = surface_of(boxed((6, 6, 6), (1, 5), (1, 5), (1, 5)), Grid.axial((6, 6, 6), (1, 1, 1)))
    assert surface.areas_mm2.sum() == pytest.approx(6 * 9 + 12 * 3 * ROOT_2 / 2 + ROOT_3)
    assert len(surface.corners) == 6 * 9 + 12 * 3 + 8


def test_areas_follow_the_voxel_size() -> None:
    # A face of k-normal has corners of 2 x 3 mm, of i-normal 5 x 3, of j-normal 5 x 2.
    grid = Grid.axial((9, 9, 9), (5, 2, 3))
    surface = surface_of(boxed((9, 9, 9), (1, 8), (1, 8), (1, 8)), grid)
    inner = (surface.corners > 1) & (surface.corners < 8)
    for axis, area in enumerate((6, 15, 10)):
        others = [a for a in range(3) if a != axis]
        face = inner[:, others].all(axis=1) & ~inner[:, axis]
        assert surface.areas_mm2[face] == pytest.approx(area)


def test_two_voxels_three_apart() -> None:
    # The corners of one are 2 or 3 mm from the other, half of the area each.
    a, b = boxed((1, 5, 1), (0, 1), (0, 1), (0, 1)), boxed((1, 5, 1), (0, 1), (3, 4), (0, 1))
    d = distances(a, b, Grid.axial((1, 5, 1), (1, 1, 1)))
    assert d.percentile(100) == 3
    assert d.percentile(50) == 2
    assert d.percentile(51) == 3
    assert d.masd() == pytest.approx(2.5)
    assert d.assd() == pytest.approx(2.5)
    assert [d.surface_dsc(tau) for tau in (1.9, 2, 3)] == pytest.approx([0, 0.5, 1])


def test_directed_means_differ_and_masd_is_not_assd() -> None:
    # One voxel, and the same voxel with another 10 mm away: forth 0, back 0 for half of the area.
    a = boxed((1, 1, 12), (0, 1), (0, 1), (0, 1))
    b = a | boxed((1, 1, 12), (0, 1), (0, 1), (10, 11))
    d = distances(a, b, Grid.axial((1, 1, 12), (1, 1, 1)))
    forth, back = d.directed_means()
    assert forth == 0
    assert back == pytest.approx((9 + 10) / 2 / 2)
    assert d.masd() == pytest.approx(back / 2)
    assert d.assd() == pytest.approx(back * 2 / 3)


@pytest.mark.parametrize(
    ("seed", "shape", "threshold", "spacing", "expected"),
    [
        (
            1,
            (9, 14, 11),
            0.5,
            (2.5, 0.9766, 0.9766),
            (
                0.9766,
                3.088280362920439,
                0.15249198109931206,
                0.03280961266119346,
                0.993954380076743,
                0.9977630172204198,
            ),
        ),
        (
            2,
            (6, 8, 20),
            0.52,
            (3, 1.3, 0.7),
            (
                1.47648230602334,
                3.3436506994600976,
                0.36375289568156743,
                0.03452869343700342,
                0.9001389218100118,
                0.981320234901135,
            ),
        ),
        (3, (12, 5, 5), 0.5, (1, 1, 1), (1, 1, 0.06971894566404976, 0.020579485475159646, 1, 1)),
    ],
)
def test_recorded_from_surface_distance(
    seed: int,
    shape: tuple[int, int, int],
    threshold: float,
    spacing: tuple[float, float, float],
    expected: tuple[float, ...],
) -> None:
    """HD95, HD100, both directed means, surface DSC at 1 and 2 mm as surface-distance 0.1 gives them."""
    state = np.random.RandomState(seed)
    smooth = ndimage.uniform_filter(state.random_sample(shape), 3)
    a = smooth > threshold
    b = ndimage.uniform_filter(smooth + 0.1 * state.random_sample(shape), 3) > threshold + 0.05
    d = distances(a, b, Grid.axial(shape, spacing))
    found = (d.percentile(95), d.percentile(100), *d.directed_means(), d.surface_dsc(1), d.surface_dsc(2))
    assert found == pytest.approx(expected, abs=1e-9)


def test_the_border_of_the_array_is_a_surface() -> None:
    full = np.ones((3, 4, 5), bool)
    grid = Grid.axial((3, 4, 5), (1, 1, 1))
    padded = surface_of(np.pad(full, 1), Grid.axial((5, 6, 7), (1, 1, 1)))
    assert surface_of(full, grid).areas_mm2.sum() == pytest.approx(padded.areas_mm2.sum())


def test_unequal_slice_distances_are_taken_from_the_slices() -> None:
    # Slices at 0, 2, 9 mm; masks in the first and the last: their near faces are half a gap in from each.
    positions = np.array([[0, 0, 0], [0, 0, 2], [0, 0, 9.0]])
    grid = Grid(shape_kij=(3, 4, 4), positions_lps=positions, step_i_lps=(0, 1, 0), step_j_lps=(1, 0, 0))
    a, b = boxed((3, 4, 4), (0, 1), (1, 3), (1, 3)), boxed((3, 4, 4), (2, 3), (1, 3), (1, 3))
    d = distances(a, b, grid)
    assert d.percentile(0) == pytest.approx(4.5)  # from 1 to 5.5 mm
    assert d.percentile(100) == pytest.approx(12.5 - 1)  # from 12.5 (3.5 beyond the last slice) to 1


def test_a_regular_grid_gives_the_same_either_way() -> None:
    state = np.random.RandomState(0)
    a, b = (state.random_sample((6, 7, 8)) < 0.4 for _ in range(2))
    regular = Grid.axial((6, 7, 8), (2.5, 1.1, 0.9), (5, 6, 7))
    nudged = regular.positions_lps + np.array([0, 0, 1e-9]) * np.arange(6)[:, None] ** 2
    almost = Grid(
        shape_kij=(6, 7, 8),
        positions_lps=nudged + np.array([0, 0, 0.02]) * (np.arange(6) == 5)[:, None],
        step_i_lps=regular.step_i_lps,
        step_j_lps=regular.step_j_lps,
    )
    assert not almost.is_regular
    one, other = distances(a, b, regular), distances(a, b, almost)
    assert other.masd() == pytest.approx(one.masd(), rel=0.01)
    assert other.percentile(100) == pytest.approx(one.percentile(100), rel=0.01)


@pytest.mark.parametrize("spacing", [(1, 1, 1), (3, 1.1, 0.7), (0.5, 4, 0.4)])
def test_near_and_far_elements_get_the_distance_of_a_search_through_all(
    spacing: tuple[float, float, float],
) -> None:
    state = np.random.RandomState(5)
    shape = (9, 30, 25)
    a = ndimage.uniform_filter(state.random_sample(shape), 3) > 0.6
    b = ndimage.uniform_filter(state.random_sample(shape), 3) > 0.62
    b[:, 15:] = False  # so that some elements of a are far away
    grid = Grid.axial(shape, spacing)
    d = distances(a, b, grid)
    here, there = (surface_of(mask, grid).corners * np.array(spacing) for mask in (a, b))
    every = np.linalg.norm(here[:, None] - there[None], axis=2)
    assert d.predicted_mm == pytest.approx(np.sort(every.min(axis=1)), abs=1e-9)
    assert d.reference_mm == pytest.approx(np.sort(every.min(axis=0)), abs=1e-9)
    assert d.predicted_mm.max() > 4 * max(spacing)


@pytest.mark.interop
@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_surface_distance(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random, anisotropic, touching the border, holes and single voxels: DeepMind's own figures to 1e-6."""
    for name in ("filters", "morphology"):  # surface-distance 0.1 knows names that NumPy 2 and SciPy dropped
        monkeypatch.setattr(ndimage, name, ndimage, raising=False)
    monkeypatch.setattr(np, "Inf", np.inf, raising=False)
    theirs = pytest.importorskip("surface_distance", reason="pip install --no-deps surface-distance absl-py")
    state = np.random.RandomState(seed)
    shape = tuple(state.randint(3, 22, 3))
    spacing = tuple(state.uniform(0.4, 5, 3))
    smooth = int(state.randint(1, 5))
    a, b = (ndimage.uniform_filter(state.random_sample(shape), smooth) > 0.5 for _ in range(2))
    ours = distances(a, b, Grid.axial(shape, spacing))
    d = theirs.compute_surface_distances(a, b, spacing)
    for percent in (50, 95, 100):
        assert ours.percentile(percent) == pytest.approx(
            theirs.compute_robust_hausdorff(d, percent), abs=1e-6
        )
    assert ours.directed_means() == pytest.approx(theirs.compute_average_surface_distance(d), abs=1e-6)
    for tau in (0.5, 1, 2, 5):
        assert ours.surface_dsc(tau) == pytest.approx(
            theirs.compute_surface_dice_at_tolerance(d, tau), abs=1e-6
        )


def test_empty_masks() -> None:
    grid = Grid.axial((2, 2, 2), (1, 1, 1))
    none, all_ = np.zeros((2, 2, 2), bool), np.ones((2, 2, 2), bool)
    one = distances(none, all_, grid)
    assert one.percentile(95) == one.masd() == one.assd() == math.inf
    assert one.surface_dsc(2) == 0
    neither = distances(none, none, grid)
    assert all(
        math.isnan(v)
        for v in (neither.percentile(95), neither.masd(), neither.assd(), neither.surface_dsc(1))
    )
    assert bounding_box(none) is None


def test_a_mask_of_another_shape_is_refused() -> None:
    with pytest.raises(GeometryError, match="shape of its grid"):
        surface_of(np.zeros((2, 2, 3), bool), Grid.axial((2, 2, 2), (1, 1, 1)))
