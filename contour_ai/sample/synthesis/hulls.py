"""Outlines of a body around its labelled structures: the skin, the muscles under it, and the cavity of the belly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, spatial

from contour_ai.sample.shapes import RandomDraws
from contour_ai.sample.synthesis.recipe import BodyConfig
from contour_ai.sample.synthesis.tissues import LUNGS, VISCERA, Tissue

Codes = NDArray[np.uint8]
Float = NDArray[np.float64]
Float32 = NDArray[np.float32]

OUTSIDE_MM = 60.0
"""Level where a slice has no such structures at all."""
SMOOTH_MM = (9.0, 5.0, 5.0)
TOGETHER_MM = 12.0
"""Structures of slices so near share a hull: a body has no steps."""
THIGHS_BLEND_MM = 18.0
FEW_POINTS = 4
GROIN_MM = 35.0
"""Vessels so far above the femoral heads lie in the belly, others in the groin."""
THIGH_SIDE_MM, ADDUCTORS_MM = 16.0, 55.0
"""Muscle outside and inside of what is labelled in a thigh."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Build:
    """How stout and muscular a person is; mm. Front, side and back of the fat under the skin."""

    fat: tuple[float, float, float]
    belly: float
    wall: float
    thigh: float
    gap: float
    """Between the thighs, far below."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Hulls:
    """Levels in mm, (k, i, j): about the distance to the surface, negative inside."""

    skin: Float32
    muscle: Float32
    cavity: Float32


def draw_build(body: BodyConfig, draws: RandomDraws) -> Build:
    """A random build."""
    low, high = body.fat_mm
    fat = float(np.exp(draws.between(np.log(low), np.log(high))))
    belly = draws.between(*body.belly_mm) * (0.3 + 0.7 * min(fat / 25, 1.0))
    return Build(
        fat=(
            fat * draws.between(0.5, 1.6),
            fat * draws.between(0.5, 1.3),
            fat * draws.between(0.4, 1.1),
        ),
        belly=belly,
        wall=draws.between(*body.wall_mm),
        thigh=draws.between(*body.thigh_mm),
        gap=draws.between(4.0, 40.0),
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class Landmarks:
    """Where things are in a scan, in mm from its voxel 0."""

    heads_height: float
    """Of the femoral heads."""
    hips_end: float
    """Height of the lowest point of the hip bones."""
    midline: float
    """Along j."""


def hulls_of(
    codes: Codes, spacing_mm: tuple[float, float, float], landmarks: Landmarks, build: Build
) -> Hulls:
    """The outlines of a body on a coarse grid.

    Args:
        codes: (k, i, j) tissues; the hulls lie around what is labelled.
        spacing_mm: of this grid.
        landmarks: femoral heads, hips and midline.
        build: how much lies around the structures.
    """
    height = np.arange(codes.shape[0]) * spacing_mm[0]
    up = _ramp(height - landmarks.heads_height, -30.0, 60.0)  # 0 at the thighs, 1 at the belly
    lungs = np.flatnonzero(np.isin(codes, LUNGS).any(axis=(1, 2)))
    chest = _ramp(height - height[lungs[0]], 10.0, 150.0) if lungs.size else np.zeros_like(up)
    belly = build.belly * up * (1 - chest)
    muscle = _muscle_offsets(codes, spacing_mm, height - landmarks.hips_end, up, belly, build)
    front, side, back = build.fat
    fat = _Offsets(front=front * (0.5 + 0.5 * up), side=side * np.ones_like(up), back=back * np.ones_like(up))
    planes = _Planes.of(codes.shape, spacing_mm)
    labelled = planes.joined(codes > Tissue.NONE)
    around = planes.levels(labelled, muscle), planes.levels(labelled, muscle.plus(fat))
    apart = 1 - _ramp(height - landmarks.hips_end, -THIGHS_BLEND_MM, 4.0)  # 1 where the thighs are two
    if apart.any():
        around = _with_thighs(around, planes, labelled, (muscle, fat), landmarks.midline, apart, build.gap)
    viscera = np.isin(codes, VISCERA)
    above_groin = (height > landmarks.heads_height + GROIN_MM)[:, None, None]
    viscera |= np.isin(codes, (Tissue.AORTA, Tissue.ARTERY, Tissue.VEIN)) & above_groin
    cavity = _Offsets(front=belly, side=0.35 * belly + 2, back=np.full_like(up, 2.0))
    return Hulls(
        skin=planes.smooth(around[1]),
        muscle=planes.smooth(around[0]),
        cavity=planes.smooth(planes.levels(planes.joined(viscera), cavity)),
    )


def _muscle_offsets(
    codes: Codes,
    spacing_mm: tuple[float, float, float],
    above_hips_end: NDArray[np.floating],
    up: Float,
    belly: Float,
    build: Build,
) -> _Offsets:
    """How far muscle goes beyond what is labelled: little where the gluteal muscles are labelled."""
    gluteal = (codes == Tissue.GLUTEUS).any(axis=(1, 2)).astype(np.float64)
    gluteal = ndimage.gaussian_filter1d(gluteal, 15 / spacing_mm[0], mode="nearest")
    return _Offsets(
        front=build.thigh * (1 - up) + build.wall * up + belly,
        side=12.0 * (1 - up) + (3.0 * gluteal + build.wall * (1 - gluteal)) * up,
        back=22.0 * (1 - _ramp(above_hips_end, -40.0, 20.0)) + 2.0,
    )


def _with_thighs(
    around: tuple[Float32, Float32],
    planes: _Planes,
    labelled: NDArray[np.bool_],
    offsets: tuple[_Offsets, _Offsets],
    midline_mm: float,
    apart: Float,
    gap_mm: float,
) -> tuple[Float32, Float32]:
    """Levels of muscle and skin with a hull for each thigh where `apart` (k,) is 1, a blend where it is less."""
    muscle, fat = offsets
    column = np.arange(labelled.shape[2]) * planes.spacing_mm[2] - midline_mm
    thighs = []
    for here, sign in ((column < 0, 1), (column > 0, -1)):
        part = labelled & here & (apart > 0)[:, None, None]
        side = np.full_like(apart, THIGH_SIDE_MM)
        around_thigh = _Offsets(
            front=muscle.front, side=side, back=muscle.back, inner=ADDUCTORS_MM, inner_sign=sign
        )
        thighs.append((planes.levels(part, around_thigh), planes.levels(part, around_thigh.plus(fat))))
    weight = apart[:, None, None].astype(np.float32)
    limit = ((gap_mm * apart / 2)[:, None, None] - np.abs(column)).astype(np.float32)
    blended = [
        whole * (1 - weight) + np.maximum(np.minimum(right, left), limit) * weight
        for whole, right, left in zip(around, *thighs, strict=True)
    ]
    return blended[0], blended[1]


@dataclass(frozen=True, eq=False, kw_only=True)
class _Offsets:
    """How far a hull is moved outwards in each slice, by direction; (k,) mm each."""

    front: Float
    side: Float
    back: Float
    inner: float | None = None
    """The same towards the midline, where that is another matter than `side`."""
    inner_sign: int = 1
    """1 where the midline lies towards higher j."""

    def plus(self, other: _Offsets) -> _Offsets:
        return _Offsets(
            front=self.front + other.front,
            side=self.side + other.side,
            back=self.back + other.back,
            inner=self.inner,
            inner_sign=self.inner_sign,
        )

    def along(self, k: int, normals: Float) -> Float:
        """(n,) mm for outward normals (n, 2) along i and j in slice `k`."""
        towards_i, towards_j = normals[:, 0], normals[:, 1]
        across = np.full(len(normals), self.side[k])
        if self.inner is not None:
            across = np.where(towards_j * self.inner_sign > 0, self.inner, across)
        along = np.where(towards_i < 0, self.front[k], self.back[k])
        moved: Float = np.hypot(towards_i * along, towards_j * across)
        return moved


@dataclass(frozen=True, eq=False)
class _Planes:
    """The slices of a grid."""

    points: Float
    """(i, j, 2) mm."""
    shape: tuple[int, ...]
    spacing_mm: tuple[float, float, float]

    @classmethod
    def of(cls, shape: tuple[int, ...], spacing_mm: tuple[float, float, float]) -> _Planes:
        axes = [np.arange(n) * mm for n, mm in zip(shape[1:], spacing_mm[1:], strict=True)]
        return cls(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1), shape, spacing_mm)

    def joined(self, inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """What is inside in a slice or in one `TOGETHER_MM` away."""
        reach = max(1, round(TOGETHER_MM / self.spacing_mm[0]))
        joined: NDArray[np.bool_] = ndimage.maximum_filter1d(inside.view(np.uint8), 2 * reach + 1, axis=0) > 0
        return joined

    def levels(self, inside: NDArray[np.bool_], offsets: _Offsets) -> Float32:
        """(k, i, j): the convex hull of each slice, moved outwards."""
        result = np.full(self.shape, OUTSIDE_MM, np.float32)
        for k in range(self.shape[0]):
            edge = inside[k] & ~ndimage.binary_erosion(inside[k])
            points = self.points[edge]
            if len(points) < FEW_POINTS or np.ptp(points, axis=0).min() == 0:
                continue
            equations = spatial.ConvexHull(points).equations
            normals, constants = equations[:, :2], equations[:, 2]
            moved = constants - offsets.along(k, normals)
            level = np.tensordot(self.points, normals, axes=(2, 1)) + moved
            result[k] = level.max(axis=-1)
        return result

    def smooth(self, level: NDArray[np.floating]) -> Float32:
        sigma = [mm / step for mm, step in zip(SMOOTH_MM, self.spacing_mm, strict=True)]
        smoothed: Float32 = ndimage.gaussian_filter(
            np.minimum(level, OUTSIDE_MM).astype(np.float32), sigma, mode="nearest"
        )
        return smoothed


def _ramp(value: NDArray[np.floating], low: float, high: float) -> Float:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((value - low) / (high - low), 0, 1)
    ramp: Float = t * t * (3 - 2 * t)
    return ramp
