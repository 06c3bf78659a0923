"""What a ROI name is the name of: rules in the order in which they are tried."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

from contour_ai.structures.misspelling import may_be, read_misspelt
from contour_ai.structures.name_class import (
    Kind,
    NameClass,
    NameParts,
    as_organ,
    as_part,
    as_standard,
    aside,
    ask,
)
from contour_ai.structures.organ_names import Reading, organ_within, read_organ, relative_side
from contour_ai.structures.other_programs import name_of_other_program
from contour_ai.structures.tg263 import prv_name, standard_name, standard_names
from contour_ai.structures.word_rules import (
    TARGET,
    helper,
    other_image,
    sorted_last,
    support,
    target,
    unused,
    weak_words,
    word_pattern,
)
from contour_ai.structures.words import plain_text, side_words, word_list, words_of

MAX_PRV_MARGIN_MM = 30
"""A planning organ at risk volume with a larger margin is more likely a misread number."""

LONGEST_SENSIBLE_NAME = 128
"""DICOM allows 64; what is much longer is no name."""

LONGEST_OLD_NAME = 16
"""Older systems cut names here, so that the last word of such a name may have lost its end."""

ABBREVIATIONS = frozenset({"Spc"})
"""Standard names that have to be spelt as the list has them: SPC is the superior constrictor, Spc a space."""

TARGET_CUT = re.compile(r"[-+^_ ][a-z0-9]*(?:[gcp]t?|ct|pt)$")

MARGIN = re.compile(r"(?:\+ ?\d+(?:\.\d+)?(?: ?[mc]m)?|[ _+^]\d+(?:\.\d+)? ?[mc]m)$")

MARGIN_TWO_DIGITS = re.compile(r"(?<!\d)0[2-9](?:[ _]?[lr])?$")

DISTANCE = re.compile(r"\d(?:\.\d+)? ?[mc]m")

NODAL_CODE = re.compile(r"(iv|v?i{1,3}|v|[1-7])([abc])?")

NODAL_CODES = re.compile(r"[ivx1-7abc&+/-]+")

BARE_VERTEBRA = re.compile(r"(c|th?|l|s)0?(\d{1,2})")

ROMAN = {"1": "I", "2": "II", "3": "III", "4": "IV", "5": "V", "6": "VI", "7": "VII"}

EYE_ORGANS = ("Eye", "Lens", "OpticNrv", "Retina", "Cornea", "Orbit", "Glnd_Lacrimal")


@lru_cache(maxsize=1 << 16)
def classify(name: str) -> NameClass:
    """What `name` is the name of.

    An organ is only told where every part of its name is understood; a name that may be two organs, that leaves the
    side open, or that counts copies (Parotid_R_1) is left to a person. So is everything that no rule knows.
    """
    if len(name) > LONGEST_SENSIBLE_NAME:
        return NameClass(name=name, kind=Kind.UNKNOWN, rule=f"has {len(name)} characters")
    plain = plain_text(name)
    parts = NameParts(name=name, text=plain.lower().strip(), words=words_of(name))
    for rule in RULES:
        found = rule(parts)
        if found is not None:
            return found
    organs = may_be(parts.words)
    return NameClass(name=name, kind=Kind.UNKNOWN, rule="no rule knows this name", organs=organs)


def _standard(parts: NameParts) -> NameClass | None:
    """Names of TG-263 and of our own table, also in reverse order."""
    found = standard_name(parts.name)
    if found in ABBREVIATIONS and found != parts.name.strip():
        return None
    return None if found is None else as_standard(parts, found, f"standard name {found}")


def _other_program(parts: NameParts) -> NameClass | None:
    found = name_of_other_program(parts.name)
    return (
        None if found is None else replace(as_organ(parts, Reading((found,))), rule="TotalSegmentator's name")
    )


def _whole_organ(parts: NameParts) -> NameClass | None:
    """A name whose every word is part of an organ's alias."""
    reading = read_organ(parts.words)
    if reading is None:
        return None
    if set(parts.text) & set("~^!+&"):
        return as_part(parts, reading)
    if set(parts.text) & set("?*"):
        return ask(parts, "marked with ? or *", reading.organs)
    if parts.text.startswith("_"):
        organs = reading.organs
        return ask(parts, "begins with an underscore: an organ, or a helper structure?", organs)
    if reading.organ is None:
        return as_organ(parts, reading)
    return as_standard(parts, reading.organ, f"a name of {reading.organ}")


