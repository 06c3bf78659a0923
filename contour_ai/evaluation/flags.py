"""Flags: reasons to look twice at a prediction, each with a number, its limit and the slices to look at."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from contour_ai.box import Box, bounding_box
from contour_ai.evaluation.anatomy import (
    Body,
    RoiFigures,
    as_on_ct,
    body_of,
    ct_figures,
    holes_in_slices,
    image_figures,
    roi_figures,
)
from contour_ai.evaluation.ranges import (
    IMAGE_FIGURES,
    ROI_FIGURES,
    Figure,
    Range,
    Ranges,
    RoiRanges,
    centres_of,
    compared_of,
    grid_figures,
    image_values,
    side_of,
)
from contour_ai.grid import Grid
from contour_ai.structures import RoiInfo, flip_pairs

Bool = NDArray[np.bool_]

EXTERNAL = "EXTERNAL"

CODES: Mapping[str, str] = {
    "empty": "the model found nothing",
    "touches_scan_end": "reaches the first or last slice, which few training patients' contours do",
    "touches_field_of_view": "reaches the border of the image",
    "parts": "more separate parts than training patients have",
    "left_out": "the model's own rule left out parts that the network was sure of",
    "holes": "larger holes than training patients have",
    "slice_gaps": "slices without a contour between slices with one",
    "wrong_side": "a left ROI on the right, or the other way round",
    "low_confidence": "the probability is flat along much of the surface",
    "volume": "volume outside the training range",
    "length": "extent along the body outside the training range",
    "mean_hu": "mean density outside the training range",
    "hu_spread": "standard deviation of the density outside the training range",
    "position_in_body": "position relative to the body's axis, or the body's cross-section there, outside the range",
    "position_to_rois": "position relative to the other ROIs outside the training range",
    "cut_off": "ends more abruptly than in training patients",
    "input_body_cut": "the border of the image cuts the body",
    "input_missing_anatomy": "many of the model's ROIs are empty or cut",
    "input_slice_distance": "slices farther apart than in training, and than the model's voxels",
    "input_pixel_size": "pixels larger than in training, and than the model's voxels",
    "input_field_of_view": "image narrower than in training",
    "input_scan_length": "more or less of the body in view than in training",
    "input_body_size": "the body's cross-section outside the training range",
    "input_soft_tissue": "density of soft tissue outside the training range: another calibration",
    "input_air": "share of air in the body outside the training range",
    "input_bone": "share of bone in the body outside the training range",
    "input_metal": "more metal than in training",
}
"""Every code that there is. Those that begin with `input_` concern the image as a whole, the others one ROI."""

LEFT_OUT_CM3 = 0.5
"""Smaller parts that a rule leaves out are specks: of 34 cords and esophagi of patients held back four had more than
0.1 cm3 of them, three more than 0.5."""
HOLE_CM3 = 0.1
"""Smaller holes are not worth a look."""
WRONG_SIDE_SHARE = 0.5
"""Of the volume, where the training patients do not say."""
FLAT_LOGIT = float(np.log(3))
"""The probability is flat where two voxels on either side of the surface both lie between 25 % and 75 %. Measured with
a young network on 14 patients held back, the share of such places went with the Dice of the ROI (correlation -0.4 to
-0.9) between 10 % and 90 % of its own, twice too sure, probabilities, which is this band of calibrated ones; the slope
in millimetres did not, because networks are steeper than they are right."""
FLAT_SHARE = 0.5
"""Of the surface, where no patients were held back to measure it."""
BODY_CUT_SHARE = 0.1
"""Of the slices: shoulders are often cut in a few."""
MISSING_SHARE = 1 / 3
"""Of the ROIs."""
AXIAL = 0.7
"""Cosine between the slice normal and the body from which slices count as axial."""
DECIMALS = {"cm3": 3, "HU": 1}
"""Of numbers and limits by unit, where not 4."""
USUALLY = 0.3
"""What so many training patients have is no reason to look twice."""


@dataclass(frozen=True)
class Flag:
    """A reason to look twice.

    Args:
        code: one of `CODES`, for programs.
        reason: for people; names the number, its limit and, where it is a part of the ROI, the slices.
        value: the number.
        low, high: its limits; None where that side is open.
        unit: of all three; "" for shares and counts.
        slices: numbers of the slices concerned, from 1 along the slice normal.
    """

    code: str
    reason: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str = ""
    slices: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Evidence:
    """One predicted ROI, on the CT's grid and on the model's.

    Args:
        info: name and type.
        box: where `inside` lies on the CT's grid; None where the ROI is empty.
        inside: mask (k, i, j) in the box.
        logit: (k, i, j) on the model's grid, what was refused pushed below `threshold`; None for a ROI by rule.
        threshold: the logit of its surface.
        left_out: (k, i, j) on the model's grid, of what the network was sure of and a rule refused; None for nothing.
    """

    info: RoiInfo
    box: Box | None = None
    inside: Bool | None = None
    logit: NDArray[np.float32] | None = None
    threshold: float = 0.0
    left_out: Bool | None = None


@dataclass(frozen=True, eq=False)
class Image:
    """What ROIs were found in: the CT's grid and body, and the prepared image.

    Args:
        grid: of the CT.
        body: (k, i, j) on it; None where it is not known.
        hu: (k, i, j) on the model's grid, `outside_hu` outside the body.
        model_grid: axes superior, posterior, left.
        ct_hu: (k, i, j) on the CT's grid; None takes the density of ROIs from `hu`.
    """

    grid: Grid
    body: Bool | None
    hu: NDArray[np.int16]
    model_grid: Grid
    outside_hu: int
    ct_hu: NDArray[Any] | None = None


@dataclass(frozen=True)
class PatientFlags:
    """All flags of one prediction: of the image, and by ROI."""

    image: tuple[Flag, ...] = ()
    rois: Mapping[str, tuple[Flag, ...]] = field(default_factory=dict)


def find_flags(rois: Sequence[Evidence], image: Image, ranges: Ranges | None = None) -> PatientFlags:
    """Every reason to look twice at a prediction.

    Volume, extent, mean density and centre of a ROI are those of its contours on the CT, as in every table. The body
    (type EXTERNAL) is not flagged unless it is empty. Without `ranges` nothing is compared with training patients;
    shape, side, cuts and confidence are still looked at.
    """
    spacing = image.model_grid.spacing_mm
    body = body_of(image.hu, image.outside_hu, spacing)
    masks = {
        roi.info.name: _on_model_grid(roi, image, body)
        for roi in rois
        if roi.logit is not None and roi.box is not None
    }
    known = _figures(rois, masks, image, body)
    places = _places(ranges)
    found = {}
    for roi in rois:
        usual = None if ranges is None else ranges.rois.get(roi.info.name)
        flags = [*shape_flags(roi, image.grid, usual), *_left_out_flags(roi, image)]
        mine = known.get(roi.info.name)
        if mine is not None and roi.info.interpreted_type != EXTERNAL:
            cut = any(flag.code.startswith("touches") for flag in flags) or _reaches_end(roi, image.grid)
            values = compared_of(roi.info.name, mine, centres_of(known), places)
            flags += _side_flags(roi, mine, known, values, usual)
            flags += _range_flags(roi, values, usual, image, cut=cut)
            flags += _confidence_flags(roi, masks[roi.info.name], image, body, usual)
        found[roi.info.name] = tuple(flags)
    organs = [roi.info.name for roi in rois if roi.info.interpreted_type != EXTERNAL]
    return PatientFlags(tuple(_image_flags(image, body, found, organs, ranges)), found)


def _figures(
    rois: Sequence[Evidence], masks: Mapping[str, Bool], image: Image, body: Body
) -> dict[str, RoiFigures]:
    """{ROI: its figures} of those that are not empty."""
    known = {}
    for roi in rois:
        if roi.info.name in masks and roi.box is not None and roi.inside is not None:
            found = roi_figures(masks[roi.info.name], image.hu, body)
            on_ct = ct_figures(roi.inside, roi.box, image.grid, image.ct_hu)
            if found is not None and on_ct is not None:
                known[roi.info.name] = as_on_ct(found, on_ct, image.model_grid)
    return known


def _on_model_grid(roi: Evidence, image: Image, body: Body) -> Bool:
    """What of a ROI on the model's grid is on the CT's, too: not specks between its voxels or outside the body."""
    assert roi.box is not None and roi.logit is not None
    ends = itertools.product(*((s.start - 0.5, s.stop - 0.5) for s in roi.box))
    corners = image.model_grid.lps_to_index(image.grid.index_to_lps(list(ends)))
    low, high = np.floor(corners.min(axis=0)).astype(int), np.ceil(corners.max(axis=0)).astype(int)
    near = tuple(slice(max(0, a), max(0, b + 1)) for a, b in zip(low, high, strict=True))
    left = np.zeros_like(body.mask)
    left[near] = (roi.logit[near] > roi.threshold) & body.mask[near]
    return left


def _places(ranges: Ranges | None) -> dict[str, tuple[float, float, float]]:
    if ranges is None:
        return {}
    return {name: roi.place_mm for name, roi in ranges.rois.items() if roi.place_mm is not None}


# -- what the mask alone says -------------------------------------------------------------------------------


def shape_flags(roi: Evidence, grid: Grid, usual: RoiRanges | None = None) -> list[Flag]:
    """Reasons that the mask on the CT's grid gives: nothing there, cuts, parts, holes, gaps."""
    if roi.box is None or roi.inside is None:
        reason = "the model found nothing; the ROI is not in the structure set"
        least = None if usual is None or "volume_cm3" not in usual.figures else usual.figures["volume_cm3"][0]
        return [_flag("empty", reason, 0.0, least, None, "cm3")]
    if roi.info.interpreted_type == EXTERNAL:
        return []
    usual = usual or RoiRanges(0)
    flags = _end_flags(roi.inside, roi.box, grid, usual) + _border_flags(roi.inside, roi.box, grid)
    return flags + _part_flags(roi, grid, usual)


