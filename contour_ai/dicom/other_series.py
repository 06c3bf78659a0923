"""Refuses a structure set whose contours lie on several CT series of a folder.

A scan whose UIDs change from slice to slice, and whose slices cannot be joined, is several series. Each would be read
alone, and the contours on the others would be lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from contour_ai.dicom.joining import PIECES_OF_A_SCAN
from contour_ai.dicom.slice_header import Slice, read_slices
from contour_ai.dicom.slices import DIRECTION_TOL, ROUNDING_MM, SAME_PLACE, SPACING_TOL_MM
from contour_ai.errors import InputError, listed

if TYPE_CHECKING:
    from contour_ai.dicom.archive import CTSeriesFiles
    from contour_ai.dicom.ct import CTSeries
    from contour_ai.dicom.structure_set import ContourRead, RoiContoursRead, StructureSet
    from contour_ai.grid import Grid

ON_PLANE_MM = 0.1
"""A contour this near to a slice lies on it: positions are written with so many digits."""

LOST_SHARE = 0.1
"""From this part of all contours on, it matters that they lie on other series, whatever these are. A ROI or two that
were drawn on another scan stay below it."""


WAY_OUT = (
    f"{PIECES_OF_A_SCAN}; to go on with the contours on one series alone, give a folder that holds no other CT series, "
    "with this structure set in it"
)
SERIES_NAMED = 4
"""Other series that a message names; of more it says how many."""


@dataclass(frozen=True, eq=False, kw_only=True)
class SeveralSeries:
    """How the contours of a structure set lie on several CT series of a folder, of which one is read.

    Args:
        path: the structure set.
        ct: the series that is read, in words.
        contours: number of all contours with points.
        on_ct: number of those on the series that is read.
        on_others: {another series, in words: number of contours on it}, the most contours first.
        elsewhere: the contours on other series, by `id`.
    """

    path: Path
    ct: str
    contours: int
    on_ct: int
    on_others: Mapping[str, int]
    elsewhere: frozenset[int]

    def counts(self, which: str = "") -> str:
        """How many contours lie where; `which` says more about the series that is read."""
        others = listed((f"{n} on {series}" for series, n in self.on_others.items()), most=SERIES_NAMED)
        return f"of {self.contours} contours {self.on_ct} on {which}{self.ct}; {others}"

    def refusal(self, which: str = "the CT series that is read, ") -> InputError:
        """The error for what would read the contours with one of the series."""
        return InputError(
            "The contours of this structure set lie on several CT series of one folder; read with one of them, "
            "ROIs would be incomplete.",
            where=self.path,
            found=self.counts(which),
            expected="all contours on one CT series",
            fix=WAY_OUT,
        )

    def without_elsewhere(self, roi: RoiContoursRead) -> RoiContoursRead:
        """A ROI without its contours on other series."""
        return replace(roi, contours=tuple(c for c in roi.contours if id(c) not in self.elsewhere))


@dataclass(frozen=True, eq=False, kw_only=True)
class _OffPlane:
    """A contour that lies on the plane of no slice of the CT.

    Args:
        roi: name of its ROI.
        contour: as it was read.
        image_uid: the image it refers to, or "".
        slice_offset_mm: of its plane along the slice normal.
        between: whether it is so near to a slice that it is drawn there.
    """

    roi: str
    contour: ContourRead
    image_uid: str
    slice_offset_mm: float
    between: bool


def several_series(structure_set: StructureSet, ct: CTSeries) -> SeveralSeries | None:
    """Where contours lie on other CT series of the folder, so that ROIs would be cut in silence; None where not.

    A contour lies on another series where it refers to an image of it. Where it refers to no image of the folder, and
    there are many such contours, their planes decide, and only series with pixels as the CT's count. What lies on the
    plane of a slice of the CT is the CT's, whatever it refers to.

    What counts is a ROI that continues on another series with such pixels, and a tenth of all contours on other series.
    """
    if not ct.beside:
        return None
    planar = [
        (roi.name, contour)
        for roi in structure_set.rois
        for contour in roi.contours
        if len(contour.points_lps)
    ]
    off = list(_off_plane(planar, ct.grid))
    if not off:
        return None
    elsewhere = _by_image(off, ct)
    cut = _cut_rois(planar, elsewhere, ct)
    named = {id(one) for one, _ in elsewhere}
    here = set(ct.sop_instance_uids)
    rest = [one for one in off if id(one) not in named and one.image_uid not in here]
    if len(elsewhere) + len(rest) >= LOST_SHARE * len(planar):
        elsewhere += _by_plane(rest, ct)
    if not cut and len(elsewhere) < LOST_SHARE * len(planar):
        return None
    return SeveralSeries(
        path=structure_set.path,
        ct=f"{ct.series_instance_uid or 'without UID'} with {len(ct.paths)} slice(s)",
        contours=len(planar),
        on_ct=len(planar) - len(off),
        on_others=dict(Counter(str(ct.beside[n]) for _, n in elsewhere).most_common()),
        elsewhere=frozenset(id(one.contour) for one, _ in elsewhere),
    )


def _off_plane(planar: Sequence[tuple[str, ContourRead]], grid: Grid) -> Iterator[_OffPlane]:
    offsets = grid.slice_offsets_mm
    half = (np.diff(offsets).min() if len(offsets) > 1 else grid.slice_thickness_mm) / 2
    contour_offsets_mm = _contour_offsets_mm([contour.points_lps for _, contour in planar], grid.normal)
    distances = _distances_to_nearest(contour_offsets_mm, offsets)
    for n in np.flatnonzero(np.isfinite(distances) & (distances > ON_PLANE_MM)).tolist():
        roi, contour = planar[n]
        yield _OffPlane(
            roi=roi,
            contour=contour,
            image_uid=contour.image_uid,
            slice_offset_mm=float(contour_offsets_mm[n]),
            between=bool(distances[n] < half - ON_PLANE_MM),
        )


def _contour_offsets_mm(
    contours: Sequence[NDArray[np.float64]], normal: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The mean offset along a normal, for each of several contours; none of them is empty."""
    counts = np.array([len(points) for points in contours])
    with np.errstate(all="ignore"):  # coordinates of any origin, among them such that overflow
        sums = np.array([np.add.reduce(points, axis=0) for points in contours]).reshape(-1, 3)
        contour_offsets_mm: NDArray[np.float64] = (sums / counts[:, None]) @ normal
    return contour_offsets_mm


