"""Brings a CT, and structures on it, to the grid that a model was trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from contour_ai.box import Box, bounding_box, with_margin
from contour_ai.errors import InputError
from contour_ai.grid import Grid
from contour_ai.preprocess.axes import Alignment, Frame, patient_order
from contour_ai.preprocess.body import body_mask
from contour_ai.preprocess.resampler import SPARSE, Resampler, Sparse
from contour_ai.preprocess.settings import PreprocessSettings
from contour_ai.preprocess.weights import axis_weights
from contour_ai.volume import Structures, Volume, set_roi_voxels

Bool = NDArray[np.bool_]
Float = NDArray[np.float64]
Float32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False, kw_only=True)
class Prepared:
    """A CT on a model's grid: `hu` and `body` (k, i, j) on `grid`, whose axes run superior, posterior, left."""

    hu: NDArray[np.int16]
    body: Bool
    grid: Grid
    source_grid: Grid


def prepare(
    volume: Volume,
    settings: PreprocessSettings,
    *,
    body: Bool | None = None,
    resampler: Resampler = SPARSE,
) -> Prepared:
    """The CT on the model's grid: patient axes, the model's spacing, cropped to the body, air around it.

    The model grid's axes are those of the CT in the order and direction nearest to superior, posterior, left;
    sheared stacks are straightened, through each slice's own position. The grid is centred on the body, so
    that turning the image by 90 degrees or mirroring its axes gives the same voxels.

    Args:
        body: mask on the CT's grid where it is known; `body_mask` otherwise.
        resampler: what carries out the resampling.

    Raises:
        InputError: no patient in the image.
    """
    if body is None:
        body = body_mask(volume, settings.body_threshold_hu)
    frame = Frame.of(volume.grid)
    box = bounding_box(body)
    if box is None:
        raise InputError(
            "No patient was found in this CT.",
            found=f"{volume.hu.min()} to {volume.hu.max()} HU",
            expected=f"a body above {settings.body_threshold_hu:g} HU",
            fix="check the series and its rescale slope and intercept",
        )
    grid = _model_grid(volume.grid, frame, body, box, settings)
    align = Alignment.of(grid, frame)
    box = _grown(box, volume.grid, np.abs(align.step_mm))
    hu, mask, outside = volume.hu, body, settings.outside_hu

    def tissue(k: int) -> Float32:
        return np.where(mask[k, box[1], box[2]], hu[k, box[1], box[2]], outside).astype(np.float32)

    def covered(k: int) -> Float32:
        return mask[k, box[1], box[2]].astype(np.float32)

    inside = _to_model(covered, box, frame, volume.grid, align, resampler, outside="zero") >= 0.5
    image = _to_model(tissue, box, frame, volume.grid, align, resampler, outside="edge")
    limits = np.iinfo(np.int16)
    values = np.rint(image).clip(limits.min, limits.max).astype(np.int16)
    values[~inside] = outside
    return Prepared(hu=values, body=inside, grid=grid, source_grid=volume.grid)


def resample_structures(structures: Structures, model_grid: Grid) -> Structures:
    """Structures on the model's grid: a voxel belongs to a ROI that covers at least half of it.

    Each ROI is resampled within its own box only. ROIs that were not contoured stay so.

    Raises:
        GeometryError: the model grid does not run along the structures' axes (it must come from `prepare`).
    """
    frame = Frame.of(structures.grid)
    align = Alignment.of(model_grid, frame)
    bits = np.zeros(model_grid.shape_kij, structures.bits.dtype)
    for name, mask in structures.masks():
        found = bounding_box(mask)
        onto = None if found is None else _resampled(mask[found], found, structures.grid, frame, align)
        if onto is not None:
            where, inside = onto
            set_roi_voxels(bits[where], structures.index(name), inside)
    return Structures(bits=bits, grid=model_grid, names=structures.names, presence=structures.presence)


def resample_mask(inside: Bool, box: Box, grid: Grid, model_grid: Grid) -> tuple[Box, Bool] | None:
    """One ROI, given in a box of its grid, on the model's grid as `resample_structures` does it: a box and a mask.

    None where no voxel of the model's grid is near.

    Raises:
        GeometryError: as `resample_structures`.
    """
    frame = Frame.of(grid)
    return _resampled(inside, box, grid, frame, Alignment.of(model_grid, frame))


def _resampled(
    inside: Bool, found: Box, grid: Grid, frame: Frame, align: Alignment
) -> tuple[Box, Bool] | None:
    box = _grown(found, grid, np.abs(align.step_mm))
    part, where = _part_within(align, frame, box)
    if part is None:
        return None
    shape = box[1].stop - box[1].start, box[2].stop - box[2].start
    within = tuple(
        slice(f.start - b.start, f.stop - b.start) for f, b in zip(found[1:], box[1:], strict=True)
    )

    def covered(k: int) -> Float32:
        image = np.zeros(shape, np.float32)
        if found[0].start <= k < found[0].stop:
            image[within] = inside[k - found[0].start]
        return image

    return where, _to_model(covered, box, frame, grid, part, SPARSE, outside="zero") >= 0.5


