"""What `check` says of the list of ROIs: names, numbers, types, colours."""

from __future__ import annotations

import re
from collections import Counter

from pydicom.dataset import Dataset

from contour_ai.dicom.check_names import standard_name_findings
from contour_ai.dicom.finding import Finding, Findings, breaks, differs, refused
from contour_ai.dicom.profile import LONGEST_ROI_NAME, Profile
from contour_ai.dicom.refusals import Refusal
from contour_ai.dicom.rtstruct_parse import integer_of, raw_text, text_of
from contour_ai.structures.roi_record import INTERPRETED_TYPES

ALGORITHMS = ("AUTOMATIC", "SEMIAUTOMATIC", "MANUAL", "")
REVIEW = re.compile(r"review|unapproved|not[ _-]?approved", re.IGNORECASE)
ROI_NUMBER, ROI_DISPLAY_COLOR, REFERENCED_ROI_NUMBER, OBSERVATION_NUMBER = (
    0x30060022,
    0x3006002A,
    0x30060084,
    0x30060082,
)


def profile_refusal(profile: Profile, rule: str, message: str, where: str) -> Finding:
    """A finding that the systems of a profile refuse."""
    systems = profile.description or f"the systems of profile {profile.name}"
    source = profile.source or f"profile {profile.name}"
    return refused(rule, where, message, Refusal(rule=rule, what=message, systems=systems, source=source))


def name_findings(dataset: Dataset, profile: Profile) -> Findings:
    """What is wrong with the names of ROIs."""
    names = [text_of(r, "ROIName") for r in dataset.get("StructureSetROISequence") or ()]
    written = [str(r.get("ROIName") or "") for r in dataset.get("StructureSetROISequence") or ()]
    if not names:
        yield breaks("rois", "StructureSetROISequence", "has no ROI (PS3.3 C.8.8.5, type 1)")
    allowed = re.compile(profile.roi_name_pattern)
    for name, padded in zip(names, written, strict=True):
        where = f"ROI {name!r}, ROIName"
        if not name:
            yield differs("roi-name", where, "is empty")
        if REVIEW.search(name):
            yield differs(
                "roi-name", where, "speaks of review, which belongs into descriptions: names are kept"
            )
        if padded != padded.strip():
            yield differs("roi-name", where, "begins or ends with a space")
        if len(name) > LONGEST_ROI_NAME:
            yield breaks(
                "roi-name", where, f"has {len(name)} characters (PS3.5 6.2, LO: at most {LONGEST_ROI_NAME})"
            )
        elif len(name) > profile.roi_name_characters:
            text = f"has {len(name)} characters, {profile.name} takes {profile.roi_name_characters}"
            yield profile_refusal(profile, "roi-name", text, where)
        wrong = sorted({ch for ch in name if not allowed.fullmatch(ch)})
        if any(ch == "\\" or ord(ch) < 32 or ord(ch) == 127 for ch in wrong):
            yield breaks(
                "roi-name", where, f"has characters that PS3.5 6.2 does not allow in LO: {_shown(wrong)}"
            )
        elif wrong:
            text = f"has characters that {profile.name} does not take: {_shown(wrong)}"
            yield profile_refusal(profile, "roi-name", text, where)
    yield from standard_name_findings(names, profile)
    for name, count in Counter(name.casefold() for name in names).items():
        if count > 1:
            yield differs("roi-name", f"ROI {name!r}, ROIName", f"is there {count} times (case ignored)")


def _shown(characters: list[str]) -> str:
    return " ".join(ch if ch.isprintable() else repr(ch)[1:-1] for ch in characters)


