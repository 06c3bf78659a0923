"""The header of a structure set: everything but the contours. rt-utils makes the skeleton, the rest is put right here.

The only file that imports rt_utils. What its skeleton lacks or gets wrong (measured with dciodvfy): no
FrameOfReferenceUID, type 2 attributes missing, another maker's name, the wrong dates, a private creator that is none.
"""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RTStructureSetStorage,
    generate_uid,
)

from contour_ai import __version__
from contour_ai.dicom.patient_module import PatientElements, ascii_text
from contour_ai.dicom.values import text
from contour_ai.structures.roi_record import RoiInfo

if TYPE_CHECKING:
    from contour_ai.dicom.ct import CTSeries

IMPLEMENTATION_CLASS_UID = generate_uid(entropy_srcs=["contour-ai", "implementation class"])
IMPLEMENTATION_VERSION_NAME = "CONTOUR_AI"
PRODUCT = "contour-ai"

TYPE_2 = (
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
    "OperatorsName",
    "PositionReferenceIndicator",
)
"""Attributes that must be present, empty where unknown (DICOM PS3.3 A.19)."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a structure set comes from, so that a file can be traced years later.

    Args:
        label: StructureSetLabel; at most 16 characters are written, the whole text goes to StructureSetName.
        series_description: SeriesDescription.
        description: StructureSetDescription, to which software and model are added.
        model: name of the model that drew the contours; empty where none did.
        model_version: the model's version.
        weights_sha256: SHA-256 of the model's weights.
        uids_from: text that fixes the UIDs of the file (see `structure_set_uid`); empty for new ones.
    """

    label: str
    series_description: str = ""
    description: str = ""
    model: str = ""
    model_version: str = ""
    weights_sha256: str = ""
    uids_from: str = ""

    @property
    def software(self) -> str:
        """Tool and model with their versions, in one line."""
        parts = [f"{PRODUCT} {__version__}"]
        if self.model:
            parts.append(f"model {self.model} {self.model_version}".strip())
        if self.weights_sha256:
            parts.append(f"weights SHA-256 {self.weights_sha256}")
        return ", ".join(parts)


def structure_set_header(
    ct: CTSeries,
    patient: PatientElements,
    provenance: Provenance,
    *,
    label_characters: int,
    uid_seed: str | None,
) -> Dataset:
    """A structure set on `ct` with empty ROI sequences.

    Args:
        patient: what is taken over from the CT.
        label_characters: longest StructureSetLabel.
        uid_seed: makes UIDs and dates the same in every run (the CT's study date); None: new ones.
    """
    skeleton = _rt_utils_skeleton(ct)
    d = Dataset()
    d.update(skeleton)
    patient.write_to(d)
    if patient.ascii_only:
        provenance = replace(
            provenance,
            label=ascii_text(provenance.label),
            series_description=ascii_text(provenance.series_description),
            description=ascii_text(provenance.description),
        )
    for keyword in TYPE_2:
        if keyword not in d:
            setattr(d, keyword, "")
    d.StudyInstanceUID = _uid_of(ct, "StudyInstanceUID")
    d.FrameOfReferenceUID = frame_of_reference_uid(ct)
    indicator = text(ct.header, "PositionReferenceIndicator")
    d.PositionReferenceIndicator = _text(indicator, 64) if indicator.isascii() else ""
    d.SOPClassUID = RTStructureSetStorage
    d.SOPInstanceUID = _uid(uid_seed, "structure set", ct)
    d.SeriesInstanceUID = _uid(uid_seed, "structure set series", ct)
    if provenance.uids_from:
        d.SOPInstanceUID = structure_set_uid(provenance.uids_from)
        d.SeriesInstanceUID = structure_set_uid(provenance.uids_from, "series")
    d.SeriesNumber = d.InstanceNumber = "1"
    d.SeriesDescription = _text(provenance.series_description or provenance.label, 64)
    d.Manufacturer = d.ManufacturerModelName = PRODUCT
    d.SoftwareVersions = _software_versions(provenance)
    if "InstitutionName" in d:
        del d.InstitutionName
    d.StructureSetLabel = _text(provenance.label, label_characters) or "RTSTRUCT"
    d.StructureSetName = _text(provenance.label, 64)
    d.StructureSetDescription = _text(
        "\n".join(filter(None, (provenance.description, provenance.software))), 1024
    )
    date, time = _when(patient, uid_seed)
    for name in ("InstanceCreation", "Series", "StructureSet"):
        setattr(d, f"{name}Date", date)
        setattr(d, f"{name}Time", time)
    d.ApprovalStatus = "UNAPPROVED"
    for reference in d.ReferencedFrameOfReferenceSequence:
        reference.FrameOfReferenceUID = d.FrameOfReferenceUID
    return d