def _end_flags(inside: Bool, box: Box, grid: Grid, usual: RoiRanges) -> list[Flag]:
    ends = {}
    if box[0].start == 0 and inside[0].any():
        ends["first"] = (1, np.count_nonzero(inside[0]))
    if box[0].stop == grid.shape_kij[0] and inside[-1].any():
        ends["last"] = (grid.shape_kij[0], np.count_nonzero(inside[-1]))
    if not ends or usual.reaches_end > USUALLY:
        return []
    area = sum(count for _, count in ends.values()) * grid.spacing_mm[1] * grid.spacing_mm[2] / 100
    where = " and the ".join(ends)
    at = in_words((k for k, _ in ends.values()), grid)
    reason = f"reaches the {where} slice, {at}: the organ may go on beyond the scan (cut over {area:.1f} cm2)"
    return [_flag("touches_scan_end", reason, area, None, 0.0, "cm2", (k for k, _ in ends.values()))]


def _border_flags(inside: Bool, box: Box, grid: Grid) -> list[Flag]:
    touching = np.zeros(len(inside), bool)
    for axis in (1, 2):
        across: Bool = np.logical_or.reduce(inside, axis=3 - axis)  # (k, i) or (k, j)
        if box[axis].start == 0:
            touching |= across[:, 0]
        if box[axis].stop == grid.shape_kij[axis]:
            touching |= across[:, -1]
    slices = np.flatnonzero(touching) + box[0].start + 1
    if not slices.size:
        return []
    reason = f"reaches the border of the image: the organ may be cut, {in_words(slices, grid)}"
    return [_flag("touches_field_of_view", reason, slices.size, None, 0, "slices", slices)]


