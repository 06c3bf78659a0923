"""Which ROI of a patient is in which of its structure sets, one or several, and which are ambiguous."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contour_ai.dicom.classify import StructureSetFile
from contour_ai.dicom.rtstruct_read import load_structure_set
from contour_ai.errors import ContourAIError

SAME_MM = 0.01
"""Copies of a contour differ by the digits that a system writes, not by more."""


@dataclass(frozen=True, kw_only=True)
class DrawnRois:
    """The ROIs of a patient.

    Args:
        names: {ROI: its name in the structure set}.
        drawn_in: {ROI: number of the structure set}, for those that are not in the first.
        ambiguous: {ROI: why it is not known which contours are meant}.
    """

    names: Mapping[str, str]
    drawn_in: Mapping[str, int]
    ambiguous: Mapping[str, str]


def rois_of_sets(sets: Sequence[StructureSetFile], rois_of: Mapping[str, str]) -> DrawnRois:
    """The ROIs of one structure set, or of several that are merged.

    A ROI in several sets counts where its contours are the same in all of them, or where all but one are empty; else
    the sets contradict each other, and it is ambiguous.

    Args:
        sets: of one CT.
        rois_of: {name: ROI}.
    """
    found: dict[str, list[tuple[int, str]]] = {}
    for number, one in enumerate(sets):
        for name in one.roi_names:
            if name in rois_of:
                found.setdefault(rois_of[name], []).append((number, name))
    names, drawn_in, ambiguous = {}, {}, {}
    read: dict[int, Mapping[str, list[NDArray[np.float64]]]] = {}
    for roi, places in found.items():
        within_one = [n for n in {n for n, _ in places} if sum(m == n for m, _ in places) > 1]
        if within_one:
            twice = " and as ".join(name for number, name in places if number == within_one[0])
            ambiguous[roi] = f"{roi} stands there as {twice}"
            continue
        chosen = places[0] if len(places) == 1 else _one_of(places, sets, read)
        if chosen is None:
            listing = " and ".join(f'"{sets[n].label}" ({sets[n].path.name})' for n, _ in places)
            ambiguous[roi] = f"{roi} is drawn in {listing}, and not the same: which is right is not known"
            continue
        names[roi] = chosen[1]
        if chosen[0]:
            drawn_in[roi] = chosen[0]
    return DrawnRois(names=names, drawn_in=drawn_in, ambiguous=ambiguous)


def _one_of(
    places: Sequence[tuple[int, str]],
    sets: Sequence[StructureSetFile],
    read: dict[int, Mapping[str, list[NDArray[np.float64]]]],
) -> tuple[int, str] | None:
    """The place of a ROI that stands for all of them; None where they contradict each other."""
    drawn = []
    for number, name in places:
        if number not in read:
            read[number] = _contours(sets[number])
        if contours := read[number].get(name):
            drawn.append(((number, name), contours))
    if not drawn:
        return places[0]
    first = drawn[0][1]
    return drawn[0][0] if all(_same(first, other) for _, other in drawn[1:]) else None


def _contours(one: StructureSetFile) -> Mapping[str, list[NDArray[np.float64]]]:
    """{name: contours}, none where the file cannot be read: what is wrong is said when the patient is prepared."""
    try:
        structure_set = load_structure_set(one.path)
    except ContourAIError:
        return {}
    return {roi.original_name: [c.points_lps for c in roi.contours] for roi in structure_set.rois}


def _same(first: Sequence[NDArray[np.float64]], other: Sequence[NDArray[np.float64]]) -> bool:
    """Whether two ROIs have the same contours, in any order."""
    if len(first) != len(other):
        return False
    ordered = [
        sorted(side, key=lambda p: (*p.mean(axis=0).round(1).tolist(), len(p))) for side in (first, other)
    ]
    return all(
        a.shape == b.shape and bool(np.allclose(a, b, rtol=0, atol=SAME_MM))
        for a, b in zip(*ordered, strict=True)
    )