def _vertebra(parts: NameParts) -> NameClass | None:
    """T1 is a vertebra and a kind of MR image, L5 may be anything: nobody can tell by the name."""
    match = BARE_VERTEBRA.fullmatch(parts.text.replace("_", "").replace(" ", ""))
    if match is None:
        return None
    reading = read_organ(("vb", match.group(1), match.group(2)))
    organs = () if reading is None else reading.organs
    return ask(parts, "a vertebra, or a number?", organs)


def _prv(parts: NameParts) -> NameClass | None:
    if "prv" not in parts.text or TARGET.search(parts.text):
        return None
    numbers = [word for word in parts.words if word.isdigit()]
    rest = tuple(w for w in words_of(re.sub("(?i)prv", " ", parts.name)) if not w.isdigit() and w != "mm")
    reading = None if "~" in parts.text else read_organ(rest)
    margin = int(numbers[0]) if len(numbers) == 1 and int(numbers[0]) <= MAX_PRV_MARGIN_MM else None
    found = None
    if reading is not None and reading.organ is not None and (margin is not None or not numbers):
        found = prv_name(reading.organ, margin)
        if margin is None and found not in standard_names():
            found = None
    organs = () if reading is None else reading.organs
    rule = "planning organ at risk volume"
    return NameClass(
        name=parts.name, kind=Kind.MARGIN, rule=rule, tg263_name=found, organs=organs, pattern="*PRV*"
    )


def _nodes(parts: NameParts) -> NameClass | None:
    """Levels of neck nodes by number, and nodes without one."""
    sides = side_words()
    here = {sides[w] for w in parts.words if w in sides}
    text = re.sub(r"[^a-z0-9]+", " ", parts.text)
    code_text = " ".join(w for w in re.findall(r"[a-z]+|[0-9]+[abc]*|[a-z0-9]+", text) if w not in sides)
    node_words = word_list("nodes")
    rest = [w for w in code_text.split() if w not in node_words and w not in ("neck", "hals", "of", "the")]
    is_nodal = any(w in node_words for w in code_text.split()) or re.match(
        r"(?:level|lvl|ln)(?=[ivx\d])", text
    )
    if not is_nodal and not _levels_of_the_neck(text, "".join(rest)):
        return None
    joined = re.sub(r"^(?:level|lvl|ln|niveau)", "", "".join(rest))
    match = NODAL_CODE.fullmatch(joined)
    if match and "axil" not in text and not re.search(r"(?<![a-z])ax(?![a-z])", text):
        code = ROMAN.get(match.group(1), match.group(1).upper()) + (match.group(2) or "").upper()
        names = tuple(n for n in (f"LN_Neck_{code}_L", f"LN_Neck_{code}_R") if n in standard_names())
        if names and len(here) == 1:
            side = here.pop()
            return as_organ(parts, Reading((f"LN_Neck_{code}_{side}",)))
        if names and not here:
            return ask(parts, "a nodal level that does not say its side", names)
    if not rest or NODAL_CODES.fullmatch(joined) or here:
        return aside(parts, Kind.NODES, "nodes, or several levels in one", None)
    return None


def _levels_of_the_neck(text: str, codes: str) -> bool:
    """Whether a name that does not say so is one of nodal levels: "L neck II-IV", "VII, Ib, V & IV"."""
    if len(codes) < 2 or not NODAL_CODES.fullmatch(codes) or not set(codes) & set("iv"):
        return False
    neck = (
        re.search(r"(?<![a-z])(?:neck|hals|cou|cuello|collo|pescoco|szyja|szyi)(?![a-z])", text) is not None
    )
    return neck or sum(map(bool, re.findall(r"(?<![a-z0-9])[ivx]+[abc]?(?![a-z0-9])", text))) > 1


