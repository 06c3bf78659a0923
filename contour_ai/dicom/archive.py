"""What lies in folders: CT series, structure sets and other DICOM files, told apart by their headers."""

from __future__ import annotations

import filecmp
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
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

from contour_ai.dicom.header import NOT_DICOM, UNREADABLE, read_header, text
from contour_ai.errors import InputError
from contour_ai.files import MANIFEST, Manifest, is_temporary
from contour_ai.progress import OnProgress, ProgressEvent, no_progress

logger = logging.getLogger(__name__)

CT_CLASSES = frozenset({CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage})

THREADS = 8
"""Waiting for a network share takes longer than reading a header; more threads than cores hide it."""

MAX_WARNINGS = 10
COPY = "copy of a structure set"

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


@dataclass(frozen=True)
class CTSeriesFiles:
    """The files of one CT series. `sop_instance_uids` are in the order of `paths`, which is that of the file names."""

    series_instance_uid: str
    study_instance_uid: str
    patient_id: str
    frame_of_reference_uid: str
    description: str
    paths: tuple[Path, ...]
    sop_instance_uids: tuple[str, ...]
    slices: int
    """Number of slices: of files, or of frames in a multi-frame series."""

    def __str__(self) -> str:
        return (
            f"{self.series_instance_uid or 'series without UID'}: {self.slices} slices, "
            f'"{self.description or "no description"}", patient {self.patient_id or "without ID"}'
        )


@dataclass(frozen=True)
class StructureSetFile:
    """An RTSTRUCT file: whose it is, what it refers to, and which ROIs it names."""

    path: Path
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    patient_id: str
    frame_of_reference_uid: str
    referenced_series_uids: tuple[str, ...]
    referenced_sop_uids: tuple[str, ...]
    label: str
    roi_names: tuple[str, ...]
    created: str
    """StructureSetDate and StructureSetTime as they are written, joined by a space."""

    def __str__(self) -> str:
        return f'{self.path}: "{self.label}", {self.created or "no date"}, {len(self.roi_names)} ROIs'


@dataclass(frozen=True)
class OtherFile:
    """A DICOM file that is neither a CT slice nor a structure set."""

    path: Path
    kind: str
    series_instance_uid: str = ""
    patient_id: str = ""


@dataclass(frozen=True)
class SkippedFile:
    """A file that was left out, and why."""

    path: Path
    reason: str
    is_dicom: bool = False
    """Whether it was meant to be a DICOM file: those are worth a warning."""


@dataclass(frozen=True)
class Archive:
    """What lies in a folder."""

    ct_series: tuple[CTSeriesFiles, ...]
    structure_sets: tuple[StructureSetFile, ...]
    others: tuple[OtherFile, ...]
    skipped: tuple[SkippedFile, ...]
    results: tuple[Path, ...] = ()
    """Folders with results of contour-ai, which were not looked into: they are no input beside the images."""

    def __str__(self) -> str:
        """What was found, in a line."""
        kinds = Counter(other.kind for other in self.others)
        parts = [
            f"{len(self.ct_series)} CT series",
            f"{len(self.structure_sets)} RTSTRUCT",
            *(f"{n} {kind}" for kind, n in sorted(kinds.items())),
        ]
        foreign = sum(not skipped.is_dicom for skipped in self.skipped)
        damaged_files = len(self.skipped) - foreign
        if damaged_files:
            parts.append(f"{damaged_files} unreadable DICOM file(s)")
        if foreign:
            parts.append(f"{foreign} other file(s)")
        if self.results:
            parts.append(f"{len(self.results)} folder(s) of results of contour-ai, not looked into")
        return ", ".join(parts)


