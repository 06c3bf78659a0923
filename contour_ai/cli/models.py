"""`contour-ai models`: what models are installed, and what one of them is."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from contour_ai.cli import console
from contour_ai.cli.console import out
from contour_ai.cli.duration import Duration
from contour_ai.cli.learning_curve import learning_curve_command
from contour_ai.cli.training_progress import training_log

if TYPE_CHECKING:
    from contour_ai.bundle import ModelBundle
    from contour_ai.pipeline.calibration import CalibrationOptions

KIND_NOTES = {
    "phantom": " (phantoms only, never patients)",
}


@click.group("models", invoke_without_command=True, short_help="List, show, tune and document models.")
@click.pass_context
def command(ctx: click.Context) -> None:
    """List, show, tune and document models. Without a subcommand, list those that are installed.

    Models are looked for in the folders of $CONTOUR_AI_MODELS and in those that came with contour-ai.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_models)


@command.command("list")
def list_models() -> None:
    """List the installed models."""
    from rich.box import SIMPLE
    from rich.table import Table

    from contour_ai.bundle import list_bundles
    from contour_ai.bundle.poor_models import weaknesses

    table = Table(
        "name",
        "version",
        "kind",
        "default",
        "ROIs",
        "spacing mm (k, i, j)",
        "commissioned",
        "look at",
        box=SIMPLE,
    )
    bundles = list_bundles()
    for bundle in bundles:
        spacing = " x ".join(f"{s:g}" for s in bundle.preprocess.spacing_mm_kij)
        table.add_row(
            bundle.name,
            bundle.version,
            bundle.kind,
            "yes" if bundle.default else "",
            str(len(bundle.rois)),
            spacing,
            _commissioned(bundle),
            "; ".join(weaknesses(bundle)),
        )
    if bundles:
        out().print(table)
    else:
        out().print("no models installed; train one with `contour-ai train`")


@command.command("show")
@click.argument("name")
def show(name: str) -> None:
    """Show the model NAME: a name from the list, or the folder of a bundle. Checks its weights, too."""
    from dataclasses import replace

    from contour_ai.bundle import CARD_FILE, load_bundle, results_mapping, without_defaults
    from contour_ai.bundle.poor_models import weaknesses
    from contour_ai.bundle.seen_series import series_in_words
    from contour_ai.settings import to_yaml

    bundle = load_bundle(name)
    facts = {
        "folder": str(bundle.folder),
        "version": bundle.version,
        "kind": bundle.kind
        + KIND_NOTES.get(bundle.kind, " (never saw a patient)" if bundle.data.saw_no_patient else ""),
        **({"only drawn": ", ".join(drawings)} if (drawings := bundle.data.rois_of_drawings) else {}),
        "default": "yes" if bundle.default else "no",
        "ROIs": ", ".join(bundle.roi_names),
        "spacing": " x ".join(f"{s:g}" for s in bundle.preprocess.spacing_mm_kij) + " mm (k, i, j)",
        "windows": ", ".join(f"{low:g} to {high:g} HU" for low, high in bundle.preprocess.windows_hu),
        "network": f"{bundle.network.name}, {bundle.network.levels} levels, "
        f"{bundle.network.base_filters} filters, {bundle.network.norm} norm",
        "weights": f"{bundle.weights_path.stat().st_size / 1e6:.1f} MB, SHA-256 {bundle.weights_sha256}",
    }
    facts["trained on"] = series_in_words(bundle.data.seen_series)
    facts["commissioned"] = _commissioned(bundle)
    if bundle.second_reader is not None:
        second = bundle.second_reader
        facts["second reader"] = (
            f"{second.network.base_filters} filters, {second.steps} steps, mean Dice {second.mean_dice:.3f}"
        )
    if poor := weaknesses(bundle):
        facts["look at"] = "; ".join(poor)
    if bundle.ranges is not None:
        measured = bundle.ranges
        facts["flags"] = (
            f"compared with {measured.patients} training patients, confidence with {measured.held_back} held back"
        )
    out().print(console.styled((bundle.name, "bold"), f" {bundle.description}"))
    for key, value in facts.items():
        out().print(f"  {key:14}{value}")
    for title, values in (
        ("data", without_defaults(replace(bundle.data, seen_series=()))),
        ("training", without_defaults(bundle.training)),
        ("results", results_mapping(bundle.results)),
        ("provenance", without_defaults(bundle.provenance)),
    ):
        if values:
            out().print(console.styled((title, "bold"), f"\n{_indented(to_yaml(values))}"))
    if (bundle.folder / CARD_FILE).is_file():
        out().print(f"card: {bundle.folder / CARD_FILE}")


