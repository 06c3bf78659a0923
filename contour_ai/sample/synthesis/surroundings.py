"""Draws what a label map leaves out: skin, fat, muscles, the floor of the pelvis, genitals, hands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from contour_ai.sample.shapes import Dice
from contour_ai.sample.synthesis.hulls import Hulls
from contour_ai.sample.synthesis.noise import smooth_noise
from contour_ai.sample.synthesis.recipe import BodyConfig
from contour_ai.sample.synthesis.tissues import Tissue

Bool = NDArray[np.bool_]
Codes = NDArray[np.uint8]
Float32 = NDArray[np.float32]
Box = tuple[slice, slice, slice]

SKIN_MM = 2.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Scene:
    """A drawing in the making: tissues on the scan's grid, and where things are. `codes` is changed in place."""

    codes: Codes
    spacing_mm: tuple[float, float, float]
    heads_mm: tuple[NDArray[np.float64], NDArray[np.float64]]
    hips_end_mm: float
    female: bool
    dice: Dice

    @property
    def midline(self) -> int:
        """Column in the middle of the body."""
        j = float(self.heads_mm[0][2] + self.heads_mm[1][2]) / 2 / self.spacing_mm[2]
        return int(np.clip(round(j), 1, self.codes.shape[2] - 2))

    @property
    def heads_k(self) -> float:
        """Slice of the femoral heads; may lie outside."""
        return float(self.heads_mm[0][0] + self.heads_mm[1][0]) / 2 / self.spacing_mm[0]

    def mask(self, *tissues: Tissue) -> Bool:
        """Voxels of any of the tissues."""
        if len(tissues) == 1:
            found: Bool = self.codes == tissues[0]
        else:
            found = np.isin(self.codes, tissues)
        return found

    def noise(self, size_mm: float) -> Float32:
        """Smooth noise on the scan's grid."""
        shape = self.codes.shape
        return smooth_noise(self.dice.state, (shape[0], shape[1], shape[2]), self.spacing_mm, size_mm)

    def box_around(self, mask: Bool, margin_mm: float) -> Box | None:
        """The box of a mask with a margin; None for an empty mask."""
        found = ndimage.find_objects(mask.astype(np.uint8))
        if not found:
            return None
        margins = [int(np.ceil(margin_mm / mm)) for mm in self.spacing_mm]
        box = [
            slice(max(s.start - m, 0), min(s.stop + m, n))
            for s, m, n in zip(found[0], margins, mask.shape, strict=True)
        ]
        return box[0], box[1], box[2]

    def level(self, mask: Bool) -> Float32:
        """Signed distance to the surface of a mask in mm, negative inside."""
        if not mask.any():
            return np.full(mask.shape, 1e3, np.float32)
        level = ndimage.distance_transform_edt(~mask, sampling=self.spacing_mm)
        level -= ndimage.distance_transform_edt(mask, sampling=self.spacing_mm)
        return np.asarray(level, np.float32)

    def away_from(self, mask: Bool, reach_mm: float) -> Float32:
        """Distance to a mask in mm, within `reach_mm`; larger numbers beyond."""
        away = np.full(mask.shape, 1e3, np.float32)
        box = self.box_around(mask, reach_mm)
        if box is not None:
            away[box] = ndimage.distance_transform_edt(~mask[box], sampling=self.spacing_mm)
        return away

    def points_mm(self, box: Box) -> tuple[Float32, Float32, Float32]:
        """Millimetres along k, i and j of the voxels of a box, ready to broadcast."""
        k, i, j = (
            np.arange(s.start, s.stop, dtype=np.float32) * np.float32(mm)
            for s, mm in zip(box, self.spacing_mm, strict=True)
        )
        return k[:, None, None], i[None, :, None], j[None, None, :]

    def ellipsoid(self, centre_mm: tuple[float, float, float], radii_mm: tuple[float, float, float]) -> Bool:
        """Voxels of an ellipsoid with axes along k, i and j."""
        k, i, j = self.points_mm((slice(0, self.codes.shape[0]), slice(0, self.codes.shape[1]),
                                  slice(0, self.codes.shape[2])))  # fmt: skip
        ck, ci, cj = centre_mm
        rk, ri, rj = radii_mm
        inside: Bool = ((k - ck) / rk) ** 2 + ((i - ci) / ri) ** 2 + ((j - cj) / rj) ** 2 < 1
        return inside

    def capsule(
        self, start_mm: tuple[float, float, float], end_mm: tuple[float, float, float], radius_mm: float
    ) -> Bool:
        """Voxels within `radius_mm` of the segment between two points."""
        k, i, j = self.points_mm((slice(0, self.codes.shape[0]), slice(0, self.codes.shape[1]),
                                  slice(0, self.codes.shape[2])))  # fmt: skip
        a = np.array(start_mm, np.float32)
        along = np.array(end_mm, np.float32) - a
        length2 = max(float(along @ along), 1e-3)
        t = np.clip(((k - a[0]) * along[0] + (i - a[1]) * along[1] + (j - a[2]) * along[2]) / length2, 0, 1)
        d2 = (k - a[0] - t * along[0]) ** 2 + (i - a[1] - t * along[1]) ** 2 + (j - a[2] - t * along[2]) ** 2
        inside: Bool = d2 < radius_mm**2
        return inside


