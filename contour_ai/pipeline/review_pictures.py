"""The pictures of a review: each ROI that is not clear in three planes, beside what the model finds of it."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from contour_ai.pipeline.pictures import roi_polygons
from contour_ai.pipeline.result import PredictedRoi
from contour_ai.polygons import mask_to_polygons
from contour_ai.quality.flag import Flag
from contour_ai.quality.verdict import SEVERITY, PatientVerdict
from contour_ai.render import Plane, View, cut_plane, montage, slice_plane
from contour_ai.report.review import WHOLE_PATIENT, FindingPicture
from contour_ai.slice_names import slices_text
from contour_ai.structures import RoiInfo, roi_info
from contour_ai.volume import Volume

Bool = NDArray[np.bool_]

MOST_ROI_PICTURES = 30
"""ROIs that a page shows: each takes about 80 kB."""
PICTURE_MARGIN_MM = 40.0
"""Around contour and prediction: enough to see which organ they lie in."""
REVIEW_TILE_PX = 390
JPEG_QUALITY = 82


@dataclass(frozen=True, eq=False, kw_only=True)
class ReviewScene:
    """What is drawn.

    Args:
        contours: {ROI of the structure set: mask (k, i, j)}.
        predicted: {ROI of the structure set: what the model finds of it}, where it knows the ROI.
        known: {ROI of the structure set: the model's name}.
    """

    volume: Volume
    contours: Mapping[str, Bool]
    predicted: Mapping[str, PredictedRoi] = field(default_factory=dict)
    known: Mapping[str, str] = field(default_factory=dict)


def finding_pictures(scene: ReviewScene, verdict: PatientVerdict) -> dict[str, FindingPicture]:
    """{ROI: its picture}, the worst first; `WHOLE_PATIENT` is that of the findings on the patient."""
    pictures: dict[str, FindingPicture] = {}
    if verdict.findings:
        shown = [name for name in scene.known if scene.contours[name].any()] or list(scene.contours)
        picture = _picture(scene, shown, ())
        if picture is not None:
            pictures[WHOLE_PATIENT] = picture
    ordered = sorted(
        verdict.rois.items(), key=lambda item: (-SEVERITY[item[1].verdict], -(item[1].probability or 0.0))
    )
    for name, roi in ordered[:MOST_ROI_PICTURES]:
        if roi.verdict == "clear":
            break
        picture = _picture(scene, [name], roi.findings)
        if picture is not None:
            pictures[name] = picture
    return pictures


def _picture(scene: ReviewScene, names: Sequence[str], findings: Sequence[Flag]) -> FindingPicture | None:
    """Three planes through what a finding names, in one picture; None where there is nothing to show."""
    masks = {name: scene.contours[name] for name in names}
    theirs = {name: _whole(scene.predicted[name], scene) for name in names if name in scene.predicted}
    seen = np.logical_or.reduce([*masks.values(), *theirs.values()])
    if not seen.any():
        return None
    at = _middle(seen, masks, findings)
    infos = [_info(name, scene.known.get(name)) for name in names]
    stacks = {name: roi_polygons(scene.predicted[name]) for name in theirs}
    axial = slice_plane(
        scene.volume,
        at[0],
        {name: mask_to_polygons(mask[at[0]], holes="separate") for name, mask in masks.items()},
        {name: stack[at[0]] for name, stack in stacks.items() if at[0] in stack} if theirs else None,
    )
    planes = [axial]
    if scene.volume.grid.shape_kij[0] > 1:
        planes += [_cut(scene, across, at[across], masks, theirs) for across in (1, 2)]
    image = montage([(plane, _view(plane)) for plane in planes], infos, columns=3, tile_px=REVIEW_TILE_PX)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=JPEG_QUALITY)
    source = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
    lines = " Solid: the contour; dashed: what the model finds." if theirs else ""
    where = slices_text(scene.volume.grid, [at[0]]).capitalize()
    return FindingPicture(source, f"{where}, and two cuts through the same place.{lines}", image.size)


def _cut(
    scene: ReviewScene, across: int, index: int, masks: Mapping[str, Bool], theirs: Mapping[str, Bool]
) -> Plane:
    drawn = {name: np.take(mask, index, across) for name, mask in masks.items()}
    dashed = {name: np.take(mask, index, across) for name, mask in theirs.items()}
    return cut_plane(scene.volume, across, index, drawn, dashed or None)


def _middle(seen: Bool, masks: Mapping[str, Bool], findings: Sequence[Flag]) -> tuple[int, int, int]:
    """The voxel to look at: in the middle one of the slices that the first finding names, else in the largest."""
    areas = np.count_nonzero(seen, axis=(1, 2))
    named = [n - 1 for flag in findings[:1] for n in flag.slices if 0 < n <= len(areas)]
    shown = [k for k in named if areas[k]] or [int(areas.argmax())]
    k = shown[len(shown) // 2]
    mine = np.logical_or.reduce([mask[k] for mask in masks.values()])
    rows, columns = np.nonzero(mine if mine.any() else seen[k])
    return k, round(float(rows.mean())), round(float(columns.mean()))


def _whole(roi: PredictedRoi, scene: ReviewScene) -> Bool:
    mask = np.zeros(scene.volume.grid.shape_kij, bool)
    if roi.box is not None and roi.inside is not None:
        mask[roi.box] = roi.inside
    return mask


def _info(name: str, known_as: str | None) -> RoiInfo:
    return replace(roi_info(known_as or name.strip()[:64] or "ROI"), name=name)


def _view(plane: Plane) -> View:
    """The part of a plane around everything drawn in it, with a margin."""
    drawn = [*plane.predicted.values(), *(plane.reference or {}).values()]
    points = [polygon for polygons in drawn for polygon in polygons]
    rows, columns = plane.hu.shape
    if not points:
        return View(top=0, bottom=rows, left=0, right=columns)
    every = np.concatenate(points)
    (top, left), (bottom, right) = every.min(axis=0), every.max(axis=0)
    down, across = (int(np.ceil(PICTURE_MARGIN_MM / mm)) for mm in plane.spacing_mm)
    return View(
        top=max(0, int(top) - down),
        bottom=min(rows, int(bottom) + 1 + down),
        left=max(0, int(left) - across),
        right=min(columns, int(right) + 1 + across),
    )
