"""`contour-ai models learning-curve`: how much more patients give, ROI by ROI."""

from __future__ import annotations

from pathlib import Path

import click

from contour_ai.cli.console import err, out
from contour_ai.cli.duration import Duration
from contour_ai.cli.training_progress import training_log


@click.command("learning-curve")
@click.argument("data_dir", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--out", "out_dir", required=True, type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--time-budget",
    type=Duration(),
    required=True,
    help="For all trainings together (20m, 8h): a third for each.",
)
@click.option("--config", "config_path", type=click.Path(path_type=Path), help="Configuration (YAML).")
@click.option(
    "--roi-map", type=click.Path(path_type=Path, dir_okay=False), help="Which names stand for which ROI."
)
@click.option(
    "--cache", "cache_dir", type=click.Path(path_type=Path), help="Prepared patients; default: in --out."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
def learning_curve_command(
    data_dir: Path,
    out_dir: Path,
    time_budget: float,
    config_path: Path | None,
    roi_map: Path | None,
    cache_dir: Path | None,
    device: str,
) -> None:
    """Train on a quarter, half and all patients of DATA_DIR, and draw Dice against patients.

    The validation patients are the same in all three trainings, and each has a third of the time. OUT gets
    learning-curve.html and .csv, and the three run folders. Run the same command again to resume: finished trainings
    are kept, an interrupted one is resumed.
    """
    from contour_ai.pipeline._train import TrainOptions
    from contour_ai.pipeline.curve_of_patients import PAGE, advice_of, learning_curve
    from contour_ai.structures.roi_map import RoiMap
    from contour_ai.training.config import load_config

    options = TrainOptions(
        roi_map=None if roi_map is None else RoiMap.load(roi_map), device=device, cache_dir=cache_dir
    )
    with training_log() as on_progress:
        curve = learning_curve(
            data_dir,
            out_dir,
            load_config(config_path),
            options,
            time_budget,
            on_progress,
            on_part=lambda described: err().print(described),
        )
    for sentence in advice_of(curve):
        out().print(sentence)
    out().print(f"open {curve.folder / PAGE} in a browser")
