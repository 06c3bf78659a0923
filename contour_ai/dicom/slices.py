"""The slices of a CT series: their headers, checks that they form one stack, and their order along the normal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import (
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    LegacyConvertedEnhancedCTImageStorage,
)

from contour_ai.dicom.header import COPY_AGAIN, UNREADABLE, cut_short, damaged, read_header, read_start, text
from contour_ai.errors import GeometryError, InputError
from contour_ai.grid import REGULAR_TOL_MM, Grid

THREADS = 8

KEYWORDS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SliceThickness",
    "InstanceNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "FrameOfReferenceUID",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "PixelSpacing",
    "BitsAllocated",
    "RescaleIntercept",
    "RescaleSlope",
)

UNCOMPRESSED = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)

DIRECTION_TOL = 2e-4
"""Slices are parallel when their direction cosines agree to this: 0.1 mm at the far edge of a 500 mm image."""

SPACING_TOL_MM = 1e-4
"""Pixel spacings of one series agree to this: 0.05 mm over 512 pixels."""

UNIT_TOL = 0.01
"""Direction cosines are written with few digits; a length further from 1 is no rounding."""

MULTIPLE_TOL, ROUNDING_MM = 0.04, 0.11
"""A gap counts as n slice spacings when it is within this part of one of them, or within what positions rounded to
0.1 mm make of it."""

MAX_NOTES = 3

ZONE = 3
"""As many equal wide gaps in a row are a coarser part of the scan, not missing slices."""


@dataclass(frozen=True)
class Slice:
    """Where one CT slice lies, and how its stored values become HU."""

    path: Path
    frame: int | None
    """Frame number from 1 in a multi-frame file, else None."""
    sop_class_uid: str
    sop_instance_uid: str
    frame_of_reference_uid: str
    instance_number: str
    rows: int
    columns: int
    position_lps: tuple[float, float, float]
    orientation: tuple[float, ...]
    """Direction cosines along which j grows (3), then along which i grows (3)."""
    pixel_spacing_mm: tuple[float, float]
    """Between rows, between columns."""
    thickness_mm: float | None
    slope: float | None
    intercept: float | None
    """None where the file has no rescale."""

    def __str__(self) -> str:
        x, y, z = self.position_lps
        frame = f", frame {self.frame}" if self.frame is not None else ""
        return f"{self.path.name}{frame} (instance {self.instance_number or '?'}, position {x:g}, {y:g}, {z:g} mm)"


def read_slices(paths: Sequence[Path], on_done: Callable[[int], None]) -> list[Slice]:
    """The slices in CT files, in the order of the files.

    Raises:
        InputError: a file is damaged or lacks what places it in the patient.
    """
    slices: list[Slice] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for done, found in enumerate(pool.map(_slices_in, paths), start=1):
            slices += found
            on_done(done)
    return slices


def _slices_in(path: Path) -> list[Slice]:
    header, bytes_behind = read_start(path, KEYWORDS)
    try:
        _check_length(path, header, bytes_behind)
        enhanced = text(header, "SOPClassUID") in (
            EnhancedCTImageStorage,
            LegacyConvertedEnhancedCTImageStorage,
        )
        if enhanced or int(text(header, "NumberOfFrames") or 1) > 1:
            return _frames(path, read_header(path))
        return [_slice(path, None, header, [header])]
    except UNREADABLE as error:
        raise damaged(path, error) from error


def _check_length(path: Path, header: FileDataset, bytes_behind: int) -> None:
    """Notices a file that cannot hold its pixels, also where they are not going to be read."""
    syntax = header.file_meta.get("TransferSyntaxUID", ImplicitVRLittleEndian)
    if syntax not in UNCOMPRESSED:
        return
    values = (
        int(header.get("Rows") or 0)
        * int(header.get("Columns") or 0)
        * int(header.get("NumberOfFrames") or 1)
    )
    expected = values * int(header.get("BitsAllocated") or 0) // 8
    if bytes_behind < expected:
        raise cut_short(path, f"at most {bytes_behind}", expected)


def _frames(path: Path, header: Dataset) -> list[Slice]:
    """The frames of a multi-frame file (PS3.3 C.7.6.16): each value from the frame's own groups or the shared ones."""
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or []
    count = int(text(header, "NumberOfFrames") or 1)
    if len(per_frame) != count:
        raise InputError(
            "This multi-frame CT does not say where each of its frames lies.",
            where=path,
            found=f"{len(per_frame)} frame positions for {count} frames",
            fix="export the CT as one file a slice, or as Enhanced CT with functional groups",
        )
    shared = list(header.get("SharedFunctionalGroupsSequence") or [])
    return [
        _slice(path, n, header, [*_macros(group), *(m for s in shared for m in _macros(s)), header])
        for n, group in enumerate(per_frame, start=1)
    ]


