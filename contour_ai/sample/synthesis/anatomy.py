"""What the drawing needs of a label map, found once: tissues, rectum, femoral heads, a continuation below the map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from contour_ai.box import bounding_box, with_margin
from contour_ai.errors import InputError
from contour_ai.sample.synthesis.label_maps import LabelMap
from contour_ai.sample.synthesis.tissues import Tissue, tissue_of

Codes = NDArray[np.uint8]
Bool = NDArray[np.bool_]
Float = NDArray[np.float64]

HEAD_RADIUS_MM = 28.0
"""A femoral head is the femur within this distance of the head's centre."""
JOINT_MM = 4.5
"""Points of the femur's surface so near the hip bone lie in the joint."""
HEAD_FIT_MM = (16.0, 34.0)
"""Radii that a sphere fitted to the joint may have."""

RECTUM_LONGEST_MM = 130.0
RECTUM_AREA_JUMP = 1.35
"""Where the section of the bowel grows by this factor from one slice to the next, the sigmoid has joined it, ..."""
RECTUM_LEAST_JUMP_MM2 = 150.0
"""... if it grows by at least so much."""
RECTUM_LEAST_MM = 30.0

BELOW_MM = 90.0
"""The map is continued so far below its end."""
TAPER = {
    Tissue.PROSTATE: 0.9,
    Tissue.RECTUM: 0.4,
    Tissue.BLADDER: 1.0,
    Tissue.HIP_LEFT: 0.45,
    Tissue.HIP_RIGHT: 0.45,
    Tissue.FEMUR_LEFT: 0.03,
    Tissue.FEMUR_RIGHT: 0.03,
    Tissue.GLUTEUS: 0.12,
}
"""How much (mm a mm) the lowest section of a structure shrinks below the map; others shrink by `TAPER_OTHERS`."""
TAPER_OTHERS = 0.25
FLAT_MM = 12.0
"""The taper of an organ begins slowly, as the end of a sphere does."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Anatomy:
    """A label map ready to be drawn; k runs to the head, i to the back, j to the left."""

    name: str
    codes: Codes
    """(k, i, j) values of `Tissue`."""
    spacing_mm: Float
    """(3,) along k, i, j."""
    heads_mm: tuple[Float, Float]
    """Centres of the left and right femoral heads, (3,) mm from the centre of voxel 0."""
    hips_end_mm: float
    """Height of the lowest point of the hip bones."""
    above_heads_mm: float
    """How much of the map lies above the femoral heads."""
    missing: frozenset[Tissue]
    """Tissues that the map labels nowhere."""

    @property
    def centre_mm(self) -> Float:
        """Midway between the femoral heads."""
        centre: Float = (self.heads_mm[0] + self.heads_mm[1]) / 2
        return centre


def anatomy_of(label_map: LabelMap) -> Anatomy:
    """The anatomy of a label map.

    Raises:
        InputError: it has no femora and hip bones, or no sphere fits their joints.
    """
    table = np.zeros(256, np.uint8)
    for n, name in enumerate(label_map.names, start=1):
        table[n] = tissue_of(name) or Tissue.NONE
    codes = table[label_map.labels]
    spacing = np.array(label_map.spacing_mm_kij)
    absent = [t.name for t in (Tissue.FEMUR_LEFT, Tissue.FEMUR_RIGHT, Tissue.HIP_LEFT, Tissue.HIP_RIGHT)
              if not (codes == t).any()]  # fmt: skip
    if absent:
        raise InputError(
            "A label map of a pelvis needs both femora and hip bones.",
            where=label_map.name,
            found="without " + ", ".join(absent).lower(),
            expected="structures named as TotalSegmentator does: femur_left, hip_left, …",
        )
    codes[rectum_of(codes == Tissue.COLON, label_map.spacing_mm_kij)] = Tissue.RECTUM
    codes = _continued_below(codes, spacing)
    heads = [
        head_centre_mm(codes == femur, codes == hip, spacing, label_map.name)
        for femur, hip in ((Tissue.FEMUR_LEFT, Tissue.HIP_LEFT), (Tissue.FEMUR_RIGHT, Tissue.HIP_RIGHT))
    ]
    hips = ((codes == Tissue.HIP_LEFT) | (codes == Tissue.HIP_RIGHT)).any(axis=(1, 2))
    there = np.bincount(codes.ravel(), minlength=256)
    return Anatomy(
        missing=frozenset(tissue for tissue in Tissue if not there[tissue]),
        name=label_map.name,
        codes=codes,
        spacing_mm=spacing,
        heads_mm=(heads[0], heads[1]),
        hips_end_mm=float(np.flatnonzero(hips)[0] * spacing[0]),
        above_heads_mm=float((codes.shape[0] - 1) * spacing[0] - (heads[0][0] + heads[1][0]) / 2),
    )


def rectum_of(colon: Bool, spacing_mm: tuple[float, float, float]) -> Bool:
    """The rectum: the colon's lower end, from its lowest slice up to where the sigmoid joins it.

    The section is followed upwards from the lowest slice, each time in the part that touches the one below. It ends
    before a slice whose section is larger by `RECTUM_AREA_JUMP`, once it is `RECTUM_LEAST_MM` long, and at
    `RECTUM_LONGEST_MM` at the latest.
    """
    rectum = np.zeros_like(colon)
    ks = np.flatnonzero(colon.any(axis=(1, 2)))
    if not ks.size:
        return rectum
    pixel_mm2 = spacing_mm[1] * spacing_mm[2]
    last = colon[ks[0]]
    for k in range(ks[0], min(ks[0] + int(RECTUM_LONGEST_MM / spacing_mm[0]), colon.shape[0])):
        parts, _ = ndimage.label(colon[k])
        touched = np.unique(parts[last & (parts > 0)])
        section = np.isin(parts, touched[touched > 0])
        before, now = np.count_nonzero(last) * pixel_mm2, np.count_nonzero(section) * pixel_mm2
        long_enough = (k - ks[0]) * spacing_mm[0] >= RECTUM_LEAST_MM
        joined = now > RECTUM_AREA_JUMP * before and now - before > RECTUM_LEAST_JUMP_MM2
        if not now or (long_enough and joined):
            break
        rectum[k] = last = section
    return rectum


def head_centre_mm(femur: Bool, hip: Bool, spacing_mm: Float, where: str = "") -> Float:
    """(3,) centre of the femoral head in mm: a sphere fitted to the femur's surface in the joint, by least squares.

    Raises:
        InputError: there is no femur, it does not meet the hip bone, or the sphere is too large or small for a head.
    """
    near = femur & ~ndimage.binary_erosion(femur)
    surface = bounding_box(near)
    if surface is None:
        raise InputError("The label map has no femur.", where=where)
    box = with_margin(surface, (6, 6, 6), near.shape)
    away = ndimage.distance_transform_edt(~hip[box], sampling=spacing_mm)
    points = (np.argwhere(near[box] & (away < JOINT_MM)) + [s.start for s in box]) * spacing_mm
    if len(points) < 30:
        raise InputError("The femur does not meet the hip bone.", where=where, found=f"{len(points)} voxels")
    system = np.c_[2 * points, np.ones(len(points))]
    solution = np.linalg.lstsq(system, (points**2).sum(axis=1), rcond=None)[0]
    centre: Float = solution[:3]
    radius = float(np.sqrt(solution[3] + centre @ centre))
    if not HEAD_FIT_MM[0] <= radius <= HEAD_FIT_MM[1]:
        raise InputError("No femoral head fits into the joint.", where=where, found=f"radius {radius:.0f} mm")
    return centre


def _continued_below(codes: Codes, spacing_mm: Float) -> Codes:
    """The map with slices added below: each structure's lowest section goes on and shrinks."""
    added = int(BELOW_MM / spacing_mm[0])
    lowest = codes[0]
    below = np.zeros((added, *lowest.shape), np.uint8)
    depth = (added - np.arange(added)) * spacing_mm[0]
    for value in np.unique(lowest[lowest > 0]):
        inside = lowest == value
        sampling = spacing_mm[1:]
        level = ndimage.distance_transform_edt(inside, sampling=sampling)
        level -= ndimage.distance_transform_edt(~inside, sampling=sampling)
        rate = TAPER.get(Tissue(value), TAPER_OTHERS)
        shrunk = rate * (np.hypot(depth, FLAT_MM) - FLAT_MM if rate > 0.35 else depth)
        below[(level[None] > shrunk[:, None, None]) & (below == 0)] = value
    return np.concatenate([below, codes])
