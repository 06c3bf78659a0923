"""Fills, grows and shrinks the organs of the pelvis; adds seminal vesicles, the organs of a woman, and tumours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from contour_ai.sample.synthesis.recipe import OrganConfig
from contour_ai.sample.synthesis.scene import Scene
from contour_ai.sample.synthesis.tissues import YIELDING, Tissue

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]

PUBIS_HALF_MM, SYMPHYSIS_HALF_MM = 30.0, 8.0
"""The pubic bones are what there is of the hip bones so near to the middle; the gap between them is half as wide."""
CUT_MM = 2.0
"""An organ that reaches so near to an end of the scan is cut there, and keeps its size."""


def draw_organs(scene: Scene, organs: OrganConfig, *, prostate: bool) -> None:
    """All changes of the pelvis's organs, in `scene.codes`.

    Args:
        scene: the labelled structures on the scan's grid, before anything around them is drawn.
        organs: ranges.
        prostate: whether the patient has one.
    """
    _resize_rectum(scene, organs)
    if prostate:
        _resize_prostate(scene, organs)
    else:
        _remove_prostate(scene)
    _fill_bladder(scene, organs, lowered=not prostate)
    if prostate:
        if scene.draws.between(0, 1) < organs.median_lobe_probability:
            _draw_median_lobe(scene)
        _draw_seminal_vesicles(scene, organs)
    if scene.female:
        _draw_female(scene)
    chance = organs.female_mass_probability if scene.female else organs.mass_probability
    if scene.draws.between(0, 1) < chance:
        _draw_mass(scene, organs)


def resized(
    scene: Scene,
    mask: Bool,
    allowed: Bool,
    target_cm3: float,
    *,
    roughness_mm: float,
    stretch: tuple[float, float, float] = (1.0, 1.0, 1.0),
    reach_mm: float = 60.0,
) -> Bool:
    """An organ grown or shrunk to a volume: a level of the distance to its surface, with smooth noise.

    Args:
        scene: the drawing.
        mask: (k, i, j) the organ.
        allowed: where it may grow; the organ itself always counts.
        target_cm3: the volume to reach, or to come near where other organs are in the way.
        roughness_mm: strength of the noise.
        stretch: along k, i and j: above 1 it grows more along this axis.
        reach_mm: how far it may grow.
    """
    box = scene.box_around(mask, reach_mm)
    if box is None:
        return mask
    inside, free = mask[box], (allowed | mask)[box]
    sampling = [mm / s for mm, s in zip(scene.spacing_mm, stretch, strict=True)]
    level = ndimage.distance_transform_edt(~inside, sampling=sampling)
    level -= ndimage.distance_transform_edt(inside, sampling=sampling)
    level += roughness_mm * scene.noise(scene.draws.between(16, 34))[box]
    voxels = target_cm3 * 1000 / float(np.prod(scene.spacing_mm))
    values = np.sort(level[free])
    limit = values[min(int(voxels), len(values) - 1)] if len(values) else 0.0
    grown = (level <= limit) & free
    smooth = ndimage.gaussian_filter(grown.astype(np.float32), 2.5 / np.array(scene.spacing_mm)) > 0.5
    result = np.zeros_like(mask)
    result[box] = _largest(ndimage.binary_opening(smooth & free))
    return result


def behind_pubis(scene: Scene) -> Bool:
    """(k, i, j): where organs may grow to: behind the pubic bones and between them; above them everywhere."""
    mm, middle = scene.spacing_mm, scene.midline
    bone = scene.mask(Tissue.HIP_LEFT, Tissue.HIP_RIGHT)
    near, gap = (max(1, int(half / mm[2])) for half in (PUBIS_HALF_MM, SYMPHYSIS_HALF_MM))
    behind = np.ones(bone.shape, bool)
    pubic = bone[:, :, max(middle - near, 0) : middle + near + 1]
    for k in np.flatnonzero(np.count_nonzero(pubic, axis=(1, 2))):
        closed = ndimage.maximum_filter1d(bone[k].view(np.uint8), 2 * gap + 1, axis=1)
        closed = ndimage.minimum_filter1d(closed, 2 * gap + 1, axis=1) > 0
        behind[k] = np.logical_or.accumulate(closed, axis=0) & ~closed
        here = np.count_nonzero(closed, axis=0) > 0
        if not here[middle]:  # between the upper branches, in front of which there is no bone
            right, left = np.flatnonzero(here[:middle]), np.flatnonzero(here[middle:])
            behind[k, :, right[-1] + 1 if right.size else 0 : middle + (left[0] if left.size else 1)] = True
    return behind


def is_cut(scene: Scene, mask: Bool) -> bool:
    """Whether a mask reaches the first or last slice."""
    n = max(1, round(CUT_MM / scene.spacing_mm[0]))
    return bool(mask[:n].any() or mask[-n:].any())


def volume_cm3(scene: Scene, mask: Bool) -> float:
    """Volume of a mask."""
    return float(np.count_nonzero(mask)) * float(np.prod(scene.spacing_mm)) / 1000


def _largest(mask: Bool) -> Bool:
    parts, count = ndimage.label(mask)
    if count < 2:
        return mask
    largest: Bool = parts == np.bincount(parts.ravel())[1:].argmax() + 1
    return largest


def _log_between(scene: Scene, low: float, high: float) -> float:
    return float(np.exp(scene.draws.between(np.log(low), np.log(high))))


def _replace(scene: Scene, old: Bool, new: Bool, tissue: Tissue, left: Tissue = Tissue.NONE) -> None:
    scene.codes[old & ~new] = left
    scene.codes[new] = tissue


def _resize_rectum(scene: Scene, organs: OrganConfig) -> None:
    old = scene.mask(Tissue.RECTUM)
    if not old.any():
        return
    volume, target = volume_cm3(scene, old), _log_between(scene, *organs.rectum_cm3)
    if is_cut(scene, old):
        target = volume * float(np.clip(target / 55.0, 0.6, 2.2))
    new = resized(
        scene,
        old,
        scene.mask(*YIELDING),
        target,
        roughness_mm=scene.draws.between(0.3, 2.0),
        stretch=(0.35, 1.0, scene.draws.between(0.9, 1.3)),
        reach_mm=25,
    )
    if new.any():
        _replace(scene, old, new, Tissue.RECTUM)


def _resize_prostate(scene: Scene, organs: OrganConfig) -> None:
    old = scene.mask(Tissue.PROSTATE)
    if not old.any():
        return
    volume = volume_cm3(scene, old)
    target = _log_between(scene, *organs.prostate_cm3)
    if is_cut(scene, old):
        target = volume * float(np.clip(target / 30.0, 0.6, 2.5))
    growth = max(target / volume, 0.1)
    new = resized(
        scene,
        old,
        scene.mask(*YIELDING, Tissue.BLADDER) & behind_pubis(scene),
        target,
        roughness_mm=scene.draws.between(0.3, 1.8) * min(1.0, growth + 0.3),
        stretch=(scene.draws.between(0.8, 1.3), 0.85, scene.draws.between(0.9, 1.2)),
        reach_mm=35,
    )
    if new.any():
        _replace(scene, old, new, Tissue.PROSTATE)


def _remove_prostate(scene: Scene) -> None:
    """The bladder's neck takes the place of the upper part of the prostate."""
    old = scene.mask(Tissue.PROSTATE)
    ks = np.flatnonzero(old.any(axis=(1, 2)))
    if not ks.size:
        return
    scene.codes[old] = Tissue.NONE
    neck = old.copy()
    neck[: ks[0] + int(len(ks) * scene.draws.between(0.35, 0.8))] = False
    if scene.mask(Tissue.BLADDER).any():
        scene.codes[neck] = Tissue.BLADDER


