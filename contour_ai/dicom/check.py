"""What an importer would stumble over in a structure set: every rule names attribute, ROI, contour, slice and number.

The rules are those of DICOM PS3.3 A.19 and C.8.8 where they say something, and otherwise what planning systems are
known to refuse. They run on files of any tool, alone or against the CT.
"""

from __future__ import annotations

import re
from collections import Counter
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

from contour_ai.dicom.check_contours import LONGEST_NUMBER, contour_findings, contours_by_roi
from contour_ai.dicom.finding import Finding, Findings, error, warning
from contour_ai.dicom.header import UNREADABLE
from contour_ai.dicom.profile import Profile, load_profile
from contour_ai.dicom.rtstruct_header import TYPE_2, frame_of_reference_uid
from contour_ai.dicom.rtstruct_parse import image_uid
from contour_ai.errors import InputError
from contour_ai.structures.roi_record import INTERPRETED_TYPES

if TYPE_CHECKING:
    from contour_ai.dicom.ct import CTSeries

PRESENT = (*TYPE_2, "SeriesNumber", "Manufacturer")
"""Attributes of type 2."""
META_TYPE_1 = (
    "FileMetaInformationGroupLength",
    "FileMetaInformationVersion",
    "TransferSyntaxUID",
    "ImplementationClassUID",
)
TRACEABLE = ("Manufacturer", "SoftwareVersions", "SeriesDescription", "StructureSetDescription")
ALGORITHMS = ("AUTOMATIC", "SEMIAUTOMATIC", "MANUAL", "")
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
REVIEW = re.compile(r"review|unapproved|not[ _-]?approved", re.IGNORECASE)


@dataclass(frozen=True)
class _Checked:
    dataset: Dataset
    ct: CTSeries | None
    profile: Profile


def check_structure_set(
    path: Path, ct: CTSeries | None = None, *, profile: str | Path | Profile = "generic"
) -> list[Finding]:
    """All findings, errors first.

    Raises:
        InputError: the file is no DICOM file or no structure set at all.
    """
    path = Path(path)
    checked = _Checked(_opened(path), ct, load_profile(profile))
    findings = [*_file(path)]
    for rule in RULES:
        try:
            for finding in rule(checked):
                findings.append(finding)
        except UNREADABLE as reason:
            findings.append(error("damaged", "file", f"has a value that cannot be read: {reason}"))
    return sorted(findings, key=lambda f: f.severity)


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


def _file(path: Path) -> Findings:
    with path.open("rb") as stream:
        if stream.read(132)[128:] != b"DICM":
            yield error("file-meta", "file", "no preamble and DICM prefix: not a DICOM file by PS3.10")


def _identity(c: _Checked) -> Findings:
    d, meta = c.dataset, getattr(c.dataset, "file_meta", Dataset())
    if d.get("SOPClassUID") != RTStructureSetStorage:
        yield error("sop-class", "SOPClassUID", f"is {d.get('SOPClassUID')!r}, not RT Structure Set Storage")
    if d.get("Modality") != "RTSTRUCT":
        yield error("modality", "Modality", f"is {d.get('Modality')!r}, not RTSTRUCT")
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        value = d.get(keyword)
        if not value:
            yield error("uid", keyword, "is missing")
        elif not UID(str(value)).is_valid:
            yield error("uid", keyword, f"{value} is not a valid UID")
    if meta.get("MediaStorageSOPInstanceUID") != d.get("SOPInstanceUID"):
        yield error("file-meta", "MediaStorageSOPInstanceUID", "differs from SOPInstanceUID")
    if meta.get("MediaStorageSOPClassUID") != d.get("SOPClassUID"):
        yield error("file-meta", "MediaStorageSOPClassUID", "differs from SOPClassUID")
    for keyword in META_TYPE_1:
        if meta.get(keyword) is None:
            yield error("file-meta", keyword, "is missing")
    syntax = meta.get("TransferSyntaxUID")
    if syntax not in (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian):
        yield warning("transfer-syntax", "TransferSyntaxUID", f"{syntax} is unusual for a structure set")
    if c.ct is not None:
        if d.get("SeriesInstanceUID") == c.ct.header.get("SeriesInstanceUID"):
            yield error("uid", "SeriesInstanceUID", "is the CT's: a structure set is a series of its own")
        if d.get("SOPInstanceUID") in c.ct.sop_instance_uids:
            yield error("uid", "SOPInstanceUID", "is that of a CT slice")


