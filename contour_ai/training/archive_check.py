"""What looks wrong in an archive before it is learnt: judged from the facts of every ROI, each with a reason."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from contour_ai.csv_files import write_csv
from contour_ai.dicom.notes import gap_text
from contour_ai.structures import flip_pairs, roi_info
from contour_ai.structures.measured import remainder_cm3
from contour_ai.structures.plausible import plausible_volume_cm3
from contour_ai.training.roi_facts import RoiFacts

Kind = Literal[
    "unreadable",
    "ambiguous",
    "mismatch",
    "other frame",
    "empty",
    "one slice",
    "slice gap",
    "outside the body",
    "side",
    "volume",
    "cross-section",
    "absent",
    "blank slices",
    "structure sets",
    "excluded",
    "same image",
    "note",
]

OUTSIDE_SHARE = 0.1
"""An organ with more of it outside the body is left out: more than outlines that differ by a millimetre or two."""
OUTSIDE_SHARE_NOTED = 0.05

UNUSED_SHARE = 0.1
"""A ROI is left out if more of its contours lie on no slice of the CT: it was drawn on another one."""

GAP_SLICES = 2
GAP_SHARE = 0.1
"""A ROI is left out if it misses so many slices and more than this share of its extent; fewer are a slip, and noted."""

ONE_SLICE_OF = 4
"""A ROI on a single slice is left out where most patients have it on at least so many."""

FEWEST_TO_COMPARE = 10
"""Fewer give no reference."""

OUTLIER = 3.2
OUTLIER_NOTED = 2.5
"""Robust standard deviations from the median. Of 900 normal values one lies beyond the first by chance, eleven beyond
the second."""

LEAST_SPREAD_SHARE = 0.05
"""The spread of a figure is at least this share of its median: an archive of nearly equal organs has no outliers."""

WRONG_SIDE_MM = 5.0
"""A left organ is called a right one where its centre lies at least so far to the right of the body's middle."""

NOT_IN_BODY = frozenset({"EXTERNAL", "SUPPORT", "BOLUS", "FIXATION"})
"""Interpreted types that may lie outside the body."""

COLUMNS = ("patient", "roi", "what", "left_out", "reason")


@dataclass(frozen=True, kw_only=True)
class ArchiveFinding:
    """Something that looks wrong in one patient."""

    patient: str
    roi: str
    """Empty where it concerns the whole patient."""
    kind: Kind
    reason: str
    left_out: bool = True
    """Whether the ROI counts as not contoured (the patient as not there, its blank slices as not scanned); otherwise it
    is only worth a look."""


@dataclass(frozen=True)
class ArchiveCheck:
    """All that looks wrong in an archive; what is left out comes first."""

    findings: tuple[ArchiveFinding, ...] = ()

    @classmethod
    def of(cls, findings: Sequence[ArchiveFinding]) -> ArchiveCheck:
        """Sorted, and each ROI of a patient with the reasons to leave it out before those to look at it."""
        ordered = sorted(findings, key=lambda f: (not f.left_out, f.roi != "", f.kind, f.roi, f.patient))
        return cls(tuple(dict.fromkeys(ordered)))

    @property
    def left_out(self) -> tuple[ArchiveFinding, ...]:
        """Those that change what is learnt."""
        return tuple(f for f in self.findings if f.left_out)

    def rois_left_out(self, patient: str) -> frozenset[str]:
        """The ROIs of a patient that count as not contoured."""
        return frozenset(f.roi for f in self.left_out if f.patient == patient and f.roi)

    def save(self, path: Path) -> None:
        """Writes it as CSV.

        Raises:
            OutputError: it cannot be written.
        """
        table = [(f.patient, f.roi, f.kind, "yes" if f.left_out else "no", f.reason) for f in self.findings]
        write_csv(path, COLUMNS, table, overwrite=True)


