"""Grid: golden index → LPS values worked out by hand, and inverses on every kind of stack."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contour_ai.errors import GeometryError
from contour_ai.grid import Grid

TILT = np.deg2rad(15)


def prone() -> Grid:
    """Head-first prone: columns run to the patient's right, rows to the front."""
    return Grid(
        shape_kij=(3, 4, 5),
        positions_lps=[[100.0, 50, -10], [100, 50, -8], [100, 50, -6]],
        step_i_lps=[0, -1.2, 0],
        step_j_lps=[-0.8, 0, 0],
        frame_of_reference_uid="1.2.3",
    )


def gantry_tilt() -> Grid:
    """Axial slices (upright) whose positions slide in y as they rise: a sheared stack."""
    k = np.arange(6)
    positions = np.stack([0 * k, 3.0 * np.tan(TILT) * k, 3.0 * k], axis=1)
    return Grid(shape_kij=(6, 8, 9), positions_lps=positions, step_i_lps=[0, 1.0, 0], step_j_lps=[1.0, 0, 0])


def oblique() -> Grid:
    """Slices turned by 15 degrees about the left-right axis, stacked along their own normal."""
    column = np.array([0, np.cos(TILT), np.sin(TILT)])
    normal = np.array([0, -np.sin(TILT), np.cos(TILT)])
    return Grid(
        shape_kij=(4, 6, 5),
        positions_lps=2.5 * np.arange(4)[:, None] * normal,
        step_i_lps=1.1 * column,
        step_j_lps=[0.9, 0, 0],
    )


def uneven() -> Grid:
    return Grid(
        shape_kij=(4, 6, 5),
        positions_lps=[[0, 0, 0], [0, 0, 2], [0, 0, 5], [0, 0, 6]],
        step_i_lps=[0, 1, 0],
        step_j_lps=[1, 0, 0],
    )


GRIDS = {"prone": prone, "gantry tilt": gantry_tilt, "oblique": oblique, "uneven": uneven}


def test_head_first_supine_by_hand() -> None:
    grid = Grid.axial((10, 20, 30), (3.0, 0.8, 1.2), (-15.0, -8.0, 40.0))
    # k=2: z = 40 + 2*3; i=5: y = -8 + 5*0.8; j=10: x = -15 + 10*1.2
    np.testing.assert_allclose(grid.index_to_lps([2, 5, 10]), [-3.0, -4.0, 46.0], atol=1e-12)
    assert grid.spacing_mm == pytest.approx((3.0, 0.8, 1.2))
    np.testing.assert_allclose(grid.normal, [0, 0, 1], atol=1e-12)
    assert grid.is_regular


