"""Gives every tissue its Hounsfield units: means, texture, walls and contents, contrast, cortical bone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from contour_ai.sample.synthesis.chest import paint_heart, paint_lungs
from contour_ai.sample.synthesis.recipe import SynthesisRecipe
from contour_ai.sample.synthesis.scene import Scene
from contour_ai.sample.synthesis.tissues import BONES, HOLLOW, KIDNEYS, PAIRS, Tissue

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]

FINE_NOISE_MM, COARSE_NOISE_MM = 5.5, 18.0
SHAFT_BELOW_MM = 55.0
"""Further below the femoral heads, the femur is a tube of dense bone."""
SPOT_SHARE = 0.004


@dataclass(frozen=True, eq=False, kw_only=True)
class Textures:
    """Noise shared by all tissues."""

    fine: Float32
    coarse: Float32


def painted(scene: Scene, recipe: SynthesisRecipe) -> Float32:
    """(k, i, j) HU of the scene, without anything the scanner adds."""
    draws = scene.draws
    enhanced = draws.between(0, 1) < recipe.content.venous_contrast_probability
    textures = Textures(fine=scene.noise(FINE_NOISE_MM), coarse=scene.noise(COARSE_NOISE_MM))
    mean, fine, coarse = (np.zeros(256, np.float32) for _ in range(3))
    for tissue in Tissue:
        density = recipe.density(tissue)
        ranges = density.enhanced if enhanced and density.enhanced is not None else density.plain
        mean[tissue] = draws.between(*ranges)
        fine[tissue] = draws.between(*density.fine)
        coarse[tissue] = draws.between(*density.coarse)
    _pair_sides(mean, fine, coarse)
    hu = mean[scene.codes]
    hu += fine[scene.codes] * textures.fine
    hu += coarse[scene.codes] * np.roll(textures.coarse, 11, axis=1)
    _paint_bones(scene, hu, textures, recipe)
    _paint_prostate(scene, hu, textures, recipe)
    _paint_bladder(scene, hu, recipe, wall_hu=float(mean[Tissue.UTERUS]))
    for organ in HOLLOW:
        _paint_hollow(scene, hu, organ, textures, recipe)
    _paint_masses(scene, hu, textures)
    if draws.between(0, 1) < recipe.content.calcification_probability:
        _paint_calcified_arteries(scene, hu, textures)
    if enhanced:
        _paint_kidneys(scene, hu)
    paint_lungs(scene, hu, textures.fine, recipe.content)
    paint_heart(scene, hu, textures.coarse, enhanced=enhanced)
    return hu


def _pair_sides(*tables: Float32) -> None:
    """Both sides of a pair have the same density; muscles differ little from each other."""
    for table in tables:
        for left, right in PAIRS:
            table[right] = table[left]
        table[Tissue.AORTA] = table[Tissue.ARTERY]
    mean = tables[0]
    for muscle in (Tissue.LOOSE_MUSCLE, Tissue.LEVATOR, Tissue.GLUTEUS):
        mean[muscle] = 0.35 * mean[muscle] + 0.65 * mean[Tissue.MUSCLE]


def _paint_bones(scene: Scene, hu: Float32, textures: Textures, recipe: SynthesisRecipe) -> None:
    """Dense at the surface, thicker in the femoral shaft; cartilage where femur and hip bone meet."""
    draws = scene.draws
    bones = scene.mask(*BONES)
    box = scene.box_around(bones, 3.0)
    if box is None:
        return
    mask, part = bones[box], hu[box]
    depth = ndimage.distance_transform_edt(mask, sampling=scene.spacing_mm).astype(np.float32)
    cortex, shell = draws.between(380, 1250), draws.between(1.0, 2.6)
    rim = np.clip(1.3 - depth / (1.6 * shell + 1.2), 0, 1) * mask
    part += rim * (cortex - part) * (1 + 0.15 * textures.fine[box])
    femur = scene.mask(Tissue.FEMUR_LEFT, Tissue.FEMUR_RIGHT)[box]
    k = (np.arange(box[0].start, box[0].stop) * scene.spacing_mm[0])[:, None, None]
    shaft = np.clip((scene.heads_k * scene.spacing_mm[0] - SHAFT_BELOW_MM - k) / 25, 0, 1).astype(np.float32)
    wall = draws.between(4, 8)
    tube = femur * shaft * np.clip((wall + 1.5 - depth) / 3, 0, 1)
    part += tube * (draws.between(900, 1500) - part)
    marrow = femur * shaft * np.clip((depth - wall) / 3, 0, 1)
    part += marrow * (draws.between(-70, 60) - part)
    head_density = draws.between(0, 220)
    for centre in scene.heads_mm:
        near = [((np.arange(s.start, s.stop) * mm - c) / 24) ** 2
                for s, mm, c in zip(box, scene.spacing_mm, centre, strict=True)]  # fmt: skip
        bump = np.exp(-near[0][:, None, None] - near[1][None, :, None] - near[2][None, None, :])
        part += femur * np.asarray(head_density * bump, np.float32)
    hip = scene.mask(Tissue.HIP_LEFT, Tissue.HIP_RIGHT)[box]
    joint = femur & ndimage.binary_dilation(hip) & (shaft == 0)
    space = draws.between(40, 420)
    part[joint] += draws.between(0.3, 1.0) * (space - part[joint])
    if draws.between(0, 1) < recipe.organs.bone_lesion_probability:
        field = scene.noise(draws.between(15, 30))[box]
        lesion = mask & (field > float(np.quantile(field[mask], 0.96)))
        part[lesion] = draws.pick((30.0, 60.0, 650.0, 900.0)) + 40 * textures.fine[box][lesion]


def _paint_prostate(scene: Scene, hu: Float32, textures: Textures, recipe: SynthesisRecipe) -> None:
    """A central part of another density; calcifications."""
    draws = scene.draws
    prostate = scene.mask(Tissue.PROSTATE)
    box = scene.box_around(prostate, 3.0)
    if box is None:
        return
    mask, part = prostate[box], hu[box]
    depth = ndimage.distance_transform_edt(mask, sampling=scene.spacing_mm)
    central = mask & (depth + 2 * textures.coarse[box] > 0.45 * depth.max())
    part[central] += draws.between(-12, 22)
    if draws.between(0, 1) < recipe.content.calcification_probability:
        field = textures.fine[box]
        spots = central & (field > np.quantile(field[mask], 1 - draws.between(0.003, 0.03)))
        part[spots] = draws.between(120, 700)
    if draws.between(0, 1) < 0.08:  # the cavity that a resection leaves is full of urine
        part[mask & (depth > 0.72 * depth.max())] = draws.between(0, 15)


def _paint_bladder(scene: Scene, hu: Float32, recipe: SynthesisRecipe, *, wall_hu: float) -> None:
    """Wall, urine, contrast in layers, a catheter with its balloon."""
    draws, content = scene.draws, recipe.content
    bladder = scene.mask(Tissue.BLADDER)
    box = scene.box_around(bladder, 3.0)
    if box is None:
        return
    mask, part = bladder[box], hu[box]
    depth = ndimage.distance_transform_edt(mask, sampling=scene.spacing_mm)
    if draws.between(0, 1) < content.bladder_contrast_probability:
        rows = np.flatnonzero(mask.any(axis=(0, 2)))
        level = rows[0] + draws.between(-0.3, 0.95) * (rows[-1] - rows[0])
        soft = np.clip((np.arange(mask.shape[1]) - level) / draws.between(0.5, 8), 0, 1)[None, :, None]
        part += mask * np.asarray(soft * draws.between(*content.bladder_contrast_hu), np.float32)
    thick = draws.between(*recipe.organs.bladder_wall_mm)
    if np.count_nonzero(mask) * np.prod(scene.spacing_mm) < 8e4:
        thick += draws.between(0, 3)
    wall = mask * np.clip((thick + 0.8 - depth) / 1.6, 0, 1)
    part += wall * (min(wall_hu, 80.0) - part)
    if draws.between(0, 1) < content.catheter_probability:
        middle = np.argwhere(mask & (depth > 0.4 * depth.max()))
        low = middle[: max(1, len(middle) // 6)]
        at = low[len(low) // 2] + [s.start for s in box]
        centre = [float(a * mm) for a, mm in zip(at, scene.spacing_mm, strict=True)]
        radius = draws.between(8, 14)
        balloon = scene.ellipsoid((centre[0], centre[1], centre[2]), (radius, radius, radius))[box] & mask
        part[balloon] = draws.pick((5.0, 5.0, -950.0, 300.0))
        if draws.between(0, 1) < 0.6:
            top = np.flatnonzero((mask & (depth > thick)).any(axis=(0, 2)))
            if top.size:
                bubble = mask & (depth > thick)
                bubble[:, top[0] + max(1, int(draws.between(2, 14) / scene.spacing_mm[1])) :] = False
                part[bubble] = -900


def _paint_hollow(
    scene: Scene, hu: Float32, organ: Tissue, textures: Textures, recipe: SynthesisRecipe
) -> None:
    """Wall and content of a part of the bowel: gas in front, stool, fluid or contrast."""
    draws, content = scene.draws, recipe.content
    mask = scene.codes == organ
    box = scene.box_around(mask, 3.0)
    if box is None:
        return
    mask, part = mask[box], hu[box]
    depth = ndimage.distance_transform_edt(mask, sampling=scene.spacing_mm)
    thick = draws.between(1.5, 4.5) if organ != Tissue.STOMACH else draws.between(3, 8)
    inside = mask & (depth > thick)
    if not inside.any():
        return
    field = scene.noise(draws.between(28, 60))[box] + 0.35 * textures.coarse[box]
    stool = draws.between(-60, 70) if organ in (Tissue.RECTUM, Tissue.COLON) else draws.between(-5, 45)
    rough = draws.between(10, 110) if organ in (Tissue.RECTUM, Tissue.COLON) else draws.between(2, 25)
    filling = stool + rough * np.minimum(textures.fine[box], 0.6)
    chance = (
        content.rectal_contrast_probability if organ == Tissue.RECTUM else content.oral_contrast_probability
    )
    if draws.between(0, 1) < chance:
        where = field > draws.between(-1.5, 0.8)
        filling = filling + where * draws.between(80, 650)
    gas_share = {
        Tissue.RECTUM: draws.between(*content.rectal_gas) * (draws.between(0, 1) < 0.65),
        Tissue.COLON: draws.between(0.1, 0.7),
        Tissue.SMALL_BOWEL: draws.between(0.0, 0.15),
        Tissue.STOMACH: draws.between(0.0, 0.5),
        Tissue.ESOPHAGUS: draws.between(0.0, 0.3),
    }[organ]
    part[inside] = filling[inside]
    if gas_share > 0:
        # Gas rises: rows near the front of each section hold it first.
        rise = -np.arange(mask.shape[1])[None, :, None] * scene.spacing_mm[1] / 25
        score = field + draws.between(0.3, 1.2) * rise
        limit = np.quantile(score[inside], 1 - gas_share)
        gas = inside & (score > limit)
        part[gas] = -960 + 40 * np.abs(textures.fine[box][gas])


def _paint_masses(scene: Scene, hu: Float32, textures: Textures) -> None:
    """Cysts with walls, septa and solid parts; or solid tumours with necrosis."""
    draws = scene.draws
    mass = scene.mask(Tissue.MASS)
    box = scene.box_around(mass, 3.0)
    if box is None:
        return
    mask, part = mass[box], hu[box]
    if draws.between(0, 1) < 0.6:
        field = scene.noise(draws.between(20, 60))[box]
        fluid = mask & (np.abs(field) > draws.between(0.03, 0.25)) & (field < draws.between(0.8, 3.0))
        fluid &= ndimage.binary_erosion(mask)
        part[fluid] = draws.between(-5, 32) + 2 * textures.fine[box][fluid]
    else:
        necrosis = mask & (textures.coarse[box] > draws.between(0.5, 1.5))
        part[necrosis] -= draws.between(5, 35)
    if draws.between(0, 1) < 0.2:
        spots = mask & (textures.fine[box] > 2.2)
        part[spots] = draws.pick((-80.0, 300.0, 800.0))


def _paint_calcified_arteries(scene: Scene, hu: Float32, textures: Textures) -> None:
    arteries = scene.mask(Tissue.AORTA, Tissue.ARTERY)
    edge = arteries & ndimage.binary_dilation(~arteries)
    plaques = edge & (textures.fine > scene.draws.between(0.6, 2.0))
    hu[plaques] = scene.draws.between(250, 900)


def _paint_kidneys(scene: Scene, hu: Float32) -> None:
    """Contrast in the renal pelvis, at times."""
    kidneys = scene.mask(*KIDNEYS)
    if kidneys.any() and scene.draws.between(0, 1) < 0.4:
        depth = ndimage.distance_transform_edt(kidneys, sampling=scene.spacing_mm)
        hu[depth > 0.75 * depth.max()] = scene.draws.between(200, 900)
