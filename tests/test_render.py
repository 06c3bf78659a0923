"""Pictures: colours, places, letters and sizes are checked in the pixels."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from contour_ai.grid import Grid
from contour_ai.polygons import mask_to_polygons
from contour_ai.render import (
    View,
    cut_plane,
    direction_letters,
    informative_slices,
    montage,
    overlay_panels,
    slice_plane,
    view_of,
)
from contour_ai.render.drawing import draw_names
from contour_ai.structures import RoiInfo
from contour_ai.volume import Volume

RED = RoiInfo(name="Red", color=(255, 0, 0))
BLUE = RoiInfo(name="Blue", color=(0, 0, 255))
BODY = RoiInfo(name="Body", color=(0, 255, 0), interpreted_type="EXTERNAL")
GRID = Grid.axial((20, 40, 60), (3.0, 2.0, 1.0), (-30.0, -40.0, 100.0))


def volume(grid: Grid = GRID) -> Volume:
    return Volume(np.full(grid.shape_kij, 40, np.int16), grid)


def box_mask(rows: slice, columns: slice) -> NDArray[np.bool_]:
    mask = np.zeros(GRID.shape_kij[1:], bool)
    mask[rows, columns] = True
    return mask


def pixels(picture: Image.Image) -> NDArray[np.int16]:
    return np.asarray(picture).astype(np.int16)


def colored(picture: Image.Image, color: tuple[int, int, int]) -> NDArray[np.bool_]:
    return (np.abs(pixels(picture) - color) < 10).all(axis=-1)


def test_panels_are_true_to_millimetres_and_contours_lie_where_the_mask_is() -> None:
    mask = box_mask(slice(10, 20), slice(30, 50))
    polygons = {"Red": mask_to_polygons(mask, holes="separate")}
    picture = overlay_panels(slice_plane(volume(), 5, polygons), [RED], panel_px=400)
    # 40 rows of 2 mm by 60 columns of 1 mm: 80 mm by 60 mm, 5 screen pixels a mm
    assert picture.width == 3 * 300 + 2 * 4
    overlay = picture.crop((608, 24, 908, 424))
    line = colored(overlay, RED.color)
    line[:96] = False  # the name, above the contour
    rows, columns = np.flatnonzero(line.any(axis=1)), np.flatnonzero(line.any(axis=0))
    assert (rows[0], rows[-1]) == pytest.approx((10 * 10, 20 * 10), abs=3)
    assert (columns[0], columns[-1]) == pytest.approx((30 * 5, 50 * 5), abs=3)
    assert not colored(picture.crop((0, 24, 300, 424)), RED.color).any(), "the first panel is the CT alone"
    prediction = pixels(picture.crop((304, 24, 604, 424)))
    inside, tissue = prediction[150, 200], prediction[350, 200]
    assert tissue[0] == tissue[1] == tissue[2] == 127  # 40 HU is the middle of the window
    assert inside[0] > tissue[0] + 30 and inside[2] < tissue[2] - 30


def test_ground_truth_has_a_panel_only_where_there_is_one() -> None:
    polygons = {"Red": mask_to_polygons(box_mask(slice(5, 15), slice(5, 20)), holes="separate")}
    truth = {"Red": mask_to_polygons(box_mask(slice(22, 32), slice(30, 50)), holes="separate")}
    without = overlay_panels(slice_plane(volume(), 0, polygons), [RED], panel_px=400)
    with_truth = overlay_panels(slice_plane(volume(), 0, polygons, truth), [RED], panel_px=400)
    assert without.width == 908 and with_truth.width == 1212
    truth_panel, prediction = with_truth.crop((304, 24, 604, 424)), with_truth.crop((608, 24, 908, 424))
    upper, lower = slice(0, 190), slice(190, None)
    assert colored(truth_panel, RED.color)[lower].any() and not colored(truth_panel, RED.color)[upper].any()
    assert colored(prediction, RED.color)[upper].any() and not colored(prediction, RED.color)[lower].any()
    overlay = with_truth.crop((912, 24, 1212, 424))
    assert colored(overlay, RED.color)[upper].any()
    assert colored(overlay, (255, 170, 170))[lower].any(), "ground truth is dashed in a lighter tone"


def test_holes_stay_open_and_the_body_is_not_filled() -> None:
    ring = box_mask(slice(10, 30), slice(10, 50)) & ~box_mask(slice(16, 24), slice(20, 40))
    contours = {
        "Red": mask_to_polygons(ring, holes="separate"),
        "Body": mask_to_polygons(box_mask(slice(1, 39), slice(1, 59)), holes="separate"),
    }
    picture = overlay_panels(slice_plane(volume(), 0, contours), [RED, BODY], panel_px=400)
    prediction = pixels(picture.crop((304, 24, 604, 424)))
    assert prediction[200, 150].tolist() == [127] * 3, "hole"
    assert prediction[125, 150, 0] > 160, "ring"
    assert prediction[350, 40].tolist() == [127] * 3, "body"
    assert colored(picture.crop((304, 24, 604, 424)), BODY.color).any()


def test_names_stand_beside_their_contours_and_cover_no_other() -> None:
    masks = {"Red": (slice(10, 14), slice(20, 30)), "Blue": (slice(15, 19), slice(20, 30)), "Empty": None}
    contours = {
        name: mask_to_polygons(box_mask(*at), holes="separate")
        for name, at in masks.items()
        if at is not None
    }
    rois = [RED, BLUE, RoiInfo(name="Empty", color=(1, 2, 3)), BODY]
    contours["Body"] = mask_to_polygons(box_mask(slice(0, 40), slice(0, 60)), holes="separate")
    panel = Image.new("RGB", (300, 400))
    boxes = draw_names(panel, contours, rois, View(top=0, bottom=40, left=0, right=60))
    assert len(boxes) == 3, "nothing is written where there is no contour"
    for n, (a, b, c, d) in enumerate(boxes):
        assert 0 <= a < c <= 300 and 0 <= b < d <= 400
        assert all(a >= g or c <= e or b >= h or d <= f for e, f, g, h in boxes[:n])
    assert boxes[0][3] <= 100 and boxes[0][1] > 70, "above the contour"
    assert colored(panel.crop(boxes[0]), RED.color).any() and colored(panel.crop(boxes[1]), BLUE.color).any()


@pytest.mark.parametrize(
    ("direction", "letters"),
    [
        ([1, 0, 0], "L"),
        ([-1, 0, 0], "R"),
        ([0, 1, 0], "P"),
        ([0, -2, 0], "A"),
        ([0, 0, 1], "S"),
        ([0, 0, -1], "I"),
        ([0.1, 1, 0.1], "P"),
        ([0.5, -1, 0], "AL"),
        ([-1, 0, 0.9], "RS"),
    ],
)
def test_orientation_letters(direction: list[float], letters: str) -> None:
    assert direction_letters(np.array(direction, float)) == letters


def test_letters_and_caption_come_from_the_grid() -> None:
    assert slice_plane(volume(), 4, {}).letters == ("R", "L", "A", "P")
    assert slice_plane(volume(), 4, {}).caption == "slice 5 of 20   z = +112.0 mm"
    prone = Grid(
        shape_kij=GRID.shape_kij,
        positions_lps=GRID.positions_lps,
        step_i_lps=-GRID.step_i_lps,
        step_j_lps=-GRID.step_j_lps,
    )
    assert slice_plane(volume(prone), 0, {}).letters == ("L", "R", "P", "A")
    coronal = Grid(
        shape_kij=(3, 10, 10),
        positions_lps=np.array([[0.0, -y, 0] for y in (9, 6, 3)])[::-1] * -1,
        step_i_lps=np.array([0, 0, -2.0]),
        step_j_lps=np.array([2.0, 0, 0]),
    )
    plane = slice_plane(volume(coronal), 0, {})
    assert plane.letters == ("R", "L", "S", "I") and "y = +3.0 mm" in plane.caption


@pytest.mark.parametrize("feet_first", [False, True])
def test_cuts_have_the_head_on_top(feet_first: bool) -> None:
    grid = GRID
    if feet_first:  # k ascends towards the feet: rows still run to the back, columns to the right
        positions = GRID.positions_lps[::-1] + 59 * GRID.step_j_lps
        grid = Grid(
            shape_kij=GRID.shape_kij,
            positions_lps=positions,
            step_i_lps=GRID.step_i_lps,
            step_j_lps=-GRID.step_j_lps,
        )
    hu = np.full(grid.shape_kij, -160, np.int16)
    top = 0 if feet_first else 19
    hu[top] = 240
    masks = {"Red": np.zeros((20, 60), bool)}
    masks["Red"][top, 10:20] = True
    plane = cut_plane(Volume(hu, grid), 1, 7, masks)
    assert plane.hu[0].min() == 240 and plane.hu[-1].max() == -160
    assert plane.letters == (("L", "R", "S", "I") if feet_first else ("R", "L", "S", "I"))
    assert plane.caption == "coronal   y = -26.0 mm" and plane.spacing_mm == (3.0, 1.0)
    assert plane.predicted["Red"][0][:, 0].max() < 1
    sagittal = cut_plane(Volume(hu, grid), 2, 3, {})
    assert sagittal.letters == ("A", "P", "S", "I") and sagittal.spacing_mm == (3.0, 2.0)


def test_cuts_through_unequal_slices_keep_millimetres() -> None:
    positions = GRID.positions_lps.copy()
    positions[10:, 2] += 30.0
    grid = Grid(
        shape_kij=GRID.shape_kij,
        positions_lps=positions,
        step_i_lps=GRID.step_i_lps,
        step_j_lps=GRID.step_j_lps,
    )
    hu = np.broadcast_to(np.arange(20, dtype=np.int16)[:, None, None], grid.shape_kij)
    plane = cut_plane(Volume(hu, grid), 1, 0, {})
    assert plane.hu.shape[0] * plane.spacing_mm[0] == pytest.approx(20 * 3 + 30, abs=1.5)
    assert (np.diff(plane.hu[:, 0]) <= 0).all()


def test_the_view_is_cropped_to_the_body() -> None:
    mask = box_mask(slice(10, 20), slice(20, 50))
    assert view_of(mask, (2.0, 1.0), margin_mm=4) == View(top=8, bottom=22, left=16, right=54)
    assert view_of(np.zeros((5, 6), bool), (1.0, 1.0)) == View(top=0, bottom=5, left=0, right=6)
    picture = overlay_panels(
        slice_plane(volume(), 0, {}), [RED], view=View(top=8, bottom=22, left=16, right=54), panel_px=380
    )
    assert picture.width == 3 * 380 + 8


def test_a_montage_has_all_tiles_notes_and_legend() -> None:
    polygons = {"Red": mask_to_polygons(box_mask(slice(5, 15), slice(5, 20)), holes="separate")}
    planes = [
        (slice_plane(volume(), k, polygons), View(top=0, bottom=40, left=0, right=60)) for k in range(5)
    ]
    picture = montage(planes, [RED, BLUE], title="Patient", notes=["Blue is empty"], columns=4, tile_px=200)
    assert picture.width == 800 and picture.height > 400
    assert colored(picture, BLUE.color).sum() > 100, "the legend names ROIs without contours too"
    line = colored(picture, RED.color)
    assert line[:, :200].any() and line[:, 600:].any()


def test_informative_slices() -> None:
    k = np.arange(100)
    areas = {
        "long": np.where((k > 10) & (k < 90), 5.0, 0.0),
        "short": np.where((k > 40) & (k < 44), k - 40.0, 0.0),
        "empty": np.zeros(100),
    }
    chosen = informative_slices(areas, 8)
    assert len(chosen) == 8 == len(set(chosen)) and chosen == sorted(chosen)
    assert chosen[0] == 11 and chosen[-1] == 89 and 43 in chosen
    assert informative_slices({"short": areas["short"]}, 8) == [41, 42, 43]
    assert informative_slices({}, 8) == [] and informative_slices({"empty": np.zeros(9)}, 8) == []
