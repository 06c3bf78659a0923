"""Brings the contours of a ROI to the CT slices whose planes they lie on, and decides what they mean together.

Nothing is dropped without a note that names it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from contour_ai.dicom import notes as note
from contour_ai.dicom.frames import why_not_on_ct
from contour_ai.dicom.structure_set import ContourRead, RoiContoursRead
from contour_ai.grid import Grid
from contour_ai.polygons import Polygon, resolve_overlaps
from contour_ai.slice_names import slice_text, slices_text

if TYPE_CHECKING:
    from contour_ai.dicom.ct import CTSeries

OnNote = Callable[[str], None]

CLOSED, XOR = "CLOSED_PLANAR", "CLOSEDPLANAR_XOR"
AREA_TYPES = (CLOSED, XOR)
"""Contours that enclose an area (PS3.3 C.8.8.6.3). Those of the second are always filled even-odd."""

LINE_WORDS = ("OPEN", "POINT", "LINE", "NONPLANAR")
"""What the names of types have that enclose no area."""

FEWEST_POINTS = 3
"""Of a contour that encloses an area."""

OFF_PLANE_NOTE_MM = 0.1
"""Contours farther than this from their slice are mentioned: more than rounding, though still used."""

SAME_PLANE_MM = 0.05
"""Contours of a slice that lie this near to each other are on one plane."""

SNAP_DECIMALS = 5
"""Slice coordinates are rounded to 1e-5 voxel, the noise of decimal text, so that contours drawn through voxel centres
fall on the same side everywhere."""


def contours_on_slices(roi: RoiContoursRead, ct: CTSeries, on_note: OnNote) -> dict[int, list[Polygon]]:
    """{k: (N, 2) polygons in slice coordinates} of one ROI, in the order of the slices.

    Filled even-odd, they give the area that is meant: contours that are there twice are left out, and where contours
    overlap in part, those of that slice are new outlines around their voxels. Empty for a ROI that was drawn in another
    frame of reference.
    """
    return place_roi(roi, ct, on_note).slices


@dataclass(frozen=True, eq=False, kw_only=True)
class PlacedRoi:
    """The contours of a ROI on the slices of a CT.

    Args:
        slices: {k: polygons}, see `contours_on_slices`.
        closed: number of closed contours that the ROI has.
        unused: those of them that lie on no slice of the CT.
        elsewhere: why it has no place on the CT, as a sentence; empty where it has one.
    """

    slices: dict[int, list[Polygon]]
    closed: int
    unused: int
    elsewhere: str = ""


def place_roi(roi: RoiContoursRead, ct: CTSeries, on_note: OnNote) -> PlacedRoi:
    """`contours_on_slices`, and how many of the contours are used."""
    closed = sum(
        area_type(c.geometric_type) is not None and len(c.points_lps) >= FEWEST_POINTS for c in roi.contours
    )
    elsewhere = why_not_on_ct(roi, ct)
    if elsewhere is not None:
        on_note(elsewhere)
        return PlacedRoi(slices={}, closed=closed, unused=closed, elsewhere=elsewhere)
    if not roi.contours and not roi.unreadable:
        on_note(note.no_contours(roi.name))
    placing = _Placing(ct.grid, _slice_of_uid(ct.sop_instance_uids), roi.name)
    for contour in roi.contours:
        placing.add(contour)
    slices = placing.finish(on_note)
    return PlacedRoi(slices=slices, closed=closed, unused=closed - placing.used)


def area_type(geometric_type: str) -> str | None:
    """The type of `AREA_TYPES` that a ContourGeometricType stands for, None for points and open lines.

    Unknown types, such as INTERPOLATED_PLANAR, are taken for closed contours.
    """
    plain = geometric_type.replace(" ", "_").replace("-", "_")
    if plain in AREA_TYPES:
        return plain
    if plain.endswith("XOR"):
        return XOR
    return None if any(word in plain for word in LINE_WORDS) else CLOSED


def _slice_of_uid(uids: Sequence[str]) -> dict[str, int]:
    """Images that stand for one slice; multi-frame files and damaged headers repeat a UID or have none."""
    counts = Counter(uids)
    return {uid: k for k, uid in enumerate(uids) if uid and counts[uid] == 1}


class _Placing:
    """Collects the contours of one ROI slice by slice, and what could not be placed."""

    def __init__(self, grid: Grid, slice_of_uid: Mapping[str, int], roi: str) -> None:
        self.grid, self.slice_of_uid, self.roi = grid, slice_of_uid, roi
        steps = np.stack([grid.step_i_lps, grid.step_j_lps], axis=1)
        self.to_slice = steps / (steps**2).sum(axis=0)
        gaps = grid.slice_spacings_mm if grid.shape_kij[0] > 1 else np.array([grid.slice_thickness_mm])
        self.reach_mm = np.minimum(np.append(gaps, gaps[-1:]), np.insert(gaps, 0, gaps[0])) / 2
        self.found: dict[int, list[tuple[float, Polygon]]] = {}
        self.even_odd: set[int] = set()
        self.used = 0
        """Contours on the slices, once `finish` has chosen between planes."""
        self.problems: dict[tuple[_Sentence, str], list[str]] = {}

    def problem(self, sentence: _Sentence, place: str, kind: str = "") -> None:
        self.problems.setdefault((sentence, kind), []).append(place)

    def add(self, contour: ContourRead) -> None:
        points, kind = contour.points_lps, area_type(contour.geometric_type)
        if kind is None:
            self.problem(_without_area, _at(points), contour.geometric_type)
        elif len(points) < FEWEST_POINTS:
            self.problem(_few_points, _at(points))
        else:
            self._place(contour, points @ self.grid.normal, even_odd=kind == XOR)

    def _place(self, contour: ContourRead, offsets_mm: NDArray[np.float64], *, even_odd: bool) -> None:
        points, offset_mm = contour.points_lps, float(offsets_mm.mean())
        k, distance = self._slice(contour.image_uid, offset_mm)
        reach = float(self.reach_mm[k])
        if offsets_mm.max() - offsets_mm.min() > reach:
            self.problem(_not_planar, _at(points))
            return
        if distance >= reach:
            self.problem(_on_no_slice, f"{_at(points)}, {distance:.2f} mm from the nearest slice")
            return
        if distance > OFF_PLANE_NOTE_MM:
            self.problem(_off_slice, f"{distance:.2f} mm off {slice_text(self.grid, k)}")
        if contour.geometric_type not in AREA_TYPES:
            self.problem(_unknown_type, slice_text(self.grid, k), contour.geometric_type)
        if even_odd:
            self.even_odd.add(k)
        self.found.setdefault(k, []).append((offset_mm, self._in_slice(points, k)))

    def _slice(self, image_uid: str, offset_mm: float) -> tuple[int, float]:
        """The slice of a contour and its distance in mm: the image it refers to where that agrees with its plane."""
        distances = np.abs(self.grid.slice_offsets_mm - offset_mm)
        nearest = int(distances.argmin())
        named = self.slice_of_uid.get(image_uid)
        if named is not None and named != nearest:
            if distances[named] < self.reach_mm[named]:
                return named, float(distances[named])
            self.problem(
                _other_image,
                f"image of {slice_text(self.grid, named)}, contour on {slice_text(self.grid, nearest)}",
            )
        return nearest, float(distances[nearest])

    def _in_slice(self, points: NDArray[np.float64], k: int) -> Polygon:
        return np.round((points - self.grid.positions_lps[k]) @ self.to_slice, SNAP_DECIMALS)

    def finish(self, on_note: OnNote) -> dict[int, list[Polygon]]:
        """Polygons by slice; where contours of several planes fall on one slice, those of the nearest plane."""
        result = {k: self.nearest_plane(k) for k in sorted(self.found)}
        self.used = sum(map(len, result.values()))
        twice, joined, poking = Counter[int](), Counter[int](), Counter[int]()
        several = {k: polygons for k, polygons in result.items() if len(polygons) > 1}
        resolved = resolve_overlaps(several, self.grid.shape_kij[1:], even_odd=self.even_odd)
        for k, found in resolved.items():
            result[k] = found.polygons
            twice[k], joined[k], poking[k] = found.copies, found.joined, found.poking
        for (sentence, kind), places in self.problems.items():
            on_note(sentence(self.roi, len(places), kind, note.places_in_words(places)))
        for counts, say in (
            (+twice, note.contours_twice),
            (+joined, note.contours_overlap),
            (+poking, note.holes_poke_out),
        ):
            if counts:
                on_note(say(self.roi, counts.total(), slices_text(self.grid, counts)))
        self._tell_gaps(list(result), on_note)
        return result

    def nearest_plane(self, k: int) -> list[Polygon]:
        nearest = min((h for h, _ in self.found[k]), key=lambda h: abs(h - self.grid.slice_offsets_mm[k]))
        polygons = []
        for offset_mm, polygon in self.found[k]:
            if abs(offset_mm - nearest) <= SAME_PLANE_MM:
                polygons.append(polygon)
            else:
                where = f"{slice_text(self.grid, k)}, planes {abs(offset_mm - nearest):.2f} mm apart"
                self.problem(_second_plane, where)
        return polygons

    def _tell_gaps(self, with_contour: Sequence[int], on_note: OnNote) -> None:
        if not with_contour:
            return
        extent = with_contour[-1] - with_contour[0] + 1
        missing = sorted(set(range(with_contour[0], with_contour[-1])).difference(with_contour))
        if missing:
            where = slices_text(self.grid, missing)
            on_note(note.slices_without_contour(self.roi, len(missing), extent, where))


def _at(points: NDArray[np.float64]) -> str:
    if not len(points):
        return "without points"
    x, y, z = points.mean(axis=0)
    return f"{len(points)} points around ({x:.1f}, {y:.1f}, {z:.1f}) mm"


_Sentence = Callable[[str, int, str, str], note.Note]
"""(ROI, number of contours, geometric type, places) to a note."""


def _plain(say: Callable[[str, int, str], note.Note]) -> _Sentence:
    return lambda roi, number, kind, places: say(roi, number, places)


_without_area: _Sentence = note.contours_without_area
_unknown_type: _Sentence = note.contours_of_unknown_type
_few_points = _plain(note.contours_of_few_points)
_not_planar = _plain(note.contours_not_planar)
_on_no_slice = _plain(note.contours_on_no_slice)
_off_slice = _plain(note.contours_off_slice)
_other_image = _plain(note.contours_of_other_image)
_second_plane = _plain(note.contours_of_second_plane)
