"""Reads structure sets and brings every contour to the CT slice whose plane it lies on.

Nothing is dropped without a note that names it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.uid import RTStructureSetStorage

from contour_ai.dicom.contour_items import (
    CONTOUR_DATA,
    CONTOUR_GEOMETRIC_TYPE,
    CONTOUR_IMAGE_SEQUENCE,
    UNDEFINED_LENGTH,
    RawContour,
    numbers_of,
    raw_contours,
    uid_in,
)
from contour_ai.dicom.header import UNREADABLE
from contour_ai.errors import InputError
from contour_ai.grid import Grid
from contour_ai.polygons import Polygon, filled_slices
from contour_ai.volume import MAX_ROIS, Structures, bits_dtype

if TYPE_CHECKING:
    from contour_ai.dicom.ct import CTSeries

log = logging.getLogger(__name__)

OnNote = Callable[[str], None]

AREA_TYPES = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
"""Contours that enclose an area; both are filled even-odd."""

OFF_PLANE_NOTE_MM = 0.1
"""Contours farther than this from their slice are mentioned: more than rounding, though still used."""

SAME_PLANE_MM = 0.05
"""Contours of a slice that lie this near to each other are on one plane."""

SNAP_DECIMALS = 5
"""Slice coordinates are rounded to 1e-5 voxel, the noise of decimal text, so that contours drawn through voxel centres
fall on the same side everywhere."""


CONTOUR_SEQUENCE = 0x30060040


@dataclass(frozen=True, eq=False)
class ContourRead:
    """One contour as it is in the file: (N, 3) LPS mm, geometric type, the image it refers to (or "")."""

    points_lps: NDArray[np.float64]
    geometric_type: str
    image_uid: str


@dataclass(frozen=True, eq=False)
class RoiContoursRead:
    """One ROI as it is in the file; `name` is unique in the set, `original_name` is what the file says."""

    name: str
    original_name: str
    number: int
    contours: tuple[ContourRead, ...]
    color: tuple[int, int, int] | None = None
    interpreted_type: str = ""
    algorithm: str = ""
    description: str = ""


@dataclass(frozen=True, eq=False)
class StructureSet:
    """A structure set as it is in the file, on no grid yet; `notes` say what could not be used."""

    path: Path
    label: str
    sop_instance_uid: str
    patient_id: str
    frame_of_reference_uid: str
    referenced_series_uids: tuple[str, ...]
    rois: tuple[RoiContoursRead, ...]
    notes: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(roi.name for roi in self.rois)


def load_structure_set(path: Path) -> StructureSet:
    """Parses an RTSTRUCT file, also one without preamble.

    Raises:
        InputError: not a DICOM file, not a structure set, or truncated.
    """
    path = Path(path)
    dataset = _dataset(path)
    notes: list[str] = []
    try:
        rois = tuple(_rois(dataset, notes))
        references = _references(dataset)
    except InputError:
        raise
    except UNREADABLE as error:
        raise InputError(
            "The structure set is damaged.", where=path, found=error, fix="export it again"
        ) from error
    return StructureSet(
        path=path,
        label=str(dataset.get("StructureSetLabel") or ""),
        sop_instance_uid=str(dataset.get("SOPInstanceUID") or ""),
        patient_id=str(dataset.get("PatientID") or ""),
        frame_of_reference_uid=references[0],
        referenced_series_uids=references[1],
        rois=rois,
        notes=tuple(notes),
    )


def read_structures(
    source: Path | StructureSet,
    ct: CTSeries,
    *,
    names: Sequence[str] | None = None,
    on_note: OnNote | None = None,
) -> Structures:
    """All ROIs, or those in `names` and in that order, as bits on the CT's grid.

    A ROI is marked present where it has at least one closed contour on the CT. `on_note` is told, in plain words, what
    was odd or could not be used; without it that goes to the log as warnings.

    Raises:
        InputError: not a structure set, of another patient, or more than 64 ROIs.
    """
    structure_set, note = _opened(source, ct, on_note)
    wanted = tuple(structure_set.names if names is None else names)
    if len(wanted) > MAX_ROIS:
        raise InputError(
            "Too many ROIs for one set of structures.",
            where=structure_set.path,
            found=len(wanted),
            expected=f"at most {MAX_ROIS}",
            fix="name the ROIs you need",
        )
    bits = np.zeros(ct.grid.shape_kij, bits_dtype(len(wanted)))
    presence = []
    for r, name in enumerate(wanted):
        slices = _slices_of(structure_set, name, ct, note)
        bit = bits.dtype.type(1 << r)
        for k, box, inside in filled_slices(slices, ct.grid.shape_kij[1:]):
            bits[k][box] |= inside * bit
        presence.append(bool(slices))
    return Structures(bits, ct.grid, wanted, tuple(presence))


def iter_masks(
    source: Path | StructureSet,
    ct: CTSeries,
    names: Sequence[str] | None = None,
    *,
    on_note: OnNote | None = None,
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """(name, mask (k, i, j)) of ROI after ROI, so that only one mask is in memory; empty where it has no contour."""
    structure_set, note = _opened(source, ct, on_note)
    for name in structure_set.names if names is None else names:
        mask = np.zeros(ct.grid.shape_kij, dtype=bool)
        for k, box, inside in filled_slices(_slices_of(structure_set, name, ct, note), ct.grid.shape_kij[1:]):
            mask[k][box] = inside
        yield name, mask


def contours_on_slices(
    roi: RoiContoursRead, ct: CTSeries, on_note: OnNote | None = None
) -> dict[int, list[Polygon]]:
    """{k: (N, 2) polygons in slice coordinates} of one ROI, in the order of the slices."""
    placed = _Placing(ct.grid, _slice_of_uid(ct.sop_instance_uids), roi.name)
    for contour in roi.contours:
        placed.add(contour)
    return placed.finish(on_note or log.warning)


# -- parsing -----------------------------------------------------------------------------------------------------


def _dataset(path: Path) -> Dataset:
    try:
        dataset = pydicom.dcmread(path, force=True)
        kind = (str(dataset.get("Modality") or ""), str(dataset.get("SOPClassUID") or ""))
    except OSError as error:
        raise InputError(
            "The structure set cannot be read.", where=path, found=error.strerror or error
        ) from error
    except UNREADABLE as error:
        raise InputError("This is not a DICOM file, or a damaged one.", where=path, found=error) from error
    if kind[0] != "RTSTRUCT" and kind[1] != RTStructureSetStorage:
        raise InputError(
            "This file is no structure set.",
            where=path,
            found=f"modality {kind[0] or 'unknown'}",
            expected="RTSTRUCT",
        )
    if is_cut_short(dataset):
        raise InputError(
            "The structure set is cut short.",
            where=path,
            found="its last element has fewer bytes than it says",
            fix="copy or export it again",
        )
    return dataset


def is_cut_short(dataset: Dataset) -> bool:
    """Whether the file ended in the middle of an element; pydicom gives what there is without a word."""
    if not len(dataset):
        return False
    last: Any = dataset.get_item(max(dataset.keys()))
    if isinstance(last, RawDataElement):
        return last.length != UNDEFINED_LENGTH and len(last.value or b"") < last.length
    return last.VR == "SQ" and bool(last.value) and is_cut_short(last.value[-1])


def _rois(dataset: Dataset, notes: list[str]) -> Iterator[RoiContoursRead]:
    contours: dict[int, Dataset] = {}
    for item in dataset.get("ROIContourSequence") or ():
        number = _integer(item.get("ReferencedROINumber"))
        if number is None:
            notes.append("an item of ROIContourSequence refers to no ROI number and is not used")
        elif number in contours:
            notes.append(f"ROI number {number} has two items of contours; the second one is not used")
        else:
            contours[number] = item
    types = {
        _integer(o.get("ReferencedROINumber")): str(o.get("RTROIInterpretedType") or "")
        for o in dataset.get("RTROIObservationsSequence") or ()
    }
    taken: set[str] = set()
    numbers: set[int] = set()
    for item in dataset.get("StructureSetROISequence") or ():
        number = _integer(item.get("ROINumber"))
        original = str(item.get("ROIName") or "").strip()
        if number is None or number in numbers:
            notes.append(
                f"ROI {original or 'without name'} has "
                + ("no number" if number is None else f"the number {number} of another one")
                + " and is not used"
            )
            continue
        numbers.add(number)
        name = _unique_name(original or f"ROI_{number}", taken)
        if name != original:
            notes.append(f"ROI {original or 'without name'} (number {number}) is called {name} here")
        yield _roi(item, contours.pop(number, None), types.get(number, ""), name, number, notes)
    for number in contours:
        notes.append(f"contours refer to ROI number {number}, which is not in the list of ROIs; not used")


def _roi(
    item: Dataset, contour: Dataset | None, kind: str, name: str, number: int, notes: list[str]
) -> RoiContoursRead:
    color = None
    read: list[ContourRead] = []
    if contour is not None:
        values = contour.get("ROIDisplayColor")
        if values is not None and len(values) == 3:
            color = (int(values[0]), int(values[1]), int(values[2]))
        raw = _raw_contours(contour)
        for n, (c, values) in enumerate(zip(raw, numbers_of([c.numbers for c in raw]), strict=True), start=1):
            wrong = _why_no_points(values)
            if wrong:
                notes.append(f"ROI {name}: contour {n} cannot be read and is not used ({wrong})")
            elif not isinstance(values, ValueError):
                shape = c.geometric_type.decode("ascii", "replace").upper() or "CLOSED_PLANAR"
                read.append(ContourRead(values.reshape(-1, 3), shape, c.image_uid))
    return RoiContoursRead(
        name=name,
        original_name=str(item.get("ROIName") or ""),
        number=number,
        contours=tuple(read),
        color=color,
        interpreted_type=kind,
        algorithm=str(item.get("ROIGenerationAlgorithm") or ""),
        description=str(item.get("ROIDescription") or ""),
    )


def _raw_contours(contour: Dataset) -> list[RawContour]:
    """The contours of an item of ROIContourSequence."""
    sequence: Any = contour.get_item(CONTOUR_SEQUENCE) if CONTOUR_SEQUENCE in contour else None
    found = raw_contours(sequence) if isinstance(sequence, RawDataElement) else None
    if found is not None:
        return found
    items = contour.get("ContourSequence") or ()
    return [RawContour(raw_numbers(c), _geometric_type(c), image_uid(c)) for c in items]


def raw_numbers(contour: Dataset) -> bytes:
    """The bytes of ContourData: numbers with a backslash between them."""
    value = _raw(contour, CONTOUR_DATA)
    if isinstance(value, bytes):
        return value.strip(b" \0")
    if value is None:
        return b""
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        return str(value).encode()
    return b"\\".join(str(v).encode() for v in value)


def _raw(item: Dataset, tag: int) -> Any:
    """A value as it came from the file (bytes, where pydicom has not converted it yet), or None."""
    return item.get_item(tag).value if tag in item else None


def _why_no_points(values: NDArray[np.float64] | ValueError) -> str:
    """What is wrong with the numbers of a contour, or ""."""
    if isinstance(values, ValueError):
        return str(values)
    if len(values) % 3:
        return f"{len(values)} numbers, which is not a multiple of 3"
    return "" if np.isfinite(values).all() else "a coordinate is not a finite number"


def _geometric_type(contour: Dataset) -> bytes:
    value = _raw(contour, CONTOUR_GEOMETRIC_TYPE)
    return value.strip(b" \0") if isinstance(value, bytes) else str(value or "").strip(" \0").encode()


def image_uid(contour: Dataset) -> str:
    """ReferencedSOPInstanceUID of the image a contour was drawn on, or ""."""
    value = _raw(contour, CONTOUR_IMAGE_SEQUENCE)
    uid = uid_in(value) if isinstance(value, bytes) else None
    if uid is not None:
        return uid
    images = contour.get("ContourImageSequence")
    return str(images[0].get("ReferencedSOPInstanceUID") or "") if images else ""


def _references(dataset: Dataset) -> tuple[str, tuple[str, ...]]:
    """(frame of reference, referenced series) of a structure set, empty where it does not say."""
    frames: list[str] = []
    series: list[str] = []
    for frame in dataset.get("ReferencedFrameOfReferenceSequence") or ():
        frames.append(str(frame.get("FrameOfReferenceUID") or ""))
        for study in frame.get("RTReferencedStudySequence") or ():
            for item in study.get("RTReferencedSeriesSequence") or ():
                series.append(str(item.get("SeriesInstanceUID") or ""))
    frames += [
        str(r.get("ReferencedFrameOfReferenceUID") or "")
        for r in dataset.get("StructureSetROISequence") or ()
    ]
    frames.append(str(dataset.get("FrameOfReferenceUID") or ""))
    return next(filter(None, frames), ""), tuple(dict.fromkeys(filter(None, series)))


def _integer(value: object) -> int | None:
    try:
        return int(str(value))
    except ValueError:
        return None


def _unique_name(name: str, taken: set[str]) -> str:
    unique, n = name, 1
    while unique in taken:
        n += 1
        unique = f"{name} ({n})"
    taken.add(unique)
    return unique


# -- placing on slices -------------------------------------------------------------------------------------------


def _opened(source: Path | StructureSet, ct: CTSeries, on_note: OnNote | None) -> tuple[StructureSet, OnNote]:
    structure_set = source if isinstance(source, StructureSet) else load_structure_set(source)

    def note(text: str) -> None:
        (on_note or log.warning)(f"{structure_set.path.name}: {text}")

    refuse_strangers(structure_set, ct)
    for text in structure_set.notes:
        note(text)
    frame = ct.grid.frame_of_reference_uid
    if frame and structure_set.frame_of_reference_uid not in ("", frame):
        note(
            f"frame of reference {structure_set.frame_of_reference_uid} is not the CT's ({frame}); "
            "contours are placed by their coordinates"
        )
    return structure_set, note


def refuse_strangers(structure_set: StructureSet, ct: CTSeries) -> None:
    """Raises InputError where the structure set belongs to another patient, by ID and by every reference.

    De-identified exports often differ in one of them; all together are another patient.
    """
    patient = str(ct.header.get("PatientID") or "")
    frame = ct.grid.frame_of_reference_uid
    series = str(ct.header.get("SeriesInstanceUID") or "")
    images = set(ct.sop_instance_uids)
    if (
        patient
        and structure_set.patient_id not in ("", patient)
        and structure_set.frame_of_reference_uid != frame
        and series not in structure_set.referenced_series_uids
        and not any(c.image_uid in images for roi in structure_set.rois for c in roi.contours)
    ):
        raise InputError(
            "The structure set belongs to another patient than the CT.",
            where=structure_set.path,
            found=f"patient {structure_set.patient_id}",
            expected=f"patient {patient}",
            fix="give the structure set that was drawn on this CT",
        )


def _slices_of(
    structure_set: StructureSet, name: str, ct: CTSeries, note: OnNote
) -> dict[int, list[Polygon]]:
    roi = next((r for r in structure_set.rois if r.name == name), None)
    if roi is None:
        note(f"there is no ROI {name}")
        return {}
    if not roi.contours:
        note(f"ROI {name} has no contours")
    return contours_on_slices(roi, ct, note)


def _slice_of_uid(uids: Sequence[str]) -> dict[str, int]:
    """Images that stand for one slice; multi-frame files and damaged headers repeat a UID or have none."""
    counts = Counter(uids)
    return {uid: k for k, uid in enumerate(uids) if uid and counts[uid] == 1}


class _Placing:
    """Collects the contours of one ROI slice by slice, and what could not be placed."""

    def __init__(self, grid: Grid, slice_of_uid: Mapping[str, int], roi: str) -> None:
        self.grid, self.slice_of_uid, self.roi = grid, slice_of_uid, roi
        gaps = grid.slice_spacings_mm if grid.shape_kij[0] > 1 else np.array([grid.slice_thickness_mm])
        self.reach_mm = np.minimum(np.append(gaps, gaps[-1:]), np.insert(gaps, 0, gaps[0])) / 2
        self.found: dict[int, list[tuple[float, Polygon]]] = {}
        self.problems: dict[str, list[str]] = {}

    def problem(self, what: str, detail: str) -> None:
        self.problems.setdefault(what, []).append(detail)

    def add(self, contour: ContourRead) -> None:
        points = contour.points_lps
        if contour.geometric_type not in AREA_TYPES:
            self.problem(f"{contour.geometric_type} contours enclose no area and are not used", _at(points))
            return
        if len(points) < 3:
            self.problem("contours with fewer than 3 points enclose no area and are not used", _at(points))
            return
        heights = points @ self.grid.normal
        height = float(heights.mean())
        k, distance = self._slice(contour.image_uid, height)
        reach = float(self.reach_mm[k])
        if np.ptp(heights) > reach:
            self.problem("contours that do not lie in a slice plane are not used", _at(points))
        elif distance >= reach:
            self.problem(
                "contours that lie on no slice are not used",
                f"{_at(points)}, {distance:.2f} mm from the nearest slice",
            )
        else:
            if distance > OFF_PLANE_NOTE_MM:
                self.problem(
                    "contours lie off their slices and are used there", f"{distance:.2f} mm off slice {k}"
                )
            self.found.setdefault(k, []).append((height, self._in_slice(points, k)))

    def _slice(self, image_uid: str, height: float) -> tuple[int, float]:
        """The slice of a contour and its distance in mm: the image it refers to where that agrees with its plane."""
        distances = np.abs(self.grid.heights_mm - height)
        nearest = int(distances.argmin())
        named = self.slice_of_uid.get(image_uid)
        if named is not None and named != nearest:
            if distances[named] < self.reach_mm[named]:
                return named, float(distances[named])
            self.problem(
                "contours refer to another image than the one on whose plane they lie; the plane decides",
                f"image of slice {named} at {self.grid.heights_mm[named]:.2f} mm, contour at {height:.2f} mm "
                f"(slice {nearest})",
            )
        return nearest, float(distances[nearest])

    def _in_slice(self, points: NDArray[np.float64], k: int) -> Polygon:
        grid = self.grid
        rest = points - grid.positions_lps[k]
        steps = np.stack([grid.step_i_lps, grid.step_j_lps], axis=1)
        return np.round(rest @ (steps / (steps**2).sum(axis=0)), SNAP_DECIMALS)

    def finish(self, note: OnNote) -> dict[int, list[Polygon]]:
        """Polygons by slice; where contours of several planes fall on one slice, those of the nearest plane."""
        result: dict[int, list[Polygon]] = {}
        for k in sorted(self.found):
            nearest = min((h for h, _ in self.found[k]), key=lambda h: abs(h - self.grid.heights_mm[k]))
            for height, polygon in self.found[k]:
                if abs(height - nearest) <= SAME_PLANE_MM:
                    result.setdefault(k, []).append(polygon)
                else:
                    self.problem(
                        "contours of a second plane fall on a slice that has nearer ones and are not used",
                        f"slice {k}, planes at {nearest:.2f} and {height:.2f} mm",
                    )
        for what, details in self.problems.items():
            more = f" and {len(details) - 3} more" if len(details) > 3 else ""
            note(f"ROI {self.roi}: {len(details)} {what} ({'; '.join(details[:3])}{more})")
        return result


def _at(points: NDArray[np.float64]) -> str:
    if not len(points):
        return "without points"
    x, y, z = points.mean(axis=0)
    return f"{len(points)} points around ({x:.1f}, {y:.1f}, {z:.1f}) mm"
