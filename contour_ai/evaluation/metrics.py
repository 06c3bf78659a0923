"""How well one ROI's prediction agrees with its reference: pure functions of masks on a grid, in mm and cm³."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from contour_ai.box import bounding_box
from contour_ai.errors import GeometryError
from contour_ai.evaluation.surface import surface_distances, surface_of
from contour_ai.grid import Grid
from contour_ai.mask_agreement import dice_of_sizes

Mask = NDArray[np.bool_]
NAN = float("nan")

DEFAULT_TAU_MM = 2.0
"""Tolerance of the surface DSC where none is asked for."""

TAU_SLACK_MM = 1e-6
"""Rounding of a distance: one that ought to equal the tolerance counts as within it."""

ALIKE, ENDS_COST = 0.75, 0.1
"""Two contours end elsewhere where the DSC in the slices that both reach is at least the first, and higher than that of
the whole by the second."""

BOTH = "both"
REFERENCE_MISSING = "reference missing"
PREDICTION_MISSING = "prediction missing"
NEITHER = "neither"

DEFINITIONS = {
    "dsc": "Dice similarity coefficient 2|A∩B| / (|A|+|B|), by volume.",
    "volume": "voxels inside times their volume, in cm³; each slice stands for half of the way to its neighbours.",
    "surface_dsc": "share of both surfaces, by area, within tau_mm of the other (Nikolov 2021; surface elements as in "
    "DeepMind's surface-distance).",
    "tau_mm": "tolerance of the surface DSC: by organ where a study of observers gives one, else 2 mm, unless --tau "
    "says otherwise; the source is named with the results.",
    "hd95_mm": "larger of the two directed 95th percentiles of surface distance, by area.",
    "hd100_mm": "Hausdorff distance: the largest surface distance.",
    "masd_mm": "mean of the two directed mean surface distances, by area.",
    "assd_mm": "mean surface distance over both surfaces pooled, by area.",
    "added_path_mm": "added path length: edge pixels of the reference farther than path_tau_mm from every edge pixel "
    "of the prediction in the same slice, summed over the slices, times the pixel size (Vaassen 2020, whose tolerance "
    "is 0).",
    "path_tau_mm": "tolerance of the added path length.",
    "volume_ratio": "predicted over reference volume.",
    "shift_mm": "predicted minus reference centroid: left (+) / right, posterior (+) / anterior, head (+) / feet.",
    "missed_slices": "slices with reference but no prediction.",
    "missed_inferior_slices": "those of them below the prediction's lowest slice, towards the feet (in a stack of "
    "coronal or sagittal slices: towards slice 1).",
    "missed_superior_slices": "those of them above its highest slice, towards the head.",
    "extra_slices": "slices with prediction but no reference.",
    "dsc_in_extent": "DSC with the prediction cut to the reference's extent, its lowest to its highest slice: clinics "
    "contour long organs (cord, esophagus) only as far as they need them.",
    "dsc_in_common": "DSC in the slices between the higher of the two lower ends and the lower of the two upper ends: "
    "where it is good and the DSC is not, the contour ends elsewhere and is not drawn wrongly.",
    "status": "reference missing: excluded from every average, and counted. prediction missing: DSC and surface DSC 0, "
    "distances infinite, never left out of an average. neither: undefined, excluded.",
}
"""What each figure means; printed with every report, because tools differ."""


@dataclass(frozen=True, kw_only=True)
class RoiMetrics:
    """The figures of one ROI in one patient (see `DEFINITIONS`); NaN is undefined, inf is without a prediction."""

    roi: str
    status: str
    reference_cm3: float
    predicted_cm3: float
    dsc: float = NAN
    tau_mm: float = DEFAULT_TAU_MM
    surface_dsc: float = NAN
    hd95_mm: float = NAN
    hd100_mm: float = NAN
    masd_mm: float = NAN
    assd_mm: float = NAN
    added_path_mm: float = NAN
    volume_ratio: float = NAN
    shift_left_mm: float = NAN
    shift_posterior_mm: float = NAN
    shift_superior_mm: float = NAN
    missed_slices: int = 0
    extra_slices: int = 0
    path_tau_mm: float = 0.0
    missed_inferior_slices: int = 0
    missed_superior_slices: int = 0
    dsc_in_extent: float = NAN
    dsc_in_common: float = NAN

    @property
    def ends_elsewhere(self) -> bool:
        """Whether the two contours are alike but for where they end along the body."""
        return self.dsc_in_common >= ALIKE and self.dsc_in_common - self.dsc >= ENDS_COST


@dataclass(frozen=True, kw_only=True)
class PatientKey:
    """Whose figures they are.

    Args:
        patient: what the patient is called; a name for people.
        series_uid: of the CT that was contoured, which tells patients apart; "" where the name does.
    """

    patient: str
    series_uid: str = ""


@dataclass(frozen=True, kw_only=True)
class Row(RoiMetrics, PatientKey):
    """One ROI of one patient: patient, CT and all figures side by side, as a line of a table.

    `pandas.DataFrame(rows)` makes a table of them, with the columns of `metrics.csv` and `series_uid`.
    """

    @classmethod
    def of(cls, patient: str, metrics: RoiMetrics, series_uid: str = "") -> Row:
        """The figures of one ROI, with the patient they are of."""
        return cls(patient=patient, series_uid=series_uid, **vars(metrics))

    @property
    def metrics(self) -> RoiMetrics:
        """The figures alone."""
        return RoiMetrics(**{field.name: getattr(self, field.name) for field in fields(RoiMetrics)})

    @property
    def pairing(self) -> tuple[str, str]:
        """What a row of another prediction must share to be of the same ROI of the same patient."""
        return self.series_uid or self.patient, self.roi


def roi_metrics(
    predicted: Mask | None,
    reference: Mask | None,
    grid: Grid,
    *,
    roi: str = "",
    tau_mm: float = DEFAULT_TAU_MM,
    path_tau_mm: float = 0.0,
) -> RoiMetrics:
    """All figures of one ROI.

    Args:
        predicted: (k, i, j) on `grid`; None where the ROI was not predicted, which counts as empty.
        reference: (k, i, j) on `grid`; None where it was not contoured. An empty one counts as not contoured.
        tau_mm: tolerance of the surface DSC.
        path_tau_mm: tolerance of the added path length.

    Raises:
        GeometryError: a mask has not the grid's shape.
    """
    pair = [_checked(mask, grid) for mask in (predicted, reference)]
    boxes = [bounding_box(mask) for mask in pair]
    found = [box for box in boxes if box is not None]
    if not found:
        return RoiMetrics(
            roi=roi,
            status=NEITHER,
            reference_cm3=0.0,
            predicted_cm3=0.0,
            tau_mm=tau_mm,
            path_tau_mm=path_tau_mm,
        )
    box = _around(found, grid.shape_kij[0])
    part = grid.crop(box)
    a, b = (mask[box] for mask in pair)
    volumes = [volume_cm3(mask, part) for mask in (a, b)]
    slices_a, slices_b = (np.asarray(mask.any(axis=(1, 2))) for mask in (a, b))
    missed, extra = slices_b & ~slices_a, int((slices_a & ~slices_b).sum())
    if boxes[1] is None:
        return RoiMetrics(
            roi=roi,
            status=REFERENCE_MISSING,
            reference_cm3=0.0,
            predicted_cm3=volumes[0],
            tau_mm=tau_mm,
            path_tau_mm=path_tau_mm,
            extra_slices=extra,
        )
    below, above = _at_the_ends(missed, slices_a, grid)
    distances = surface_distances(surface_of(a, part), surface_of(b, part), part)
    shift = np.full(3, NAN) if boxes[0] is None else centroid_lps(a, part) - centroid_lps(b, part)
    return RoiMetrics(
        roi=roi,
        status=PREDICTION_MISSING if boxes[0] is None else BOTH,
        reference_cm3=volumes[1],
        predicted_cm3=volumes[0],
        dsc=_volume_dice(a, b, part),
        tau_mm=tau_mm,
        surface_dsc=distances.surface_dsc(tau_mm),
        hd95_mm=distances.percentile(95),
        hd100_mm=distances.percentile(100),
        masd_mm=distances.masd(),
        assd_mm=distances.assd(),
        added_path_mm=added_path_mm(a, b, part, path_tau_mm),
        volume_ratio=volumes[0] / volumes[1],
        shift_left_mm=float(shift[0]),
        shift_posterior_mm=float(shift[1]),
        shift_superior_mm=float(shift[2]),
        missed_slices=int(missed.sum()),
        extra_slices=extra,
        path_tau_mm=path_tau_mm,
        missed_inferior_slices=below,
        missed_superior_slices=above,
        dsc_in_extent=_dsc_in_extent(a, b, slices_b, part),
        dsc_in_common=_dsc_in_common(a, b, part),
    )


def _dsc_in_extent(predicted: Mask, reference: Mask, contoured: NDArray[np.bool_], grid: Grid) -> float:
    held = np.flatnonzero(contoured)
    cut = predicted.copy()
    cut[: held[0]], cut[held[-1] + 1 :] = False, False
    return _volume_dice(cut, reference, grid)


def _dsc_in_common(a: Mask, b: Mask, grid: Grid) -> float:
    """NaN where the two have no slices in common."""
    held = [np.flatnonzero(mask.any(axis=(1, 2))) for mask in (a, b)]
    if not all(ks.size for ks in held):
        return NAN
    low, high = max(ks[0] for ks in held), min(ks[-1] for ks in held) + 1
    if low >= high:
        return NAN
    common = slice(int(low), int(high))
    whole = [np.zeros_like(mask) for mask in (a, b)]
    for cut, mask in zip(whole, (a, b), strict=True):
        cut[common] = mask[common]
    return _volume_dice(whole[0], whole[1], grid)


def _volume_dice(a: Mask, b: Mask, grid: Grid) -> float:
    return dice_of_sizes(volume_cm3(a & b, grid), volume_cm3(a, grid), volume_cm3(b, grid), neither=NAN)


def volume_cm3(mask: Mask, grid: Grid) -> float:
    """Volume of a (k, i, j) mask; every slice counts for the length of patient it stands for."""
    return float(np.count_nonzero(mask, axis=(1, 2)) @ grid.voxel_volumes_cm3)


def centroid_lps(mask: Mask, grid: Grid) -> NDArray[np.float64]:
    """(3,) centre of mass of a (k, i, j) mask in LPS mm, slices weighted by the length they stand for.

    Raises:
        GeometryError: the mask is empty.
    """
    of_slice = grid.slice_widths_mm * np.count_nonzero(mask, axis=(1, 2))
    if not of_slice.any():
        raise GeometryError("An empty mask has no centroid.")
    rows = np.count_nonzero(mask, axis=2) @ np.arange(mask.shape[1]) * grid.slice_widths_mm
    columns = np.count_nonzero(mask, axis=1) @ np.arange(mask.shape[2]) * grid.slice_widths_mm
    total = of_slice @ grid.positions_lps + rows.sum() * grid.step_i_lps + columns.sum() * grid.step_j_lps
    return total / of_slice.sum()


def added_path_mm(predicted: Mask, reference: Mask, grid: Grid, tau_mm: float = 0.0) -> float:
    """Length of reference contour still to be drawn: its edge pixels off the predicted edge, times the pixel size.

    An edge pixel is inside and has one of its four neighbours in the slice outside. It is off the predicted edge
    where no predicted edge pixel of the same slice lies within `tau_mm`. The pixel size is the mean of row and column
    spacing.
    """
    missing = _edges(reference)
    drawn = _edges(predicted)
    _, di, dj = grid.spacing_mm
    slack = tau_mm + TAU_SLACK_MM
    for i in range(-int(slack / di), int(slack / di) + 1):
        width = int(math.sqrt(slack**2 - (i * di) ** 2) / dj)
        for j in range(-width, width + 1):
            to, source = _moved(i, j)
            missing[to] &= ~drawn[source]
    return int(np.count_nonzero(missing)) * (di + dj) / 2


def _moved(i: int, j: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where pixels go that move by `i` rows and `j` columns, and which ones stay in the picture."""

    def part(n: int) -> slice:
        return slice(n, None) if n > 0 else slice(None, n or None)

    return (slice(None), part(i), part(j)), (slice(None), part(-i), part(-j))


