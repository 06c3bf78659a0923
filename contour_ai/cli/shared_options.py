"""Options that several commands share, the same in each: --structure-set, --acquisition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


acquisition_option = click.option(
    "--acquisition",
    type=int,
    metavar="N",
    help="The acquisition to take where several overlap in one CT series; the refusal lists them.",
)
"""Adds `--acquisition`, given to the command as `acquisition`."""


def structure_set_option(*, default: str | None = "only", merge: bool = False) -> Callable[[F], F]:
    """Adds `--structure-set`, given to the command as `structure_set`.

    Args:
        default: the rule where the option is not given; None for what a configuration says.
        merge: whether `merge` may be chosen.
    """

    def checked(ctx: click.Context, option: click.Parameter, value: str | None) -> str | None:
        from contour_ai.dicom.structure_set_choice import checked_rule

        return None if value is None else checked_rule(value, merge=merge)

    return click.option(
        "--structure-set",
        "structure_set",
        metavar="newest|approved|only|'LABEL*'" + ("|merge" if merge else ""),
        default=default,
        show_default=default is not None,
        callback=checked,
        help="Which structure set counts where a CT has several: the newest, the newest approved one, none (only), or "
        "the newest with a label like this"
        + ("; merge takes ROIs from all of them (default: newest)." if merge else ".")
        + " Unapproved contours of contour-ai never count.",
    )