def _header(c: _Checked) -> Findings:
    d = c.dataset
    for keyword in PRESENT:
        if keyword not in d:
            yield error("type-2", keyword, "is missing; where unknown it must be present and empty")
    for keyword in ("StructureSetDate", "StructureSetTime"):
        if keyword not in d:
            yield error("type-2", keyword, "is missing")
        elif not d.get(keyword):
            yield warning("date", keyword, "is empty")
    if not d.get("PatientID"):
        yield warning("patient", "PatientID", "is empty: systems cannot tell whose contours these are")
    label = str(d.get("StructureSetLabel") or "")
    longest = c.profile.label_characters
    if not 1 <= len(label) <= longest:
        yield error(
            "label", "StructureSetLabel", f"{label!r} has {len(label)} characters, must have 1-{longest}"
        )
    if d.get("ApprovalStatus") != "UNAPPROVED":
        yield warning(
            "approval", "ApprovalStatus", f"is {d.get('ApprovalStatus')!r}; contours of a tool are UNAPPROVED"
        )
    for keyword in TRACEABLE:
        if not d.get(keyword):
            yield warning("traceable", keyword, "is missing or empty: it should say what made the file")
    if c.ct is not None:
        for keyword in SAME_AS_CT:
            ours, theirs = str(d.get(keyword) or ""), str(c.ct.header.get(keyword) or "")
            if ours != theirs:
                severity = error if keyword in ("PatientID", "StudyInstanceUID") else warning
                yield severity("same-as-ct", keyword, f"is {ours!r}, the CT has {theirs!r}")


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
                    yield error("value", f"{where}{element.keyword or element.tag}", wrong)


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
        yield error("character-set", "SpecificCharacterSet", f"names unknown ones: {', '.join(unknown)}")
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
            yield error("character-set", f"{where}{keyword}", message)


def _encodable(text: str, encodings: Sequence[str]) -> bool:
    """Whether text is in one of the file's character sets, and no mark of damage."""
    for encoding in encodings:
        try:
            text.encode("ascii" if encoding == DEFAULT_ENCODING else encoding)
        except UnicodeError:
            continue
        return DAMAGED not in text
    return False


def _references(c: _Checked) -> Findings:
    d = c.dataset
    own = d.get("FrameOfReferenceUID")
    if not own:
        yield error("frame-of-reference", "FrameOfReferenceUID", "is missing")
    frames = list(d.get("ReferencedFrameOfReferenceSequence") or ())
    if len(frames) != 1:
        yield error(
            "references", "ReferencedFrameOfReferenceSequence", f"has {len(frames)} items instead of one"
        )
    uids = {str(f.get("FrameOfReferenceUID") or "") for f in frames} | ({str(own)} if own else set())
    for n, roi in enumerate(d.get("StructureSetROISequence") or (), start=1):
        uid = str(roi.get("ReferencedFrameOfReferenceUID") or "")
        if uid not in uids or not uid:
            yield error(
                "frame-of-reference",
                f"ROI {roi.get('ROIName') or n}, ReferencedFrameOfReferenceUID",
                f"{uid or 'missing'}; the set is in {', '.join(sorted(uids)) or 'none'}",
            )
    if len(uids) > 1:
        yield error("frame-of-reference", "FrameOfReferenceUID", f"{len(uids)} different ones in one set")
    if c.ct is not None and uids and frame_of_reference_uid(c.ct) not in uids:
        yield error(
            "frame-of-reference", "FrameOfReferenceUID", f"is not the CT's {frame_of_reference_uid(c.ct)}"
        )
    yield from _reference_chain(c, frames)