def _macros(group: Dataset) -> list[Dataset]:
    names = (
        "PlanePositionSequence",
        "PlaneOrientationSequence",
        "PixelMeasuresSequence",
        "PixelValueTransformationSequence",
    )
    return [item for name in names for item in (group.get(name) or [])[:1]]


def _slice(path: Path, frame: int | None, header: Dataset, sources: Sequence[Dataset]) -> Slice:
    """One slice; values that may differ from frame to frame come from the first of `sources` that has them."""

    def value(keyword: str) -> Any:
        found = (source.get(keyword) for source in sources)
        return next((v for v in found if v is not None and v != ""), None)

    def numbers(keyword: str, count: int) -> tuple[float, ...]:
        found = value(keyword)
        result = tuple(float(v) for v in found) if hasattr(found, "__len__") else ()
        if len(result) != count or not np.isfinite(result).all():
            raise InputError(
                f"This CT slice has no usable {keyword}.",
                where=path,
                found=found if found is not None else "nothing",
                expected=f"{count} numbers",
                fix=f"remove it if it is no slice of the CT (a scout, a screenshot); otherwise {COPY_AGAIN}",
            )
        return result

    def number(keyword: str) -> float | None:
        found = value(keyword)
        return None if found is None else float(found)

    x, y, z = numbers("ImagePositionPatient", 3)
    between_rows, between_columns = numbers("PixelSpacing", 2)
    if header.get("Rows") is None or header.get("Columns") is None:
        raise damaged(path, "no Rows or Columns")
    return Slice(
        path,
        frame,
        text(header, "SOPClassUID"),
        text(header, "SOPInstanceUID"),
        text(header, "FrameOfReferenceUID"),
        text(header, "InstanceNumber"),
        int(header.Rows),
        int(header.Columns),
        (x, y, z),
        numbers("ImageOrientationPatient", 6),
        (between_rows, between_columns),
        number("SliceThickness"),
        number("RescaleSlope"),
        number("RescaleIntercept"),
    )


# -- one stack -------------------------------------------------------------------------------------------------


def check_alike(slices: Sequence[Slice]) -> None:
    """Refuses slices that cannot be one stack because size, direction, pixel spacing or frame of reference differ.

    Raises:
        GeometryError: naming the slices that differ from the others.
    """
    for name, values, tolerance in (
        ("image size (rows, columns)", [(s.rows, s.columns) for s in slices], 0.0),
        ("direction (ImageOrientationPatient)", [s.orientation for s in slices], DIRECTION_TOL),
        ("pixel spacing (mm)", [s.pixel_spacing_mm for s in slices], SPACING_TOL_MM),
    ):
        usual = Counter(values).most_common(1)[0][0]
        apart = np.abs(np.array(values, dtype=np.float64) - np.array(usual)).max(axis=1)
        odd = [n for n in range(len(slices)) if apart[n] > tolerance]
        if odd:
            raise _differ(name, [slices[n] for n in odd], values[odd[0]], usual, len(slices))
    frames = [s.frame_of_reference_uid for s in slices if s.frame_of_reference_uid]
    usual_frame = Counter(frames).most_common(1)[0][0] if frames else ""
    strangers = [s for s in slices if s.frame_of_reference_uid not in ("", usual_frame)]
    if strangers:
        found = strangers[0].frame_of_reference_uid
        raise _differ("frame of reference", strangers, found, usual_frame, len(slices))


def _differ(name: str, odd: Sequence[Slice], found: object, usual: object, count: int) -> GeometryError:
    more = f" and {len(odd) - 1} more" if len(odd) > 1 else ""
    return GeometryError(
        f"The slices of this CT series differ in {name}.",
        where=f"{odd[0].path}{more}",
        found=found,
        expected=f"{usual}, as in the other {count - len(odd)} slices",
        fix="remove what does not belong to the scan (a scout, a second acquisition), or export the series again",
    )


def heights_mm(slices: Sequence[Slice]) -> NDArray[np.float64]:
    """(n,) mm: each slice's position projected on the normal of the stack.

    Raises:
        GeometryError: the direction cosines are no unit vectors at a right angle.
    """
    row, column = directions(slices[0])
    return np.array([s.position_lps for s in slices]) @ np.cross(row, column)


