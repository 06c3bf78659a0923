"""Finds blocks and boards: solid things of one density with two flat, parallel faces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from contour_ai.holes import fill_slice

Bool = NDArray[np.bool_]
Ints = NDArray[np.int64]
Numbers = NDArray[Any]

SLAB_THICK_MM = (8.0, 70.0)
"""Between the faces of a block or board; thinner ones are cut off by the opening, thicker ones may be a limb."""
FACE_MM = 28.0
"""At least so much of both faces is free, within a slice: no limb as thin as a board is as flat over so much."""
THICKER_MM, THICKER_FACE_MM = 45.0, 60.0
"""One thicker than the first needs so much of free faces: a round part of 70 mm is as flat over 35 mm."""
LONG_MM = 30.0
"""A block or board is at least so long along the body."""
CONTACT_GAP_MM = 12.0
"""Along a face that is followed under the patient, so much may be hidden."""
DENT_MM = 4.0
"""There a face may lie so much deeper."""
LARGEST_SHARE = 0.5
"""Blocks and boards are less than this share of everything dense; a slab of solid water is the thing scanned."""
BONE_ABOVE_HU = 180.0
BONE_SHARE = 0.005
"""A limb has more bone than this in it, a child's as well."""
ONE_DENSITY_HU = 90.0
"""Between the quartiles of a device's voxels: the noise of a thin slice; skin, fat and muscle differ by more."""
LIGHTER_SHARE = 0.05
"""So few voxels are lighter than the median by `ONE_DENSITY_HU`; the fat around the muscles of a cut arm is more."""
LAYERS_HU = 40.0
"""The mean densities of a device's layers, from face to face, differ by less."""
FAT_HU = (-160.0, -40.0)
"""A part of this density may be a fold of fat that the field of view has cut off: it stays."""
ALIKE_HU = 60.0
ALIKE_SHARE = 0.7
"""Where only one face is free, so much of a column has the device's density give or take this."""


@dataclass(frozen=True, kw_only=True)
class DenseSlices:
    """Every `step`-th slice of what is dense, in pixels of about 2 mm, with the CT's values in them."""

    tissue: Bool
    """(k, i, j)"""
    hu: Numbers
    """(k, i, j), sampled, not averaged: the noise is the CT's own."""
    pixel_mm: float
    slice_mm: float


# -- one density, no bone -----------------------------------------------------------------------------------


def is_one_density(values: Numbers) -> bool:
    """Whether HU from within a part can be a device's: one density, none of fat, and no bone."""
    if values.size == 0:
        return False
    low, middle, high = np.percentile(values, (25, 50, 75))
    if middle > BONE_ABOVE_HU:
        # Metal, or a plastic as dense as bone; a bone has a marrow, and soft tissue around it.
        return float(np.mean(values < BONE_ABOVE_HU / 2)) < BONE_SHARE
    return bool(
        high - low < ONE_DENSITY_HU
        and float(np.mean(values < middle - ONE_DENSITY_HU)) < LIGHTER_SHARE
        and not FAT_HU[0] < middle < FAT_HU[1]
        and float(np.mean(values > middle + BONE_ABOVE_HU)) < BONE_SHARE
    )


# -- blocks and boards: two flat, parallel faces --------------------------------------------------------------


class Runs(NamedTuple):
    """Unbroken columns of what is dense, along the last axis of an array (k, m, n)."""

    k: Ints
    m: Ints
    start: Ints
    end: Ints
    """Behind the last voxel."""


def slab_mask(scene: DenseSlices) -> Bool | None:
    """(k, i, j) what belongs to blocks and boards whose faces run along rows or columns; None for nothing."""
    found: Bool | None = None
    for turned in (False, True):
        axes = (0, 2, 1) if turned else (0, 1, 2)
        tissue = np.ascontiguousarray(scene.tissue.transpose(axes))
        mask = _slabs_along(tissue, scene.hu.transpose(axes), scene)
        if mask is not None:
            mask = mask.transpose(axes)
            found = mask if found is None else found | mask
    if found is None or np.count_nonzero(found) > LARGEST_SHARE * np.count_nonzero(scene.tissue):
        return None
    return found


def _slabs_along(tissue: Bool, hu: Numbers, scene: DenseSlices) -> Bool | None:
    """(k, m, n) what belongs to slabs with faces across the last axis."""
    runs = _runs(tissue)
    length = runs.end - runs.start
    low, high = (round(mm / scene.pixel_mm) for mm in SLAB_THICK_MM)
    thin = (length >= low) & (length <= high)
    depth, thickness = tissue.shape[2], high - low + 1
    cells = (runs.k * depth + runs.start) * thickness + (length - low)
    shape = (len(tissue), depth, thickness)
    counts = np.bincount(cells[thin], minlength=int(np.prod(shape))).reshape(shape)
    least = FACE_MM / scene.pixel_mm
    if counts.max(initial=0) * 6 < least:
        return None
    wanted = np.full(thickness, least)
    wanted[round(THICKER_MM / scene.pixel_mm) - low + 1 :] = THICKER_FACE_MM / scene.pixel_mm
    flat = _sum_of_neighbours(counts) >= wanted
    if not flat.any():
        return None
    # From slice to slice a face of a wedge or half cylinder moves by a few pixels.
    wider = np.asarray(ndimage.binary_dilation(flat, np.ones((1, 5, 5), bool)), bool)
    labels, _ = ndimage.label(wider, np.ones((3, 3, 3), bool))
    labels *= flat
    mask = np.zeros_like(tissue)
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if (box[0].stop - box[0].start) * scene.slice_mm < LONG_MM:
            continue
        members = thin.copy()
        members[thin] = labels.ravel()[cells[thin]] == label
        seeds = _exposed(Runs(*(values[members] for values in runs)), tissue)
        slab = _slab(seeds, hu, scene)
        if slab is not None:
            _follow(mask, tissue, hu, runs, slab, scene)
    return mask if mask.any() else None