def file_meta(dataset: Dataset, *, explicit: bool) -> FileMetaDataset:
    """The file meta information of a structure set."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian if explicit else ImplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    return meta


def roi_items(
    number: int, name: str, info: RoiInfo, *, frame_of_reference_uid: str, algorithm: str, description: str
) -> tuple[Dataset, Dataset]:
    """The items of one ROI in StructureSetROISequence and in RTROIObservationsSequence."""
    from rt_utils.ds_helper import create_rtroi_observation, create_structure_set_roi
    from rt_utils.utils import ROIData

    data = ROIData(
        mask="",
        color=list(info.color),
        number=number,
        name=name,
        frame_of_reference_uid=frame_of_reference_uid,
        description=_text(description, 1024),
        roi_generation_algorithm=algorithm,
    )
    roi, observation = Dataset(), Dataset()
    roi.update(create_structure_set_roi(data))
    if not data.description:
        del roi.ROIDescription
    observation.update(create_rtroi_observation(data))
    del observation.ROIObservationDescription  # the settings of another viewer
    observation.RTROIInterpretedType = info.interpreted_type
    observation.ROIInterpreter = ""
    return roi, observation


def frame_of_reference_uid(ct: CTSeries) -> str:
    """The CT's; where it has none, one that depends on its series alone."""
    known = ct.grid.frame_of_reference_uid or ct.header.get("FrameOfReferenceUID")
    return str(
        known or generate_uid(entropy_srcs=[PRODUCT, "frame", str(ct.header.get("SeriesInstanceUID"))])
    )


def _rt_utils_skeleton(ct: CTSeries) -> Dataset:
    """Module and reference sequences as rt-utils makes them."""
    from rt_utils.ds_helper import create_rtstruct_dataset

    first = Dataset()
    for keyword in ("StudyDate", "StudyTime", "StudyID"):
        setattr(first, keyword, "")  # rt-utils needs them; the real ones are copied afterwards
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
        setattr(first, keyword, _uid_of(ct, keyword))
    first.FrameOfReferenceUID = frame_of_reference_uid(ct)
    first.SOPClassUID, first.SOPInstanceUID = ct.sop_class_uid, ct.sop_instance_uids[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it still sets what pydicom 3 does not need
        skeleton = create_rtstruct_dataset([first])
    study = skeleton.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    study.RTReferencedSeriesSequence = list(_series_references(ct, first.SeriesInstanceUID))
    return skeleton


def _series_references(ct: CTSeries, series_uid: str) -> Iterator[Dataset]:
    """The items of RTReferencedSeriesSequence: one, or one for each series that the slices of the scan have."""
    of_slices = ct.series_instance_uids or ("",) * len(ct.sop_instance_uids)
    series = [uid or series_uid for uid in of_slices]
    for uid in dict.fromkeys(series):
        item = Dataset()
        item.SeriesInstanceUID = uid
        item.ContourImageSequence = [
            image_reference(ct, k) for k, sop in enumerate(ct.sop_instance_uids) if sop and series[k] == uid
        ]
        yield item


def image_reference(ct: CTSeries, k: int) -> Dataset:
    """The item that refers to slice k, by frame number where the CT is one multi-frame file."""
    item = Dataset()
    item.ReferencedSOPClassUID = ct.sop_class_uid
    item.ReferencedSOPInstanceUID = ct.sop_instance_uids[k]
    if ct.frame_numbers:
        item.ReferencedFrameNumber = ct.frame_numbers[k]
    return item


def structure_set_uid(text: str, what: str = "structure set") -> UID:
    """The UID that `Provenance.uids_from` gives: known before there is a file, and the same whenever it is made."""
    return generate_uid(entropy_srcs=[PRODUCT, text, what])


def _uid(uid_seed: str | None, what: str, ct: CTSeries) -> UID:
    if uid_seed is None:
        return generate_uid()
    return generate_uid(entropy_srcs=[PRODUCT, uid_seed, what, _uid_of(ct, "SeriesInstanceUID")])


def _uid_of(ct: CTSeries, keyword: str) -> str:
    """A UID of the CT; where it has none, one that depends on its slices alone."""
    return str(ct.header.get(keyword) or generate_uid(entropy_srcs=[PRODUCT, keyword, *ct.sop_instance_uids]))


def _when(patient: PatientElements, uid_seed: str | None) -> tuple[str, str]:
    if uid_seed is None:
        now = datetime.datetime.now()
        return now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    date, time = (
        patient.elements.get(keyword, b"").decode("latin-1").strip("\0 ")
        for keyword in ("StudyDate", "StudyTime")
    )
    return date or "20000101", time or "120000"


def _software_versions(provenance: Provenance) -> list[str]:
    """Program, weights, model. Readers count the space that makes the length of all of them even as part of the last:
    a hash of 64 digits must not be that."""
    versions = [f"{PRODUCT} {__version__}"]
    if provenance.weights_sha256:
        versions.append(_text(provenance.weights_sha256, 64))
    if provenance.model:
        versions.append(_text(f"{provenance.model} {provenance.model_version}", 63))
    return versions


def _text(value: object, longest: int) -> str:
    """A text without what LO, SH and ST do not allow, cut to its length."""
    lines = [" ".join(line.replace("\\", "/").split()) for line in str(value or "").splitlines()]
    joined = ("\n" if longest > 64 else " ").join(lines)
    return joined[:longest].strip()
