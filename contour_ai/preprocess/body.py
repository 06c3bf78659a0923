"""Finds the patient in a CT: couch, mask and head-rest removed, inner air filled."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from contour_ai.box import bounding_box, with_margin
from contour_ai.cores import available_cores
from contour_ai.holes import fill_slice
from contour_ai.preprocess.axes import patient_order
from contour_ai.preprocess.devices import LIMB_CM3, device_mask, is_limb, sampled_hu
from contour_ai.volume import Volume

Bool = NDArray[np.bool_]

BODY_PIXEL_MM = 2.0
"""The body is looked for in pixels of at least half this and up to this size: fine enough for its shape."""
OPENING_MM = 4.0
"""Sheets up to twice as thick are cut off the body: couch tops, masks and head-rests are 2 to 6 mm thick."""
ARM_RADIUS_MM = 15.0
"""A separate part is an arm or leg, not a couch, when a disk of this radius fits into it somewhere."""
ARM_SHARE = 0.01
"""A separate part has at least this share of the volume of the largest part."""
COUCH_SHARE = 0.6
"""What lies under or around the patient is at the same place in at least this share of the slices, ..."""
COUCH_LONG_MM = 180.0
"""... is at least so long within the slice, ..."""
COUCH_RADIUS_MM = 20.0
"""... and holds no disk of this radius; so a couch is found that is too thick for the opening, as solid boards are."""
COUCH_HELD = 0.5
"""Of the couch's pixels, so many are dense in every slice that it goes through."""
SPECK_MM2 = 30.0
"""Smaller parts of the body within a slice are noise or bits of the couch."""
PADDING_HU = (-960.0, -500.0)
"""Foam, and the beads of a vacuum bag."""
PADDING_AWAY_MM = 4.0
PADDING_SHARE = 0.05
"""A slice has padding where it is so much of the ring around the patient; noise of the air is less."""
SKIN_HU = -150.0
"""Of the body's surface beside padding, what is lighter than this is the film of a bag or the cover of a foam,"""
COVER_MM = 2.0
"""up to this thickness,"""
COVERED_SHARE = 0.6
"""where so much of it is,"""
FILM_SPREAD_HU = 50.0
"""and of one density: half of a film lies within this, pixels that are half air within three times as much."""
SHELL_MM = 4.0
"""Of a mask that is stretched over the skin with a little air in between, what is thinner than this is taken away"""
SHELL_LONG_MM = 60.0
"""where it is so long within a slice,"""
GAP_PIXEL_MM = 1.5
"""and where pixels are small enough to show the air."""
VOID_HU = -1010
VOID_SHARE = 0.95
"""An image was cut out of its background before if nearly all of what is air (below `AIR_BELOW_HU`) has one value, and
one lower than real air, whose values scatter around -1000."""
AIR_BELOW_HU = -900

BODY_THREADS = 8
"""Slices whose body is found at the same time."""


def body_mask(volume: Volume, threshold_hu: float = -300.0) -> Bool:
    """(k, i, j) mask of the patient on the CT's grid: couch, mask and head-rest removed, inner air filled.

    Tissue above the threshold is opened by a disk of `OPENING_MM` in each patient-axial slice, which cuts off
    sheets; the largest connected part and arm-like others are kept, grown back by the opening within the
    tissue, and holes are filled slice by slice. The shape is found in pixels of about `BODY_PIXEL_MM`, the
    surface at full resolution. Empty where nothing is above the threshold.

    An image that was cut out of its background before (one value below air everywhere outside, and no couch) keeps the
    outline that it was given, all parts of it.
    """
    order, _ = patient_order(volume.grid)
    void = _void_hu(volume.hu)
    if void is not None:
        given = np.transpose(volume.hu, order) > void
        pixel_mm = float(np.sqrt(np.prod([volume.grid.spacing_mm[axis] for axis in order[1:]])))
        if not _couch_parts(given, pixel_mm):
            _fill(given)
            return np.ascontiguousarray(np.transpose(given, np.argsort(order)))
    tissue = np.ascontiguousarray(np.transpose(volume.hu, order) > threshold_hu)
    spacing = [volume.grid.spacing_mm[axis] for axis in order]
    factors = [max(1, round(BODY_PIXEL_MM / spacing[axis])) for axis in (1, 2)]
    coarse = _majority(tissue, factors)
    pixel_mm = float(np.sqrt(spacing[1] * factors[0] * spacing[2] * factors[1]))
    coarse = _without_couch(coarse, pixel_mm)
    hu = np.transpose(volume.hu, order)
    found = device_mask(coarse, hu, factors, pixel_mm, spacing[0])
    if found is not None:
        coarse &= ~found
    core = _patient_core(coarse, sampled_hu(hu, factors), pixel_mm, spacing[0])
    body = np.zeros_like(tissue)
    boxes = ndimage.find_objects(core.astype(np.uint8))
    if boxes:
        near = _dilate(core, 1)
        if found is not None:
            near &= ~found
        least = SPECK_MM2 / (spacing[1] * spacing[2])
        padded = _beside_padding(core, sampled_hu(hu, factors), pixel_mm)
        fine_mm = float(np.sqrt(spacing[1] * spacing[2]))
        steps = max(1, round(COVER_MM / fine_mm))

        def slice_of(k: int) -> None:
            body[k] = _body_slice(tissue[k], near[k], core[k], factors, least, fine_mm)
            if padded is not None and padded[k].any():
                _peel(body[k], hu[k], _at_full_resolution(padded[k], factors, body[k].shape), steps)

        _in_threads(slice_of, range(boxes[0][0].start, boxes[0][0].stop))
    return np.ascontiguousarray(np.transpose(body, np.argsort(order)))


