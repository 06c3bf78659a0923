"""Reads a structure set that was just written and compares every voxel with what was meant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import UID

from contour_ai.box import Box
from contour_ai.dicom.finding import Finding
from contour_ai.dicom.header import read_header
from contour_ai.dicom.notes import EMPTY_ROI, SLICE_GAP, code_of
from contour_ai.dicom.patient_module import FROM_CT, PatientElements
from contour_ai.dicom.profile import Profile
from contour_ai.dicom.rtstruct_read import contours_on_slices, load_structure_set
from contour_ai.dicom.values import text
from contour_ai.errors import VerificationError
from contour_ai.polygons import filled_slices
from contour_ai.slice_names import slice_text

if TYPE_CHECKING:
    from contour_ai.dicom.ct import CTSeries

ExpectedMask = NDArray[np.bool_] | tuple[Box, NDArray[np.bool_]]
"""A mask (k, i, j) on the whole CT grid, or a box of it with the mask inside; outside the box there is nothing."""


REFERENCES = (
    "FrameOfReferenceUID",
    "SeriesInstanceUID",
    "ReferencedFrameOfReferenceUID",
    "ReferencedSOPInstanceUID",
    "ReferencedSOPClassUID",
    "ContourImageSequence",
    "RTReferencedStudySequence",
    "RTReferencedSeriesSequence",
    "ReferencedFrameOfReferenceSequence",
)
"""Attributes that name the CT; they cannot be right where the CT's own UIDs are missing or invalid."""


def verify_structure_set(
    path: Path,
    ct: CTSeries,
    expected: Mapping[str, ExpectedMask] | Callable[[str], ExpectedMask],
    names: Mapping[str, str],
    *,
    where: Path | None = None,
) -> None:
    """Compares the file at `path`, read as any other structure set, with the masks it was made from.

    Args:
        names: {name of a mask: ROI name in the file}.
        where: the path that messages name, while `path` is a temporary one.

    Raises:
        VerificationError: a ROI is missing, a voxel differs, or a contour could not be used on reading.
    """
    expected_of = expected if callable(expected) else expected.__getitem__
    where = where or path
    structure_set = load_structure_set(path)
    rois = {roi.name: roi for roi in structure_set.rois}
    notes = list(structure_set.notes)
    for asked, written in names.items():
        if written not in rois:
            raise _failed("a ROI is missing", where, asked, f"only {', '.join(rois)}", written)
        slices = contours_on_slices(rois[written], ct, notes.append)
        wanted = expected_of(asked)
        whole = tuple(slice(0, n) for n in ct.grid.shape_kij)
        box, mask = wanted if isinstance(wanted, tuple) else ((whole[0], whole[1], whole[2]), wanted)
        wrong, first = _wrong_voxels(slices, box, np.asarray(mask, dtype=bool), ct.grid.shape_kij)
        if wrong:
            found = f"{wrong} wrong voxels, the first on {slice_text(ct.grid, first)}"
            raise _failed("voxels differ", where, asked, found, "0")
    odd = [
        note for note in notes if code_of(note) not in (EMPTY_ROI, SLICE_GAP)
    ]  # masks may be empty as well
    if odd:
        raise _failed("contours could not be used", where, None, "; ".join(odd), "no remarks on reading")


NEVER_WRITTEN = frozenset({"frame-of-reference", "off-plane", "other-image", "references", "self-crossing"})
"""What other tools' files may have, but a file of this program does not."""


def check_written(
    path: Path, ct: CTSeries, patient: PatientElements, *, profile: Profile, where: Path | None = None
) -> list[str]:
    """Runs `check` on a structure set that was just written, and compares what it took over from the CT, byte for byte.

    Returns:
        Notes on what `check` says of values that are the CT's own.

    Raises:
        VerificationError: something else breaks DICOM, or bytes differ.
    """
    from contour_ai.dicom.check import check_structure_set

    where = where or path
    written = read_header(path, list(patient.elements))
    for keyword, expected in patient.elements.items():
        element = written.get_item(Tag(keyword))
        found = element.value if isinstance(element, RawDataElement) else None
        if (found or b"") != expected:
            raise _failed(f"{keyword} is not the CT's", where, None, repr(found), repr(expected))
    found_by_check = check_structure_set(path, ct, profile=profile)
    errors = [f for f in found_by_check if f.level != "differs" or f.rule in NEVER_WRITTEN]
    faulty_uids = not _uids_are_valid(ct)
    own = [f for f in errors if not _is_inherited(f, faulty_uids=faulty_uids)]
    if own:
        raise _failed(
            "it breaks DICOM", where, None, "; ".join(map(str, own[:3])), "no error in contour-ai check"
        )
    return list(dict.fromkeys(f"as in the CT, {f.where}: {f.message}" for f in errors))


def _is_inherited(finding: Finding, *, faulty_uids: bool) -> bool:
    """Whether a finding concerns what the structure set has from its CT, which systems have taken with that CT."""
    keyword = finding.where.split(", ")[-1].split(" ")[0]
    return (keyword in (*FROM_CT, "SpecificCharacterSet") or finding.where == "PatientName") or (
        faulty_uids and keyword in REFERENCES
    )


def _uids_are_valid(ct: CTSeries) -> bool:
    keywords = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
    uids = [*(text(ct.header, keyword) for keyword in keywords), ct.sop_class_uid, *ct.sop_instance_uids]
    return all(UID(uid).is_valid for uid in uids)


def _wrong_voxels(
    slices: Mapping[int, list[NDArray[np.float64]]],
    box: Box,
    mask: NDArray[np.bool_],
    shape_kij: tuple[int, int, int],
) -> tuple[int, int]:
    """(number of voxels that differ, first slice where one does)."""
    starts, stops, _ = zip(*(s.indices(n) for s, n in zip(box, shape_kij, strict=True)), strict=True)
    if mask.shape != tuple(b - a for a, b in zip(starts, stops, strict=True)):
        raise ValueError(f"a mask of shape {mask.shape} does not fill its box {box}")
    # Voxels that only one of two sets has: those of both, less twice the common ones.
    wrong = {k: int(np.count_nonzero(of_slice)) for k, of_slice in enumerate(mask, start=starts[0])}
    for k, part, inside in filled_slices(slices, shape_kij[1:]):
        wrong[k] = wrong.get(k, 0) + int(np.count_nonzero(inside))
        if starts[0] <= k < stops[0]:
            low = [max(s.start, a) for s, a in zip(part, starts[1:], strict=True)]
            high = [max(min(s.stop, b), a) for s, a, b in zip(part, low, stops[1:], strict=True)]
            expected = mask[k - starts[0]][_between(low, high, starts[1:])]
            common = expected & inside[_between(low, high, [s.start for s in part])]
            wrong[k] -= 2 * int(np.count_nonzero(common))
    return sum(wrong.values()), min((k for k, count in wrong.items() if count), default=-1)


def _between(low: Sequence[int], high: Sequence[int], start: Sequence[int]) -> tuple[slice, ...]:
    """Rows and columns from `low` to `high` in an array that begins at `start`."""
    return tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))


def _failed(what: str, where: Path, roi: str | None, found: str, expected: str) -> VerificationError:
    return VerificationError(
        f"The structure set did not pass its own verification: {what}. It was not kept.",
        where=where if roi is None else f"{where}, ROI {roi}",
        found=found,
        expected=expected,
        fix="this is a fault of contour-ai: please report it with the geometry of the CT (contour-ai inspect)",
    )
