"""Writes a volume as a DICOM CT series, the same bytes for the same input, for phantoms and importers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import format_number_as_ds

from contour_ai.errors import InputError
from contour_ai.files import atomic_folder
from contour_ai.volume import Volume

if TYPE_CHECKING:
    from contour_ai.dicom.ct import CTSeries

IMPLEMENTATION_CLASS_UID = generate_uid(entropy_srcs=["contour-ai", "implementation class"])
"""Set explicitly, because pydicom's own default changes with its version and the bytes must not."""

IMPLEMENTATION_VERSION_NAME = "CONTOUR_AI"

USUAL_INTERCEPT = -1024
"""Stored 0 is air, as scanners write it; 0 is used where that would not fit 16 bits."""


@dataclass(frozen=True, kw_only=True)
class PatientIdentity:
    """Who and when: the patient and study attributes of a series. Dates as YYYYMMDD, times as HHMMSS."""

    patient_id: str
    patient_name: str
    study_date: str
    study_time: str = "120000"
    birth_date: str = ""
    sex: str = ""
    study_id: str = "1"


def write_ct(
    folder: Path,
    volume: Volume,
    patient: PatientIdentity,
    *,
    uid_seed: str,
    study_description: str = "",
    series_description: str = "",
    patient_position: str = "HFS",
    body_part: str = "",
) -> CTSeries:
    """Writes one file a slice into the new folder `folder`, and reads the series back.

    Every UID is derived from `uid_seed`; the same arguments give the same bytes. The grid's own frame of reference
    UID is used where it has one.

    Args:
        folder: must not exist; appears whole or not at all.
        volume: `hu` (k, i, j) of whole numbers, on any grid (unequal slice distances and shear included).
        patient_position: PatientPosition; only a label, the geometry is the grid's.
        body_part: BodyPartExamined, a term of PS3.16 annex L such as HEADNECK.

    Raises:
        InputError: HU that are not whole numbers or do not fit 16 bits.
        OutputError: the folder exists or cannot be written.
    """
    from contour_ai.dicom.ct import read_ct

    stored, intercept = _stored_values(volume)
    series = _series_header(volume, patient, uid_seed)
    series.StudyDescription = study_description
    series.SeriesDescription = series_description
    series.PatientPosition = patient_position
    series.Manufacturer = "contour-ai"
    series.RescaleIntercept = str(intercept)
    if body_part:
        series.BodyPartExamined = body_part
    else:  # required, though empty, unless the body part is known not to be a paired one
        series.Laterality = ""
    with atomic_folder(Path(folder), record=None) as temporary:
        for k in range(volume.grid.shape_kij[0]):
            dataset = _slice_dataset(series, volume, stored, k, uid_seed)
            dataset.save_as(temporary / f"CT.{k + 1:04d}.dcm", enforce_file_format=True)
    return read_ct(Path(folder))


def derived_uid(uid_seed: str, *what: str) -> UID:
    """The UID that stands for `what` (such as "series") under a seed: the same text gives the same UID."""
    return generate_uid(entropy_srcs=["contour-ai", uid_seed, *what])


def _stored_values(volume: Volume) -> tuple[NDArray[np.int16], int]:
    """(k, i, j) stored pixel values, and the intercept that takes them to HU."""
    hu = np.asarray(volume.hu)
    if not np.isfinite(hu).all() or (hu.dtype.kind == "f" and not (hu == np.rint(hu)).all()):
        raise InputError(
            "A CT can only be written from whole numbers of HU.",
            found=f"{hu.dtype} with fractions or without value",
            fix="round the image first",
        )
    lowest, highest = int(hu.min()), int(hu.max())
    limits = np.iinfo(np.int16)
    for intercept in (USUAL_INTERCEPT, 0):
        if lowest - intercept >= limits.min and highest - intercept <= limits.max:
            return (hu.astype(np.int32) - intercept).astype(np.int16), intercept
    raise InputError(
        "The HU do not fit a 16-bit CT.",
        found=f"{lowest} to {highest}",
        expected=f"{limits.min} to {limits.max}",
    )


def _series_header(volume: Volume, patient: PatientIdentity, uid_seed: str) -> Dataset:
    """The attributes that all slices share; those of type 2 are present even where empty."""
    grid = volume.grid
    d = Dataset()
    d.SpecificCharacterSet = "ISO_IR 192"
    d.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    d.SOPClassUID = CTImageStorage
    d.InstanceCreationDate = d.StudyDate = d.SeriesDate = d.AcquisitionDate = d.ContentDate = (
        patient.study_date
    )
    d.InstanceCreationTime = d.StudyTime = d.SeriesTime = d.AcquisitionTime = d.ContentTime = (
        patient.study_time
    )
    d.AccessionNumber = ""
    d.Modality = "CT"
    d.ReferringPhysicianName = ""
    d.PatientName = patient.patient_name
    d.PatientID = patient.patient_id
    d.PatientBirthDate = patient.birth_date
    d.PatientSex = patient.sex
    d.KVP = ""
    d.StudyInstanceUID = derived_uid(uid_seed, "study")
    d.SeriesInstanceUID = derived_uid(uid_seed, "series")
    d.StudyID = patient.study_id
    d.SeriesNumber = "1"
    d.AcquisitionNumber = "1"
    d.FrameOfReferenceUID = grid.frame_of_reference_uid or derived_uid(uid_seed, "frame of reference")
    d.PositionReferenceIndicator = ""
    d.SliceThickness = format_number_as_ds(grid.spacing_mm[0])
    rows = grid.step_j_lps / grid.spacing_mm[2]
    columns = grid.step_i_lps / grid.spacing_mm[1]
    d.ImageOrientationPatient = [_ds(v) for v in (*rows, *columns)]
    d.PixelSpacing = [_ds(v) for v in grid.spacing_mm[1:]]
    d.SamplesPerPixel = 1
    d.PhotometricInterpretation = "MONOCHROME2"
    d.Rows, d.Columns = grid.shape_kij[1:]
    d.BitsAllocated, d.BitsStored, d.HighBit = 16, 16, 15
    d.PixelRepresentation = 1
    d.WindowCenter, d.WindowWidth = "40", "400"
    d.RescaleSlope = "1"
    d.RescaleType = "HU"
    return d


def _slice_dataset(
    series: Dataset, volume: Volume, stored: NDArray[np.int16], k: int, uid_seed: str
) -> Dataset:
    """One slice, complete with its file meta information."""
    d = Dataset()
    d.update(series)
    d.SOPInstanceUID = derived_uid(uid_seed, "slice", str(k))
    d.InstanceNumber = str(k + 1)
    d.ImagePositionPatient = [_ds(v) for v in volume.grid.positions_lps[k]]
    d.add_new("PixelData", "OW", stored[k].astype("<i2").tobytes())
    d.file_meta = FileMetaDataset()
    d.file_meta.MediaStorageSOPClassUID = d.SOPClassUID
    d.file_meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID
    d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d.file_meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    d.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    return d


def _ds(value: float) -> str:
    """A number as a decimal string of at most 16 characters; never "-0.0"."""
    return format_number_as_ds(float(value) + 0.0)
