"""Names that other programs give their masks; data in ``other_programs.yaml``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from contour_ai.structures.roi_record import read_table
from contour_ai.structures.tg263 import standard_names

NUMBERS = range(1, 13)
"""Ribs and vertebrae."""


def name_of_other_program(name: str) -> str | None:
    """The standard name of a mask of TotalSegmentator, spelt exactly as that program does; None for other names."""
    return program_names().get(name)


@cache
def program_names() -> Mapping[str, str]:
    """{name of the program: standard name}, sides and numbers written out."""
    names: dict[str, str] = {}
    for table in read_table("other_programs.yaml").values():
        for theirs, ours in table.items():
            for side, letter in (("left", "L"), ("right", "R")):
                for n in NUMBERS:
                    names[_filled(theirs, side, n)] = _filled(ours, letter, n)
    return {theirs: ours for theirs, ours in names.items() if ours in standard_names()}


def _filled(text: str, side: str, number: int) -> str:
    places = {"{side}": side, "{n}": str(number), "{nn}": f"{number:02d}"}
    return re.sub(r"\{\w+\}", lambda match: places[match.group()], text)
