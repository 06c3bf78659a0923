"""Names in a recipe: which ROIs they mean, and what results are called."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass

from contour_ai.errors import ConfigError
from contour_ai.structures import roi_info, tg263_name
from contour_ai.structures.tg263 import prv_name

GLOB_CHARACTERS = frozenset("*?[")
LONGEST_DICOM_NAME = 64
"""Characters of a ROI name in DICOM."""

TARGETS = frozenset({"GTV", "CTV", "PTV"})


@dataclass(frozen=True)
class Matched:
    """The ROIs that a name in a recipe stands for, and a sentence where one has another name."""

    names: tuple[str, ...]
    note: str = ""


def is_pattern(name: str) -> bool:
    """Whether a name stands for all that match."""
    return bool(GLOB_CHARACTERS & set(name))


def matching(wanted: str, names: Sequence[str]) -> Matched:
    """The names that one of a recipe stands for: itself, in any case, or the only one with its TG-263 name.

    A name with `*`, `?` or `[..]` stands for all that match, in their order. Where several ROIs have the TG-263 name
    that is asked for, none is taken.
    """
    if wanted in names:
        return Matched((wanted,))
    folded = wanted.strip().casefold()
    same = [n for n in names if n.strip().casefold() == folded]
    if same:
        return Matched(tuple(same[:1]))
    if is_pattern(wanted):
        return Matched(tuple(n for n in names if fnmatch.fnmatchcase(n.strip().casefold(), folded)))
    meant = tg263_name(wanted)
    others = [n for n in names if meant is not None and tg263_name(n) == meant]
    if len(others) > 1:
        return Matched(
            (), f"{wanted} may be any of {', '.join(others)}: none is used; name one in the recipe"
        )
    return Matched(tuple(others), f"{wanted} is taken from ROI {others[0]}" if others else "")


def margin_name(roi: str, margin_mm: float) -> str:
    """The name of an organ with a margin after TG-263: SpinalCord_PRV05, OpticNrv_PRV03_L; of a target: CTV_High_05.

    Raises:
        ConfigError: the margin is no whole number of millimetres from 1 to 99, which such a name could say.
    """
    whole = round(margin_mm)
    if abs(margin_mm - whole) > 1e-6 or not 1 <= whole <= 99:
        raise ConfigError(
            "A margin that is no whole number of millimetres has no name of its own.",
            where=roi,
            found=f"{margin_mm:g} mm",
            fix="give the structure a name in the recipe",
        )
    if roi_info(roi).interpreted_type in TARGETS:
        return f"{roi}_{whole:02d}"
    return prv_name(roi, whole)


def checked_name(name: str) -> str:
    """A result's name, fit for a structure set.

    Raises:
        ConfigError: it is empty, too long, or has a backslash or control character.
    """
    stripped = name.strip()
    if not stripped or len(stripped) > LONGEST_DICOM_NAME or any(c == "\\" or ord(c) < 32 for c in stripped):
        raise ConfigError(
            "A derived structure cannot have this name.",
            found=repr(name),
            expected=f"1 to {LONGEST_DICOM_NAME} characters, without backslash",
            fix="give the structure a `name` in the recipe",
        )
    return stripped
