"""What `check` says of the references of a structure set: frames of reference, study, series, images."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset

from contour_ai.dicom.check_contours import contours_by_roi
from contour_ai.dicom.finding import Findings, breaks, differs
from contour_ai.dicom.rtstruct_header import frame_of_reference_uid
from contour_ai.dicom.rtstruct_parse import image_uid

if TYPE_CHECKING:
    from contour_ai.dicom.ct import CTSeries


def reference_findings(dataset: Dataset, ct: CTSeries | None) -> Findings:
    """Frames of reference, then study, series and images."""
    own = str(dataset.get("FrameOfReferenceUID") or "")
    frames = list(dataset.get("ReferencedFrameOfReferenceSequence") or ())
    listed = {str(f.get("FrameOfReferenceUID") or "") for f in frames} - {""}
    if not frames:
        yield differs(
            "references",
            "ReferencedFrameOfReferenceSequence",
            "is missing: the set does not say what it was drawn on",
        )
    for n, frame in enumerate(frames, start=1):
        if not frame.get("FrameOfReferenceUID"):
            where = f"ReferencedFrameOfReferenceSequence item {n}, FrameOfReferenceUID"
            yield breaks("frame-of-reference", where, "is missing (PS3.3 C.8.8.5, type 1)")
    for n, roi in enumerate(dataset.get("StructureSetROISequence") or (), start=1):
        uid = str(roi.get("ReferencedFrameOfReferenceUID") or "")
        where = f"ROI {roi.get('ROIName') or n}, ReferencedFrameOfReferenceUID"
        if not uid:
            yield breaks("frame-of-reference", where, "is missing (PS3.3 C.8.8.5, type 1)")
        elif listed and uid not in listed:
            yield differs(
                "frame-of-reference", where, f"{uid} is none of those listed: {', '.join(sorted(listed))}"
            )
    if len(listed) > 1:
        yield differs(
            "frame-of-reference",
            "ReferencedFrameOfReferenceSequence",
            f"names {len(listed)} frames of reference: not all ROIs belong on one image",
        )
    if own and listed and own not in listed:
        yield differs(
            "frame-of-reference", "FrameOfReferenceUID", f"{own} is not listed: {', '.join(sorted(listed))}"
        )
    uids = listed | ({own} - {""})
    if ct is not None and uids and frame_of_reference_uid(ct) not in uids:
        yield differs(
            "frame-of-reference", "FrameOfReferenceUID", f"is not the CT's {frame_of_reference_uid(ct)}"
        )
    yield from _chain(dataset, frames, ct)


def _chain(dataset: Dataset, frames: list[Dataset], ct: CTSeries | None) -> Findings:
    """Frame of reference, study, series, images (PS3.3 C.8.8.5)."""
    studies = [s for f in frames for s in f.get("RTReferencedStudySequence") or ()]
    series = [s for study in studies for s in study.get("RTReferencedSeriesSequence") or ()]
    images = [i for s in series for i in s.get("ContourImageSequence") or ()]
    if frames and not studies:
        yield differs(
            "references", "RTReferencedStudySequence", "is missing: the set does not say what it was drawn on"
        )
    for parents, found, keyword in (
        (studies, series, "RTReferencedSeriesSequence"),
        (series, images, "ContourImageSequence of the series"),
    ):
        if parents and not found:
            yield breaks("references", keyword, "is missing (PS3.3 C.8.8.5, type 1)")
    listed = {str(i.get("ReferencedSOPInstanceUID") or "") for i in images}
    drawn = (contour for _, contours in contours_by_roi(dataset) for contour in contours)
    used = {uid for contour in drawn if (uid := image_uid(contour))}
    if listed and used - listed:
        yield differs(
            "references",
            "ContourImageSequence of the series",
            f"does not list {len(used - listed)} images that contours use",
        )
    classes = Counter(str(i.get("ReferencedSOPClassUID") or "") for i in (*studies, *images))
    if classes[""]:
        yield breaks(
            "references",
            "ReferencedSOPClassUID",
            f"is missing for {classes['']} studies or images (PS3.3 10.8, type 1)",
        )
    if ct is not None:
        yield from _to_the_ct(ct, studies, series, images, listed | used)


def _to_the_ct(
    ct: CTSeries, studies: list[Dataset], series: list[Dataset], images: list[Dataset], uids: set[str]
) -> Findings:
    """Whether the references lead to this CT."""
    classes = {str(i.get("ReferencedSOPClassUID") or ct.sop_class_uid) for i in images} - {ct.sop_class_uid}
    if ct.sop_class_uid and classes:
        yield differs("references", "ReferencedSOPClassUID", f"is not the CT's: {', '.join(sorted(classes))}")
    if studies and all(
        s.get("ReferencedSOPInstanceUID") != ct.header.get("StudyInstanceUID") for s in studies
    ):
        yield differs("references", "RTReferencedStudySequence", "does not name the study of the CT")
    if series and all(s.get("SeriesInstanceUID") != ct.header.get("SeriesInstanceUID") for s in series):
        yield differs("references", "RTReferencedSeriesSequence", "does not name the series of the CT")
    strangers = uids - set(ct.sop_instance_uids) - {""}
    if strangers:
        yield differs("references", "ReferencedSOPInstanceUID", f"{len(strangers)} images are not in the CT")
