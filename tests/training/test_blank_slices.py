"""Slices that are blank but for a margin around the contours are told from true ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from contour_ai.training.blank_slices import shown_slices
from contour_ai.training.cache import Case

SPACING = (2.5, 4.0, 4.0)
OUTSIDE = -1024
SHAPE = (40, 48, 48)


def distance(i: float = 24, j: float = 24) -> NDArray[np.float64]:
    rows, columns = np.mgrid[: SHAPE[1], : SHAPE[2]]
    found: NDArray[np.float64] = np.hypot(rows - i, columns - j)
    return found


def head() -> NDArray[np.bool_]:
    """A ball of 80 mm on a neck of 55 mm, (k, i, j); its vertex lies at slice 39."""
    mm = 80 - SPACING[0] * np.arange(SHAPE[0])[::-1]
    radii = np.where(mm > 0, np.sqrt(np.maximum(80**2 - mm**2, 0)), 80)
    return np.asarray(4 * distance()[None] <= np.maximum(radii, np.where(mm <= 30, 55, 0))[:, None, None])


def cord() -> NDArray[np.bool_]:
    """12 mm wide, in every slice but the highest ten."""
    organ = np.zeros(SHAPE, bool)
    organ[:30] = 4 * distance(30) <= 6
    return organ


def image(body: NDArray[np.bool_]) -> NDArray[np.int16]:
    return np.where(body, 20, OUTSIDE).astype(np.int16)


def blanked(body: NDArray[np.bool_], contoured: NDArray[np.bool_], *slices: slice) -> NDArray[np.int16]:
    """Nothing left in `slices` but what lies within 4 mm of the contour."""
    left = body.copy()
    for part in slices:
        near = [np.roll(contoured[part], n, axis) for axis in (1, 2) for n in (-1, 0, 1)]
        left[part] &= np.any(near, axis=0)
    return image(left)


def test_a_true_scan_is_kept_whole() -> None:
    assert shown_slices(image(head()), cord(), OUTSIDE, SPACING) == (0, 40)


@pytest.mark.parametrize("inset_voxels", [1, 2, 4])
def test_a_brain_that_fills_the_vertex_is_no_blank_slice(inset_voxels: int) -> None:
    brain = head()
    brain[:12] = False
    for _ in range(inset_voxels):
        inner = [np.roll(brain, n, axis) for axis in (0, 1, 2) for n in (-1, 1)]
        brain &= np.all(inner, axis=0)
    first, stop = shown_slices(image(head()), brain, OUTSIDE, SPACING)
    assert first == 0 and stop >= 39


@pytest.mark.parametrize(("low", "high"), [(12, 40), (0, 26), (12, 26)])
def test_blank_ends_are_cut_off(low: int, high: int) -> None:
    hu = blanked(head(), cord(), slice(low), slice(high, None))
    assert shown_slices(hu, cord(), OUTSIDE, SPACING) == (low, high)


def test_blank_slices_without_a_contour_are_cut_off_with_those_beyond() -> None:
    hu = blanked(head(), cord(), slice(12))
    contoured = cord()
    contoured[8:12] = False
    assert shown_slices(hu, contoured, OUTSIDE, SPACING) == (12, 40)


def test_a_smaller_field_of_view_gives_nothing_away() -> None:
    body = head()
    body[:12] &= 4 * distance() <= 30
    assert shown_slices(image(body), cord(), OUTSIDE, SPACING) == (0, 40)


def test_a_cut_case_can_be_cut_again() -> None:
    rng = np.random.default_rng(1)
    hu = rng.integers(-1000, 1000, (9, 3, 3), np.int16)
    bits = rng.integers(0, 2, (9, 3, 3)).astype(np.uint8)
    case = (
        Case(patient_id="p", image=hu, labels=bits, rois=("A",), presence=(True,), spacing_mm_kij=SPACING)
        .cut(2, 8)
        .cut(1, 20)
    )
    np.testing.assert_array_equal(case.hu, hu[3:8])
    np.testing.assert_array_equal(case.bits, bits[3:8])


def test_a_cut_case_that_lies_on_disk_is_whole_again(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    hu = rng.integers(-1000, 1000, (9, 3, 3), np.int16)
    bits = rng.integers(0, 2, (9, 3, 3)).astype(np.uint8)
    np.save(tmp_path / "hu.npy", hu)
    np.save(tmp_path / "bits.npy", bits)
    case = Case(
        patient_id="p",
        image=tmp_path / "hu.npy",
        labels=tmp_path / "bits.npy",
        rois=("A",),
        presence=(True,),
        spacing_mm_kij=SPACING,
    )
    cut = case.cut(2, 8).cut(1, 20)
    assert cut.is_cut and not cut.whole().is_cut
    np.testing.assert_array_equal(cut.hu, hu[3:8])
    np.testing.assert_array_equal(cut.whole().hu, hu)
    np.testing.assert_array_equal(cut.whole().bits, bits)
