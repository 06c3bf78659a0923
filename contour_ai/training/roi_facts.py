"""What is measured of a contoured ROI of a training patient, so that the archive can be checked before it is learnt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contour_ai.box import Box
from contour_ai.grid import Grid
from contour_ai.quality.figures import ct_figures

Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class RoiFacts:
    """A ROI as it was contoured in one patient, on the CT's own grid. Places are the patient's, whatever way it lay."""

    contours: int = 0
    """Closed contours in the structure set."""
    unused_contours: int = 0
    """Those of them that lie on no slice of the CT."""
    volume_cm3: float = 0.0
    slices: int = 0
    """Slices with a voxel of it."""
    missing_slices: int = 0
    """Slices without one between the first and the last."""
    length_mm: float = 0.0
    """From the first to the last slice, both included."""
    scan_share: float = 0.0
    """Its length as a share of the part of the scan that shows the patient."""
    cut: bool = False
    """Whether it reaches an end of the part of the scan that shows the patient: it may go on beyond."""
    outside_share: float = 0.0
    """Share of it that lies outside the body."""
    left_mm: float = 0.0
    """How far its centre lies to the patient's left of the middle of the body in the same slices."""

    extent_mm: float = 0.0
    """Along the body, whatever way the slices run; 0 where it is empty, or was measured before this was."""
    elsewhere: str = ""
    """Why it is not on this CT at all, as a sentence; empty where it is."""
    mean_hu: float | None = None
    """Of the voxels inside; None where it is empty, or was measured before this was."""
    centre_lps: tuple[float, float, float] | None = None
    """mm in the CT's coordinates; None where it is empty, or was measured before this was."""

    @property
    def area_cm2(self) -> float:
        """Mean cross-section; 0 where it is empty."""
        return 10 * self.volume_cm3 / self.length_mm if self.length_mm else 0.0

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> RoiFacts:
        """From what `vars` gave."""
        centre = values.get("centre_lps")
        return cls(**{**values, "centre_lps": None if centre is None else tuple(centre)})


@dataclass(frozen=True, eq=False, kw_only=True)
class BodySlices:
    """The body of a patient as ROIs are measured against it, slice by slice.

    Args:
        mask: (k, i, j) on `grid`.
        voxels: (K,) in each slice.
        rows: (K,) sum of the row numbers of these voxels.
        columns: (K,) sum of their column numbers.
        grid: the CT's.
    """

    mask: Mask
    voxels: NDArray[np.int64]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    grid: Grid

    @classmethod
    def of(cls, mask: Mask, grid: Grid) -> BodySlices:
        """From the mask."""
        per_row, per_column = np.count_nonzero(mask, axis=2), np.count_nonzero(mask, axis=1)
        return cls(
            mask=mask,
            voxels=per_row.sum(axis=1),
            rows=per_row @ np.arange(mask.shape[1]),
            columns=per_column @ np.arange(mask.shape[2]),
            grid=grid,
        )

    @property
    def ends(self) -> tuple[int, int]:
        """First and last slice that shows the patient; those of the scan where none does."""
        shown = np.flatnonzero(self.voxels)
        return (int(shown[0]), int(shown[-1])) if shown.size else (0, self.grid.shape_kij[0] - 1)

    def centre_lps(self, slices: NDArray[np.intp]) -> NDArray[np.float64] | None:
        """(3,) centre of the body in some slices, each weighted by the length that it stands for; None without any."""
        widths = self.grid.slice_widths_mm[slices]
        weights = widths * self.voxels[slices]
        if not weights.any():
            return None
        along_i, along_j = widths @ self.rows[slices], widths @ self.columns[slices]
        total = weights @ self.grid.positions_lps[slices]
        centre: NDArray[np.float64] = total + along_i * self.grid.step_i_lps + along_j * self.grid.step_j_lps
        return centre / weights.sum()


def measure_roi(
    drawn: tuple[Box, Mask] | None,
    body: BodySlices,
    *,
    hu: NDArray[np.generic] | None = None,
    contours: int = 0,
    unused_contours: int = 0,
) -> RoiFacts:
    """Measures one ROI.

    Args:
        drawn: the smallest box that holds the ROI, and its mask (k, i, j) in it; None where it has no voxel.
        body: of the patient.
        hu: (k, i, j) of the CT.
        contours: closed contours of the ROI.
        unused_contours: those that lie on no slice.
    """
    if drawn is None:
        return RoiFacts(contours=contours, unused_contours=unused_contours)
    (box, here), grid = drawn, body.grid
    per_slice = np.count_nonzero(here, axis=(1, 2))  # (K,) of the box
    held = np.flatnonzero(per_slice)
    volumes_cm3 = grid.voxel_volumes_cm3[box[0]]
    figures = ct_figures(here, box, grid, hu)
    assert figures is not None
    length_mm = float(grid.slice_widths_mm[box[0]].sum())
    first, last = body.ends
    outside = np.count_nonzero(here & ~body.mask[box], axis=(1, 2))
    middle = body.centre_lps(held + box[0].start)
    return RoiFacts(
        contours=contours,
        unused_contours=unused_contours,
        volume_cm3=figures.volume_cm3,
        slices=int(held.size),
        missing_slices=int(per_slice.size - held.size),
        length_mm=length_mm,
        scan_share=min(length_mm / float(grid.slice_widths_mm[first : last + 1].sum()), 1.0),
        cut=box[0].start <= first or box[0].stop - 1 >= last,
        outside_share=float(outside @ volumes_cm3) / float(per_slice @ volumes_cm3),
        # x grows to the patient's left (PS3.3 C.7.6.2.1.1).
        left_mm=0.0 if middle is None else float(figures.centre_lps[0] - middle[0]),
        extent_mm=figures.length_mm,
        mean_hu=figures.mean_hu,
        centre_lps=figures.centre_lps,
    )
