"""What one file is: a CT slice, a structure set, another DICOM file, or none; from its header or its first bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    MediaStorageDirectoryStorage,
    RTStructureSetStorage,
)

from contour_ai.dicom.foreign import GZIP_DICOM, OTHER, ForeignKind, foreign_kind, looks_like_dicom
from contour_ai.dicom.header import NOT_DICOM, UNREADABLE, read_header
from contour_ai.dicom.values import integer, text, words
from contour_ai.errors import InputError, without_traceback

CT_CLASSES = frozenset({CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage})

DICOMDIR = "DICOMDIR"
LOCALIZER = "CT localizer (scout)"

KEYWORDS = (
    "SpecificCharacterSet",
    "ImageType",
    "SOPClassUID",
    "SOPInstanceUID",
    "Modality",
    "SeriesDescription",
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "NumberOfFrames",
    "StructureSetLabel",
    "StructureSetDate",
    "StructureSetTime",
    "ReferencedFrameOfReferenceSequence",
    "StructureSetROISequence",
)


@dataclass(frozen=True, kw_only=True)
class StructureSetFile:
    """An RTSTRUCT file: whose it is, what it refers to, and which ROIs it names."""

    path: Path
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    patient_id: str
    frame_of_reference_uids: tuple[str, ...]
    """All that it names, in its lists, its ROIs and its header: some ROIs may be drawn on an MR."""
    referenced_series_uids: tuple[str, ...]
    referenced_sop_uids: tuple[str, ...]
    label: str
    roi_names: tuple[str, ...]
    created: str
    """StructureSetDate and StructureSetTime as they are written, joined by a space."""

    def __str__(self) -> str:
        return f'{self.path}: "{self.label}", {self.created or "no date"}, {len(self.roi_names)} ROIs'


@dataclass(frozen=True, kw_only=True)
class OtherFile:
    """A DICOM file that is neither a CT slice nor a structure set."""

    path: Path
    kind: str
    series_instance_uid: str = ""
    patient_id: str = ""


@dataclass(frozen=True, kw_only=True)
class SkippedFile:
    """A file or folder that was left out, and why."""

    path: Path
    reason: str
    is_dicom: bool = False
    """Whether it was meant to be DICOM: those are worth a warning, as a slice may be missing."""
    kind: ForeignKind = OTHER
    """What it is, where that is known."""

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True, kw_only=True)
class SliceFile:
    """One CT file: whose it is, and of which series."""

    path: Path
    sop_uid: str
    series_uid: str
    study_uid: str
    patient_id: str
    frame_of_reference_uid: str
    description: str
    frames: int


Looked = SliceFile | StructureSetFile | OtherFile | SkippedFile


def look(path: Path) -> Looked:
    """What one file is."""
    try:
        header = read_header(path, KEYWORDS)
        return _classify(path, header)
    except InputError as error:
        if error.what == NOT_DICOM:
            return _foreign(path)
        return SkippedFile(
            path=path,
            reason=error.what + (f" {error.found}" if error.found else ""),
            is_dicom=_meant(path, error),
        )
    except UNREADABLE as error:  # values are converted when they are first asked for
        reason = f"This DICOM file is damaged. {without_traceback(error)}"
        return SkippedFile(path=path, reason=reason, is_dicom=True)


def _foreign(path: Path) -> SkippedFile:
    """A file without DICOM's marks: by name and content another kind of file, or a slice that was overwritten."""
    kind = foreign_kind(path)
    if kind is OTHER:
        return SkippedFile(path=path, reason=NOT_DICOM, is_dicom=looks_like_dicom(path))
    return SkippedFile(
        path=path, reason=f"This is a {kind.name}, no DICOM file.", is_dicom=kind is GZIP_DICOM, kind=kind
    )


def _meant(path: Path, error: InputError) -> bool:
    """Whether a file that is empty, damaged or cannot be opened was meant to be DICOM."""
    return error.what.startswith("This DICOM file") or looks_like_dicom(path)


