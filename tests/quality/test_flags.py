"""Flags on drawn patients: each fires for its reason, says where, and keeps quiet otherwise."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from contour_ai.box import bounding_box
from contour_ai.errors import ConfigError
from contour_ai.grid import Grid
from contour_ai.quality.confidence import uncertain_surface_share
from contour_ai.quality.figures import (
    PatientFigures,
    body_of,
    ct_figures,
    fit_places,
    holes_in_slices,
    image_figures,
    offset_mm,
    roi_figures,
)
from contour_ai.quality.flag import (
    CODES,
    Evidence,
    Flag,
    ImageEvidence,
    PatientFlags,
    RemovedOutside,
    numbers_text,
)
from contour_ai.quality.flags import find_flags
from contour_ai.quality.judging import is_gross, judge_roi
from contour_ai.quality.ranges import (
    IMAGE_FIGURES,
    ROI_FIGURES,
    Figure,
    Ranges,
    RoiRanges,
    ranges_of,
    robust_range,
)
from contour_ai.quality.shape import shape_flags
from contour_ai.settings import from_mapping, to_mapping
from contour_ai.structures import roi_info

SHAPE = (30, 40, 60)
SPACING = (3.0, 2.5, 2.0)
OUTSIDE = -1024
GRID = Grid.axial(SHAPE, SPACING, (-59.0, -50.0, 0.0))
MIDDLE_I, MIDDLE_J = 20.0, 29.5
ROIS = {
    "Parotid_L": ((15, 20, 43), 5.0, 60.0),
    "Parotid_R": ((15, 20, 16), 5.0, 60.0),
    "Brainstem": ((20, 24, 29.5), 4.0, 90.0),
}
"""Centre in voxels, radius in voxels, HU."""

Masks = dict[str, NDArray[np.bool_]]


def ball(centre: tuple[float, float, float], radius: float) -> NDArray[np.bool_]:
    axes = np.ogrid[tuple(slice(n) for n in SHAPE)]
    return sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) <= radius**2


def drawn(seed: int | None = None) -> tuple[NDArray[np.int16], Masks]:
    """An elliptic body of 30 HU from slice 2 to 27 and three balls in it, a little different for each seed."""
    dice = np.random.default_rng(seed)
    _, i, j = np.ogrid[tuple(slice(n) for n in SHAPE)]
    body = np.broadcast_to(((i - MIDDLE_I) / 15) ** 2 + ((j - MIDDLE_J) / 24) ** 2 <= 1, SHAPE).copy()
    body[:2], body[28:] = False, False
    hu = np.where(body, 30 + dice.normal(0, 8, SHAPE), OUTSIDE).astype(np.int16)
    masks = {}
    for name, (centre, radius, value) in ROIS.items():
        shift = dice.normal(0, 0.4, 3) if seed is not None else np.zeros(3)
        size = radius + (dice.normal(0, 0.2) if seed is not None else 0)
        masks[name] = ball(tuple(np.add(centre, shift)), size)
        hu[masks[name]] = np.rint(value + dice.normal(0, 8, masks[name].sum()))
    return hu, masks


def figures(seed: int) -> PatientFigures:
    hu, masks = drawn(seed)
    body = body_of(hu, OUTSIDE, SPACING)
    found = {name: roi_figures(mask, hu, body) for name, mask in masks.items()}
    return PatientFigures(image_figures(hu, body), {n: f for n, f in found.items() if f is not None})


@pytest.fixture(scope="module")
def usual() -> Ranges:
    return ranges_of([figures(seed) for seed in range(25)], [GRID] * 10)


def logit_of(mask: NDArray[np.bool_], steep: float = 8.0) -> NDArray[np.float32]:
    return np.where(mask, steep, -steep).astype(np.float32)


def flags_for(
    masks: Masks,
    ranges: Ranges | None,
    *,
    hu: NDArray[np.int16] | None = None,
    grid: Grid = GRID,
    **logits: object,
) -> PatientFlags:
    """Flags of masks on the model's grid that is the CT's grid, too."""
    hu = drawn()[0] if hu is None else hu
    rois = []
    for name, mask in masks.items():
        box = bounding_box(mask)
        logit = logits.get(name, logit_of(mask))
        rois.append(
            Evidence(info=roi_info(name), box=box, inside=None if box is None else mask[box], logit=logit)
        )  # type: ignore[arg-type]
    return find_flags(
        rois, ImageEvidence(grid=grid, body=None, hu=hu, model_grid=grid, outside_hu=OUTSIDE), ranges
    )


def codes(flags: tuple[Flag, ...]) -> set[str]:
    return {flag.code for flag in flags}


def only(flags: tuple[Flag, ...], code: str) -> Flag:
    found = [flag for flag in flags if flag.code == code]
    assert len(found) == 1, f"{code} in {codes(flags)}"
    return found[0]


# -- what fires ---------------------------------------------------------------------------------------------


def test_a_usual_patient_has_no_flags(usual: Ranges) -> None:
    for seed in range(100, 110):
        hu, masks = drawn(seed)
        found = flags_for(masks, usual, hu=hu)
        assert found.image == () and not any(found.rois.values()), found


def test_empty_and_cut(usual: Ranges) -> None:
    _, masks = drawn()
    masks["Brainstem"] = np.zeros(SHAPE, bool)
    masks["Parotid_R"] = ball((23, 20, 16), 5)
    found = flags_for(masks, usual)
    assert codes(found.rois["Brainstem"]) == {"empty"}
    least = usual.rois["Brainstem"].figures["volume_cm3"][0]
    assert only(found.rois["Brainstem"], "empty").low == pytest.approx(least, abs=1e-3)
    assert "touches_scan_end" not in codes(found.rois["Parotid_R"]), "one slice is left"
    masks["Parotid_R"] = ball((29, 20, 16), 5)
    found = flags_for(masks, usual)
    flag = only(found.rois["Parotid_R"], "touches_scan_end")
    assert (
        flag.slices == (30,) and flag.value == pytest.approx(np.pi * 0.25 * 5, rel=0.3) and flag.unit == "cm2"
    )
    assert "reaches the last slice, slice 30 (z = +87.0 mm)" in flag.reason
    assert not codes(found.rois["Parotid_R"]) & {"volume", "length", "cut_off"}, "the cut is the reason"
    missing = only(found.image, "input_missing_anatomy")
    assert missing.value == pytest.approx(
        2 / 3, abs=1e-3
    ) and "Brainstem, Parotid_R" in missing.reason.replace("Parotid_R, Brainstem", "Brainstem, Parotid_R")


def test_what_a_scan_does_not_reach_is_no_empty_roi(usual: Ranges) -> None:
    """Only of a ROI that training patients often have not, and whose place by the others lies beyond the scan."""
    _, masks = drawn()
    masks["Brainstem"] = np.zeros(SHAPE, bool)
    often = usual.with_absent({"Brainstem": 0.4})
    assert codes(flags_for(masks, often).rois["Brainstem"]) == {"empty"}, "its place is in the scan"
    above = replace(often.rois["Brainstem"], place_mm=(400.0, 0.0, 0.0))
    far = replace(often, rois={**often.rois, "Brainstem": above})
    found = flags_for(masks, far)
    flag = only(found.rois["Brainstem"], "beyond_scan")
    assert "beyond the scan's upper end" in flag.reason and judge_roi([flag]).verdict == "clear"
    assert "input_missing_anatomy" not in codes(found.image)
    seldom = replace(far, rois={**far.rois, "Brainstem": replace(above, absent_share=0.02)})
    assert codes(flags_for(masks, seldom).rois["Brainstem"]) == {"empty"}
    masks["Parotid_L"] = masks["Parotid_R"] = np.zeros(SHAPE, bool)
    assert codes(flags_for(masks, far).rois["Brainstem"]) == {"empty"}, "nothing says where it should be"


def test_where_contours_usually_reach_the_end_it_is_no_flag() -> None:
    _, masks = drawn()
    masks["Brainstem"] = ball((29, 24, 29.5), 4)
    ranges = Ranges(patients=9, rois={"Brainstem": RoiRanges(patients=9, reaches_end=0.8)})
    assert codes(flags_for(masks, ranges).rois["Brainstem"]) == set()
    assert codes(flags_for(masks, None).rois["Brainstem"]) == {"touches_scan_end"}


def test_the_border_of_the_image() -> None:
    _, masks = drawn()
    mask = ball((15, 20, 58), 3)
    flag = only(flags_for({**masks, "Parotid_L": mask}, None).rois["Parotid_L"], "touches_field_of_view")
    slices = np.flatnonzero(mask[:, :, -1].any(axis=1)) + 1
    assert flag.slices == tuple(slices) and f"slices {slices[0]}-{slices[-1]}" in flag.reason


def test_parts_holes_and_gaps(usual: Ranges) -> None:
    _, masks = drawn()
    mask = masks["Parotid_L"].copy()
    mask[15, 18:23, 41:45] = False
    mask[24, 20, 43] = True
    found = flags_for({**masks, "Parotid_L": mask}, usual).rois["Parotid_L"]
    parts = only(found, "parts")
    assert (parts.value, parts.high, parts.slices) == (2, 1, (25,))
    holes = only(found, "holes")
    assert (
        holes.slices == (16,)
        and holes.value == pytest.approx(20 * 0.015)
        and holes.high == pytest.approx(0.1)
    )
    gaps = only(found, "slice_gaps")
    assert gaps.slices == (22, 23, 24) and gaps.value == 3 and "slices 22-24" in gaps.reason


def test_size_density_and_place(usual: Ranges) -> None:
    hu, masks = drawn()
    small = only(
        flags_for({**masks, "Brainstem": ball((20, 24, 29.5), 2.2)}, usual).rois["Brainstem"], "volume"
    )
    low, high = usual.rois["Brainstem"].figures["volume_cm3"][::2]
    assert (small.low, small.high, small.unit) == (pytest.approx(low), pytest.approx(high), "cm3")
    assert small.value is not None and small.value < low and "usual" in small.reason
    dense = hu.copy()
    dense[masks["Brainstem"]] += 120
    assert "mean_hu" in codes(flags_for(masks, usual, hu=dense).rois["Brainstem"])
    moved = {**masks, "Brainstem": ball((20, 31, 29.5), 4)}
    found = flags_for(moved, usual)
    assert {"position_in_body", "position_to_rois"} <= codes(found.rois["Brainstem"])
    assert not codes(found.rois["Parotid_L"]) and not codes(found.rois["Parotid_R"]), (
        "one wrong ROI blames no other"
    )
    behind = only(found.rois["Brainstem"], "position_to_rois")
    assert (
        behind.value == pytest.approx(17.5, abs=1.5)
        and "mm behind the position expected from the other ROIs, usual" in behind.reason
    )


def test_the_numbers_are_those_of_the_contours_on_the_ct(usual: Ranges) -> None:
    """On a CT with voxels of its own, not on the model's grid, where the same organ has another volume."""
    hu, masks = drawn()
    fine = Grid.axial((90, 80, 60), (1.0, 1.25, 2.0), (-59.0, -50.0, 0.0))
    points = fine.index_to_lps(np.stack(np.meshgrid(*map(np.arange, fine.shape_kij), indexing="ij"), axis=-1))
    seen = np.linalg.norm((points - GRID.index_to_lps((20, 24, 29.5))) / (1, 1.25, 1.5), axis=-1) <= 9.1
    ct_hu = np.where(seen, 400, 30).astype(np.int16)
    box = bounding_box(seen)
    assert box is not None
    roi = Evidence(info=roi_info("Brainstem"), box=box, inside=seen[box], logit=logit_of(masks["Brainstem"]))
    image = ImageEvidence(grid=fine, body=None, hu=hu, model_grid=GRID, outside_hu=OUTSIDE, ct_hu=ct_hu)
    narrow = dict.fromkeys(("volume_cm3", "length_mm", "mean_hu"), (0.0, 0.5, 1.0))
    ranges = Ranges(patients=9, rois={"Brainstem": RoiRanges(patients=9, figures=narrow, flat_share=1.0)})
    found = find_flags([roi], image, ranges).rois["Brainstem"]
    volume = np.count_nonzero(seen) * 0.0025
    assert only(found, "volume").value == round(volume, 3)
    assert f"the volume is {volume:.1f} cm3, usual" in only(found, "volume").reason
    assert only(found, "length").value == np.count_nonzero(seen.any(axis=(1, 2)))
    assert only(found, "mean_hu").value == 400
    on_model = roi_figures(masks["Brainstem"], hu, body_of(hu, OUTSIDE, SPACING))
    assert on_model is not None and abs(on_model.volume_cm3 / volume - 1) > 0.02


