"""Draws one synthetic patient from a seed: CT, structures, and which organs are certainly not there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contour_ai.box import bounding_box
from contour_ai.errors import InputError
from contour_ai.grid import Grid
from contour_ai.sample.shapes import RandomDraws
from contour_ai.sample.synthesis.anatomy import HEAD_RADIUS_MM, Anatomy
from contour_ai.sample.synthesis.chest import draw_effusions
from contour_ai.sample.synthesis.hulls import Hulls, Landmarks, draw_build, hulls_of
from contour_ai.sample.synthesis.implants import add_streaks, draw_implants
from contour_ai.sample.synthesis.noise import linear_upsampled
from contour_ai.sample.synthesis.organs import draw_organs
from contour_ai.sample.synthesis.paint import painted
from contour_ai.sample.synthesis.pose import COARSE, Pose, draw_pose
from contour_ai.sample.synthesis.recipe import SynthesisRecipe
from contour_ai.sample.synthesis.scanner import LOWEST_HU, field_of_view, scanned
from contour_ai.sample.synthesis.scene import Scene
from contour_ai.sample.synthesis.surroundings import draw_surroundings
from contour_ai.sample.synthesis.tissues import Tissue
from contour_ai.volume import Structures, Volume

Bool = NDArray[np.bool_]

PATIENT_KEY = 7341
"""Keeps these random numbers apart from those of phantoms; never change it."""
AIR_AROUND_MM = (18.0, 14.0, 60.0)
"""Air in front of, beside and behind the body; the couch lies behind it."""
LEAST_CM3 = 0.3
"""Less of an organ is not contoured, and not absent either."""
PELVIC_ORGANS = {
    "Prostate": Tissue.PROSTATE,
    "SeminalVes": Tissue.SEMINAL_VESICLE,
    "Bladder": Tissue.BLADDER,
    "Rectum": Tissue.RECTUM,
}
TORSO_ORGANS = {
    "Lung_L": Tissue.LUNG_LEFT,
    "Lung_R": Tissue.LUNG_RIGHT,
    "Heart": Tissue.HEART,
    "Esophagus": Tissue.ESOPHAGUS,
    "Trachea": Tissue.TRACHEA,
    "SpinalCord": Tissue.CORD,
    "Liver": Tissue.LIVER,
    "Spleen": Tissue.SPLEEN,
    "Kidney_L": Tissue.KIDNEY_LEFT,
    "Kidney_R": Tissue.KIDNEY_RIGHT,
    "Stomach": Tissue.STOMACH,
    "Pancreas": Tissue.PANCREAS,
    "A_Aorta": Tissue.AORTA,
}
"""What a label map lacks of these is neither contoured nor absent."""
OUTLINE = "External"
"""Always contoured: a structure set must not be empty, and a scan may show none of the organs."""
HEADS = (("Femur_Head_L", 0, Tissue.FEMUR_LEFT), ("Femur_Head_R", 1, Tissue.FEMUR_RIGHT))


@dataclass(frozen=True, eq=False, kw_only=True)
class SyntheticPatient:
    """A drawn patient."""

    seed: int
    map_name: str
    sex: str
    """M or F."""
    volume: Volume
    structures: Structures
    absent: tuple[str, ...]
    """ROIs that are certainly not in this scan: beyond its ends, removed, replaced by metal, or of the other sex."""


def draw_patient(anatomies: Sequence[Anatomy], recipe: SynthesisRecipe, seed: int) -> SyntheticPatient:
    """Draws a patient; the same arguments always give the same voxels.

    Args:
        anatomies: one of them is taken, by the seed.
        recipe: ranges.
        seed: any whole number from 0.

    Raises:
        InputError: no anatomy, or a negative seed.
    """
    if not anatomies or not 0 <= seed < 2**32:
        raise InputError(
            "A synthetic patient needs a label map and a seed of 0 or more.",
            found=f"{len(anatomies)} maps, seed {seed}",
        )
    draws = RandomDraws(np.random.RandomState([PATIENT_KEY, seed]))
    anatomy = anatomies[int(draws.state.randint(len(anatomies)))]
    female = draws.between(0, 1) < recipe.organs.female_probability
    has_prostate = not female and draws.between(0, 1) >= recipe.organs.prostatectomy_probability
    wide = draws.between(1.0, 1.1) if female else 1.0
    pose = draw_pose(anatomy, recipe, draws, wide=wide)
    pose, hulls = _with_hulls(pose, recipe, draws)
    scene = Scene(
        codes=pose.codes(),
        spacing_mm=pose.spacing_mm,
        heads_mm=pose.heads_mm,
        hips_end_mm=pose.hips_end_mm,
        female=female,
        draws=draws,
    )
    draw_organs(scene, recipe.organs, prostate=has_prostate)
    draw_effusions(scene, recipe.content)
    draw_surroundings(scene, hulls, recipe.body)
    hu = painted(scene, recipe)
    implants = draw_implants(scene, hu, recipe.implants)
    add_streaks(scene, hu, implants, draws.between(*recipe.implants.streaks))
    masks = {OUTLINE: scene.codes != Tissue.AIR, **_rois(scene, recipe, implants.replaced)}
    grid = _grid(pose, draws)
    values = scanned(scene, hu, recipe, pose.averaged)
    masks = {name: _averaged(mask, pose.averaged)[: values.shape[0]] for name, mask in masks.items()}
    if draws.between(0, 1) < recipe.view.truncation_probability:
        seen = field_of_view(scene, draws.between(330, 480))
        values[:, ~seen] = LOWEST_HU
        masks = {name: mask & seen for name, mask in masks.items()}
    voxel_cm3 = float(np.prod(grid.spacing_mm)) / 1000
    missing = anatomy.missing
    shown = {name: mask for name, mask in masks.items() if np.count_nonzero(mask) * voxel_cm3 >= LEAST_CM3}
    return SyntheticPatient(
        seed=seed,
        map_name=anatomy.name,
        sex="F" if female else "M",
        volume=Volume(values, grid),
        structures=Structures.from_masks(shown, grid),
        absent=tuple(
            name for name in recipe.rois if not masks[name].any() and TORSO_ORGANS.get(name) not in missing
        ),
    )


def _with_hulls(pose: Pose, recipe: SynthesisRecipe, draws: RandomDraws) -> tuple[Pose, Hulls]:
    """The outlines of the body, and the pose cropped to the box around it."""
    coarse = pose.coarse_codes()
    step = tuple(COARSE * mm for mm in pose.spacing_mm)
    hulls = hulls_of(
        coarse,
        (step[0], step[1], step[2]),
        Landmarks(heads_height=pose.heads_height_mm, hips_end=pose.hips_end_mm, midline=pose.midline_mm),
        draw_build(recipe.body, draws),
    )
    body = bounding_box(hulls.skin < 0)
    box = [slice(0, pose.shape[0])]
    for axis, (before, after) in (
        (1, (AIR_AROUND_MM[0], AIR_AROUND_MM[2])),
        (2, (AIR_AROUND_MM[1], AIR_AROUND_MM[1])),
    ):
        low, end = (0, hulls.skin.shape[axis]) if body is None else (body[axis].start, body[axis].stop)
        start = max(int(low - before / step[axis]), 0) * COARSE
        stop = min(int(end - 1 + after / step[axis] + 1) * COARSE + 1, pose.shape[axis])
        box.append(slice(start, stop))
    cropped = pose.cropped((box[0], box[1], box[2]))
    part = tuple(slice(s.start // COARSE, -(-s.stop // COARSE)) for s in box)
    levels = [
        linear_upsampled(level[part], cropped.shape, (COARSE, COARSE, COARSE))
        for level in (hulls.skin, hulls.muscle, hulls.cavity)
    ]
    return cropped, Hulls(skin=levels[0], muscle=levels[1], cavity=levels[2])


def _rois(scene: Scene, recipe: SynthesisRecipe, replaced: tuple[bool, bool]) -> dict[str, Bool]:
    """{ROI: mask} of all that the recipe asks for; empty where an organ is not there."""
    masks: dict[str, Bool] = {}
    for name, tissue in (PELVIC_ORGANS | TORSO_ORGANS).items():
        if name in recipe.rois:
            masks[name] = scene.codes == tissue
    for name, side, femur in HEADS:
        mask = scene.codes == femur
        radius = (HEAD_RADIUS_MM,) * 3
        k, i, j = (float(v) for v in scene.heads_mm[side])
        mask &= scene.ellipsoid((k, i, j), radius)
        masks[name] = mask & (not replaced[side])
    return {name: masks[name] for name in recipe.rois}


def _averaged(mask: Bool, number: int) -> Bool:
    """Slices put together: inside where half of them are."""
    if number == 1:
        return mask
    n = mask.shape[0] // number
    parts = mask[: n * number].reshape(n, number, *mask.shape[1:])
    together: Bool = parts.sum(axis=1) * 2 >= number
    return together


def _grid(pose: Pose, draws: RandomDraws) -> Grid:
    k, i, j = pose.shape
    slice_mm = pose.spacing_mm[0] * pose.averaged
    mm = (slice_mm, pose.spacing_mm[1], pose.spacing_mm[2])
    origin = (
        round(-(j - 1) / 2 * mm[2], 1),
        round(-(i - 1) / 2 * mm[1] - draws.between(50, 160), 1),
        round(draws.between(-900, -200), 1),
    )
    return Grid.axial((k // pose.averaged, i, j), mm, origin)