def _part_flags(roi: Evidence, grid: Grid, usual: RoiRanges) -> list[Flag]:
    assert roi.box is not None and roi.inside is not None
    inside, first = roi.inside, roi.box[0].start + 1
    flags = []
    labels, count = ndimage.label(inside, np.ones((3, 3, 3)))
    if count > usual.parts:
        voxels_cm3 = grid.voxel_volumes_cm3[roi.box[0]]
        volumes = np.zeros(count + 1)
        for k, part in enumerate(labels):
            volumes += np.bincount(part.ravel(), minlength=count + 1) * voxels_cm3[k]
        volumes[0] = 0
        largest = int(volumes.argmax())
        slices = np.flatnonzero(((labels > 0) & (labels != largest)).any(axis=(1, 2))) + first
        rest = volumes.sum() - volumes[largest]
        reason = (
            f"{count} separate parts, usual {_at_most(usual.parts)}; all but the largest are {rest:.2g} cm3, "
            f"{in_words(slices, grid)}"
        )
        flags.append(_flag("parts", reason, count, None, usual.parts, "", slices))
    holes = holes_in_slices(inside)
    volume = float(sum(n * grid.voxel_volumes_cm3[roi.box[0].start + k] for k, n in holes.items()))
    limit = max(HOLE_CM3, usual.hole_cm3)
    if volume > limit:
        slices = np.array(sorted(holes)) + first
        reason = f"holes of {volume:.2g} cm3, usual {_at_most(limit)} cm3, {in_words(slices, grid)}"
        flags.append(_flag("holes", reason, volume, None, limit, "cm3", slices))
    held = np.flatnonzero(inside.any(axis=(1, 2)))
    gaps = np.setdiff1d(np.arange(held[0], held[-1] + 1), held) + first if held.size else held
    if gaps.size > usual.missing_slices:
        reason = f"no contour in {in_words(gaps, grid)}, between others"
        flags.append(_flag("slice_gaps", reason, gaps.size, None, usual.missing_slices, "slices", gaps))
    return flags


