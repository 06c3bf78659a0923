"""Figures of a patient and its ROIs that say whether they are like others: size, density, place.

Volume, extent, mean density and centre are those on the CT's own grid, which is what a planning system shows. All
others are measured on a model grid (axes superior, posterior, left; one spacing; air outside the body), so that they
can be compared whatever the scanner. Training patients and predictions are measured by the same functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from contour_ai.box import Box, bounding_box
from contour_ai.grid import Grid
from contour_ai.holes import fill_slices

Bool = NDArray[np.bool_]
Float = NDArray[np.float64]
Triple = tuple[float, float, float]

HU_COUNTED = (-1000, 1500)
"""HU beyond are counted as these: one metal implant must not decide the mean of an organ."""
MEDIAN_TAKEN_OF_HU = (-150, 200)
"""What counts as fat, muscle or organ: its median moves with the calibration, not with anatomy."""
AIR_IN_BODY_BELOW_HU = -300
BONE_SHARE_ABOVE_HU = 250
METAL_HU = 2500

SEEN_SHARE = 0.1
"""A slice shows the body where its cross-section is at least this share of the large ones (their 90 %): some images
hold specks or single organs where the rest was cut away."""

PLACE_ROUNDS = 20
"""Rounds of aligning patients and averaging: positions move by less than 0.1 mm after ten."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Body:
    """The body of a patient on a model grid, slice by slice.

    Args:
        mask: (k, i, j), filled in each slice.
        area_cm2: (K,) of its cross-section.
        seen: (K,) whether the slice shows it, see `SEEN_SHARE`.
        middle_mm: (K, 2) its centre of gravity, posterior and left of voxel (k, 0, 0); that of the nearest slice where
            it is not seen.
        spacing_mm: superior, posterior, left.
    """

    mask: Bool
    area_cm2: Float
    seen: Bool
    middle_mm: Float
    spacing_mm: Triple

    @property
    def ends(self) -> tuple[int, int]:
        """First and last slice that shows it; (0, -1) where there is none."""
        held = np.flatnonzero(self.seen)
        return (int(held[0]), int(held[-1])) if held.size else (0, -1)

    @property
    def ends_mm(self) -> tuple[float, float]:
        """Its lower and upper end in view, above the lower edge of slice 0."""
        first, last = self.ends
        return first * self.spacing_mm[0], (last + 1) * self.spacing_mm[0]

    @property
    def length_mm(self) -> float:
        """How much of the body is seen, from below to above."""
        first, last = self.ends
        return (last - first + 1) * self.spacing_mm[0]


@dataclass(frozen=True, kw_only=True)
class CtFigures:
    """One ROI on the CT's own grid: what tables, summary, report and flags say of it."""

    volume_cm3: float
    """Of the voxels inside; each slice stands for half of the way to its neighbours."""
    length_mm: float
    """Along the body, from its lowest to its highest voxel."""
    mean_hu: float | None
    """Of the voxels inside, see `HU_COUNTED`; None without an image."""
    centre_lps: Triple


@dataclass(frozen=True, kw_only=True)
class RoiFigures:
    """One ROI on a model grid; see `as_on_ct`."""

    volume_cm3: float
    length_mm: float
    """From its lowest to its highest slice."""
    mean_hu: float
    sd_hu: float
    left_mm: float
    """Of the body's axis: the centre of gravity of the body in the slices where the ROI lies. This, the next two and
    `left_share` are NaN where most of the ROI lies in slices that do not show the body."""
    posterior_mm: float
    body_area_cm2: float
    """The body's mean cross-section in these slices."""
    left_share: float
    """Share of the ROI's volume left of the body's axis."""
    bottom_share: float
    """Area of the lowest slice as a share of the largest: near 1 where an organ was cut off flat."""
    top_share: float
    centre_mm: Triple
    """Superior, posterior and left of voxel (0, 0, 0)."""
    parts: int
    """Connected over faces, edges or corners."""
    hole_cm3: float
    """Volume that is enclosed within the slices."""
    missing_slices: int
    """Empty slices between its lowest and its highest."""
    reaches_end: bool
    """Whether it goes to the first or last slice of the body: it may go on beyond the scan."""
    ends_mm: tuple[float, float] = (np.nan, np.nan)
    """Its lower and upper end, above the lower edge of slice 0."""


@dataclass(frozen=True, kw_only=True)
class InputFigures:
    """An image on a model grid: how it differs from the images that a network was trained on."""

    body_length_mm: float
    body_area_cm2: float
    """Median cross-section."""
    soft_tissue_hu: float
    air_share: float
    """Of the body's volume."""
    bone_share: float
    metal_cm3: float


@dataclass(frozen=True)
class PatientFigures:
    """A patient: the image, and the ROIs that are there."""

    image: InputFigures
    rois: Mapping[str, RoiFigures]
    body_ends_mm: tuple[float, float] = (np.nan, np.nan)
    """Of the body in view, as `RoiFigures.ends_mm`."""