def _classify(path: Path, header: Dataset) -> Looked:
    meta = getattr(header, "file_meta", None) or Dataset()
    sop_class = text(header, "SOPClassUID") or text(meta, "MediaStorageSOPClassUID")
    modality = text(header, "Modality")
    if sop_class == MediaStorageDirectoryStorage:
        return _other(path, header, DICOMDIR)
    if not sop_class and not modality:
        return SkippedFile(
            path=path, reason="It has neither SOP class nor modality; it may be cut short.", is_dicom=True
        )
    if sop_class == RTStructureSetStorage or (not sop_class and modality == "RTSTRUCT"):
        return _structure_set(path, header)
    if sop_class in CT_CLASSES or (not sop_class and modality == "CT"):
        if "LOCALIZER" in words(header, "ImageType"):
            return _other(path, header, LOCALIZER)
        return _slice(path, header)
    name = UID(sop_class).name if sop_class else modality
    kind = name.removesuffix(" Storage") if name != sop_class else (modality or "DICOM file of unknown class")
    return _other(path, header, kind)


def _other(path: Path, header: Dataset, kind: str) -> OtherFile:
    return OtherFile(
        path=path,
        kind=kind,
        series_instance_uid=text(header, "SeriesInstanceUID"),
        patient_id=text(header, "PatientID"),
    )


def _slice(path: Path, header: Dataset) -> SliceFile:
    return SliceFile(
        path=path,
        sop_uid=text(header, "SOPInstanceUID"),
        series_uid=text(header, "SeriesInstanceUID"),
        study_uid=text(header, "StudyInstanceUID"),
        patient_id=text(header, "PatientID"),
        frame_of_reference_uid=text(header, "FrameOfReferenceUID"),
        description=text(header, "SeriesDescription"),
        frames=max(integer(header, "NumberOfFrames") or 1, 1),
    )


def _structure_set(path: Path, header: Dataset) -> StructureSetFile:
    frames = list(_items(header, "ReferencedFrameOfReferenceSequence"))
    rois = list(_items(header, "StructureSetROISequence"))
    named_series = [
        series
        for frame in frames
        for study in _items(frame, "RTReferencedStudySequence")
        for series in _items(study, "RTReferencedSeriesSequence")
    ]
    sops = [
        text(i, "ReferencedSOPInstanceUID") for s in named_series for i in _items(s, "ContourImageSequence")
    ]
    uids = (
        *(text(frame, "FrameOfReferenceUID") for frame in frames),
        *(text(roi, "ReferencedFrameOfReferenceUID") for roi in rois),
        text(header, "FrameOfReferenceUID"),
    )
    return StructureSetFile(
        path=path,
        sop_instance_uid=text(header, "SOPInstanceUID"),
        series_instance_uid=text(header, "SeriesInstanceUID"),
        study_instance_uid=text(header, "StudyInstanceUID"),
        patient_id=text(header, "PatientID"),
        frame_of_reference_uids=_unique(uids),
        referenced_series_uids=_unique(text(series, "SeriesInstanceUID") for series in named_series),
        referenced_sop_uids=_unique(sops) or _contour_image_uids(path),
        label=text(header, "StructureSetLabel"),
        roi_names=tuple(text(roi, "ROIName") for roi in rois),
        created=f"{text(header, 'StructureSetDate')} {text(header, 'StructureSetTime')}".strip(),
    )


def _contour_image_uids(path: Path) -> tuple[str, ...]:
    """SOP instances that single contours name: all there is in files without a list of images."""
    return _unique(
        text(image, "ReferencedSOPInstanceUID")
        for roi in _items(read_header(path, ["ROIContourSequence"]), "ROIContourSequence")
        for contour in _items(roi, "ContourSequence")
        for image in _items(contour, "ContourImageSequence")
    )


def _items(data_set: Dataset, keyword: str) -> Iterator[Dataset]:
    yield from data_set.get(keyword) or ()


def _unique(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value))