def _distances_to_nearest(
    contour_offsets_mm: NDArray[np.float64], offsets: NDArray[np.float64]
) -> NDArray[np.float64]:
    """From each contour to the nearest of the slices' offsets, which ascend."""
    above = np.clip(np.searchsorted(offsets, contour_offsets_mm), 0, len(offsets) - 1)
    with np.errstate(all="ignore"):
        return np.minimum(
            np.abs(offsets[above] - contour_offsets_mm),
            np.abs(offsets[above - (above > 0)] - contour_offsets_mm),
        )


def _by_image(off: Sequence[_OffPlane], ct: CTSeries) -> list[tuple[_OffPlane, int]]:
    """(contour, number of the series beside the CT) of contours that refer to an image of that series."""
    wanted = {one.image_uid for one in off} - {""} - set(ct.sop_instance_uids)
    series_of: dict[str, int] = {}
    for n, one in enumerate(ct.beside if wanted else ()):
        series_of.update(dict.fromkeys(wanted.intersection(one.sop_instance_uids), n))
    found = [(one, series_of[one.image_uid]) for one in off if one.image_uid in series_of]
    fits = {n: _fits(ct.beside[n], ct) for n in sorted({n for one, n in found if one.between})}
    return [(one, n) for one, n in found if not one.between or fits[n]]


def _by_plane(off: Sequence[_OffPlane], ct: CTSeries) -> list[tuple[_OffPlane, int]]:
    """The same, of contours whose plane is that of a slice there."""
    found: list[tuple[_OffPlane, int]] = []
    left = list(off)
    for n, one in enumerate(ct.beside):
        if not left:
            break
        if one.patient_id != ct.patient_id or not _fits(one, ct):
            continue
        offsets = _offsets_mm(_slices(one), ct)
        on = [c for c in left if len(offsets) and np.abs(offsets - c.slice_offset_mm).min() <= ON_PLANE_MM]
        found += [(c, n) for c in on]
        left = [c for c in left if c not in on]
    return found


def _cut_rois(
    planar: Sequence[tuple[str, ContourRead]], elsewhere: Sequence[tuple[_OffPlane, int]], ct: CTSeries
) -> set[str]:
    """ROIs that lie in part on the CT and in part on a series that could be a piece of the same scan."""
    lost = Counter(one.roi for one, _ in elsewhere)
    of_roi = Counter(roi for roi, _ in planar)
    partly = {roi for roi, number in lost.items() if number < of_roi[roi]}
    numbers = sorted({n for one, n in elsewhere if one.roi in partly})
    pieces = {n for n in numbers if _fits(ct.beside[n], ct)}
    return {one.roi for one, n in elsewhere if one.roi in partly and n in pieces}


def _fits(series: CTSeriesFiles, ct: CTSeries) -> bool:
    """Whether a series could be a piece of the CT's scan: pixels alike, and no slice at the place of one of the CT."""
    slices = _slices(series)
    if not slices or not all(_is_alike(one, ct) for one in slices):
        return False
    own, offsets = ct.grid.slice_offsets_mm, _offsets_mm(slices, ct)
    usual = float(np.median(np.diff(own))) if len(own) > 1 else ct.grid.slice_thickness_mm
    nearest = np.abs(offsets[:, None] - own).min()
    return bool(nearest > max(ROUNDING_MM, SAME_PLACE * usual))


def _is_alike(one: Slice, ct: CTSeries) -> bool:
    grid = ct.grid
    row, column = grid.step_j_lps, grid.step_i_lps
    spacing = float(np.linalg.norm(column)), float(np.linalg.norm(row))
    orientation = np.concatenate([row / spacing[1], column / spacing[0]])
    return (
        (one.rows, one.columns) == grid.shape_kij[1:]
        and bool(np.abs(np.array(one.orientation) - orientation).max() <= DIRECTION_TOL)
        and bool(np.abs(np.array(one.pixel_spacing_mm) - spacing).max() <= SPACING_TOL_MM)
    )


def _slices(series: CTSeriesFiles) -> list[Slice]:
    try:
        return read_slices(series.paths)
    except InputError:
        return []


def _offsets_mm(slices: Sequence[Slice], ct: CTSeries) -> NDArray[np.float64]:
    return np.array([one.position_lps for one in slices], dtype=np.float64).reshape(-1, 3) @ ct.grid.normal
