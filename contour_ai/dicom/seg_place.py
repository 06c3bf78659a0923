"""Masks of a DICOM Segmentation on a CT's grid: frame by frame where they lie on its slices, else resampled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contour_ai.dicom.seg_read import ReadSegment, ReadSegmentation, SegFrame
from contour_ai.errors import GeometryError, InputError
from contour_ai.grid import Grid

OnNote = Callable[[str], None]

SAME_PLACE_VOXELS = 0.05
"""Positions are written with few digits by some programs; nearer than this is the same voxel."""

MOST_VOXELS = 2**30
"""Of a segment's box, one byte each; 1024 slices of 1024 x 1024."""

EVEN_FRACTION = 0.05
"""Of the slice spacing: frames that are off their even places by more are not evenly spaced."""


def masks_on_grid(
    segmentation: ReadSegmentation, grid: Grid, where: Path, note: OnNote
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """(label, mask (k, i, j)) of every segment; a segment without a voxel is empty.

    Args:
        segmentation: as `read_segmentation` gives it.
        grid: the CT's.
        where: named in messages.
        note: called with a sentence on what is unusual.

    Raises:
        InputError: drawn in another frame of reference.
        GeometryError: frames that lie on no slice of the CT and are not evenly spaced, or outside the CT.
    """
    frames_of_reference = {segmentation.frame_of_reference_uid, grid.frame_of_reference_uid} - {""}
    if len(frames_of_reference) > 1:
        raise InputError(
            "This segmentation was drawn in another frame of reference than the CT's.",
            where=where,
            found=segmentation.frame_of_reference_uid,
            expected=grid.frame_of_reference_uid,
            fix="give the segmentation that was drawn on this CT",
        )
    for sentence in segmentation.notes:
        note(sentence)
    for segment in segmentation.segments:
        place = f"{where}, {segment.name}"
        mask = _exact(segment, grid)
        if mask is None:
            from contour_ai.mask_files.placing import on_grid

            array, affine = _stacked(segment, segmentation.slice_spacing_mm, place)
            mask = on_grid(array, affine, grid, place, note)
        yield segment.name, mask


def _exact(segment: ReadSegment, grid: Grid) -> NDArray[np.bool_] | None:
    """The mask, where every frame lies on voxels of the grid; None where one does not."""
    mask = np.zeros(grid.shape_kij, dtype=bool)
    for frame in segment.frames:
        start = _start(frame, grid)
        if start is None:
            return None
        k, i, j = start
        rows, columns = frame.inside.shape
        mask[k, i : i + rows, j : j + columns] |= frame.inside
    return mask


def _start(frame: SegFrame, grid: Grid) -> tuple[int, int, int] | None:
    """The voxel of the grid at which a frame begins; None where it lies otherwise, or reaches beyond the grid."""
    rows, columns = frame.inside.shape
    right = frame.position_lps + (columns - 1) * frame.step_j_lps
    below = frame.position_lps + (rows - 1) * frame.step_i_lps
    first = grid.lps_to_index(frame.position_lps)
    start = np.rint(first).astype(int)
    end = start + np.array([0, rows - 1, columns - 1])
    found = np.stack([first, grid.lps_to_index(right), grid.lps_to_index(below)])
    expected = np.stack([start, [start[0], start[1], end[2]], [start[0], end[1], start[2]]])
    if np.abs(found - expected).max() > SAME_PLACE_VOXELS:
        return None
    if (start < 0).any() or (end >= grid.shape_kij).any():
        return None
    return int(start[0]), int(start[1]), int(start[2])


def _stacked(
    segment: ReadSegment, slice_spacing_mm: float | None, where: str
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """The frames as one array (k, i, j) with its affine, frames that the file leaves out as empty slices."""
    first = segment.frames[0]
    normal = np.cross(first.step_j_lps, first.step_i_lps)
    normal /= np.linalg.norm(normal)
    steps = np.stack([first.step_i_lps, first.step_j_lps])
    for frame in segment.frames:
        if np.abs(np.stack([frame.step_i_lps, frame.step_j_lps]) - steps).max() > SAME_PLACE_VOXELS:
            raise GeometryError(
                "The frames of this segment have different directions or pixels.", where=where
            )
    offsets_mm = np.array([frame.position_lps @ normal for frame in segment.frames])
    spacing = _spacing(offsets_mm, slice_spacing_mm)
    places = (offsets_mm - offsets_mm.min()) / spacing
    _refuse_extent([places.max() + 1], segment, where)
    k = np.rint(places).astype(int)
    if np.abs(places - k).max() > EVEN_FRACTION:
        raise GeometryError(
            "The frames of this segment are not evenly spaced and do not lie on the CT's slices.",
            where=where,
            found=f"{np.abs(places - k).max() * spacing:.2f} mm off even places",
            fix="give the CT that it was drawn on",
        )
    # In-plane places relative to the lowest frame, in whole pixels: frames were cut to their voxels.
    base = segment.frames[int(offsets_mm.argmin())].position_lps
    offsets = np.array(
        [
            [(f.position_lps - base) @ step / (step @ step) for step in (first.step_i_lps, first.step_j_lps)]
            for f in segment.frames
        ]
    )
    _refuse_extent([places.max() + 1, *np.ptp(offsets, axis=0) + 1], segment, where)
    if np.abs(offsets - np.rint(offsets)).max() > EVEN_FRACTION:
        raise GeometryError(
            "The frames of this segment slide sideways (gantry tilt) and do not lie on the CT's slices.",
            where=where,
            fix="give the CT that it was drawn on",
        )
    low = np.rint(offsets.min(axis=0)).astype(int)
    corners = np.rint(offsets).astype(int) - low
    sizes = np.array([f.inside.shape for f in segment.frames])
    array = np.zeros((int(k.max()) + 1, *(corners + sizes).max(axis=0)), bool)
    for n, (at, (i, j)) in enumerate(zip(k, corners, strict=True)):
        inside = segment.frames[n].inside
        array[at, i : i + inside.shape[0], j : j + inside.shape[1]] |= inside
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = normal * spacing, first.step_i_lps, first.step_j_lps
    affine[:3, 3] = base + low[0] * first.step_i_lps + low[1] * first.step_j_lps
    return array, affine


def _refuse_extent(sizes: Sequence[float], segment: ReadSegment, where: str) -> None:
    """Raises GeometryError where the frames lie so far apart that no scan holds them all."""
    extent = float(np.prod(sizes))
    if not np.isfinite(extent) or extent > MOST_VOXELS:
        raise GeometryError(
            "The frames of this segment lie too far apart to be of one scan.",
            where=where,
            found=f"{len(segment.frames)} frames across {extent:.3g} voxels",
            expected=f"at most {MOST_VOXELS:.3g}",
            fix="export the segmentation again",
        )


def _spacing(offsets_mm: NDArray[np.float64], stated_mm: float | None) -> float:
    """The distance of neighbouring frames: the smallest there is, else what the file states, else 1 mm."""
    distinct = np.unique(np.round(offsets_mm, 3))
    if len(distinct) > 1:
        return float(np.diff(distinct).min())
    return stated_mm or 1.0