def _void_hu(hu: NDArray[np.generic]) -> float | None:
    """The value outside the patient of an image that was cut out of its background; None for other images."""
    sample = hu[:, ::2, ::2]
    air = sample[np.less(sample, AIR_BELOW_HU)]
    if air.size == 0 or air.min() > VOID_HU:
        return None
    return float(air.min()) if np.count_nonzero(air == air.min()) >= VOID_SHARE * air.size else None


def _majority(tissue: Bool, factors: list[int]) -> Bool:
    """Pixels of `factors` original ones, True where at least half of them are; leftovers at the end join."""
    fi, fj = factors
    if fi == fj == 1:
        return tissue.copy()
    pad = [(0, 0), (0, -tissue.shape[1] % fi), (0, -tissue.shape[2] % fj)]
    padded = np.pad(tissue, pad, mode="edge").view(np.uint8)
    count = np.zeros((padded.shape[0], padded.shape[1] // fi, padded.shape[2] // fj), np.uint8)
    for di, dj in itertools.product(range(fi), range(fj)):
        count += padded[:, di::fi, dj::fj]
    return count >= (fi * fj + 1) // 2


def _patient_core(tissue: Bool, hu: NDArray[np.generic], pixel_mm: float, slice_mm: float) -> Bool:
    """The patient's own parts of `tissue`, filled slice by slice; `hu` is the CT's in its pixels."""
    steps = max(1, round(OPENING_MM / pixel_mm))
    core = np.zeros_like(tissue)
    found = bounding_box(tissue)
    if found is not None:
        box = with_margin(found, (0, steps + 1, steps + 1), tissue.shape)  # of air, which the opening needs
        core[box] = _core_within(tissue[box], hu[box], steps, pixel_mm, slice_mm)
    return core


def _core_within(tissue: Bool, hu: NDArray[np.generic], steps: int, pixel_mm: float, slice_mm: float) -> Bool:
    """`_patient_core` of a box of the scan, opened by so many steps."""
    opened = _dilate(_erode(tissue, steps), steps)
    if not opened.any():
        opened = tissue
    labels, count = ndimage.label(opened)
    if count == 0:
        return np.zeros_like(tissue)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    keep = np.zeros(count + 1, bool)
    keep[sizes.argmax()] = True
    boxes = ndimage.find_objects(labels)
    voxel_cm3 = pixel_mm**2 * slice_mm / 1000
    for label in np.flatnonzero((sizes * voxel_cm3 >= LIMB_CM3) & ~keep):
        part = labels[boxes[label - 1]] == label
        wide = sizes[label] >= ARM_SHARE * sizes.max()
        wide = wide and _erode(np.pad(part, [(0, 0), (1, 1), (1, 1)]), round(ARM_RADIUS_MM / pixel_mm)).any()
        keep[label] = wide or is_limb(part, hu[boxes[label - 1]], voxel_cm3)
    core = _grown_within(keep[labels], tissue, steps + 1)  # what the opening took from nose, ears and fingers
    _fill(core)
    return core


def _without_couch(tissue: Bool, pixel_mm: float) -> Bool:
    """What is left when couch tops and boards are taken away, in the slices that they go through."""
    for box, part in _couch_parts(tissue, pixel_mm):
        there = tissue[:, box[0], box[1]]
        held = np.count_nonzero(there & part, axis=(1, 2)) >= COUCH_HELD * np.count_nonzero(part)
        # Where a board has ended, a head may lie at its place.
        there &= ~(held[:, None, None] & part)
    return tissue


def _couch_parts(tissue: Bool, pixel_mm: float) -> list[tuple[tuple[slice, slice], Bool]]:
    """Boxes (i, j), and the pixels in them, of long flat things that most slices have at the same place.

    Where the patient rests on one through most of the slices, both are one thing and nothing is found.
    """
    labels, _ = ndimage.label(tissue.mean(axis=0) >= COUCH_SHARE)
    couch = []
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        part = labels[box] == label
        if max(part.shape) * pixel_mm < COUCH_LONG_MM:
            continue
        if not _erode(np.pad(part, 1)[None], round(COUCH_RADIUS_MM / pixel_mm)).any():
            couch.append((box, _without_bumps(part, round(COUCH_LONG_MM / pixel_mm))))
    return couch


def _without_bumps(part: Bool, window: int) -> Bool:
    """A couch's pixels (i, j) between its faces, without bumps of up to half `window`: heads that rest on it."""
    if part.shape[0] > part.shape[1]:
        return _without_bumps(part.T, window).T
    rows = np.arange(part.shape[0])
    top = ndimage.median_filter(part.argmax(axis=0), window, mode="nearest")
    bottom = ndimage.median_filter(rows[-1] - part[::-1].argmax(axis=0), window, mode="nearest")
    kept: Bool = part & (rows[:, None] >= top - 1) & (rows[:, None] <= bottom + 1)
    return kept


def _body_slice(
    tissue: Bool, near: Bool, core: Bool, factors: list[int], least: float, pixel_mm: float
) -> Bool:
    """One slice at full resolution: the tissue near the core, without shells and specks, filled."""

    def fine(coarse: Bool) -> Bool:
        return _at_full_resolution(coarse, factors, tissue.shape)

    rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
    body = np.zeros_like(tissue)
    if rows.size == 0:
        return body
    box = np.s_[
        rows[0] * factors[0] : (rows[-1] + 1) * factors[0],
        columns[0] * factors[1] : (columns[-1] + 1) * factors[1],
    ]
    inside = fine(core)[box]
    found = fill_slice(_without_shells(tissue[box] & fine(near)[box], pixel_mm))
    labels, count = ndimage.label(found)
    if count > 1:
        kept = np.bincount(labels[inside], minlength=count + 1) >= least
        kept[0] = False
        found = kept[labels]
    body[box] = found
    return body


def _without_shells(tissue: Bool, pixel_mm: float) -> Bool:
    """A slice (i, j) without thin shells around the patient: a mask, with a gap that coarser pixels do not show.

    Ears, lips and nostrils are as thin, but shorter within a slice.
    """
    if pixel_mm > GAP_PIXEL_MM:
        return tissue
    steps = max(1, round(SHELL_MM / 2 / pixel_mm))
    padded = np.pad(tissue, steps)[None]
    opened = _dilate(_erode(padded, steps), steps) & padded
    opened = _grown_within(opened, padded, steps)  # the patient's own corners
    thin = (padded & ~opened)[0, steps:-steps, steps:-steps]
    labels, _ = ndimage.label(thin, np.ones((3, 3), bool))
    kept = tissue
    for label, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        length = np.hypot(rows.stop - rows.start, columns.stop - columns.start) * pixel_mm
        if length >= SHELL_LONG_MM:
            kept = kept & (labels != label)
    return kept


def _at_full_resolution(coarse: Bool, factors: list[int], shape: tuple[int, ...]) -> Bool:
    return coarse.repeat(factors[0], axis=0).repeat(factors[1], axis=1)[: shape[0], : shape[1]]


def _beside_padding(core: Bool, hu: NDArray[np.generic], pixel_mm: float) -> Bool | None:
    """(k, i, j) where the skin may be covered by the film of a bag or the cover of a foam: near padding; None nowhere.

    Padding is what lies `PADDING_AWAY_MM` from the patient and is lighter than tissue and heavier than air.
    """
    margin = round(PADDING_AWAY_MM / pixel_mm) + 2
    inside = core[:, : hu.shape[1], : hu.shape[2]]  # pixels that are left over at the end have no sample
    if not inside.any():
        return None
    rows, columns = (_span(np.asarray(inside.any(axis=axes)), margin) for axes in ((0, 2), (0, 1)))
    near = _dilate(inside[:, rows, columns], margin - 2)
    ring = _dilate(near, 1) & ~near
    values = hu[:, rows, columns][ring]
    padding = np.zeros_like(near)
    padding[ring] = np.greater(values, PADDING_HU[0]) & np.less(values, PADDING_HU[1])
    enough = np.count_nonzero(padding, axis=(1, 2)) >= PADDING_SHARE * np.count_nonzero(ring, axis=(1, 2))
    padding[~enough] = False
    held = np.flatnonzero(padding.any(axis=(1, 2)))
    if not held.size:
        return None
    result = np.zeros_like(core)
    place = result[:, : hu.shape[1], : hu.shape[2]]
    for k in held:
        place[k, rows, columns] = _dilate(padding[k : k + 1], margin)[0]
    return result


def _span(line: Bool, margin: int) -> slice:
    """From the first to the last that is true, and so many more on either side."""
    held = np.flatnonzero(line)
    return slice(max(0, int(held[0]) - margin), int(held[-1]) + 1 + margin)


def _peel(body: Bool, hu: NDArray[np.generic], where: Bool, steps: int) -> None:
    """Takes what is lighter than skin off a slice's surface, in place, so many pixels deep, where most of it is."""
    light = where & np.less(hu, SKIN_HU)
    surface = where & body & _dilate(~body[None], 1)[0]
    found = hu[surface & light]
    if not found.size or found.size < COVERED_SHARE * np.count_nonzero(surface):
        return  # nothing of the body here, or bare skin, some of whose pixels are half air
    low, middle, high = np.percentile(found, (25, 50, 75))
    if high - low > FILM_SPREAD_HU:
        return
    light &= np.abs(hu - middle) < FILM_SPREAD_HU
    for step in range(steps):
        outside = _dilate(~body[None], 1, start=step)[0]
        body &= ~(outside & light)


def _fill(mask: Bool) -> None:
    """Fills holes, slice by slice, in place."""

    def fill(k: int) -> None:
        mask[k] = fill_slice(mask[k])

    _in_threads(fill, np.flatnonzero(mask.any(axis=(1, 2))).tolist())


def _in_threads(work: Callable[[int], None], slices: Iterable[int]) -> None:
    """Slices are independent, and almost all of the work is outside the interpreter's lock."""
    with ThreadPoolExecutor(min(BODY_THREADS, available_cores())) as pool:
        deque(pool.map(work, slices), maxlen=0)


def _erode(mask: Bool, steps: int) -> Bool:
    """Erosion in each slice by an octagon of radius `steps`; what lies beyond the border counts as inside."""
    for step in range(steps):
        source = mask
        mask = source.copy()
        mask[:, 1:] &= source[:, :-1]
        mask[:, :-1] &= source[:, 1:]
        across = mask.copy() if step % 2 else source
        mask[:, :, 1:] &= across[:, :, :-1]
        mask[:, :, :-1] &= across[:, :, 1:]
    return mask


def _grown_within(mask: Bool, whole: Bool, steps: int) -> Bool:
    """A mask with what of `whole` can be reached from it in so many steps within its slices."""
    for step in range(steps):
        mask = _dilate(mask, 1, start=step) & whole | mask
    return mask


def _dilate(mask: Bool, steps: int, start: int = 0) -> Bool:
    """Dilation in each slice by an octagon of radius `steps`: a cross and a square by turns."""
    for step in range(start, start + steps):
        source = mask
        mask = source.copy()
        mask[:, 1:] |= source[:, :-1]
        mask[:, :-1] |= source[:, 1:]
        across = mask.copy() if step % 2 else source
        mask[:, :, 1:] |= across[:, :, :-1]
        mask[:, :, :-1] |= across[:, :, 1:]
    return mask
