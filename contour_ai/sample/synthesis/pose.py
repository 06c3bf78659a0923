"""Brings an anatomy onto the grid of a new scan: which part is seen, turned, stretched, bent, with turned hips."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from contour_ai.box import Box
from contour_ai.sample.shapes import RandomDraws
from contour_ai.sample.synthesis.anatomy import Anatomy
from contour_ai.sample.synthesis.noise import linear_upsampled, smooth_noise
from contour_ai.sample.synthesis.recipe import VIEWS, PoseConfig, SynthesisRecipe
from contour_ai.sample.synthesis.tissues import PAIRS, Tissue

Codes = NDArray[np.uint8]
Float = NDArray[np.float64]
Float32 = NDArray[np.float32]

COARSE = 2
"""Fields that vary slowly are computed at every second voxel."""
CANVAS_MM = (330.0, 500.0)
"""Depth and width in which a body of scale 1 is drawn before it is cropped."""
CANVAS_BACK = 0.42
"""Share of the depth that lies behind the femoral heads."""
AVERAGED_ABOVE_MM = 3.5
LONGEST_MM = 560.0
BEND_WAVES_MM = ((70.0, 110.0), (28.0, 45.0))

SIDES = (
    (0, Tissue.FEMUR_LEFT, Tissue.HIP_LEFT),
    (1, Tissue.FEMUR_RIGHT, Tissue.HIP_RIGHT),
)


@dataclass(frozen=True, eq=False, kw_only=True)
class Pose:
    """Where the voxels of the new scan lie in the label map.

    The scan's own millimetres are (k, i, j) from its voxel 0.
    """

    anatomy: Anatomy
    spacing_mm: tuple[float, float, float]
    averaged: int
    """So many drawn slices become one slice of the scan."""
    shape: tuple[int, int, int]
    source_mm: Float32
    """(3, K, I, J): position in the map of every `COARSE`-th voxel."""
    heads_mm: tuple[Float, Float]
    """Centres of the left and right femoral heads in the scan; also where the scan does not show them."""
    hip_turns: tuple[Float, Float]
    """(3, 3) rotation of each femur about its head."""
    hips_end_mm: float
    """Height of the lowest point of the hip bones in the scan."""
    scale: float

    @property
    def midline_mm(self) -> float:
        """Where the middle of the body lies along j."""
        return float(self.heads_mm[0][2] + self.heads_mm[1][2]) / 2

    @property
    def heads_height_mm(self) -> float:
        """Height of the femoral heads above slice 0."""
        return float(self.heads_mm[0][0] + self.heads_mm[1][0]) / 2

    def coarse_codes(self) -> Codes:
        """Tissues at every `COARSE`-th voxel."""
        return self._codes(self.source_mm)

    def codes(self) -> Codes:
        """(k, i, j) tissues of the scan."""
        step = (COARSE, COARSE, COARSE)
        return self._codes(np.stack([linear_upsampled(axis, self.shape, step) for axis in self.source_mm]))

    def cropped(self, box: Box) -> Pose:
        """The part of the scan in `box`, whose starts are multiples of `COARSE`; slices are not cropped."""
        starts = [s.start for s in box]
        offset = np.array(starts) * self.spacing_mm
        coarse = tuple(slice(s.start // COARSE, -(-s.stop // COARSE)) for s in box)
        shape = [s.stop - s.start for s in box]
        return replace(
            self,
            shape=(shape[0], shape[1], shape[2]),
            source_mm=np.ascontiguousarray(self.source_mm[(slice(None), *coarse)]),
            heads_mm=(self.heads_mm[0] - offset, self.heads_mm[1] - offset),
        )

    def _codes(self, source_mm: Float32) -> Codes:
        codes = _looked_up(self.anatomy, source_mm)
        for side, femur, hip in SIDES:
            centre = self.anatomy.heads_mm[side]
            own = (femur, hip)
            low = source_mm[0] < centre[0] + 40
            if not low.any():
                continue
            top = int(np.flatnonzero(low.any(axis=(1, 2)))[-1]) + 1
            part = source_mm[:, :top]
            turned = np.tensordot(self.hip_turns[side].astype(np.float32), part - _column(centre), axes=1)
            there = _looked_up(self.anatomy, turned + _column(centre)) == femur
            here = codes[:top]
            here[here == femur] = Tissue.NONE
            here[there & np.isin(here, (Tissue.NONE, Tissue.MUSCLE, Tissue.GLUTEUS, *own))
                 & (here != hip)] = femur  # fmt: skip
        return codes


class Stature(NamedTuple):
    """How large a body is, and how it lies."""

    scale: float
    stretch: Float
    """(3,) factor along k, i and j; the scale is part of it."""
    turn: Float
    """(3, 3) rotation."""


def draw_stature(wanted: PoseConfig, draws: RandomDraws) -> Stature:
    """A random size and rotation of the whole body."""
    scale = draws.between(*wanted.scale)
    stretch = scale * np.array([1 + draws.between(-wanted.stretch, wanted.stretch) for _ in range(3)])
    turn = rotation([draws.between(-wanted.rotation_deg, wanted.rotation_deg) for _ in range(3)])
    return Stature(scale, stretch, turn)


def draw_bend(
    positions_mm: Float32, spacing_mm: tuple[float, float, float], wanted: PoseConfig, draws: RandomDraws
) -> None:
    """Adds smooth random movements to positions, in place: added up apart from them, they would be rounded otherwise.

    Args:
        positions_mm: (3, K, I, J).
        spacing_mm: of the positions along k, i and j.
        wanted: how far they move.
        draws: random numbers.
    """
    _, k, i, j = positions_mm.shape
    for strength, waves in zip(wanted.bend_mm, BEND_WAVES_MM, strict=False):
        for axis in range(3):
            size, sd = draws.between(*waves), draws.between(*strength)
            positions_mm[axis] += sd * smooth_noise(draws.state, (k, i, j), spacing_mm, size)


def draw_pose(anatomy: Anatomy, recipe: SynthesisRecipe, draws: RandomDraws, *, wide: float = 1.0) -> Pose:
    """A random scan of the anatomy.

    Args:
        anatomy: what is scanned.
        recipe: ranges.
        draws: random numbers.
        wide: further stretch from left to right.
    """
    wanted = recipe.pose
    if draws.between(0, 1) < wanted.mirror_probability:
        anatomy = mirrored(anatomy)
    stature = draw_stature(wanted, draws)
    scale, stretch = stature.scale, stature.stretch * (1.0, 1.0, wide)
    hip_turns = tuple(
        rotation([draws.between(-1, 1) * wanted.hip_rotation_deg for _ in range(3)]) for _ in SIDES
    )
    pixel_mm = round(draws.between(*recipe.grid.pixel_mm), 2)
    slice_mm = draws.pick(recipe.grid.slice_mm)
    averaged = 2 if slice_mm > AVERAGED_ABOVE_MM else 1
    low, high = _view_mm(anatomy, recipe, draws, stretch[0])
    spacing = (slice_mm / averaged, pixel_mm, pixel_mm)
    depth, width = (mm * scale for mm in CANVAS_MM)
    size = (high - low, depth, width * wide)
    shape = tuple(int(mm / step / COARSE) * COARSE + 1 for mm, step in zip(size, spacing, strict=True))
    centre = np.array([-low, depth * (1 - CANVAS_BACK), size[2] / 2])
    backward = np.diag(1 / stretch) @ stature.turn
    source, bend = _source(anatomy, backward, centre, (shape[0], shape[1], shape[2]), spacing, draws, recipe)
    heads = [_seen_at(c, anatomy.centre_mm, backward, centre, bend, spacing) for c in anatomy.heads_mm]
    return Pose(
        anatomy=anatomy,
        spacing_mm=spacing,
        averaged=averaged,
        shape=(shape[0], shape[1], shape[2]),
        source_mm=source,
        heads_mm=(heads[0], heads[1]),
        hip_turns=(hip_turns[0], hip_turns[1]),
        hips_end_mm=float((anatomy.hips_end_mm - anatomy.centre_mm[0]) * stretch[0] - low),
        scale=scale,
    )


def mirrored(anatomy: Anatomy) -> Anatomy:
    """The anatomy with left and right exchanged; names keep to the side."""
    codes = anatomy.codes[:, :, ::-1].copy()
    swap = np.arange(256, dtype=np.uint8)
    for a, b in PAIRS:
        swap[a], swap[b] = b, a
    last = (codes.shape[2] - 1) * anatomy.spacing_mm[2]
    left, right = (np.array([c[0], c[1], last - c[2]]) for c in anatomy.heads_mm)
    return replace(anatomy, codes=swap[codes], heads_mm=(right, left))


def rotation(degrees: list[float]) -> Float:
    """(3, 3) rotation about the k, i and j axes, one after the other."""
    result = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        a, b = [n for n in range(3) if n != axis]
        one = np.eye(3)
        one[a, a] = one[b, b] = np.cos(angle)
        one[a, b], one[b, a] = -np.sin(angle), np.sin(angle)
        result = result @ one
    return result


def _view_mm(
    anatomy: Anatomy, recipe: SynthesisRecipe, draws: RandomDraws, scale: float
) -> tuple[float, float]:
    """Lowest and highest point of the scan, from the femoral heads."""
    view = recipe.view
    weights = np.array([getattr(view, kind) for kind in VIEWS], np.float64)
    drawn = np.searchsorted(np.cumsum(weights / weights.sum()), draws.between(0, 1))
    kind = VIEWS[min(int(drawn), len(VIEWS) - 1)]
    top = anatomy.above_heads_mm * scale - 8
    below = (anatomy.hips_end_mm - anatomy.centre_mm[0]) * scale - draws.between(*view.below_hips_mm)
    below = max(below, 15 - anatomy.centre_mm[0] * scale)
    above, length, start = draws.between(*view.above_heads_mm), draws.between(0, 1), draws.between(0, 1)
    if kind == "pelvis":
        low, high = below, above
    elif kind == "trunk":
        low, high = below, below + LONGEST_MM
    elif kind == "chest":
        low = 120 + max(top - 270, 0) * start
        high = low + 150 + 330 * length
    elif kind == "part":
        low = -150 + 210 * start
        high = low + 50 + 130 * length
    else:
        low = 50 + min(200.0, max(top - 170, 0)) * start
        high = low + 120 + 200 * length
    high = min(high, top)
    return min(low, high - 45), high


def _source(
    anatomy: Anatomy,
    backward: Float,
    centre: Float,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    draws: RandomDraws,
    recipe: SynthesisRecipe,
) -> tuple[Float32, Float32]:
    """(3, K, I, J) positions in the map of every `COARSE`-th voxel, and the bend alone."""
    coarse = tuple(-(-n // COARSE) for n in shape)
    step = tuple(COARSE * mm for mm in spacing)
    axes = [np.arange(n) * mm - c for n, mm, c in zip(coarse, step, centre, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)
    source = np.tensordot(backward.astype(np.float32), grid, axes=1) + _column(anatomy.centre_mm)
    bend = np.zeros_like(source)
    draw_bend(bend, (step[0], step[1], step[2]), recipe.pose, draws)
    return np.asarray(source + bend, np.float32), bend


def _seen_at(
    point: Float,
    map_centre: Float,
    backward: Float,
    centre: Float,
    bend: Float32,
    spacing: tuple[float, float, float],
) -> Float:
    """Where a point of the map lies in the scan, in mm; the bend beyond the scan is that of its edge."""
    forward = np.linalg.inv(backward)
    seen: Float = forward @ (point - map_centre) + centre
    for _ in range(6):
        at = np.clip(seen / (COARSE * np.array(spacing)), 0, np.array(bend.shape[1:]) - 1)
        moved = [float(ndimage.map_coordinates(axis, at[:, None], order=1)[0]) for axis in bend]
        seen = forward @ (point - map_centre - moved) + centre
    return seen


def _looked_up(anatomy: Anatomy, source_mm: Float32) -> Codes:
    """The tissue at positions of the map, the nearest voxel's; nothing beyond the map."""
    codes = anatomy.codes
    flat = np.zeros(source_mm.shape[1:], np.int64)
    outside = np.zeros(source_mm.shape[1:], bool)
    for axis, n in enumerate(codes.shape):
        at = np.rint(source_mm[axis] / np.float32(anatomy.spacing_mm[axis])).astype(np.int32)
        outside |= (at < 0) | (at >= n)
        flat *= n
        flat += np.clip(at, 0, n - 1)
    found = codes.ravel()[flat]
    found[outside] = Tissue.NONE
    return found


def _column(vector: Float) -> Float32:
    return np.asarray(vector, np.float32)[:, None, None, None]
