"""Draws the soft tissue around the organs of the lower pelvis: muscles of floor and side wall, sphincters, veins."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from contour_ai.sample.synthesis.recipe import BodyConfig
from contour_ai.sample.synthesis.scene import Scene
from contour_ai.sample.synthesis.tissues import Tissue

Bool = NDArray[np.bool_]

SOFT = (Tissue.FAT, Tissue.VISCERAL_FAT, Tissue.STRAND, Tissue.SEPTUM, Tissue.LOOSE_MUSCLE)
"""What may be drawn over."""


def draw_pelvic_floor(scene: Scene, medial: Bool, body: BodyConfig) -> None:
    """Everything but the anal canal.

    Args:
        scene: the drawing, with fat and muscle around its organs.
        medial: (k, i, j) what lies between the hip bones.
        body: ranges.
    """
    _draw_side_wall(scene, medial, body)
    _draw_floor(scene, body)
    _draw_sphincter(scene)
    _draw_veins(scene, body)


def _draw_side_wall(scene: Scene, medial: Bool, body: BodyConfig) -> None:
    """The internal obturator muscles along the hip bones; the piriformis in front of the sacrum's sides."""
    hips = scene.mask(Tissue.HIP_LEFT, Tissue.HIP_RIGHT)
    thickness = scene.draws.between(*body.side_wall_mm)
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
    gap = scene.draws.between(0.5, 3.5)
    thickness = scene.draws.between(*body.floor_mm)
    front = np.full(scene.codes.shape[0], scene.codes.shape[1])
    for n in np.flatnonzero(core.any(axis=(1, 2))):
        rows = np.flatnonzero(core[n].any(axis=1))
        front[n] = rows[0] + 0.25 * (rows[-1] - rows[0])
    behind = np.arange(scene.codes.shape[1])[None, :] > front[:, None]
    floor = (away > gap) & (away < gap + thickness) & behind[:, :, None]
    scene.codes[floor & scene.mask(Tissue.VISCERAL_FAT, Tissue.LOOSE_MUSCLE, Tissue.SEPTUM)] = Tissue.LEVATOR


def _draw_sphincter(scene: Scene) -> None:
    """Below the prostate (or the neck of the bladder) the urethra goes on in a round muscle of the same density."""
    mask = scene.mask(Tissue.PROSTATE)
    if not mask.any():
        mask = scene.mask(Tissue.BLADDER)
    ks = np.flatnonzero(mask.any(axis=(1, 2)))
    if not ks.size or ks[0] == 0:
        return
    draws, (k, i, j) = scene.draws, scene.spacing_mm
    rows, columns = np.nonzero(mask[ks[0] : ks[0] + 2].any(axis=0))
    start = (float((ks[0] + 1) * k), float(rows.mean() * i), float(columns.mean() * j))
    end = (start[0] - draws.between(12, 32), start[1] + draws.between(-8, 6), start[2])
    tube = scene.capsule(start, end, draws.between(6, 12))
    scene.codes[tube & scene.mask(*SOFT)] = Tissue.LEVATOR


def _draw_veins(scene: Scene, body: BodyConfig) -> None:
    """Veins between the prostate and the pubic bone, and at its sides: soft tissue mixed with fat."""
    prostate = scene.mask(Tissue.PROSTATE)
    if not prostate.any():
        return
    draws = scene.draws
    reach, share = draws.between(2.0, 10.0), draws.between(*body.plexus)
    away = scene.away_from(prostate, 12.0)
    field = scene.noise(draws.between(7, 14))
    rows: Bool = prostate.max(axis=2)
    front = np.where(rows.max(axis=1), rows.argmax(axis=1), 0)
    anterior = np.arange(prostate.shape[1])[None, :] < (front + 2)[:, None]
    limit = np.quantile(field[::3, ::3, ::3], share)
    veins = (away < np.where(anterior[:, :, None], reach, 0.5 * reach)) & (field < limit)
    scene.codes[veins & scene.mask(Tissue.VISCERAL_FAT, Tissue.SEPTUM)] = Tissue.STRAND


def draw_anal_canal(scene: Scene) -> None:
    """A muscular tube from the lower end of the rectum down and back to the skin."""
    rectum = scene.mask(Tissue.RECTUM)
    ks = np.flatnonzero(rectum.any(axis=(1, 2)))
    if not ks.size or ks[0] == 0:
        return
    k, i, j = scene.spacing_mm
    rows, columns = np.nonzero(rectum[ks[0]])
    start = (float(ks[0] * k), float(rows.mean() * i), float(columns.mean() * j))
    length = scene.draws.between(22, 42)
    end = (start[0] - length, start[1] + scene.draws.between(0, 14), start[2])
    tube = scene.capsule(start, end, scene.draws.between(8, 13))
    soft = scene.mask(*SOFT)
    scene.codes[tube & soft] = Tissue.LEVATOR
    if scene.draws.between(0, 1) < 0.4:
        scene.codes[scene.capsule(start, end, 2.0) & (scene.codes == Tissue.LEVATOR)] = Tissue.VISCERAL_FAT