def _reaches_end(roi: Evidence, grid: Grid) -> bool:
    slices = _all_slices(roi)
    return bool(slices) and (slices[0] == 1 or slices[-1] == grid.shape_kij[0])


# -- what the training patients say -------------------------------------------------------------------------


def _side_flags(
    roi: Evidence,
    mine: RoiFigures,
    known: Mapping[str, RoiFigures],
    values: Mapping[str, float],
    usual: RoiRanges | None,
) -> list[Flag]:
    """A ROI with a side in its name: past the body's axis, or past its partner."""
    name, side = roi.info.name, side_of(roi.info.name)
    if side is None:
        return []
    here, there = ("left", "right") if side == "L" else ("right", "left")
    partner = _partner(name, known)
    if partner is not None:
        apart = (mine.centre_mm[2] - known[partner].centre_mm[2]) * (1 if side == "L" else -1)
        if apart < 0:
            reason = f"a {here} ROI that lies {-apart:.0f} mm to the {there} of {partner}"
            return [_flag("wrong_side", reason, apart, 0.0, None, "mm", _all_slices(roi))]
    share = values.get("wrong_side_share")
    limit = WRONG_SIDE_SHARE
    if usual is not None and "wrong_side_share" in usual.figures:
        limit = usual.figures["wrong_side_share"][2]
    if share is None or share <= limit:
        return []
    reason = f"a {here} ROI with {share:.0%} of its volume {there} of the body's axis, usual {_at_most(limit, '%')}"
    return [_flag("wrong_side", reason, share, None, limit, "", _all_slices(roi))]


def _partner(name: str, known: Mapping[str, RoiFigures]) -> str | None:
    names = list(known)
    for pair in flip_pairs(names):
        if name in (both := [names[n] for n in pair]):
            return both[1 - both.index(name)]
    return None


ENDS_CUT = frozenset({"volume_cm3", "length_mm", "offset_superior_mm", "bottom_share", "top_share"})
"""Figures that a cut by the end of the scan changes: its own flag says so, and low ones say nothing more."""


def _range_flags(
    roi: Evidence, values: Mapping[str, float], usual: RoiRanges | None, image: Image, *, cut: bool
) -> list[Flag]:
    """Figures outside the training range; of those with one code the one that lies farthest outside."""
    if usual is None:
        return []
    worst: dict[str, tuple[float, Flag]] = {}
    for name, value in values.items():
        figure = ROI_FIGURES[name]
        if name not in usual.figures or figure.code == "wrong_side":
            continue
        only_high = cut and name in ("volume_cm3", "length_mm")
        if cut and name in ENDS_CUT and not only_high:
            continue
        low, _, high = usual.figures[name]
        limits = (low if figure.low and not only_high else None, high if figure.high else None)
        excess = _excess(value, usual.figures[name], limits)
        if excess > worst.get(figure.code, (0.0,))[0]:
            slices: Iterable[int] = _all_slices(roi)
            if figure.code == "cut_off":
                slices = _cut_end(roi, image, top=name == "top_share")
            reason = _range_reason(figure, value, (low, high))
            if figure.code == "cut_off":
                reason += f", {in_words(slices, image.grid)}"
            worst[figure.code] = excess, _flag(figure.code, reason, value, *limits, figure.unit, slices)
    return [flag for _, flag in worst.values()]


