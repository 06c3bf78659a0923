"""What an importer would stumble over in a structure set: every rule names the attribute, ROI, contour and number.

The rules are those of DICOM PS3.3 A.19 and C.8.8 where they say something, and otherwise what planning systems are
known to refuse. They run on files of any tool, alone or against the CT.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import config
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RTStructureSetStorage,
)
from pydicom.valuerep import VR, validate_value

from contour_ai.dicom.profile import Profile, load_profile
from contour_ai.dicom.rtstruct_header import TYPE_2, frame_of_reference_uid
from contour_ai.dicom.rtstruct_read import AREA_TYPES, image_uid, raw_numbers
from contour_ai.errors import InputError
from contour_ai.polygons import crossings
from contour_ai.structures.roi_info import INTERPRETED_TYPES

if TYPE_CHECKING:
    from contour_ai.dicom.ct import CTSeries

Severity = Literal["error", "warning"]

LONGEST_NUMBER = 16
"""Bytes of a DS value."""
LONGEST_EXPLICIT_BYTES = 65534
COPLANAR_TOL_MM = 0.01
"""Planning systems compare plane positions to about a hundredth of a millimetre."""
ON_PLANE_TOL_MM = 0.05
ALGORITHMS = ("AUTOMATIC", "SEMIAUTOMATIC", "MANUAL", "")
SAME_AS_CT = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyID",
    "StudyDate",
)
NUMBER = re.compile(rb" *[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)? *")


@dataclass(frozen=True)
class Finding:
    """One thing an importer may stumble over.

    Args:
        severity: "error" breaks DICOM or is refused by systems we know of, "warning" is legal but may be taken amiss.
        rule: short stable name of the rule.
        message: what is wrong, with the number.
        where: attribute, and ROI and contour where it concerns one.
    """

    severity: Severity
    rule: str
    message: str
    where: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.where}: {self.message} [{self.rule}]"


@dataclass(frozen=True)
class _Checked:
    dataset: Dataset
    ct: CTSeries | None
    profile: Profile


Findings = Iterator[Finding]


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
        findings += rule(checked)
    return sorted(findings, key=lambda f: f.severity)


def _opened(path: Path) -> Dataset:
    try:
        dataset = pydicom.dcmread(path, force=True)
        kind = str(dataset.get("SOPClassUID") or ""), str(dataset.get("Modality") or "")
    except OSError as error:
        raise InputError("The file cannot be read.", where=path, found=error.strerror or error) from error
    except (InvalidDicomError, ValueError, KeyError, EOFError, AttributeError, NotImplementedError) as error:
        raise InputError("This is not a DICOM file, or a damaged one.", where=path, found=error) from error
    if kind[0] != RTStructureSetStorage and kind[1] != "RTSTRUCT":
        raise InputError(
            "This file is no structure set.", where=path, found=f"modality {kind[1] or 'unknown'}"
        )
    return dataset


def _error(rule: str, where: str, message: str) -> Finding:
    return Finding("error", rule, message, where)


def _warning(rule: str, where: str, message: str) -> Finding:
    return Finding("warning", rule, message, where)


# -- file and header ---------------------------------------------------------------------------------------------


def _file(path: Path) -> Findings:
    with path.open("rb") as stream:
        if stream.read(132)[128:] != b"DICM":
            yield _error("file-meta", "file", "no preamble and DICM prefix: not a DICOM file by PS3.10")


def _identity(c: _Checked) -> Findings:
    d, meta = c.dataset, getattr(c.dataset, "file_meta", Dataset())
    if d.get("SOPClassUID") != RTStructureSetStorage:
        yield _error("sop-class", "SOPClassUID", f"is {d.get('SOPClassUID')!r}, not RT Structure Set Storage")
    if d.get("Modality") != "RTSTRUCT":
        yield _error("modality", "Modality", f"is {d.get('Modality')!r}, not RTSTRUCT")
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        value = d.get(keyword)
        if not value:
            yield _error("uid", keyword, "is missing")
        elif not UID(value).is_valid:
            yield _error("uid", keyword, f"{value} is not a valid UID")
    if meta.get("MediaStorageSOPInstanceUID") != d.get("SOPInstanceUID"):
        yield _error("file-meta", "MediaStorageSOPInstanceUID", "differs from SOPInstanceUID")
    if meta.get("MediaStorageSOPClassUID") != d.get("SOPClassUID"):
        yield _error("file-meta", "MediaStorageSOPClassUID", "differs from SOPClassUID")
    syntax = meta.get("TransferSyntaxUID")
    if syntax not in (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian):
        yield _warning("transfer-syntax", "TransferSyntaxUID", f"{syntax} is unusual for a structure set")
    if c.ct is not None:
        if d.get("SeriesInstanceUID") == c.ct.header.get("SeriesInstanceUID"):
            yield _error("uid", "SeriesInstanceUID", "is the CT's: a structure set is a series of its own")
        if d.get("SOPInstanceUID") in c.ct.sop_instance_uids:
            yield _error("uid", "SOPInstanceUID", "is that of a CT slice")


def _header(c: _Checked) -> Findings:
    d = c.dataset
    for keyword in TYPE_2:
        if keyword not in d:
            yield _error("type-2", keyword, "is missing; where unknown it must be present and empty")
    for keyword in ("StructureSetDate", "StructureSetTime"):
        if keyword not in d:
            yield _error("type-2", keyword, "is missing")
        elif not d.get(keyword):
            yield _warning("date", keyword, "is empty")
    if not d.get("PatientID"):
        yield _warning("patient", "PatientID", "is empty: systems cannot tell whose contours these are")
    label = str(d.get("StructureSetLabel") or "")
    longest = c.profile.label_characters
    if not 1 <= len(label) <= longest:
        yield _error(
            "label", "StructureSetLabel", f"{label!r} has {len(label)} characters, must have 1-{longest}"
        )
    if d.get("ApprovalStatus") != "UNAPPROVED":
        yield _warning(
            "approval", "ApprovalStatus", f"is {d.get('ApprovalStatus')!r}; contours of a tool are UNAPPROVED"
        )
    for keyword in ("Manufacturer", "SoftwareVersions", "SeriesDescription"):
        if not d.get(keyword):
            yield _warning("traceable", keyword, "is missing: the file cannot be traced to what made it")
    if c.ct is not None:
        for keyword in SAME_AS_CT:
            ours, theirs = str(d.get(keyword) or ""), str(c.ct.header.get(keyword) or "")
            if ours != theirs:
                severity = _error if keyword in ("PatientID", "StudyInstanceUID") else _warning
                yield severity("same-as-ct", keyword, f"is {ours!r}, the CT has {theirs!r}")


def _values(c: _Checked) -> Findings:
    """Values that their representation (length, characters, form) does not allow."""
    d = c.dataset
    items = [("", d)]
    for sequence in ("StructureSetROISequence", "RTROIObservationsSequence"):
        items += [(f"{sequence} item {n}, ", item) for n, item in enumerate(d.get(sequence) or (), start=1)]
    for where, item in items:
        for element in item:
            if element.VR in (VR.SQ, VR.UN, VR.DS, VR.IS) or element.is_empty:
                continue
            values = element.value if element.VM > 1 else [element.value]
            for value in values:
                try:
                    validate_value(element.VR, str(value) if element.VR == VR.PN else value, config.RAISE)
                except (ValueError, TypeError) as error:
                    yield _error(
                        "value", f"{where}{element.keyword or element.tag}", str(error).splitlines()[0]
                    )
    charset = d.get("SpecificCharacterSet")
    texts = [str(i.get("ROIName") or "") for i in d.get("StructureSetROISequence") or ()]
    if not charset and not "".join([*texts, str(d.get("PatientName") or "")]).isascii():
        yield _error(
            "character-set", "SpecificCharacterSet", "is missing, but there is text that is not ASCII"
        )


def _references(c: _Checked) -> Findings:
    d = c.dataset
    own = d.get("FrameOfReferenceUID")
    if not own:
        yield _error("frame-of-reference", "FrameOfReferenceUID", "is missing")
    frames = list(d.get("ReferencedFrameOfReferenceSequence") or ())
    if len(frames) != 1:
        yield _error(
            "references", "ReferencedFrameOfReferenceSequence", f"has {len(frames)} items instead of one"
        )
    uids = {str(f.get("FrameOfReferenceUID") or "") for f in frames} | ({str(own)} if own else set())
    for n, roi in enumerate(d.get("StructureSetROISequence") or (), start=1):
        uid = str(roi.get("ReferencedFrameOfReferenceUID") or "")
        if uid not in uids or not uid:
            yield _error(
                "frame-of-reference",
                f"ROI {roi.get('ROIName') or n}, ReferencedFrameOfReferenceUID",
                f"{uid or 'missing'}; the set is in {', '.join(sorted(uids)) or 'none'}",
            )
    if len(uids) > 1:
        yield _error("frame-of-reference", "FrameOfReferenceUID", f"{len(uids)} different ones in one set")
    if c.ct is not None and uids and frame_of_reference_uid(c.ct) not in uids:
        yield _error(
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
            yield _error(
                "references", keyword, "is missing: the set says nowhere which images it was drawn on"
            )
    listed = [str(i.get("ReferencedSOPInstanceUID") or "") for i in images]
    used = {uid for _, _, contour in _contours(c.dataset) if (uid := image_uid(contour))}
    unlisted = used - set(listed)
    if listed and unlisted:
        yield _error(
            "references",
            "ContourImageSequence of the series",
            f"does not list {len(unlisted)} images that contours use",
        )
    if c.ct is None:
        return
    if studies and all(
        s.get("ReferencedSOPInstanceUID") != c.ct.header.get("StudyInstanceUID") for s in studies
    ):
        yield _error("references", "RTReferencedStudySequence", "does not name the study of the CT")
    if series and all(s.get("SeriesInstanceUID") != c.ct.header.get("SeriesInstanceUID") for s in series):
        yield _error("references", "RTReferencedSeriesSequence", "does not name the series of the CT")
    strangers = (set(listed) | used) - set(c.ct.sop_instance_uids)
    if strangers:
        yield _error("references", "ReferencedSOPInstanceUID", f"{len(strangers)} images are not in the CT")


# -- ROIs --------------------------------------------------------------------------------------------------------


def _names(c: _Checked) -> Findings:
    names = [str(r.get("ROIName") or "") for r in c.dataset.get("StructureSetROISequence") or ()]
    if not names:
        yield _error("rois", "StructureSetROISequence", "has no ROI")
    folded = Counter(n.strip().casefold() for n in names)
    allowed = re.compile(c.profile.roi_name_pattern)
    for name in names:
        where = f"ROI {name!r}, ROIName"
        if not name.strip():
            yield _error("roi-name", where, "is empty")
        if name != name.strip():
            yield _error("roi-name", where, "begins or ends with a space")
        if len(name) > c.profile.roi_name_characters:
            yield _error(
                "roi-name",
                where,
                f"has {len(name)} characters, {c.profile.name} takes {c.profile.roi_name_characters}",
            )
        wrong = sorted({ch for ch in name if not allowed.fullmatch(ch)})
        if wrong:
            yield _error(
                "roi-name", where, f"has characters that {c.profile.name} does not take: {' '.join(wrong)}"
            )
    for name, count in folded.items():
        if count > 1:
            yield _error("roi-name", f"ROI {name!r}, ROIName", f"is there {count} times (case ignored)")


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
            yield _error(
                "roi-numbers", keyword, f"refers to ROI number {number or 'none'}, which does not exist"
            )
        for roi in rois:
            count = referred[_text(roi, "ROINumber")]
            if count != 1:
                where = f"ROI {roi.get('ROIName')}, {keyword}"
                few = _warning if count == 0 and keyword == "ROIContourSequence" else _error
                yield few("roi-numbers", where, f"has {count} items for it instead of one")
    for roi in rois:
        algorithm = roi.get("ROIGenerationAlgorithm")
        if algorithm is None or algorithm not in ALGORITHMS:
            yield _error(
                "algorithm",
                f"ROI {roi.get('ROIName')}, ROIGenerationAlgorithm",
                f"is {algorithm!r}, not one of the terms",
            )
    yield from _observations(d, observations)
    by_number = {_text(r, "ROINumber"): r.get("ROIName") for r in rois}
    for item in contours:
        where = f"ROI {by_number.get(_text(item, 'ReferencedROINumber'))}"
        color = item.get("ROIDisplayColor")
        if color is None or len(color) != 3 or not all(0 <= int(v) <= 255 for v in color):
            yield _warning(
                "color", f"{where}, ROIDisplayColor", "is missing or not three numbers from 0 to 255"
            )
        if not item.get("ContourSequence"):
            yield _warning("empty-roi", f"{where}, ContourSequence", "the ROI has no contours")


def _numbers(keyword: str, numbers: list[str]) -> Findings:
    repeated = sorted(n for n, count in Counter(numbers).items() if count > 1)
    if repeated:
        yield _error("roi-numbers", keyword, f"{', '.join(repeated)} used more than once")
    if numbers and "1" not in numbers:
        yield _warning("roi-numbers", keyword, f"starts at {numbers[0] or 'nothing'} instead of 1")


def _observations(d: Dataset, observations: list[Dataset]) -> Findings:
    names = {_text(r, "ROINumber"): r.get("ROIName") for r in d.get("StructureSetROISequence") or ()}
    external = 0
    for item in observations:
        kind = item.get("RTROIInterpretedType")
        where = f"ROI {names.get(_text(item, 'ReferencedROINumber'))}, RTROIInterpretedType"
        external += kind == "EXTERNAL"
        if kind is None:
            yield _error("interpreted-type", where, "is missing")
        elif kind == "":
            yield _warning("interpreted-type", where, "is empty: the importer must guess what this is")
        elif kind not in INTERPRETED_TYPES:
            yield _error("interpreted-type", where, f"{kind!r} is not one of the terms")
    if external > 1:
        yield _warning("interpreted-type", "RTROIInterpretedType", f"{external} ROIs are EXTERNAL")


# -- contours ----------------------------------------------------------------------------------------------------


def _contour_rules(c: _Checked) -> Findings:
    explicit = getattr(c.dataset, "file_meta", Dataset()).get("TransferSyntaxUID") == ExplicitVRLittleEndian
    found: dict[tuple[Severity, str, str, str], list[str]] = {}
    seen: dict[str, set[bytes]] = {}
    for roi, n, contour in _contours(c.dataset):
        raw = raw_numbers(contour)
        if raw and raw in seen.setdefault(roi, set()):
            found.setdefault(("error", "twice", roi, "contours are there twice"), []).append(f"contour {n}")
        seen[roi].add(raw)
        for severity, rule, what, detail in _contour(contour, raw, c, explicit):
            found.setdefault((severity, rule, roi, what), []).append(f"contour {n}{detail}")
    for (severity, rule, roi, what), details in found.items():
        more = f" and {len(details) - 3} more" if len(details) > 3 else ""
        yield Finding(severity, rule, f"{len(details)} {what}: {', '.join(details[:3])}{more}", f"ROI {roi}")


def _contour(
    contour: Dataset, raw: bytes, c: _Checked, explicit: bool
) -> Iterator[tuple[Severity, str, str, str]]:
    """(severity, rule, what is wrong with contours, detail of this one)."""
    numbers = raw.split(b"\\") if raw else []
    if (longest := max(map(len, numbers), default=0)) > LONGEST_NUMBER:
        many = sum(len(x) > LONGEST_NUMBER for x in numbers)
        yield (
            "error",
            "number-length",
            "contours have numbers of more than 16 characters",
            f" ({many}, up to {longest})",
        )
    if explicit and len(raw) > LONGEST_EXPLICIT_BYTES:
        yield "error", "explicit-length", "contours are too long for explicit VR", f" ({len(raw)} bytes)"
    kind = str(contour.get("ContourGeometricType") or "")
    if not kind:
        yield "error", "geometric-type", "contours have no ContourGeometricType", ""
    if any(not NUMBER.fullmatch(x) for x in numbers) or len(numbers) % 3:
        yield "error", "contour-data", "contours hold no list of x, y, z", f" ({len(numbers)} values)"
        return
    points = np.fromiter(map(float, numbers), dtype=np.float64).reshape(-1, 3)
    said = _text(contour, "NumberOfContourPoints")
    if said != str(len(points)):
        yield (
            "error",
            "number-of-points",
            "contours have a wrong NumberOfContourPoints",
            f" ({said or 'none'} for {len(points)})",
        )
    if not contour.get("ContourImageSequence"):
        yield "warning", "contour-image", "contours have no ContourImageSequence", ""
    if kind not in AREA_TYPES:
        if kind:
            yield "warning", "geometric-type", f"contours are {kind} and enclose no area", ""
        return
    distinct = len(np.unique(points, axis=0))
    if distinct < 3:
        yield "error", "few-points", "closed contours have fewer than 3 distinct points", f" ({distinct})"
        return
    if np.array_equal(points[0], points[-1]):
        yield "warning", "repeated-point", "contours repeat their first point at the end", ""
    yield from _shape(points, contour, c)


def _shape(
    points: NDArray[np.float64], contour: Dataset, c: _Checked
) -> Iterator[tuple[Severity, str, str, str]]:
    triangles = np.cross(points - points[0], np.roll(points, -1, axis=0) - points[0])
    sizes = np.linalg.norm(triangles, axis=1)
    normal = triangles[sizes.argmax()]  # of the largest triangle: a bow tie has no area, but a plane
    if sizes.max() > 1e-6:
        off = float(np.ptp(points @ (normal / sizes.max())))
        if off > COPLANAR_TOL_MM:
            yield "error", "coplanar", "contours do not lie in a plane", f" ({off:.3f} mm)"
    plane = np.delete(points, int(np.abs(normal).argmax()), axis=1)
    count = crossings(plane)
    if count:
        yield "error", "self-crossing", "contours cross themselves", f" ({count} times)"
    if c.ct is not None:
        yield from _place(points, contour, c.ct)


def _place(
    points: NDArray[np.float64], contour: Dataset, ct: CTSeries
) -> Iterator[tuple[Severity, str, str, str]]:
    grid = ct.grid
    heights = points @ grid.normal
    distances = np.abs(grid.heights_mm - heights.mean())
    k = int(distances.argmin())
    off = float(np.abs(heights - grid.heights_mm[k]).max())
    if off > ON_PLANE_TOL_MM:
        yield "error", "off-plane", "contours do not lie on a CT slice", f" ({off:.2f} mm off slice {k})"
    uid = image_uid(contour)
    if (
        uid in ct.sop_instance_uids
        and ct.sop_instance_uids.count(uid) == 1
        and ct.sop_instance_uids[k] != uid
    ):
        other = ct.sop_instance_uids.index(uid)
        yield (
            "error",
            "contour-image",
            "contours refer to another slice than they lie on",
            f" (slice {other}, lies on {k})",
        )
    index = grid.lps_to_index(points)[:, 1:]
    size = np.array(grid.shape_kij[1:])
    outside = float(max((-0.5 - index).max(), (index - (size - 0.5)).max()))
    if outside > 0.01:
        yield "warning", "outside-image", "contours leave the image", f" (by {outside:.2f} voxels)"


def _contours(dataset: Dataset) -> Iterator[tuple[str, int, Dataset]]:
    """(ROI name, number from 1, contour) of every contour."""
    names = {
        _text(r, "ROINumber"): str(r.get("ROIName")) for r in dataset.get("StructureSetROISequence") or ()
    }
    for item in dataset.get("ROIContourSequence") or ():
        number = _text(item, "ReferencedROINumber")
        for n, contour in enumerate(item.get("ContourSequence") or (), start=1):
            yield names.get(number, f"number {number}"), n, contour


def _text(item: Dataset, keyword: str) -> str:
    value = item.get(keyword)
    return "" if value is None else str(value)


RULES: tuple[Callable[[_Checked], Findings], ...] = (
    _identity,
    _header,
    _values,
    _references,
    _names,
    _rois,
    _contour_rules,
)
