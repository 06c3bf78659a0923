"""Metal in and on the body: hip prostheses, gold markers, seeds, beads on the skin; and the streaks it makes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from contour_ai.sample.synthesis.noise import linear_upsampled
from contour_ai.sample.synthesis.recipe import ImplantConfig
from contour_ai.sample.synthesis.scene import Scene
from contour_ai.sample.synthesis.tissues import Tissue

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]

ANGLES = 72
"""Projections from which streaks are computed."""
STREAK_PIXEL_MM = 4.0
METAL_MM, IMPLANT_HU = 40.0, 2600.0
"""Lengths of metal along a line are counted in so many mm, of so many HU."""
HARDENING = (0.04, 0.22)
"""Share of such a length that beam hardening takes away; it grows with the square of the length."""
STARVATION = (0.01, 0.10)
"""Noise behind such a length, as a share of it."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Implants:
    """Metal by how much of it there is, and which femoral heads are replaced."""

    large: Bool
    small: Bool
    replaced: tuple[bool, bool]
    """Left and right."""


def draw_implants(scene: Scene, hu: Float32, wanted: ImplantConfig) -> Implants:
    """Puts metal into the image `hu` (changed in place)."""
    draws = scene.draws
    large, small = np.zeros(hu.shape, bool), np.zeros(hu.shape, bool)
    replaced = [False, False]
    if draws.between(0, 1) < wanted.prosthesis_probability:
        first = int(draws.between(0, 2))
        replaced[min(first, 1)] = True
        if draws.between(0, 1) < wanted.both_hips_probability:
            replaced = [True, True]
    for side in (0, 1):
        if replaced[side]:
            large |= _draw_prosthesis(scene, hu, side)
    prostate = scene.mask(Tissue.PROSTATE)
    if draws.between(0, 1) < wanted.seeds_probability:
        small |= _draw_seeds(scene, prostate, 2 + int(draws.between(0, 3)))
    elif draws.between(0, 1) < wanted.brachytherapy_probability:
        small |= _draw_seeds(scene, prostate, int(draws.between(40, 100)))
    hu[small] = np.maximum(hu[small], draws.between(900, 3000))
    if draws.between(0, 1) < wanted.skin_markers_probability:
        _draw_skin_markers(scene, hu)
    return Implants(large=large, small=small, replaced=(replaced[0], replaced[1]))


def _draw_prosthesis(scene: Scene, hu: Float32, side: int) -> Bool:
    """Head, neck and stem of metal; a cup of metal or plastic. Returns the metal."""
    draws = scene.draws
    head = scene.heads_mm[side]
    outwards = 1.0 if side == 0 else -1.0
    tilt = draws.between(35, 48)
    neck = (head[0] - tilt * 0.8, head[1] + draws.between(0, 8), head[2] + outwards * tilt)
    tip = (
        neck[0] - draws.between(70, 130),
        neck[1] + draws.between(-4, 8),
        neck[2] + outwards * draws.between(-6, 10),
    )
    centre = (float(head[0]), float(head[1]), float(head[2]))
    radius = draws.between(11, 18)
    metal = scene.ellipsoid(centre, (radius, radius, radius))
    metal |= scene.capsule(centre, neck, draws.between(5, 8))
    metal |= scene.capsule(neck, tip, draws.between(5, 9))
    outer = draws.between(24, 29)
    shell = scene.ellipsoid(centre, (outer, outer, outer)) & ~scene.ellipsoid(centre, (outer - 4,) * 3)
    k, _, j = scene.points_mm(tuple(slice(0, n) for n in hu.shape))  # type: ignore[arg-type]
    shell &= (k - centre[0]) - outwards * (j - centre[2]) > -5
    liner = scene.ellipsoid(centre, (outer - 4,) * 3) & ~metal & ~shell
    hu[liner] = draws.between(-80, 150)
    if draws.between(0, 1) < 0.75:
        metal |= shell
    else:
        hu[shell] = draws.between(100, 1600)
    hu[metal] = draws.between(2600, 3071)
    return metal


def _draw_seeds(scene: Scene, prostate: Bool, number: int) -> Bool:
    """Grains of gold or titanium: as long as a slice or two, a voxel wide."""
    places = np.argwhere(prostate)
    seeds = np.zeros(prostate.shape, bool)
    if len(places):
        for k, i, j in places[scene.draws.state.randint(len(places), size=number)]:
            seeds[k : k + 1 + int(scene.draws.between(0, 1.6)), i, j] = True
    return seeds


