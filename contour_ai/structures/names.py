"""From the names people give ROIs to TG-263 names, and which ROIs are left/right partners."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from contour_ai.errors import ConfigError
from contour_ai.structures.roi_record import read_table, tg263_table

Side = Literal["L", "R"]
Words = tuple[str, ...]

WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
"""Words of a name: runs of capitals, capitalised or small words, numbers ("FemoralHead_L" has three)."""

MAX_PRV_MARGIN_MM = 30
"""A planning organ at risk volume with a larger margin is more likely a misread number."""


@dataclass(frozen=True)
class _Entry:
    """What an alias stands for."""

    name: str
    """TG-263 name, without _L and _R for pairs."""
    single: bool
    """Whether the name without a side is a structure (Brainstem, SeminalVes)."""
    paired: bool
    """Whether it is one with a side (Parotid, SeminalVes)."""
    languages: frozenset[str]


@dataclass(frozen=True)
class _Vocabulary:
    """``tg263.yaml`` and ``aliases.yaml``, ready to look up."""

    entries: Mapping[str, _Entry]
    """Key of an alias (see `_keys`): what it stands for."""
    words: Mapping[str, Side]
    """Words for left and right in any language."""
    words_of_one_language: Mapping[str, Mapping[str, Side]]
    """Language: words for left and right in that language that mean something else in others."""


def tg263_name(name: str) -> str | None:
    """The TG-263 name for a ROI name found in an archive, or None where none can be told.

    Case, accents, separators and word order do not matter. Laterality is never guessed: a paired organ without a
    side, a single organ with one, and a name with both sides give None.
    """
    exact = _by_folded_name().get(name.strip().casefold())
    if exact is not None:
        return exact
    words = _words(name)
    if "prv" not in words:
        return _look_up(words)
    rest, margin_mm = _without_prv(words)
    organ = _look_up(rest)
    return None if organ is None or margin_mm is None else f"{organ}_PRV{margin_mm:02d}"


def split_side(name: str) -> tuple[Words, Side | None]:
    """The words of a ROI name without those for left and right, and the side; None where it has none or both."""
    words, sides = _words(name), _vocabulary().words
    rest = tuple(word for word in words if word not in sides)
    found = {sides[word] for word in words if word in sides}
    return (rest, found.pop()) if len(found) == 1 and rest else (words, None)


def flip_pairs(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Index pairs (left, right) of the ROIs that change places when a patient is mirrored left to right.

    Partners are names that differ in the word for the side only, in any language and word order. Pairs that TG-263
    knows not to mirror each other (left and right ventricle of the heart) are left alone.
    """
    table = tg263_table()
    sides: dict[tuple[Words, Side], list[int]] = {}
    for index, name in enumerate(names):
        known = table.get(name)
        rest, side = split_side(name)
        if side is not None and (known is None or known.mirror is not None):
            sides.setdefault((tuple(sorted(rest)), side), []).append(index)
    pairs = []
    for (rest, side), left in sides.items():
        right = sides.get((rest, "R"), [])
        if side == "L" and len(left) == len(right) == 1:
            pairs.append((left[0], right[0]))
    return tuple(sorted(pairs))


def _look_up(words: Words) -> str | None:
    """The TG-263 name of a name cut into words."""
    vocabulary = _vocabulary()
    whole = _find(words)
    if whole is not None and whole.single:
        return whole.name
    for rest, side, language in _without_side(words):
        entry = _find(rest)
        if entry is not None and entry.paired and (language is None or language in entry.languages):
            return f"{entry.name}_{side}"
    if len(words) == 1 and whole is None:  # "lparotid", "parotidl"
        word = words[0]
        for rest_word, letter in ((word[1:], word[:1]), (word[:-1], word[-1:])):
            entry = _find((rest_word,))
            if letter in ("l", "r") and entry is not None and entry.paired:
                return f"{entry.name}_{vocabulary.words[letter]}"
    return None


