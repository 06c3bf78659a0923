"""Which organs are one connected piece, so that of several parts of a contour only one can be theirs."""

from __future__ import annotations

from functools import cache

from contour_ai.errors import ConfigError
from contour_ai.structures.names import tg263_name
from contour_ai.structures.roi_record import read_table, tg263_table


def is_one_piece(roi: str) -> bool:
    """Whether a ROI is an organ of one piece by its name: TG-263 or any name that means one of TG-263."""
    return roi in _table() or tg263_name(roi) in _table()


@cache
def _table() -> frozenset[str]:
    """TG-263 names, sides written out; of organs with two sides the name without one is both, and not here.

    Raises:
        ConfigError: the table shipped with the package is damaged.
    """
    known = tg263_table()
    found: set[str] = set()
    for name in read_table("one_piece.yaml"):
        sides = [n for n in (f"{name}_L", f"{name}_R") if n in known]
        names = sides or [n for n in (name,) if n in known]
        if not names:
            raise ConfigError("one_piece.yaml has a wrong entry.", where=name, expected="a name of TG-263")
        found.update(names)
    return frozenset(found)
