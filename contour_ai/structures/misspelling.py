"""Organ names with typing errors, and names that are cut short; never across sides or between two organs."""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from contour_ai.structures.organ_names import Reading, without_side
from contour_ai.structures.roi_record import tg263_table
from contour_ai.structures.spelling import edits, letter_set
from contour_ai.structures.vocabulary import (
    all_entries,
    find_entry,
    is_organ_word,
    is_paired,
    plural_of,
    variants,
)
from contour_ai.structures.words import Side, Words, canonical, side_words

SHORTEST_MISSPELLING = 6
"""Shorter words have too many neighbours: a letter turns ileum into ilium."""

TWO_EDITS_FROM = 8
"""Words of so many letters may have two wrong ones."""

SHORTEST_BEGINNING = 6
"""A word that is cut short stands for an organ from so many letters on."""

MODIFIERS = frozenset(
    {
        "superior",
        "inferior",
        "middle",
        "anterior",
        "posterior",
        "lateral",
        "medial",
        "internal",
        "external",
        "proximal",
        "distal",
        "upper",
        "lower",
        "head",
        "neck",
        "tail",
        "base",
        "wall",
        "small",
        "large",
        "common",
        "ascending",
        "descending",
        "transverse",
        "left",
        "right",
        "inner",
        "outer",
        "gland",
        "cartilage",
        "bone",
        "artery",
        "vein",
        "muscle",
        "nerve",
        "lobe",
        "node",
        "sinus",
    }
)
"""Words that tell one organ from its neighbour: they have to be the same in a misspelling and in what it is read as."""


ADJECTIVE_ENDS = ("al", "ar")
"""What makes of an organ a word for what belongs to it: "carinal" is no misspelt carina."""


def read_misspelt(words: Words) -> Reading | None:
    """The organ of a name with a typing error, or one that is cut short; None where there is none or it may be two.

    Sides are never corrected, nor numbers, nor words that tell one organ from another.
    """
    sided = [(rest, side) for rest, side, language in without_side(words) if language is None]
    readings: list[tuple[Words, Side | None]] = [*sided] if sided else [(words, None)]
    for rest, side in readings:
        if _has_an_extra_word(rest) or all(map(is_organ_word, rest)):  # known words are no typing errors
            continue
        found = _nearest(rest, side) or _beginning(rest, side)
        if found is not None:
            return found
    return None


def may_be(words: Words) -> tuple[str, ...]:
    """Every organ that a part of the name may mean, for names that nobody can tell for certain."""
    sides = side_words()
    here = {sides[word] for word in words if word in sides}
    rest = tuple(word for word in words if word not in sides and not word.isdigit())
    for length in range(min(len(rest), 5), 0, -1):
        found: dict[str, None] = {}
        for start in range(len(rest) - length + 1):
            part = rest[start : start + length]
            entry = find_entry(part) if len("".join(part)) > 2 else None
            if entry is not None:
                found.update(dict.fromkeys(n for name in entry.names for n in variants(name)))
        if found:
            sided = tuple(n for n in found if any(n.endswith(f"_{side}") for side in here))
            return sided or tuple(found)
    guess = read_misspelt(rest)
    return () if guess is None else guess.organs


def _has_an_extra_word(words: Words) -> bool:
    """Whether the name without one of its words is an organ's: then that word is no typing error."""
    shorter = (words[:n] + words[n + 1 :] for n in range(len(words)))
    return len(words) > 1 and any(
        entry is not None and len(entry.names) == 1 for entry in (find_entry(rest) for rest in shorter)
    )


def _nearest(words: Words, side: Side | None) -> Reading | None:
    text = "".join(words)
    if len(text) < SHORTEST_MISSPELLING or not text.isalpha():
        return None
    allowed = 2 if len(text) >= TWO_EDITS_FROM else 1
    modifiers = frozenset(canonical(words)) & MODIFIERS
    if not _distances(text, modifiers, allowed, allowed):
        return None
    distances = _distances(text, modifiers, allowed, allowed + 1)
    name, distance = min(distances.items(), key=lambda item: item[1])
    plural = {plural_of(name)} | {n for n in distances if plural_of(n) == name}
    near = min(distance + 1, allowed + 1)
    rivals = [n for n, d in distances.items() if n != name and d <= (distance if n in plural else near)]
    if distance > allowed or rivals:
        return None
    return _sided(name, side, f"read as {name}, {distance} letter{'s' * (distance > 1)} changed")


def _distances(text: str, modifiers: frozenset[str], allowed: int, most: int) -> dict[str, int]:
    """{organ: how far its nearest alias is}, up to `most`; what may not be corrected counts as ``allowed + 1``."""
    found: dict[str, int] = {}
    mine = letter_set(text)
    for key, bits, key_modifiers, name in _spellings():
        if abs(len(key) - len(text)) > most or (bits ^ mine).bit_count() > 2 * most:
            continue
        distance = edits(text, key, most)
        if key[-1] != text[-1] and _is_plural(name):  # a last letter that may be meant for a side
            distance = max(distance, allowed + 1)
        if text in (f"{key}x", f"{key}z", f"x{key}", f"z{key}"):  # a mark of people who copy organs
            distance = max(distance, allowed + 1)
        if text.endswith(ADJECTIVE_ENDS) and not key.endswith(ADJECTIVE_ENDS):
            distance = max(distance, allowed + 1)
        if modifiers - key_modifiers:
            distance = max(distance, allowed + 1)
        if distance <= most and distance < found.get(name, most + 1):
            found[name] = distance
    return found


def _is_plural(name: str) -> bool:
    """Whether a name is that of both organs of a pair."""
    return name in _plurals()


@cache
def _plurals() -> frozenset[str | None]:
    return frozenset(plural_of(n[:-2]) for n in tg263_table() if n.endswith("_L"))


def _beginning(words: Words, side: Side | None) -> Reading | None:
    text = "".join(words)
    if len(text) < SHORTEST_BEGINNING or not text.isalpha() or len(words) > 2:
        return None
    names = {one.name for one in _spellings() if one.text.startswith(text)}
    if len(names) != 1:
        return None
    name = names.pop()
    return _sided(name, side, f"read as {name}, cut short")


def _sided(name: str, side: Side | None, how: str) -> Reading | None:
    table = tg263_table()
    if side is not None:
        return Reading((f"{name}_{side}",), how) if is_paired(name) else None
    return Reading((name,) if name in table else variants(name), how)


class _Spelling(NamedTuple):
    """An alias that stands for one name."""

    text: str
    """Written together."""
    letters: int
    modifiers: frozenset[str]
    name: str


@cache
def _spellings() -> tuple[_Spelling, ...]:
    """Every alias that stands for one name."""
    found = []
    for key, entry in all_entries().items():
        name = entry.names[0]
        if len(entry.names) > 1 or re.search(
            "_[A-Z]$", name
        ):  # a wrong letter must not become a side or a part
            continue
        if " " not in key and key.isalpha() and len(key) >= SHORTEST_BEGINNING:
            modifiers = frozenset(m for m in MODIFIERS if m in key)
            found.append(_Spelling(key, letter_set(key), modifiers, name))
    return tuple(found)