def _fill_bladder(scene: Scene, organs: OrganConfig, *, lowered: bool) -> None:
    old = scene.mask(Tissue.BLADDER)
    if not old.any():
        return
    draws = scene.draws
    full = ndimage.binary_closing(np.pad(old, 4), iterations=3)[4:-4, 4:-4, 4:-4]
    old |= full & scene.mask(*YIELDING)
    volume = volume_cm3(scene, old)
    target = _log_between(scene, *organs.bladder_cm3)
    if draws.between(0, 1) < organs.bladder_empty_probability:
        target = draws.between(20, 60)
    if is_cut(scene, old):
        target = volume * float(np.clip(target / 150.0, 0.6, 2.0))
    free = scene.mask(*YIELDING) & behind_pubis(scene)
    free[: np.flatnonzero(old.any(axis=(1, 2)))[0]] = False  # it fills upwards, not down beside the prostate
    upwards = draws.between(1.0, 2.2) if target > volume else draws.between(0.8, 1.2)
    new = resized(
        scene,
        old,
        free,
        target,
        roughness_mm=draws.between(0.5, 4.0),
        stretch=(upwards, draws.between(0.8, 1.3), draws.between(0.9, 1.5)),
        reach_mm=75,
    )
    if not new.any():
        return
    # Bowel comes down where the bladder was, in some; in others there is fat.
    left = Tissue.SMALL_BOWEL if draws.between(0, 1) < 0.5 and not lowered else Tissue.NONE
    gone = old & ~new
    _replace(scene, old, new, Tissue.BLADDER)
    if left != Tissue.NONE and volume_cm3(scene, gone) > 20:
        loops = gone & (scene.away_from(new, 20.0) > 5) & (scene.noise(24.0) > -0.3)
        scene.codes[ndimage.binary_opening(loops)] = left