def draw_surroundings(scene: Scene, hulls: Hulls, body: BodyConfig) -> None:
    """Fills everything that is not labelled; what lies outside the skin becomes air."""
    dice, codes = scene.dice, scene.codes
    wave = scene.noise(60.0)
    skin = hulls.skin + 1.5 * wave
    muscle = hulls.muscle + 2.5 * np.roll(wave, 17, axis=2)
    cavity = hulls.cavity + 2.0 * np.roll(wave, -23, axis=2)
    empty = codes == Tissue.NONE
    medial = _between_hips(scene)
    mm = np.array(scene.spacing_mm)
    blurred = ndimage.gaussian_filter(medial.astype(np.float32), np.array([8.0, 7.0, 4.0]) / mm)
    medial = blurred + 0.12 * np.roll(wave, 31, axis=1) > 0.5
    fat_inside = (cavity < 0) | medial
    codes[empty & (muscle < 0)] = Tissue.LOOSE_MUSCLE
    codes[empty & (muscle >= 0)] = Tissue.FAT
    codes[empty & fat_inside & (muscle < 0)] = Tissue.VISCERAL_FAT
    _draw_septa(scene, body)
    _draw_side_wall(scene, medial, body)
    _draw_floor(scene, body)
    _draw_strands(scene, body)
    _draw_cleft(scene, skin)
    outside = skin >= 0
    codes[outside & (empty | (codes == Tissue.AIR))] = Tissue.AIR
    codes[(skin > -SKIN_MM) & (skin < 0) & (codes == Tissue.FAT)] = Tissue.SKIN
    _draw_anal_canal(scene)
    if not scene.female:
        _draw_genitals(scene)
    if dice.between(0, 1) < body.ascites_probability:
        fluid = (cavity < -3) & (scene.noise(70.0) > dice.between(-2, 1))
        codes[fluid & (codes == Tissue.VISCERAL_FAT)] = Tissue.ASCITES
    if dice.between(0, 1) < body.hands_probability:
        _draw_hands(scene)


def _between_hips(scene: Scene) -> Bool:
    """What lies between the innermost edges of the hip bones or gluteal muscles of both sides, row by row."""
    walls = scene.mask(Tissue.HIP_LEFT, Tissue.HIP_RIGHT, Tissue.GLUTEUS)
    middle, n = scene.midline, scene.codes.shape[2]
    right, left = walls[:, :, :middle], walls[:, :, middle:]
    inner_right = np.where(right.any(axis=2), middle - 1 - right[:, :, ::-1].argmax(axis=2), n)
    inner_left = np.where(left.any(axis=2), middle + left.argmax(axis=2), -1)
    low = scene.heads_k + 75 / scene.spacing_mm[0]
    column = np.arange(n)
    between = (column > inner_right[:, :, None]) & (column < inner_left[:, :, None])
    between[int(np.clip(low, 0, len(between))) :] = False
    return between


def _draw_septa(scene: Scene, body: BodyConfig) -> None:
    """Fat between the muscles."""
    share = scene.dice.between(*body.septa)
    field = np.abs(scene.noise(scene.dice.between(18, 34)))
    muscle = scene.codes == Tissue.LOOSE_MUSCLE
    if muscle.any():
        limit = float(np.quantile(field[muscle][::7], share))
        scene.codes[muscle & (field < limit)] = Tissue.SEPTUM
        # Fat around the gluteal muscles and between them and the hips.
        around = scene.away_from(scene.mask(Tissue.GLUTEUS, Tissue.MUSCLE), 8.0)
        gap = scene.dice.between(-1.0, 5.0) + 2.5 * scene.noise(40.0)
        scene.codes[muscle & (around < gap)] = Tissue.SEPTUM


