"""Quality findings from the mask alone: nothing there, cuts, parts, holes, gaps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from contour_ai.box import Box
from contour_ai.grid import Grid
from contour_ai.quality.figures import holes_in_slices
from contour_ai.quality.flag import EXTERNAL, Evidence, Flag, make_flag, numbers_text
from contour_ai.quality.ranges import RoiRanges
from contour_ai.quality.wording import at_most

Bool = NDArray[np.bool_]


HOLE_CM3 = 0.1
"""Smaller holes are not worth a look."""
USUALLY = 0.3
"""What so many training patients have is no reason to look twice."""


def shape_flags(roi: Evidence, grid: Grid, usual: RoiRanges | None = None) -> list[Flag]:
    """Reasons that the mask on the CT's grid gives: nothing there, cuts, parts, holes, gaps."""
    if roi.box is None or roi.inside is None:
        reason = "the model found nothing; the ROI is not in the structure set"
        least = None if usual is None or "volume_cm3" not in usual.figures else usual.figures["volume_cm3"][0]
        return [make_flag("empty", reason, 0.0, least, None, "cm3")]
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
    at = numbers_text((k for k, _ in ends.values()), grid)
    reason = f"reaches the {where} slice, {at}: the organ may go on beyond the scan (cut over {area:.1f} cm2)"
    return [make_flag("touches_scan_end", reason, area, None, 0.0, "cm2", (k for k, _ in ends.values()))]


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
    reason = f"reaches the border of the image: the organ may be cut, {numbers_text(slices, grid)}"
    return [make_flag("touches_field_of_view", reason, slices.size, None, 0, "slices", slices)]


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
            f"{count} separate parts, usual {at_most(usual.parts)}; all but the largest are {rest:.2g} cm3, "
            f"{numbers_text(slices, grid)}"
        )
        flags.append(make_flag("parts", reason, count, None, usual.parts, "", slices))
    holes = holes_in_slices(inside)
    volume = float(sum(n * grid.voxel_volumes_cm3[roi.box[0].start + k] for k, n in holes.items()))
    limit = max(HOLE_CM3, usual.hole_cm3)
    if volume > limit:
        slices = np.array(sorted(holes)) + first
        reason = f"holes of {volume:.2g} cm3, usual {at_most(limit)} cm3, {numbers_text(slices, grid)}"
        flags.append(make_flag("holes", reason, volume, None, limit, "cm3", slices))
    held = np.flatnonzero(inside.any(axis=(1, 2)))
    gaps = np.setdiff1d(np.arange(held[0], held[-1] + 1), held) + first if held.size else held
    if gaps.size > usual.missing_slices:
        reason = f"no contour in {numbers_text(gaps, grid)}, between others"
        flags.append(make_flag("slice_gaps", reason, gaps.size, None, usual.missing_slices, "slices", gaps))
    return flags
