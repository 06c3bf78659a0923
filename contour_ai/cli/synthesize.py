"""`contour-ai synthesize`: draws patients from label maps, to train on where there are no contoured patients."""

from __future__ import annotations

from pathlib import Path

import click

from contour_ai.cli import console


@click.command("synthesize", short_help="Draw synthetic patients from label maps, to train on.")
@click.argument("label_maps", required=False, type=click.Path(path_type=Path, exists=True))
@click.argument("out_dir", required=False, type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--recipe", "recipe_path", type=click.Path(path_type=Path), help="Recipe (YAML); default: as printed."
)
@click.option("--count", type=click.IntRange(min=1), default=1, show_default=True, help="Patients to draw.")
@click.option(
    "--first-seed", type=click.IntRange(min=0), default=1, show_default=True, help="Seed of the first."
)
@click.option("--print-recipe", is_flag=True, help="Print the recipe with every key explained, and end.")
def command(
    label_maps: Path | None,
    out_dir: Path | None,
    recipe_path: Path | None,
    count: int,
    first_seed: int,
    print_recipe: bool,
) -> None:
    """Draw synthetic patients (pelvis and trunk) into OUT_DIR as DICOM: a CT series and a structure set each.

    LABEL_MAPS is a file or folder of label maps: .npz files with `lab` (k, i, j; towards head, back and left), `names`
    and `spacing_mm_kij`, or subjects of the TotalSegmentator data set (segmentations/*.nii.gz).

    Every patient is one of the maps, deformed, its organs filled and grown at random, with fat, muscle and skin around,
    given HU, texture, contrast, implants and a scanner. A seed always gives the same patient; patients that are there
    already are kept. To train on them:

        contour-ai synthesize maps drawn --count 100

        contour-ai train drawn --roi-map drawn/roi-map.yaml --out run
    """
    from contour_ai.sample.synthesis import recipe as recipes

    recipe = recipes.load_recipe(recipe_path)
    if print_recipe:
        console.out().print(recipes.print_recipe(recipe), end="")
        return
    if label_maps is None or out_dir is None:
        raise click.UsageError("LABEL_MAPS and OUT_DIR are needed.")
    from contour_ai.sample.synthesis.label_maps import read_label_maps
    from contour_ai.sample.synthesis.write import write_synthetic_patients

    with console.progress_bar() as on_progress:
        written = write_synthetic_patients(
            read_label_maps(label_maps),
            out_dir,
            recipe,
            count=count,
            first_seed=first_seed,
            on_progress=on_progress,
        )
    for name, reason in written.left_out.items():
        console.print_warning(f"label map {name} is left out: {reason.what} {reason.found or ''}".rstrip())
    for folder in written.folders:
        console.out().print(folder)
    if written.there_already:
        console.err().print(f"{written.there_already} patients were there already and were kept")
    console.err().print(f"to train on them: contour-ai train {out_dir} --roi-map {written.roi_map} --out RUN")
