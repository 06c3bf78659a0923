"""Masks of the whole field of view on CTs that are nearly, but not quite, their grid: every voxel is kept."""

from __future__ import annotations

import numpy as np
import pytest

from contour_ai.errors import GeometryError
from contour_ai.grid import Grid
from contour_ai.mask_files import read_masks, save_masks
from contour_ai.mask_files.placing import on_grid

SHAPE = (12, 20, 16)
RNG = np.random.default_rng(1)


def placed(array: np.ndarray, affine: np.ndarray, grid: Grid) -> tuple[np.ndarray, list[str]]:
    notes: list[str] = []
    return on_grid(array, affine, grid, "a", notes.append), notes


def stack(slice_offsets_mm: np.ndarray, across_mm: np.ndarray | None = None) -> Grid:
    positions = np.zeros((len(slice_offsets_mm), 3))
    positions[:, 2] = slice_offsets_mm
    if across_mm is not None:
        positions[:, 0] = across_mm
    return Grid(
        shape_kij=(len(slice_offsets_mm), 20, 16),
        positions_lps=positions,
        step_i_lps=[0, 2, 0],
        step_j_lps=[2, 0, 0],
    )


def affine(dk: float, di: float, dj: float, origin: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    return Grid.axial((2, 2, 2), (dk, di, dj), origin).affine


Z = np.arange(12)


@pytest.mark.parametrize(
    ("grid", "mask_affine", "shape"),
    [
        (stack(np.round(Z * 0.625 + 1e-9, 1)), affine(0.625, 2, 2), SHAPE),
        (stack(Z * 3.0, RNG.uniform(-0.02, 0.02, 12)), affine(3, 2, 2), SHAPE),
        (stack(Z * 3.0), affine(3, 4, 4, (1, 1, 0)), (12, 10, 8)),
        (stack(Z * 3.0), affine(6, 2, 2, (0, 0, 1.5)), (6, 20, 16)),
        (stack(Z * 3.0), affine(3, 2, 2, (0, 0, 0.3)), SHAPE),
        (stack(Z * 3.0), affine(3, 2, 2, (0, 0, 1.4)), SHAPE),
        (stack(Z * 3.0), affine(3, 2, 2, (-0.9, 0.9, 0)), SHAPE),
        (stack(Z * 3.0, 0.5 * Z), affine(3, 2, 2, (0, 0, 0)), (12, 20, 19)),
        (stack(Z * 3.0), affine(1.5, 1, 1, (-0.5, -0.5, -0.75)), (24, 40, 32)),
    ],
    ids=["rounded", "noise", "wide", "thick", "0.3 mm", "1.4 mm", "0.9 mm", "tilted", "fine"],
)
def test_the_outermost_voxels_are_kept(grid, mask_affine, shape):
    mask, _ = placed(np.ones(shape, np.uint8), mask_affine, grid)
    assert mask.all(), f"{(~mask).sum()} voxels are lost"


def test_a_mask_on_another_grid_grows_at_neither_end():
    """A block whose ends lie half-way between CT voxels keeps its volume."""
    fine = np.zeros((12, 40, 32), np.uint8)
    fine[:, 10:20, 8:16] = 1
    mask, notes = placed(fine, affine(3, 1, 1), stack(Z * 3.0))
    assert mask.sum() * 4 == fine.sum()
    assert "960 voxels (2.88 cm3) before, 240 voxels (2.88 cm3) after" in notes[0]


def test_a_change_of_volume_and_a_mask_that_vanishes_are_said():
    fine = np.zeros((48, 80, 64), np.uint8)
    fine[:, 41, 33] = 1
    mask, notes = placed(fine, affine(0.75, 0.5, 0.5), stack(Z * 3.0))
    assert not mask.any()
    assert "NOTHING IS LEFT" in notes[0]
    thick = np.zeros((12, 80, 64), np.uint8)
    thick[:, 20:26, 20:26] = 1
    mask, notes = placed(thick, affine(3, 0.5, 0.5), stack(Z * 3.0))
    assert ", -56 %" in notes[0] or ", +78 %" in notes[0], notes


def test_rounding_is_neither_tilt_nor_unequal_spacing(tmp_path):
    rounded = stack(np.round(Z * 0.625 + 1e-9, 1), np.tile([0.0, 0.1], 6))
    assert rounded.is_uniform and not rounded.is_sheared and not rounded.is_regular
    mask = RNG.random(SHAPE) < 0.3
    for file_format in ("nifti", "nrrd"):
        notes: list[str] = []
        files = save_masks(
            tmp_path / file_format, [("a", mask)], rounded, format=file_format, on_note=notes.append
        )
        assert "up to 0.07 voxels from equal spacing" in notes[0]
        assert np.array_equal(dict(read_masks(files["a"], rounded))["a"], mask)


@pytest.mark.parametrize(
    ("grid", "found"),
    [
        (stack(Z * 3.0, 0.1 * Z), "sheared slices"),
        (stack(np.where(Z > 5, Z * 3.0 + 1, Z * 3.0)), "unequal slice spacing"),
    ],
)
def test_a_tilt_and_a_gap_are_not_rounding(grid, found, tmp_path):
    with pytest.raises(GeometryError, match=found):
        save_masks(tmp_path / "m", [("a", np.ones(SHAPE, bool))], grid, format="nifti")
