"""Draws the chest: vessels and tumours in lungs, fluid around them, chambers of the heart, breasts, arms."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from contour_ai.sample.synthesis.recipe import BodyConfig, ContentConfig
from contour_ai.sample.synthesis.scene import Scene
from contour_ai.sample.synthesis.tissues import LUNGS, Tissue

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]

CANAL_MM = 5.0
"""Fat and fluid around the cord in the spinal canal, where the map labels nothing."""
TUMOUR_MM = (4.0, 35.0)
"""Radius of a tumour of the lung."""


def draw_effusions(scene: Scene, content: ContentConfig) -> None:
    """Fluid behind a lung, with a level across the body; it takes the lung's place."""
    draws = scene.draws
    for lung in LUNGS:
        if draws.between(0, 1) >= content.effusion_probability:
            continue
        mask = scene.codes == lung
        rows = np.flatnonzero(mask.any(axis=(0, 2)))
        if not rows.size:
            continue
        share = draws.between(0.05, 0.45)
        field = rows[-1] - share * (rows[-1] - rows[0]) + 2.0 * scene.noise(60.0)
        scene.codes[mask & (np.arange(mask.shape[1])[None, :, None] > field)] = Tissue.EFFUSION


def draw_spinal_canal(scene: Scene) -> None:
    """What lies unlabelled around the cord is fat and fluid, no muscle."""
    near = scene.away_from(scene.mask(Tissue.CORD), CANAL_MM) < CANAL_MM
    scene.codes[near & (scene.codes == Tissue.LOOSE_MUSCLE)] = Tissue.SEPTUM


def draw_breasts(scene: Scene, body: BodyConfig) -> None:
    """Fat with glands and a skin, in front of the lungs of a woman."""
    draws, mm = scene.draws, scene.spacing_mm
    lungs = scene.mask(*LUNGS)
    slices = np.flatnonzero(lungs.any(axis=(1, 2)))
    if not slices.size or draws.between(0, 1) >= body.breasts_probability:
        return
    size, droop = draws.between(35, 75), draws.between(-0.2, 0.6)
    height = slices[0] * mm[0] + draws.between(70, 120)
    k = int(np.clip(round(height / mm[0]), 0, scene.codes.shape[0] - 1))
    glands = scene.noise(draws.between(12, 25))
    share = draws.between(-1.0, 1.0)
    for side in (-1, 1):
        j = scene.midline + int(side * draws.between(75, 105) / mm[2])
        if not 0 <= j < scene.codes.shape[2]:
            continue
        rows = np.flatnonzero(scene.codes[k, :, j] != Tissue.AIR)
        if not rows.size:
            continue
        centre = (height - 0.3 * size * droop, rows[0] * mm[1] + 0.15 * size, (j + side * droop * 8) * mm[2])
        radii = (
            size * draws.between(0.9, 1.2),
            size * draws.between(0.6, 0.95),
            size * draws.between(0.8, 1.1),
        )
        shape = scene.ellipsoid(centre, radii)
        within = scene.ellipsoid(centre, (radii[0] - 2.5, radii[1] - 2.5, radii[2] - 2.5))
        core = scene.ellipsoid(centre, (0.7 * radii[0], 0.7 * radii[1], 0.7 * radii[2]))
        outside = scene.codes == Tissue.AIR
        scene.codes[shape & outside] = Tissue.SKIN
        breast = within & (outside | (scene.codes == Tissue.SKIN) | (scene.codes == Tissue.FAT))
        scene.codes[breast] = Tissue.FAT
        scene.codes[breast & core & (glands > share)] = Tissue.GENITAL