def _without_side(words: Words) -> Iterator[tuple[Words, Side, str | None]]:
    """Ways to read a name as (other words, side, language that the reading needs); none for names with both sides."""
    vocabulary = _vocabulary()
    found = {vocabulary.words[word] for word in words if word in vocabulary.words}
    if len(found) == 1:
        yield tuple(w for w in words if w not in vocabulary.words), found.pop(), None
    if found or len(words) < 2:
        return
    for language, sides in vocabulary.words_of_one_language.items():
        for place in (-1, 0):
            if words[place] in sides:
                rest = words[:-1] if place else words[1:]
                yield rest, sides[words[place]], language


def _find(words: Words) -> _Entry | None:
    entries = _vocabulary().entries
    return next((entries[key] for key in _keys(words) if key in entries), None)


def _keys(words: Words) -> tuple[str, str]:
    """A name's words in alphabetical order, and written together: either may be that of an alias."""
    return " ".join(sorted(words)), "".join(words)


def _words(name: str) -> Words:
    """Words of a name in small letters without accents."""
    plain = unicodedata.normalize("NFKD", name.replace("ß", "ss")).encode("ascii", "ignore").decode()
    return tuple(word.lower() for word in WORD.findall(plain))


def _without_prv(words: Words) -> tuple[Words, int | None]:
    """The words but for "PRV", its margin and "mm"; the margin in mm, None where it is missing or not one number."""
    numbers = [word for word in words if word.isdigit()]
    rest = tuple(word for word in words if word not in ("prv", "mm") and not word.isdigit())
    margin_mm = int(numbers[0]) if len(numbers) == 1 else None
    return rest, margin_mm if margin_mm is not None and margin_mm <= MAX_PRV_MARGIN_MM else None


@cache
def _by_folded_name() -> dict[str, str]:
    return {name.casefold(): name for name in tg263_table()}


@cache
def _vocabulary() -> _Vocabulary:
    data = read_table("aliases.yaml")
    words: dict[str, Side] = {}
    for side, name in (("L", "left"), ("R", "right")):
        words.update({_words(word)[0]: side for word in data["sides"][name]})  # type: ignore[misc]
    return _Vocabulary(_entries(data["names"]), words, data["sides"]["words_of_one_language"])


def _entries(aliases: Mapping[str, Mapping[str, Sequence[str]]]) -> dict[str, _Entry]:
    """Every alias, and every TG-263 name itself, by its keys.

    Raises:
        ConfigError: an alias stands for two structures, or for one that is not in the table.
    """
    table = tg263_table()
    paired = {name[:-2] for name, info in table.items() if info.mirror}
    entries: dict[str, _Entry] = {}
    for name in (*table, *sorted(paired)):
        entry = _Entry(name, name in table, name in paired, frozenset())
        for key in _keys(_words(name)):
            entries.setdefault(key, entry)
    for name, by_language in aliases.items():
        if name not in table and name not in paired:
            raise ConfigError("aliases.yaml names a structure that tg263.yaml lacks.", found=name)
        languages: dict[str, set[str]] = {}
        for language, texts in by_language.items():
            for text in texts:
                for spelling in (text, _umlauts_written_out(text)):
                    for key in _keys(_words(spelling)):
                        languages.setdefault(key, set()).add(language)
        for key, spoken in languages.items():
            known = entries.get(key)
            if known is not None and known.name != name:
                raise ConfigError("An alias stands for two structures.", where=key, found=(known.name, name))
            entries[key] = _Entry(name, name in table, name in paired, frozenset(spoken))
    return entries


def _umlauts_written_out(text: str) -> str:
    for umlaut, pair in (("ä", "ae"), ("ö", "oe"), ("ü", "ue"), ("Ä", "Ae"), ("Ö", "Oe"), ("Ü", "Ue")):
        text = text.replace(umlaut, pair)
    return text
