"""Draws what a label map leaves out: skin, fat, muscles and what lies between them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from contour_ai.sample.synthesis.chest import draw_arms, draw_breasts, draw_spinal_canal
from contour_ai.sample.synthesis.extremities import draw_genitals, draw_hands
from contour_ai.sample.synthesis.hulls import Hulls
from contour_ai.sample.synthesis.pelvic_floor import draw_anal_canal, draw_pelvic_floor
from contour_ai.sample.synthesis.recipe import BodyConfig
from contour_ai.sample.synthesis.scene import Scene
from contour_ai.sample.synthesis.tissues import Tissue

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]

SKIN_MM = 2.0


def draw_surroundings(scene: Scene, hulls: Hulls, body: BodyConfig) -> None:
    """Fills everything that is not labelled; what lies outside the skin becomes air."""
    draws, codes = scene.draws, scene.codes
    wave = scene.noise(60.0)
    skin = hulls.skin + 1.5 * wave
    muscle = hulls.muscle + 2.5 * np.roll(wave, 17, axis=2)
    cavity = hulls.cavity + 2.0 * np.roll(wave, -23, axis=2)
    empty = codes == Tissue.NONE
    medial = _between_hips(scene)
    mm = np.array(scene.spacing_mm)
    blurred = ndimage.gaussian_filter(medial.astype(np.float32), np.array([9.0, 9.0, 4.0]) / mm)
    medial = blurred + 0.2 * np.roll(wave, 31, axis=1) > 0.5
    fat_inside = (cavity < 0) | medial
    codes[empty & (muscle < 0)] = Tissue.LOOSE_MUSCLE
    codes[empty & (muscle >= 0)] = Tissue.FAT
    codes[empty & fat_inside & (muscle < 0)] = Tissue.VISCERAL_FAT
    _draw_septa(scene, body)
    draw_pelvic_floor(scene, medial, body)
    _draw_strands(scene, body)
    _draw_cleft(scene, skin)
    outside = skin >= 0
    codes[outside & (empty | (codes == Tissue.AIR))] = Tissue.AIR
    codes[(skin > -SKIN_MM) & (skin < 0) & (codes == Tissue.FAT)] = Tissue.SKIN
    draw_anal_canal(scene)
    draw_spinal_canal(scene)
    if scene.female:
        draw_breasts(scene, body)
    else:
        draw_genitals(scene)
    draw_arms(scene, body)
    if draws.between(0, 1) < body.ascites_probability:
        fluid = (cavity < -3) & (scene.noise(70.0) > draws.between(-2, 1))
        codes[fluid & (codes == Tissue.VISCERAL_FAT)] = Tissue.ASCITES
    if draws.between(0, 1) < body.hands_probability:
        draw_hands(scene)


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
    share = scene.draws.between(*body.septa)
    field = np.abs(scene.noise(scene.draws.between(18, 34)))
    muscle = scene.codes == Tissue.LOOSE_MUSCLE
    if muscle.any():
        limit = float(np.quantile(field[muscle][::7], share))
        scene.codes[muscle & (field < limit)] = Tissue.SEPTUM
        # Fat around the gluteal muscles and between them and the hips.
        around = scene.away_from(scene.mask(Tissue.GLUTEUS, Tissue.MUSCLE), 8.0)
        gap = scene.draws.between(-1.0, 5.0) + 2.5 * scene.noise(40.0)
        scene.codes[muscle & (around < gap)] = Tissue.SEPTUM


def _draw_strands(scene: Scene, body: BodyConfig) -> None:
    """Vessels and nerves in fat, as tubes where two smooth fields vanish; fasciae as sheets."""
    draws = scene.draws
    fat = scene.mask(Tissue.FAT, Tissue.VISCERAL_FAT)
    if not fat.any():
        return
    size = draws.between(14, 28)
    tubes = np.hypot(scene.noise(size), scene.noise(size))
    share = np.where(scene.codes == Tissue.VISCERAL_FAT, 1.0, 0.4) * draws.between(*body.strands)
    order = np.sort(tubes[fat][::7])
    limit = np.interp(share, np.linspace(0, 1, len(order)), order)
    scene.codes[fat & (tubes < limit)] = Tissue.STRAND
    if draws.between(0, 1) < 0.6:
        sheets = np.abs(scene.noise(draws.between(25, 50)))
        thin = float(np.quantile(sheets[fat][::7], draws.between(0.01, 0.05)))
        scene.codes[(scene.codes == Tissue.FAT) & (sheets < thin)] = Tissue.SEPTUM


def _draw_cleft(scene: Scene, skin: Float32) -> None:
    """The natal cleft: `skin` is changed in place."""
    draws, mm = scene.draws, scene.spacing_mm
    depth, width = draws.between(8, 38), draws.between(1.0, 5.0)
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
