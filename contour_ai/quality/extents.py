"""How far organs go along the body: where the training patients' contours end, and whether another one ends there.

Clinics end cord, esophagus, brainstem, rectum and larynx where their guideline says. A contour that ends elsewhere is
not drawn wrongly; so both are told apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from contour_ai.errors import ConfigError

WhichEnd = Literal["lower", "upper"]
ENDS: tuple[WhichEnd, WhichEnd] = ("lower", "upper")
Ends = tuple[float, float]
"""Lower and upper end along the body in mm, towards the head."""

FEWEST_WITH_END = 8
"""An end that fewer patients show is not measured."""
SCAN_END_MM = 5.0
"""A ROI goes to the end of the scan where it ends within this of the last slice that shows the body."""
SHARE_WITH_OTHER = 0.6
"""Of the patients whose ROI ends within the scan, so many must have the other ROI that its end is measured from."""
SPREAD_STEP_MM = 2.5
"""Spreads are compared in steps of this."""
ENDS_WIDER = 2.0
"""Limits lie so much farther from the median than the 5 % and the 95 % of the patients, as with all ranges."""
LEAST_MM = 8.0
"""No limit lies nearer to the median than this: three slices."""
ALWAYS = 0.95
"""An organ that goes to the end of the scan in so many patients should do so,"""
FAR_FROM_SCAN_END_MM = 25.0
"""and is looked at where it ends farther away than this."""


@dataclass(frozen=True, kw_only=True)
class EndExtent:
    """Where one end of an organ lies in the training patients.

    Args:
        patients: who have the organ.
        at_scan_end: share of them in whom it goes to the end of the scan.
        roi, at: the end of another ROI from which the others are measured; "" where no ROI is near enough to say.
        offset_mm: lowest usual, median and highest usual distance above that end (negative: below).
    """

    patients: int
    at_scan_end: float = 0.0
    roi: str = ""
    at: WhichEnd = "lower"
    offset_mm: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.at_scan_end <= 1 or (self.offset_mm is None) != (self.roi == ""):
            raise ConfigError(
                "An extent in the reference ranges is not valid.",
                found=f"at_scan_end {self.at_scan_end}, roi {self.roi!r}, offset_mm {self.offset_mm}",
                expected="at_scan_end between 0 and 1; roi and offset_mm both given, or neither",
                fix="measure the ranges again: contour-ai models ranges",
            )

    def in_words(self, which: WhichEnd) -> str:
        """As the card says it."""
        parts = []
        if self.at_scan_end > 0.005:
            parts.append(f"to the {which} end of the scan in {self.at_scan_end:.0%} of the patients")
        if self.offset_mm is not None:
            low, middle, high = self.offset_mm
            usual = f"{_place(middle)} the {self.at} end of {self.roi} (usual {_limits(low, high)})"
            parts.append(f"else {usual}" if parts else usual)
        return ", ".join(parts) or "not measured"


@dataclass(frozen=True, kw_only=True)
class RoiExtent:
    """How far an organ goes in the training patients."""

    lower: EndExtent
    upper: EndExtent


@dataclass(frozen=True, kw_only=True)
class PatientEnds:
    """Where the organs of one patient end, and the body in view."""

    body: Ends
    rois: Mapping[str, Ends]

    def at_scan_end(self, roi: str, which: WhichEnd) -> bool:
        """Whether a ROI goes to that end of the scan."""
        return self.from_scan_end_mm(roi, which) <= SCAN_END_MM

    def from_scan_end_mm(self, roi: str, which: WhichEnd) -> float:
        """How far from that end of the scan a ROI ends."""
        n = ENDS.index(which)
        distance = self.rois[roi][n] - self.body[n]
        return distance if which == "lower" else -distance


@dataclass(frozen=True, kw_only=True)
class OtherEnd:
    """A contour that ends elsewhere than those of the training patients.

    Args:
        value, low, high: mm above the end that it is measured from, and its usual limits.
    """

    which: WhichEnd
    reason: str
    value: float
    low: float | None
    high: float | None


def fitted_extents(patients: Sequence[PatientEnds]) -> dict[str, RoiExtent]:
    """{ROI: how far it goes} of all that enough patients have."""
    names = sorted({name for patient in patients for name in patient.rois})
    found = {}
    for name in names:
        have = [patient for patient in patients if name in patient.rois]
        if len(have) >= FEWEST_WITH_END:
            lower, upper = (_fitted(name, which, have) for which in ENDS)
            found[name] = RoiExtent(lower=lower, upper=upper)
    return found


def _fitted(name: str, which: WhichEnd, have: Sequence[PatientEnds]) -> EndExtent:
    within = [patient for patient in have if not patient.at_scan_end(name, which)]
    share = round(1 - len(within) / len(have), 3)
    best: tuple[tuple[int, float], str, WhichEnd, list[float]] | None = None
    for other, at in _candidates(name, within):
        offsets = [
            patient.rois[name][ENDS.index(which)] - patient.rois[other][ENDS.index(at)]
            for patient in within
            if other in patient.rois and not patient.at_scan_end(other, at)
        ]
        if len(offsets) < max(FEWEST_WITH_END, SHARE_WITH_OTHER * len(within)):
            continue
        low, middle, high = np.percentile(offsets, (10, 50, 90))
        # Of ends that vary alike, the nearest one.
        rank = round(float(high - low) / SPREAD_STEP_MM), abs(float(middle))
        if best is None or rank < best[0]:
            best = rank, other, at, offsets
    if best is None:
        return EndExtent(patients=len(have), at_scan_end=share)
    _, other, at, offsets = best
    low, middle, high = np.percentile(offsets, (5, 50, 95))
    limits = (
        middle - max(ENDS_WIDER * (middle - low), LEAST_MM),
        middle,
        middle + max(ENDS_WIDER * (high - middle), LEAST_MM),
    )
    rounded = tuple(round(float(mm), 1) for mm in limits)
    return EndExtent(
        patients=len(have),
        at_scan_end=share,
        roi=other,
        at=at,
        offset_mm=(rounded[0], rounded[1], rounded[2]),
    )


def _candidates(name: str, patients: Sequence[PatientEnds]) -> Iterator[tuple[str, WhichEnd]]:
    for other in sorted({other for patient in patients for other in patient.rois} - {name}):
        for at in ENDS:
            yield other, at


def other_ends(name: str, extent: RoiExtent, patient: PatientEnds) -> list[OtherEnd]:
    """The ends of a contour that lie elsewhere than in the training patients; those at the end of the scan never do."""
    found = []
    for which in ENDS:
        usual = extent.lower if which == "lower" else extent.upper
        end = _other_end(name, which, usual, patient)
        if end is not None:
            found.append(end)
    return found


def _other_end(name: str, which: WhichEnd, usual: EndExtent, patient: PatientEnds) -> OtherEnd | None:
    if patient.at_scan_end(name, which):
        return None
    if usual.at_scan_end >= ALWAYS:
        distance = patient.from_scan_end_mm(name, which)
        if distance <= FAR_FROM_SCAN_END_MM:
            return None
        side = "above" if which == "lower" else "below"
        reason = (
            f"ends elsewhere: {distance:.0f} mm {side} the {which} end of the scan, to which the contours of "
            f"{usual.at_scan_end:.0%} of the training patients go"
        )
        return OtherEnd(which=which, reason=reason, value=distance, low=None, high=FAR_FROM_SCAN_END_MM)
    other = usual.roi
    if usual.offset_mm is None or other not in patient.rois or patient.at_scan_end(other, usual.at):
        return None
    offset = patient.rois[name][ENDS.index(which)] - patient.rois[other][ENDS.index(usual.at)]
    low, _, high = usual.offset_mm
    if low <= offset <= high:
        return None
    reason = (
        f"ends elsewhere: its {which} end lies {_place(offset)} the {usual.at} end of {other}, usual "
        f"{_limits(low, high)}"
    )
    return OtherEnd(which=which, reason=reason, value=offset, low=low, high=high)


def _limits(low_mm: float, high_mm: float) -> str:
    return f"{_place(low_mm)} to {_place(high_mm)} it"


def _place(offset_mm: float) -> str:
    """Before "the lower end of ...": "at", or how far below or above."""
    if abs(offset_mm) < 0.5:
        return "at"
    return f"{abs(offset_mm):.0f} mm {'below' if offset_mm < 0 else 'above'}"