def _cut_end(roi: Evidence, image: Image, *, top: bool) -> tuple[int, ...]:
    """The slice at the superior or inferior end; all where slices are not axial."""
    slices = _all_slices(roi)
    upwards = float(image.grid.normal @ image.model_grid.normal)
    if not slices or abs(upwards) < AXIAL:
        return slices
    return slices[-1:] if (upwards > 0) == top else slices[:1]


def _excess(value: float, usual: Range, limits: tuple[float | None, float | None]) -> float:
    """How far outside, in units of the distance between median and limit; 0 inside."""
    low, middle, high = usual
    if limits[0] is not None and value < low:
        return (low - value) / max(middle - low, 1e-9) + 1e-9
    if limits[1] is not None and value > high:
        return (value - high) / max(high - middle, 1e-9) + 1e-9
    return 0.0


def _range_reason(figure: Figure, value: float, limits: tuple[float, float]) -> str:
    unit = f" {figure.unit}" if figure.unit else ""
    if figure.directions is not None:
        low, high = (_placed(limit, figure.directions) for limit in limits)
        return f"lies {_placed(value, figure.directions)} {figure.words}, usual {low} to {high} it"
    if figure.share:
        usual = f"{limits[0]:.0%} to {limits[1]:.0%}" if figure.low else _at_most(limits[1], "%")
        return f"{figure.words} is {value:.0%}, usual {usual}"
    found, low, high = (_measured(n, figure.unit) for n in (value, *limits))
    if not figure.low:
        return f"{figure.words} is {found}{unit}, usual at most {high}{unit}"
    if not figure.high:
        return f"{figure.words} is {found}{unit}, usual at least {low}{unit}"
    return f"{figure.words} is {found}{unit}, usual {low} to {high}{unit}"


def _measured(value: float, unit: str) -> str:
    """Volumes with the decimal that they have in every table."""
    return f"{value:.1f}" if unit == "cm3" and abs(value) >= 1 else _plain(value)


def _placed(distance_mm: float, directions: tuple[str, str]) -> str:
    return f"{_plain(abs(distance_mm))} mm {directions[distance_mm < 0]}"


def _at_most(limit: float, unit: str = "") -> str:
    return f"at most {limit:.0%}" if unit == "%" else f"at most {_plain(limit)}"


