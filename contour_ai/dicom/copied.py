"""A copy of a structure set with added ROIs: what it is made of, and the proof that nothing else has changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from contour_ai.dicom.byte_elements import items, open_bytes
from contour_ai.dicom.check import check_structure_set
from contour_ai.dicom.profile import Profile
from contour_ai.dicom.rtstruct_read import (
    StructureSet,
    contours_on_slices,
    load_structure_set,
    refuse_strangers,
)
from contour_ai.dicom.tags import (
    REFERENCED_FRAME_OF_REFERENCE_SEQUENCE,
    REFERENCED_ROI_NUMBER,
    ROI_CONTOUR_SEQUENCE,
    ROI_NUMBER,
    RT_ROI_OBSERVATIONS_SEQUENCE,
    STRUCTURE_SET_ROI_SEQUENCE,
)
from contour_ai.dicom.verify import ExpectedMask
from contour_ai.errors import InputError, VerificationError
from contour_ai.polygons import Polygon, stack_from_polygons
from contour_ai.structures.matching import EXTERNAL

if TYPE_CHECKING:
    from contour_ai.dicom.ct import CTSeries
    from contour_ai.dicom.rtstruct_write import RoiContours

SOP_INSTANCE_UID = 0x00080018
SPECIFIC_CHARACTER_SET = 0x00080005
SERIES_INSTANCE_UID = 0x0020000E
APPROVAL_STATUS = 0x300E0002
REVIEW = (0x300E0004, 0x300E0005, 0x300E0008)
"""Date and time of the review, and who did it."""
UNREVIEWED = ("", "UNAPPROVED")

NUMBER_OF = {
    STRUCTURE_SET_ROI_SEQUENCE: ROI_NUMBER,
    ROI_CONTOUR_SEQUENCE: REFERENCED_ROI_NUMBER,
    RT_ROI_OBSERVATIONS_SEQUENCE: REFERENCED_ROI_NUMBER,
}


@dataclass(frozen=True, kw_only=True)
class Copied:
    """A copy with added ROIs.

    Args:
        path: of the copy.
        sop_instance_uid: of the copy.
        names: {name asked for: name in the file} of what was added.
        replaced: ROIs that were there under such a name, and are not in the copy.
        left_out: ROIs that were there and had to stay out.
        notes: sentences for the user.
    """

    path: Path
    sop_instance_uid: str
    names: Mapping[str, str] = field(default_factory=dict)
    replaced: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def refuse_other_ct(before: StructureSet, ct: CTSeries) -> None:
    """Stricter than for reading: what is added lies on this CT, and must lie in the space of what is there."""
    refuse_strangers(before, ct)
    frame = ct.grid.frame_of_reference_uid
    for what, found, expected in (
        ("patient", before.patient_id, ct.patient_id),
        ("frame of reference", before.frame_of_reference_uid, frame),
    ):
        if found and expected and found != expected:
            raise InputError(
                f"ROIs of this CT cannot be added to a structure set of another {what}.",
                where=before.path,
                found=f"{what} {found}",
                expected=expected,
                fix="give the structure set that was drawn on this CT",
            )


def with_one_external(
    rois: Sequence[RoiContours], before: StructureSet, leave_out: Sequence[str]
) -> tuple[list[RoiContours], list[str]]:
    """The ROIs to add, as ORGAN where they would be a second EXTERNAL, of which a plan has one; and notes on it."""
    gone = {name.strip().casefold() for name in (*leave_out, *(roi.info.name for roi in rois))}
    externals = [
        roi.name
        for roi in before.rois
        if roi.interpreted_type == EXTERNAL and roi.name.strip().casefold() not in gone
    ]
    if not externals:
        return list(rois), []
    result, notes = [], []
    for roi in rois:
        if roi.info.interpreted_type == EXTERNAL:
            roi = replace(roi, info=replace(roi.info, interpreted_type="ORGAN"))
            notes.append(
                f"ROI {roi.info.name} is written as ORGAN: {before.path.name} has an EXTERNAL one, {externals[0]}, "
                "and a plan takes one"
            )
        result.append(roi)
    return result, notes


def verify_copy(
    source: Path,
    path: Path,
    copied: Copied,
    ct: CTSeries,
    expected: Mapping[str, ExpectedMask],
    *,
    profile: str | Path | Profile,
    where: Path,
) -> None:
    """Compares the copy at `path` with the structure set it was made of, and with the masks of what was added.

    Raises:
        VerificationError: a voxel of what was added, or a byte of what was there, differs; or `check` finds an error
            that the structure set did not have.
    """
    _verify(path, copied, ct, expected, where)
    _verify_kept(source, path, copied, where)
    _verify_checks(source, path, ct, profile, where)


def _verify(
    path: Path, copied: Copied, ct: CTSeries, expected: Mapping[str, ExpectedMask], where: Path
) -> None:
    """Every voxel of what was added."""
    rois = {roi.name: roi for roi in load_structure_set(path).rois}
    for asked, written in copied.names.items():
        if written not in rois:
            raise _failed(where, written, "the ROI is missing")
        notes: list[str] = []
        slices = contours_on_slices(rois[written], ct, notes.append)
        wrong = _wrong_voxels(slices, expected[asked], ct.grid.shape_kij)
        if wrong:
            raise _failed(where, written, f"{wrong} wrong voxels")


def _wrong_voxels(
    slices: Mapping[int, Sequence[Polygon]], expected: ExpectedMask, shape_kij: tuple[int, int, int]
) -> int:
    mask = stack_from_polygons(slices, shape_kij)
    if not isinstance(expected, tuple):
        return int(np.count_nonzero(mask != expected))
    box, inside = expected
    outside = np.count_nonzero(mask) - np.count_nonzero(mask[box])
    return int(outside + np.count_nonzero(mask[box] != inside))


def _verify_kept(source: Path, path: Path, copied: Copied, where: Path) -> None:
    """Every byte of what was there."""
    one, two = open_bytes(source), open_bytes(path)
    before, after = one.elements, two.elements
    changed = {
        SOP_INSTANCE_UID,
        SERIES_INSTANCE_UID,
        APPROVAL_STATUS,
        REFERENCED_FRAME_OF_REFERENCE_SEQUENCE,
        *REVIEW,
        *NUMBER_OF,
    }
    for tag, span in before.items():
        if tag in changed or tag & 0xFFFF == 0:
            continue
        other = after.get(tag)
        if other is None or one.data[span.start : span.end] != two.data[other.start : other.end]:
            raise _failed(where, f"element {tag >> 16:04X},{tag & 0xFFFF:04X}", "is not as it was")
    gone = len(copied.replaced) + len(copied.left_out)
    for tag in NUMBER_OF:
        if tag not in before:
            continue
        old, new = (
            [f.data[i.start : i.end] for i in items(f.data, f.elements[tag], explicit=f.explicit)]
            for f in (one, two)
        )
        kept = new[: len(new) - len(copied.names)]
        waiting = iter(old)
        if not all(any(k == o for o in waiting) for k in kept) or (not gone and kept != old):
            raise _failed(
                where, f"element {tag >> 16:04X},{tag & 0xFFFF:04X}", "does not hold the same items"
            )


def _verify_checks(
    source: Path, path: Path, ct: CTSeries, profile: str | Path | Profile, where: Path
) -> None:
    """No error that the file did not have before."""
    known = {(f.rule, f.where) for f in check_structure_set(source, ct, profile=profile)}
    new = [
        f
        for f in check_structure_set(path, ct, profile=profile)
        if f.level != "differs" and (f.rule, f.where) not in known
    ]
    if new:
        raise _failed(where, "check", "; ".join(map(str, new[:3])))


def _failed(where: Path, what: str, found: str) -> VerificationError:
    return VerificationError(
        "The copy of the structure set did not pass its own verification. It was not kept.",
        where=f"{where}, {what}",
        found=found,
        fix="this is a fault of contour-ai: please report it",
    )