def _at_the_ends(missed: NDArray[np.bool_], predicted: NDArray[np.bool_], grid: Grid) -> tuple[int, int]:
    """How many missed slices lie beyond the prediction's lowest and highest slice; all at both ends of an empty one."""
    held = np.flatnonzero(predicted)
    if not held.size:
        return int(missed.sum()), int(missed.sum())
    first, last = int(missed[: held[0]].sum()), int(missed[held[-1] :].sum())
    return (first, last) if grid.normal[2] >= 0 else (last, first)


def _edges(mask: Mask) -> Mask:
    inner = np.zeros_like(mask)
    inner[:, 1:-1, 1:-1] = mask[:, :-2, 1:-1] & mask[:, 2:, 1:-1] & mask[:, 1:-1, :-2] & mask[:, 1:-1, 2:]
    return mask & ~inner


def _checked(mask: Mask | None, grid: Grid) -> Mask:
    if mask is None:
        return np.zeros(grid.shape_kij, bool)
    if mask.shape != grid.shape_kij:
        raise GeometryError(
            "A mask must have the shape of its grid.", found=mask.shape, expected=grid.shape_kij
        )
    return mask.astype(bool, copy=False)


def _around(boxes: list[tuple[slice, slice, slice]], slices: int) -> tuple[slice, slice, slice]:
    """The smallest box around boxes, and a slice more at both ends where there is one of `slices`.

    How much of the patient a slice stands for, and how far its surface lies, is decided by its neighbours.
    """
    k, i, j = (
        slice(min(b[axis].start for b in boxes), max(b[axis].stop for b in boxes)) for axis in range(3)
    )
    return slice(max(0, k.start - 1), min(slices, k.stop + 1)), i, j
