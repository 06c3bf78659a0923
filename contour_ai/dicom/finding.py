"""One thing that an importer may stumble over in a structure set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One thing an importer may stumble over.

    Args:
        severity: "error" breaks DICOM or is refused by systems we know of, "warning" is legal but may be taken amiss.
        rule: short stable name of the rule.
        message: what is wrong, with the number, and with contour and slice where it concerns some.
        where: attribute, and ROI where it concerns one.
    """

    severity: Severity
    rule: str
    message: str
    where: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.where}: {self.message} [{self.rule}]"


Findings = Iterator[Finding]


def error(rule: str, where: str, message: str) -> Finding:
    """A finding that breaks DICOM, or is refused by systems we know of."""
    return Finding("error", rule, message, where)


def warning(rule: str, where: str, message: str) -> Finding:
    """A finding that is legal but may be taken amiss."""
    return Finding("warning", rule, message, where)