def _commissioned(bundle: ModelBundle) -> str:
    """Whether a model is commissioned on this machine, as it is now."""
    from contour_ai.bundle.commissioned_record import readable_record_of

    record = readable_record_of(bundle)
    return "no" if record is None else str(record)


def _of_archive(function: Callable[[str, Path, CalibrationOptions], None]) -> Callable[..., None]:
    """The arguments of commands that look at a model's patients; what a run folder holds counts where nothing else is
    given."""

    @click.argument("name")
    @click.argument("data_dir", type=click.Path(path_type=Path, file_okay=False, exists=True))
    @click.option(
        "--run",
        "run_dir",
        type=click.Path(path_type=Path, file_okay=False, exists=True),
        help="The training's run folder: its splits, ROI map and prepared patients are taken.",
    )
    @click.option(
        "--roi-map", type=click.Path(path_type=Path, dir_okay=False), help="Which names stand for which ROI."
    )
    @click.option(
        "--cache",
        "cache_dir",
        type=click.Path(path_type=Path, file_okay=False),
        help="Where prepared patients are kept.",
    )
    @click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
    @functools.wraps(function)
    def wrapped(
        name: str,
        data_dir: Path,
        run_dir: Path | None,
        roi_map: Path | None,
        cache_dir: Path | None,
        device: str,
    ) -> None:
        from contour_ai.pipeline.calibration import CalibrationOptions
        from contour_ai.pipeline.splits_file import SPLITS_FILE
        from contour_ai.structures.roi_map import RoiMap
        from contour_ai.training.config import load_config

        def of_run(path: str) -> Path | None:
            return run_dir / path if run_dir is not None and (run_dir / path).exists() else None

        mapped = roi_map or of_run("roi-map.yaml")
        options = CalibrationOptions(
            roi_map=None if mapped is None else RoiMap.load(mapped),
            splits=of_run(SPLITS_FILE),
            cache_dir=cache_dir or of_run("cache"),
            device=device,
            structure_set=load_config(of_run("config.yaml")).data.structure_set,
        )
        function(name, data_dir, options)

    return wrapped


@command.command("ranges")
@_of_archive
def ranges(name: str, data_dir: Path, options: CalibrationOptions) -> None:
    """Measure reference ranges on DATA_DIR and write them into the model NAME, for the findings of its predictions.

    Training does this by itself; this is for models made before, or for a department's own patients. With --run, ranges
    come from the patients the model was trained on and confidence from those held back; without it, both from all
    patients of DATA_DIR, none of whom the model should have been trained on. The weights stay as they are.
    """
    from contour_ai.bundle import load_bundle
    from contour_ai.pipeline.calibration import calibrate

    bundle = load_bundle(name)
    with console.progress_bar() as on_progress:
        bundle = calibrate(bundle, data_dir, options, on_progress)
    assert bundle.ranges is not None
    measured = bundle.ranges
    out().print(
        f"{bundle.folder}: ranges of {measured.patients} patients, confidence of {measured.held_back}"
    )


