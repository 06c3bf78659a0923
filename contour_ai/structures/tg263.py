"""The names of AAPM TG-263, and names in the same style for structures that its list lacks: ``tg263.csv``."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal, get_args

from contour_ai.errors import ConfigError

Group = Literal["anatomic", "prv", "derived", "target", "other", "own"]
"""What a name is for, after the list's column "target type"; ``own`` are names that the list does not have."""

COLUMNS = (
    "name",
    "group",
    "region",
    "type",
    "color",
    "category",
    "subcategory",
    "fma",
    "reverse",
    "misprint",
)

WITHOUT_PARTNER = ("Atrium", "Ventricle")
"""Left and right of these are different organs; they do not become each other in a mirror."""

SEPARATORS = re.compile(r"[ _]+")

GENERIC = re.compile(r"(?:(?<=V)|(?<=_)|^)x+(?=mm|_|$)")
"""Places of a generic row that stand for digits: Brainstem_PRVxx, Bolus_xxmm, E-PTV_xxxx."""

TARGET_NAME = re.compile(
    r"(?:E-)?(?:I?GTV|I?CTV|ITV|I?PTV)!?(?:n|p|sb|par|v|vas|bed)?\d*(?:_(?:CT|MR|PT|SP)\d*)*"
    r"(?:_(?:High|Mid(?:\d\d)?|Low|\d{2,5}|\d{2,4}(?:\.\d+)?x\d+|[LR]))*(?:-\d{2})?(?:[\^_][A-Za-z0-9]+)?"
)
"""Target names as the report builds them: PTV, CTVn_5400, GTVp1_CT1PT1, PTV_High, PTV!_6000-05, ITVp^A."""


@dataclass(frozen=True, kw_only=True)
class StandardName:
    """A row of the list.

    Args:
        name: the primary name; ``x`` stands for digits in generic rows.
        group: what it is for.
        region: part of the body.
        interpreted_type: RT ROI Interpreted Type (3006,00A4).
        color: "#rrggbb".
        category, subcategory: of the list; empty for names of our own.
        fma: number in the Foundational Model of Anatomy; None where the list has none, or one that belongs to another
            structure.
        reverse: the reverse order name; empty for names of our own.
        misprint: how the list of 2017-08-15 spells the name where it is misspelt there; empty elsewhere.
    """

    name: str
    group: Group
    region: str
    interpreted_type: str
    color: str
    category: str = ""
    subcategory: str = ""
    fma: int | None = None
    reverse: str = ""
    misprint: str = ""

    @property
    def is_generic(self) -> bool:
        """Whether the name has places for digits."""
        return self.group != "own" and _generic_pattern(self.name) is not None

    @property
    def is_listed(self) -> bool:
        """Whether the name is one of the report's 717."""
        return self.group != "own"


@cache
def standard_names() -> Mapping[str, StandardName]:
    """{name: row}: the 717 names of TG-263 with its misspellings corrected, then names of our own.

    Raises:
        ConfigError: the table shipped with the package is damaged.
    """
    text = resources.files("contour_ai.structures").joinpath("tg263.csv").read_text(encoding="utf-8")
    rows = csv.reader(text.splitlines())
    if tuple(next(rows)) != COLUMNS:
        raise ConfigError("tg263.csv has other columns.", expected=", ".join(COLUMNS))
    table: dict[str, StandardName] = {}
    for row in rows:
        entry = _entry(row)
        if entry.name in table:
            raise ConfigError("A name is twice in tg263.csv.", found=entry.name)
        table[entry.name] = entry
    return table


def _entry(row: list[str]) -> StandardName:
    if len(row) != len(COLUMNS) or row[1] not in get_args(Group):
        raise ConfigError("A row of tg263.csv has the wrong form.", found=",".join(row))
    name, group, region, kind, color, category, subcategory, fma, reverse, misprint = row
    return StandardName(
        name=name,
        group=group,  # type: ignore[arg-type]
        region=region,
        interpreted_type=kind,
        color=color,
        category=category,
        subcategory=subcategory,
        fma=int(fma) if fma else None,
        reverse=reverse,
        misprint=misprint,
    )


