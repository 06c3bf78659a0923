"""What a quality finding is made from, and what it says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from contour_ai.box import Box
from contour_ai.grid import Grid
from contour_ai.slice_names import slices_text
from contour_ai.structures import RoiInfo

Bool = NDArray[np.bool_]


EXTERNAL = "EXTERNAL"
CODES: Mapping[str, str] = {
    "empty": "the model found nothing",
    "beyond_scan": "the model found nothing, and the scan does not reach where it lies",
    "speck": "a volume far below what any such organ has",
    "touches_scan_end": "reaches the first or last slice, which few training patients' contours do",
    "touches_field_of_view": "reaches the border of the image",
    "parts": "more separate parts than training patients have",
    "left_out": "the model's own rule removed disconnected parts that the network was sure of",
    "holes": "larger holes than training patients have",
    "slice_gaps": "slices without a contour between slices with one",
    "wrong_side": "a left ROI on the right, or the other way round",
    "low_confidence": "the boundary is uncertain along much of the surface",
    "volume": "volume outside the training range",
    "length": "extent along the body outside the training range",
    "mean_hu": "mean density outside the training range",
    "hu_spread": "standard deviation of the density outside the training range",
    "position_in_body": "position relative to the body's axis, or the body's cross-section there, outside the range",
    "position_to_rois": "position relative to the other ROIs outside the training range",
    "cut_off": "ends more abruptly than in training patients",
    "ends_elsewhere": "ends elsewhere along the body than the training patients' contours: another guideline, or cut",
    "input_body_cut": "the border of the image cuts the body",
    "input_missing_anatomy": "many of the model's ROIs are empty or cut",
    "input_slice_distance": "slices farther apart than in training, and than the model's voxels",
    "input_pixel_size": "pixels larger than in training, and than the model's voxels",
    "input_field_of_view": "image narrower than in training",
    "input_scan_length": "more or less of the body in view than in training",
    "input_body_size": "the body's cross-section outside the training range",
    "input_soft_tissue": "density of soft tissue outside the training range: another calibration",
    "input_air": "share of air in the body outside the training range",
    "input_bone": "share of bone in the body outside the training range",
    "input_metal": "more metal than in training",
    "input_orientation": "the patient lies otherwise than the header says: left and right, or head and feet, exchanged",
    "input_sex": "the patient's sex does not fit the model's organs or training patients",
    "input_age": "younger or older than the training patients, or a child",
    "input_posture": "lies in a way in which no training patient lay",
    "input_contrast": "contrast medium that no training patient had, or none",
    "input_kvp": "tube voltage outside that of the training patients",
    "input_tilt": "a gantry tilt that no training patient had",
    "other_region": "most of the model's ROIs are empty or grossly wrong: another region of the body, or another body",
    "needs_correction": "the model's figures together make it probable that the contour needs correction",
    "other_sex": "an organ that patients of the header's PatientSex do not have",
    "other_organ": "the contour of another organ than its name says, by what the model finds",
    "duplicate": "the same voxels as another ROI",
    "outside_body": "outside the body",
}
"""Every code that there is. Those that begin with `input_` concern the image as a whole, the others one ROI."""
DECIMALS_OF_UNIT = {"cm3": 3, "HU": 1}
"""Of numbers and limits by unit, where not 4."""


@dataclass(frozen=True, kw_only=True)
class Flag:
    """A quality finding.

    Args:
        code: one of `CODES`, for programs.
        reason: for people; names the number, its limit and, where it is a part of the ROI, the slices.
        value: the number.
        low, high: its limits; None where that side is open.
        unit: of all three; "" for shares and counts.
        slices: numbers of the slices concerned, from 1 along the slice normal.
    """

    code: str
    reason: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str = ""
    slices: tuple[int, ...] = ()


@dataclass(frozen=True)
class RemovedOutside:
    """What of a contour lay outside the body, and was removed.

    Args:
        volume_cm3: of the CT's voxels.
        slices: numbers of the slices concerned, from 1.
    """

    volume_cm3: float = 0.0
    slices: tuple[int, ...] = ()

    @classmethod
    def of(cls, beyond: Bool, box: Box, grid: Grid) -> RemovedOutside:
        """From the mask (k, i, j) of what was removed, in `box` on the CT's grid."""
        counts = np.count_nonzero(beyond, axis=(1, 2))
        held = np.flatnonzero(counts)
        if not held.size:
            return NOTHING_OUTSIDE
        volume = float(counts @ grid.voxel_volumes_cm3[box[0]])
        return cls(volume, tuple(int(k) + box[0].start + 1 for k in held))


NOTHING_OUTSIDE = RemovedOutside()


@dataclass(frozen=True, eq=False, kw_only=True)
class Evidence:
    """One predicted ROI, on the CT's grid and on the model's.

    Args:
        info: name and type.
        box: where `inside` lies on the CT's grid; None where the ROI is empty.
        inside: mask (k, i, j) in the box.
        logit: (k, i, j) on the model's grid, what was refused pushed below `threshold`; None for a ROI by rule.
        threshold: the logit of its surface.
        left_out: (k, i, j) on the model's grid, of what the network was sure of and a rule refused; None for nothing.
        outside: what of the contour lay outside the body and was removed.
    """

    info: RoiInfo
    box: Box | None = None
    inside: Bool | None = None
    logit: NDArray[np.float32] | None = None
    threshold: float = 0.0
    left_out: Bool | None = None
    outside: RemovedOutside = NOTHING_OUTSIDE


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageEvidence:
    """What ROIs were found in: the CT's grid and body, and the prepared image.

    Args:
        grid: of the CT.
        body: (k, i, j) on it; None where it is not known.
        hu: (k, i, j) on the model's grid, `outside_hu` outside the body.
        model_grid: axes superior, posterior, left.
        ct_hu: (k, i, j) on the CT's grid; None takes the density of ROIs from `hu`.
    """

    grid: Grid
    body: Bool | None
    hu: NDArray[np.int16]
    model_grid: Grid
    outside_hu: int
    ct_hu: NDArray[np.generic] | None = None


@dataclass(frozen=True)
class PatientFlags:
    """All flags of one prediction: of the image, and by ROI."""

    image: tuple[Flag, ...] = ()
    rois: Mapping[str, tuple[Flag, ...]] = field(default_factory=dict)


def all_slices(roi: Evidence) -> tuple[int, ...]:
    if roi.box is None or roi.inside is None:
        return ()
    return tuple(int(k) + roi.box[0].start + 1 for k in np.flatnonzero(roi.inside.any(axis=(1, 2))))


def make_flag(
    code: str,
    reason: str,
    value: float,
    low: float | None,
    high: float | None,
    unit: str = "",
    slices: Iterable[int] = (),
) -> Flag:
    """Plain numbers: what NumPy gives does not go into JSON; rounded as in the summary of the ROI."""
    decimals = DECIMALS_OF_UNIT.get(unit, 4)

    def plain(number: float | None) -> float | None:
        return None if number is None else round(float(number), decimals)

    return Flag(
        code=code,
        reason=reason,
        value=plain(value),
        low=plain(low),
        high=plain(high),
        unit=unit,
        slices=tuple(int(k) for k in slices),
    )


def numbers_text(numbers: Iterable[int], grid: Grid | None = None) -> str:
    """Slices by their numbers from 1, as `slices_text` names them."""
    return slices_text(grid, (n - 1 for n in numbers))
