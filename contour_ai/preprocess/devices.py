"""Finds solid devices beside and under a patient: blocks of head-rests, boards, supports, rods.

They are as dense as the patient (40 to 120 HU), as thick as an arm, and often touch the skin, so that neither a
threshold nor an opening takes them away. What tells them apart is looked for over many slices, because one slice of a
neck is as plain as a block: a device has one density, no bone inside and, most of them, two flat parallel faces; a limb
has bone, and fat under its skin. Where both would do, the part stays: a board too much is seen and harmless, lost skin
is neither.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from contour_ai.holes import fill_slices
from contour_ai.preprocess.sheets import sheet_mask
from contour_ai.preprocess.slabs import BONE_ABOVE_HU, DenseSlices, is_one_density, slab_mask

Bool = NDArray[np.bool_]
Numbers = NDArray[Any]

SEARCHED_EVERY_MM = 5.0
"""Devices are looked for in slices about so far apart."""
HELD_SHARE = 0.8
"""Of the pixels of devices in the nearest slices that were looked at, so many are dense in a slice that has them."""
PART_PIXEL_MM = 4.0
PART_RADIUS_MM = 8.0
"""Parts that hang together by less than twice this within a slice are judged apart."""
PART_CM3 = 1.0
"""A part whose core within that radius is smaller is left to the opening."""
SAME_SECTION = 0.85
"""Overlap (intersection over union) of a device's cross-sections about 5 mm apart; folds and genitals have less."""
BLOCK_SHARE = 0.88
"""A part as soft as tissue is a device only if it fills so much of its bounding box. A disk fills 0.79, and so do
genitals, which have neither bone nor fat."""
LIMB_CM3 = 20.0
LIMB_BONE_SHARE = (0.01, 0.6)
LIMB_SOFT_HU = (-140.0, 120.0)
LIMB_ENCLOSED = 0.6
"""A small separate part is a hand, a foot or a child's arm if so much of its bone has soft tissue all around."""


