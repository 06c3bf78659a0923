"""The verdict on a contour, on a patient: whether a person may trust it, should look at it, or must not use it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from contour_ai.quality.flag import Flag

Verdict = Literal["clear", "look", "stop"]
"""`clear`: nothing found; `look`: a finding to look at; `stop`: not fit to be used."""

SEVERITY: Mapping[str, int] = {"clear": 0, "look": 1, "stop": 2}


@dataclass(frozen=True, kw_only=True)
class RoiVerdict:
    """The verdict on one ROI."""

    verdict: Verdict
    findings: tuple[Flag, ...] = ()
    """Why, the most important first; none where it is `clear`."""
    probability: float | None = None
    """That the contour needs correction, where the model can say."""
    judged_by: str = "model"
    """`model`, or `geometry` where no model knows the ROI: then `clear` says little."""

    @property
    def reason(self) -> str:
        """The most important finding as a sentence; "" where there is none."""
        return self.findings[0].reason if self.findings else ""


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """What a fitted model says of a contour: the probability that it needs correction, and why."""

    probability: float
    limit: float
    """Above which the contour is worth a look."""
    reason: str
    slices: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PatientVerdict:
    """The verdict on a patient and on each of its ROIs."""

    verdict: Verdict
    findings: tuple[Flag, ...] = ()
    """On the patient as a whole, the most important first."""
    rois: Mapping[str, RoiVerdict] = field(default_factory=dict)

    @property
    def stopped(self) -> dict[str, str]:
        """{ROI that must not be used: why}."""
        return {name: roi.reason for name, roi in self.rois.items() if roi.verdict == "stop"}


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of several; `clear` of none."""
    return max(verdicts, key=lambda v: SEVERITY[v], default="clear")
