"""Quality findings from the network: how uncertain the boundary is, and what was removed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from contour_ai.box import Box, bounding_box, with_margin
from contour_ai.quality.figures import Body
from contour_ai.quality.flag import Evidence, Flag, ImageEvidence, make_flag, numbers_text
from contour_ai.quality.ranges import RoiRanges
from contour_ai.quality.wording import at_most, direction_text, share_beyond

Bool = NDArray[np.bool_]


LEFT_OUT_CM3 = 0.5
"""Smaller parts that a rule removes are specks: of 34 cords and esophagi of patients held back four had more than
0.1 cm3 of them, three more than 0.5."""
UNCERTAIN_LOGIT = float(np.log(3))
"""The boundary is uncertain where two voxels on either side of it both have a probability between 25 % and 75 %.
Measured with a briefly trained network on 14 patients held back, the share of such places correlated with the Dice of
the ROI (-0.4 to -0.9), between 10 % and 90 % of its own uncalibrated probabilities, which is this band of calibrated
ones. The slope of the probability in 1/mm did not correlate."""
UNCERTAIN_SHARE = 0.5
"""Of the surface, where no patients were held back to measure it."""


class UncertainSurface(NamedTuple):
    """Two masks in the box around a ROI."""

    surface: Bool
    uncertain: Bool
    """Where the boundary is uncertain, at the surface."""
    box: Box


def uncertain_surface(
    logit: NDArray[np.float32], mask: Bool, body: Body, threshold: float = 0.0
) -> UncertainSurface:
    """The voxels at the surface of a ROI, and those of them where the boundary is uncertain.

    A voxel is at the surface where a neighbour over a face is outside. The boundary is uncertain there where both
    logits lie within `UNCERTAIN_LOGIT` of the surface's. Voxels outside the body count as outside the ROI, with the
    certainty that the network gave them.

    Args:
        logit: (k, i, j).
        mask: where it counts as inside; nowhere outside the body.
    """
    found = bounding_box(mask)
    if found is None:
        nothing = np.zeros((0, 0, 0), bool)
        return UncertainSurface(nothing, nothing, (slice(0, 0), slice(0, 0), slice(0, 0)))
    box = with_margin(found, (1, 1, 1), mask.shape)
    inside, values = mask[box], np.where(body.mask[box], logit[box], -np.abs(logit[box]))
    near = np.abs(values - threshold) < UNCERTAIN_LOGIT
    surface, uncertain = np.zeros(inside.shape, bool), np.zeros(inside.shape, bool)
    for axis in range(3):
        low, high = _neighbours(axis)
        for mine, other in ((low, high), (high, low)):
            face = inside[mine] & ~inside[other]
            surface[mine] |= face
            uncertain[mine] |= face & near[mine] & near[other]
    return UncertainSurface(surface, uncertain, (box[0], box[1], box[2]))


def uncertain_surface_share(
    logit: NDArray[np.float32], mask: Bool, body: Body, threshold: float = 0.0
) -> float | None:
    """Share of a ROI's surface where the boundary is uncertain; None where the ROI is empty."""
    found = uncertain_surface(logit, mask, body, threshold)
    count = np.count_nonzero(found.surface)
    return np.count_nonzero(found.uncertain) / count if count else None


def left_out_flags(roi: Evidence, image: ImageEvidence) -> list[Flag]:
    if roi.left_out is None:
        return []
    volume = np.count_nonzero(roi.left_out) * float(np.prod(image.model_grid.spacing_mm)) / 1000
    if volume <= LEFT_OUT_CM3:
        return []
    everywhere = (slice(0, None), slice(0, None), slice(0, None))
    slices = _ct_slices(roi.left_out, roi.left_out, 0.5, everywhere, image)
    reason = (
        f"{volume:.2g} cm3 of disconnected prediction was removed{_where_left_out(roi, image)}, "
        f"{numbers_text(slices, image.grid)}; usual {at_most(LEFT_OUT_CM3)} cm3"
    )
    return [make_flag("left_out", reason, volume, None, LEFT_OUT_CM3, "cm3", slices)]


def _where_left_out(roi: Evidence, image: ImageEvidence) -> str:
    """How many parts, and where the largest lies relative to the part that is kept."""
    assert roi.left_out is not None and roi.logit is not None
    kept = bounding_box(roi.logit > roi.threshold)
    labels, count = ndimage.label(roi.left_out, np.ones((3, 3, 3)))
    parts = "" if count == 1 else f" in {count} parts"
    if kept is None:
        return parts
    largest = int(np.bincount(labels.ravel())[1:].argmax()) + 1
    there = np.array(ndimage.center_of_mass(labels == largest))
    inside = roi.logit[kept] > roi.threshold
    here = np.array(ndimage.center_of_mass(inside)) + [s.start for s in kept]
    place = direction_text((there - here) * image.model_grid.spacing_mm)
    return f", {place} the kept part" if count == 1 else f"{parts}, the largest {place} the kept part"


def _neighbours(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    low, high = [slice(None)] * 3, [slice(None)] * 3
    low[axis], high[axis] = slice(None, -1), slice(1, None)
    return tuple(low), tuple(high)


def confidence_flags(
    roi: Evidence, mask: Bool, image: ImageEvidence, body: Body, usual: RoiRanges | None
) -> list[Flag]:
    assert roi.logit is not None
    surface, uncertain, box = uncertain_surface(roi.logit, mask, body, roi.threshold)
    count = np.count_nonzero(surface)
    limit = UNCERTAIN_SHARE if usual is None or usual.flat_share is None else usual.flat_share
    share = np.count_nonzero(uncertain) / count if count else 0.0
    if share <= limit:
        return []
    slices = _ct_slices(uncertain, surface, limit, box, image)
    found, most = share_beyond(share, limit)
    reason = f"low confidence: the boundary is uncertain on {found} of the surface, usual at most {most}"
    reason += f", most in {numbers_text(slices, image.grid)}" if slices else ""
    return [make_flag("low_confidence", reason, share, None, limit, "", slices)]


def _ct_slices(
    uncertain: Bool, surface: Bool, limit: float, box: Box, image: ImageEvidence
) -> tuple[int, ...]:
    """The CT's slices, from 1, in which more of the surface than `limit` is uncertain."""
    count = image.grid.shape_kij[0]

    def by_slice(voxels: Bool) -> NDArray[np.float64]:
        """How many voxels of the model's grid each slice of the CT goes through."""
        index = np.argwhere(voxels) + [s.start for s in box]
        reach = np.abs(image.model_grid.affine[:3, :3].T @ image.grid.normal).sum() / 2  # half a voxel, in mm
        offsets_mm = image.model_grid.index_to_lps(index) @ image.grid.normal
        k = image.grid.slice_offset_to_k(np.stack([offsets_mm - 0.95 * reach, offsets_mm + 0.95 * reach]))
        nearest = np.rint(k.mean(axis=0))  # slices may lie farther apart than the model's voxels
        first = np.minimum(np.ceil(k.min(axis=0)), nearest)
        last = np.maximum(np.floor(k.max(axis=0)), nearest) + 1
        ends = [np.clip(end, 0, count).astype(int) for end in (first, last)]
        starts, stops = (np.bincount(end, minlength=count + 1)[: count + 1] for end in ends)
        return np.cumsum(starts - stops)[:count].astype(np.float64)

    of_uncertain, all_of = by_slice(uncertain), by_slice(surface)
    return tuple(int(k) + 1 for k in np.flatnonzero((of_uncertain > 0) & (of_uncertain > limit * all_of)))
