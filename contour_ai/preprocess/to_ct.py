"""Brings the model's answer exactly back to the voxels of the CT."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from contour_ai.box import Box, bounding_box, with_margin
from contour_ai.grid import Grid
from contour_ai.preprocess.axes import Alignment, Frame
from contour_ai.preprocess.resampler import SPARSE, Resampler, Sparse
from contour_ai.preprocess.weights import axis_weights, cubic_weights

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]

MIXED = 1e-4
"""Least share of a voxel's neighbourhood on either side of the surface, for the surface to pass there; more than what
rounding in fp32 makes of nothing."""


def resample_logits_to_ct(
    logit: Float32, grid: Grid, ct_grid: Grid, *, threshold: float = 0.0, resampler: Resampler = SPARSE
) -> tuple[Box, Float32] | None:
    """One ROI's logits from the model grid to the CT's own voxels, within the ROI's box only.

    The field is read at every voxel centre of the CT, sheared and unequally spaced stacks included. Among model voxels
    on both sides of the surface it is joined by cubic convolution, elsewhere by straight lines: so a voxel can be
    inside only beside a model voxel that is, and outside only beside one that is not.

    Source: Keys, "Cubic convolution interpolation for digital image processing", IEEE Trans. ASSP 29:1153, 1981.

    Args:
        logit: (k, i, j) on `grid`.
        threshold: what counts as the surface.
        resampler: what carries out the resampling.

    Returns:
        The box of the CT grid and the level field in it, positive inside the ROI and minus `threshold`
        already taken off, with one voxel around the ROI where the image has it; None where no voxel centre
        of the CT lies inside.

    Raises:
        GeometryError: the grids' axes do not run along each other.
    """
    found = bounding_box(logit > threshold)
    if found is None:
        return None
    frame = Frame.of(ct_grid)
    align = Alignment.of(grid, frame)
    # A cubic between two voxels looks at the next one on either side.
    support = with_margin(found, (2, 2, 2), logit.shape)
    back = np.argsort(align.order)
    field = np.transpose(logit[support], back)
    centres = [align.centres_mm(axis)[support[back[axis]]] for axis in range(3)]
    for axis in range(3):
        if align.step_mm[axis] < 0:
            field, centres[axis] = np.flip(field, axis), centres[axis][::-1]
    box = _ct_box(centres, np.abs(align.step_mm), frame, ct_grid)
    if box is None:
        return None
    field = np.array(field, np.float32, order="C")
    field -= np.float32(threshold)
    level = _from_model(field, centres, box, frame, np.abs(align.step_mm), resampler)
    tight = bounding_box(level > 0)
    if tight is None:
        return None
    inner = (tight[0], *(slice(max(0, s.start - 1), s.stop + 1) for s in tight[1:]))
    final = tuple(
        slice(b.start + s.start, min(b.start + s.stop, b.stop)) for b, s in zip(box, inner, strict=True)
    )
    return (final[0], final[1], final[2]), np.ascontiguousarray(level[inner])


def _ct_box(centres: list[Float], size_mm: Float, frame: Frame, grid: Grid) -> Box | None:
    """The CT's voxels that lie within the model voxels around `centres`; None where there is none."""
    low = [c[0] - mm / 2 for c, mm in zip(centres, size_mm, strict=True)]
    high = [c[-1] + mm / 2 for c, mm in zip(centres, size_mm, strict=True)]
    heights = frame.slices_mm[:, 0]
    ks = np.flatnonzero((heights >= low[0]) & (heights <= high[0]))
    if ks.size == 0:
        return None
    box = [slice(int(ks[0]), int(ks[-1]) + 1)]
    for axis in (1, 2):
        firsts = frame.slices_mm[ks, axis]
        step, n = frame.step_mm[axis - 1], grid.shape_kij[axis]
        start = max(0, int(np.ceil((low[axis] - firsts.max()) / step)))
        stop = min(n, int(np.floor((high[axis] - firsts.min()) / step)) + 1)
        if stop <= start:
            return None
        box.append(slice(start, stop))
    return box[0], box[1], box[2]


def _from_model(
    field: Float32, centres: list[Float], box: Box, frame: Frame, size_mm: Float, resampler: Resampler
) -> Float32:
    """The field (CT axis order, ascending `centres`, 0 at the surface) at the CT's voxel centres in `box`."""
    ks = range(box[0].start, box[0].stop)
    slices = ks if frame.sheared else ks[:1]
    pixels = [[frame.pixels_mm(k, axis, box[axis].start, box[axis].stop) for axis in (1, 2)] for k in slices]

    def ways(weights: Callable[[int, Float], Float32]) -> tuple[Sparse, list[tuple[Sparse, Sparse]]]:
        along = sparse.csr_array(weights(0, frame.slices_mm[box[0], 0]))
        return along, [
            (sparse.csr_array(weights(1, rows)), sparse.csr_array(weights(2, columns)))
            for rows, columns in pixels
        ]

    def straight(axis: int, targets: Float) -> Float32:
        return axis_weights(
            centres[axis], targets, target_mm=0.0, sample_mm=float(size_mm[axis]), outside="edge"
        )

    straight_ways = ways(straight)
    level = resampler.to_ct(field, *straight_ways)
    inside = resampler.to_ct((field > 0).astype(np.float32), *straight_ways)
    curved = resampler.to_ct(field, *ways(lambda axis, targets: cubic_weights(centres[axis], targets)))
    np.copyto(level, curved, where=(inside > MIXED) & (inside < 1 - MIXED))
    return level