def test_an_organ_that_ends_abruptly(usual: Ranges) -> None:
    _, masks = drawn()
    mask = masks["Brainstem"].copy()
    mask[20:] = False
    flag = only(flags_for({**masks, "Brainstem": mask}, usual).rois["Brainstem"], "cut_off")
    assert flag.slices == (20,) and flag.value == pytest.approx(0.9, abs=0.1)
    assert flag.reason.endswith("slice 20 (z = +57.0 mm)"), "as every importer shows it"


@pytest.mark.parametrize("signs", [(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)])
def test_left_and_right_in_every_position(signs: tuple[int, int, int], usual: Ranges) -> None:
    """The CT's axes run any way; the model's grid is always superior, posterior, left."""
    hu, masks = drawn()
    view = tuple(slice(None, None, s) for s in signs)
    starts = [0 if s > 0 else n - 1 for s, n in zip(signs, SHAPE, strict=True)]
    step = GRID.affine[:3, :3] * signs
    positions = GRID.index_to_lps(starts) + np.arange(SHAPE[0])[:, None] * step[:, 0]
    grid = Grid(shape_kij=SHAPE, positions_lps=positions, step_i_lps=step[:, 1], step_j_lps=step[:, 2])
    for names, wrong in ((("Parotid_L", "Parotid_R"), False), (("Parotid_R", "Parotid_L"), True)):
        rois = []
        for name, source in zip(names, ("Parotid_L", "Parotid_R"), strict=True):
            seen = masks[source][view]
            box = bounding_box(seen)
            assert box is not None
            rois.append(
                Evidence(info=roi_info(name), box=box, inside=seen[box], logit=logit_of(masks[source]))
            )
        found = find_flags(
            rois, ImageEvidence(grid=grid, body=None, hu=hu, model_grid=GRID, outside_hu=OUTSIDE), None
        )
        for name in names:
            assert ("wrong_side" in codes(found.rois[name])) == wrong, (signs, name)
        if wrong:
            assert "to the right of Parotid_R" in only(found.rois["Parotid_L"], "wrong_side").reason
    alone = [
        Evidence(
            info=roi_info("Parotid_L"),
            box=rois[1].box,
            inside=rois[1].inside,
            logit=logit_of(masks["Parotid_R"]),
        )
    ]
    reason = only(
        find_flags(
            alone, ImageEvidence(grid=grid, body=None, hu=hu, model_grid=GRID, outside_hu=OUTSIDE), usual
        ).rois["Parotid_L"],
        "wrong_side",
    ).reason
    assert "100% of its volume right of the body's axis" in reason


