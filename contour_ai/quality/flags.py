"""All quality findings of one prediction, each with a number, its limit and the slices to look at."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contour_ai.grid import Grid
from contour_ai.quality.confidence import confidence_flags, left_out_flags
from contour_ai.quality.figures import Body, RoiFigures, as_on_ct, body_of, ct_figures, roi_figures
from contour_ai.quality.flag import EXTERNAL, Evidence, ImageEvidence, PatientFlags, all_slices
from contour_ai.quality.image import image_flags
from contour_ai.quality.outliers import beyond_scan, extent_flags, range_flags, side_flags
from contour_ai.quality.ranges import Ranges, centres_of, compared_of, ends_of, places_of
from contour_ai.quality.shape import shape_flags

Bool = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Measured:
    """What findings are made of: the body on the model's grid, and of every ROI that is not empty mask and figures."""

    body: Body
    masks: Mapping[str, Bool]
    figures: Mapping[str, RoiFigures]


def measured(rois: Sequence[Evidence], image: ImageEvidence) -> Measured:
    """Measures ROIs on the model's grid; volume, extent, density and centre are those on the CT."""
    body = body_of(image.hu, image.outside_hu, image.model_grid.spacing_mm)
    masks = {
        roi.info.name: _on_model_grid(roi, image, body)
        for roi in rois
        if roi.logit is not None and roi.box is not None
    }
    return Measured(body, masks, _figures(rois, masks, image, body))


def find_flags(
    rois: Sequence[Evidence],
    image: ImageEvidence,
    ranges: Ranges | None = None,
    known: Measured | None = None,
) -> PatientFlags:
    """Every quality finding on a prediction.

    Volume, extent, mean density and centre of a ROI are those of its contours on the CT, as in every table. The body
    (type EXTERNAL) is not flagged unless it is empty. Without `ranges` nothing is compared with training patients;
    shape, side, cuts and confidence are still looked at. `known` is given where the ROIs were measured already.
    """
    all_of = known or measured(rois, image)
    body, masks, figures = all_of.body, all_of.masks, all_of.figures
    places = places_of(ranges)
    ends = ends_of(figures, body.ends_mm)
    found = {}
    for roi in rois:
        usual = None if ranges is None else ranges.rois.get(roi.info.name)
        flags = [*shape_flags(roi, image.grid, usual), *left_out_flags(roi, image)]
        if roi.box is None and usual is not None:
            flags = beyond_scan(roi.info.name, usual, centres_of(figures), places, body.ends_mm) or flags
        mine = figures.get(roi.info.name)
        if mine is not None and roi.info.interpreted_type != EXTERNAL:
            cut = any(flag.code.startswith("touches") for flag in flags) or _reaches_end(roi, image.grid)
            values = compared_of(roi.info.name, mine, centres_of(figures), places)
            flags += side_flags(roi, mine, figures, values, usual)
            flags += range_flags(roi, values, usual, image, cut=cut)
            flags += extent_flags(roi, usual, ends, image)
            flags += confidence_flags(roi, masks[roi.info.name], image, body, usual)
        found[roi.info.name] = tuple(flags)
    organs = [roi.info.name for roi in rois if roi.info.interpreted_type != EXTERNAL]
    return PatientFlags(tuple(image_flags(image, body, found, organs, ranges)), found)


def _figures(
    rois: Sequence[Evidence], masks: Mapping[str, Bool], image: ImageEvidence, body: Body
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


def _on_model_grid(roi: Evidence, image: ImageEvidence, body: Body) -> Bool:
    """What of a ROI on the model's grid is on the CT's, too: not specks between its voxels or outside the body."""
    assert roi.box is not None and roi.logit is not None
    ends = itertools.product(*((s.start - 0.5, s.stop - 0.5) for s in roi.box))
    corners = image.model_grid.lps_to_index(image.grid.index_to_lps(list(ends)))
    low, high = np.floor(corners.min(axis=0)).astype(int), np.ceil(corners.max(axis=0)).astype(int)
    near = tuple(slice(max(0, a), max(0, b + 1)) for a, b in zip(low, high, strict=True))
    left = np.zeros_like(body.mask)
    left[near] = (roi.logit[near] > roi.threshold) & body.mask[near]
    return left


def _reaches_end(roi: Evidence, grid: Grid) -> bool:
    slices = all_slices(roi)
    return bool(slices) and (slices[0] == 1 or slices[-1] == grid.shape_kij[0])
