"""What is measured of a contoured ROI of a training patient, so that the archive can be checked before it is learnt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contour_ai.box import bounding_box
from contour_ai.evaluation.metrics import centroid_lps, volume_cm3
from contour_ai.grid import Grid
from contour_ai.quality.figures import ct_figures

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
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

    @property
    def area_cm2(self) -> float:
        """Mean cross-section; 0 where it is empty."""
        return 10 * self.volume_cm3 / self.length_mm if self.length_mm else 0.0

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> RoiFacts:
        """From what `vars` gave."""
        return cls(**values)


def measure_roi(
    mask: Mask,
    body: Mask,
    grid: Grid,
    *,
    hu: NDArray[Any] | None = None,
    contours: int = 0,
    unused_contours: int = 0,
) -> RoiFacts:
    """Measures one ROI.

    Args:
        mask: (k, i, j) of the ROI on `grid`.
        body: (k, i, j) of the patient on `grid`.
        hu: (k, i, j) of the CT.
        contours: closed contours of the ROI.
        unused_contours: those that lie on no slice.
    """
    box = bounding_box(mask)
    if box is None:
        return RoiFacts(contours, unused_contours)
    part, here, inside = grid.crop(box), mask[box], body[box]
    slices = here.any(axis=(1, 2))  # (K,) of the part
    figures = ct_figures(here, box, grid, hu)
    assert figures is not None
    shown = np.flatnonzero(body.any(axis=(1, 2)))
    length_mm = float(grid.slice_widths_mm[box[0]].sum())
    first, last = (int(shown[0]), int(shown[-1])) if shown.size else (0, grid.shape_kij[0] - 1)
    return RoiFacts(
        contours=contours,
        unused_contours=unused_contours,
        volume_cm3=figures.volume_cm3,
        slices=int(slices.sum()),
        missing_slices=int((~slices).sum()),
        length_mm=length_mm,
        scan_share=min(length_mm / float(grid.slice_widths_mm[first : last + 1].sum()), 1.0),
        cut=box[0].start <= first or box[0].stop - 1 >= last,
        outside_share=1 - volume_cm3(here & inside, part) / volume_cm3(here, part),
        left_mm=_left_mm(here, body[box[0]], part, grid.crop((box[0], slice(None), slice(None)))),
        extent_mm=figures.length_mm,
        mean_hu=figures.mean_hu,
    )


def _left_mm(roi: Mask, body: Mask, roi_grid: Grid, body_grid: Grid) -> float:
    """x grows to the patient's left in DICOM's patient coordinates (PS3.3 C.7.6.2.1.1)."""
    slices: Mask = np.any(roi, axis=(1, 2))
    around = np.logical_and(body, slices[:, None, None])
    if not around.any():
        return 0.0
    return float(centroid_lps(roi, roi_grid)[0] - centroid_lps(around, body_grid)[0])
