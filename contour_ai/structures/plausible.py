"""Volumes outside of which a contour is certainly something else than the organ it is named after."""

from __future__ import annotations

from functools import cache

from contour_ai.errors import ConfigError
from contour_ai.structures.roi_record import read_table, tg263_table

Bounds = tuple[float, float]


def plausible_volume_cm3(roi: str) -> Bounds | None:
    """(least, most) volume in cm3 of a whole organ by its TG-263 name; None where nothing is known of it."""
    return _table().get(roi)


@cache
def _table() -> dict[str, Bounds]:
    """{TG-263 name: bounds}, sides written out.

    Raises:
        ConfigError: the table shipped with the package is damaged.
    """
    known = tg263_table()
    table: dict[str, Bounds] = {}
    for name, (least, most) in read_table("plausible_volumes.yaml").items():
        names = [n for n in (name, f"{name}_L", f"{name}_R") if n in known]
        if not names or not 0 < least < most:
            raise ConfigError(
                "plausible_volumes.yaml has a wrong entry.", where=name, found=f"{least} to {most} cm3"
            )
        table.update({n: (float(least), float(most)) for n in names})
    return table
