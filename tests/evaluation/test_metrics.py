"""Figures of one ROI against values worked by hand, and what happens where a mask is empty or missing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from contour_ai.errors import GeometryError
from contour_ai.evaluation.metrics import (
    BOTH,
    DEFINITIONS,
    NEITHER,
    PREDICTION_MISSING,
    REFERENCE_MISSING,
    added_path_mm,
    centroid_lps,
    roi_metrics,
    volume_cm3,
)
from contour_ai.grid import Grid
from contour_ai.mask_agreement import dice

GRID = Grid.axial((10, 20, 20), (2, 1, 1), (-5.0, 100.0, 7.0))


def boxed(*box: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(GRID.shape_kij, bool)
    mask[tuple(slice(*b) for b in box)] = True
    return mask


def test_dice() -> None:
    a, b = boxed((0, 2), (0, 2), (0, 2)), boxed((1, 3), (0, 2), (0, 2))
    assert dice(a, b, neither=0.0) == 0.5
    assert dice(a, a, neither=0.0) == 1
    assert dice(a, ~a & b, neither=0.0) == 0
    nothing = a & ~a
    assert math.isnan(dice(nothing, nothing, neither=math.nan)) and dice(nothing, nothing, neither=1.0) == 1


def test_a_box_moved_by_known_steps() -> None:
    reference = boxed((2, 6), (5, 11), (4, 10))
    predicted = boxed((3, 7), (5, 11), (7, 13))
    m = roi_metrics(predicted, reference, GRID, roi="Box", tau_mm=3)
    assert (m.roi, m.status, m.tau_mm) == ("Box", BOTH, 3)
    assert m.reference_cm3 == m.predicted_cm3 == pytest.approx(4 * 6 * 6 * 2 / 1000)
    assert m.dsc == pytest.approx(3 * 3 * 6 / (4 * 6 * 6))
    assert m.volume_ratio == 1
    assert (m.shift_left_mm, m.shift_posterior_mm, m.shift_superior_mm) == pytest.approx((3, 0, 2))
    # The lower corner beyond: 3 mm to the side and 2 mm down.
    assert m.hd100_mm == pytest.approx(math.hypot(3, 2))
    assert m.surface_dsc < 1
    assert (m.missed_slices, m.extra_slices) == (1, 1)
    # Slice 2 is missed whole: 20 edge pixels; in slices 3 to 5 the edges share two rows of three pixels.
    assert m.added_path_mm == pytest.approx(20 + 3 * (20 - 6))


def test_dice_in_the_extent_of_the_reference() -> None:
    reference = boxed((2, 4), (5, 11), (4, 10)) | boxed((5, 6), (5, 11), (4, 10))  # with a gap
    longer = boxed((1, 9), (5, 11), (4, 10))
    m = roi_metrics(longer, reference, GRID)
    assert (m.dsc, m.dsc_in_extent) == pytest.approx((2 * 3 / (8 + 3), 2 * 3 / (4 + 3)))
    assert roi_metrics(reference, longer, GRID).dsc_in_extent == pytest.approx(2 * 3 / (8 + 3))
    assert roi_metrics(None, reference, GRID).dsc_in_extent == 0
    assert math.isnan(roi_metrics(longer, None, GRID).dsc_in_extent)


def test_a_contour_that_ends_elsewhere_is_told_apart_from_a_wrong_one() -> None:
    reference = boxed((2, 6), (5, 11), (4, 10))
    higher = boxed((4, 9), (5, 11), (4, 10))  # the same organ, two slices more above and two fewer below
    m = roi_metrics(higher, reference, GRID)
    assert m.dsc == pytest.approx(2 * 2 / (4 + 5)) and m.dsc_in_common == 1.0 and m.ends_elsewhere
    beside = roi_metrics(boxed((4, 9), (5, 11), (8, 14)), reference, GRID)
    assert beside.dsc_in_common == pytest.approx(2 * 2 / 12) and not beside.ends_elsewhere
    assert not roi_metrics(reference, reference, GRID).ends_elsewhere
    assert math.isnan(roi_metrics(boxed((7, 9), (5, 11), (4, 10)), reference, GRID).dsc_in_common)
    assert not roi_metrics(None, reference, GRID).ends_elsewhere


def test_slices_missed_at_each_end() -> None:
    reference, predicted = boxed((1, 9), (5, 11), (4, 10)), boxed((2, 6), (5, 11), (4, 10))
    predicted[4] = False
    m = roi_metrics(predicted, reference, GRID)
    assert (m.missed_slices, m.missed_inferior_slices, m.missed_superior_slices) == (5, 1, 3)
    # The same scan, its slices numbered from head to feet.
    flipped = Grid.from_affine((10, 20, 20), [[0, 0, -1, 0], [0, 1, 0, 0], [-2, 0, 0, 0], [0, 0, 0, 1]])
    m = roi_metrics(predicted, reference, flipped)
    assert (m.missed_inferior_slices, m.missed_superior_slices) == (3, 1)
    m = roi_metrics(None, reference, GRID)
    assert (m.missed_slices, m.missed_inferior_slices, m.missed_superior_slices) == (8, 8, 8)


def test_added_path_within_a_tolerance() -> None:
    # Moved by 3 columns: the right edge (6 pixels) and three pixels of the upper and lower edges are 3 mm or less off.
    reference, predicted = boxed((2, 3), (5, 11), (4, 10)), boxed((2, 3), (5, 11), (7, 13))
    lengths = [added_path_mm(predicted, reference, GRID, tau) for tau in (0, 0.9, 1, 2, 3)]
    # Off: 4 left-edge pixels and 3 + 3 on the rows, then one column after the other comes within reach; the left edge
    # last, and pixels in the middle of it are nearest to the predicted left edge.
    assert lengths[0] == lengths[1] == 20 - 6
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[4] == 0
    assert added_path_mm(reference, reference, GRID, 2) == 0
    assert added_path_mm(reference & False, reference, GRID, 5) == 20
    wide = Grid.axial((10, 20, 20), (2, 4, 1))
    assert added_path_mm(predicted, reference, wide, 3) == 0


def test_perfect_agreement() -> None:
    mask = boxed((2, 6), (5, 11), (4, 10))
    m = roi_metrics(mask, mask, GRID)
    assert (m.dsc, m.surface_dsc, m.hd95_mm, m.hd100_mm, m.masd_mm, m.assd_mm) == (1, 1, 0, 0, 0, 0)
    assert m.added_path_mm == 0


def test_what_is_missing_is_said() -> None:
    mask, none = boxed((2, 6), (5, 11), (4, 10)), np.zeros(GRID.shape_kij, bool)
    for absent in (None, none):
        m = roi_metrics(absent, mask, GRID)
        assert (m.status, m.dsc, m.surface_dsc) == (PREDICTION_MISSING, 0, 0)
        assert m.hd95_mm == m.hd100_mm == m.masd_mm == m.assd_mm == math.inf
        assert m.missed_slices == 4
        assert m.volume_ratio == 0
        m = roi_metrics(mask, absent, GRID)
        assert m.status == REFERENCE_MISSING
        assert math.isnan(m.dsc)
        assert math.isnan(m.hd95_mm)
        assert m.predicted_cm3 == pytest.approx(0.288)
        assert m.extra_slices == 4
        m = roi_metrics(absent, None, GRID)
        assert m.status == NEITHER
        assert math.isnan(m.dsc)


def test_unequal_slices_count_for_the_length_they_stand_for() -> None:
    positions = np.array([[0, 0, 0], [0, 0, 2], [0, 0, 8.0]])
    grid = Grid(shape_kij=(3, 2, 2), positions_lps=positions, step_i_lps=(0, 1, 0), step_j_lps=(1, 0, 0))
    middle, top = (np.arange(3)[:, None, None] == k for k in (1, 2))
    full = np.ones((3, 2, 2), bool)
    assert volume_cm3(full & middle, grid) == pytest.approx(4 * (1 + 3) / 1000)
    assert volume_cm3(full & top, grid) == pytest.approx(4 * 6 / 1000)
    assert centroid_lps(full & (middle | top), grid) == pytest.approx([0.5, 0.5, (4 * 2 + 6 * 8) / 10])


def test_a_part_of_an_unequal_stack_has_the_volume_that_it_has_in_the_whole() -> None:
    """The neighbours beyond a ROI decide how much of the patient its outer slices stand for."""
    heights = np.array([0, 1, 2, 5, 8, 9, 10.0])
    grid = Grid(
        shape_kij=(7, 8, 8),
        positions_lps=np.outer(heights, (0, 0, 1)),
        step_i_lps=np.array([0, 1.0, 0]),
        step_j_lps=np.array([1.0, 0, 0]),
    )
    mask = np.zeros(grid.shape_kij, bool)
    mask[2:5, 2:6, 2:6] = True
    m = roi_metrics(mask, mask, grid)
    assert m.predicted_cm3 == m.reference_cm3 == pytest.approx((2 + 3 + 2) * 16 / 1000)
    assert m.predicted_cm3 == pytest.approx(volume_cm3(mask, grid))


def test_centroid_in_patient_coordinates_on_an_oblique_grid() -> None:
    angle = 0.4
    row, column = np.array([np.cos(angle), np.sin(angle), 0]), np.array([-np.sin(angle), np.cos(angle), 0])
    positions = np.array([[1.0, 2, 3]]) + np.array([0, 0, 2.5]) * np.arange(4)[:, None]
    grid = Grid(shape_kij=(4, 5, 6), positions_lps=positions, step_i_lps=1.5 * column, step_j_lps=0.8 * row)
    mask = np.random.RandomState(0).random_sample((4, 5, 6)) < 0.3
    expected = grid.index_to_lps(np.argwhere(mask)).mean(axis=0)
    np.testing.assert_allclose(centroid_lps(mask, grid), expected, atol=1e-9)
    with pytest.raises(GeometryError, match="empty mask has no centroid"):
        centroid_lps(mask & False, grid)


def test_added_path_counts_reference_edges_only() -> None:
    reference = boxed((4, 5), (2, 6), (2, 6))
    assert added_path_mm(reference & False, reference, GRID) == 12
    assert added_path_mm(reference, reference & False, GRID) == 0
    wide = Grid.axial(GRID.shape_kij, (2, 1, 3))
    assert added_path_mm(reference & False, reference, wide) == 24


def test_masks_of_another_shape_are_refused() -> None:
    with pytest.raises(GeometryError, match="shape of its grid"):
        roi_metrics(np.zeros((1, 2, 3), bool), None, GRID)


def test_every_figure_has_a_definition() -> None:
    m = roi_metrics(None, None, GRID)
    for name in vars(m):
        known = name in DEFINITIONS or name == "roi" or name.startswith("shift_") or name.endswith("cm3")
        assert known, name