def test_low_confidence_and_its_slices(usual: Ranges) -> None:
    _, masks = drawn()
    distance = 4.0 - np.sqrt(sum((np.ogrid[tuple(slice(n) for n in SHAPE)][a] - c) ** 2 for a, c in
                                 enumerate((20, 24, 29.5))))  # fmt: skip
    sharp = (distance * 12).astype(np.float32)
    unsure = sharp.copy()
    unsure[20:] *= 0.01
    known = Ranges(patients=9, rois={"Brainstem": RoiRanges(patients=9, flat_share=0.1)})
    assert codes(flags_for(masks, known, Brainstem=sharp).rois["Brainstem"]) == set()
    flag = only(flags_for(masks, known, Brainstem=unsure).rois["Brainstem"], "low_confidence")
    assert set(flag.slices) == set(range(21, 25)) and flag.high == 0.1 and 0.4 < (flag.value or 0) < 0.7
    assert "slices 21-24" in flag.reason
    wide = Grid.axial((10, 40, 60), (9.0, 2.5, 2.0), (-59.0, -50.0, 3.0))  # slices of 3 model voxels each
    seen = masks["Brainstem"][1::3]
    box = bounding_box(seen)
    assert box is not None
    roi = Evidence(info=roi_info("Brainstem"), box=box, inside=seen[box], logit=unsure)
    flags = find_flags(
        [roi], ImageEvidence(grid=wide, body=None, hu=drawn()[0], model_grid=GRID, outside_hu=OUTSIDE), known
    ).rois["Brainstem"]
    assert set(only(flags, "low_confidence").slices) <= {7, 8, 9} and only(flags, "low_confidence").slices
    assert (
        uncertain_surface_share(sharp, np.zeros(SHAPE, bool), body_of(drawn()[0], OUTSIDE, SPACING)) is None
    )