def scan(
    paths: Path | Sequence[Path], on_progress: OnProgress = no_progress, *, stage: str = "looking for DICOM"
) -> Archive:
    """Looks at every file in folders and their subfolders, also where these are links; only headers are read.

    Unfinished files of a run (see `files.is_temporary`) are never looked at. A folder with results of contour-ai is
    looked into where it is given itself, or where nothing else in the folder given is CT or RTSTRUCT.

    Raises:
        InputError: a path does not exist, or is an unfinished file.
    """
    listed = [_list_files(path) for path in ([paths] if isinstance(paths, Path) else paths)]
    looked = _look_at([file for files, _ in listed for file in files], on_progress, stage)
    passed_over: list[Path] = []
    for files, folders in listed:
        if any(not isinstance(looked[file], SkippedFile) for file in files):
            passed_over += folders
        else:
            within = [file for folder in folders for file in _files_below(folder)[0] if file not in looked]
            looked |= _look_at(within, on_progress, stage)
    return _sorted_out(looked.values(), dict.fromkeys(passed_over))


def _look_at(paths: Iterable[Path], on_progress: OnProgress, stage: str) -> dict[Path, _Looked]:
    """What each file is."""
    files = list(dict.fromkeys(paths))
    found: dict[Path, _Looked] = {}
    with ThreadPoolExecutor(THREADS) as pool:
        for done, (path, one) in enumerate(zip(files, pool.map(_look, files), strict=True), start=1):
            found[path] = one
            if done % 64 == 0 or done == len(files):
                on_progress(ProgressEvent(stage, done, len(files)))
    return found


def _sorted_out(looked: Iterable[_Looked], results: Iterable[Path]) -> Archive:
    slices: dict[tuple[str, str, str], list[_Slice]] = {}
    structure_sets: list[StructureSetFile] = []
    others: list[OtherFile] = []
    skipped: list[SkippedFile] = []
    for found in looked:
        if isinstance(found, _Slice):
            slices.setdefault((found.patient_id, found.study_uid, found.series_uid), []).append(found)
        elif isinstance(found, StructureSetFile):
            structure_sets.append(found)
        elif isinstance(found, OtherFile):
            others.append(found)
        else:
            skipped.append(found)
    structure_sets, copies = _without_copies(structure_sets)
    others += copies
    _warn_of_damaged(skipped)
    series = tuple(_series(slices[key]) for key in sorted(slices))
    return Archive(series, tuple(structure_sets), tuple(others), tuple(skipped), tuple(results))


# -- looking at one file ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Slice:
    """One CT file."""

    path: Path
    sop_uid: str
    series_uid: str
    study_uid: str
    patient_id: str
    frame_of_reference_uid: str
    description: str
    frames: int


_Looked = _Slice | StructureSetFile | OtherFile | SkippedFile


def _list_files(path: Path) -> tuple[list[Path], list[Path]]:
    """The files at or below a path, and the folders of results that were passed over."""
    path = Path(path)
    if is_temporary(path.name):
        raise InputError(
            "This is an unfinished file or folder of a run that goes on, or was broken off.",
            where=path,
            fix="wait for the run, or start it again; the next run removes what a broken one has left",
        )
    if path.is_dir():
        return _files_below(path)
    if not path.exists():
        raise InputError("No such file or folder.", where=path)
    return [path], []


def _files_below(root: Path) -> tuple[list[Path], list[Path]]:
    """The files of a folder and those below it, sorted, and the folders of results below it, which are passed over.

    Links to folders are followed; a folder with several ways to it is looked into once.
    """
    files: list[Path] = []
    results: list[Path] = []
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        here = Path(folder)
        holds_results = MANIFEST in names and here != root and _holds_results(here)
        if real in seen or holds_results:
            folders.clear()
        if holds_results and real not in seen:
            results.append(here)
        if real not in seen and not holds_results:
            folders[:] = sorted(name for name in folders if not is_temporary(name))
            files += [here / n for n in sorted(names) if n != MANIFEST and not is_temporary(n)]
        seen.add(real)
    return files, results


def _holds_results(folder: Path) -> bool:
    manifest = Manifest.load(folder)
    return manifest is not None and manifest.record == "results"


def _without_copies(
    structure_sets: Sequence[StructureSetFile],
) -> tuple[list[StructureSetFile], list[OtherFile]]:
    """The structure sets without files that are, byte for byte, copies of an earlier one."""
    kept: list[StructureSetFile] = []
    copies: list[OtherFile] = []
    for one in structure_sets:
        same_uid = [k for k in kept if k.sop_instance_uid and k.sop_instance_uid == one.sop_instance_uid]
        original = next((k for k in same_uid if filecmp.cmp(k.path, one.path, shallow=False)), None)
        if original is None:
            kept.append(one)
        else:
            copies.append(OtherFile(one.path, COPY, one.series_instance_uid, one.patient_id))
    return kept, copies


