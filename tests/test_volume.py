"""Structures: bits, presence, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from contour_ai.errors import GeometryError, InputError
from contour_ai.grid import Grid
from contour_ai.volume import Structures, Volume, bits_dtype

GRID = Grid.axial((2, 3, 4), (2, 1, 1))


def mask(*voxels: tuple[int, int, int]) -> np.ndarray:
    m = np.zeros(GRID.shape_kij, bool)
    for v in voxels:
        m[v] = True
    return m


def test_overlapping_rois_keep_their_own_bits() -> None:
    masks = {"A": mask((0, 0, 0), (1, 2, 3)), "B": mask((0, 0, 0))}
    structures = Structures.from_masks(masks, GRID, names=("B", "missing", "A"))
    assert structures.bits.dtype == np.uint8
    assert structures.presence == (True, False, True)
    assert structures.contoured() == ("B", "A")
    np.testing.assert_array_equal(structures.mask("A"), masks["A"])
    np.testing.assert_array_equal(structures.mask("B"), masks["B"])
    assert not structures.mask("missing").any()
    assert [n for n, _ in structures.masks()] == ["B", "A"]


def test_sixty_four_rois_fit_and_no_more() -> None:
    names = [f"r{n}" for n in range(64)]
    structures = Structures.from_masks({"r63": mask((1, 1, 1))}, GRID, names=names)
    assert structures.bits.dtype == np.uint64
    assert structures.mask("r63").sum() == 1 and structures.mask("r62").sum() == 0
    with pytest.raises(InputError, match="Too many ROIs"):
        bits_dtype(65)


def test_an_empty_contoured_roi_is_not_a_missing_one() -> None:
    structures = Structures.from_masks({"A": mask()}, GRID)
    assert structures.presence == (True,)
    assert Structures.empty(GRID, ["A"]).presence == (False,)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64])
def test_masks_are_bool_or_integers_of_0_and_1(dtype: type) -> None:
    inside = mask((0, 1, 2))
    structures = Structures.from_masks({"A": inside.astype(dtype)}, GRID)
    np.testing.assert_array_equal(structures.mask("A"), inside)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (mask((0, 0, 0)).astype(np.float32), "an array of float32"),
        (mask((0, 0, 0)).astype(np.uint8) * 255, "an array of uint8 with values from 0 to 255"),
        (mask((0, 0, 0)).astype(np.int16) - 1, "an array of int16 with values from -1 to 0"),
    ],
)
def test_probabilities_and_labels_are_no_masks(values: np.ndarray, found: str) -> None:
    with pytest.raises(InputError, match="whether it is inside") as caught:
        Structures.from_masks({"A": values}, GRID)
    assert caught.value.where == "A" and caught.value.found == found
    assert "array > 0.5" in str(caught.value.fix)


def test_wrong_shapes_and_names_are_refused() -> None:
    with pytest.raises(GeometryError, match="shape of its grid"):
        Volume(np.zeros((1, 2, 3), np.int16), GRID)
    with pytest.raises(GeometryError, match=r"(?s)shape of its grid.*where: A"):
        Structures.from_masks({"A": np.zeros((9, 9, 9), bool)}, GRID)
    with pytest.raises(InputError, match="not in `names`"):
        Structures.from_masks({"A": mask()}, GRID, names=("B",))
    with pytest.raises(InputError, match="No such ROI"):
        Structures.empty(GRID, ["A"]).mask("B")
    with pytest.raises(InputError, match="unique"):
        Structures(
            bits=np.zeros(GRID.shape_kij, np.uint8), grid=GRID, names=("A", "A"), presence=(True, True)
        )
