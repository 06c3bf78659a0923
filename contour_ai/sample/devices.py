"""Draws what immobilises a patient: head-rest blocks, boards, supports, vacuum bags, bolus and metal rods.

Axes are superior, posterior and left, as in `contour_ai.sample.variants`. Devices are rigid: the same cross-section in
every slice that they reach, unless they are moulded to the skin or inclined. Nothing is drawn inside the body.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]
Triple = tuple[float, float, float]

DENSE_METAL_HU, POST_HU = 3000, 200
BAG_HU, BAG_SKIN_HU = -880, -200
SHELL_HU = 60

CLOSING = 8
"""A mask or a bag bridges hollows of the skin up to twice so many pixels of `COARSE_MM` wide."""
COARSE_MM = 2.0


@dataclass(frozen=True, kw_only=True)
class Space:
    """The body that devices are placed around, and the image that they are drawn in (in place)."""

    hu: Float32
    body: Bool
    spacing_mm: Triple
    lying: int
    """1 where the couch is on the posterior side, -1 where it is on the anterior one."""
    gap_mm: float
    """Between device and skin where they are closest; negative where the skin is pressed flat against it."""
    device_hu: float

    def slices(self, low: float, high: float) -> slice:
        """The slices between two shares of the scan's length, from the lowest."""
        n = self.body.shape[0]
        return slice(round(low * n), max(round(low * n) + 1, round(high * n)))

    def middle(self, kk: slice) -> tuple[int, int]:
        """(i, j) in the middle of the body's extent in these slices."""
        seen: Bool = np.logical_or.reduce(self.body[kk], axis=0)
        rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
        if not rows.size:
            return self.body.shape[1] // 2, self.body.shape[2] // 2
        return int(rows[0] + rows[-1]) // 2, int(columns[0] + columns[-1]) // 2

    def paint(self, k: int, where: Bool, value: float) -> None:
        """Sets one slice's `where` outside the body."""
        free = where & ~self.body[k]
        self.hu[k][free] = value


def draw_devices(space: Space, names: tuple[str, ...]) -> int | None:
    """Draws devices of these names (keys of `DEVICES`) into `space.hu`; returns their row nearest to the couch."""
    air = space.hu.min()
    for name in names:
        DEVICES[name](space)
    rows = np.flatnonzero(((space.hu > air) & ~space.body).any(axis=(0, 2)))
    if not names or rows.size == 0:
        return None
    return int(rows[-1] if space.lying > 0 else rows[0])


# -- boxes --------------------------------------------------------------------------------------------------


def _beside(
    space: Space, kk: slice, *, width: float, height: float, side: int, row: int | None = None
) -> None:
    """A box whose flat side faces the patient's left (`side` 1) or right (-1), centred on `row`."""
    mm = space.spacing_mm
    row = space.middle(kk)[0] if row is None else row
    half = max(1, round(height / mm[1] / 2))
    rows = slice(max(row - half, 0), row + half)
    columns = np.flatnonzero(space.body[kk, rows].any(axis=(0, 1)))
    if not columns.size:
        return
    edge = columns[-1] if side > 0 else columns[0]
    j = (np.arange(space.body.shape[2]) - edge) * side * mm[2] - mm[2] / 2 - space.gap_mm
    where = np.zeros(space.body.shape[1:], bool)
    where[rows] = (j >= 0) & (j < width)
    for k in range(kk.start, kk.stop):
        space.paint(k, where, space.device_hu)


def _below(space: Space, kk: slice, *, width: float, height: float, degrees: float = 0.0) -> None:
    """A box under the patient, inclined along the body by so many degrees."""
    mm, lying = space.spacing_mm, space.lying
    column = space.middle(kk)[1]
    half = round(width / mm[2] / 2)
    columns = slice(max(column - half, 0), column + half)
    seen = space.body[kk, :, columns].any(axis=2)
    numbers = np.arange(seen.shape[1])
    lowest = np.where(seen, lying * numbers, -np.inf).max(axis=1) * mm[1]  # (slices,), mm towards the couch
    rise = np.tan(np.radians(degrees)) * np.arange(len(lowest)) * mm[0]
    top = np.max(lowest + rise) + mm[1] / 2 + space.gap_mm - rise
    for k, height_mm in zip(range(kk.start, kk.stop), top, strict=True):
        depth = lying * numbers * mm[1] - height_mm
        where = np.zeros(space.body.shape[1:], bool)
        where[(depth >= 0) & (depth < height), columns] = True
        space.paint(k, where, space.device_hu)


def _head_blocks(space: Space) -> None:
    for side in (-1, 1):
        _beside(space, space.slices(0.62, 0.95), width=25, height=80, side=side)


def _neck_rest(space: Space) -> None:
    _below(space, space.slices(0.5, 0.8), width=80, height=25)


def _shoulder_board(space: Space) -> None:
    _below(space, space.slices(0.0, 0.42), width=320, height=18)


def _breast_board(space: Space) -> None:
    _below(space, space.slices(0.0, 0.5), width=360, height=22, degrees=8)


def _arm_supports(space: Space) -> None:
    for side in (-1, 1):
        _beside(space, space.slices(0.0, 0.45), width=90, height=32, side=side)


def _wing_board(space: Space) -> None:
    """A board with two posts above the head that the hands hold."""
    _below(space, space.slices(0.0, 0.55), width=430, height=12, degrees=4)
    kk = space.slices(0.7, 1.0)
    row, column = space.middle(kk)
    for side in (-1, 1):
        _rod(space, kk, row=row, column=column + side * round(150 / space.spacing_mm[2]), value=POST_HU)


