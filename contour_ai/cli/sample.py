"""`contour-ai sample`: makes the sample patients again, or any number of others to train on."""

from __future__ import annotations

from pathlib import Path

import click

from contour_ai.cli import console


@click.command("sample")
@click.argument("out_dir", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--region",
    type=click.Choice(["headneck", "pelvis", "both"]),
    help="Part of the body to draw (default: both).",
)
@click.option("--count", type=click.IntRange(min=1), help="Patients to draw of each region (default: 1).")
@click.option("--first-seed", type=click.IntRange(min=0), help="Seed of the first of them (default: 1).")
@click.option(
    "--missing",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Probability that a ROI is left out of a patient, as in clinical archives.",
)
@click.option("--overwrite", is_flag=True, help="Replace patients that exist already.")
def command(
    out_dir: Path,
    region: str | None,
    count: int | None,
    first_seed: int | None,
    missing: float,
    overwrite: bool,
) -> None:
    """Draw phantom patients into OUT_DIR as DICOM: a CT series and a structure set each.

    Without options, the patients of sample_data/, bit for bit. A seed always gives the same patient. To make a
    training archive:

        contour-ai sample training --region pelvis --count 24 --first-seed 100
    """
    from contour_ai.sample.patients import COMMITTED, write_phantoms

    patients = list(COMMITTED)
    if region is not None or count is not None or first_seed is not None:
        regions = ["headneck", "pelvis"] if region in (None, "both") else [str(region)]
        first = 1 if first_seed is None else first_seed
        patients = [(r, seed) for r in regions for seed in range(first, first + (count or 1))]
    with console.progress_bar() as on_progress:
        folders = write_phantoms(
            out_dir, patients, missing=missing, overwrite=overwrite, on_progress=on_progress
        )
    for folder in folders:
        console.out().print(folder)
