"""Quality findings from the mask alone: nothing there, cuts, parts, holes, gaps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from contour_ai.box import Box
from contour_ai.grid import Grid
from contour_ai.quality.figures import holes_in_slices
from contour_ai.quality.flag import EXTERNAL, Evidence, Flag, all_slices, make_flag, numbers_text
from contour_ai.quality.ranges import RoiRanges
from contour_ai.quality.wording import at_most, direction_text
from contour_ai.structures.pieces import is_one_piece
from contour_ai.structures.plausible import plausible_volume_cm3

Bool = NDArray[np.bool_]


HOLE_CM3 = 0.1
"""Smaller holes are not worth a look."""
SPECK_CM3 = 0.05
"""A ROI that is no organ of a known size and smaller than this is a speck: tables show it as 0.0 or 0.1 cm3."""
SECOND_CM3, SECOND_MM = 0.5, 20.0
"""A second part of an organ of one piece is named when it is larger, and farther from the largest, than this, whatever
the training patients have."""
REMOVED_CM3, REMOVED_SHARE = 0.5, 0.02
"""More of a contour than the larger of both outside the body is worth a look."""
USUALLY = 0.3
"""What so many training patients have is no finding."""


def shape_flags(roi: Evidence, grid: Grid, usual: RoiRanges | None = None) -> list[Flag]:
    """Reasons that the mask on the CT's grid gives: nothing there, cuts, parts, holes, gaps."""
    if roi.box is None or roi.inside is None:
        reason = "the model found nothing; the ROI is not in the structure set"
        least = None if usual is None or "volume_cm3" not in usual.figures else usual.figures["volume_cm3"][0]
        return [make_flag("empty", reason, 0.0, least, None, "cm3")]
    if roi.info.interpreted_type == EXTERNAL:
        return []
    flags = _speck_flags(roi, grid, usual) + _outside_flags(roi, grid)
    usual = usual or RoiRanges(patients=0)
    flags += _end_flags(roi.inside, roi.box, grid, usual) + _border_flags(roi.inside, roi.box, grid)
    return flags + _part_flags(roi, grid, usual)


def _speck_flags(roi: Evidence, grid: Grid, usual: RoiRanges | None) -> list[Flag]:
    """A volume that no such organ has, whatever the model knows: an untrained network leaves specks."""
    assert roi.box is not None and roi.inside is not None
    least, bounds = SPECK_CM3, plausible_volume_cm3(roi.info.name)
    if bounds is not None:
        cut = roi.box[0].start == 0 or roi.box[0].stop == grid.shape_kij[0]
        compared = usual is not None and "volume_cm3" in usual.figures
        least = min(SPECK_CM3, bounds[0]) if cut or compared else bounds[0] / 2
    volume = float(np.count_nonzero(roi.inside, axis=(1, 2)) @ grid.voxel_volumes_cm3[roi.box[0]])
    if volume >= least:
        return []
    what = f"at least {least:g} cm3 expected" if bounds is not None else "a speck"
    reason = f"the volume is {volume:.2g} cm3, {what}"
    return [make_flag("speck", reason, volume, least, None, "cm3", all_slices(roi))]


def _second_part(
    labels: NDArray[np.int32], count: int, roi: Evidence, grid: Grid
) -> tuple[float, str] | None:
    """(volume in cm3, where it lies to the largest) of the second largest part of an organ of one piece, where that is
    more than `SECOND_CM3` and farther away than `SECOND_MM`."""
    assert roi.box is not None
    if not is_one_piece(roi.info.name):
        return None
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    first, second = (int(n) + 1 for n in np.argsort(-sizes, kind="stable")[:2])
    k, i, j = (s.start for s in roi.box)
    middles = np.add(ndimage.center_of_mass(labels > 0, labels, [first, second]), (k, i, j))
    volume = float(sizes[second - 1]) * float(np.mean(grid.voxel_volumes_cm3[roi.box[0]]))
    here, there = grid.index_to_lps(middles)
    left, behind, above = there - here
    if volume <= SECOND_CM3 or float(np.linalg.norm(there - here)) <= SECOND_MM:
        return None
    return volume, direction_text((above, behind, left))


def _outside_flags(roi: Evidence, grid: Grid) -> list[Flag]:
    """What was removed of the contour because it lay outside the body, where it is much."""
    assert roi.box is not None and roi.inside is not None
    removed = roi.outside
    kept = float(np.count_nonzero(roi.inside, axis=(1, 2)) @ grid.voxel_volumes_cm3[roi.box[0]])
    limit = max(REMOVED_CM3, REMOVED_SHARE * (kept + removed.volume_cm3))
    if removed.volume_cm3 <= limit:
        return []
    reason = (
        f"{removed.volume_cm3:.2g} cm3 of the contour lay outside the body and were removed, "
        f"{numbers_text(removed.slices, grid)}; usual {at_most(limit)} cm3"
    )
    return [make_flag("outside_body", reason, removed.volume_cm3, None, limit, "cm3", removed.slices)]


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
    apart = _second_part(labels, count, roi, grid) if count > 1 else None
    if count > usual.parts or apart is not None:
        voxels_cm3 = grid.voxel_volumes_cm3[roi.box[0]]
        volumes = np.zeros(count + 1)
        for k, part in enumerate(labels):
            volumes += np.bincount(part.ravel(), minlength=count + 1) * voxels_cm3[k]
        volumes[0] = 0
        largest = int(volumes.argmax())
        slices = np.flatnonzero(((labels > 0) & (labels != largest)).any(axis=(1, 2))) + first
        rest = volumes.sum() - volumes[largest]
        where = "" if apart is None else f", the second of {apart[0]:.2g} cm3 {apart[1]} the largest"
        reason = (
            f"{count} separate parts, usual {at_most(usual.parts)}{where}; all but the largest are {rest:.2g} cm3, "
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
