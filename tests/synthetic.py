"""Small DICOM CT series and structure sets of any geometry, dirty ones included, for the tests."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import Tag
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    RTStructureSetStorage,
    generate_uid,
)

Edit = Callable[[int, Dataset], None]


def uid(*names: object) -> str:
    """The same UID for the same names."""
    return generate_uid(entropy_srcs=["contour-ai tests", *map(str, names)])


def hu_at(points_lps: ArrayLike) -> NDArray[np.int64]:
    """A value for every place in the patient, so that a voxel at a wrong place is seen: (..., 3) mm to (...) HU."""
    x, y, z = np.moveaxis(np.asarray(points_lps, np.float64), -1, 0)
    return np.rint(3 * x - 5 * y + 2 * z).astype(np.int64)


@dataclass(frozen=True)
class Stack:
    """Slices to write: where they lie, how they are stored, whose they are."""

    positions_lps: NDArray[np.float64]
    shape_ij: tuple[int, int] = (12, 10)
    row: tuple[float, float, float] = (1.0, 0.0, 0.0)
    """Direction in which j grows."""
    column: tuple[float, float, float] = (0.0, 1.0, 0.0)
    """Direction in which i grows."""
    spacing_ij_mm: tuple[float, float] = (2.0, 2.0)
    slope: float = 1.0
    intercept: float = -1024.0
    signed: bool = False
    patient_id: str = "P1"
    series: str = "series A"
    study: str = "study 1"
    frame: str = "frame 1"

    def points_lps(self, k: int) -> NDArray[np.float64]:
        """(I, J, 3) mm: voxel centres of a slice."""
        i, j = np.meshgrid(*(np.arange(n) for n in self.shape_ij), indexing="ij")
        down, across = self.spacing_ij_mm
        return (
            self.positions_lps[k]
            + (i * down)[..., None] * np.array(self.column)
            + (j * across)[..., None] * np.array(self.row)
        )


def axial(number: int = 5, spacing_mm: float = 3.0, **changes: object) -> Stack:
    """A plain head-first supine axial stack, first slice at the feet."""
    positions = np.array([[-20.0, -30.0, -50.0 + spacing_mm * k] for k in range(number)])
    return replace(Stack(positions), **changes)  # type: ignore[arg-type]


def tilted(row: Sequence[float], column: Sequence[float], number: int = 5, **changes: object) -> Stack:
    """A stack with any directions, along their normal."""
    normal = np.cross(row, column)
    positions = np.array([-20.0, -30.0, -50.0]) + 3.0 * np.arange(number)[:, None] * normal
    return replace(Stack(positions), row=tuple(row), column=tuple(column), **changes)  # type: ignore[arg-type]


def ct_slice(stack: Stack, k: int) -> FileDataset:
    """The data set of slice k, its pixels from `hu_at`."""
    stored = np.rint((hu_at(stack.points_lps(k)) - stack.intercept) / stack.slope)
    return _ct_slice(stack, k, stored.astype(np.int16 if stack.signed else np.uint16))


def write_stack(folder: Path, stack: Stack, edit: Edit | None = None, *, stem: str = "CT") -> list[Path]:
    """Writes a series, file names against the order of the slices; `edit(k, data set)` may spoil it first."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k in range(len(stack.positions_lps)):
        data_set = ct_slice(stack, k)
        if edit is not None:
            edit(k, data_set)
        path = folder / f"{stem}{len(stack.positions_lps) - k:03d}.dcm"
        data_set.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def write_enhanced(path: Path, stack: Stack, order: Sequence[int]) -> Path:
    """Writes a stack as one Enhanced CT file, its frames in any order of slices."""
    frames = [ct_slice(stack, k) for k in order]
    whole = _new(EnhancedCTImageStorage, uid(stack.series, "enhanced"))
    keep = set(frames[0].keys()) - {
        frames[0][name].tag
        for name in (
            "ImagePositionPatient",
            "ImageOrientationPatient",
            "PixelSpacing",
            "RescaleSlope",
            "RescaleIntercept",
            "PixelData",
            "SOPClassUID",
            "SOPInstanceUID",
        )
    }
    for tag in keep:
        whole[tag] = frames[0][tag]
    whole.NumberOfFrames = len(frames)
    whole.PixelData = b"".join(f.PixelData for f in frames)
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = frames[0].PixelSpacing
    orientation.ImageOrientationPatient = frames[0].ImageOrientationPatient
    shared.PixelMeasuresSequence = DicomSequence([measures])
    shared.PlaneOrientationSequence = DicomSequence([orientation])
    whole.SharedFunctionalGroupsSequence = DicomSequence([shared])
    groups = []
    for frame in frames:
        group, place, values = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = frame.ImagePositionPatient
        values.RescaleSlope, values.RescaleIntercept = frame.RescaleSlope, frame.RescaleIntercept
        group.PlanePositionSequence = DicomSequence([place])
        group.PixelValueTransformationSequence = DicomSequence([values])
        groups.append(group)
    whole.PerFrameFunctionalGroupsSequence = DicomSequence(groups)
    path.parent.mkdir(parents=True, exist_ok=True)
    whole.save_as(path, enforce_file_format=True)
    return path


