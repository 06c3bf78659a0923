"""What several commands share, the same in each: PATIENT_DIR, --out, --structure-set, --acquisition."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

F = TypeVar("F", bound=Callable[..., object])


patients_argument = click.argument(
    "patient_dirs", metavar="PATIENT_DIR...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
"""Takes one or more folders of patients, given to the command as `patient_dirs`."""


def out_folder_option(what: str) -> Callable[[F], F]:
    """Adds `--out`, a folder that must be given, as `out_dir`; `what` is its help."""
    return click.option(
        "--out",
        "out_dir",
        required=True,
        type=click.Path(path_type=Path, file_okay=False),
        help=what,
    )


acquisition_option = click.option(
    "--acquisition",
    type=int,
    metavar="N",
    help="The acquisition to take where several overlap in one CT series; the refusal lists them.",
)
"""Adds `--acquisition`, given to the command as `acquisition`."""


def structure_set_option(
    *, default: str | None = "only", merge: bool = False, without: str = ""
) -> Callable[[F], F]:
    """Adds `--structure-set`, given to the command as `structure_set`.

    Args:
        default: the rule where the option is not given; None for what a configuration says.
        merge: whether `merge` may be chosen.
        without: what happens where the option is not given, for the help.
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
        + " Unapproved contours of contour-ai never count."
        + (f" {without}" if without else ""),
    )