def roi_findings(dataset: Dataset) -> Findings:
    """What is wrong with numbers, algorithms, types, colours and empty ROIs."""
    rois = list(dataset.get("StructureSetROISequence") or ())
    observations = list(dataset.get("RTROIObservationsSequence") or ())
    contours = list(dataset.get("ROIContourSequence") or ())
    numbers = [_number(r, ROI_NUMBER) for r in rois]
    yield from _repeated("ROINumber", numbers)
    yield from _repeated("ObservationNumber", [_number(o, OBSERVATION_NUMBER) for o in observations])
    for keyword, items in (("RTROIObservationsSequence", observations), ("ROIContourSequence", contours)):
        referred = Counter(_number(i, REFERENCED_ROI_NUMBER) for i in items)
        for number in sorted(set(referred) - set(numbers)):
            text = f"refers to ROI number {number or 'none'}, which does not exist"
            yield breaks("roi-numbers", keyword, text)
        for roi, number in zip(rois, numbers, strict=True):
            if referred[number] != 1:
                where = f"ROI {roi.get('ROIName')}, {keyword}"
                few = differs if referred[number] == 0 else breaks
                yield few("roi-numbers", where, f"has {referred[number]} items for it instead of one")
    yield from _algorithms(rois)
    names = {n: roi.get("ROIName") for n, roi in zip(numbers, rois, strict=True)}
    yield from _observations(observations, names)
    for item in contours:
        where = f"ROI {names.get(_number(item, REFERENCED_ROI_NUMBER))}"
        if not raw_text(item, ROI_DISPLAY_COLOR):
            yield differs(
                "color", f"{where}, ROIDisplayColor", "is missing: every system chooses one of its own"
            )
        if not item.get("ContourSequence"):
            yield differs("empty-roi", f"{where}, ContourSequence", "the ROI has no contours")


def _repeated(keyword: str, numbers: list[str]) -> Findings:
    repeated = sorted(n for n, count in Counter(numbers).items() if count > 1)
    if repeated:
        yield breaks(
            "roi-numbers", keyword, f"{', '.join(repeated)} used more than once (PS3.3 C.8.8.5: unique)"
        )


def _algorithms(rois: list[Dataset]) -> Findings:
    for roi in rois:
        where = f"ROI {roi.get('ROIName')}"
        algorithm = roi.get("ROIGenerationAlgorithm")
        if algorithm == "AUTOMATIC" and not roi.get("ROIDescription"):
            text = "is missing or empty: it should say what made an AUTOMATIC ROI"
            yield differs("traceable", f"{where}, ROIDescription", text)
        where = f"{where}, ROIGenerationAlgorithm"
        if "ROIGenerationAlgorithm" not in roi:
            yield breaks("algorithm", where, "is missing (PS3.3 C.8.8.5, type 2: empty where unknown)")
        elif str(algorithm or "") not in ALGORITHMS:
            yield differs(
                "algorithm", where, f"is {algorithm!r}, not one of the defined terms (PS3.3 C.8.8.5)"
            )


def _observations(observations: list[Dataset], names: dict[str, str]) -> Findings:
    external = 0
    for item in observations:
        roi = names.get(_number(item, REFERENCED_ROI_NUMBER))
        kind = item.get("RTROIInterpretedType")
        external += kind == "EXTERNAL"
        if "ROIInterpreter" not in item:
            text = "is missing (PS3.3 C.8.8.8, type 2: empty where unknown)"
            yield breaks("type-2", f"ROI {roi}, ROIInterpreter", text)
        where = f"ROI {roi}, RTROIInterpretedType"
        if "RTROIInterpretedType" not in item:
            yield breaks("interpreted-type", where, "is missing (PS3.3 C.8.8.8, type 2: empty where unknown)")
        elif not kind:
            yield differs("interpreted-type", where, "is empty: the importer must guess what this is")
        elif kind not in INTERPRETED_TYPES:
            yield differs(
                "interpreted-type", where, f"{kind!r} is not one of the defined terms (PS3.3 C.8.8.8)"
            )
    if external > 1:
        yield differs("interpreted-type", "RTROIInterpretedType", f"{external} ROIs are EXTERNAL")


def _number(item: Dataset, tag: int) -> str:
    """A number as text; "1" also where it is written as "1.0"."""
    text = raw_text(item, tag)
    number = integer_of(text)
    return text if number is None else str(number)