def _warn_of_damaged(skipped: Sequence[SkippedFile]) -> None:
    """Names the DICOM files that cannot be read: each may be a slice that is now missing at an end of the scan."""
    broken = [s for s in skipped if s.is_dicom]
    for one in broken[:MAX_WARNINGS]:
        logger.warning("left out %s: %s", one.path, one.reason)
    if len(broken) > MAX_WARNINGS:
        logger.warning("left out %d more DICOM files that cannot be read", len(broken) - MAX_WARNINGS)


def _look(path: Path) -> _Looked:
    """What one file is."""
    try:
        header = read_header(path, KEYWORDS)
        return _classify(path, header)
    except InputError as error:
        is_dicom = error.what != NOT_DICOM
        return SkippedFile(path, error.what + (f" {error.found}" if error.found else ""), is_dicom)
    except UNREADABLE as error:  # values are converted when they are first asked for
        return SkippedFile(path, f"This DICOM file is damaged. {error}", True)


def _classify(path: Path, header: Dataset) -> _Slice | StructureSetFile | OtherFile | SkippedFile:
    meta = getattr(header, "file_meta", None) or Dataset()
    sop_class = text(header, "SOPClassUID") or text(meta, "MediaStorageSOPClassUID")
    modality = text(header, "Modality")
    if sop_class == MediaStorageDirectoryStorage:
        return _other(path, header, "DICOMDIR")
    if not sop_class and not modality:
        return SkippedFile(path, "It has neither SOP class nor modality; it may be cut short.", True)
    if sop_class == RTStructureSetStorage or (not sop_class and modality == "RTSTRUCT"):
        return _structure_set(path, header)
    if sop_class in CT_CLASSES or (not sop_class and modality == "CT"):
        if "LOCALIZER" in _values(header, "ImageType"):
            return _other(path, header, "CT localizer (scout)")
        return _slice(path, header)
    name = UID(sop_class).name if sop_class else modality
    kind = name.removesuffix(" Storage") if name != sop_class else (modality or "DICOM file of unknown class")
    return _other(path, header, kind)


def _other(path: Path, header: Dataset, kind: str) -> OtherFile:
    return OtherFile(path, kind, text(header, "SeriesInstanceUID"), text(header, "PatientID"))


def _slice(path: Path, header: Dataset) -> _Slice:
    return _Slice(
        path,
        text(header, "SOPInstanceUID"),
        text(header, "SeriesInstanceUID"),
        text(header, "StudyInstanceUID"),
        text(header, "PatientID"),
        text(header, "FrameOfReferenceUID"),
        text(header, "SeriesDescription"),
        int(text(header, "NumberOfFrames") or 1),
    )


def _series(slices: Sequence[_Slice]) -> CTSeriesFiles:
    first = slices[0]
    return CTSeriesFiles(
        first.series_uid,
        first.study_uid,
        first.patient_id,
        next((s.frame_of_reference_uid for s in slices if s.frame_of_reference_uid), ""),
        next((s.description for s in slices if s.description), ""),
        tuple(s.path for s in slices),
        tuple(s.sop_uid for s in slices),
        sum(s.frames for s in slices),
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
        path,
        text(header, "SOPInstanceUID"),
        text(header, "SeriesInstanceUID"),
        text(header, "StudyInstanceUID"),
        text(header, "PatientID"),
        next(filter(None, uids), ""),
        _unique(text(series, "SeriesInstanceUID") for series in named_series),
        _unique(sops) or _contour_image_uids(path),
        text(header, "StructureSetLabel"),
        tuple(text(roi, "ROIName") for roi in rois),
        f"{text(header, 'StructureSetDate')} {text(header, 'StructureSetTime')}".strip(),
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


def _values(data_set: Dataset, keyword: str) -> list[str]:
    value = data_set.get(keyword) or ()
    return [value] if isinstance(value, str) else [str(v) for v in value]


def _unique(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value))
