"""What a scanner makes of a body: couch, field of view, kernel, noise, slice thickness."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from contour_ai.sample.synthesis.recipe import SynthesisRecipe
from contour_ai.sample.synthesis.scene import Scene
from contour_ai.sample.synthesis.tissues import BONES, Tissue

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]

AIR_HU = -1000.0
LOWEST_HU, HIGHEST_HU = -1024, 3071


def scanned(scene: Scene, hu: Float32, recipe: SynthesisRecipe, averaged: int) -> NDArray[np.int16]:
    """(k, i, j) whole HU as the scanner writes them.

    Args:
        scene: the drawing; it says where air and bone are.
        hu: what was painted; changed in place.
        recipe: ranges.
        averaged: so many slices become one.
    """
    draws, wanted = scene.draws, recipe.scanner
    if draws.between(0, 1) < wanted.couch_probability:
        _paint_couch(scene, hu)
    across, within = draws.between(*wanted.blur_px), draws.between(*wanted.blur_px)
    hu = ndimage.gaussian_filter(hu, (across, within, within))
    if draws.between(0, 1) < wanted.sharpening_probability:
        hu += draws.between(0.2, 0.8) * (hu - ndimage.gaussian_filter(hu, (0, 1.2, 1.2)))
    if averaged > 1:
        n = hu.shape[0] // averaged
        hu = hu[: n * averaged].reshape(n, averaged, *hu.shape[1:]).mean(axis=1)
    hu = hu + draws.between(-wanted.shift_hu, wanted.shift_hu) * (hu > -500)
    hu += _noise(scene, hu.shape, recipe, averaged)
    values = np.rint(hu).clip(LOWEST_HU, HIGHEST_HU).astype(np.int16)
    return values


def _noise(scene: Scene, shape: tuple[int, ...], recipe: SynthesisRecipe, averaged: int) -> Float32:
    """Grain, and streaks from left to right where bone takes most of the light."""
    draws, wanted = scene.draws, recipe.scanner
    width, sd = draws.between(*wanted.noise_width_px), draws.between(*wanted.noise_hu)
    grain = ndimage.gaussian_filter(
        draws.state.standard_normal(shape).astype(np.float32), (0.25, width, width)
    )
    noise: Float32 = grain * np.float32(sd / max(float(grain.std()), 1e-6))
    streak = draws.between(*wanted.streak_noise_hu)
    if streak > 1:
        lines = ndimage.gaussian_filter1d(draws.state.standard_normal(shape).astype(np.float32), 12, axis=2)
        bone = scene.mask(*BONES).mean(axis=2)
        bone = bone[: shape[0] * averaged].reshape(shape[0], averaged, -1).mean(axis=1)
        weight = ndimage.gaussian_filter(bone, (2, 2)) / max(float(bone.max()), 1e-6)
        noise += (streak / max(float(lines.std()), 1e-6)) * lines * weight[:, :, None].astype(np.float32)
    return noise


def _paint_couch(scene: Scene, hu: Float32) -> None:
    """A sandwich of carbon and foam, a solid board or a mattress, flat below the patient."""
    draws, mm = scene.draws, scene.spacing_mm
    body = scene.codes != Tissue.AIR
    rows = np.flatnonzero(body.sum(axis=(0, 2)) * mm[0] * mm[2] > 3000)
    if not rows.size:
        return
    depth = (np.arange(hu.shape[1]) - rows[-1]) * mm[1] - draws.between(0, 6)
    thick, kind = draws.between(12, 50), draws.between(0, 1)
    inside = (depth > 0) & (depth < thick)
    profile = np.full(hu.shape[1], AIR_HU, np.float32)
    profile[inside] = -940 if kind < 0.7 else draws.between(-850, 60)
    if kind < 0.7:
        profile[inside & ((depth < 2.5) | (depth > thick - 2.5))] = draws.between(-300, 100)
    half = int(draws.between(180, 260) / mm[2])
    column = np.abs(np.arange(hu.shape[2]) - scene.midline) < half
    where = (scene.codes == Tissue.AIR) & inside[None, :, None] & column[None, None, :]
    hu[where] = np.broadcast_to(profile[None, :, None], hu.shape)[where]
    scene.codes[where] = Tissue.COUCH


def field_of_view(scene: Scene, diameter_mm: float) -> Bool:
    """(i, j) pixels inside a circle about the middle of the body."""
    i = (np.arange(scene.codes.shape[1]) - (scene.codes.shape[1] - 1) / 2) * scene.spacing_mm[1]
    j = (np.arange(scene.codes.shape[2]) - scene.midline) * scene.spacing_mm[2]
    inside: Bool = np.hypot(i[:, None], j[None, :]) <= diameter_mm / 2
    return inside