def test_prone_by_hand() -> None:
    # row direction (-1,0,0) x column direction (0,-1,0) = (0,0,1): k still ascends to the head
    np.testing.assert_allclose(prone().normal, [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(prone().index_to_lps([1, 2, 3]), [100 - 2.4, 50 - 2.4, -8], atol=1e-12)


def test_gantry_tilt_by_hand() -> None:
    grid = gantry_tilt()
    assert grid.is_sheared and grid.is_uniform and not grid.is_regular
    np.testing.assert_allclose(grid.index_to_lps([2, 1, 4]), [4, 1 + 6 * np.tan(TILT), 6], atol=1e-12)
    assert grid.spacing_mm[0] == pytest.approx(3.0)
    with pytest.raises(GeometryError, match="no single affine"):
        _ = grid.affine


def test_uneven_spacing_by_hand() -> None:
    grid = uneven()
    assert not grid.is_uniform and not grid.is_sheared
    np.testing.assert_allclose(grid.index_to_lps([1.5, 0, 0]), [0, 0, 3.5])
    np.testing.assert_allclose(grid.index_to_lps([4.0, 0, 0]), [0, 0, 7.0])
    np.testing.assert_allclose(grid.slice_widths_mm, [2, 2.5, 2, 1])
    np.testing.assert_allclose(grid.voxel_volumes_cm3, np.array([2, 2.5, 2, 1]) / 1000)


@pytest.mark.parametrize("name", GRIDS)
@given(
    k=st.floats(-3, 9),
    i=st.floats(-5, 20),
    j=st.floats(-5, 20),
)
def test_lps_to_index_is_the_inverse(name: str, k: float, i: float, j: float) -> None:
    grid = GRIDS[name]()
    np.testing.assert_allclose(grid.lps_to_index(grid.index_to_lps([k, i, j])), [k, i, j], atol=1e-9)


def test_affine_agrees_with_index_to_lps() -> None:
    grid = oblique()
    index = np.array([[0, 0, 0], [3, 5, 4], [1.5, 2, 0.25]])
    by_matrix = (grid.affine @ np.column_stack([index, np.ones(3)]).T).T[:, :3]
    np.testing.assert_allclose(grid.index_to_lps(index), by_matrix, atol=1e-12)
    again = Grid.from_affine(grid.shape_kij, grid.affine)
    assert grid.matches(again, tol_mm=1e-9)


@pytest.mark.parametrize("name", GRIDS)
def test_crop_keeps_every_voxel_in_place(name: str) -> None:
    grid = GRIDS[name]()
    part = grid.crop((slice(1, 3), slice(2, None), slice(0, 4)))
    assert part.shape_kij == (2, grid.shape_kij[1] - 2, 4)
    np.testing.assert_allclose(part.index_to_lps([1, 1, 3]), grid.index_to_lps([2, 3, 3]), atol=1e-12)


def test_matches_sees_a_shift_at_the_far_corner() -> None:
    a = Grid.axial((3, 100, 100), (2, 1, 1))
    b = Grid.axial((3, 100, 100), (2, 1.001, 1))
    assert not a.matches(b, tol_mm=0.05)
    assert a.largest_distance_mm(b) == pytest.approx(0.099)
    assert not a.matches(Grid.axial((3, 100, 99), (2, 1, 1)), tol_mm=1e9)


def test_single_slice_has_the_thickness_given() -> None:
    grid = Grid(
        shape_kij=(1, 4, 4),
        positions_lps=[[0, 0, 7]],
        step_i_lps=[0, 1, 0],
        step_j_lps=[1, 0, 0],
        slice_thickness_mm=2.5,
    )
    assert grid.spacing_mm == (2.5, 1, 1)
    np.testing.assert_allclose(grid.lps_to_index(grid.index_to_lps([0.5, 1, 2])), [0.5, 1, 2])
    assert grid.is_regular


def test_input_is_copied_and_frozen() -> None:
    positions = np.array([[0.0, 0, 0], [0, 0, 2]])
    grid = Grid(shape_kij=(2, 4, 4), positions_lps=positions, step_i_lps=[0, 1, 0], step_j_lps=[1, 0, 0])
    positions[1, 2] = 99
    assert grid.slice_offsets_mm[1] == 2
    with pytest.raises(ValueError):
        grid.positions_lps[0, 0] = 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positions_lps": [[0, 0, 0]]}, "one position for every slice"),
        ({"positions_lps": [[0, 0, 2], [0, 0, 0]]}, "must ascend along the slice normal"),
        ({"positions_lps": [[0, 0, 2], [0, 0, 2]]}, "must ascend"),
        ({"step_i_lps": [0, 0, 0]}, "must be positive"),
        ({"step_i_lps": [0.5, 1, 0]}, "must be perpendicular"),
        ({"shape_kij": (2, 0, 4)}, "three sizes of at least 1"),
    ],
)
def test_impossible_grids_are_refused(change: dict[str, object], message: str) -> None:
    fields: dict[str, object] = {
        "shape_kij": (2, 4, 4),
        "positions_lps": [[0, 0, 0], [0, 0, 2]],
        "step_i_lps": [0, 1, 0],
        "step_j_lps": [1, 0, 0],
    }
    with pytest.raises(GeometryError, match=message):
        Grid(**{**fields, **change})  # type: ignore[arg-type]