def standard_name(name: str) -> str | None:
    """The TG-263 name that `name` is, whatever its case and separators; None where it is none.

    Reverse order names give the primary one, misprints of the list the correct spelling, generic rows their expansion
    (``brainstem prv05`` is ``Brainstem_PRV05``). A name of our own table is found as well.
    """
    folded = _folded(name)
    found = _by_folded_name().get(folded)
    if found is not None:
        return found
    for pattern, generic in _generic_rows():
        match = pattern.fullmatch(folded)
        if match:
            return _expanded(generic, match.group("digits"))
    return None


def row_of(name: str) -> StandardName | None:
    """The row of a standard name; of an expansion, its generic row."""
    table = standard_names()
    if name in table:
        return table[name]
    folded = _folded(name)
    return next((table[g] for pattern, g in _generic_rows() if pattern.fullmatch(folded)), None)


def is_listed_name(name: str) -> bool:
    """Whether `name` is spelt as TG-263 has it: a name of the list, an expansion, or a target name by its rules."""
    table = standard_names()
    row = table.get(name) or table.get(standard_name(name) or "")
    if row is not None and row.is_listed and not row.is_generic:
        return name in (row.name, row.reverse)
    generic = row_of(name)
    if generic is not None and generic.is_generic:
        return standard_name(name) == name
    return TARGET_NAME.fullmatch(name) is not None


def misprints() -> Mapping[str, str]:
    """{name as misspelt in the list: correct spelling}."""
    return {row.misprint: row.name for row in standard_names().values() if row.misprint}


def partner_of(name: str) -> str | None:
    """The standard name that `name` becomes in a mirror; None where it is its own."""
    match = re.search(r"_([LR])(?=$|-|I$)", name)
    if match is None or name[: match.start()] in WITHOUT_PARTNER:
        return None
    other = name[: match.start(1)] + ("R" if match.group(1) == "L" else "L") + name[match.end(1) :]
    return other if other in standard_names() else None


def prv_name(organ: str, margin_mm: int | None) -> str:
    """The name of an organ with a margin: PRV and millimetres before the side, as in OpticNrv_PRV03_L."""
    side = organ[-2:] if partner_of(organ) and organ[-2:] in ("_L", "_R") else ""
    stem = organ.removesuffix(side)
    if margin_mm is None:
        return f"{stem}_PRV{side}"
    one_digit = f"{stem}_PRVx{side}" in standard_names() and margin_mm < 10
    return f"{stem}_PRV{margin_mm:{'d' if one_digit else '02d'}}{side}"


def _expanded(generic: str, digits: str) -> str:
    places = _generic_places(generic)
    assert places is not None
    width = places.end() - places.start()
    return generic[: places.start()] + str(int(digits)).zfill(width) + generic[places.end() :]


def _generic_places(name: str) -> re.Match[str] | None:
    """Where a generic row has its ``x``: a run of them at the end of a word, or before "mm"."""
    return GENERIC.search(name)


def _generic_pattern(name: str) -> re.Pattern[str] | None:
    places = _generic_places(name)
    if places is None:
        return None
    before, after = _folded(name[: places.start()]), name[places.end() :].casefold()
    digits = r"\d{2,5}" if places.end() - places.start() == 4 else r"\d{1,2}"
    return re.compile(rf"{re.escape(before)}(?P<digits>{digits}){re.escape(after)}")


@cache
def _generic_rows() -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple(_patterns_of_generic_rows())


def _patterns_of_generic_rows() -> Iterator[tuple[re.Pattern[str], str]]:
    for row in standard_names().values():
        if row.is_generic:
            for name in dict.fromkeys((row.name, row.reverse, row.misprint)):
                pattern = _generic_pattern(name) if name else None
                if pattern is not None:
                    yield pattern, row.name


@cache
def _by_folded_name() -> Mapping[str, str]:
    """{folded spelling: standard name}; primary names win over the reverse order names of others."""
    found: dict[str, str] = {}
    rows = [row for row in standard_names().values() if not row.is_generic]
    for row in rows:
        found[_folded(row.name)] = row.name
    for row in rows:
        for other in (row.reverse, row.misprint):
            if other:
                found.setdefault(_folded(other), row.name)
    return found


def _folded(name: str) -> str:
    return SEPARATORS.sub("_", name.strip()).casefold()