def body_of(hu: NDArray[np.int16], outside_hu: int, spacing_mm: Triple) -> Body:
    """The body in a prepared image (k, i, j), where everything outside it is `outside_hu`."""
    mask = fill_slices(np.not_equal(hu, outside_hu))
    rows, columns = mask.sum(axis=2), mask.sum(axis=1)  # (K, I), (K, J)
    count = rows.sum(axis=1)
    middle = np.zeros((len(mask), 2))
    large = np.percentile(count[count > 0], 90) if count.any() else 0
    seen = (count > 0) & (count >= SEEN_SHARE * large)
    held = np.flatnonzero(seen)
    if held.size:
        middle[held, 0] = rows[held] @ np.arange(mask.shape[1]) / count[held]
        middle[held, 1] = columns[held] @ np.arange(mask.shape[2]) / count[held]
        nearest = held[np.abs(np.arange(len(mask))[:, None] - held).argmin(axis=1)]
        middle = middle[nearest] * spacing_mm[1:]
    return Body(
        mask=mask,
        area_cm2=count * spacing_mm[1] * spacing_mm[2] / 100,
        seen=seen,
        middle_mm=middle,
        spacing_mm=spacing_mm,
    )


def image_figures(hu: NDArray[np.int16], body: Body) -> InputFigures:
    """Size and density of a prepared image (k, i, j)."""
    values = hu[body.mask]
    soft = values[(values > MEDIAN_TAKEN_OF_HU[0]) & (values < MEDIAN_TAKEN_OF_HU[1])]
    total = max(1, values.size)
    voxel_cm3 = float(np.prod(body.spacing_mm)) / 1000
    held = body.area_cm2[body.seen]
    return InputFigures(
        body_length_mm=body.length_mm,
        body_area_cm2=float(np.median(held)) if held.size else 0.0,
        soft_tissue_hu=float(np.median(soft)) if soft.size else 0.0,
        air_share=np.count_nonzero(values < AIR_IN_BODY_BELOW_HU) / total,
        bone_share=np.count_nonzero(values > BONE_SHARE_ABOVE_HU) / total,
        metal_cm3=np.count_nonzero(values > METAL_HU) * voxel_cm3,
    )


def roi_figures(mask: Bool, hu: NDArray[np.int16], body: Body) -> RoiFigures | None:
    """One ROI's figures from its mask (k, i, j); None where it is empty."""
    box = bounding_box(mask)
    if box is None:
        return None
    inside, spacing = mask[box], np.array(body.spacing_mm)
    in_rows, in_columns = inside.sum(axis=2), inside.sum(axis=1)
    per_slice = in_rows.sum(axis=1)
    count = int(per_slice.sum())
    starts = [s.start for s in box]
    centre = np.array([per_slice @ np.arange(len(per_slice)), 0.0, 0.0])
    centre[1] = in_rows.sum(axis=0) @ np.arange(inside.shape[1])
    centre[2] = in_columns.sum(axis=0) @ np.arange(inside.shape[2])
    centre = (centre / count + starts) * spacing
    axis = per_slice @ body.middle_mm[box[0]] / count
    in_body = per_slice * body.seen[box[0]]
    known = 1.0 if in_body.sum() * 2 > count else np.nan
    lefts = (starts[2] + np.arange(inside.shape[2])) * spacing[2]
    past = lefts > body.middle_mm[box[0], 1][:, None]
    values = np.clip(hu[box][inside], *HU_COUNTED).astype(np.float64)
    voxel_cm3 = float(np.prod(spacing)) / 1000
    first, last = body.ends
    return RoiFigures(
        volume_cm3=count * voxel_cm3,
        length_mm=float(len(per_slice) * spacing[0]),
        mean_hu=float(values.mean()),
        sd_hu=float(values.std()),
        left_mm=float(centre[2] - axis[1]) * known,
        posterior_mm=float(centre[1] - axis[0]) * known,
        body_area_cm2=float(in_body @ body.area_cm2[box[0]] / max(1, in_body.sum())) * known,
        left_share=float((in_columns * past).sum() / count) * known,
        bottom_share=float(per_slice[0] / per_slice.max()),
        top_share=float(per_slice[-1] / per_slice.max()),
        centre_mm=(float(centre[0]), float(centre[1]), float(centre[2])),
        parts=int(ndimage.label(inside, np.ones((3, 3, 3)))[1]),
        hole_cm3=sum(holes_in_slices(inside).values()) * voxel_cm3,
        missing_slices=int(np.count_nonzero(per_slice == 0)),
        reaches_end=bool(box[0].start <= first or box[0].stop - 1 >= last),
        ends_mm=(float(box[0].start * spacing[0]), float(box[0].stop * spacing[0])),
    )


def as_on_ct(figures: RoiFigures, ct: CtFigures, model_grid: Grid) -> RoiFigures:
    """The figures of a ROI on a model grid, with size, density and place as they are on the CT's own grid."""
    k, i, j = model_grid.lps_to_index(ct.centre_lps) * model_grid.spacing_mm
    _, behind, left = figures.centre_mm
    return replace(
        figures,
        volume_cm3=ct.volume_cm3,
        length_mm=ct.length_mm,
        mean_hu=figures.mean_hu if ct.mean_hu is None else ct.mean_hu,
        centre_mm=(float(k), float(i), float(j)),
        left_mm=figures.left_mm + float(j) - left,
        posterior_mm=figures.posterior_mm + float(i) - behind,
    )


