"""One scan whose study, series or frame of reference UID changes from slice to slice, as some writers leave it.

Such slices are joined only where nothing else can be meant: they agree in all but one of these UIDs, and together they
are one evenly spaced stack with no position twice, one size of pixels and one kernel. Two series of a study are never
joined: a changing SeriesInstanceUID counts only where every slice has its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
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

LEAST_SLICES = 3
EVEN_TOL = 0.05
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
    found = []
    by_series: dict[Hashable, list[int]] = {}
    by_study: dict[Hashable, list[int]] = {}
    for n, one in enumerate(series):
        if one.series_instance_uid:
            key = one.patient_id, one.series_instance_uid, one.frame_of_reference_uid
            by_series.setdefault(key, []).append(n)
        if one.slices == 1 and one.study_instance_uid and one.series_instance_uid:
            key = one.patient_id, one.study_instance_uid, one.frame_of_reference_uid
            by_study.setdefault(key, []).append(n)
    for groups, keyword in ((by_series, "StudyInstanceUID"), (by_study, "SeriesInstanceUID")):
        for numbers in groups.values():
            parts = [series[n] for n in numbers]
            total = sum(part.slices for part in parts)
            if _changes_often(len(parts), total) and _one_scan(parts):
                found.append(Joined(tuple(numbers), changing_uid(keyword, total)))
    return found


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
    return slices >= LEAST_SLICES and uids >= max(2, slices / 2)


def is_one_stack(slices: Sequence[Slice]) -> bool:
    """Whether slices are alike, of one kernel, evenly spaced, and none at the place of another."""
    if len(slices) < LEAST_SLICES or len({s.kernel for s in slices}) > 1:
        return False
    try:
        check_alike(slices)
        gaps = np.diff(np.sort(slice_offsets_mm(slices)))
    except GeometryError:
        return False
    usual = float(np.median(gaps))
    uneven = float(np.abs(gaps - usual).max())
    return usual > ROUNDING_MM and uneven <= max(EVEN_TOL * usual, ROUNDING_MM)


def _one_scan(parts: Sequence[CTSeriesFiles]) -> bool:
    try:
        return is_one_stack(read_slices([path for part in parts for path in part.paths]))
    except InputError:
        return False
