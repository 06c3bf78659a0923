"""Finds bolus: a sheet of one density that lies on the skin without a gap.

On one slice nothing tells it from the patient. Along the body it begins and ends within a slice: the surface rises by
the sheet's thickness over many columns at once, and falls by as much where the sheet ends. What a patient's surface
has, folds, noses, breasts, rises and falls over several slices, by other amounts, or is fat under skin.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from contour_ai.preprocess.slabs import FAT_HU, DenseSlices, is_one_density

Bool = NDArray[np.bool_]
Ints = NDArray[np.int64]
Numbers = NDArray[Any]

SHEET_THICK_MM = (4.0, 20.0)
"""Of a sheet, along a row or column: where the skin is steep, more than across it."""
FEWEST_PIXELS = 2
"""And so many pixels: a surface has steps of one everywhere."""
LONG_MM = 30.0
"""Along the body, at least."""
WIDE_MM = 40.0
"""So many columns rise together, at least."""
STEPS_ALIKE_MM = 4.0
"""The surface rises at one end of a column by what it falls at the other, give or take this."""
JUDGED_SHARE = 0.75
"""The density is that of so much of the sheet, from its face on."""
DENSE_SHARE = 0.85
"""And so much of that is not lighter than fat."""
SPREAD_HU = 70.0
"""Between the quartiles of a sheet: a thin slice's noise. Of skin and what is under it, it is more."""
HIDDEN_GAP_MM = 8.0
"""Between columns that rise, so much may lie that does not: noise."""


def sheet_mask(scene: DenseSlices) -> Bool | None:
    """(k, i, j) what belongs to sheets that lie on the patient's front, back or sides; None for nothing."""
    found: Bool | None = None
    for turned in (False, True):
        axes = (0, 2, 1) if turned else (0, 1, 2)
        for way in (1, -1):
            tissue = scene.tissue.transpose(axes)[:, ::way]
            mask = _sheets_on_top(tissue, scene.hu.transpose(axes)[:, ::way], scene)
            if mask is not None:
                mask = mask[:, ::way].transpose(axes)
                found = mask if found is None else found | mask
    return found


def _sheets_on_top(tissue: Bool, hu: Numbers, scene: DenseSlices) -> Bool | None:
    """(k, m, n) what belongs to sheets whose free face looks to the start of the axis m."""
    held: Bool = np.logical_or.reduce(tissue, axis=1)
    top = np.where(held, tissue.argmax(axis=1), -1)
    both = held[1:] & held[:-1]
    rise = np.where(both, top[:-1] - top[1:], 0)  # of the surface, from each slice to the next
    rise = rise - _usual(rise)
    low, high = (max(FEWEST_PIXELS, round(mm / scene.pixel_mm)) for mm in SHEET_THICK_MM)
    begins, ends = ((way * rise >= low) & (way * rise <= high) for way in (1, -1))
    least = WIDE_MM / scene.pixel_mm
    first, last = (np.flatnonzero(np.count_nonzero(edge, axis=1) >= least) for edge in (begins, ends))
    mask = np.zeros_like(tissue)
    for start in first:
        for end in last[(last - start) * scene.slice_mm >= LONG_MM]:
            columns = _columns(rise, begins[start] & ends[end], int(start), int(end), scene)
            if columns is None:
                continue
            depth = np.minimum(rise[start], -rise[end])
            _mark(mask, tissue, hu, top, slice(int(start) + 1, int(end) + 1), columns, depth)
            break  # the next fall is the end of this sheet
    return mask if mask.any() else None


def _usual(rise: Ints) -> Ints:
    """What the surface rises from each slice to the next where nothing begins: the mean of before and behind."""
    padded = np.concatenate([rise[:1], rise, rise[-1:]])
    return np.asarray(np.rint((padded[:-2] + padded[2:]) / 2), np.int64)


def _columns(rise: Ints, both: Bool, start: int, end: int, scene: DenseSlices) -> Bool | None:
    """The columns that rise and fall by the same amount; None where they are too few."""
    alike = both & (np.abs(rise[start] + rise[end]) <= STEPS_ALIKE_MM / scene.pixel_mm)
    if np.count_nonzero(alike) * scene.pixel_mm < WIDE_MM:
        return None
    gap = round(HIDDEN_GAP_MM / scene.pixel_mm)
    labels, _ = ndimage.label(ndimage.binary_dilation(alike, iterations=max(1, gap // 2)))
    widths = np.bincount(labels[alike], minlength=labels.max() + 1)
    widths[0] = 0
    if widths.max() * scene.pixel_mm < WIDE_MM:
        return None
    return np.asarray(alike & (widths[labels] * scene.pixel_mm >= WIDE_MM), bool)


def _mark(mask: Bool, tissue: Bool, hu: Numbers, top: Ints, kk: slice, columns: Bool, depth: Ints) -> None:
    """Marks the outermost `depth` pixels of these columns in the slices `kk`, if they are of one density."""
    rows, face = np.arange(tissue.shape[1])[:, None], top[kk][:, None]
    # From the face on: where the sheet bridges a hollow, air ends it.
    solid = np.logical_and.accumulate(tissue[kk] | (rows < face), axis=1)
    layer = solid & columns & (rows >= face) & (rows < face + depth)
    # Half of the outermost pixel is air, and some of the innermost are skin.
    inner = layer & (rows > face) & (rows < face + JUDGED_SHARE * depth)
    values = hu[kk][inner]
    dense = values[values > FAT_HU[0]]  # on steep flanks, pixels behind the face are part air, too
    if len(dense) >= DENSE_SHARE * len(values) and _is_sheet_density(dense):
        mask[kk] |= layer


def _is_sheet_density(values: Numbers) -> bool:
    """Whether these HU are those of one material denser than fat; skin over fat is neither."""
    if not is_one_density(values):
        return False
    low, high = np.percentile(values, (25, 75))
    return bool(low > FAT_HU[1] and high - low < SPREAD_HU)
