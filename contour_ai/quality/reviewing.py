"""The verdict on a contour that anybody drew: by a model where it knows the ROI, else by its geometry alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contour_ai.box import Box, bounding_box
from contour_ai.grid import Grid
from contour_ai.mask_agreement import dice
from contour_ai.quality.agreement import ContourFigures, ModelGridPatient, contour_figures
from contour_ai.quality.contour_verdict import ContourModel
from contour_ai.quality.flag import Evidence, Flag, ImageEvidence, make_flag, numbers_text
from contour_ai.quality.judging import is_gross
from contour_ai.quality.ranges import RoiRanges, side_of
from contour_ai.quality.shape import shape_flags
from contour_ai.quality.verdict import RoiVerdict
from contour_ai.structures import RoiInfo

Bool = NDArray[np.bool_]

NO_AGREEMENT = 0.05
"""Dice with the model's contour below which a contour is of something else, where the model is confident."""
OTHER_ORGAN = 0.3
"""The same where it agrees this much better with another ROI of the model."""
UNLIKE_DICE = 0.6
"""1 - Dice with the model from which a contour is worth a look, where a bundle has no `ContourModel`."""
DIFFERENT = 0.5
"""1 - Dice with the model above which a gross finding against the training ranges counts. Of two ROIs on one side the
finding names both; the network says which of them is right."""
SAME_WITHIN, GOES_ON = 0.8, 0.08
"""Contour and model are the same organ with other ends where the Dice in the slices that both reach is at least the
first, and one of them goes on with so much of its volume."""
ODD_PARTS, ODD_HOLES = 4, 0.05
"""Separate parts more than usual, and holes as a share of the volume, that are odd in the contour of an organ."""
DIFFERENT_IN_SLICE = 0.5
"""Slices in which the Dice is lower are named."""
OUTSIDE_SHARE, MOSTLY_OUTSIDE = 0.1, 0.5
"""Share of an unknown ROI outside the body that is worth a look; of an organ, that is grossly wrong."""
MANY_PARTS = 10
"""Separate parts of an unknown ROI that are worth a look: targets and nodes have several."""
WRONG_SIDE = 0.9
"""Share of a ROI with a side in its name on the other side of the body's axis: only clear cases, as nodes and targets
reach across."""
NOT_IN_THE_BODY = frozenset(
    {"EXTERNAL", "SUPPORT", "FIXATION", "BOLUS", "MARKER", "REGISTRATION", "ISOCENTER"}
)
"""RTROIInterpretedType of what may lie outside the body."""


@dataclass(frozen=True, eq=False)
class Contoured:
    """A ROI of a structure set on the CT's grid: `mask` (k, i, j), empty where it has no contours."""

    name: str
    mask: Bool
    interpreted_type: str = ""


@dataclass(frozen=True, eq=False)
class Judge:
    """What a model says of a patient, to judge contours by.

    Args:
        scene: the patient on the model's grid, with what the network found.
        image: the CT's grid and the model's.
        model: None where the bundle has none.
    """

    scene: ModelGridPatient
    image: ImageEvidence
    model: ContourModel | None = None


def judge_known(
    roi: Contoured,
    known_as: str,
    on_model_grid: Bool,
    judge: Judge,
    usual: RoiRanges | None,
    flags: Sequence[Flag] = (),
) -> RoiVerdict:
    """The verdict on a contour of an organ that the model knows.

    Args:
        known_as: the model's name for it.
        on_model_grid: the contour on the model's grid.
        usual: ranges of the training patients.
        flags: findings on the contour's shape and against these ranges. Of the latter only gross ones count, and only
            where the network draws the organ elsewhere: what is merely unusual the probability has weighed already.
    """
    if not roi.mask.any():
        return RoiVerdict(verdict="look", findings=(_no_contour(),))
    figures = contour_figures(known_as, on_model_grid, judge.scene)
    differs = figures is None or figures.disagreement > DIFFERENT
    volume = float((roi.mask.sum(axis=(1, 2)) * judge.image.grid.voxel_volumes_cm3).sum())
    findings = [flag for flag in flags if (is_gross(flag) and differs) or _is_odd_shape(flag, usual, volume)]
    outside = [] if judge.image.body is None else _outside(roi, judge.image.body, judge.image.grid)
    findings += outside
    probability = None
    if figures is not None:
        probability, more = _of_model(known_as, figures, on_model_grid, judge, usual)
        findings += more
    wrong = any(flag.code == "other_organ" for flag in findings)
    wrong |= any(flag.value is not None and flag.value > MOSTLY_OUTSIDE for flag in outside)
    ordered = sorted(findings, key=lambda flag: (not is_gross(flag), _place(flag)))
    stop = wrong or any(is_gross(flag) for flag in ordered)
    return RoiVerdict(
        verdict="stop" if stop else "look" if ordered else "clear",
        findings=tuple(ordered),
        probability=probability,
    )


