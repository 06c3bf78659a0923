"""Implicit shapes in patient millimetres, and the canvas that paints them as Hounsfield units.

A shape is an array `f` (k, i, j): about the signed distance to its surface in mm, negative inside. Coordinates are
`Points`, three arrays (k, i, j) in mm with x to the patient's left, y to the back and z to the head (LPS).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Field = NDArray[np.float64]
Triple = tuple[float, float, float]


class Points(NamedTuple):
    """Where voxels lie in the patient, in mm: three arrays (k, i, j)."""

    x: Field
    y: Field
    z: Field


TINY = 1e-9
"""Keeps the ellipsoid's distance formula finite at its centre."""


def ellipsoid(p: Points, centre: Triple, radii: Triple) -> Field:
    """An ellipsoid with axes along x, y, z; the distance is exact on the surface and near it to first order."""
    offsets = [a - c for a, c in zip(p, centre, strict=True)]
    k0 = np.sqrt(sum((d / r) ** 2 for d, r in zip(offsets, radii, strict=True)))
    k1 = np.sqrt(sum((d / r**2) ** 2 for d, r in zip(offsets, radii, strict=True)))
    # Dividing by the larger of both keeps the field monotonic around the centre, where k1 vanishes.
    return k0 * (k0 - 1) / np.maximum(k1, k0 / max(radii) + TINY)


def tube(
    p: Points, centre_x: Field | float, centre_y: Field | float, rx: Field | float, ry: Field | float
) -> Field:
    """An endless elliptic tube along z whose centre and radii may be fields of z."""
    d = np.hypot((p[0] - centre_x) / rx, (p[1] - centre_y) / ry)
    return (d - 1) * np.minimum(rx, ry)


def capsule(p: Points, start: Triple, end: Triple, radius: float) -> Field:
    """All points within `radius` of the segment from `start` to `end`."""
    a, b = np.array(start), np.array(end)
    along = b - a
    rel = [q - s for q, s in zip(p, a, strict=True)]
    t = np.clip(sum(r * d for r, d in zip(rel, along, strict=True)) / (along @ along), 0, 1)
    return np.sqrt(sum((r - t * d) ** 2 for r, d in zip(rel, along, strict=True))) - radius


def box(p: Points, centre: Triple, halves: Triple, rounding: float) -> Field:
    """A box of half sizes `halves` (rounding included) with rounded edges."""
    q = [np.abs(a - c) - (h - rounding) for a, c, h in zip(p, centre, halves, strict=True)]
    outside = np.sqrt(sum(np.maximum(a, 0) ** 2 for a in q))
    return outside + np.minimum(np.maximum(np.maximum(q[0], q[1]), q[2]), 0) - rounding


def union(*shapes: Field) -> Field:
    """In any of the shapes."""
    return np.minimum.reduce(shapes)


def both(*shapes: Field) -> Field:
    """In all of the shapes."""
    return np.maximum.reduce(shapes)


def blend(a: Field, b: Field, width_mm: float) -> Field:
    """The union with its crease filled over about `width_mm` (polynomial smooth minimum)."""
    h = np.clip(0.5 + 0.5 * (b - a) / width_mm, 0, 1)
    return b * (1 - h) + a * h - width_mm * h * (1 - h)


def ramp(z: Field, *stops: tuple[float, float]) -> Field:
    """A value that depends on height: linear between stops (z, value) in ascending z, constant beyond."""
    heights, values = zip(*stops, strict=True)
    return np.interp(z, heights, values)