def _grown(box: Box, grid: Grid, target_mm: Float) -> Box:
    """The box with all voxels that a target voxel at its border is averaged from."""
    spacing = (float(grid.slice_widths_mm.min()), *grid.spacing_mm[1:])
    margin = [int(np.ceil(target / mm)) + 1 for mm, target in zip(spacing, target_mm, strict=True)]
    return with_margin(box, margin, grid.shape_kij)


def _model_grid(grid: Grid, frame: Frame, body: Bool, box: Box, settings: PreprocessSettings) -> Grid:
    """A regular grid along the CT's axes in patient order, centred on the body and with the margin around it."""
    order, signs = patient_order(grid)
    low, high = _extent_mm(frame, grid, body, box)
    size = np.array(settings.spacing_mm_kij)
    count = np.array(
        [np.ceil((high[a] - low[a] + 2 * settings.margin_mm) / mm) for a, mm in zip(order, size, strict=True)]
    ).astype(int)
    steps = frame.axes_lps[list(order)] * (np.array(signs) * size)[:, None]  # (model axis, LPS)
    centre = frame.axes_lps.T @ ((low + high) / 2)
    affine = np.eye(4)
    affine[:3, :3] = steps.T
    affine[:3, 3] = centre - steps.T @ ((count - 1) / 2)
    shape = (int(count[0]), int(count[1]), int(count[2]))
    return Grid.from_affine(shape, affine, grid.frame_of_reference_uid)


def _extent_mm(frame: Frame, grid: Grid, body: Bool, box: Box) -> tuple[Float, Float]:
    """Lowest and highest coordinate of the body's voxel faces along each of the CT's axes."""
    ks = np.arange(box[0].start, box[0].stop)
    widths, heights = grid.slice_widths_mm, frame.slices_mm[:, 0]
    low = [heights[ks[0]] - widths[ks[0]] / 2]
    high = [heights[ks[-1]] + widths[ks[-1]] / 2]
    for axis in (1, 2):
        step, firsts = frame.step_mm[axis - 1], frame.slices_mm[ks, axis]
        first, last = np.full(len(ks), box[axis].start), np.full(len(ks), box[axis].stop - 1)
        if frame.sheared:  # then the body's extent is not that of its box
            line: Bool = np.logical_or.reduce(body[box], axis=3 - axis)
            occupied = np.logical_or.reduce(line, axis=1)
            firsts, line = firsts[occupied], line[occupied]
            first = box[axis].start + line.argmax(axis=1)
            last = box[axis].stop - 1 - line[:, ::-1].argmax(axis=1)
        low.append(float((firsts + (first - 0.5) * step).min()))
        high.append(float((firsts + (last + 0.5) * step).max()))
    return np.array(low), np.array(high)


def _part_within(align: Alignment, frame: Frame, box: Box) -> tuple[Alignment | None, Box]:
    """The model voxels (as an alignment of their own, and as a box of the model grid) whose centres lie in `box`."""
    ranges: list[tuple[int, int]] = []
    for axis in range(3):
        values = frame.slices_mm[box[0], axis]
        if axis > 0:
            first, last = (
                values + frame.step_mm[axis - 1] * (box[axis].start - 1),
                values + frame.step_mm[axis - 1] * box[axis].stop,
            )
            low, high = first.min(), last.max()
        else:
            gap = np.diff(values).max(initial=abs(align.step_mm[0]))
            low, high = values[0] - gap, values[-1] + gap
        hits = np.flatnonzero((align.centres_mm(axis) >= low) & (align.centres_mm(axis) <= high))
        ranges.append((int(hits[0]), int(hits[-1]) + 1) if hits.size else (0, 0))
    in_model = [slice(*ranges[axis]) for axis in align.order]
    where = (in_model[0], in_model[1], in_model[2])
    if any(start == stop for start, stop in ranges):
        return None, where
    starts = np.array([r[0] for r in ranges])
    shape = tuple(stop - start for start, stop in ranges)
    part = Alignment(
        order=align.order,
        start_mm=align.start_mm + starts * align.step_mm,
        step_mm=align.step_mm,
        shape=(shape[0], shape[1], shape[2]),
    )
    return part, where


def _to_model(
    slice_of: Callable[[int], Float32],
    box: Box,
    frame: Frame,
    grid: Grid,
    align: Alignment,
    resampler: Resampler,
    *,
    outside: Literal["edge", "zero"],
) -> Float32:
    """Resamples the CT's box, given slice by slice, to the model grid (model axis order): in the slices first."""

    def in_plane(k: int, axis: int) -> Sparse:
        weights = axis_weights(
            frame.pixels_mm(k, axis, box[axis].start, box[axis].stop),
            align.centres_mm(axis),
            target_mm=abs(align.step_mm[axis]),
            sample_mm=frame.step_mm[axis - 1],
            outside=outside,
        )
        return sparse.csr_array(weights)

    ks = range(box[0].start, box[0].stop)
    planes = [(in_plane(k, 1), in_plane(k, 2)) for k in (ks if frame.sheared else ks[:1])]
    along = axis_weights(
        frame.slices_mm[box[0], 0],
        align.centres_mm(0),
        target_mm=abs(align.step_mm[0]),
        sample_mm=grid.spacing_mm[0],
        outside=outside,
    )
    result = resampler.to_model(slice_of, ks, planes, sparse.csr_array(along))
    return np.ascontiguousarray(np.transpose(result, align.order))
