"""Contours with known faults, made from good ones: what verdicts are fitted and tested on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from contour_ai.quality.figures import Triple
from contour_ai.structures import flip_pairs

Bool = NDArray[np.bool_]

SHIFTS_MM = (5.0, 10.0, 20.0)
DIRECTIONS = ("below", "above", "front", "behind", "right", "left")
"""Along the axes superior, posterior, left of the model's grid, the negative side of each first."""
GROWN_MM = (-4.0, -2.0, 2.0, 4.0)
CUT_SHARE = 1 / 3
"""Of the slices, or of the width."""
HOLED_SHARE, BLOBS_SHARE = 0.35, 0.06
"""Of the voxels inside that become holes, and of those around that become specks."""
AROUND_VOXELS = 4


@dataclass(frozen=True, eq=False)
class Spoiled:
    """A contour with a fault.

    Args:
        kind: what was done, as "shifted 10 mm".
        detail: how, as "left"; "" where there is one way only.
        mask: (k, i, j), not empty.
    """

    kind: str
    detail: str
    mask: Bool


def spoil(
    name: str,
    contours: Mapping[str, Bool],
    spacing_mm: Triple,
    rng: np.random.Generator,
    others: Mapping[str, Bool] | None = None,
) -> Iterator[Spoiled]:
    """The contour of ROI `name` with one fault after the other; faults that leave nothing are left out.

    Args:
        contours: those of the patient, masks (k, i, j) with axes superior, posterior, left.
        others: those of another patient, on a grid of its own; they are laid on this one by the middle.
    """
    for found in _faults(name, contours, spacing_mm, rng, others or {}):
        if found.mask.any() and not np.array_equal(found.mask, contours[name]):
            yield found


def _faults(
    name: str,
    contours: Mapping[str, Bool],
    spacing_mm: Triple,
    rng: np.random.Generator,
    others: Mapping[str, Bool],
) -> Iterator[Spoiled]:
    mask = contours[name]
    for distance in SHIFTS_MM:
        for n, direction in enumerate(DIRECTIONS):
            step = distance * (1 if n % 2 else -1)
            yield Spoiled(f"shifted {distance:.0f} mm", direction, shifted(mask, n // 2, step, spacing_mm))
    yield from _cuts(mask)
    for distance in GROWN_MM:
        kind = f"{'grown' if distance > 0 else 'shrunk'} by {abs(distance):.0f} mm"
        yield Spoiled(kind, "", grown(mask, distance, spacing_mm))
    yield from _specks(mask, rng)
    for other in _taken_for(name, contours):
        yield Spoiled("another organ", other, contours[other])
    if name in others:
        yield Spoiled("another patient's", "", laid_on(others[name], mask.shape))


def shifted(mask: Bool, axis: int, distance_mm: float, spacing_mm: Triple) -> Bool:
    """Moved along an axis by the nearest whole number of voxels, at least one; what leaves the grid is lost."""
    step = round(distance_mm / spacing_mm[axis]) or (1 if distance_mm > 0 else -1)
    moved = np.zeros_like(mask)
    source, target = [slice(None)] * 3, [slice(None)] * 3
    count = mask.shape[axis]
    source[axis] = slice(max(0, -step), max(0, count - max(0, step)))
    target[axis] = slice(max(0, step), max(0, count - max(0, -step)))
    moved[tuple(target)] = mask[tuple(source)]
    return moved


def laid_on(mask: Bool, shape: tuple[int, ...]) -> Bool:
    """A mask on a grid of `shape`, middle on middle; what lies beyond is lost."""
    laid = np.zeros(shape, bool)
    here, there = [], []
    for mine, theirs in zip(shape, mask.shape, strict=True):
        start = (mine - theirs) // 2
        here.append(slice(max(0, start), max(0, min(mine, start + theirs))))
        there.append(slice(max(0, -start), max(0, min(theirs, mine - start))))
    laid[tuple(here)] = mask[tuple(there)]
    return laid


def grown(mask: Bool, distance_mm: float, spacing_mm: Triple) -> Bool:
    """Grown, or shrunk where negative, by a distance in the slice."""
    sampling = spacing_mm[1:]
    moved = np.zeros_like(mask)
    for k in np.flatnonzero(mask.any(axis=(1, 2))):
        outside = ndimage.distance_transform_edt(~mask[k], sampling=sampling)
        inside = ndimage.distance_transform_edt(mask[k], sampling=sampling)
        half = min(sampling) / 2  # the surface runs between the centres
        level = np.where(mask[k], half - inside, outside - half)
        moved[k] = level <= distance_mm
    return moved


def _cuts(mask: Bool) -> Iterator[Spoiled]:
    ks = np.flatnonzero(mask.any(axis=(1, 2)))
    if ks.size >= 3:
        count = max(1, round(ks.size * CUT_SHARE))
        for detail, rows in (("above", ks[-count:]), ("below", ks[:count])):
            left = mask.copy()
            left[rows] = False
            yield Spoiled("cut by a third", detail, left)
        left = mask.copy()
        left[ks[ks.size // 2]] = False
        yield Spoiled("a slice missing", "", left)
    for axis, details in ((1, ("front", "behind")), (2, ("right", "left"))):
        held = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        if held.size < 3:
            continue
        count = max(1, round(held.size * CUT_SHARE))
        for detail, gone in zip(details, (held[:count], held[-count:]), strict=True):
            left = mask.copy()
            left[(slice(None),) * axis + (gone,)] = False
            yield Spoiled("cut by a third", detail, left)


def _specks(mask: Bool, rng: np.random.Generator) -> Iterator[Spoiled]:
    yield Spoiled("speckled", "holes", mask & (rng.random(mask.shape) > HOLED_SHARE))
    held = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    if all(h.size for h in held):
        box = tuple(slice(max(0, h[0] - AROUND_VOXELS), h[-1] + 1 + AROUND_VOXELS) for h in held)
        more = mask.copy()
        more[box] |= rng.random(more[box].shape) < BLOBS_SHARE
        yield Spoiled("speckled", "blobs", more)


def _taken_for(name: str, contours: Mapping[str, Bool]) -> Iterator[str]:
    """The partner on the other side first, then the others of the patient."""
    names = list(contours)
    partners = [
        names[b] for a, b in (*flip_pairs(names), *(p[::-1] for p in flip_pairs(names))) if names[a] == name
    ]
    yield from dict.fromkeys([*partners, *(n for n in names if n != name)])
