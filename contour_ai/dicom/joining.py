"""One scan whose study, series or frame of reference UID changes from slice to slice, or is missing in some of them.

Such slices are joined only where nothing else can be meant: they agree in all but one of these UIDs, and together they
are one evenly spaced stack with no position twice, one size of pixels and one kernel. Two series of a study are never
joined: a changing SeriesInstanceUID counts only where every slice has its own. A StudyInstanceUID,
PatientID or FrameOfReferenceUID that some files lack is that of the others; so is a SeriesInstanceUID, where all are
one stack.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from contour_ai.dicom.slice_header import Slice, read_slices
from contour_ai.dicom.slices import (
    ROUNDING_MM,
    check_alike,
    differ,
    slice_offsets_mm,
)
from contour_ai.errors import GeometryError, InputError

if TYPE_CHECKING:
    from contour_ai.dicom.archive import CTSeriesFiles

FEWEST_IN_PIECE = 3
PIECES_OF_A_SCAN = (
    "where these series are pieces of one scan, export it again with one StudyInstanceUID, SeriesInstanceUID and "
    "FrameOfReferenceUID for all slices, and one PatientID"
)
JOINED_EVEN_TOL = 0.05
"""Joined slices are evenly spaced to this part of their spacing, or to what rounding to 0.1 mm makes of it."""


@dataclass(frozen=True)
class Joined:
    """Series that are one scan, and the sentence that says so."""

    parts: tuple[int, ...]
    """Their numbers in the archive's list, ascending."""
    note: str


def joined_series(series: Sequence[CTSeriesFiles]) -> list[Joined]:
    """Which of the series of an archive belong together because only their study or series UID changes.

    The patient ID must be the same; a changing FrameOfReferenceUID within one series is `joined_frames`' concern.
    """
    found = _lacking(series)
    taken = {n for one in found for n in one.parts}
    found += [one for one in _lacking_series(series) if taken.isdisjoint(one.parts)]
    lacking = {n for one in found for n in one.parts}
    frames: dict[str, set[str]] = {}
    for one in series:
        frames.setdefault(one.patient_id, set()).add(one.frame_of_reference_uid)
    by_series: dict[Hashable, list[int]] = {}
    by_study: dict[Hashable, list[int]] = {}
    for n, one in enumerate(series):
        if n in lacking:
            continue
        known = frames[one.patient_id] - {""}
        frame = one.frame_of_reference_uid or (min(known) if len(known) == 1 else "")
        if one.series_instance_uid:
            key = one.patient_id, one.series_instance_uid, frame
            by_series.setdefault(key, []).append(n)
        if one.slices == 1 and one.study_instance_uid and one.series_instance_uid:
            key = one.patient_id, one.study_instance_uid, frame
            by_study.setdefault(key, []).append(n)
    for groups, keyword in ((by_series, "StudyInstanceUID"), (by_study, "SeriesInstanceUID")):
        for numbers in groups.values():
            parts = [series[n] for n in numbers]
            total = sum(part.slices for part in parts)
            if _changes_often(len(parts), total) and _one_scan(parts):
                found.append(Joined(tuple(numbers), changing_uid(keyword, total)))
    return found


def _lacking(series: Sequence[CTSeriesFiles]) -> list[Joined]:
    """Parts of one series of which some lack the StudyInstanceUID or the PatientID, and the others agree in it."""
    by_uid: dict[str, list[int]] = {}
    for n, one in enumerate(series):
        if one.series_instance_uid:
            by_uid.setdefault(one.series_instance_uid, []).append(n)
    found = []
    for numbers in by_uid.values():
        parts = [series[n] for n in numbers]
        values = {
            "StudyInstanceUID": [part.study_instance_uid for part in parts],
            "PatientID": [part.patient_id for part in parts],
        }
        if len(parts) < 2 or any(len({*v} - {""}) > 1 for v in values.values()):
            continue
        total = sum(part.slices for part in parts)
        lost = {
            keyword: sum(part.slices for part, value in zip(parts, v, strict=True) if not value)
            for keyword, v in values.items()
        }
        found.append(Joined(tuple(numbers), missing_in_some(lost, total, "agree in SeriesInstanceUID")))
    return found


