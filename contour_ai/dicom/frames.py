"""Which ROIs of a structure set were drawn on a CT, and which on other images, such as an unregistered MR.

Coordinates of another frame of reference (PS3.3 C.7.4.1.1.1) say nothing about a place in the CT.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from contour_ai.dicom.notes import Note, frame_not_the_cts, other_frame
from contour_ai.dicom.other_series import SeveralSeries, several_series
from contour_ai.dicom.structure_set import ReferencedFrame, RoiContoursRead, StructureSet

if TYPE_CHECKING:
    from contour_ai.dicom.ct import CTSeries


def why_not_on_ct(roi: RoiContoursRead, ct: CTSeries) -> Note | None:
    """Why a ROI has no place on a CT; None where it has one.

    A ROI belongs to the CT where the frame of reference that it names is the CT's. Where the structure set never names
    the CT's, as after anonymisation, the frame of the CT's series or images is the CT's; where a ROI names none, its
    contours' images decide. What names no frame at all is placed by its coordinates.
    """
    why = _why_not(roi, ct)
    return other_frame(roi.name, why) if why else None


def drawn_on(structure_set: StructureSet, ct: CTSeries) -> StructureSet:
    """The structure set without the ROIs of other frames of reference, which its notes name.

    Raises:
        InputError: contours lie on other CT series of the folder (see `on_several_series`).
    """
    left = _in_its_frame(structure_set, ct)
    elsewhere = several_series(left, ct)
    if elsewhere is not None:
        raise elsewhere.refusal()
    return left


def on_several_series(structure_set: StructureSet, ct: CTSeries) -> SeveralSeries | None:
    """How the contours lie on several CT series of the folder, for which `drawn_on` refuses the structure set."""
    return several_series(_in_its_frame(structure_set, ct), ct)


def _in_its_frame(structure_set: StructureSet, ct: CTSeries) -> StructureSet:
    elsewhere = {roi.name: why for roi in structure_set.rois if (why := why_not_on_ct(roi, ct)) is not None}
    rois = tuple(roi for roi in structure_set.rois if roi.name not in elsewhere)
    return replace(structure_set, rois=rois, notes=(*structure_set.notes, *elsewhere.values()))


def frame_notes(structure_set: StructureSet, ct: CTSeries) -> tuple[Note, ...]:
    """What is odd about the frames of reference of a structure set as a whole."""
    own, listed = ct.grid.frame_of_reference_uid, structure_set.frame_of_reference_uid
    if not own or listed in ("", own):
        return ()
    if any(f.uid == own and (f.series_uids or f.image_uids) for f in structure_set.frames):
        return ()
    placed = any(roi.contours and not _why_not(roi, ct) for roi in structure_set.rois)
    return (frame_not_the_cts(listed, own),) if placed else ()


def _why_not(roi: RoiContoursRead, ct: CTSeries) -> str:
    own = ct.grid.frame_of_reference_uid
    named = [frame for frame in roi.frames if frame.uid]
    images = {contour.image_uid for contour in roi.contours} - {""}
    on_images = not images.isdisjoint(ct.sop_instance_uids)
    uid = roi.frame_of_reference_uid
    if not uid:
        if not named or on_images:
            return ""
        listing = [f for f in roi.frames if not images.isdisjoint(f.image_uids)]
        if listing and not any(_is_of(f, ct) for f in listing):
            return f"its contours refer to images of frame of reference {listing[0].uid or 'without UID'}"
        if listing:
            return ""
        if len(named) > 1:
            return f"it names no frame of reference, and the structure set has {len(named)}"
        uid = named[0].uid
    if uid == own:
        return ""
    the_cts = f"the CT's is {own}" if own else "the CT names none"
    why = f"its frame of reference is {uid}, {the_cts}"
    if own and any(frame.uid == own for frame in named):
        return why
    if on_images or any(frame.uid == uid and _is_of(frame, ct) for frame in named):
        return ""
    return "" if not own and len(named) < 2 else why


def _is_of(frame: ReferencedFrame, ct: CTSeries) -> bool:
    """Whether a frame of reference is the CT's by its UID, or by the series or images that it lists."""
    return (
        (bool(frame.uid) and frame.uid == ct.grid.frame_of_reference_uid)
        or ct.series_instance_uid in frame.series_uids
        or not frame.image_uids.isdisjoint(uid for uid in ct.sop_instance_uids if uid)
    )