def _draw_strands(scene: Scene, body: BodyConfig) -> None:
    """Vessels and nerves in fat, as tubes where two smooth fields vanish; fasciae as sheets."""
    dice = scene.dice
    fat = scene.mask(Tissue.FAT, Tissue.VISCERAL_FAT)
    if not fat.any():
        return
    size = dice.between(14, 28)
    tubes = np.hypot(scene.noise(size), scene.noise(size))
    share = np.where(scene.codes == Tissue.VISCERAL_FAT, 1.0, 0.4) * dice.between(*body.strands)
    order = np.sort(tubes[fat][::7])
    limit = np.interp(share, np.linspace(0, 1, len(order)), order)
    scene.codes[fat & (tubes < limit)] = Tissue.STRAND
    if dice.between(0, 1) < 0.6:
        sheets = np.abs(scene.noise(dice.between(25, 50)))
        thin = float(np.quantile(sheets[fat][::7], dice.between(0.01, 0.05)))
        scene.codes[(scene.codes == Tissue.FAT) & (sheets < thin)] = Tissue.SEPTUM


def _draw_side_wall(scene: Scene, medial: Bool, body: BodyConfig) -> None:
    """The internal obturator muscles along the hip bones; the piriformis in front of the sacrum's sides."""
    hips = scene.mask(Tissue.HIP_LEFT, Tissue.HIP_RIGHT)
    thickness = scene.dice.between(*body.side_wall_mm)
    k = np.arange(scene.codes.shape[0]) * scene.spacing_mm[0]
    above = k - scene.heads_k * scene.spacing_mm[0]
    profile = thickness * np.clip(1.2 - np.abs(above + 5) / 75, 0, 1)
    away = scene.away_from(hips, 22.0)
    wall = medial & (away < profile[:, None, None] + 1.5 * scene.noise(30.0))
    soft = scene.mask(Tissue.VISCERAL_FAT, Tissue.LOOSE_MUSCLE, Tissue.SEPTUM)
    scene.codes[wall & soft] = Tissue.LEVATOR


def _draw_floor(scene: Scene, body: BodyConfig) -> None:
    """The levator ani: a sheet around prostate (or vagina) and the lower rectum, open in front and above."""
    core = scene.mask(Tissue.PROSTATE, Tissue.VAGINA)
    rectum = scene.mask(Tissue.RECTUM)
    ks = np.flatnonzero(core.any(axis=(1, 2)))
    rectum_ks = np.flatnonzero(rectum.any(axis=(1, 2)))
    if not rectum_ks.size:
        return
    low = int(rectum_ks[0])
    top = int(ks[-1]) if ks.size else low + int(30 / scene.spacing_mm[0])
    rectum[top + 1 :] = False
    core |= rectum
    away = scene.away_from(core, 18.0)
    gap = scene.dice.between(0.5, 3.5)
    thickness = scene.dice.between(*body.floor_mm)
    front = np.full(scene.codes.shape[0], scene.codes.shape[1])
    for n in np.flatnonzero(core.any(axis=(1, 2))):
        rows = np.flatnonzero(core[n].any(axis=1))
        front[n] = rows[0] + 0.25 * (rows[-1] - rows[0])
    behind = np.arange(scene.codes.shape[1])[None, :] > front[:, None]
    floor = (away > gap) & (away < gap + thickness) & behind[:, :, None]
    scene.codes[floor & scene.mask(Tissue.VISCERAL_FAT, Tissue.LOOSE_MUSCLE, Tissue.SEPTUM)] = Tissue.LEVATOR


def _draw_cleft(scene: Scene, skin: Float32) -> None:
    """The natal cleft: `skin` is changed in place."""
    dice, mm = scene.dice, scene.spacing_mm
    depth, width = dice.between(8, 38), dice.between(1.0, 5.0)
    k = np.arange(scene.codes.shape[0]) * mm[0]
    lowered = np.clip((scene.heads_k * mm[0] + 35 - k) / 40, 0, 1) * depth
    column = np.abs(np.arange(scene.codes.shape[2]) - scene.midline) * mm[2]
    middle = skin[:, :, scene.midline] < 0
    back = np.where(middle.any(axis=1), middle.shape[1] - 1 - middle[:, ::-1].argmax(axis=1), 0)
    row = (back[:, None] - np.arange(scene.codes.shape[1])) * mm[1]  # mm in front of the skin
    inside = (row < lowered[:, None]) & (row > -3)
    opening = width * (1 - np.clip(row / np.maximum(lowered[:, None], 1), 0, 1)) + 0.8
    cleft = inside[:, :, None] & (column[None, None, :] < opening[:, :, None])
    free = scene.mask(Tissue.FAT, Tissue.VISCERAL_FAT, Tissue.STRAND, Tissue.SEPTUM, Tissue.LOOSE_MUSCLE)
    cleft &= free
    scene.codes[cleft] = Tissue.AIR
    skin[cleft] = 1.0