def _is_odd_shape(flag: Flag, usual: RoiRanges | None, volume_cm3: float) -> bool:
    """Whether a finding on the shape is more than what one in twenty good contours has."""
    if flag.code in ("slice_gaps", "touches_field_of_view", "ends_elsewhere"):
        return True
    value = flag.value or 0.0
    if flag.code == "parts":
        return value >= (1 if usual is None else usual.parts) + ODD_PARTS
    return flag.code == "holes" and value > ODD_HOLES * volume_cm3


def judge_unknown(
    roi: Contoured, image: ImageEvidence, middle_j: float | None, left_is_up: bool
) -> RoiVerdict:
    """The verdict on a ROI that no model knows, from its geometry: `clear` says that nothing is odd.

    Args:
        middle_j: column of the body's axis where the CT's columns run along the patient's left-right axis.
        left_is_up: whether the columns ascend to the patient's left.
    """
    if not roi.mask.any():
        return RoiVerdict(verdict="look", findings=(_no_contour(),), judged_by="geometry")
    findings = _of_shape(roi, image.grid, RoiRanges(patients=0, parts=MANY_PARTS, reaches_end=1.0))
    if image.body is not None and roi.interpreted_type not in NOT_IN_THE_BODY:
        findings += _outside(roi, image.body, image.grid)
    side = side_of(roi.name)
    if side is not None and middle_j is not None:
        columns = np.flatnonzero(roi.mask.any(axis=(0, 1)))
        counts = roi.mask.sum(axis=(0, 1))[columns]
        on_left = counts[(columns > middle_j) == left_is_up].sum() / counts.sum()
        share = float(1 - on_left if side == "L" else on_left)
        if share > WRONG_SIDE:
            here, there = ("left", "right") if side == "L" else ("right", "left")
            reason = f"a {here} ROI with {share:.0%} of its volume {there} of the body's axis"
            findings.append(make_flag("wrong_side", reason, share, None, WRONG_SIDE))
    return RoiVerdict(verdict="look" if findings else "clear", findings=tuple(findings), judged_by="geometry")


def duplicates(rois: Sequence[Contoured]) -> dict[str, Flag]:
    """{ROI: finding} of those that have the very voxels of another one."""
    found: dict[str, Flag] = {}
    seen: dict[tuple[int, bytes], str] = {}
    for roi in rois:
        box = bounding_box(roi.mask)
        if box is None:
            continue
        key = hash(tuple((s.start, s.stop) for s in box)), np.packbits(roi.mask[box]).tobytes()
        first = seen.setdefault(key, roi.name)
        if first != roi.name:
            for mine, other in ((roi.name, first), (first, roi.name)):
                found.setdefault(mine, Flag(code="duplicate", reason=f"the same voxels as {other}"))
    return found


def _no_contour() -> Flag:
    return Flag(code="empty", reason="has no contour on this CT", value=0.0, low=None, high=None, unit="cm3")


def _of_shape(roi: Contoured, grid: Grid, usual: RoiRanges | None) -> list[Flag]:
    box = bounding_box(roi.mask)
    assert box is not None
    evidence = Evidence(
        info=RoiInfo(name=roi.name.strip()[:64] or "ROI", color=(0, 0, 0)), box=box, inside=roi.mask[box]
    )
    return [flag for flag in shape_flags(evidence, grid, usual) if flag.code != "touches_scan_end"]