def directions(one: Slice) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors along which j and i grow.

    Raises:
        GeometryError: the direction cosines are no unit vectors at a right angle.
    """
    row, column = np.array(one.orientation[:3]), np.array(one.orientation[3:])
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if max(abs(length - 1) for length in lengths) > UNIT_TOL or abs(row @ column) > UNIT_TOL:
        raise GeometryError(
            "The directions of this CT slice are no unit vectors at a right angle.",
            where=one.path,
            found=f"ImageOrientationPatient {list(one.orientation)}",
            expected="two vectors of length 1, perpendicular to each other",
            fix="export the series again; its geometry was damaged by the program that wrote it",
        )
    return row / lengths[0], column / lengths[1]


def without_repeats(
    slices: Sequence[Slice], same_image: Callable[[Slice, Slice], bool]
) -> tuple[list[Slice], list[str]]:
    """The slices sorted along the normal, with a slice that is there twice kept once, and a note on each left out.

    Args:
        slices: alike (see `check_alike`).
        same_image: whether two slices have the same pixels.

    Raises:
        GeometryError: different images at the same place.
    """
    heights = heights_mm(slices)
    order = sorted(range(len(slices)), key=lambda n: (heights[n], _instance_order(slices[n])))
    kept: list[Slice] = []
    repeats: list[tuple[Slice, Slice]] = []
    conflicts: list[tuple[Slice, Slice]] = []
    last_height = -np.inf
    for n in order:
        if heights[n] - last_height > REGULAR_TOL_MM:
            kept.append(slices[n])
            last_height = heights[n]
        elif kept[-1].position_lps == slices[n].position_lps and same_image(kept[-1], slices[n]):
            repeats.append((slices[n], kept[-1]))
        else:
            conflicts.append((kept[-1], slices[n]))
    if conflicts:
        first, second = conflicts[0]
        raise GeometryError(
            "Different images lie at the same place in this CT series.",
            where=f"{first.path} and {second.path}"
            + (f", and {len(conflicts) - 1} more pairs" if len(conflicts) > 1 else ""),
            found=f"{first} and {second}",
            expected="one image for every slice position",
            fix="leave one acquisition (phase, reconstruction) in the folder, or export it as a series of its own",
        )
    notes = [
        f"{again} shows the same slice as {first.path.name} and was left out" for again, first in repeats
    ]
    if len(notes) > MAX_NOTES:
        notes[MAX_NOTES:] = [f"{len(notes) - MAX_NOTES} more slices are there twice and were used once"]
    return kept, notes


def _instance_order(one: Slice) -> tuple[int, str, int]:
    number = one.instance_number
    return (int(number) if number.lstrip("-").isdigit() else 0, str(one.path), one.frame or 0)


@dataclass(frozen=True)
class Gap:
    """A place in a stack where `missing` slices are not there; `usual_mm` is the spacing everywhere else."""

    below: Slice
    above: Slice
    missing: int
    width_mm: float
    usual_mm: float

    def __str__(self) -> str:
        return f"{self.missing} between {self.below} and {self.above}, {self.width_mm:g} mm apart"


def find_gaps(slices: Sequence[Slice]) -> tuple[Gap, ...]:
    """Where slices of a stack are missing.

    A slice is missing where a gap is a whole multiple of the spacing that most others have, unless at least `ZONE`
    such gaps follow each other: scans with coarser parts, and stacks with unequal spacing of any other kind, are whole.

    Args:
        slices: sorted along the normal, none twice.
    """
    heights = heights_mm(slices)
    missing = missing_slices(heights)
    if not missing:
        return ()
    widths = np.diff(heights)
    usual = float(np.median(np.delete(widths, list(missing))))
    return tuple(
        Gap(slices[k], slices[k + 1], count, float(widths[k]), usual) for k, count in missing.items()
    )


def told(gaps: Sequence[Gap]) -> str:
    """Gaps in a line, the first few by name."""
    return "; ".join(map(str, gaps[:4])) + (f"; and {len(gaps) - 4} more gaps" if len(gaps) > 4 else "")


def missing_slices(heights: NDArray[np.float64]) -> dict[int, int]:
    """{k: number of slices missing between slices k and k + 1} of ascending `heights` in mm."""
    gaps = np.diff(heights)
    if len(gaps) < 2:
        return {}
    unit = float(np.median(gaps[gaps < 1.5 * gaps.min()]))
    multiples = np.rint(gaps / unit).astype(int)
    uneven = np.abs(gaps - multiples * unit) > max(MULTIPLE_TOL * unit, ROUNDING_MM)
    if uneven.any() or np.count_nonzero(multiples == 1) < np.count_nonzero(multiples > 1):
        return {}
    edges = np.flatnonzero(np.diff(multiples)) + 1
    runs = np.split(np.arange(len(gaps)), edges)
    return {
        int(k): int(multiples[k] - 1) for run in runs for k in run if multiples[k] > 1 and len(run) < ZONE
    }


def stack(slices: Sequence[Slice]) -> Grid:
    """The grid of slices that are alike, sorted and whole.

    Raises:
        GeometryError: as `Grid` does.
    """
    row, column = directions(slices[0])
    between_rows, between_columns = slices[0].pixel_spacing_mm
    return Grid(
        (len(slices), slices[0].rows, slices[0].columns),
        np.array([s.position_lps for s in slices]),
        column * between_rows,
        row * between_columns,
        next((s.frame_of_reference_uid for s in slices if s.frame_of_reference_uid), ""),
        slice_thickness_mm=slices[0].thickness_mm or 1.0,
    )
