"""A drawing in the making, and the shapes and distances that every step of it uses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from contour_ai.box import Box, bounding_box, with_margin
from contour_ai.sample.shapes import RandomDraws
from contour_ai.sample.synthesis.noise import smooth_noise
from contour_ai.sample.synthesis.tissues import Tissue

Bool = NDArray[np.bool_]
Codes = NDArray[np.uint8]
Float32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False, kw_only=True)
class Scene:
    """A drawing in the making: tissues on the scan's grid, and where things are. `codes` is changed in place."""

    codes: Codes
    spacing_mm: tuple[float, float, float]
    heads_mm: tuple[NDArray[np.float64], NDArray[np.float64]]
    hips_end_mm: float
    female: bool
    draws: RandomDraws

    @property
    def midline(self) -> int:
        """Column in the middle of the body."""
        j = float(self.heads_mm[0][2] + self.heads_mm[1][2]) / 2 / self.spacing_mm[2]
        return int(np.clip(round(j), 1, self.codes.shape[2] - 2))

    @property
    def heads_k(self) -> float:
        """Slice of the femoral heads; may lie outside."""
        return float(self.heads_mm[0][0] + self.heads_mm[1][0]) / 2 / self.spacing_mm[0]

    def mask(self, *tissues: Tissue) -> Bool:
        """Voxels of any of the tissues."""
        if len(tissues) == 1:
            found: Bool = self.codes == tissues[0]
        else:
            found = np.isin(self.codes, tissues)
        return found

    def noise(self, size_mm: float) -> Float32:
        """Smooth noise on the scan's grid."""
        shape = self.codes.shape
        return smooth_noise(self.draws.state, (shape[0], shape[1], shape[2]), self.spacing_mm, size_mm)

    def box_around(self, mask: Bool, margin_mm: float) -> Box | None:
        """The box of a mask with a margin; None for an empty mask."""
        found = bounding_box(mask)
        if found is None:
            return None
        return with_margin(found, [int(np.ceil(margin_mm / mm)) for mm in self.spacing_mm], mask.shape)

    def level(self, mask: Bool) -> Float32:
        """Signed distance to the surface of a mask in mm, negative inside."""
        if not mask.any():
            return np.full(mask.shape, 1e3, np.float32)
        level = ndimage.distance_transform_edt(~mask, sampling=self.spacing_mm)
        level -= ndimage.distance_transform_edt(mask, sampling=self.spacing_mm)
        return np.asarray(level, np.float32)

    def away_from(self, mask: Bool, reach_mm: float) -> Float32:
        """Distance to a mask in mm, within `reach_mm`; larger numbers beyond."""
        away = np.full(mask.shape, 1e3, np.float32)
        box = self.box_around(mask, reach_mm)
        if box is not None:
            away[box] = ndimage.distance_transform_edt(~mask[box], sampling=self.spacing_mm)
        return away

    def points_mm(self, box: Box) -> tuple[Float32, Float32, Float32]:
        """Millimetres along k, i and j of the voxels of a box, ready to broadcast."""
        k, i, j = (
            np.arange(s.start, s.stop, dtype=np.float32) * np.float32(mm)
            for s, mm in zip(box, self.spacing_mm, strict=True)
        )
        return k[:, None, None], i[None, :, None], j[None, None, :]

    def ellipsoid(self, centre_mm: tuple[float, float, float], radii_mm: tuple[float, float, float]) -> Bool:
        """Voxels of an ellipsoid with axes along k, i and j."""
        k, i, j = self.points_mm((slice(0, self.codes.shape[0]), slice(0, self.codes.shape[1]),
                                  slice(0, self.codes.shape[2])))  # fmt: skip
        ck, ci, cj = centre_mm
        rk, ri, rj = radii_mm
        inside: Bool = ((k - ck) / rk) ** 2 + ((i - ci) / ri) ** 2 + ((j - cj) / rj) ** 2 < 1
        return inside

    def capsule(
        self, start_mm: tuple[float, float, float], end_mm: tuple[float, float, float], radius_mm: float
    ) -> Bool:
        """Voxels within `radius_mm` of the segment between two points."""
        k, i, j = self.points_mm((slice(0, self.codes.shape[0]), slice(0, self.codes.shape[1]),
                                  slice(0, self.codes.shape[2])))  # fmt: skip
        a = np.array(start_mm, np.float32)
        along = np.array(end_mm, np.float32) - a
        length2 = max(float(along @ along), 1e-3)
        t = np.clip(((k - a[0]) * along[0] + (i - a[1]) * along[1] + (j - a[2]) * along[2]) / length2, 0, 1)
        d2 = (k - a[0] - t * along[0]) ** 2 + (i - a[1] - t * along[1]) ** 2 + (j - a[2] - t * along[2]) ** 2
        inside: Bool = d2 < radius_mm**2
        return inside