def _draw_median_lobe(scene: Scene) -> None:
    draws, mm = scene.draws, scene.spacing_mm
    prostate = scene.mask(Tissue.PROSTATE)
    ks = np.flatnonzero(prostate.any(axis=(1, 2)))
    if not ks.size or ks[-1] >= scene.codes.shape[0] - 2:
        return
    rows, columns = np.nonzero(prostate[ks[-1] - min(2, len(ks) - 1)])
    height = draws.between(6, 20)
    centre = (
        ks[-1] * mm[0] + 0.3 * height,
        rows.mean() * mm[1],
        columns.mean() * mm[2] + draws.between(-5, 5),
    )
    lobe = scene.ellipsoid(centre, (height, draws.between(8, 17), draws.between(8, 18)))
    scene.codes[lobe & scene.mask(Tissue.BLADDER, Tissue.NONE)] = Tissue.PROSTATE


def _draw_seminal_vesicles(scene: Scene, organs: OrganConfig) -> None:
    """Two curved sacs that run from the back of the prostate's base outwards and up, behind the bladder."""
    draws, mm = scene.draws, scene.spacing_mm
    prostate = scene.mask(Tissue.PROSTATE)
    ks = np.flatnonzero(prostate.any(axis=(1, 2)))
    if not ks.size or ks[-1] >= scene.codes.shape[0] - 3:
        return
    base = prostate[max(ks[-1] - int(8 / mm[0]), 0) : ks[-1] + 1].any(axis=0)
    rows, columns = np.nonzero(base)
    start = (ks[-1] * mm[0] - 5, (rows.max() - 2) * mm[1] - 2, columns.mean() * mm[2])
    bladder, rectum = scene.mask(Tissue.BLADDER), scene.mask(Tissue.RECTUM)
    rise = draws.between(4, 20)
    drawn = np.zeros_like(prostate)
    for side in (-1, 1):
        length, radius = draws.between(*organs.seminal_vesicles_mm), draws.between(3.2, 7.0)
        middle = (start[0] + 0.6 * rise, start[1] + draws.between(-3, 3), start[2] + side * length * 0.5)
        end = (
            start[0] + rise + draws.between(-3, 8),
            start[1] + draws.between(-4, 8),
            start[2] + side * length,
        )
        first = (start[0], start[1], start[2] + side * 3)
        drawn |= scene.capsule(first, middle, radius * 0.85) | scene.capsule(middle, end, radius)
    free = scene.mask(Tissue.NONE, Tissue.COLON, Tissue.SMALL_BOWEL)
    # The bladder's back is pressed in a little where nothing else can give way.
    yielding = (
        bladder & ndimage.binary_dilation(~bladder, iterations=2) & (scene.away_from(rectum, 12.0) < 10)
    )
    scene.codes[drawn & (free | yielding)] = Tissue.SEMINAL_VESICLE