def check_rois(
    facts: Mapping[str, Mapping[str, RoiFacts]], absent: Mapping[str, Collection[str]]
) -> list[ArchiveFinding]:
    """What looks wrong in the ROIs of an archive.

    Args:
        facts: {patient: {ROI: facts}} of every ROI that its structure set has.
        absent: {patient: ROIs declared absent}.
    """
    findings: list[ArchiveFinding] = []
    for patient, rois in facts.items():
        for roi, fact in rois.items():
            findings += _alone(patient, roi, fact)
            if roi in absent.get(patient, ()) and fact.slices:
                reason = f"declared absent, but contoured ({fact.volume_cm3:.1f} cm3)"
                findings.append(ArchiveFinding(patient=patient, roi=roi, kind="absent", reason=reason))
        findings += _sides(patient, rois)
    for roi in sorted({roi for rois in facts.values() for roi in rois}):
        findings += _among_others(roi, {p: rois[roi] for p, rois in facts.items() if roi in rois})
        findings += _remainders(roi, facts)
    return findings


def _alone(patient: str, roi: str, fact: RoiFacts) -> Iterator[ArchiveFinding]:
    """What can be said of a ROI without any other."""
    if fact.elsewhere:
        yield ArchiveFinding(patient=patient, roi=roi, kind="other frame", reason=fact.elsewhere)
        return
    if not fact.contours:
        yield ArchiveFinding(
            patient=patient, roi=roi, kind="empty", reason="it has a name, but no closed contour"
        )
        return
    if fact.unused_contours:
        reason = f"{fact.unused_contours} of {fact.contours} contours lie on no slice of this CT"
        yield ArchiveFinding(
            patient=patient,
            roi=roi,
            kind="mismatch",
            reason=reason,
            left_out=fact.unused_contours > UNUSED_SHARE * fact.contours,
        )
    if not fact.slices:
        if fact.unused_contours < fact.contours:
            yield ArchiveFinding(
                patient=patient, roi=roi, kind="empty", reason="its contours hold no voxel of this CT"
            )
        return
    if fact.missing_slices:
        share = fact.missing_slices / (fact.missing_slices + fact.slices)
        wide = fact.missing_slices >= GAP_SLICES and share > GAP_SHARE
        reason = gap_text(fact.missing_slices, fact.missing_slices + fact.slices)
        yield ArchiveFinding(patient=patient, roi=roi, kind="slice gap", reason=reason, left_out=wide)
    if fact.outside_share > OUTSIDE_SHARE_NOTED and roi_info(roi).interpreted_type not in NOT_IN_BODY:
        reason = f"{100 * fact.outside_share:.0f} % of it lies outside the body"
        yield ArchiveFinding(
            patient=patient,
            roi=roi,
            kind="outside the body",
            reason=reason,
            left_out=fact.outside_share > OUTSIDE_SHARE,
        )
    bounds = plausible_volume_cm3(roi)
    if bounds is not None:
        least, most = bounds
        if fact.volume_cm3 > most or (fact.volume_cm3 < least and not fact.cut):
            reason = f"{fact.volume_cm3:.3g} cm3; the whole organ has {least:g} to {most:g} cm3"
            yield ArchiveFinding(patient=patient, roi=roi, kind="volume", reason=reason)


def _sides(patient: str, rois: Mapping[str, RoiFacts]) -> Iterator[ArchiveFinding]:
    """Left and right organs that lie the other way round."""
    names = [roi for roi, fact in rois.items() if fact.slices]
    paired: set[str] = set()
    for left_index, right_index in flip_pairs(names):
        left, right = names[left_index], names[right_index]
        paired |= {left, right}
        apart_mm = rois[left].left_mm - rois[right].left_mm
        if apart_mm < -WRONG_SIDE_MM:
            reason = f"{left} lies {-apart_mm:.0f} mm to the right of {right}: they are swapped"
            yield from (
                ArchiveFinding(patient=patient, roi=roi, kind="side", reason=reason) for roi in (left, right)
            )
    for roi in names:
        partner = roi_info(roi).mirror
        if roi in paired or partner is None:
            continue
        is_left = flip_pairs([roi, partner]) == ((0, 1),)
        off_mm = -rois[roi].left_mm if is_left else rois[roi].left_mm
        if off_mm > WRONG_SIDE_MM:
            where = "right" if is_left else "left"
            reason = f"its centre lies {off_mm:.0f} mm to the {where} of the middle of the body"
            yield ArchiveFinding(patient=patient, roi=roi, kind="side", reason=reason)


