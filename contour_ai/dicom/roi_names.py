"""ROI names that an importing system accepts: allowed characters, length, uniqueness; left and right survive."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from contour_ai.dicom.profile import Profile

TELLING_END = re.compile(
    r"(?:(?i:[_ .-]?(?:left|right)|[_ .-](?:lt|rt|li|re)|[_ .-][a-z0-9]{1,2}|[_ .-]?PRV[_ .-]?\d{0,3}|[_ .-]?\d{1,5})"
    r"|(?<=[a-z])[LR])$"
)
"""What tells one ROI from its siblings stands at the end of a name: the side, a margin, a dose, a number or letter."""

SIDE_WITHIN = re.compile(r"[_ .-](?:left|right|lt|rt|li|re|[lr])(?=[_ .-]|$)", re.IGNORECASE)
"""A side that something else follows, as in Parotid_L_PRV05."""


def written_names(names: Iterable[str], profile: Profile) -> dict[str, str]:
    """{name asked for: name to write}: allowed characters, short enough, and unique ignoring case.

    Names that are fine stay as they are, also where another one would be shortened to the same.
    """
    asked = list(names)
    cleaned = {name: _cleaned(name, profile) for name in asked}
    result: dict[str, str] = {}
    taken: set[str] = set()
    for name in asked:
        if (
            cleaned[name] == name
            and len(name) <= profile.roi_name_characters
            and name.casefold() not in taken
        ):
            result[name] = name
            taken.add(name.casefold())
    for name in asked:
        if name not in result:
            result[name] = _free(cleaned[name], profile, taken)
            taken.add(result[name].casefold())
    return {name: result[name] for name in asked}


def _cleaned(name: str, profile: Profile) -> str:
    allowed = re.compile(profile.roi_name_pattern)
    instead = next((c for c in "_-. ~" if allowed.fullmatch(c)), "")

    def character(c: str) -> str:
        if allowed.fullmatch(c):
            return c
        plain = unicodedata.normalize("NFKD", c).encode("ascii", "ignore").decode()
        return plain if plain and all(allowed.fullmatch(p) for p in plain) else instead

    return "".join(map(character, name)).strip() or "ROI"


def _free(name: str, profile: Profile, taken: set[str]) -> str:
    allowed = re.compile(profile.roi_name_pattern)
    mark = next((c for c in "~_-." if allowed.fullmatch(c)), "")
    for number in range(1, len(taken) + 3):
        candidate = _shortened(name, profile.roi_name_characters, "" if number == 1 else f"{mark}{number}")
        if candidate.casefold() not in taken:
            return candidate
    raise AssertionError("one of the numbers is free")


def _shortened(name: str, longest: int, tag: str) -> str:
    """`name` with `tag` in at most `longest` characters; the tag goes before side and end, so that they stay last."""
    match = TELLING_END.search(name)
    end = match.group() if match and len(match.group()) + len(tag) < longest else ""
    stem = name[: len(name) - len(end)]
    side = next(reversed(list(SIDE_WITHIN.finditer(stem))), None)
    if side is not None and (tag or side.end() > longest - len(end)):
        for kept in (stem[side.start() :], side.group()):
            if len(kept + end + tag) < longest:
                stem, end = stem[: side.start()], kept + end
                break
    cut = stem[: longest - len(end) - len(tag)]
    if len(cut) < len(stem):
        cut = cut.rstrip("_ .-") or cut
    return (cut + tag + end).strip()