def _reference_chain(c: _Checked, frames: list[Dataset]) -> Findings:
    """Frame of reference, study, series, images."""
    studies = [s for f in frames for s in f.get("RTReferencedStudySequence") or ()]
    series = [s for study in studies for s in study.get("RTReferencedSeriesSequence") or ()]
    images = [i for s in series for i in s.get("ContourImageSequence") or ()]
    for keyword, found in (
        ("RTReferencedStudySequence", studies),
        ("RTReferencedSeriesSequence", series),
        ("ContourImageSequence of the series", images),
    ):
        if frames and not found:
            yield error(
                "references", keyword, "is missing: the set says nowhere which images it was drawn on"
            )
    listed = [str(i.get("ReferencedSOPInstanceUID") or "") for i in images]
    drawn = (contour for _, contours in contours_by_roi(c.dataset) for contour in contours)
    used = {uid for contour in drawn if (uid := image_uid(contour))}
    unlisted = used - set(listed)
    if listed and unlisted:
        yield error(
            "references",
            "ContourImageSequence of the series",
            f"does not list {len(unlisted)} images that contours use",
        )
    classes = Counter(str(i.get("ReferencedSOPClassUID") or "") for i in (*studies, *images))
    if classes[""]:
        yield error("references", "ReferencedSOPClassUID", f"is missing for {classes['']} studies or images")
    if c.ct is None:
        return
    others = {str(i.get("ReferencedSOPClassUID") or c.ct.sop_class_uid) for i in images} - {
        c.ct.sop_class_uid
    }
    if c.ct.sop_class_uid and others:
        yield error("references", "ReferencedSOPClassUID", f"is not the CT's: {', '.join(sorted(others))}")
    if studies and all(
        s.get("ReferencedSOPInstanceUID") != c.ct.header.get("StudyInstanceUID") for s in studies
    ):
        yield error("references", "RTReferencedStudySequence", "does not name the study of the CT")
    if series and all(s.get("SeriesInstanceUID") != c.ct.header.get("SeriesInstanceUID") for s in series):
        yield error("references", "RTReferencedSeriesSequence", "does not name the series of the CT")
    strangers = (set(listed) | used) - set(c.ct.sop_instance_uids)
    if strangers:
        yield error("references", "ReferencedSOPInstanceUID", f"{len(strangers)} images are not in the CT")


# -- ROIs --------------------------------------------------------------------------------------------------------


def _names(c: _Checked) -> Findings:
    names = [str(r.get("ROIName") or "") for r in c.dataset.get("StructureSetROISequence") or ()]
    if not names:
        yield error("rois", "StructureSetROISequence", "has no ROI")
    folded = Counter(n.strip().casefold() for n in names)
    allowed = re.compile(c.profile.roi_name_pattern)
    for name in names:
        where = f"ROI {name!r}, ROIName"
        if not name.strip():
            yield error("roi-name", where, "is empty")
        if REVIEW.search(name):
            yield warning(
                "roi-name", where, "speaks of review, which belongs into descriptions: names are kept"
            )
        if name != name.strip():
            yield error("roi-name", where, "begins or ends with a space")
        if len(name) > c.profile.roi_name_characters:
            yield error(
                "roi-name",
                where,
                f"has {len(name)} characters, {c.profile.name} takes {c.profile.roi_name_characters}",
            )
        wrong = sorted({ch for ch in name if not allowed.fullmatch(ch)})
        if wrong:
            yield error(
                "roi-name", where, f"has characters that {c.profile.name} does not take: {' '.join(wrong)}"
            )
    for name, count in folded.items():
        if count > 1:
            yield error("roi-name", f"ROI {name!r}, ROIName", f"is there {count} times (case ignored)")


