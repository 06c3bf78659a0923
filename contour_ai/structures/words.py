"""ROI names cut into words: without case, accents and separators; sides; words that mean the same."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Literal

from contour_ai.structures.roi_record import read_table

TABLE = "name_words.yaml"

Side = Literal["L", "R"]
Words = tuple[str, ...]

WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
"""Words of a name: runs of capitals, capitalised or small words, numbers ("FemoralHead_L" has three)."""

LETTERS_WITHOUT_ACCENT = str.maketrans(
    {"ß": "ss", "ł": "l", "Ł": "L", "ø": "o", "Ø": "O", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "đ": "d"}
)
"""Letters that Unicode does not take apart into a plain one and an accent."""


def plain_text(name: str) -> str:
    """`name` in ASCII: accents taken off, other signs dropped."""
    decomposed = unicodedata.normalize("NFKD", name.translate(LETTERS_WITHOUT_ACCENT))
    return decomposed.encode("ascii", "ignore").decode()


def words_of(name: str) -> Words:
    """Words of a name in small letters without accents."""
    return tuple(word.lower() for word in WORD.findall(plain_text(name)))


def canonical(words: Words) -> Words:
    """The words with abbreviations and synonyms replaced by one of them; see ``same`` in ``name_words.yaml``."""
    same = _same()
    return tuple(same.get(word, word) for word in words)


def split_side(name: str) -> tuple[Words, Side | None]:
    """The words of a ROI name without those for left and right, and the side; None where it has none or both."""
    words, sides = words_of(name), side_words()
    rest = tuple(word for word in words if word not in sides)
    found = {sides[word] for word in words if word in sides}
    return (rest, found.pop()) if len(found) == 1 and rest else (words, None)


@cache
def side_words() -> Mapping[str, Side]:
    """Words for left and right in any language."""
    sides = read_table("aliases.yaml")["sides"]
    words: dict[str, Side] = {}
    for side, name in (("L", "left"), ("R", "right")):
        words.update({words_of(word)[0]: side for word in sides[name]})  # type: ignore[misc]
    return words


@cache
def side_words_of_one_language() -> Mapping[str, Mapping[str, Side]]:
    """{language: words for left and right in that language that mean something else in others}."""
    found: Mapping[str, Mapping[str, Side]] = read_table("aliases.yaml")["sides"]["words_of_one_language"]
    return found


@cache
def word_list(key: str) -> frozenset[str]:
    """A list of ``name_words.yaml``, in the form of `words_of`."""
    words: Sequence[str] = read_table(TABLE)[key]
    return frozenset("".join(words_of(word)) for word in words)


@cache
def _same() -> Mapping[str, str]:
    groups: Sequence[Sequence[str]] = read_table(TABLE)["same"]
    return {word: group[0] for group in groups for word in group}