def test_a_speck_is_never_clear_and_what_was_removed_outside_the_body_is_said() -> None:
    _, masks = drawn()
    speck = np.zeros(SHAPE, bool)
    speck[10, 20, 20] = True  # 0.015 cm3
    flag = only(flags_for({"Parotid_L": speck}, None).rois["Parotid_L"], "speck")
    assert flag.reason == "the volume is 0.015 cm3, at least 1 cm3 expected" and is_gross(flag)
    few = speck.copy()
    few[10, 20:23, 20:28] = True  # 0.36 cm3: a quarter of a cm3 or more is not gross
    assert not is_gross(only(flags_for({"Parotid_L": few}, None).rois["Parotid_L"], "speck"))
    flag = only(flags_for({"Thing": speck}, None).rois["Thing"], "speck")
    assert flag.reason == "the volume is 0.015 cm3, a speck" and judge_roi([flag]).verdict == "look"
    assert "speck" not in codes(flags_for(masks, None).rois["Parotid_L"])

    box = bounding_box(masks["Parotid_L"])
    assert box is not None
    beyond = np.zeros(masks["Parotid_L"][box].shape, bool)
    beyond[2:4] = True
    removed = RemovedOutside.of(beyond, box, GRID)
    count = int(np.count_nonzero(beyond))
    assert removed.volume_cm3 == pytest.approx(count * 0.015)
    assert removed.slices == (box[0].start + 3, box[0].start + 4)
    roi = Evidence(info=roi_info("Parotid_L"), box=box, inside=masks["Parotid_L"][box], outside=removed)
    flag = only(tuple(shape_flags(roi, GRID)), "outside_body")
    assert f"{count * 0.015:.2g} cm3 of the contour lay outside the body and were removed" in flag.reason
    little = Evidence(
        info=roi_info("Parotid_L"),
        box=box,
        inside=masks["Parotid_L"][box],
        outside=RemovedOutside(0.3, (12,)),
    )
    assert "outside_body" not in codes(tuple(shape_flags(little, GRID)))