@dataclass(frozen=True)
class RandomDraws:
    """Random numbers for one phantom.

    `RandomState` and not the newer generator: NumPy promises that its stream never changes, and a sample patient
    must be the same bytes everywhere.
    """

    state: np.random.RandomState

    def about(self, mean: float, sd: float) -> float:
        """A normal number, cut at two standard deviations so that no anatomy becomes impossible."""
        return mean + sd * float(np.clip(self.state.normal(), -2, 2))

    def between(self, low: float, high: float) -> float:
        """A uniform number."""
        return low + (high - low) * float(self.state.random_sample())

    def pick(self, values: Sequence[float]) -> float:
        """One of the values."""
        return values[int(self.state.randint(len(values)))]

    def near(self, point: Triple, sd_mm: float) -> Triple:
        """A point moved by `sd_mm` in each direction."""
        x, y, z = (self.about(c, sd_mm) for c in point)
        return x, y, z

    def scaled(self, radii: Triple, sd: float) -> Triple:
        """Radii changed by the relative `sd`, together and each for itself."""
        common = self.about(1, sd)
        x, y, z = (r * common * self.about(1, sd / 2) for r in radii)
        return x, y, z

    def waves(
        self, p: Points, amplitude_mm: float, wavelengths_mm: tuple[float, float], count: int = 6
    ) -> Field:
        """A smooth random field (k, i, j) of standard deviation about `amplitude_mm`."""
        total = np.zeros_like(p[0])
        for _ in range(count):
            direction = self.state.normal(size=3)
            direction /= np.linalg.norm(direction)
            number = 2 * np.pi / self.between(*wavelengths_mm)
            phase = self.between(0, 2 * np.pi)
            angle = (number * direction[0]) * p.x
            angle += (number * direction[1]) * p.y
            angle += (number * direction[2]) * p.z
            angle += phase
            total += np.cos(angle, out=angle)
        return total * (amplitude_mm * np.sqrt(2 / count))


def sheets(p: Points, draws: RandomDraws, thickness_mm: float, distance_mm: float) -> Field:
    """Curved sheets like the fat planes between muscles, about `distance_mm` apart."""
    wave = draws.waves(p, 1, (2 * distance_mm, 3.5 * distance_mm))
    # A wave of amplitude 1 changes by about pi / distance a millimetre where it crosses zero.
    return np.abs(wave) * (distance_mm / np.pi) - thickness_mm / 2


@dataclass
class Canvas:
    """A CT image in the making: shapes are painted one over the other, and the named ones become ROIs.

    Where `within` is set, nothing is painted outside that shape.
    """

    points: Points
    softness_mm: float
    within: Field | None = None
    hu: Field = field(init=False)
    rois: dict[str, NDArray[np.bool_]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.hu = np.full_like(self.points[0], -1000.0)

    def paint(self, shape: Field, hu: Field | float, roi: str | None = None) -> None:
        """Fills a shape; a voxel that its surface cuts gets its share (partial volume).

        With `roi` the voxels whose centres lie inside become that ROI.
        """
        if self.within is not None:
            shape = np.maximum(shape, self.within)
        share = np.clip(0.5 - shape / self.softness_mm, 0, 1)
        self.hu += share * (hu - self.hu)
        if roi is not None:
            self.rois[roi] = shape < 0

    def add_noise(self, draws: RandomDraws, sd_hu: float) -> None:
        """Adds scanner noise of `sd_hu`, correlated over about one voxel as a reconstruction filter leaves it."""
        white = draws.state.normal(size=self.hu.shape)
        grain = ndimage.gaussian_filter(white, (0.3, 0.6, 0.6))
        self.hu += grain * (sd_hu / grain.std())


def moved(p: Points, draws: RandomDraws, *, bend_mm: float, turn_deg: Triple, scale: float) -> Points:
    """The coordinates of a standard patient at each point of this one.

    Turns by up to `turn_deg` about x, y and z, scales by about 1 ± `scale` in each direction, and bends smoothly by
    about `bend_mm`, so that every organ, its neighbours included, moves with it.
    """
    from scipy.spatial.transform import Rotation

    angles = [draws.about(0, t / 2) for t in turn_deg]
    matrix = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    stretch = draws.about(1, scale) * np.array([draws.about(1, scale / 2) for _ in range(3)])
    turned = [sum(matrix[r, c] * p[c] for c in range(3)) / stretch[r] for r in range(3)]
    return Points(*(a + draws.waves(p, bend_mm, (170.0, 400.0)) for a in turned))