def compress(path: Path, syntax: str) -> None:
    """Rewrites a file with a compressed transfer syntax, named as gdcm.TransferSyntax names it."""
    import gdcm

    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


def link_folder(link: Path, folder: Path) -> None:
    """Makes a link to a folder, or skips the test where the system makes none."""
    try:
        link.symlink_to(folder, target_is_directory=True)
    except OSError as error:
        pytest.skip(f"this system makes no links: {error}")


def structure_set(
    stack: Stack,
    rois: Mapping[str, Sequence[ArrayLike]],
    *,
    label: str = "RS",
    sop_uids: Sequence[str] = (),
) -> FileDataset:
    """A structure set on a stack; `rois` are {name: contours as (N, 3) LPS mm}. Edit it before saving to spoil it."""
    data_set = _new(RTStructureSetStorage, uid(stack.series, label, "RTSTRUCT"))
    _identify(data_set, stack, "RTSTRUCT")
    data_set.SeriesInstanceUID = uid(stack.series, label, "RTSTRUCT series")
    data_set.StructureSetLabel = label
    data_set.StructureSetDate, data_set.StructureSetTime = "20260102", "030405"
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = uid(stack.series)
    series.ContourImageSequence = DicomSequence([_reference(u) for u in sop_uids or _sop_uids(stack)])
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = "1.2.840.10008.3.1.2.3.1", uid(stack.study)
    study.RTReferencedSeriesSequence = DicomSequence([series])
    frame.FrameOfReferenceUID = uid(stack.frame)
    frame.RTReferencedStudySequence = DicomSequence([study])
    data_set.ReferencedFrameOfReferenceSequence = DicomSequence([frame])
    data_set.StructureSetROISequence = DicomSequence()
    data_set.ROIContourSequence = DicomSequence()
    data_set.RTROIObservationsSequence = DicomSequence()
    for number, (name, contours) in enumerate(rois.items(), start=1):
        roi, shown, observed = Dataset(), Dataset(), Dataset()
        roi.ROINumber, roi.ROIName = number, name
        roi.ReferencedFrameOfReferenceUID = uid(stack.frame)
        roi.ROIGenerationAlgorithm = "MANUAL"
        shown.ReferencedROINumber = number
        shown.ROIDisplayColor = [255, 0, 0]
        shown.ContourSequence = DicomSequence([_contour(points) for points in contours])
        observed.ObservationNumber = observed.ReferencedROINumber = number
        observed.RTROIInterpretedType, observed.ROIInterpreter = "ORGAN", ""
        data_set.StructureSetROISequence.append(roi)
        data_set.ROIContourSequence.append(shown)
        data_set.RTROIObservationsSequence.append(observed)
    return data_set


