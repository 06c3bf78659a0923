"""Draws what lies outside the trunk in a scan of the pelvis: genitals and hands."""

from __future__ import annotations

import numpy as np

from contour_ai.sample.synthesis.scene import Scene
from contour_ai.sample.synthesis.tissues import Tissue


def draw_genitals(scene: Scene) -> None:
    """Bulb and shaft of the penis, scrotum and testes, from the height of the hip bones' lower end on."""
    draws, (mk, mi, mj) = scene.draws, scene.spacing_mm
    end, middle = scene.hips_end_mm, scene.midline * mj
    centre = float(scene.heads_mm[0][1] + scene.heads_mm[1][1]) / 2
    soft = scene.mask(Tissue.FAT, Tissue.VISCERAL_FAT, Tissue.STRAND, Tissue.SEPTUM, Tissue.LOOSE_MUSCLE, Tissue.AIR,
                      Tissue.SKIN)  # fmt: skip
    bulb = (end + draws.between(0, 12), centre + draws.between(2, 14), middle)
    root = (end + draws.between(8, 20), centre - draws.between(35, 55), middle)
    tip = (
        root[0] - draws.between(-50, 70),
        root[1] - draws.between(15, 45),
        middle + draws.between(-35, 35),
    )
    radius = draws.between(9, 15)
    shape = scene.capsule(bulb, root, radius * 0.9) | scene.capsule(root, tip, radius)
    height, thick = end - draws.between(20, 50), draws.between(20, 32)
    k = int(np.clip(round(height / mk), 0, scene.codes.shape[0] - 1))
    near = slice(max(scene.midline - int(45 / mj), 0), scene.midline + int(45 / mj))
    rows = np.flatnonzero((scene.codes[k, :, near] != Tissue.AIR).any(axis=1))
    front = float(rows[0] * mi) if rows.size else centre - 40
    sac = (height, front + draws.between(-0.2, 0.9) * thick, middle + draws.between(-6, 6))
    scrotum = scene.ellipsoid(sac, (draws.between(28, 45), thick, draws.between(28, 42)))
    scene.codes[(shape | scrotum) & soft] = Tissue.GENITAL
    for side in (-1, 1):
        testis = scene.ellipsoid((sac[0] + draws.between(-6, 6), sac[1], sac[2] + side * 16), (19, 12, 12))
        ring = scene.ellipsoid((sac[0], sac[1], sac[2] + side * 16), (23, 15, 15)) & ~testis
        scene.codes[ring & (scene.codes == Tissue.GENITAL)] = Tissue.SEPTUM


def draw_hands(scene: Scene) -> None:
    """Hands that lie on the belly or beside the hips."""
    draws, mm = scene.draws, scene.spacing_mm
    body = scene.codes != Tissue.AIR
    for side in (-1, 1):
        k = draws.between(0, (scene.codes.shape[0] - 1) * mm[0])
        j = scene.midline + int(side * draws.between(40, 170) / mm[2])
        if not 0 <= j < scene.codes.shape[2]:
            continue
        rows = np.flatnonzero(body[int(k / mm[0]), :, j])
        if not rows.size:
            continue
        thick = draws.between(11, 17)
        centre = (k, float(rows[0] * mm[1]) - thick, j * mm[2])
        hand = scene.ellipsoid(centre, (draws.between(25, 60), thick, draws.between(25, 60)))
        air = scene.codes == Tissue.AIR
        scene.codes[hand & air] = Tissue.FAT
        for n in range(4):
            place = (centre[0] - 30, centre[1], centre[2] + (n - 1.5) * 13)
            bone = scene.capsule(place, (place[0] + 60, place[1], place[2]), 4.0)
            scene.codes[bone & hand & air] = Tissue.OTHER_BONE
        flesh = scene.ellipsoid(centre, (60, thick * 0.6, 60)) & (scene.codes == Tissue.FAT) & hand & air
        scene.codes[flesh] = Tissue.LOOSE_MUSCLE