def test_a_second_part_of_an_organ_of_one_piece_says_how_large_and_where() -> None:
    two = np.zeros(SHAPE, bool)
    two[3:9, 15:25, 20:30] = True
    two[24:28, 15:20, 20:25] = True  # 1.5 cm3, 61 mm above
    known = Ranges(patients=9, rois={"Brainstem": RoiRanges(patients=9, parts=2)})
    flag = only(flags_for({"Brainstem": two}, known).rois["Brainstem"], "parts")
    assert "the second of 1.5 cm3 60 mm above the largest" in flag.reason
    assert "parts" not in codes(
        flags_for({"Thing": two}, Ranges(patients=9, rois={"Thing": RoiRanges(patients=9, parts=2)})).rois[
            "Thing"
        ]
    )
    logit = np.where(two, np.float32(4), np.float32(-4))
    left_out = two.copy()
    left_out[:20] = False
    kept = np.where(left_out, np.float32(-4), logit)
    box = bounding_box(two & ~left_out)
    assert box is not None
    roi = Evidence(info=roi_info("Brainstem"), box=box, inside=two[box], logit=kept, left_out=left_out)
    image = ImageEvidence(grid=GRID, body=None, hu=drawn()[0], model_grid=GRID, outside_hu=OUTSIDE)
    flag = only(find_flags([roi], image).rois["Brainstem"], "left_out")
    assert flag.reason.startswith(
        "1.5 cm3 of disconnected prediction was removed, 60 mm above the kept part, slices "
    )


