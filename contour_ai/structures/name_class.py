"""Classes of ROI names: organ, target, helper structure, support and so on; and a name cut up for the rules."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Literal

from contour_ai.structures.organ_names import Reading
from contour_ai.structures.tg263 import row_of
from contour_ai.structures.words import Words, word_list

Fate = Literal["map", "set aside", "decide"]


class Kind(str, Enum):  # StrEnum came with Python 3.11
    """Classes of ROI names."""

    ORGAN = "organ"
    MARGIN = "organ with a margin"
    PART = "organ cut or joined"
    TARGET = "target"
    HELPER = "helper structure"
    SUPPORT = "support or device"
    NODES = "nodal level"
    OTHER_IMAGE = "outline of another image"
    UNKNOWN = "to decide"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, kw_only=True)
class NameClass:
    """What a ROI name is.

    Args:
        name: as the structure set has it.
        kind: its class.
        rule: why, for people.
        tg263_name: the standard name of what it stands for; None where there is none or it is not certain. Not only
            organs
            have one: ``CTV_High``, ``Bolus``, ``SpinalCord_PRV05``.
        organs: names of the organs that it may stand for, or is made from.
        may_be_whole: whether the name is that of a whole organ and only leaves open which, so that volume and place
            may tell.
        corrected: whether the name was read with another letter, or with letters added.
        pattern: a pattern of a ROI map (glob or ``re:``) for names like this one; None where only the name itself
            will do.
    """

    name: str
    kind: Kind
    rule: str
    tg263_name: str | None = None
    organs: tuple[str, ...] = ()
    pattern: str | None = None
    may_be_whole: bool = False
    corrected: bool = False

    @property
    def fate(self) -> Fate:
        """Whether `rois` and `train` map the name, set it aside, or ask a person."""
        if self.kind is Kind.UNKNOWN:
            return "decide"
        return "map" if self.kind is Kind.ORGAN else "set aside"

    def may_be(self, roi: str) -> bool:
        """Whether a person may decide that the name stands for `roi`."""
        return self.kind is Kind.UNKNOWN and roi in self.organs


@dataclass(frozen=True, kw_only=True)
class NameParts:
    """A name cut up for the rules."""

    name: str
    text: str
    """Small letters without accents."""
    words: Words

    def has(self, key: str) -> str | None:
        """The first word that is in a list of ``name_words.yaml``."""
        words = word_list(key)
        return next((word for word in self.words if word in words), None)


ORGAN_TYPES = frozenset({"ORGAN", "EXTERNAL"})

TARGET_TYPES = frozenset({"GTV", "CTV", "PTV", "CAVITY"})

MOST_NAMES_SHOWN = 4
"""Of more organs that a name may be, sides are not written out in the reason."""

KIND_OF_GROUP = {
    "prv": Kind.MARGIN,
    "derived": Kind.PART,
    "target": Kind.TARGET,
    "other": Kind.HELPER,
    "anatomic": Kind.ORGAN,
    "own": Kind.ORGAN,
}

DEVICES = frozenset({"BOLUS", "DEVICE", "MARKER", "SUPPORT"})


def as_standard(parts: NameParts, found: str, rule: str) -> NameClass:
    """The class of a standard name."""
    row = row_of(found)
    assert row is not None
    kind = KIND_OF_GROUP[row.group]
    if row.interpreted_type in TARGET_TYPES:
        kind = Kind.TARGET
    elif row.interpreted_type in DEVICES:
        kind = Kind.SUPPORT
    elif kind is Kind.ORGAN and row.interpreted_type not in ORGAN_TYPES:
        kind = Kind.HELPER
    if kind is Kind.ORGAN:
        return as_organ(parts, Reading((found,)))
    pattern = next((f"*{w.upper()}*" for w in ("gtv", "ctv", "ptv", "itv", "prv") if w in parts.text), None)
    return NameClass(name=parts.name, kind=kind, rule=rule, tg263_name=found, pattern=pattern)


def as_organ(parts: NameParts, reading: Reading) -> NameClass:
    if reading.organ is None:
        names = reading.organs
        if len(names) > MOST_NAMES_SHOWN:
            names = tuple(dict.fromkeys(n.removesuffix("_L").removesuffix("_R") for n in names))
        asked = ask(parts, "may be " + " or ".join(names), reading.organs)
        return replace(asked, may_be_whole=True)
    rule = reading.how or "an organ"
    return NameClass(
        name=parts.name,
        kind=Kind.ORGAN,
        rule=rule,
        tg263_name=reading.organ,
        organs=reading.organs,
        corrected=bool(reading.how),
    )


def ask(parts: NameParts, rule: str, organs: tuple[str, ...]) -> NameClass:
    return NameClass(name=parts.name, kind=Kind.UNKNOWN, rule=rule, organs=organs)


def aside(
    parts: NameParts, kind: Kind, rule: str, pattern: str | None, organs: tuple[str, ...] = ()
) -> NameClass:
    return NameClass(name=parts.name, kind=kind, rule=rule, organs=organs, pattern=pattern)


def as_part(parts: NameParts, reading: Reading) -> NameClass:
    sign = next((s for s in "~^!&+" if s in parts.text), "")
    return aside(
        parts, Kind.PART, f'"{sign}": part of an organ, or joined (TG-263)', f"*{sign}*", reading.organs
    )
