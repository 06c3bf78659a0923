"""Which organ a name, or a part of one, stands for: sides, plurals, numbers, words in any order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from contour_ai.structures.roi_record import tg263_table
from contour_ai.structures.vocabulary import Entry, find_entry, is_paired, plain_names, plural_of, sides_of
from contour_ai.structures.words import Side, Words, side_words, side_words_of_one_language, word_list


@dataclass(frozen=True)
class Reading:
    """What a name may stand for.

    Args:
        organs: names of the table; several where it may be one of them.
        how: what was needed to read it so, for people; empty where it is an alias as it stands.
    """

    organs: tuple[str, ...]
    how: str = ""

    @property
    def organ(self) -> str | None:
        """The organ, where it can only be one."""
        return self.organs[0] if len(self.organs) == 1 else None


def read_organ(words: Words) -> Reading | None:
    """The organ that these words are a name of; every word has to be used up. None where they are no organ's name."""
    if not words:
        return None
    plural = _both_sides(words)
    if plural is not None:
        return plural
    whole = find_entry(words)
    if whole is not None:
        return Reading(plain_names(whole))
    for rest, side, language in without_side(words):
        entry = find_entry(rest)
        if entry is not None and (language is None or language in entry.languages):
            found = with_side(entry, side)
            if found is not None:
                return found
    return _glued_side(words) or _numbered(words)


def organ_within(words: Words) -> Reading | None:
    """The organ of the longest run of words that is an organ's name; the first of several."""
    for length in range(min(len(words), 6), 0, -1):
        for start in range(len(words) - length + 1):
            part = words[start : start + length]
            if length == 1 and len(part[0]) < 3:
                continue
            found = read_organ(part)
            if found is not None:
                return found
    return None


def relative_side(words: Words) -> Reading | None:
    """Left or right of an organ that is named by the side of the tumour ("ipsilateral parotid")."""
    rest = tuple(word for word in words if word not in word_list("relative_sides"))
    if len(rest) == len(words) or not rest:
        return None
    entry = find_entry(rest)
    found = None if entry is None else sides_of(entry)
    return Reading(found, "named by the side of the tumour") if found else None


def with_side(entry: Entry, side: Side) -> Reading | None:
    found = tuple(f"{name}_{side}" for name in entry.names if is_paired(name))
    return Reading(found) if found else None


class SidedWords(NamedTuple):
    """A name read as one of a side."""

    rest: Words
    """Without the word for the side."""
    side: Side
    language: str | None
    """That the reading needs."""


def without_side(words: Words) -> Iterator[SidedWords]:
    """Ways to read a name as one of a side; none for names with both sides."""
    sides = side_words()
    found = {sides[word] for word in words if word in sides}
    if len(found) == 1:
        rest = tuple(w for w in words if w not in sides)
        if rest:
            yield SidedWords(rest, found.pop(), None)
    if found or len(words) < 2:
        return
    for language, of_language in side_words_of_one_language().items():
        for place in (-1, 0):
            if words[place] in of_language:
                rest = words[:-1] if place else words[1:]
                yield SidedWords(rest, of_language[words[place]], language)


def _both_sides(words: Words) -> Reading | None:
    """The plural of an organ that is said to be there on both sides, or written in the plural."""
    rest = tuple(word for word in words if word not in word_list("both"))
    says_both = len(rest) < len(words)
    if not rest or any(word in side_words() for word in rest):
        return None
    entry = find_entry(rest)
    if entry is None and rest[-1].endswith("s") and len(rest[-1]) > 3:
        entry = find_entry((*rest[:-1], rest[-1][:-1]))
        says_both = True
    if entry is None or not says_both or len(entry.names) > 1:
        return None
    name = entry.names[0]
    if name.endswith("s") and name in tg263_table() and not sides_of(entry):
        return Reading((name,))
    plural = plural_of(name)
    return Reading((plural,)) if plural else None


def _glued_side(words: Words) -> Reading | None:
    """A single word with the side at its beginning or end: "lparotid", "parotidl".

    Not where the letter at the end makes an adjective: "cochlear", "orbital" and "scapular" have no side.
    """
    if len(words) != 1:
        return None
    word, sides = words[0], side_words()
    for rest, letter in ((word[1:], word[:1]), (word[:-1], word[-1:])):
        is_adjective = rest == word[:-1] and rest.endswith("a")
        entry = find_entry((rest,)) if letter in ("l", "r") and len(rest) > 2 and not is_adjective else None
        found = None if entry is None else with_side(entry, sides[letter])
        if found is not None:
            return found
    return None


NUMBERED = (
    (
        re.compile(
            r"(?:vb|vert|vertebra|vertebrae|wk|bwk|hwk|lwk|corpus|body|v)+ ?(c|t|th|d|l|s) ?0?(\d{1,2})"
        ),
        "VB",
    ),
    (re.compile(r"(c|t|th|d|l|s) ?0?(\d{1,2}) (?:vb|vert|vertebra|vertebrae|wk)"), "VB"),
    (re.compile(r"(?:cn|nerve|cranial nerve) ?(iii|ix|iv|viii|vii|vi|v|xii|xi|x|\d{1,2})"), "CN"),
    (re.compile(r"(?:rib|ribs|costa|rippe) ?0?(\d{1,2})"), "Rib"),
)

ROMAN = dict(enumerate(["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"], start=1))

SPINE_LETTERS = {"c": "C", "t": "T", "th": "T", "d": "T", "l": "L", "s": "S"}


def _numbered(words: Words) -> Reading | None:
    """Vertebrae, ribs and cranial nerves by their number."""
    sides = side_words()
    text = " ".join(words)
    for pattern, kind in NUMBERED:
        match = pattern.fullmatch(text)
        if match and kind == "VB":
            letter, number = SPINE_LETTERS[match.group(1)], int(match.group(2))
            return _in_table(f"VB_{letter}{number:02d}" if letter == "T" else f"VB_{letter}{number}")
        sided = [w for w in words if w in sides]
        rest = " ".join(w for w in words if w not in sides)
        match = pattern.fullmatch(rest)
        if match and kind != "VB" and len({sides[w] for w in sided}) <= 1:
            end = f"_{sides[sided[0]]}" if sided else ""
            number_text = match.group(1).upper()
            if kind == "CN" and number_text.isdigit():
                number_text = ROMAN.get(int(number_text), "")
            stem = f"Rib{int(number_text):02d}" if kind == "Rib" else f"CN_{number_text}"
            if end or kind == "CN":
                return _in_table(stem + end)
            return Reading(tuple(n for n in (f"{stem}_L", f"{stem}_R") if n in tg263_table()) or ("Rib",))
    return None


def _in_table(name: str) -> Reading | None:
    return Reading((name,)) if name in tg263_table() else None