def test_unlike_the_training_images(usual: Ranges) -> None:
    hu, masks = drawn()
    shifted = hu.copy()
    shifted[hu != OUTSIDE] += 60
    assert "input_soft_tissue" in codes(flags_for(masks, usual, hu=shifted).image)
    short = hu.copy()
    short[:12] = OUTSIDE
    assert "input_scan_length" in codes(flags_for(masks, usual, hu=short).image)
    metal = hu.copy()
    metal[10:14, 18:24, 26:32] = 3000
    flag = only(flags_for(masks, usual, hu=metal).image, "input_metal")
    assert flag.value == pytest.approx(4 * 6 * 6 * 0.015) and flag.low is None
    coarse = Grid.axial((10, 40, 60), (9.0, 2.5, 2.0), (-59.0, -50.0, 3.0))
    image = ImageEvidence(grid=coarse, body=None, hu=hu, model_grid=GRID, outside_hu=OUTSIDE)
    assert codes(find_flags([], image, usual).image) == {"input_slice_distance"}
    fine = Grid.axial((60, 80, 120), (1.5, 1.25, 1.0))
    assert (
        find_flags(
            [], ImageEvidence(grid=fine, body=None, hu=hu, model_grid=GRID, outside_hu=OUTSIDE), usual
        ).image
        == ()
    ), "finer is no reason"
    body = np.ones(SHAPE, bool)
    cut = only(
        find_flags(
            [], ImageEvidence(grid=GRID, body=body, hu=hu, model_grid=GRID, outside_hu=OUTSIDE), None
        ).image,
        "input_body_cut",
    )
    assert cut.value == 1.0 and cut.slices == tuple(range(1, 31))


def test_the_body_is_not_compared() -> None:
    hu, masks = drawn()
    body = hu != OUTSIDE
    box = bounding_box(body)
    assert box is not None
    rois = [Evidence(info=roi_info("Body"), box=box, inside=body[box])]
    assert find_flags(
        rois, ImageEvidence(grid=GRID, body=body, hu=hu, model_grid=GRID, outside_hu=OUTSIDE), None
    ).rois == {"Body": ()}
    assert set(masks)


def test_every_code_is_explained() -> None:
    used = {figure.code for figure in [*ROI_FIGURES.values(), *IMAGE_FIGURES.values()]}
    assert used <= set(CODES)
    page = (Path(__file__).parents[2] / "docs" / "flags.md").read_text(encoding="utf-8")
    assert [code for code in CODES if f"`{code}`" not in page] == []


@pytest.mark.parametrize(
    ("slices", "words"),
    [([3], "slice 3"), ([5, 3, 4, 9], "slices 3-5, 9"), (range(1, 20, 2), "slices 1, 3, 5, 7, 9, 11, ...")],
)
def test_slices_in_words(slices: list[int], words: str) -> None:
    assert numbers_text(slices) == words


