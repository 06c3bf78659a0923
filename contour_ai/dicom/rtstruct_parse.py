"""Parses a structure set file: header, ROIs, contours. What is written wrongly but can only mean one thing is used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import RTStructureSetStorage

from contour_ai.dicom import notes as note
from contour_ai.dicom.contour_items import (
    ITEM_START,
    REFERENCED_SOP_CLASS_UID,
    UNDEFINED_LENGTH,
    RawContour,
    numbers_of,
    raw_contours,
    uid_in,
)
from contour_ai.dicom.header import UNREADABLE
from contour_ai.dicom.structure_set import ContourRead, ReferencedFrame, RoiContoursRead, StructureSet
from contour_ai.dicom.tags import (
    CONTOUR_DATA,
    CONTOUR_GEOMETRIC_TYPE,
    CONTOUR_IMAGE_SEQUENCE,
    CONTOUR_SEQUENCE,
    REFERENCED_ROI_NUMBER,
    ROI_DISPLAY_COLOR,
    ROI_NUMBER,
)
from contour_ai.dicom.values import on_one_line
from contour_ai.errors import InputError

UNDECODABLE = "\N{REPLACEMENT CHARACTER}"
"""What pydicom puts in the place of bytes that are no text."""
MOST_DIGITS = 12
"""Longest text of an IS value."""


def load_structure_set(path: Path) -> StructureSet:
    """Parses an RTSTRUCT file, also one without preamble.

    Raises:
        InputError: not a DICOM file, not a structure set, or truncated.
    """
    path = Path(path)
    dataset = _dataset(path)
    notes: list[str] = []
    try:
        frames = _frames(dataset)
        rois = tuple(_rois(dataset, frames, notes))
        series = [uid for frame in _referenced_frames(dataset) for uid in _series_of(frame)]
        header = {
            keyword: text_of(dataset, keyword)
            for keyword in ("StructureSetLabel", "SOPInstanceUID", "PatientID")
        }
    except InputError:
        raise
    except UNREADABLE as error:
        raise InputError(
            "The structure set is damaged.", where=path, found=error, fix="export it again"
        ) from error
    return StructureSet(
        path=path,
        label=header["StructureSetLabel"],
        sop_instance_uid=header["SOPInstanceUID"],
        patient_id=header["PatientID"],
        frame_of_reference_uid=next((f.uid for f in frames if f.uid), ""),
        referenced_series_uids=tuple(dict.fromkeys(series)),
        rois=rois,
        notes=tuple(notes),
        frames=frames,
    )


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
    last = _element(dataset, max(dataset.keys()))
    if isinstance(last, RawDataElement):
        return last.length != UNDEFINED_LENGTH and len(last.value or b"") < last.length
    return last is not None and last.VR == "SQ" and bool(last.value) and is_cut_short(last.value[-1])


# -- values as they are in the file ----------------------------------------------------------------------------------


def text_of(item: Dataset, keyword: str) -> str:
    """An element as text, without padding; several values with a backslash between them; "" where there is none.

    A value that pydicom cannot decode is no reason to give up the file: its bytes are read as ASCII.
    """
    try:
        value = item.get(keyword)
    except UNREADABLE:
        return raw_text(item, tag_for_keyword(keyword) or 0)
    if value is None:
        return ""
    several = isinstance(value, MultiValue)
    return ("\\".join(map(str, value)) if several else str(value)).strip(" \0")


def raw_text(item: Dataset, tag: int) -> str:
    """The bytes of an element as text, without padding; "" where there is none."""
    value = _raw(item, tag)
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("ascii", "replace").strip(" \0\r\n\t")
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        return str(value).strip()
    return "\\".join(map(str, value))


def _raw(item: Dataset, tag: int) -> object:
    """A value as it came from the file (bytes, where pydicom has not converted it yet), or None."""
    element = _element(item, tag)
    return None if element is None else element.value


def _element(item: Dataset, tag: int) -> DataElement | RawDataElement | None:
    """An element as pydicom holds it, converted or not."""
    return item.get_item(tag) if tag in item else None


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


def geometric_type(contour: Dataset) -> bytes:
    """The bytes of ContourGeometricType, without padding."""
    value = _raw(contour, CONTOUR_GEOMETRIC_TYPE)
    return value.strip(b" \0") if isinstance(value, bytes) else str(value or "").strip(" \0").encode()


def image_uid(contour: Dataset) -> str:
    """ReferencedSOPInstanceUID of the image a contour was drawn on, or ""."""
    value = _raw(contour, CONTOUR_IMAGE_SEQUENCE)
    uid = uid_in(value) if isinstance(value, bytes) else None
    if uid is not None:
        return uid
    images = contour.get("ContourImageSequence")
    return text_of(images[0], "ReferencedSOPInstanceUID") if images else ""


def image_classes(contour: Dataset) -> list[str]:
    """ReferencedSOPClassUID of every image a contour was drawn on; "" where one has none."""
    value = _raw(contour, CONTOUR_IMAGE_SEQUENCE)
    if isinstance(value, bytes) and value.count(ITEM_START) == 1:
        uid = uid_in(value, REFERENCED_SOP_CLASS_UID)
        if uid is not None:
            return [uid]
    return [text_of(image, "ReferencedSOPClassUID") for image in contour.get("ContourImageSequence") or ()]


def integer_of(text: str) -> int | None:
    """A whole number, also one written as "1.0"; None where it is none."""
    plain = text.strip()
    whole, dot, fraction = plain.partition(".")
    if dot and fraction.strip("0") == "" and whole.lstrip("+-").isdecimal():
        plain = whole
    if not plain.isascii() or len(plain) > MOST_DIGITS or not plain.lstrip("+-").isdecimal():
        return None
    try:
        return int(plain)
    except ValueError:
        return None


# -- frames of reference ---------------------------------------------------------------------------------------------


def _referenced_frames(dataset: Dataset) -> Sequence[Dataset]:
    return dataset.get("ReferencedFrameOfReferenceSequence") or ()


def _series_items(frame: Dataset) -> Iterator[Dataset]:
    for study in frame.get("RTReferencedStudySequence") or ():
        yield from study.get("RTReferencedSeriesSequence") or ()


def _series_of(frame: Dataset) -> list[str]:
    return [uid for item in _series_items(frame) if (uid := text_of(item, "SeriesInstanceUID"))]


def _frames(dataset: Dataset) -> tuple[ReferencedFrame, ...]:
    """Every frame of reference that a structure set names: those with a list of images first."""
    frames: dict[str, ReferencedFrame] = {}
    for item in _referenced_frames(dataset):
        uid = text_of(item, "FrameOfReferenceUID")
        images = (
            text_of(image, "ReferencedSOPInstanceUID")
            for series in _series_items(item)
            for image in series.get("ContourImageSequence") or ()
        )
        before = frames.get(uid, ReferencedFrame(uid))
        frames[uid] = ReferencedFrame(
            uid,
            before.series_uids.union(_series_of(item)),
            before.image_uids.union(filter(None, images)),
        )
    others = [
        text_of(roi, "ReferencedFrameOfReferenceUID") for roi in dataset.get("StructureSetROISequence") or ()
    ]
    for uid in (*others, text_of(dataset, "FrameOfReferenceUID")):
        if uid:
            frames.setdefault(uid, ReferencedFrame(uid))
    return tuple(frames.values())


# -- ROIs ----------------------------------------------------------------------------------------------------------


@dataclass
class _RoiNumbers:
    """The ROI numbers of a structure set, and which of them are not written as whole numbers."""

    notes: list[str]
    odd: dict[str, int] = field(default_factory=dict)

    def of(self, item: Dataset, tag: int) -> int | None:
        text = raw_text(item, tag)
        number = integer_of(text)
        if number is not None and not text.lstrip("+-").isdecimal():
            self.odd[text] = number
        return number

    def tell(self) -> None:
        for text, number in self.odd.items():
            self.notes.append(note.value_corrected("", "ROINumber", text, number))


def _rois(
    dataset: Dataset, frames: tuple[ReferencedFrame, ...], notes: list[str]
) -> Iterator[RoiContoursRead]:
    numbers = _RoiNumbers(notes)
    items = [(numbers.of(item, ROI_NUMBER), item) for item in dataset.get("StructureSetROISequence") or ()]
    counts = Counter(number for number, _ in items)
    contours = _contour_items(dataset, numbers, counts, notes)
    types = {
        numbers.of(o, REFERENCED_ROI_NUMBER): text_of(o, "RTROIInterpretedType")
        for o in dataset.get("RTROIObservationsSequence") or ()
    }
    numbers.tell()
    taken: set[str] = set()
    seen: set[int] = set()
    for number, item in items:
        original = text_of(item, "ROIName")
        if number is None or number in seen:
            notes.append(note.roi_not_used(original, number))
            continue
        seen.add(number)
        name = _unique_name(on_one_line(original) or f"ROI_{number}", taken)
        if name != original:
            notes.append(note.roi_renamed(original, number, name))
        if UNDECODABLE in name:
            notes.append(note.roi_name_undecodable(name, number))
        read, unreadable = _contours(contours.get(number, ()), name, notes)
        yield RoiContoursRead(
            name=name,
            original_name=original,
            number=number,
            contours=read,
            unreadable=unreadable,
            color=_color(contours.get(number, ()), name, notes),
            interpreted_type=types.get(number, ""),
            algorithm=text_of(item, "ROIGenerationAlgorithm"),
            description=text_of(item, "ROIDescription"),
            frame_of_reference_uid=text_of(item, "ReferencedFrameOfReferenceUID"),
            frames=frames,
        )
    notes += [note.contours_of_no_roi(number) for number in contours if number not in seen]


def _contour_items(
    dataset: Dataset, numbers: _RoiNumbers, counts: Counter[int | None], notes: list[str]
) -> dict[int, list[Dataset]]:
    """The items of ROIContourSequence by ROI number; a second one counts where it is clear whose it is."""
    found: dict[int, list[Dataset]] = {}
    for item in dataset.get("ROIContourSequence") or ():
        number = numbers.of(item, REFERENCED_ROI_NUMBER)
        if number is None:
            notes.append(note.contours_of_no_roi(None))
        elif number not in found:
            found[number] = [item]
        else:
            used = counts[number] == 1
            notes.append(note.second_item_of_contours(number, used=used))
            if used:
                found[number].append(item)
    return found


def _color(items: Sequence[Dataset], roi: str, notes: list[str]) -> tuple[int, int, int] | None:
    text = next((t for item in items if (t := raw_text(item, ROI_DISPLAY_COLOR))), "")
    if not text:
        return None
    values = [integer_of(part) for part in text.split("\\")]
    if len(values) == 3 and all(v is not None and 0 <= v <= 255 for v in values):
        red, green, blue = (int(v or 0) for v in values)
        return red, green, blue
    expected = "three numbers from 0 to 255"
    notes.append(note.value_not_used(f"ROI {roi}: ", "ROIDisplayColor", text, expected, roi=roi))
    return None


def _contours(items: Sequence[Dataset], roi: str, notes: list[str]) -> tuple[tuple[ContourRead, ...], int]:
    """The contours of a ROI, and how many cannot be read."""
    raw = [c for item in items for c in _raw_contours(item)]
    read: list[ContourRead] = []
    unreadable: list[str] = []
    repaired: dict[str, list[str]] = {}
    for n, (c, data) in enumerate(zip(raw, numbers_of([c.numbers for c in raw]), strict=True), start=1):
        if data.wrong:
            unreadable.append(f"contour {n}: {data.wrong}")
            continue
        if data.repair:
            repaired.setdefault(data.repair, []).append(f"contour {n}")
        kind = c.geometric_type.decode("ascii", "replace").upper()
        read.append(ContourRead(data.values.reshape(-1, 3), kind, c.image_uid))
    if unreadable:
        notes.append(note.contours_unreadable(roi, len(unreadable), note.places_in_words(unreadable)))
    for how, places in repaired.items():
        notes.append(note.contours_repaired(roi, len(places), how, note.places_in_words(places, ", ")))
    return tuple(read), len(unreadable)


def _raw_contours(contour: Dataset) -> list[RawContour]:
    """The contours of an item of ROIContourSequence."""
    sequence = _element(contour, CONTOUR_SEQUENCE)
    found = raw_contours(sequence) if isinstance(sequence, RawDataElement) else None
    if found is not None:
        return found
    items = contour.get("ContourSequence") or ()
    return [RawContour(raw_numbers(c), geometric_type(c), image_uid(c)) for c in items]


def _unique_name(name: str, taken: set[str]) -> str:
    unique, n = name, 1
    while unique in taken:
        n += 1
        unique = f"{name} ({n})"
    taken.add(unique)
    return unique