def _rois(c: _Checked) -> Findings:
    d = c.dataset
    rois = list(d.get("StructureSetROISequence") or ())
    observations = list(d.get("RTROIObservationsSequence") or ())
    contours = list(d.get("ROIContourSequence") or ())
    numbers = [_text(r, "ROINumber") for r in rois]
    yield from _numbers("ROINumber", numbers)
    yield from _numbers("ObservationNumber", [_text(o, "ObservationNumber") for o in observations])
    for keyword, items in (("RTROIObservationsSequence", observations), ("ROIContourSequence", contours)):
        referred = Counter(_text(i, "ReferencedROINumber") for i in items)
        for number in sorted(set(referred) - set(numbers)):
            yield error(
                "roi-numbers", keyword, f"refers to ROI number {number or 'none'}, which does not exist"
            )
        for roi in rois:
            count = referred[_text(roi, "ROINumber")]
            if count != 1:
                where = f"ROI {roi.get('ROIName')}, {keyword}"
                few = warning if count == 0 and keyword == "ROIContourSequence" else error
                yield few("roi-numbers", where, f"has {count} items for it instead of one")
    for roi in rois:
        if _text(roi, "ROIGenerationAlgorithm") == "AUTOMATIC" and not roi.get("ROIDescription"):
            where = f"ROI {roi.get('ROIName')}, ROIDescription"
            yield warning("traceable", where, "is missing or empty: it should say what made an AUTOMATIC ROI")
        algorithm = roi.get("ROIGenerationAlgorithm")
        if algorithm is None or algorithm not in ALGORITHMS:
            yield error(
                "algorithm",
                f"ROI {roi.get('ROIName')}, ROIGenerationAlgorithm",
                f"is {algorithm!r}, not one of the terms",
            )
    yield from _observations(d, observations)
    by_number = {_text(r, "ROINumber"): r.get("ROIName") for r in rois}
    for item in contours:
        where = f"ROI {by_number.get(_text(item, 'ReferencedROINumber'))}"
        color = item.get("ROIDisplayColor")
        if color is None or len(color) != 3 or not all(_is_byte(v) for v in color):
            yield warning(
                "color", f"{where}, ROIDisplayColor", "is missing or not three numbers from 0 to 255"
            )
        if not item.get("ContourSequence"):
            yield warning("empty-roi", f"{where}, ContourSequence", "the ROI has no contours")


def _numbers(keyword: str, numbers: list[str]) -> Findings:
    repeated = sorted(n for n, count in Counter(numbers).items() if count > 1)
    if repeated:
        yield error("roi-numbers", keyword, f"{', '.join(repeated)} used more than once")
    if numbers and "1" not in numbers:
        yield warning("roi-numbers", keyword, f"starts at {numbers[0] or 'nothing'} instead of 1")


def _observations(d: Dataset, observations: list[Dataset]) -> Findings:
    names = {_text(r, "ROINumber"): r.get("ROIName") for r in d.get("StructureSetROISequence") or ()}
    external = 0
    for item in observations:
        kind = item.get("RTROIInterpretedType")
        where = f"ROI {names.get(_text(item, 'ReferencedROINumber'))}, RTROIInterpretedType"
        external += kind == "EXTERNAL"
        if "ROIInterpreter" not in item:
            roi = names.get(_text(item, "ReferencedROINumber"))
            yield error("type-2", f"ROI {roi}, ROIInterpreter", "is missing; where unknown it must be empty")
        if kind is None:
            yield error("interpreted-type", where, "is missing")
        elif kind == "":
            yield warning("interpreted-type", where, "is empty: the importer must guess what this is")
        elif kind not in INTERPRETED_TYPES:
            yield error("interpreted-type", where, f"{kind!r} is not one of the terms")
    if external > 1:
        yield warning("interpreted-type", "RTROIInterpretedType", f"{external} ROIs are EXTERNAL")


# -- contours ----------------------------------------------------------------------------------------------------


def _contours(c: _Checked) -> Findings:
    yield from contour_findings(c.dataset, c.ct, keyholes=c.profile.holes == "keyhole")


def _is_byte(value: object) -> bool:
    text = str(value).strip()
    return text.isdecimal() and int(text) <= 255


def _text(item: Dataset, keyword: str) -> str:
    value = item.get(keyword)
    return "" if value is None else str(value)


RULES: tuple[Callable[[_Checked], Findings], ...] = (
    _identity,
    _header,
    _values,
    _texts,
    _references,
    _names,
    _rois,
    _contours,
)