def _lacking_series(series: Sequence[CTSeriesFiles]) -> list[Joined]:
    """The slices without SeriesInstanceUID, and the only series of their study, where together they are one stack."""
    of_study: dict[tuple[str, str], list[int]] = {}
    for n, one in enumerate(series):
        of_study.setdefault((one.patient_id, one.study_instance_uid), []).append(n)
    found = []
    for n, one in enumerate(series):
        if one.series_instance_uid:
            continue
        same = of_study[one.patient_id, one.study_instance_uid]
        parts = [series[m] for m in same]
        if len(same) == 2 and len({p.frame_of_reference_uid for p in parts} - {""}) <= 1 and _one_scan(parts):
            total = sum(part.slices for part in parts)
            missing = {"SeriesInstanceUID": series[n].slices}
            found.append(Joined(tuple(same), missing_in_some(missing, total, "are one evenly spaced stack")))
    return found


def missing_in_some(missing: Mapping[str, int], slices: int, why: str) -> str:
    """The sentence on attributes that some slices of a series lack: {keyword: in so many}, and why they are one."""
    what = " and ".join(
        f"{keyword} is missing in {number} of the {slices} slices"
        for keyword, number in missing.items()
        if 0 < number < slices
    )
    return f"{what}; they {why} and are read as one scan"


def _could_be_one_scan(series: Sequence[CTSeriesFiles]) -> bool:
    """Whether several series of one patient are alike and no two slices lie at one place: they may be pieces."""
    if len(series) < 2 or len({one.patient_id for one in series}) > 1:
        return False
    try:
        slices = read_slices([path for one in series for path in one.paths])
        check_alike(slices)
        return bool(np.diff(np.sort(slice_offsets_mm(slices))).min() > ROUNDING_MM)
    except InputError:
        return False


def how_to_choose(series: Sequence[CTSeriesFiles], folders: str = "") -> str:
    """What to do where there are several CT series; pieces of one scan are none to choose from.

    Args:
        folders: a pattern of folders with one series each, if there is one.
    """
    if all(one.slices == 1 for one in series):
        return (
            f"each has a single slice; {PIECES_OF_A_SCAN} (one of the three UIDs may change from slice to slice if "
            "kernel and spacing are the same)"
        )
    choose = "choose one with --series UID, or give folders with one CT series each" + (
        f" ({folders})" if folders else ""
    )
    if _could_be_one_scan(series):
        return f"no two of their slices lie at one place: {PIECES_OF_A_SCAN}; where each is a scan of its own, {choose}"
    return choose


def joined_frames(slices: Sequence[Slice]) -> str:
    """A note where slices of one series have several frames of reference and are one scan all the same; else empty.

    Raises:
        GeometryError: they have several, and cannot be one scan.
    """
    frames = {s.frame_of_reference_uid for s in slices if s.frame_of_reference_uid}
    if len(frames) < 2:
        return ""
    if _changes_often(len(frames), len(slices)) and is_one_stack(slices):
        return changing_uid("FrameOfReferenceUID", len(slices))
    usual = Counter(s.frame_of_reference_uid for s in slices if s.frame_of_reference_uid).most_common(1)[0][0]
    odd = [s for s in slices if s.frame_of_reference_uid not in ("", usual)]
    raise differ("frame of reference", odd, odd[0].frame_of_reference_uid, usual, len(slices))


def changing_uid(keyword: str, slices: int) -> str:
    """The sentence on a UID that changes within a scan."""
    return (
        f"{keyword} changes from slice to slice; the {slices} slices agree in everything else, are one evenly spaced "
        "stack and are read as one scan"
    )


def _changes_often(uids: int, slices: int) -> bool:
    """Whether a UID changes from slice to slice: pieces of a scan, or one stray slice, are something else."""
    return slices >= FEWEST_IN_PIECE and uids >= max(2, slices / 2)


def is_one_stack(slices: Sequence[Slice]) -> bool:
    """Whether slices are alike, of one kernel, evenly spaced, and none at the place of another."""
    if len(slices) < FEWEST_IN_PIECE or len({s.kernel for s in slices}) > 1:
        return False
    try:
        check_alike(slices)
        gaps = np.diff(np.sort(slice_offsets_mm(slices)))
    except GeometryError:
        return False
    usual = float(np.median(gaps))
    uneven = float(np.abs(gaps - usual).max())
    return usual > ROUNDING_MM and uneven <= max(JOINED_EVEN_TOL * usual, ROUNDING_MM)


def _one_scan(parts: Sequence[CTSeriesFiles]) -> bool:
    try:
        return is_one_stack(read_slices([path for part in parts for path in part.paths]))
    except InputError:
        return False