# -- round and moulded things -------------------------------------------------------------------------------


def _rod(space: Space, kk: slice, *, row: float, column: float, value: float, radius: float = 16.0) -> None:
    mm = space.spacing_mm
    i, j = np.ogrid[: space.body.shape[1], : space.body.shape[2]]
    where = np.hypot((i - row) * mm[1], (j - column) * mm[2]) < radius
    for k in range(kk.start, kk.stop):
        space.paint(k, where, value)


def _knee_support(space: Space) -> None:
    """A solid half cylinder of 60 mm radius that lies across under the lowest slices."""
    mm, lying = space.spacing_mm, space.lying
    kk = space.slices(0.0, 0.3)
    row = lying * np.arange(space.body.shape[1])
    seen = np.where(space.body[kk].any(axis=2), row, -np.inf).max(axis=1).max()
    length = kk.stop - kk.start
    column = space.middle(kk)[1]
    across = np.abs(np.arange(space.body.shape[2]) - column) * mm[2] < 200
    for k in range(kk.start, kk.stop):
        along = (k - kk.start - length / 2) * mm[0]
        height = np.sqrt(max(60.0**2 - along**2, 0.0))
        depth = (row - seen) * mm[1] - mm[1] / 2 - space.gap_mm - (60 - height)
        where = ((depth >= 0) & (depth < height))[:, None] & across[None, :]
        space.paint(k, where, space.device_hu)


def _distance(space: Space, k: int) -> Float32:
    """(I, J) mm from the skin of a slice, whose hollows are bridged."""
    step = max(1, round(COARSE_MM / space.spacing_mm[1]))
    coarse = np.pad(space.body[k, ::step, ::step], 20)
    closed = ndimage.binary_closing(coarse, iterations=CLOSING)[20:-20, 20:-20]
    away = ndimage.distance_transform_edt(~closed).astype(np.float32) * space.spacing_mm[1] * step
    finer: Float32 = away.repeat(step, axis=0).repeat(step, axis=1)
    if step > 1:
        finer = ndimage.uniform_filter(finer, step)
    return finer[: space.body.shape[1], : space.body.shape[2]]


def _towards_couch(space: Space, k: int) -> NDArray[np.float64]:
    """(I, 1) mm from the middle of the slice's body towards the couch."""
    rows = np.flatnonzero(space.body[k].any(axis=1))
    middle = rows.mean() if rows.size else space.body.shape[1] / 2
    return np.asarray(space.lying * (np.arange(space.body.shape[1]) - middle)[:, None] * space.spacing_mm[1])


def _layer(space: Space, kk: slice, *, inner: float, outer: float, value: float, half: str) -> None:
    """What lies between two distances from the skin, on the `front` or the `back` half of the body."""
    for k in range(kk.start, kk.stop):
        if space.body[k].any():
            away, below = _distance(space, k), _towards_couch(space, k)
            side = below < -10 if half == "front" else below > 0
            space.paint(k, side & (away > inner) & (away <= outer), value)


def _vacuum_bag(space: Space) -> None:
    kk = space.slices(0.0, 0.8)
    gap = max(space.gap_mm, 0.0)
    _layer(space, kk, inner=gap, outer=gap + 50, value=BAG_SKIN_HU, half="back")
    _layer(space, kk, inner=gap + 2, outer=gap + 48, value=BAG_HU, half="back")


def _bolus(space: Space) -> None:
    """A sheet of 8 mm over the front of the body, 100 mm wide."""
    kk = space.slices(0.3, 0.6)
    column = space.middle(kk)[1]
    gap = max(space.gap_mm, 0.0)
    near = np.abs(np.arange(space.body.shape[2]) - column) * space.spacing_mm[2] < 50
    for k in range(kk.start, kk.stop):
        if space.body[k].any():
            away, below = _distance(space, k), _towards_couch(space, k)
            space.paint(k, (below < 0) & near & (away > gap) & (away <= gap + 8), space.device_hu)


def _clinging_mask(space: Space) -> None:
    """A mask that touches the skin, and the clips beside the head that hold it."""
    kk = space.slices(0.45, 1.0)
    _layer(space, kk, inner=0.0, outer=2.5, value=SHELL_HU, half="front")
    for side in (-1, 1):
        _beside(space, space.slices(0.6, 0.8), width=22, height=35, side=side)


def _metal_rods(space: Space) -> None:
    kk = space.slices(0.55, 1.0)
    row, column = space.middle(kk)
    columns = np.flatnonzero(space.body[kk].any(axis=(0, 1)))
    half = (columns[-1] - columns[0]) / 2 if columns.size else 0.0
    away = half + (16 + max(space.gap_mm, 0.0)) / space.spacing_mm[2]
    for side in (-1, 1):
        _rod(space, kk, row=row, column=column + side * away, value=DENSE_METAL_HU)


DEVICES: dict[str, Callable[[Space], None]] = {
    "head blocks": _head_blocks,
    "neck rest": _neck_rest,
    "shoulder board": _shoulder_board,
    "breast board": _breast_board,
    "wing board": _wing_board,
    "arm supports": _arm_supports,
    "knee support": _knee_support,
    "vacuum bag": _vacuum_bag,
    "bolus": _bolus,
    "clinging mask": _clinging_mask,
    "metal rods": _metal_rods,
}
"""What can lie at the patient, by name."""
