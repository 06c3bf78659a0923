"""How well a prediction agrees with a training patient's contours, on the model grid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contour_ai.box import bounding_box
from contour_ai.evaluation.confusion import Accuracies, Confusion
from contour_ai.evaluation.surface import surface_distances, surface_of
from contour_ai.evaluation.tolerances import load_tolerances
from contour_ai.grid import Grid
from contour_ai.mask_agreement import dice
from contour_ai.training.cache import Case
from contour_ai.volume import ABSENT, roi_voxels

FIGURES = ("dice", "surface_dice", "hd95_mm")
"""What is given of every ROI: Dice, surface Dice within the ROI's tolerance, 95 % Hausdorff distance."""


@dataclass
class CaseFigures:
    """Of one patient or several: plain numbers, so that they can be sent between processes."""

    patients: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    """{patient: {contoured ROI: {key of `FIGURES`: value}}}; a ROI that was not found has Dice 0 and HD95 infinite."""
    confusion: Confusion = field(default_factory=lambda: Confusion(0))

    def merge(self, other: CaseFigures) -> None:
        """Adds the patients of another process."""
        self.patients.update(other.patients)
        if len(self.confusion.matrix) == 1:
            self.confusion = other.confusion
        elif len(other.confusion.matrix) > 1:
            self.confusion.merge(other.confusion)

    def dice(self) -> dict[str, dict[str, float]]:
        """{patient: {ROI: Dice}}."""
        return {p: {roi: found["dice"] for roi, found in rois.items()} for p, rois in self.patients.items()}

    def mean(self, figure: str, roi: str) -> float:
        """Of a ROI over the patients that have it: the mean, of distances the median, as some are infinite.

        NaN where no patient has it.
        """
        values = [rois[roi][figure] for rois in self.patients.values() if roi in rois]
        if not values:
            return math.nan
        return float(np.median(values) if figure.endswith("_mm") else np.mean(values))

    def table(self, rois: Sequence[str]) -> dict[str, dict[str, float]]:
        """{figure: {ROI: mean}}."""
        return {figure: {roi: self.mean(figure, roi) for roi in rois} for figure in FIGURES}

    def accuracies(self) -> Accuracies | None:
        """Figures of the confusion matrix; None where ROIs overlap."""
        return self.confusion.accuracies()


def case_figures(logits: NDArray[np.float32], case: Case) -> CaseFigures:
    """The figures of one patient.

    Args:
        logits: (R, k, i, j) of the ROIs of `case`, on its grid.
    """
    confusion = Confusion(len(case.rois))
    bits = np.asarray(case.bits)
    confusion.add(logits, bits, case.presence, [state == ABSENT for state in case.states])
    rois = {}
    for r, roi in enumerate(case.rois):
        truth = roi_voxels(bits, r)
        if case.presence[r] and truth.any():
            rois[roi] = roi_figures(logits[r] > 0, truth, case.spacing_mm_kij, roi)
    return CaseFigures({case.patient_id: rois}, confusion)


def roi_figures(
    predicted: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    spacing_mm_kij: tuple[float, float, float],
    roi: str,
) -> dict[str, float]:
    """{key of `FIGURES`: value} of one ROI; `truth` is not empty."""
    box = bounding_box(predicted | truth)
    if box is None:
        return dict.fromkeys(FIGURES, math.nan)
    a, b = predicted[box], truth[box]
    grid = Grid.axial((a.shape[0], a.shape[1], a.shape[2]), spacing_mm_kij)
    distances = surface_distances(surface_of(a, grid), surface_of(b, grid), grid)
    return {
        "dice": dice(a, b, neither=math.nan),
        "surface_dice": distances.surface_dsc(load_tolerances().of(roi)),
        "hd95_mm": distances.percentile(95),
    }


class WorstRoi(NamedTuple):
    """The ROI of a patient that was found worst."""

    patient: str
    roi: str
    dice: float


def worst_cases(patients: Mapping[str, Mapping[str, float]], number: int = 3) -> list[WorstRoi]:
    """The worst ROI of each of the worst patients; not of those without a figure."""
    worst = [min((dice, roi) for roi, dice in rois.items()) for rois in patients.values() if rois]
    named = [patient for patient, rois in patients.items() if rois]
    ordered = sorted((dice, patient, roi) for (dice, roi), patient in zip(worst, named, strict=True))
    return [WorstRoi(patient, roi, dice) for dice, patient, roi in ordered[:number]]