def _draw_anal_canal(scene: Scene) -> None:
    """A muscular tube from the lower end of the rectum down and back to the skin."""
    rectum = scene.mask(Tissue.RECTUM)
    ks = np.flatnonzero(rectum.any(axis=(1, 2)))
    if not ks.size or ks[0] == 0:
        return
    k, i, j = scene.spacing_mm
    rows, columns = np.nonzero(rectum[ks[0]])
    start = (float(ks[0] * k), float(rows.mean() * i), float(columns.mean() * j))
    length = scene.dice.between(22, 42)
    end = (start[0] - length, start[1] + scene.dice.between(0, 14), start[2])
    tube = scene.capsule(start, end, scene.dice.between(8, 13))
    soft = scene.mask(Tissue.FAT, Tissue.VISCERAL_FAT, Tissue.STRAND, Tissue.SEPTUM, Tissue.LOOSE_MUSCLE)
    scene.codes[tube & soft] = Tissue.LEVATOR
    if scene.dice.between(0, 1) < 0.4:
        scene.codes[scene.capsule(start, end, 2.0) & (scene.codes == Tissue.LEVATOR)] = Tissue.VISCERAL_FAT


def _draw_genitals(scene: Scene) -> None:
    """Bulb and shaft of the penis, scrotum and testes, from the height of the hip bones' lower end on."""
    dice, (mk, mi, mj) = scene.dice, scene.spacing_mm
    end, middle = scene.hips_end_mm, scene.midline * mj
    centre = float(scene.heads_mm[0][1] + scene.heads_mm[1][1]) / 2
    soft = scene.mask(Tissue.FAT, Tissue.VISCERAL_FAT, Tissue.STRAND, Tissue.SEPTUM, Tissue.LOOSE_MUSCLE, Tissue.AIR,
                      Tissue.SKIN)  # fmt: skip
    bulb = (end + dice.between(0, 12), centre + dice.between(2, 14), middle)
    root = (end + dice.between(8, 20), centre - dice.between(35, 55), middle)
    tip = (
        root[0] - dice.between(-50, 70),
        root[1] - dice.between(15, 45),
        middle + dice.between(-35, 35),
    )
    radius = dice.between(9, 15)
    shape = scene.capsule(bulb, root, radius * 0.9) | scene.capsule(root, tip, radius)
    height, thick = end - dice.between(20, 50), dice.between(20, 32)
    k = int(np.clip(round(height / mk), 0, scene.codes.shape[0] - 1))
    near = slice(max(scene.midline - int(45 / mj), 0), scene.midline + int(45 / mj))
    rows = np.flatnonzero((scene.codes[k, :, near] != Tissue.AIR).any(axis=1))
    front = float(rows[0] * mi) if rows.size else centre - 40
    sac = (height, front + dice.between(-0.2, 0.9) * thick, middle + dice.between(-6, 6))
    scrotum = scene.ellipsoid(sac, (dice.between(28, 45), thick, dice.between(28, 42)))
    scene.codes[(shape | scrotum) & soft] = Tissue.GENITAL
    for side in (-1, 1):
        testis = scene.ellipsoid((sac[0] + dice.between(-6, 6), sac[1], sac[2] + side * 16), (19, 12, 12))
        ring = scene.ellipsoid((sac[0], sac[1], sac[2] + side * 16), (23, 15, 15)) & ~testis
        scene.codes[ring & (scene.codes == Tissue.GENITAL)] = Tissue.SEPTUM


def _draw_hands(scene: Scene) -> None:
    """Hands that lie on the belly or beside the hips."""
    dice, mm = scene.dice, scene.spacing_mm
    body = scene.codes != Tissue.AIR
    for side in (-1, 1):
        k = dice.between(0, (scene.codes.shape[0] - 1) * mm[0])
        j = scene.midline + int(side * dice.between(40, 170) / mm[2])
        if not 0 <= j < scene.codes.shape[2]:
            continue
        rows = np.flatnonzero(body[int(k / mm[0]), :, j])
        if not rows.size:
            continue
        thick = dice.between(11, 17)
        centre = (k, float(rows[0] * mm[1]) - thick, j * mm[2])
        hand = scene.ellipsoid(centre, (dice.between(25, 60), thick, dice.between(25, 60)))
        air = scene.codes == Tissue.AIR
        scene.codes[hand & air] = Tissue.FAT
        for n in range(4):
            place = (centre[0] - 30, centre[1], centre[2] + (n - 1.5) * 13)
            bone = scene.capsule(place, (place[0] + 60, place[1], place[2]), 4.0)
            scene.codes[bone & hand & air] = Tissue.OTHER_BONE
        flesh = scene.ellipsoid(centre, (60, thick * 0.6, 60)) & (scene.codes == Tissue.FAT) & hand & air
        scene.codes[flesh] = Tissue.LOOSE_MUSCLE