def test_slices_in_words_say_where_they_lie() -> None:
    assert numbers_text([3, 4, 9], GRID) == "slices 3-4, 9 (z = +6.0 to +24.0 mm)"
    feet_first = Grid(
        shape_kij=SHAPE,
        positions_lps=GRID.positions_lps[::-1],
        step_i_lps=-GRID.step_i_lps,
        step_j_lps=GRID.step_j_lps,
    )
    assert numbers_text([1], feet_first) == "slice 1 (z = +87.0 mm)"
    coronal = Grid(
        shape_kij=(30, 40, 60),
        positions_lps=np.array([[0, 3.0 * k, 0] for k in range(30)]),
        step_i_lps=np.array([0, 0, -2.0]),
        step_j_lps=np.array([2.0, 0, 0]),
    )
    assert numbers_text([30], coronal) == "slice 30 (y = +87.0 mm)"


# -- ranges -------------------------------------------------------------------------------------------------


def test_robust_ranges() -> None:
    figure = Figure(code="volume", words="", unit="cm3", ratio=True, least=0.1)
    assert robust_range([1.0] * 4, figure) is None
    low, middle, high = robust_range([20.0] * 30, figure) or (0, 0, 0)
    assert (low, middle, high) == (pytest.approx(18.18, abs=0.01), 20, 22)
    dice = np.random.default_rng(1)
    values = [*np.exp(dice.normal(3, 0.3, 200)), 1e5]
    low, middle, high = robust_range(values, figure) or (0, 0, 0)
    assert np.mean([low < v < high for v in values]) > 0.98 and high < 100, "one wrong contour moves nothing"
    assert (
        robust_range(
            [0.0, 0.9, 0.1, 0.2, 0.3, 0.2], Figure(code="", words="", unit="", ratio=False, least=0.05)
        )[0]
        == 0.0
    )  # type: ignore[index]


def test_places_of_patients_that_lie_anywhere() -> None:
    dice = np.random.default_rng(2)
    true = {name: dice.normal(0, 50, 3) for name in "ABCDE"}
    patients = []
    for _ in range(12):
        shift, some = dice.normal(0, 300, 3), dice.choice(list("ABCDE"), 4, replace=False)
        patients.append({n: tuple(true[n] + shift + dice.normal(0, 0.5, 3)) for n in some})
    patients[3] = {
        n: tuple(np.add(p, 80 if n == next(iter(patients[3])) else 0)) for n, p in patients[3].items()
    }
    places = fit_places(patients)
    for a, b in itertools.combinations("ABCDE", 2):
        assert np.subtract(places[a], places[b]) == pytest.approx(true[a] - true[b], abs=1.5)
    wrong = next(iter(patients[3]))
    assert offset_mm(wrong, patients[3], places) == pytest.approx([80, 80, 80], abs=2)
    assert offset_mm("A", {"A": (0.0, 0.0, 0.0)}, places) is None, "nothing to compare with"


def test_ranges_are_written_and_read(usual: Ranges) -> None:
    with_shares = usual.with_confidence(
        {"Brainstem": [0.1] * 6, "Parotid_L": [0.9] * 6, "Parotid_R": [0.1]}, 6
    )
    assert from_mapping(Ranges, to_mapping(with_shares)) == with_shares
    assert with_shares.held_back == 6
    assert with_shares.rois["Brainstem"].flat_share == pytest.approx(0.15)
    assert [with_shares.rois[roi].flat_share for roi in ("Parotid_L", "Parotid_R")] == [0.6, 0.6]
    assert usual.with_confidence({"Brainstem": [0.1] * 3}, 3).rois["Brainstem"].flat_share is None
    with pytest.raises(ConfigError, match="figures that a ROI does not have"):
        RoiRanges(patients=3, figures={"weight": (1, 2, 3)})
    with pytest.raises(ConfigError, match="must ascend"):
        Ranges(patients=3, image={"slice_mm": (3, 2, 1)})


