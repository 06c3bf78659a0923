"""A commissioning run compared with an earlier one: which contours changed, and what of the installation did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from contour_ai.evaluation.limits import Check
from contour_ai.report.tables import cell, html_table


@dataclass(frozen=True, kw_only=True)
class ChangedRoi:
    """A ROI whose contours differ from those of the earlier run."""

    patient: str
    """Patient ID, or the folder's name."""
    roi: str
    """ROI name."""
    what: str
    """What changed, in words."""
    dice: float | None = None
    """Dice coefficient, 0 to 1, of the earlier and the present contours; null where one of them is missing."""
    before_cm3: float | None = None
    """Volume in the earlier run, cm3; null where there was no contour."""
    now_cm3: float | None = None
    """Volume in this run, cm3; null where there is no contour."""


class ChangedFact(NamedTuple):
    """A fact of model, machine or software that is another one than in the earlier run."""

    what: str
    before: str
    now: str


@dataclass(frozen=True, kw_only=True)
class Constancy:
    """What a repeated run found."""

    earlier: str
    """Date and model of the earlier run."""
    patients: int
    """Number of patients of the earlier run."""
    rois: int
    """Number of ROIs, over all patients, that were compared."""
    changed: tuple[ChangedRoi, ...] = ()
    """The ROIs that differ."""
    not_compared: tuple[str, ...] = ()
    """Patients of the earlier run that could not be compared, with reasons."""
    installation: tuple[ChangedFact, ...] = ()
    """What changed of model, machine and software: (fact, value in the earlier run, value now)."""

    @property
    def checks(self) -> tuple[Check, ...]:
        """Whether all is as it was."""
        compared = self.patients - len(self.not_compared)
        listing = ", ".join(f"{one.patient} {one.roi}" for one in self.changed)
        return (
            Check(
                subject="all",
                rule=f"the {self.patients} patients of the earlier run",
                found=str(compared),
                passed=not self.not_compared,
                detail="; ".join(self.not_compared),
            ),
            Check(
                subject="all",
                rule=f"contours of {self.rois} ROIs equal to those of the earlier run",
                found=f"{self.rois - len(self.changed)} equal",
                passed=not self.changed and self.rois > 0,
                detail=listing,
            ),
        )


def constancy_html(found: Constancy) -> str:
    """The chapter of the report."""
    parts = [f"<p>Compared with {found.earlier}.</p>"]
    if found.changed:
        rows = [
            [
                cell(one.patient),
                cell(one.roi),
                cell(_number(one.dice, 4)),
                cell(_number(one.before_cm3, 3)),
                cell(_number(one.now_cm3, 3)),
                cell(one.what, "words"),
            ]
            for one in found.changed
        ]
        head = ["patient", "ROI", "Dice of then and now", "cm³ then", "cm³ now", "what"]
        parts.append(html_table(head, rows, {"what"}))
    else:
        parts.append(f"<p>The contours of {found.rois} ROIs are equal, point by point.</p>")
    if found.installation:
        lines: Sequence[Sequence[str]] = [
            [cell(what, "words"), cell(before, "words"), cell(now, "words")]
            for what, before, now in found.installation
        ]
        parts.append("<h3>What changed since</h3>" + html_table(["", "then", "now"], lines, {"then", "now"}))
    else:
        parts.append("<p>Model, machine and software are the same.</p>")
    return "".join(parts)


def _number(value: float | None, decimals: int) -> str:
    return "–" if value is None else f"{value:.{decimals}f}"
