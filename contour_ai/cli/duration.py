"""Times as people write them on the command line: 90s, 20m, 8h."""

from __future__ import annotations

import re

import click

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.2 on only
    """A time such as 90s, 20m, 8h or 1h30m, in seconds."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        parts = re.fullmatch(r"(?:\d+(?:\.\d+)?[smhd])+", str(value).strip().lower())
        if parts is None:
            self.fail(f"{value!r} is no time; write 90s, 20m, 8h or 1h30m", param, ctx)
        return sum(
            float(number) * UNITS_S[unit] for number, unit in re.findall(r"([\d.]+)([smhd])", parts.string)
        )