def ct_figures(inside: Bool, box: Box, grid: Grid, hu: NDArray[np.generic] | None = None) -> CtFigures | None:
    """One ROI's figures on the CT's grid; None where it is empty.

    Args:
        inside: mask (k, i, j) in `box`.
        box: where it lies on `grid`.
        hu: (k, i, j) of the CT.
    """
    in_rows, in_columns = inside.sum(axis=2), inside.sum(axis=1)  # (K, I), (K, J)
    count = in_rows.sum(axis=1)
    held = np.flatnonzero(count)
    if not held.size:
        return None
    k = held + box[0].start
    volumes = count[held] * grid.voxel_volumes_cm3[k]
    i = in_rows[held] @ np.arange(box[1].start, box[1].stop) / count[held]
    j = in_columns[held] @ np.arange(box[2].start, box[2].stop) / count[held]
    middles = grid.index_to_lps(np.stack([k, i, j], axis=-1))  # of what lies in each slice
    x, y, z = np.average(middles, axis=0, weights=volumes)
    mean = None
    if hu is not None:
        mean = float(np.clip(hu[box][inside], *HU_COUNTED).mean(dtype=np.float64))
    occupied = (k, *(np.flatnonzero(n.any(axis=0)) for n in (in_rows, in_columns)))
    return CtFigures(
        volume_cm3=float(volumes.sum()),
        length_mm=_length_mm(occupied, grid),
        mean_hu=mean,
        centre_lps=(float(x), float(y), float(z)),
    )


def _length_mm(occupied: Sequence[NDArray[np.intp]], grid: Grid) -> float:
    """mm from the first to the last of what is occupied on the axis of the grid that runs most along the body."""
    _, di, dj = grid.spacing_mm
    upwards = np.abs([grid.normal[2], grid.step_i_lps[2] / di, grid.step_j_lps[2] / dj])
    axis = int(upwards.argmax())
    first, last = int(occupied[axis][0]), int(occupied[axis][-1])
    if axis == 0:
        return float(grid.slice_widths_mm[first : last + 1].sum())
    return (last + 1 - first) * (di, dj)[axis - 1]


def holes_in_slices(inside: Bool) -> dict[int, int]:
    """{slice: voxels that are enclosed in it}, of a mask (k, i, j); slices without holes are not named."""
    enclosed = np.count_nonzero(fill_slices(inside) & ~inside, axis=(1, 2))
    return {int(k): int(enclosed[k]) for k in np.flatnonzero(enclosed)}


# -- where ROIs lie to each other ---------------------------------------------------------------------------


def fit_places(patients: Sequence[Mapping[str, Triple]]) -> dict[str, Triple]:
    """The typical position of every ROI in one frame, from their centres in each patient's own frame (mm).

    Patients are moved (not turned or scaled) so that their ROIs lie where those of the others do; medians throughout,
    so that a wrong contour moves nothing.
    """
    names = sorted({name for centres in patients for name in centres})
    # Start from the patient with most ROIs: then every other one shares some with what is known.
    places: dict[str, Float] = {}
    for centres in sorted(patients, key=lambda c: -len(c)):
        shift = _shift(centres, places)
        if shift is not None or not places:
            for name, centre in centres.items():
                places.setdefault(name, np.array(centre) - (0.0 if shift is None else shift))
    for _ in range(PLACE_ROUNDS):
        moved: dict[str, list[Float]] = {name: [] for name in names}
        for centres in patients:
            shift = _shift(centres, places)
            if shift is not None:
                for name, centre in centres.items():
                    moved[name].append(np.array(centre) - shift)
        places = {name: np.median(found, axis=0) for name, found in moved.items() if found}
    return {name: (float(p[0]), float(p[1]), float(p[2])) for name, p in places.items()}


def offset_mm(name: str, centres: Mapping[str, Triple], places: Mapping[str, Triple]) -> Float | None:
    """(3,) how far a ROI lies superior, posterior, left of where the patient's other ROIs say; None without others.

    They say it by their median. Of an even number it is an interval, and nothing within is wrong: so one ROI of three
    that lies wrong is found, and the other two are not blamed.
    """
    if name not in places or name not in centres:
        return None
    shifts = [np.subtract(c, places[n]) for n, c in centres.items() if n != name and n in places]
    if not shifts:
        return None
    ordered, mine = np.sort(shifts, axis=0), np.subtract(centres[name], places[name])
    return mine - np.clip(mine, ordered[(len(shifts) - 1) // 2], ordered[len(shifts) // 2])


def _shift(centres: Mapping[str, Triple], places: Mapping[str, Float]) -> Float | None:
    shared = [np.array(centre) - places[name] for name, centre in centres.items() if name in places]
    return np.median(shared, axis=0) if shared else None