def _draw_skin_markers(scene: Scene, hu: Float32) -> None:
    """A bead in front and one on each side, in one slice."""
    draws = scene.draws
    k = int(draws.between(0, hu.shape[0] - 1))
    body = scene.codes[k] != Tissue.AIR
    if not body.any():
        return
    rows, columns = np.flatnonzero(body[:, scene.midline]), np.flatnonzero(body.any(axis=0))
    if not rows.size:
        return
    middle = int((rows[0] + rows[-1]) / 2)
    for i, j in ((rows[0] - 1, scene.midline), (middle, columns[0] - 1), (middle, columns[-1] + 1)):
        if 0 <= i < hu.shape[1] and 0 <= j < hu.shape[2]:
            hu[k, i, j] = draws.between(300, 2500)


def add_streaks(scene: Scene, hu: Float32, implants: Implants, strength: float) -> None:
    """Streaks of metal in the slices that show it, in place: too little light behind it, and noise there.

    The metal of a slice is projected along `ANGLES` directions; what is missing in the projections (beam hardening: the
    square of the metal along the line; and noise that grows with it) is projected back through a ramp filter.
    """
    draws = scene.draws
    weight = implants.large.astype(np.float32) + 0.25 * implants.small
    shown = np.flatnonzero(weight.any(axis=(1, 2)))
    if not shown.size or strength <= 0:
        return
    step = [max(1, round(STREAK_PIXEL_MM / mm)) for mm in scene.spacing_mm[1:]]
    coarse = _block_means(weight[shown], step[0], step[1])
    projector, detectors = _projector(coarse.shape[1], coarse.shape[2])
    pixel_mm = step[0] * scene.spacing_mm[1]
    path = (projector @ coarse.reshape(len(coarse), -1).T) * (pixel_mm / METAL_MM)
    path = np.ascontiguousarray(path.T, np.float32).reshape(len(coarse), ANGLES, detectors)
    error = -draws.between(*HARDENING) * path**2
    error += draws.between(*STARVATION) * path * draws.state.standard_normal(path.shape)
    ramp = np.abs(np.fft.rfftfreq(2 * detectors))
    filtered = np.fft.irfft(np.fft.rfft(error, 2 * detectors) * ramp, 2 * detectors)[..., :detectors]
    back = projector.T @ filtered.reshape(len(coarse), -1).T.astype(np.float32)
    back = back.T.reshape(coarse.shape) * (np.pi / ANGLES * METAL_MM * IMPLANT_HU / pixel_mm * strength)
    streaks = linear_upsampled(
        np.ascontiguousarray(back), (len(shown), hu.shape[1], hu.shape[2]), (1, step[0], step[1])
    )
    streaks = np.clip(streaks, -900, 900)
    streaks[scene.codes[shown] == Tissue.AIR] *= 0.3
    hu[shown] += np.where(weight[shown] > 0.5, 0, streaks)


def _block_means(stack: Float32, rows: int, columns: int) -> Float32:
    """Means of blocks of pixels; the last ones are filled up with nothing."""
    pads = [(-stack.shape[1]) % rows, (-stack.shape[2]) % columns]
    padded = np.pad(stack, ((0, 0), (0, pads[0]), (0, pads[1])))
    n, i, j = padded.shape
    means: Float32 = padded.reshape(n, i // rows, rows, j // columns, columns).mean(axis=(2, 4))
    return means


def _projector(rows: int, columns: int) -> tuple[sparse.csr_array, int]:
    """A sparse (angles x detectors, pixels) matrix of parallel projections, and the number of detectors."""
    detectors = int(np.ceil(np.hypot(rows, columns))) + 3
    i, j = np.meshgrid(
        np.arange(rows) - (rows - 1) / 2, np.arange(columns) - (columns - 1) / 2, indexing="ij"
    )
    pixels = np.arange(rows * columns)
    entries = []
    for n, angle in enumerate(np.arange(ANGLES) * np.pi / ANGLES):
        at = (i * np.sin(angle) + j * np.cos(angle)).ravel() + (detectors - 1) / 2
        low = at.astype(int)
        entries.append((n * detectors + low, pixels, 1 - (at - low)))
        entries.append((n * detectors + low + 1, pixels, at - low))
    row, column, value = (np.concatenate(part) for part in zip(*entries, strict=True))
    shape = (ANGLES * detectors, rows * columns)
    return sparse.csr_array((value.astype(np.float32), (row, column)), shape=shape), detectors
