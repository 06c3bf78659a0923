"""``contour-ai derive``: margins, booleans, rings and more from a recipe, as a verified structure set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from contour_ai.cli.console import err, out

if TYPE_CHECKING:
    from contour_ai.pipeline._derive import Derivation


def _print_recipe(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        from contour_ai.derived.recipe import explained

        click.echo(explained(), nl=False)
        context.exit()


@click.command("derive")
@click.argument("patient_dir", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--recipe",
    required=True,
    help="A YAML file, or one of the recipes that come along: headneck, thorax, pelvis, breast.",
)
@click.option(
    "--out", "output", required=True, type=click.Path(path_type=Path), help="The RTSTRUCT file to write."
)
@click.option(
    "--rtstruct",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The structure set to derive from, where there are several or it lies elsewhere.",
)
@click.option(
    "--into",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Add the structures to a copy of this structure set, whose own contours stay byte for byte.",
)
@click.option(
    "--template",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Names, colours, types and order of the output: Eclipse structure template (.xml), .csv or .yaml.",
)
@click.option(
    "--profile",
    default="generic",
    show_default=True,
    help="What the importer accepts: generic, eclipse, research, tg263, or a .yaml file.",
)
@click.option("--label", default="derived", show_default=True, help="Label of a new structure set.")
@click.option("--series", "series_uid", help="SeriesInstanceUID of the CT, where there are several.")
@click.option("--acquisition", type=int, help="AcquisitionNumber of the CT, where the series has several.")
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
@click.option(
    "--print-recipe",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_recipe,
    help="Print an example of a recipe with every key explained, and exit.",
)
def command(
    patient_dir: Path,
    recipe: str,
    output: Path,
    rtstruct: Path | None,
    into: Path | None,
    template: Path | None,
    profile: str,
    label: str,
    series_uid: str | None,
    acquisition: int | None,
    overwrite: bool,
) -> None:
    """Derive structures from the ROIs of the structure set in PATIENT_DIR by a recipe.

    Margins, rings, unions, differences, crops, hulls and more, exact in mm on the CT's own slices. What a patient lacks
    is skipped with a note, or refused where the recipe requires it. The file is read back and compared voxel by voxel
    before it is kept.
    """
    from contour_ai.pipeline._derive import DeriveOptions, derive

    options = DeriveOptions(
        rtstruct=rtstruct,
        into=into,
        template=template,
        profile=profile,
        label=label,
        series_uid=series_uid,
        acquisition=acquisition,
        overwrite=overwrite,
    )
    _show(derive(patient_dir, recipe, output, options))


def _show(derivation: Derivation) -> None:
    for note in derivation.notes:
        err().print(f"note: {note}", style="yellow", markup=False)
    for roi in derivation.rois:
        name = derivation.names.get(roi.info.name, roi.info.name)
        out().print(f"{name}: {roi.region.volume_cm3:.2f} cm3 ({roi.description})", markup=False)
    empty = len(derivation.names) - len(derivation.rois)
    created = f", {empty} created empty" if empty else ""
    out().print(
        f"{len(derivation.rois)} ROIs{created} in {derivation.path}, read back without a wrong voxel",
        markup=False,
    )
