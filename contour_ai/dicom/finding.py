"""One thing that `check` says of a structure set, at one of three levels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from contour_ai.dicom.notes import Level
from contour_ai.dicom.refusals import Refusal, known_refusal
from contour_ai.dicom.values import on_one_line

LEVELS: dict[Level, str] = {
    "refused": "known to be refused",
    "standard": "breaks the standard",
    "differs": "read differently by different systems",
}
"""The levels in words, the gravest first."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong with a structure set, or that systems disagree about.

    Args:
        level: "refused" by a system that is known, "standard" for what DICOM does not allow, "differs" for what is
            allowed but read differently by different systems.
        rule: short stable name of the rule.
        message: what is wrong, with the number, and with contour and slice where it concerns some.
        where: attribute, and ROI where it concerns one.
        refusal: by whom it is refused and how that is known, for that level.
    """

    level: Level
    rule: str
    message: str
    where: str
    refusal: Refusal | None = None

    def __str__(self) -> str:
        level = LEVELS[self.level]
        if self.refusal is not None:
            level += f" by {self.refusal.systems} ({self.refusal.source})"
        place = "" if self.message.startswith(self.where) else f"{self.where}: "
        return on_one_line(f"{level}: {place}{self.message} [{self.rule}]")


Findings = Iterator[Finding]


def refused(rule: str, where: str, message: str, refusal: Refusal | None = None) -> Finding:
    """A finding for which a refusal is known: the one given, or that of the rule in `refusals.KNOWN`."""
    return Finding(
        level="refused", rule=rule, message=message, where=where, refusal=refusal or known_refusal(rule)
    )


def breaks(rule: str, where: str, message: str) -> Finding:
    """A finding that DICOM does not allow."""
    return Finding(level="standard", rule=rule, message=message, where=where)


def differs(rule: str, where: str, message: str) -> Finding:
    """A finding that DICOM allows, but that systems read differently."""
    return Finding(level="differs", rule=rule, message=message, where=where)
