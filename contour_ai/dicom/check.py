"""What is wrong with a structure set, what systems read differently, and what is known to be refused.

Every finding names attribute, ROI, contour, slice and number. The rules are those of DICOM PS3.3 A.19 and C.8.8; what
systems are known to refuse stands in `refusals`. They run on files of any tool, alone or against the CT.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pydicom
from pydicom import config
from pydicom.charset import convert_encodings, python_encoding
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RTStructureSetStorage,
)
from pydicom.valuerep import VR, validate_value

from contour_ai.dicom.check_contours import LONGEST_NUMBER, contour_findings
from contour_ai.dicom.check_reading import reading_findings
from contour_ai.dicom.check_references import reference_findings
from contour_ai.dicom.check_rois import name_findings, profile_refusal, roi_findings
from contour_ai.dicom.finding import LEVELS, Finding, Findings, breaks, differs, refused
from contour_ai.dicom.header import UNREADABLE
from contour_ai.dicom.profile import LONGEST_LABEL, Profile, load_profile
from contour_ai.dicom.rtstruct_parse import is_cut_short
from contour_ai.errors import InputError, without_traceback

if TYPE_CHECKING:
    from contour_ai.dicom.ct import CTSeries

TYPE_2 = {
    "PatientName": "C.7.1.1",
    "PatientID": "C.7.1.1",
    "PatientBirthDate": "C.7.1.1",
    "PatientSex": "C.7.1.1",
    "StudyDate": "C.7.2.1",
    "StudyTime": "C.7.2.1",
    "StudyID": "C.7.2.1",
    "AccessionNumber": "C.7.2.1",
    "ReferringPhysicianName": "C.7.2.1",
    "SeriesNumber": "C.8.8.1",
    "OperatorsName": "C.8.8.1",
    "Manufacturer": "C.7.5.1",
    "StructureSetDate": "C.8.8.5",
    "StructureSetTime": "C.8.8.5",
}
"""Attributes that must be present, empty where unknown, and the section of PS3.3 that asks for them."""
META_TYPE_1 = (
    "FileMetaInformationGroupLength",
    "FileMetaInformationVersion",
    "TransferSyntaxUID",
    "ImplementationClassUID",
)
TRACEABLE = ("Manufacturer", "SoftwareVersions", "SeriesDescription", "StructureSetDescription")
"""What says which tool made a file. Asked for where a ROI is AUTOMATIC."""
SAME_AS_CT = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
)
NUMBERS = {VR.DS: LONGEST_NUMBER, VR.IS: 12}
"""Longest text of a number."""
DEFAULT_ENCODING = "iso8859"
"""What pydicom takes where a file names no character set; DICOM means ASCII."""
DAMAGED = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, kw_only=True)
class _Checked:
    path: Path
    dataset: Dataset
    ct: CTSeries | None
    profile: Profile


def check_structure_set(
    path: Path, ct: CTSeries | None = None, *, profile: str | Path | Profile = "generic"
) -> list[Finding]:
    """All findings, the gravest level first.

    Raises:
        InputError: the file is no DICOM file or no structure set at all.
    """
    path = Path(path)
    checked = _Checked(path=path, dataset=_opened(path), ct=ct, profile=load_profile(profile))
    findings: list[Finding] = []
    for rule in RULES:
        try:
            for finding in rule(checked):
                findings.append(finding)
        except UNREADABLE as reason:
            findings.append(
                breaks("damaged", "file", f"has a value that cannot be read: {without_traceback(reason)}")
            )
    levels = list(LEVELS)
    return sorted(_without_repetitions(findings), key=lambda f: levels.index(f.level))


def _without_repetitions(findings: Sequence[Finding]) -> list[Finding]:
    """Without repetitions, and without what the reader said of the same ROI under the same rule."""

    def is_read(f: Finding) -> bool:
        return bool(f.where) and f.message.startswith(f.where)  # the reader's sentences name their ROI

    read = {(f.rule, f.where) for f in findings if is_read(f)}
    kept = [f for f in findings if is_read(f) or (f.rule, f.where.partition(", ")[0]) not in read]
    return list(dict.fromkeys(kept))


def _opened(path: Path) -> Dataset:
    try:
        dataset = pydicom.dcmread(path, force=True)
        kind = str(dataset.get("SOPClassUID") or ""), str(dataset.get("Modality") or "")
    except OSError as reason:
        raise InputError("The file cannot be read.", where=path, found=reason.strerror or reason) from reason
    except UNREADABLE as reason:
        raise InputError("This is not a DICOM file, or a damaged one.", where=path, found=reason) from reason
    if kind[0] != RTStructureSetStorage and kind[1] != "RTSTRUCT":
        raise InputError(
            "This file is no structure set.", where=path, found=f"modality {kind[1] or 'unknown'}"
        )
    return dataset


# -- file and header ---------------------------------------------------------------------------------------------


def _file(c: _Checked) -> Findings:
    with c.path.open("rb") as stream:
        if stream.read(132)[128:] != b"DICM":
            yield breaks("file-meta", "file", "no preamble and DICM prefix (PS3.10 7.1)")
    if is_cut_short(c.dataset):
        yield refused("cut-short", "file", "its last element has fewer bytes than it says")


def _identity(c: _Checked) -> Findings:
    d, meta = c.dataset, getattr(c.dataset, "file_meta", Dataset())
    if not d.get("SOPClassUID"):
        yield refused("sop-class", "SOPClassUID", "is missing")
    elif d.get("SOPClassUID") != RTStructureSetStorage:
        yield breaks("sop-class", "SOPClassUID", f"is {d.get('SOPClassUID')!r}, not RT Structure Set Storage")
    if d.get("Modality") != "RTSTRUCT":
        yield breaks("modality", "Modality", f"is {d.get('Modality')!r}, not RTSTRUCT (PS3.3 C.8.8.1)")
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        value = d.get(keyword)
        if not value:
            yield refused("no-uid", keyword, "is missing")
        elif not UID(str(value)).is_valid:
            yield breaks("uid", keyword, f"{value} is not a valid UID (PS3.5 9.1)")
    if meta.get("MediaStorageSOPInstanceUID") != d.get("SOPInstanceUID"):
        yield breaks("file-meta", "MediaStorageSOPInstanceUID", "differs from SOPInstanceUID (PS3.10 7.1)")
    if meta.get("MediaStorageSOPClassUID") != d.get("SOPClassUID"):
        yield breaks("file-meta", "MediaStorageSOPClassUID", "differs from SOPClassUID (PS3.10 7.1)")
    for keyword in META_TYPE_1:
        if meta.get(keyword) is None:
            yield breaks("file-meta", keyword, "is missing (PS3.10 7.1, type 1)")
    syntax = meta.get("TransferSyntaxUID")
    if syntax not in (None, ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian):
        yield differs("transfer-syntax", "TransferSyntaxUID", f"{syntax} is unusual for a structure set")
    if c.ct is not None:
        if d.get("SeriesInstanceUID") and d.get("SeriesInstanceUID") == c.ct.header.get("SeriesInstanceUID"):
            yield breaks(
                "uid",
                "SeriesInstanceUID",
                "is the CT's: a structure set is a series of its own (PS3.3 A.1)",
            )
        if d.get("SOPInstanceUID") and d.get("SOPInstanceUID") in c.ct.sop_instance_uids:
            yield breaks("uid", "SOPInstanceUID", "is that of a CT slice")


def _header(c: _Checked) -> Findings:
    d = c.dataset
    for keyword, section in TYPE_2.items():
        if keyword not in d:
            yield breaks("type-2", keyword, f"is missing (PS3.3 {section}, type 2: empty where unknown)")
    if d.get("FrameOfReferenceUID") and "PositionReferenceIndicator" not in d:
        text = "is missing beside FrameOfReferenceUID (PS3.3 C.7.4.1, type 2: empty where unknown)"
        yield breaks("type-2", "PositionReferenceIndicator", text)
    for keyword in ("StructureSetDate", "StructureSetTime"):
        if keyword in d and not d.get(keyword):
            yield differs("date", keyword, "is empty: nothing says which of several sets is the newest")
    if not d.get("PatientID"):
        yield differs("patient", "PatientID", "is empty: systems cannot tell whose contours these are")
    label = str(d.get("StructureSetLabel") or "")
    if not 1 <= len(label) <= LONGEST_LABEL:
        text = f"{label!r} has {len(label)} characters (PS3.3 C.8.8.5, SH, type 1: 1 to {LONGEST_LABEL})"
        yield breaks("label", "StructureSetLabel", text)
    elif len(label) > c.profile.label_characters:
        text = f"{label!r} has {len(label)} characters, {c.profile.name} takes {c.profile.label_characters}"
        yield profile_refusal(c.profile, "label", text, "StructureSetLabel")
    if any(r.get("ROIGenerationAlgorithm") == "AUTOMATIC" for r in d.get("StructureSetROISequence") or ()):
        yield from _of_a_tool(d)
    if c.ct is not None:
        for keyword in SAME_AS_CT:
            ours, theirs = str(d.get(keyword) or ""), str(c.ct.header.get(keyword) or "")
            if ours != theirs:
                yield differs("same-as-ct", keyword, f"is {ours!r}, the CT has {theirs!r}")


def _of_a_tool(d: Dataset) -> Findings:
    """What a file with AUTOMATIC ROIs should say."""
    if d.get("ApprovalStatus") != "UNAPPROVED":
        text = f"is {d.get('ApprovalStatus')!r}; contours of a tool are UNAPPROVED"
        yield differs("approval", "ApprovalStatus", text)
    for keyword in TRACEABLE:
        if not d.get(keyword):
            yield differs("traceable", keyword, "is missing or empty: it should say what made the file")


def _values(c: _Checked) -> Findings:
    """Values that their representation (length, characters, form) does not allow."""
    d = c.dataset
    items = [("", d)]
    for sequence in ("StructureSetROISequence", "RTROIObservationsSequence"):
        items += [(f"{sequence} item {n}, ", item) for n, item in enumerate(d.get(sequence) or (), start=1)]
    for where, item in items:
        for element in item:
            if element.VR in (VR.SQ, VR.UN) or element.is_empty:
                continue
            for value in element.value if element.VM > 1 else [element.value]:
                wrong = _wrong_value(VR(element.VR), value)
                if wrong:
                    yield breaks("value", f"{where}{element.keyword or element.tag}", wrong)


def _wrong_value(vr: VR, value: object) -> str:
    """Why a value is not allowed, or nothing."""
    if vr in NUMBERS:
        text = str(getattr(value, "original_string", value))
        return f"{text} is longer than {NUMBERS[vr]} characters" if len(text) > NUMBERS[vr] else ""
    try:
        validate_value(vr, str(value) if vr == VR.PN else value, config.RAISE)
    except (ValueError, TypeError) as reason:
        return str(reason).splitlines()[0]
    return ""


def _texts(c: _Checked) -> Findings:
    """Text that the character set named in the file does not have."""
    named = c.dataset.get("SpecificCharacterSet") or ""
    unknown = [n for n in ([named] if isinstance(named, str) else named) if n not in python_encoding]
    if unknown:
        yield breaks("character-set", "SpecificCharacterSet", f"names unknown ones: {', '.join(unknown)}")
        return
    encodings = convert_encodings(named)
    items = [("", "PatientName", c.dataset), ("", "StructureSetLabel", c.dataset)]
    items += [
        (f"ROI {roi.get('ROIName')}, ", "ROIName", roi)
        for roi in c.dataset.get("StructureSetROISequence") or ()
    ]
    for where, keyword, item in items:
        text = str(item.get(keyword) or "")
        if not _encodable(text, encodings):
            message = f"{text!r} is not in the file's SpecificCharacterSet, {named or 'which is missing'}"
            yield breaks("character-set", f"{where}{keyword}", message)


def _encodable(text: str, encodings: Sequence[str]) -> bool:
    """Whether text is in one of the file's character sets, and no mark of damage."""
    for encoding in encodings:
        try:
            text.encode("ascii" if encoding == DEFAULT_ENCODING else encoding)
        except UnicodeError:
            continue
        return DAMAGED not in text
    return False


# -- parts of their own ------------------------------------------------------------------------------------------


def _reading(c: _Checked) -> Findings:
    yield from reading_findings(c.path, c.ct)


def _references(c: _Checked) -> Findings:
    yield from reference_findings(c.dataset, c.ct)


def _rois(c: _Checked) -> Findings:
    yield from name_findings(c.dataset, c.profile)
    yield from roi_findings(c.dataset)


def _contours(c: _Checked) -> Findings:
    yield from contour_findings(c.dataset, c.ct, keyholes=c.profile.holes == "keyhole")


RULES: tuple[Callable[[_Checked], Findings], ...] = (
    _file,
    _identity,
    _header,
    _values,
    _texts,
    _references,
    _rois,
    _reading,
    _contours,
)