def test_few_patients_say_nothing() -> None:
    ranges = ranges_of([figures(seed) for seed in range(3)])
    assert ranges.image == {} and ranges.rois["Brainstem"] == RoiRanges(patients=3)


# -- figures ------------------------------------------------------------------------------------------------


def test_figures_of_a_ball() -> None:
    hu, masks = drawn()
    body = body_of(hu, OUTSIDE, SPACING)
    found = roi_figures(masks["Parotid_L"], hu, body)
    assert found is not None
    assert found.volume_cm3 == pytest.approx(4 / 3 * np.pi * 125 * 0.015, rel=0.03)
    assert found.length_mm == 33 and found.parts == 1 and found.hole_cm3 == 0 and found.missing_slices == 0
    assert found.mean_hu == pytest.approx(60, abs=2) and found.sd_hu == pytest.approx(8, abs=1)
    assert found.left_mm == pytest.approx((43 - MIDDLE_J) * 2) and found.left_share == 1
    assert found.posterior_mm == pytest.approx(0, abs=0.01)
    assert found.body_area_cm2 == pytest.approx(np.pi * 15 * 24 * 0.05, rel=0.02)
    assert found.centre_mm == pytest.approx((45, 50, 86)) and not found.reaches_end
    assert image_figures(hu, body).body_length_mm == 26 * 3


@pytest.mark.parametrize("axes", ["axial", "coronal", "sagittal"])
def test_figures_on_the_ct_whatever_way_its_slices_run(axes: str) -> None:
    """A box 8 mm high, 6 from front to back and 4 from side to side, on voxels of 1 mm."""
    left, back, up = np.eye(3)
    slices, rows, columns = {
        "axial": (up, back, left),
        "coronal": (back, -up, left),
        "sagittal": (left, -up, -back),
    }[axes]
    grid = Grid(
        shape_kij=(12, 12, 12),
        positions_lps=np.outer(np.arange(12), slices),
        step_i_lps=rows,
        step_j_lps=columns,
    )
    size = np.abs(np.stack([slices, rows, columns]) @ (4, 6, 8)).astype(int)
    box = (slice(2, 2 + size[0]), slice(1, 1 + size[1]), slice(3, 3 + size[2]))
    hu = np.full(grid.shape_kij, 40, np.int16)
    hu[box][0, 0, 0] = 3000
    found = ct_figures(np.ones(size, bool), box, grid, hu)
    assert found is not None
    assert (found.volume_cm3, found.length_mm) == (pytest.approx(0.192), 8)
    assert found.mean_hu == pytest.approx(40 + (1500 - 40) / 192), "one implant does not decide"
    middle = [s.start + (s.stop - s.start - 1) / 2 for s in box]
    assert found.centre_lps == pytest.approx(tuple(grid.index_to_lps(middle)))
    assert ct_figures(np.zeros((2, 2, 2), bool), (slice(0, 2),) * 3, grid, hu) is None


def test_slices_that_hold_one_organ_only_are_not_the_body() -> None:
    hu, masks = drawn()
    cut = np.where(masks["Brainstem"], hu, OUTSIDE).astype(np.int16)
    hu[18:] = cut[18:]
    body = body_of(hu, OUTSIDE, SPACING)
    assert body.ends == (2, 17)
    found = roi_figures(masks["Brainstem"], hu, body)
    assert found is not None and np.isnan(found.left_mm) and np.isnan(found.body_area_cm2)
    assert found.volume_cm3 > 0


def test_holes() -> None:
    mask = np.zeros((3, 7, 7), bool)
    mask[1, 1:6, 1:6] = True
    mask[1, 3, 3] = False
    mask[2, 1:6, 1:6] = True
    mask[2, 3, 3:] = False
    assert holes_in_slices(mask) == {1: 1}