def box_contours(stack: Stack, slices: Sequence[int], half_mm: float = 4.0) -> list[NDArray[np.float64]]:
    """A square of side 2 * `half_mm` around the middle of each slice, as LPS contours."""
    contours = []
    for k in slices:
        middle = stack.points_lps(k).reshape(-1, 3).mean(axis=0)
        row, column = np.array(stack.row) * half_mm, np.array(stack.column) * half_mm
        contours.append(
            np.array([middle + a * row + b * column for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))])
        )
    return contours


def write_structure_set(
    path: Path, stack: Stack, rois: Mapping[str, Sequence[ArrayLike]], **options: str
) -> Path:
    """Writes `structure_set` to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    structure_set(stack, rois, **options).save_as(path, enforce_file_format=True)  # type: ignore[arg-type]
    return path


def write_other(path: Path, modality: str, sop_class_uid: str, stack: Stack) -> Path:
    """A file of another modality in the study of `stack`, without content."""
    data_set = _new(sop_class_uid, uid(path.name, modality))
    _identify(data_set, stack, modality)
    data_set.SeriesInstanceUID = uid(stack.series, modality)
    data_set.save_as(path, enforce_file_format=True)
    return path


def _ct_slice(stack: Stack, k: int, stored: NDArray[np.integer]) -> FileDataset:
    data_set = _new(CTImageStorage, uid(stack.series, "slice", k))
    _identify(data_set, stack, "CT")
    data_set.SeriesInstanceUID = uid(stack.series)
    data_set.SeriesDescription = stack.series
    data_set.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data_set.InstanceNumber = k + 1
    data_set.PatientPosition = "HFS"
    data_set.SliceThickness = 3
    data_set.ImagePositionPatient = [_ds(v) for v in stack.positions_lps[k]]
    data_set.ImageOrientationPatient = [_ds(v) for v in itertools.chain(stack.row, stack.column)]
    data_set.PixelSpacing = [_ds(v) for v in stack.spacing_ij_mm]
    data_set.Rows, data_set.Columns = stack.shape_ij
    data_set.SamplesPerPixel, data_set.PhotometricInterpretation = 1, "MONOCHROME2"
    data_set.BitsAllocated = data_set.BitsStored = 16
    data_set.HighBit, data_set.PixelRepresentation = 15, int(stack.signed)
    data_set.RescaleSlope, data_set.RescaleIntercept = _ds(stack.slope), _ds(stack.intercept)
    data_set.PixelData = stored.tobytes()
    return data_set


def _new(sop_class_uid: str, sop_instance_uid: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class_uid, sop_instance_uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = uid("implementation")
    data_set = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data_set.SOPClassUID, data_set.SOPInstanceUID = sop_class_uid, sop_instance_uid
    return data_set


def _identify(data_set: Dataset, stack: Stack, modality: str) -> None:
    data_set.SpecificCharacterSet = "ISO_IR 192"
    data_set.Modality = modality
    data_set.PatientID, data_set.PatientName = stack.patient_id, "Test^Patient"
    data_set.PatientBirthDate, data_set.PatientSex = "", "O"
    data_set.StudyInstanceUID, data_set.StudyID = uid(stack.study), "1"
    data_set.StudyDate, data_set.StudyTime = "20260101", "120000"
    data_set.FrameOfReferenceUID = uid(stack.frame)


def _sop_uids(stack: Stack) -> list[str]:
    return [uid(stack.series, "slice", k) for k in range(len(stack.positions_lps))]


def _contour(points_lps: ArrayLike) -> Dataset:
    points = np.asarray(points_lps, np.float64)
    contour = Dataset()
    contour.ContourGeometricType = "CLOSED_PLANAR"
    contour.NumberOfContourPoints = len(points)
    # As in a file of which nobody has read this element yet: to make an object of each number takes pydicom seconds.
    numbers = "\\".join(map(_ds, points.ravel().tolist())).encode()
    numbers += b" " * (len(numbers) % 2)
    tag = Tag("ContourData")
    contour[tag] = RawDataElement(tag, "DS", len(numbers), numbers, 0, False, True)
    return contour


def _reference(sop_instance_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, sop_instance_uid
    return item


def _ds(value: float) -> str:
    return f"{value:.10g}"[:16]
