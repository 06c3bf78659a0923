"""The vocabulary of organs: every alias in every language, and what it stands for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from contour_ai.errors import ConfigError
from contour_ai.structures.roi_record import FORMER_NAMES, read_table, tg263_table
from contour_ai.structures.tg263 import standard_names
from contour_ai.structures.words import Words, canonical, word_list, words_of

IRREGULAR_PLURALS = {
    "Hippocampus": "Hippocampi",
    "Ovary": "Ovaries",
    "Testis": "Testes",
    "Lens": "Lenses",
    "Femur_Head": "Femur_Heads",
}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What an alias stands for."""

    names: tuple[str, ...]
    """Names of the table, without _L and _R for pairs; several where the alias is ambiguous."""
    languages: frozenset[str]


def find_entry(words: Words) -> Entry | None:
    entries = all_entries()
    for attempt in _attempts(words):
        for key in _keys(attempt):
            if key in entries:
                return entries[key]
    return None


def is_organ_word(word: str) -> bool:
    """Whether a word is part of an organ's name."""
    return word in _organ_words()


def plain_names(entry: Entry) -> tuple[str, ...]:
    """The names of an entry without a side: both sides where the organ itself has no name."""
    table = tg263_table()
    if len(entry.names) > 1:
        return tuple(n for name in entry.names for n in variants(name))
    name = entry.names[0]
    return (name,) if name in table else variants(name)


def variants(name: str) -> tuple[str, ...]:
    table = tg263_table()
    plural = plural_of(name)
    sided = (f"{name}_L", f"{name}_R") if is_paired(name) else ()
    return ((name,) if name in table else ()) + sided + ((plural,) if plural and sided else ())


def is_paired(name: str) -> bool:
    """Whether there is a left and a right one; VB_L is the lumbar spine."""
    table = tg263_table()
    return f"{name}_L" in table and f"{name}_R" in table


def sides_of(entry: Entry) -> tuple[str, ...]:
    return tuple(f"{n}_{s}" for n in entry.names if is_paired(n) for s in "LR")


def plural_of(name: str) -> str | None:
    plural = IRREGULAR_PLURALS.get(name, f"{name}s")
    return plural if plural in tg263_table() else None


def _attempts(words: Words) -> Iterator[Words]:
    """The words, then without those that say nothing, then without "gland", "muscle" and "bone"."""
    yield words
    dropped = tuple(word for word in words if word not in word_list("drop"))
    if dropped and dropped != words:
        yield dropped
    bare = tuple(w for w in canonical(dropped) if w not in ("gland", "muscle", "bone"))
    if bare and len(bare) < len(dropped):
        yield bare


def _keys(words: Words) -> tuple[str, ...]:
    """A name's words in alphabetical order, and written together: either may be that of an alias.

    Cochlea R is not looked for as "cochlear": what belongs to the cochlea has no side.
    """
    same = canonical(words)
    if len(words) > 1 and words[-1] in ("l", "r") and words[-2].endswith("a"):
        return " ".join(sorted(words)), " ".join(sorted(same))
    return " ".join(sorted(words)), " ".join(sorted(same)), "".join(words), "".join(same)


@cache
def _organ_words() -> frozenset[str]:
    return frozenset(word for key in all_entries() for word in key.split(" "))


@cache
def all_entries() -> Mapping[str, Entry]:
    """Every alias, and every name of the table itself, by its keys.

    Raises:
        ConfigError: an alias stands for two structures, or for one that is not in the table.
    """
    table = tg263_table()
    paired = {n[:-2] for n in table if n.endswith("_L") and f"{n[:-2]}_R" in table and _is_organ(n)}
    entries: dict[str, Entry] = {}
    for name in (*table, *sorted(paired)):
        if name in paired or _is_organ(name):
            for key in _keys(words_of(name)):
                entries.setdefault(key, Entry(names=(name,), languages=frozenset()))
    spoken: dict[str, dict[str, set[str]]] = {}
    for name, language, text in all_aliases():
        if name not in table and name not in paired:
            raise ConfigError("An alias stands for a structure that tg263.csv lacks.", found=name)
        for spelling in (text, _umlauts_written_out(text)):
            for key in _keys(words_of(spelling)):
                spoken.setdefault(key, {}).setdefault(name, set()).add(language)
    for key, by_name in spoken.items():
        known = entries.get(key)
        names = dict.fromkeys((*(known.names if known else ()), *by_name))
        if len(names) > 1:
            raise ConfigError("An alias stands for two structures.", where=key, found=tuple(names))
        languages = frozenset(language for of_name in by_name.values() for language in of_name)
        entries[key] = Entry(names=tuple(names), languages=languages)
    for names_text, texts in read_table("name_words.yaml")["ambiguous"].items():
        names_of = tuple(names_text.split(", "))
        for text in texts:
            for spelling in (text, _umlauts_written_out(text)):
                for key in _keys(words_of(spelling)):
                    entries[key] = Entry(names=names_of, languages=frozenset())
    return entries


def _is_organ(name: str) -> bool:
    row = standard_names()[name]
    return row.group in ("anatomic", "own") and row.interpreted_type in ("ORGAN", "EXTERNAL")


class Alias(NamedTuple):
    """Another word for a name of the table."""

    name: str
    language: str
    text: str


def all_aliases() -> Iterator[Alias]:
    """Every alias of every name."""
    main: Mapping[str, Any] = read_table("aliases.yaml")["names"]
    for name, by_language in main.items():
        for language, texts in by_language.items():
            for text in texts:
                yield Alias(name, language, text)
    for language, by_name in read_table("aliases_pl_pt.yaml").items():
        for name, texts in by_name.items():
            for text in texts:
                yield Alias(name, language, text)
    for former, name in FORMER_NAMES.items():
        if name not in ("PubicSymphys_L", "PubicSymphys_R"):
            yield Alias(name, "en", former)
    yield Alias("PubicSymphys", "en", "Bone_Pubic")


def _umlauts_written_out(text: str) -> str:
    for umlaut, pair in (("ä", "ae"), ("ö", "oe"), ("ü", "ue"), ("Ä", "Ae"), ("Ö", "Oe"), ("Ü", "Ue")):
        text = text.replace(umlaut, pair)
    return text