@command.command("second-reader")
@click.argument("name")
@click.argument("data_dir", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option(
    "--run",
    "run_dir",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    required=True,
    help="The training's run folder: its configuration, splits, ROI map and prepared patients are taken.",
)
@click.option(
    "--cache", "cache_dir", type=click.Path(path_type=Path, file_okay=False), help="Prepared patients."
)
@click.option(
    "--time-budget", type=Duration(), help="End in this time (20m) instead of after second_reader.steps."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
def second_reader(
    name: str, data_dir: Path, run_dir: Path, cache_dir: Path | None, time_budget: float | None, device: str
) -> None:
    """Train a second reader for the model NAME on the patients of DATA_DIR that it was trained on.

    Training makes one by itself; this is for models made before. It is a small network with weights of its own, which
    contours nothing: verdicts of predict and review ask whether it agrees. After Ctrl-C the same command resumes it.
    The weights of the model stay as they are; run `contour-ai models ranges` next, which fits verdicts with it.
    """
    from contour_ai.bundle import load_bundle
    from contour_ai.pipeline.calibration import CalibrationOptions
    from contour_ai.pipeline.second_reader_training import SecondReaderOptions, with_second_reader
    from contour_ai.pipeline.splits_file import SPLITS_FILE
    from contour_ai.structures.roi_map import RoiMap
    from contour_ai.training.config import load_config

    def of_run(path: str) -> Path | None:
        return run_dir / path if (run_dir / path).exists() else None

    roi_map, config = of_run("roi-map.yaml"), load_config(of_run("config.yaml"))
    options = SecondReaderOptions(
        archive=CalibrationOptions(
            roi_map=None if roi_map is None else RoiMap.load(roi_map),
            splits=of_run(SPLITS_FILE),
            cache_dir=cache_dir or of_run("cache"),
            device=device,
            structure_set=config.data.structure_set,
        ),
        config=config,
        time_budget_s=time_budget,
    )
    with training_log() as on_progress:
        bundle = with_second_reader(load_bundle(name), data_dir, run_dir, options, on_progress)
    second = bundle.second_reader
    assert second is not None
    for roi, dice in second.dice.items():
        out().print(f"{roi}: Dice {dice:.3f}")
    out().print(f"{bundle.folder}: second reader, {second.steps} steps, mean Dice {second.mean_dice:.3f}")


@command.command("tune")
@_of_archive
def tune(name: str, data_dir: Path, options: CalibrationOptions) -> None:
    """Choose what the model NAME does after its network, on patients of DATA_DIR that it was not trained on.

    For each ROI: whether its contour runs where the patient's expected Dice is highest, and whether only its largest
    part stays, where that gains Dice; and a temperature that calibrates its probabilities. Training does this by
    itself; this is for models made before, or for a department's own patients. It also notes what the mirror image
    (--tta of predict) and fp32 change. With --run, only the patients held back from the training are looked at. The
    weights stay as they are. Run `contour-ai models ranges` next: the reference range of the confidence depends on the
    temperatures.
    """
    from contour_ai.bundle import load_bundle
    from contour_ai.pipeline.tuning import tune as tune_bundle

    with console.progress_bar() as on_progress:
        bundle = tune_bundle(load_bundle(name), data_dir, options, on_progress)
    for roi in bundle.roi_names:
        if roi not in bundle.calibration:
            out().print(f"{roi}: too few patients, or never found: the usual rules")
            continue
        rule, found = bundle.postprocess_of(roi), bundle.calibration[roi]
        parts = ", where the patient's expected Dice is highest below it" if rule.expected_dice else ""
        parts += ", the largest part only" if rule.largest_component else ""
        out().print(
            f"{roi}: threshold {rule.threshold:.2f}{parts}; temperature {found.temperature:.2f}, calibration error "
            f"{found.error_before:.3f} without and {found.error:.3f} with it, {found.patients} patients"
        )


@command.command("cross-validation")
@click.argument("name")
@click.argument(
    "run_dirs",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="RUN_DIR...",
)
def cross_validation(name: str, run_dirs: tuple[Path, ...]) -> None:
    """Write what a cross-validation found into the model NAME and its card.

    RUN_DIRs are the run folders of `contour-ai train --fold 1/n` to `--fold n/n`, all with one recipe, on the archive
    that NAME was trained on. Every ROI gets its mean Dice over all patients, each of whom was held out once, and the
    patients that did worst, by name. The weights stay as they are.
    """
    from rich.box import SIMPLE
    from rich.table import Table

    from contour_ai.bundle import load_bundle
    from contour_ai.pipeline.cross_validation import cross_validated

    bundle = cross_validated(load_bundle(name), run_dirs)
    found = bundle.results.cross_validation
    assert found is not None
    table = Table("ROI", "patients", "mean Dice", "worst", box=SIMPLE)
    for roi, figures in found.dice.items():
        table.add_row(roi, str(figures.patients), f"{figures.mean:.3f}", ", ".join(figures.worst))
    table.add_row("mean", str(found.patients), f"{found.mean_dice:.3f}", "")
    out().print(table)
    out().print(str(bundle.folder))


@command.command("card")
@click.argument("name")
def card(name: str) -> None:
    """Write MODEL_CARD.md of the model NAME anew from its model.yaml, chapters under `notes` included."""
    from contour_ai.bundle import CARD_FILE, load_bundle, update_bundle
    from contour_ai.pipeline.card import model_card

    bundle = load_bundle(name)
    update_bundle(bundle, model_card=model_card(bundle))
    out().print(str(bundle.folder / CARD_FILE))


command.add_command(learning_curve_command)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.rstrip().splitlines())