def device_mask(
    tissue: Bool, hu: Numbers, factors: list[int], pixel_mm: float, slice_mm: float
) -> Bool | None:
    """(k, i, j) mask of devices within `tissue`, on its grid; None where there is none.

    Args:
        tissue: (k, i, j), patient-axial slices, what is dense in pixels of `pixel_mm`; the couch is gone.
        hu: (k, i, j), the CT; `factors` of its rows and columns make a pixel of `tissue`.
    """
    step = max(1, round(SEARCHED_EVERY_MM / slice_mm))
    sampled = sampled_hu(hu, factors)[::step]
    looked_at = tissue[::step, : sampled.shape[1], : sampled.shape[2]]
    seen: Bool = np.logical_or.reduce(looked_at, axis=0)
    if not seen.any():
        return None
    box = [_extent(np.logical_or.reduce(seen, axis=axis)) for axis in (1, 0)]
    scene = DenseSlices(
        tissue=looked_at[:, box[0], box[1]],
        hu=sampled[:, box[0], box[1]],
        pixel_mm=pixel_mm,
        slice_mm=slice_mm * step,
    )
    found = slab_mask(scene)
    rest = scene.tissue if found is None else scene.tissue & ~found
    for more in (sheet_mask(scene), device_parts(scene, rest)):
        if more is not None:
            found = more if found is None else found | more
    if found is None:
        return None
    result = np.zeros_like(tissue)
    inside, within = result[:, box[0], box[1]], tissue[:, box[0], box[1]]
    for k in range(len(tissue)):
        for n in {k // step, min(-(-k // step), len(found) - 1)}:
            # A slice between two that were looked at: the devices of each, if they are there as well.
            held = found[n] & within[k]
            if np.count_nonzero(held) >= HELD_SHARE * np.count_nonzero(found[n]):
                inside[k] |= held
    return result


def _extent(line: Bool) -> slice:
    """From the first to the last that is true."""
    at = np.flatnonzero(line)
    return slice(int(at[0]), int(at[-1]) + 1)


def sampled_hu(hu: Numbers, factors: list[int]) -> Numbers:
    """The values in the middle of pixels of so many rows and columns; a view, without what is left over at the end."""
    return hu[:, factors[0] // 2 :: factors[0], factors[1] // 2 :: factors[1]]


# -- parts that hang together by a thin contact, or by none ---------------------------------------------------


def device_parts(scene: DenseSlices, tissue: Bool) -> Bool | None:
    """(k, i, j) parts of `tissue` with one density and no bone; the largest part without them is the patient."""
    factor = max(1, round(PART_PIXEL_MM / scene.pixel_mm))
    coarse = tissue[:, factor // 2 :: factor, factor // 2 :: factor]
    pixel_mm = scene.pixel_mm * factor
    # Filled, because a lung or a gas-filled stomach divides the patient's own wall into parts.
    cores = _eroded(fill_slices(coarse), round(PART_RADIUS_MM / pixel_mm))
    labels, count = ndimage.label(cores)
    if count < 2:
        return None
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    least = PART_CM3 * 1000 / (pixel_mm**2 * scene.slice_mm)
    large = [n for n in range(1, count + 1) if sizes[n] >= least]
    boxes = ndimage.find_objects(labels)
    hu = scene.hu[:, factor // 2 :: factor, factor // 2 :: factor]
    device = np.zeros(count + 1, bool)
    for label in large:
        box = boxes[label - 1]
        part = labels[box] == label
        if is_one_density(hu[box][part]) and _section_stays(part):
            # Without the core's rim an arm that the field of view has cut is muscle alone, and a finger bone alone.
            wider = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box[1:])
            wide = (box[0], *wider)
            part = _dilated(labels[wide] == label) & coarse[wide]
            values = hu[wide][part]
            hard = values.size > 0 and float(np.median(values)) > BONE_ABOVE_HU
            device[label] = is_one_density(values) and (hard or _is_straight(labels == label, coarse, box))
    if device[large].all():  # nothing here looks like a patient: a phantom, say
        device[sizes[1:].argmax() + 1] = False
    if not device.any():
        return None
    return _grown(labels, device, coarse, tissue, factor)


def _section_stays(part: Bool) -> bool:
    """Whether a part (k, i, j) has about the same cross-section from slice to slice, as rigid things do."""
    both = np.count_nonzero(part[1:] & part[:-1], axis=(1, 2))
    either = np.count_nonzero(part[1:] | part[:-1], axis=(1, 2))
    return len(both) > 0 and float(np.median(both / np.maximum(either, 1))) >= SAME_SECTION


def _is_straight(core: Bool, coarse: Bool, box: tuple[slice, ...]) -> bool:
    """Whether the cross-sections of a part have the straight edges of a block; `core` (k, i, j) lies in `box`."""
    steps = round(PART_RADIUS_MM / PART_PIXEL_MM)
    wide = (box[0], *(slice(max(s.start - steps, 0), s.stop + steps) for s in box[1:]))
    part = core[wide]
    for _ in range(steps):
        part = _dilated(part) & coarse[wide]
    rows, columns = part.any(axis=2).sum(axis=1), part.any(axis=1).sum(axis=1)
    seen = rows > 0
    share = np.count_nonzero(part, axis=(1, 2))[seen] / (rows * columns)[seen]
    return float(np.median(share)) >= BLOCK_SHARE


def is_limb(part: Bool, hu: Numbers, voxel_cm3: float) -> bool:
    """Whether a part (k, i, j) is a limb, of a child or at its end: bone with soft tissue all around it."""
    part = part[:, : hu.shape[1], : hu.shape[2]]  # pixels that are left over at the end have no sample
    if np.count_nonzero(part) * voxel_cm3 < LIMB_CM3:
        return False
    bone = part & (hu > BONE_ABOVE_HU)
    soft = hu[part & ~bone]
    share = np.count_nonzero(bone) / np.count_nonzero(part)
    if soft.size == 0 or not LIMB_BONE_SHARE[0] <= share <= LIMB_BONE_SHARE[1]:
        return False
    if not LIMB_SOFT_HU[0] <= float(np.median(soft)) <= LIMB_SOFT_HU[1]:
        return False
    deep = bone & _eroded(np.pad(part, [(0, 0), (1, 1), (1, 1)]), 1, outside=0)[:, 1:-1, 1:-1]
    return bool(np.count_nonzero(deep) >= LIMB_ENCLOSED * np.count_nonzero(bone))


def _grown(labels: NDArray[np.int32], device: Bool, coarse: Bool, tissue: Bool, factor: int) -> Bool:
    """The devices' cores with what is around them, which the patient's parts take first."""
    mine, theirs = device[labels], (labels > 0) & ~device[labels]
    for _ in range(round(2 * PART_RADIUS_MM / PART_PIXEL_MM)):
        theirs |= _dilated(theirs) & coarse & ~mine
        mine |= _dilated(mine) & coarse & ~theirs
    fine = mine.repeat(factor, axis=1).repeat(factor, axis=2)
    result = np.zeros_like(tissue)
    rows, columns = (min(a, b) for a, b in zip(fine.shape[1:], tissue.shape[1:], strict=True))
    result[:, :rows, :columns] = fine[:, :rows, :columns]
    return result & tissue


def _eroded(mask: Bool, steps: int, outside: int = 1) -> Bool:
    disk = np.ones((1, 3, 3), bool)
    return np.asarray(ndimage.binary_erosion(mask, disk, steps, border_value=outside), bool)


def _dilated(mask: Bool) -> Bool:
    return np.asarray(ndimage.binary_dilation(mask, np.ones((1, 3, 3), bool)), bool)
