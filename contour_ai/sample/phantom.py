"""Draws a phantom patient from a seed: CT image and structures, the same voxels everywhere for the same seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from contour_ai.errors import InputError
from contour_ai.grid import Grid
from contour_ai.sample import headneck, pelvis
from contour_ai.sample.shapes import Canvas, Points, RandomDraws
from contour_ai.volume import Structures, Volume


@dataclass(frozen=True, kw_only=True)
class BodyRegion:
    """A part of the body that can be drawn.

    Args:
        draw: paints a patient on a canvas at given points of the standard patient.
        rois: the structures, in the order of the structure set.
        key: keeps the random numbers of different regions apart; never change it.
        extent_mm: lowest and highest point of the scan in the standard patient.
        pixels: rows and columns; few, because noise does not compress and sample patients must stay small.
        pixel_mm: smallest and largest pixel size.
        middle_y_mm: where the middle of the slices is, so that patient and couch are in view.
        sex: PatientSex.
    """

    draw: Callable[[Points, Canvas, RandomDraws], None]
    rois: tuple[str, ...]
    key: int
    extent_mm: tuple[float, float]
    pixels: tuple[int, int]
    pixel_mm: tuple[float, float]
    middle_y_mm: float
    sex: str


REGIONS = {
    "headneck": BodyRegion(
        draw=headneck.draw,
        rois=headneck.ROIS,
        key=1,
        extent_mm=headneck.EXTENT_MM,
        pixels=(96, 112),
        pixel_mm=(2.95, 3.2),
        middle_y_mm=18.0,
        sex="O",
    ),
    "pelvis": BodyRegion(
        draw=pelvis.draw,
        rois=pelvis.ROIS,
        key=2,
        extent_mm=pelvis.EXTENT_MM,
        pixels=(80, 108),
        pixel_mm=(3.85, 4.1),
        middle_y_mm=4.0,
        sex="M",
    ),
}

SLICE_MM = (4.0, 4.5, 5.0)


@dataclass(frozen=True, eq=False, kw_only=True)
class Phantom:
    """A drawn patient."""

    region: str
    seed: int
    volume: Volume
    structures: Structures


def draw_phantom(region: str, seed: int, *, missing: float = 0.0) -> Phantom:
    """Draws one patient.

    Args:
        region: one of `REGIONS`.
        seed: any whole number from 0; another seed gives another anatomy, pose, noise, pixel and slice size.
        missing: probability that a ROI was not contoured in this patient, to practise on incomplete archives.
            The image does not depend on it. At least one ROI is always contoured.

    Raises:
        InputError: unknown region, negative seed, or a probability outside 0 to 1.
    """
    if region not in REGIONS:
        raise InputError("Unknown body region.", found=region, expected=", ".join(REGIONS))
    if not 0 <= seed < 2**32 or not 0 <= missing <= 1:
        raise InputError(
            "A phantom needs a seed of 0 or more and a probability from 0 to 1.", found=f"{seed}, {missing}"
        )
    part = REGIONS[region]
    draws = RandomDraws(np.random.RandomState([part.key, seed]))
    grid, points = _scan(part, draws)
    canvas = Canvas(points, softness_mm=(grid.spacing_mm[0] + grid.spacing_mm[1]) / 2)
    part.draw(points, canvas, draws)
    canvas.add_noise(draws, draws.between(8, 14))
    hu = np.clip(np.rint(canvas.hu), -1024, 3071).astype(np.int16)
    left_out = np.random.RandomState([part.key, seed, 1]).random_sample(len(part.rois)) < missing
    left_out[seed % len(part.rois)] &= not left_out.all()
    masks = {n: canvas.rois[n] for n, out in zip(part.rois, left_out, strict=True) if not out}
    return Phantom(
        region=region, seed=seed, volume=Volume(hu, grid), structures=Structures.from_masks(masks, grid)
    )


def _scan(part: BodyRegion, draws: RandomDraws) -> tuple[Grid, Points]:
    """The CT's grid, and where its voxel centres lie in the standard patient."""
    pixel_mm = round(draws.between(*part.pixel_mm), 3)
    slice_mm = draws.pick(SLICE_MM)
    low, high = (end + draws.about(0, 3) for end in part.extent_mm)
    shape = (int((high - low) / slice_mm) + 1, *part.pixels)
    steps = (slice_mm, pixel_mm, pixel_mm)
    middle = [(n - 1) / 2 * step for n, step in zip(shape[1:], steps[1:], strict=True)]
    first = (low, part.middle_y_mm - middle[0] + draws.about(0, 4), -middle[1] + draws.about(0, 5))
    z, y, x = (
        start + step * index
        for start, step, index in zip(first, steps, np.indices(shape, dtype=np.float64), strict=True)
    )
    # Where the scanner has its origin is another matter than where the patient lies.
    origin = (-middle[1], round(-middle[0] - draws.between(100, 160), 1), round(draws.between(-900, -200), 1))
    return Grid.axial(shape, steps, origin), Points(x, y, z)
