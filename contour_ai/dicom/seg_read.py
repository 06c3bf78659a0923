"""Reads DICOM Segmentations: binary, fractional and label maps, frame by frame with their own places (PS3.3 A.51)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import UID, SegmentationStorage

from contour_ai.dicom.header import UNREADABLE, damaged, read_data_set
from contour_ai.dicom.values import text
from contour_ai.errors import InputError

LABEL_MAP_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
"""Label Map Segmentation Storage."""
SEGMENTATION_CLASSES = frozenset({str(SegmentationStorage), LABEL_MAP_STORAGE})
INSIDE = 0.5
"""Fraction from which a voxel of a fractional segment is inside."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SegFrame:
    """One frame of a segment.

    Args:
        inside: (i, j) mask.
        position_lps: (3,) mm, centre of voxel (0, 0).
        step_i_lps, step_j_lps: (3,) mm from one row, one column, to the next.
    """

    inside: NDArray[np.bool_]
    position_lps: NDArray[np.float64]
    step_i_lps: NDArray[np.float64]
    step_j_lps: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadSegment:
    """A segment with the frames that the file has; frames without a voxel may be missing."""

    number: int
    name: str
    frames: tuple[SegFrame, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadSegmentation:
    """A SEG file.

    Args:
        path: of the file.
        frame_of_reference_uid: empty where the file has none.
        patient_id: of the file.
        slice_spacing_mm: SpacingBetweenSlices, else SliceThickness; None where the file says neither.
        segments: in the order of their numbers.
        notes: what a reader should know.
    """

    path: Path
    frame_of_reference_uid: str
    patient_id: str
    slice_spacing_mm: float | None
    segments: tuple[ReadSegment, ...]
    notes: tuple[str, ...]


def is_segmentation(path: Path) -> bool:
    """Whether a file is a DICOM SEG, by its header."""
    from contour_ai.dicom.header import read_header

    try:
        header = read_header(path, ["SOPClassUID", "Modality"])
    except InputError:
        return False
    return text(header, "SOPClassUID") in SEGMENTATION_CLASSES or text(header, "Modality") == "SEG"


def read_segmentation(path: Path) -> ReadSegmentation:
    """Reads a SEG file.

    Raises:
        InputError: no SEG file, damaged, without places in the patient, or two segments of one name.
    """
    path = Path(path)
    data_set = read_data_set(path)
    try:
        return _parsed(path, data_set)
    except InputError:
        raise
    except (*UNREADABLE, RuntimeError) as error:
        raise damaged(path, error) from error


def _parsed(path: Path, data_set: Dataset) -> ReadSegmentation:
    sop_class, kind = text(data_set, "SOPClassUID"), text(data_set, "SegmentationType")
    if sop_class not in SEGMENTATION_CLASSES:
        raise InputError("This is no DICOM Segmentation.", where=path, found=sop_class or "no SOP class")
    if (
        "SharedFunctionalGroupsSequence" not in data_set
        and "PerFrameFunctionalGroupsSequence" not in data_set
    ):
        raise InputError(
            "This segmentation does not say where its frames lie.",
            where=path,
            fix="export it again from its program",
        )
    collected: dict[int, list[SegFrame]] = {}
    for index, values in enumerate(_frames(path, data_set)):
        for number, inside in _segments_of_frame(path, data_set, index, values, label_map=kind == "LABELMAP"):
            if inside.any():
                collected.setdefault(number, []).append(_frame(path, data_set, index, inside))
    segments = tuple(
        ReadSegment(number=number, name=name, frames=tuple(collected.pop(number, ())))
        for number, name in _names(path, data_set)
    )
    notes = []
    if kind == "FRACTIONAL":
        notes.append(f"{path}: fractional segments; a voxel is inside from {INSIDE:.0%} on")
    if collected:
        numbers = ", ".join(map(str, sorted(collected)))
        notes.append(f"{path}: frames of segments that the file does not describe are left out: {numbers}")
    return ReadSegmentation(
        path=path,
        frame_of_reference_uid=text(data_set, "FrameOfReferenceUID"),
        patient_id=text(data_set, "PatientID"),
        slice_spacing_mm=_slice_spacing(data_set),
        segments=segments,
        notes=tuple(notes),
    )


def _frames(path: Path, data_set: Dataset) -> Iterator[NDArray[np.generic]]:
    """(i, j) stored values, frame by frame.

    Bits are unpacked here: frames of a number of pixels that is no multiple of eight begin within a byte (PS3.5 8.1.1),
    which pydicom 3.0 reads wrongly frame by frame.
    """
    if int(data_set.BitsAllocated) != 1 or UID(data_set.file_meta.TransferSyntaxUID).is_encapsulated:
        yield from iter_pixels(data_set)
        return
    packed = np.frombuffer(data_set.PixelData, np.uint8)
    rows, columns = int(data_set.Rows), int(data_set.Columns)
    pixels, number = rows * columns, int(data_set.get("NumberOfFrames") or 1)
    if packed.size * 8 < pixels * number:
        raise damaged(path, f"{packed.size} bytes of pixels, expected {-(-pixels * number // 8)}")
    for n in range(number):
        first, last = n * pixels, (n + 1) * pixels
        bits = np.unpackbits(packed[first // 8 : -(-last // 8)], bitorder="little")
        yield bits[first % 8 : first % 8 + pixels].reshape(rows, columns)


def _segments_of_frame(
    path: Path, data_set: Dataset, index: int, values: NDArray[np.generic], *, label_map: bool
) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """(segment number, (i, j) mask) of one frame: one segment, or every label of a label map but 0."""
    if label_map:
        for number in np.unique(values).tolist():
            if number:
                yield int(number), values == number
        return
    item = _group(data_set, index, "SegmentIdentificationSequence")
    if item is None:
        raise InputError(
            "A frame of this segmentation does not name its segment.", where=f"{path}, frame {index + 1}"
        )
    largest = (
        int(data_set.get("MaximumFractionalValue") or 1) if data_set.SegmentationType == "FRACTIONAL" else 1
    )
    yield int(item.ReferencedSegmentNumber), values.astype(np.float32) >= INSIDE * largest


def _frame(path: Path, data_set: Dataset, index: int, inside: NDArray[np.bool_]) -> SegFrame:
    """A frame cut to its voxels, at its place."""
    position = _group(data_set, index, "PlanePositionSequence")
    orientation = _group(data_set, index, "PlaneOrientationSequence")
    measures = _group(data_set, index, "PixelMeasuresSequence")
    if position is None or orientation is None or measures is None:
        raise InputError(
            "A frame of this segmentation does not say where it lies.",
            where=f"{path}, frame {index + 1}",
            fix="export it again from its program",
        )
    cosines = np.array(orientation.ImageOrientationPatient, np.float64)
    down, across = (float(v) for v in measures.PixelSpacing)
    step_i, step_j = cosines[3:] * down, cosines[:3] * across
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    origin = np.array(position.ImagePositionPatient, np.float64) + rows[0] * step_i + columns[0] * step_j
    return SegFrame(inside=inside[box].copy(), position_lps=origin, step_i_lps=step_i, step_j_lps=step_j)


def _group(data_set: Dataset, index: int, keyword: str) -> Dataset | None:
    """The item of a functional group of a frame: its own, else the shared one."""
    for sequence, at in (("PerFrameFunctionalGroupsSequence", index), ("SharedFunctionalGroupsSequence", 0)):
        groups = data_set.get(sequence) or ()
        if at < len(groups) and groups[at].get(keyword):
            item: Dataset = groups[at][keyword].value[0]
            return item
    return None


def _slice_spacing(data_set: Dataset) -> float | None:
    measures = _group(data_set, 0, "PixelMeasuresSequence")
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        value = None if measures is None else measures.get(keyword)
        if value is not None and float(value) > 0:
            return float(value)
    return None


def _names(path: Path, data_set: Dataset) -> list[tuple[int, str]]:
    """(number, label) of every segment; the background of a label map is none."""
    named = []
    for item in data_set.get("SegmentSequence") or ():
        number = int(item.SegmentNumber)
        if number:
            named.append((number, text(item, "SegmentLabel") or f"segment {number}"))
    names = [name for _, name in named]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(
            "Two segments have the same label.",
            where=path,
            found=", ".join(repeated),
            fix="rename one of them in the program that made the file",
        )
    return named
