"""Quality findings from the ranges of the training patients: sides, sizes, densities, places."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from contour_ai.quality.extents import PatientEnds, other_ends
from contour_ai.quality.figures import RoiFigures, Triple
from contour_ai.quality.flag import Evidence, Flag, ImageEvidence, all_slices, make_flag, numbers_text
from contour_ai.quality.ranges import ROI_FIGURES, Range, RoiRanges, side_of
from contour_ai.quality.wording import range_reason, share_beyond
from contour_ai.structures import flip_pairs

WRONG_SIDE_SHARE = 0.5
"""Of the volume, where the training patients do not say."""
OFTEN_ABSENT = 0.1
"""A ROI that so many training patients certainly have not may be beyond a scan."""
PLACE_MM, PLACE_SHARE = 10.0, 0.1
"""How far from the scan's end it may still be: so much, and this share of the distance to the nearest ROI found."""
AXIAL = 0.7
"""Cosine between the slice normal and the body from which slices count as axial."""


def side_flags(
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
            return [make_flag("wrong_side", reason, apart, 0.0, None, "mm", all_slices(roi))]
    share = values.get("wrong_side_share")
    limit = WRONG_SIDE_SHARE
    if usual is not None and "wrong_side_share" in usual.figures:
        limit = usual.figures["wrong_side_share"][2]
    if share is None or share <= limit:
        return []
    found, most = share_beyond(share, limit)
    reason = f"a {here} ROI with {found} of its volume {there} of the body's axis, usual at most {most}"
    return [make_flag("wrong_side", reason, share, None, limit, "", all_slices(roi))]


def _partner(name: str, known: Mapping[str, RoiFigures]) -> str | None:
    names = list(known)
    for pair in flip_pairs(names):
        if name in (both := [names[n] for n in pair]):
            return both[1 - both.index(name)]
    return None


ENDS_CUT = frozenset({"volume_cm3", "length_mm", "offset_superior_mm", "bottom_share", "top_share"})
"""Figures that a cut by the end of the scan changes: its own flag says so, and low ones say nothing more."""


def range_flags(
    roi: Evidence, values: Mapping[str, float], usual: RoiRanges | None, image: ImageEvidence, *, cut: bool
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
        beyond = excess(value, usual.figures[name], limits)
        if beyond > worst.get(figure.code, (0.0,))[0]:
            slices: Iterable[int] = all_slices(roi)
            if figure.code == "cut_off":
                slices = _cut_end(roi, image, top=name == "top_share")
            reason = range_reason(figure, value, (low, high))
            if figure.code == "cut_off":
                reason += f", {numbers_text(slices, image.grid)}"
            worst[figure.code] = beyond, make_flag(figure.code, reason, value, *limits, figure.unit, slices)
    return [flag for _, flag in worst.values()]


def beyond_scan(
    name: str,
    usual: RoiRanges,
    centres: Mapping[str, Triple],
    places: Mapping[str, Triple],
    body_ends_mm: tuple[float, float],
) -> list[Flag]:
    """What is said instead of `empty` of a ROI that often is beyond the scan, where that scan ends before its place.

    A model of the whole trunk sees a pelvis: then no heart is no finding. A model whose training patients nearly all
    have the ROI is not asked: its empty ROIs say that the scan is of another region.

    Args:
        name: of a ROI of which nothing was found.
        usual: its ranges.
        centres: {ROI: centre in mm, superior, posterior, left} of those that were found.
        places: {ROI: its usual place} in a frame of their own.
        body_ends_mm: lowest and highest point of the body in view.
    """
    shared = [roi for roi in centres if roi in places]
    if (usual.absent_share or 0.0) < OFTEN_ABSENT or usual.place_mm is None or not shared:
        return []
    shift = float(np.median([centres[roi][0] - places[roi][0] for roi in shared]))
    height = usual.place_mm[0] + shift
    away = min(abs(height - centres[roi][0]) for roi in shared)
    margin = PLACE_MM + PLACE_SHARE * away
    low, high = body_ends_mm
    if low + margin <= height <= high - margin:
        return []
    end, away = ("upper", height - high) if height > high - margin else ("lower", low - height)
    where = f"{away:.0f} mm beyond" if away > 0 else f"{-away:.0f} mm from"
    return [
        make_flag(
            "beyond_scan",
            f"not found; the other ROIs put its middle {where} the scan's {end} end",
            0.0,
            None,
            None,
            "cm3",
        )
    ]


def extent_flags(
    roi: Evidence, usual: RoiRanges | None, patient: PatientEnds, image: ImageEvidence
) -> list[Flag]:
    """Ends that lie elsewhere along the body than in the training patients: another guideline, or a part missing."""
    if usual is None or usual.extent is None or roi.info.name not in patient.rois:
        return []
    flags = []
    for end in other_ends(roi.info.name, usual.extent, patient):
        slices = _cut_end(roi, image, top=end.which == "upper")
        reason = f"{end.reason}, {numbers_text(slices, image.grid)}"
        flags.append(make_flag("ends_elsewhere", reason, end.value, end.low, end.high, "mm", slices))
    return flags


def _cut_end(roi: Evidence, image: ImageEvidence, *, top: bool) -> tuple[int, ...]:
    """The slice at the superior or inferior end; all where slices are not axial."""
    slices = all_slices(roi)
    upwards = float(image.grid.normal @ image.model_grid.normal)
    if not slices or abs(upwards) < AXIAL:
        return slices
    return slices[-1:] if (upwards > 0) == top else slices[:1]


def excess(value: float, usual: Range, limits: tuple[float | None, float | None]) -> float:
    """How far outside, in units of the distance between median and limit; 0 inside."""
    low, middle, high = usual
    if limits[0] is not None and value < low:
        return (low - value) / max(middle - low, 1e-9) + 1e-9
    if limits[1] is not None and value > high:
        return (value - high) / max(high - middle, 1e-9) + 1e-9
    return 0.0