def _of_model(
    known_as: str,
    figures: ContourFigures,
    on_model_grid: Bool,
    judge: Judge,
    usual: RoiRanges | None,
) -> tuple[float | None, list[Flag]]:
    predicted = judge.scene.predicted.get(known_as)
    agreed = 1 - figures.disagreement
    slices = different_slices(on_model_grid, predicted, judge.image)
    where = f", most in {numbers_text(slices, judge.image.grid)}" if slices else ""
    found: list[Flag] = []
    if figures.other_organ > OTHER_ORGAN or (
        agreed < NO_AGREEMENT and _is_confident(predicted, judge, usual)
    ):
        other = _most_like(on_model_grid, judge.scene, known_as)
        what = f"agrees with the model's {other}" if other else "lies where the model finds nothing of it"
        reason = f"{what} (Dice {agreed:.2f} with the model's {known_as})"
        found.append(make_flag("other_organ", reason, agreed, NO_AGREEMENT, None, "", slices))
    if judge.model is None:
        if figures.disagreement > UNLIKE_DICE:
            reason = f"Dice {agreed:.2f} with the model's own contour, expected at least {1 - UNLIKE_DICE:.2f}{where}"
            found.append(make_flag("needs_correction", reason, agreed, 1 - UNLIKE_DICE, None, "", slices))
        return None, found
    probability, limit = judge.model.probability(known_as, figures), judge.model.limit(known_as)
    if probability > limit:
        ends = _ends_elsewhere(figures)
        code, reason = (
            ("ends_elsewhere", ends) if ends else ("needs_correction", judge.model.reason(known_as, figures))
        )
        found.append(make_flag(code, f"{reason}{where}", probability, None, limit, "", slices))
    return probability, found


def _ends_elsewhere(figures: ContourFigures) -> str:
    """What to say where contour and model agree in the slices that both reach, and one of them goes on; else ""."""
    within = 1 - figures.disagreement_in_slices
    along = max(figures.missing_above, figures.missing_below, figures.beyond)
    if within < SAME_WITHIN or along < GOES_ON or figures.missing_beside > along:
        return ""
    parts = [
        f"the model goes on {side} with {share:.0%} of its volume"
        for side, share in (("above", figures.missing_above), ("below", figures.missing_below))
        if share >= GOES_ON
    ]
    parts += [f"{figures.beyond:.0%} of it lies beyond the model's"] if figures.beyond >= GOES_ON else []
    goes_on = ", ".join(parts)
    return (
        f"ends elsewhere than the model's contour: {goes_on}; in the slices that both reach Dice {within:.2f}"
    )


def _is_confident(predicted: Bool | None, judge: Judge, usual: RoiRanges | None) -> bool:
    """Whether what the model found of an organ is as large as in its training patients."""
    if predicted is None or not predicted.any():
        return False
    volume = float(predicted.sum()) * float(np.prod(judge.image.model_grid.spacing_mm)) / 1000
    return usual is None or "volume_cm3" not in usual.figures or volume >= usual.figures["volume_cm3"][0]


def _most_like(mask: Bool, scene: ModelGridPatient, known_as: str) -> str:
    like = {n: dice(m, mask, neither=0.0) for n, m in scene.predicted.items() if n != known_as}
    best = max(like, key=lambda n: like[n], default="")
    return best if best and like[best] > OTHER_ORGAN else ""


def different_slices(mask: Bool, predicted: Bool | None, image: ImageEvidence) -> tuple[int, ...]:
    """Numbers of the CT's slices in which contour and prediction differ most; none where slices are not axial."""
    if predicted is None or abs(float(image.grid.normal @ image.model_grid.normal)) < 0.9:
        return ()
    mine, theirs = mask.sum(axis=(1, 2)), predicted.sum(axis=(1, 2))
    both = (mask & predicted).sum(axis=(1, 2))
    dice = np.where(mine + theirs > 0, 2 * both / np.maximum(1, mine + theirs), 1.0)
    on_model = np.rint(image.model_grid.lps_to_index(image.grid.positions_lps)[:, 0]).astype(int)
    inside = (on_model >= 0) & (on_model < len(dice))
    return tuple(int(k) + 1 for k in np.flatnonzero(inside) if dice[on_model[k]] < DIFFERENT_IN_SLICE)


def _outside(roi: Contoured, body: Bool, grid: Grid) -> list[Flag]:
    box: Box | None = bounding_box(roi.mask)
    assert box is not None
    beyond = roi.mask[box] & ~body[box]
    share = float(beyond.sum() / roi.mask[box].sum())
    if share <= OUTSIDE_SHARE:
        return []
    slices = np.flatnonzero(beyond.any(axis=(1, 2))) + box[0].start + 1
    reason = f"{share:.0%} of its volume lies outside the body, {numbers_text(slices, grid)}"
    return [make_flag("outside_body", reason, share, None, OUTSIDE_SHARE, "", slices)]


def _place(flag: Flag) -> int:
    order = ("other_organ", "outside_body", "needs_correction")
    return order.index(flag.code) if flag.code in order else len(order)