def draw_arms(scene: Scene, body: BodyConfig) -> None:
    """Upper arms beside the chest: bone in muscle in fat under a skin."""
    draws, mm = scene.draws, scene.spacing_mm
    lungs = np.flatnonzero(scene.mask(*LUNGS).any(axis=(1, 2)))
    if not lungs.size or draws.between(0, 1) >= body.arms_probability:
        return
    inside = scene.codes != Tissue.AIR
    columns = np.flatnonzero(inside[lungs[0] : lungs[-1] + 1].any(axis=(0, 1)))
    rows = np.flatnonzero(inside[lungs[0] : lungs[-1] + 1].any(axis=(0, 2)))
    middle = (0.45 * rows[0] + 0.55 * rows[-1]) * mm[1]
    muscle, fat = draws.between(24, 36), draws.between(4, 14)
    top = lungs[-1] * mm[0]
    for edge, side in ((columns[0], -1), (columns[-1], 1)):
        at = edge * mm[2] + side * draws.between(-5, 0.9 * muscle)
        start = (top, middle, at - side * 25)
        end = (top - 320, middle + draws.between(-20, 40), at + side * draws.between(0, 30))
        air = scene.codes == Tissue.AIR
        for radius, tissue in (
            (muscle + fat + 2, Tissue.SKIN),
            (muscle + fat, Tissue.FAT),
            (muscle, Tissue.LOOSE_MUSCLE),
            (12.0, Tissue.OTHER_BONE),
        ):
            scene.codes[scene.capsule(start, end, radius) & air] = tissue


def paint_lungs(scene: Scene, hu: Float32, fine: Float32, content: ContentConfig) -> None:
    """Vessels, denser tissue at the back, clouded parts, a tumour. `hu` is changed in place."""
    draws = scene.draws
    lungs = scene.mask(*LUNGS)
    box = scene.box_around(lungs, 3.0)
    if box is None:
        return
    mask, part = lungs[box], hu[box]
    rows = np.arange(mask.shape[1], dtype=np.float32)[None, :, None] / mask.shape[1]
    part += mask * np.float32(draws.between(0, 160)) * rows**2
    if draws.between(0, 1) < 0.25:
        cloud = mask & (scene.noise(draws.between(25, 60))[box] > draws.between(1.0, 2.2))
        part[cloud] += draws.between(100, 600)
    share = draws.between(*content.lung_vessels)
    if share > 0:
        size = draws.between(10, 20)
        tubes = np.hypot(scene.noise(size), scene.noise(size))[box]
        limit = float(np.quantile(tubes[mask][::5], share))
        vessels = mask & (tubes < limit)
        part[vessels] = draws.between(-250, 60) + 30 * fine[box][vessels]
    if draws.between(0, 1) < content.lung_tumour_probability:
        places = np.argwhere(mask)
        at = places[draws.state.randint(len(places))] + [s.start for s in box]
        k, i, j = (float(a * mm) for a, mm in zip(at, scene.spacing_mm, strict=True))
        low, high = TUMOUR_MM
        radius = low * (high / low) ** draws.between(0, 1)
        ball = scene.ellipsoid((k, i, j), (radius * draws.between(0.7, 1.3), radius, radius))[box]
        ragged = ball & (fine[box] > -draws.between(0.8, 3))
        part[ragged & mask] = draws.between(5, 90)
    # Partial volume at the pleura is the scanner's work; the wall of the large bronchi is not labelled.
    bronchi = mask & (scene.away_from(scene.mask(Tissue.TRACHEA), 6.0)[box] < 2.5)
    part[bronchi] = draws.between(-100, 50)


def paint_heart(scene: Scene, hu: Float32, coarse: Float32, *, enhanced: bool) -> None:
    """Chambers brighter than muscle where there is contrast; fat in the grooves. `hu` is changed in place."""
    draws = scene.draws
    heart = scene.codes == Tissue.HEART
    box = scene.box_around(heart, 3.0)
    if box is None:
        return
    mask, part = heart[box], hu[box]
    depth = ndimage.distance_transform_edt(mask, sampling=scene.spacing_mm)
    if enhanced:
        field = scene.noise(draws.between(35, 60))[box]
        muscle = mask & ((depth < draws.between(4, 12)) | (np.abs(field) < draws.between(0.1, 0.4)))
        part[muscle] = draws.between(60, 130) + 6 * coarse[box][muscle]
        right = mask & ~muscle & (field > 0)
        part[right] += draws.between(-80, 150)
    grooves = mask & (depth < draws.between(2, 7)) & (coarse[box] > draws.between(0.3, 2.0))
    part[grooves] = draws.between(-110, -60)