def _plain(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 10 else f"{value:.2g}"


# -- what the network says ----------------------------------------------------------------------------------


def flat_surface(
    logit: NDArray[np.float32], mask: Bool, body: Body, threshold: float = 0.0
) -> tuple[Bool, Bool, Box]:
    """(surface, flat, box): the voxels at the surface of a ROI, and those of them where the probability is flat.

    A voxel is at the surface where a neighbour over a face is outside, and it is flat there where both logits lie
    within `FLAT_LOGIT` of the surface's. Voxels outside the body are outside the ROI, as surely as the network said
    otherwise.

    Args:
        logit: (k, i, j).
        mask: where it counts as inside; nowhere outside the body.

    Returns:
        Two masks in the box around the ROI.
    """
    found = bounding_box(mask)
    if found is None:
        nothing = np.zeros((0, 0, 0), bool)
        return nothing, nothing, (slice(0, 0), slice(0, 0), slice(0, 0))
    box = tuple(
        slice(max(0, s.start - 1), min(n, s.stop + 1)) for s, n in zip(found, mask.shape, strict=True)
    )
    inside, values = mask[box], np.where(body.mask[box], logit[box], -np.abs(logit[box]))
    unsure = np.abs(values - threshold) < FLAT_LOGIT
    surface, flat = np.zeros(inside.shape, bool), np.zeros(inside.shape, bool)
    for axis in range(3):
        low, high = _neighbours(axis)
        for mine, other in ((low, high), (high, low)):
            face = inside[mine] & ~inside[other]
            surface[mine] |= face
            flat[mine] |= face & unsure[mine] & unsure[other]
    return surface, flat, (box[0], box[1], box[2])


def flat_share(logit: NDArray[np.float32], mask: Bool, body: Body, threshold: float = 0.0) -> float | None:
    """Share of a ROI's surface where the probability is flat; None where it is empty."""
    surface, flat, _ = flat_surface(logit, mask, body, threshold)
    count = np.count_nonzero(surface)
    return np.count_nonzero(flat) / count if count else None


def _left_out_flags(roi: Evidence, image: Image) -> list[Flag]:
    if roi.left_out is None:
        return []
    volume = np.count_nonzero(roi.left_out) * float(np.prod(image.model_grid.spacing_mm)) / 1000
    if volume <= LEFT_OUT_CM3:
        return []
    everywhere = (slice(0, None), slice(0, None), slice(0, None))
    slices = _ct_slices(roi.left_out, roi.left_out, 0.5, everywhere, image)
    reason = (
        f"the network drew {volume:.2g} cm3 more in other parts, which the model's rule leaves out, "
        f"{in_words(slices, image.grid)}; usual {_at_most(LEFT_OUT_CM3)} cm3"
    )
    return [_flag("left_out", reason, volume, None, LEFT_OUT_CM3, "cm3", slices)]


def _neighbours(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    low, high = [slice(None)] * 3, [slice(None)] * 3
    low[axis], high[axis] = slice(None, -1), slice(1, None)
    return tuple(low), tuple(high)


def _confidence_flags(
    roi: Evidence, mask: Bool, image: Image, body: Body, usual: RoiRanges | None
) -> list[Flag]:
    assert roi.logit is not None
    surface, flat, box = flat_surface(roi.logit, mask, body, roi.threshold)
    count = np.count_nonzero(surface)
    limit = FLAT_SHARE if usual is None or usual.flat_share is None else usual.flat_share
    share = np.count_nonzero(flat) / count if count else 0.0
    if share <= limit:
        return []
    slices = _ct_slices(flat, surface, limit, box, image)
    reason = (
        f"low confidence: the probability is flat on {share:.0%} of the surface, usual {_at_most(limit, '%')}"
    )
    reason += f", most in {in_words(slices, image.grid)}" if slices else ""
    return [_flag("low_confidence", reason, share, None, limit, "", slices)]


def _ct_slices(flat: Bool, surface: Bool, limit: float, box: Box, image: Image) -> tuple[int, ...]:
    """The CT's slices, from 1, in which more of the surface than `limit` is flat."""
    count = image.grid.shape_kij[0]

    def by_slice(voxels: Bool) -> NDArray[np.float64]:
        """How many voxels of the model's grid each slice of the CT goes through."""
        index = np.argwhere(voxels) + [s.start for s in box]
        reach = np.abs(image.model_grid.affine[:3, :3].T @ image.grid.normal).sum() / 2  # half a voxel, in mm
        heights = image.model_grid.index_to_lps(index) @ image.grid.normal
        k = image.grid.height_to_k(np.stack([heights - 0.95 * reach, heights + 0.95 * reach]))
        nearest = np.rint(k.mean(axis=0))  # slices may lie farther apart than the model's voxels
        first = np.minimum(np.ceil(k.min(axis=0)), nearest)
        last = np.maximum(np.floor(k.max(axis=0)), nearest) + 1
        ends = [np.clip(end, 0, count).astype(int) for end in (first, last)]
        starts, stops = (np.bincount(end, minlength=count + 1)[: count + 1] for end in ends)
        return np.cumsum(starts - stops)[:count].astype(np.float64)

    unsure, all_of = by_slice(flat), by_slice(surface)
    return tuple(int(k) + 1 for k in np.flatnonzero((unsure > 0) & (unsure > limit * all_of)))


# -- the image ----------------------------------------------------------------------------------------------


def _image_flags(
    image: Image,
    body: Body,
    found: Mapping[str, tuple[Flag, ...]],
    organs: Sequence[str],
    ranges: Ranges | None,
) -> list[Flag]:
    """Reasons to doubt the whole prediction: an image unlike those of the training."""
    flags = []
    if ranges is not None:
        values = {**grid_figures(image.grid), **image_values(image_figures(image.hu, body))}
        voxel_mm = image.model_grid.spacing_mm
        for name, value in values.items():
            if name not in ranges.image:
                continue
            figure, (low, middle, high) = IMAGE_FIGURES[name], ranges.image[name]
            if name == "slice_mm":
                high = max(high, voxel_mm[0] * 1.2)
            elif name == "pixel_mm":
                high = max(high, max(voxel_mm[1:]) * 1.2)
            limits = (low if figure.low else None, high if figure.high else None)
            if _excess(value, (low, min(middle, high), high), limits) > 0:
                reason = f"unlike the training images: {_range_reason(figure, value, (low, high))}"
                flags.append(_flag(figure.code, reason, value, *limits, figure.unit))
    flags += _body_cut(image)
    names = [name for name in found if name in organs]
    missing = [n for n in names if any(f.code in ("empty", "touches_scan_end") for f in found[n])]
    if len(names) > 1 and len(missing) > MISSING_SHARE * len(names):
        reason = (
            f"{len(missing)} of {len(names)} ROIs are empty or cut by the scan's end: {', '.join(missing)}"
        )
        limit = round(MISSING_SHARE, 3)
        flags.append(_flag("input_missing_anatomy", reason, len(missing) / len(names), None, limit))
    return flags


def _body_cut(image: Image) -> list[Flag]:
    if image.body is None:
        return []
    body = image.body
    cut = (body[:, [0, -1]].any(axis=(1, 2))) | (body[:, :, [0, -1]].any(axis=(1, 2)))
    slices = np.flatnonzero(cut) + 1
    share = slices.size / max(1, int(body.any(axis=(1, 2)).sum()))
    if share <= BODY_CUT_SHARE:
        return []
    reason = (
        f"the border of the image cuts the body in {share:.0%} of the slices, {in_words(slices, image.grid)}; "
        f"usual {_at_most(BODY_CUT_SHARE, '%')}"
    )
    return [_flag("input_body_cut", reason, share, None, BODY_CUT_SHARE, "", slices)]


# -- words --------------------------------------------------------------------------------------------------


def in_words(slices: Iterable[int], grid: Grid | None = None) -> str:
    """Slice numbers as in "slices 3-7, 12 (z = -14.0 to +4.5 mm)"; long lists end in dots.

    Args:
        grid: of the CT: where the slices lie is added, along the patient's axis that they run along, in their middle.
    """
    numbers = sorted({int(n) for n in slices})
    if not numbers:
        return "no slice"
    breaks = [0, *(n + 1 for n, (a, b) in enumerate(itertools.pairwise(numbers)) if b > a + 1), len(numbers)]
    runs = [(numbers[a], numbers[b - 1]) for a, b in itertools.pairwise(breaks)]
    words = [str(a) if a == b else f"{a}-{b}" for a, b in runs[:6]] + (["..."] if runs[6:] else [])
    where = "" if grid is None else f" ({_where(numbers[0], numbers[-1], grid)})"
    return f"slice{'s' if len(numbers) > 1 else ''} {', '.join(words)}{where}"


def _where(first: int, last: int, grid: Grid) -> str:
    """The position of slices, numbered from 1, as importers show it: z of axial ones."""
    axis = int(np.abs(grid.normal).argmax())
    _, rows, columns = grid.shape_kij
    middles = [[k - 1, (rows - 1) / 2, (columns - 1) / 2] for k in (first, last)]
    ends = sorted(float(mm) for mm in grid.index_to_lps(middles)[:, axis])
    return f"{'xyz'[axis]} = {' to '.join(dict.fromkeys(f'{mm:+.1f}' for mm in ends))} mm"


def _all_slices(roi: Evidence) -> tuple[int, ...]:
    if roi.box is None or roi.inside is None:
        return ()
    return tuple(int(k) + roi.box[0].start + 1 for k in np.flatnonzero(roi.inside.any(axis=(1, 2))))


def _flag(
    code: str,
    reason: str,
    value: float,
    low: float | None,
    high: float | None,
    unit: str = "",
    slices: Iterable[int] = (),
) -> Flag:
    """Plain numbers: what NumPy gives does not go into JSON; rounded as in the summary of the ROI."""
    decimals = DECIMALS.get(unit, 4)

    def plain(number: float | None) -> float | None:
        return None if number is None else round(float(number), decimals)

    return Flag(code, reason, plain(value), plain(low), plain(high), unit, tuple(int(k) for k in slices))
