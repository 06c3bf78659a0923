"""Dose to a ROI from an RTDOSE: mean, the hottest 0.03 cm3, and what 95 % of the volume gets.

Sampled at the voxel centres of the CT, linearly between the dose's own; outside the dose grid there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contour_ai.dicom.header import UNREADABLE, damaged, read_data_set
from contour_ai.errors import InputError
from contour_ai.grid import Grid

HOTTEST_CM3 = 0.03


@dataclass(frozen=True, kw_only=True)
class RoiDose:
    """Gy. Mean dose, least dose of the hottest 0.03 cm3 (D0.03cc), dose that 95 % of the volume gets at least (D95)."""

    mean_gy: float
    d003cc_gy: float
    d95_gy: float


@dataclass(frozen=True, eq=False)
class Dose:
    """A dose on its own grid: (k, i, j) Gy."""

    gray: NDArray[np.float64]
    grid: Grid

    def at(self, points_lps: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N,) Gy at (N, 3) points in mm; 0 outside."""
        from scipy import ndimage

        index = self.grid.lps_to_index(points_lps)
        return np.asarray(ndimage.map_coordinates(self.gray, index.T, order=1, cval=0.0))


def read_dose(path: Path) -> Dose:
    """Reads an RTDOSE (PS3.3 C.8.8.3).

    Raises:
        InputError: not a dose in Gy on a regular grid, or damaged.
    """
    data_set = read_data_set(path)
    try:
        if str(data_set.get("DoseUnits", "")) != "GY":
            raise InputError("This dose is not in Gy.", where=path, found=data_set.get("DoseUnits"))
        stored = data_set.pixel_array
        stored = stored if stored.ndim == 3 else stored[None]
        offsets = np.array(data_set.get("GridFrameOffsetVector") or [0.0], np.float64)
        cosines = np.array(data_set.ImageOrientationPatient, np.float64)
        down, across = (float(v) for v in data_set.PixelSpacing)
        step_i, step_j = cosines[3:] * down, cosines[:3] * across
        normal = np.cross(cosines[:3], cosines[3:])
        origin = np.array(data_set.ImagePositionPatient, np.float64)
        gray = stored.astype(np.float64) * float(data_set.DoseGridScaling)
    except UNREADABLE as error:
        raise damaged(path, error) from error
    relative = offsets - offsets[0]
    order = np.argsort(relative)
    positions = origin + relative[order, None] * normal
    return Dose(
        gray[order], Grid(shape_kij=gray.shape, positions_lps=positions, step_i_lps=step_i, step_j_lps=step_j)
    )


def roi_dose(mask: NDArray[np.bool_], grid: Grid, dose: Dose) -> RoiDose | None:
    """Dose to the voxels of a mask (k, i, j) on a CT's grid; None for an empty one."""
    index = np.argwhere(mask)
    if not len(index):
        return None
    values = dose.at(grid.index_to_lps(index))
    volumes = grid.voxel_volumes_cm3[index[:, 0]]
    order = np.argsort(-values)
    values, cumulated = values[order], np.cumsum(volumes[order])
    hottest = values[min(int(np.searchsorted(cumulated, HOTTEST_CM3)), len(values) - 1)]
    coldest = values[min(int(np.searchsorted(cumulated, 0.95 * cumulated[-1])), len(values) - 1)]
    mean = float(np.average(values, weights=volumes[order]))
    return RoiDose(mean_gy=mean, d003cc_gy=float(hottest), d95_gy=float(coldest))
