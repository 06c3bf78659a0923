"""Which rule a series takes, and why not the others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from contour_ai.node.config import Rule, When, rule_name

TEXTS = {
    "called_ae_title": "called_ae",
    "calling_ae_title": "calling_ae",
    "station_name": "StationName",
    "manufacturer": "Manufacturer",
    "study_description": "StudyDescription",
    "series_description": "SeriesDescription",
    "body_part": "BodyPartExamined",
    "protocol": "ProtocolName",
    "kernel": "ConvolutionKernel",
    "image_type": "ImageType",
}
"""Key of `when`: the fact of a series that it is compared with."""


@dataclass(frozen=True, kw_only=True)
class SeriesFacts:
    """What rules look at: texts by DICOM keyword (and `called_ae`, `calling_ae`), thickness and number of slices."""

    texts: dict[str, str]
    slices: int

    @classmethod
    def of(cls, facts: str, slices: int) -> SeriesFacts:
        """From the JSON that the database has."""
        return cls(texts=json.loads(facts), slices=slices)

    @property
    def thickness_mm(self) -> float | None:
        """SliceThickness; None where it is missing or no number."""
        try:
            return float(self.texts.get("SliceThickness", "").replace(",", "."))
        except ValueError:
            return None


@dataclass(frozen=True)
class Choice:
    """The rule that was taken (None: none fits), its name, and for every rule before it why it was not."""

    rule: Rule | None
    name: str
    why_not: tuple[str, ...]


def choose_rule(rules: Sequence[Rule], facts: SeriesFacts) -> Choice:
    """The first rule whose every condition fits."""
    reasons: list[str] = []
    for number, rule in enumerate(rules, start=1):
        reason = why_not(rule.when, facts)
        if reason is None:
            return Choice(rule, rule_name(number, rule), tuple(reasons))
        reasons.append(f"{rule_name(number, rule)}: {reason}")
    return Choice(None, "", tuple(reasons))


def why_not(when: When, facts: SeriesFacts) -> str | None:
    """The first condition that does not fit, in words; None where all do."""
    for key, fact in TEXTS.items():
        pattern = getattr(when, key)
        found = facts.texts.get(fact, "")
        if pattern is not None and not fnmatchcase(found.casefold(), pattern.casefold()):
            return f"{key} is {found!r}, not {pattern!r}"
    if when.contrast is not None:
        has = bool(facts.texts.get("ContrastBolusAgent", "").strip())
        if has != when.contrast:
            return "contrast was given" if has else "no contrast was given"
    if when.slice_thickness_mm is not None:
        low, high = when.slice_thickness_mm
        if facts.thickness_mm is None:
            return "its slice thickness is not known"
        if not low <= facts.thickness_mm <= high:
            return f"slice_thickness_mm is {facts.thickness_mm:g}, not {low:g} to {high:g}"
    if when.slices is not None and not when.slices[0] <= facts.slices <= when.slices[1]:
        return f"it has {facts.slices} slices, not {when.slices[0]} to {when.slices[1]}"
    return None