def _draw_female(scene: Scene) -> None:
    """A vagina between urethra and rectum; mostly a uterus behind and above the bladder, at times ovaries."""
    draws, mm = scene.draws, scene.spacing_mm
    rectum, bladder = scene.mask(Tissue.RECTUM), scene.mask(Tissue.BLADDER)
    ks = np.flatnonzero(rectum.any(axis=(1, 2)))
    if not ks.size:
        return
    low, high = int(ks[0]), int(min(ks[0] + 75 / mm[0], scene.codes.shape[0] - 1))
    half, thin = draws.between(10, 19), draws.between(4, 9)
    free = scene.mask(Tissue.NONE, Tissue.COLON, Tissue.SMALL_BOWEL)
    top = (low * mm[0], 0.0, scene.midline * mm[2])
    for k in range(max(low - int(25 / mm[0]), 0), high):
        rows, columns = np.nonzero(rectum[max(k, low)])
        if not rows.size:
            break
        centre = (k * mm[0], rows.min() * mm[1] - thin - 1, columns.mean() * mm[2])
        section = scene.ellipsoid(centre, (1.2 * mm[0], thin, half))
        scene.codes[section & free] = Tissue.VAGINA
        top = centre
    if draws.between(0, 1) < 0.72:
        size = draws.between(0.6, 1.3)
        forwards = draws.between(-10, 45)
        fundus = (top[0] + draws.between(15, 45), top[1] - forwards, top[2] + draws.between(-18, 18))
        womb = scene.capsule((top[0] - 8, top[1], top[2]), fundus, 15 * size)
        womb |= scene.ellipsoid(fundus, (26 * size, 24 * size, 32 * size))
        scene.codes[womb & (free | (scene.codes == Tissue.VAGINA)) & ~bladder] = Tissue.UTERUS
    for side in (-1, 1):
        if draws.between(0, 1) < 0.6:
            radius = draws.between(8, 20)
            place = (
                top[0] + draws.between(0, 45),
                top[1] + draws.between(-15, 20),
                top[2] + side * draws.between(25, 55),
            )
            ovary = scene.ellipsoid(place, (radius, radius * 0.8, radius))
            scene.codes[ovary & scene.mask(*YIELDING)] = Tissue.MASS


def _draw_mass(scene: Scene, organs: OrganConfig) -> None:
    """A lumpy tumour in front of the spine, above the bladder or beside it."""
    draws, mm = scene.draws, scene.spacing_mm
    radius = _log_between(scene, *organs.mass_mm) / 2
    height = scene.heads_k * mm[0] + draws.between(-5, 130) + 0.5 * radius
    free = scene.mask(*YIELDING, Tissue.STOMACH, Tissue.UTERUS)
    k = int(height / mm[0])
    if not 0 <= k < scene.codes.shape[0]:
        return
    bowel = scene.mask(Tissue.SMALL_BOWEL, Tissue.COLON, Tissue.BLADDER)[k]
    rows = np.flatnonzero(bowel.any(axis=1))
    i = float(rows.mean() * mm[1]) if rows.size else float(scene.heads_mm[0][1]) - 30
    j = scene.midline * mm[2] + draws.between(-40, 40)
    radii = [radius * draws.between(0.7, 1.2) for _ in range(3)]
    mass = scene.ellipsoid((height, i, j), (radii[0], radii[1] * 0.85, radii[2]))
    if radius > 25:
        mass |= scene.ellipsoid(
            (height + draws.between(-1, 1) * radius, i, j + draws.between(-1, 1) * radius),
            (0.6 * radius, 0.6 * radius, 0.6 * radius),
        )
    scene.codes[mass & free] = Tissue.MASS