def _runs(tissue: Bool) -> Runs:
    k, m, n = tissue.shape
    padded = np.zeros((k, m, n + 2), bool)
    padded[:, :, 1:-1] = tissue
    edges = np.flatnonzero(padded[:, :, 1:] != padded[:, :, :-1])
    start, end = edges[0::2], edges[1::2]
    line, first = np.divmod(start, n + 1)
    return Runs(*np.divmod(line, m), first, first + end - start)


def _sum_of_neighbours(counts: Ints) -> Ints:
    """(k, start, length): with those that start a pixel further, and are a pixel shorter or longer.

    No more, or the faces of a round part of 15 mm radius would be flat enough.
    """
    result = counts
    for axis, places in ((1, (1, 2)), (2, (0, 1, 2))):
        padded = np.pad(result, [(0, 0) if a != axis else (1, 1) for a in range(3)])
        at = np.arange(result.shape[axis])
        result = sum((padded.take(at + place, axis=axis) for place in places), np.zeros_like(result))
    return result


def _exposed(runs: Runs, tissue: Bool) -> Runs:
    """The runs with both faces in the air around everything; those beside lung or bowel gas are no device."""
    keep = np.zeros(len(runs.k), bool)
    for k in np.unique(runs.k):
        filled = np.pad(fill_slice(tissue[k]), [(0, 0), (1, 1)])
        here = np.flatnonzero(runs.k == k)
        before, behind = (filled[runs.m[here], at[here]] for at in (runs.start, runs.end + 1))
        keep[here] = ~before & ~behind
    return Runs(*(values[keep] for values in runs))


@dataclass(frozen=True, kw_only=True)
class Slab:
    """One block or board: in each of its slices, from where to where it goes, and its density."""

    k: Ints
    start: Ints
    end: Ints
    density_hu: float
    seeds: Bool
    """(slices, m): columns with both faces free."""


def _slab(seeds: Runs, hu: Numbers, scene: DenseSlices) -> Slab | None:
    """The slab with these free columns, if it is one: as long and flat as it must be, one density, no bone."""
    slices, numbers = np.unique(seeds.k, return_inverse=True)
    least = FACE_MM / scene.pixel_mm
    enough = np.bincount(numbers, minlength=len(slices)) >= least
    if np.count_nonzero(enough) * scene.slice_mm < LONG_MM:
        return None
    inside = [_within(hu, seeds, share) for share in (0.2, 0.35, 0.5, 0.65, 0.8)]
    if not is_one_density(np.concatenate(inside)):
        return None
    layers = [float(np.mean(np.clip(values, -300, 2 * BONE_ABOVE_HU))) for values in inside]
    if max(layers) - min(layers) > LAYERS_HU:
        return None
    columns = np.zeros((len(slices), hu.shape[1]), bool)
    columns[numbers, seeds.m] = True
    chosen = np.flatnonzero(enough)
    start, end = (
        np.array([round(float(np.median(face[numbers == n]))) for n in chosen], np.int64)
        for face in (seeds.start, seeds.end)
    )
    return Slab(
        k=slices[chosen],
        start=start,
        end=end,
        density_hu=float(np.median(np.concatenate(inside))),
        seeds=columns[chosen],
    )


def _within(hu: Numbers, runs: Runs, share: float) -> Numbers:
    """HU at a share of the way from face to face."""
    at = runs.start + np.rint(share * (runs.end - 1 - runs.start)).astype(np.int64)
    return hu[runs.k, runs.m, at]


def _follow(mask: Bool, tissue: Bool, hu: Numbers, runs: Runs, slab: Slab, scene: DenseSlices) -> None:
    """Marks the slab in `mask`, also where the patient lies against one of its faces."""
    gap, dent = round(CONTACT_GAP_MM / scene.pixel_mm), max(1, round(DENT_MM / scene.pixel_mm))
    for k, start, end, seeds in zip(slab.k, slab.start, slab.end, slab.seeds, strict=True):
        here = runs.k == k
        m, first, last = (values[here] for values in (runs.m, runs.start, runs.end))
        # Where the patient presses on it, a slit of air under the skin may be left: its face lies deeper there.
        whole = (first <= start + dent) & (last >= end - dent)
        ends = [whole & (np.abs(first - start) <= 1), whole & (np.abs(last - end) <= 1)]
        free_before, free_behind = (_at(m[level], tissue.shape[1]) for level in ends)
        free = free_before | free_behind
        core = hu[k, :, min(start + 2, end - 2) : max(end - 2, start + 2) + 1]
        alike = np.mean(np.abs(core - slab.density_hu) < ALIKE_HU, axis=1) >= ALIKE_SHARE
        spans, _ = ndimage.label(_closed((free & alike) | seeds, gap))
        kept = np.isin(spans, np.unique(spans[seeds])) & (spans > 0)
        taken = np.repeat(kept[:, None], end - start, axis=1)
        # Where the patient lies against a face, a pixel of doubt is the patient's.
        taken[:, 0] &= free_before
        taken[:, -1] &= free_behind
        mask[k, :, start:end] |= taken & tissue[k, :, start:end]


def _at(places: Ints, n: int) -> Bool:
    line = np.zeros(n, bool)
    line[places] = True
    return line


def _closed(line: Bool, gap: int) -> Bool:
    """The line with gaps up to so many pixels filled."""
    return np.asarray(
        ndimage.binary_closing(np.pad(line, gap + 1), np.ones(gap + 1, bool))[gap + 1 : -gap - 1], bool
    )