def _remainders(roi: str, facts: Mapping[str, Mapping[str, RoiFacts]]) -> Iterator[ArchiveFinding]:
    """Contours that bear an organ's name and are only what a target left of it."""
    partner = roi_info(roi).mirror
    sides = (roi,) if partner is None else (roi, partner)
    whole = [
        f.volume_cm3
        for rois in facts.values()
        for r in sides
        if (f := rois.get(r)) and f.slices and not f.cut
    ]
    most = remainder_cm3(roi, whole)
    if most is None:
        return
    usual = float(np.median([v for v in whole if v > most]))
    for patient, rois in facts.items():
        fact = rois.get(roi)
        if fact is not None and fact.slices and not fact.cut and fact.volume_cm3 <= most:
            size = f"{fact.volume_cm3:.3g} cm3 where others have {usual:.3g} cm3"
            reason = f"{size}: what is left of it outside a target?"
            yield ArchiveFinding(patient=patient, roi=roi, kind="volume", reason=reason)


def _among_others(roi: str, facts: Mapping[str, RoiFacts]) -> Iterator[ArchiveFinding]:
    """What is unusual about a ROI beside the same ROI of the other patients."""
    here = {patient: fact for patient, fact in facts.items() if fact.slices}
    usual_slices = float(np.median([f.slices for f in here.values()])) if here else 0.0
    for patient, fact in here.items():
        if fact.slices == 1:
            reason = f"it is on one slice, in most patients on {usual_slices:.0f}"
            yield ArchiveFinding(
                patient=patient,
                roi=roi,
                kind="one slice",
                reason=reason,
                left_out=usual_slices >= ONE_SLICE_OF,
            )
    if len(here) < FEWEST_TO_COMPARE:
        return
    whole = [f for f in here.values() if not f.cut]
    whole = whole if len(whole) >= FEWEST_TO_COMPARE else list(here.values())
    # Cube and square roots: sizes are spread evenly about their median, volumes and areas are not.
    volumes = robust_deviations(
        np.cbrt([f.volume_cm3 for f in here.values()]), np.cbrt([f.volume_cm3 for f in whole])
    )
    roots = np.sqrt([f.area_cm2 for f in here.values()])
    areas = robust_deviations(roots, roots)
    usual_cm3 = float(np.median([f.volume_cm3 for f in whole]))
    usual_cm2 = float(np.median([f.area_cm2 for f in here.values()]))
    for (patient, fact), volume, area in zip(here.items(), volumes, areas, strict=True):
        if abs(volume) > OUTLIER_NOTED and not (fact.cut and volume < 0):
            reason = f"{fact.volume_cm3:.3g} cm3, in most patients {usual_cm3:.3g} cm3 ({far(volume)})"
            yield ArchiveFinding(
                patient=patient, roi=roi, kind="volume", reason=reason, left_out=abs(volume) > OUTLIER
            )
        if abs(area) > OUTLIER_NOTED and fact.slices > 1:
            reason = (
                f"its mean cross-section is {fact.area_cm2:.3g} cm2, in most patients {usual_cm2:.3g} cm2 "
                f"({far(area)})"
            )
            yield ArchiveFinding(
                patient=patient, roi=roi, kind="cross-section", reason=reason, left_out=abs(area) > OUTLIER
            )


def robust_deviations(
    values: NDArray[np.float64], of: NDArray[np.float64], least_spread: float = 0.0
) -> NDArray[np.float64]:
    """Distances of `values` from the median of `of`, in robust standard deviations: the larger of two estimates, and at
    least `least_spread`.

    The median absolute deviation bears any number of outliers, but is too small where the values have long tails;
    the 10 % and 90 % quantiles bear up to a tenth.
    """
    median = float(np.median(of))
    absolute = 1.4826 * float(np.median(np.abs(of - median)))
    low, high = np.percentile(of, (10, 90))
    spread = max(absolute, float(high - low) / 2.563, LEAST_SPREAD_SHARE * abs(median), least_spread, 1e-9)
    return (values - median) / spread


def far(deviations: float) -> str:
    """A number of standard deviations in words."""
    return f"{abs(deviations):.1f} standard deviations {'above' if deviations > 0 else 'below'}"