def _cut_or_joined(parts: NameParts) -> NameClass | None:
    words = tuple(w for w in parts.words if w not in word_list("cuts"))  # "opt" may be the optic nerve
    reading = organ_within(words)
    if reading is None:
        reading = read_misspelt(tuple(w for w in words if not w.isdigit()))
    if reading is None:
        return None
    eye_side = _eye_side(parts, reading)
    if eye_side is not None:
        return eye_side
    word = parts.has("cuts")
    if word is None and "os" in parts.words[1:]:
        word = "os"
    if word is None and "in" in parts.words[1:-1]:  # at the end it is short for inspiration
        word = "in"
    if word is not None:
        return aside(parts, Kind.PART, f'"{word}": part of an organ', word_pattern(word), reading.organs)
    if re.search(r"[~^!]", parts.text):
        return as_part(parts, reading)
    if re.search(r"[+&]", parts.text) and not MARGIN.search(parts.text):
        return as_part(parts, reading)
    if MARGIN.search(parts.text) or MARGIN_TWO_DIGITS.search(parts.text):
        return aside(parts, Kind.MARGIN, "an organ with a margin", None, reading.organs)
    if DISTANCE.search(parts.text):
        return aside(parts, Kind.PART, "part of an organ, by distance", None, reading.organs)
    if parts.words[-1] in word_list("structures_joined") or parts.has("joins"):
        return aside(parts, Kind.PART, "several organs in one", None, reading.organs)
    if len(parts.name) == LONGEST_OLD_NAME and TARGET_CUT.search(parts.text) and "-" in parts.text:
        return aside(
            parts, Kind.PART, "an organ without a target; the name is cut short", None, reading.organs
        )
    return None


def _copy(parts: NameParts) -> NameClass | None:
    """An organ with a number at its end, which counts copies or revisions: which of them is right?"""
    words = tuple(word for word in parts.words if not (word.isdigit() and len(word) < 3))
    marked = any(p.search(parts.text) for p in (MARGIN_TWO_DIGITS, DISTANCE, MARGIN))
    if 0 < len(words) < len(parts.words) and not marked:
        reading = read_organ(words) or read_misspelt(words)
        if reading is not None:
            return ask(parts, "a copy or revision of an organ", reading.organs)
    return None


def _side_of_tumour(parts: NameParts) -> NameClass | None:
    reading = relative_side(parts.words)
    return None if reading is None else ask(parts, reading.how, reading.organs)


def _misspelt(parts: NameParts) -> NameClass | None:
    if any(w.isdigit() for w in parts.words) or set(parts.text) & set("~^!+&"):
        return None
    reading = read_misspelt(parts.words)
    return None if reading is None else as_organ(parts, reading)


def _eye_side(parts: NameParts, reading: Reading) -> NameClass | None:
    """OS and OD are the left and the right eye; OS is also "outside"."""
    if not any(organ.startswith(EYE_ORGANS) for organ in reading.organs):
        return None
    side = "L" if "os" in parts.words else "R"
    rest = tuple(w for w in parts.words if w not in ("os", "od") and side_words().get(w) != side)
    if not {"os", "od"} & set(parts.words) or any(w in side_words() for w in rest):
        return None
    sided = read_organ((*rest, "left" if "os" in parts.words else "right"))
    if sided is None:
        return None
    if "od" in parts.words:
        return as_organ(parts, sided)
    return ask(parts, '"OS": the left eye, or outside a target?', sided.organs)


RULES: tuple[Callable[[NameParts], NameClass | None], ...] = (
    _standard,
    _other_program,
    sorted_last,
    _whole_organ,
    _vertebra,
    _prv,
    target,
    other_image,
    unused,
    helper,
    support,
    _nodes,
    _side_of_tumour,
    _copy,
    _cut_or_joined,
    weak_words,
    _misspelt,
)
