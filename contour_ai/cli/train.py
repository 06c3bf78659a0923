"""`contour-ai train`: an archive of DICOM patients in, a model out."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from contour_ai.cli.console import err, out, print_warning, progress_bar
from contour_ai.cli.duration import Duration
from contour_ai.cli.main import INTERRUPTED
from contour_ai.cli.shared_options import acquisition_option, structure_set_option
from contour_ai.cli.training_progress import training_log
from contour_ai.cli.what_next import launch_command, print_what_next, shell_command
from contour_ai.errors import ConfigError

if TYPE_CHECKING:
    from contour_ai.training.config import TrainConfig
    from contour_ai.training.limiting import RoiLimit


class Fold(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.2 on only
    """A part of a cross-validation such as 2/5."""

    name = "k/n"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        parts = re.fullmatch(r"(\d+)/(\d+)", str(value).strip())
        if parts is None or not 1 <= int(parts[1]) <= int(parts[2]) or int(parts[2]) < 2:
            self.fail(f"{value!r} is no part of a cross-validation; write 1/5 to 5/5", param, ctx)
        return int(parts[1]), int(parts[2])


@click.command("train", short_help="Train a model on a folder of patients.")
@click.argument("data_dir", required=False, type=click.Path(path_type=Path))
@click.option(
    "--out", "run_dir", type=click.Path(path_type=Path), help="Folder of the run; holds bundle/ in the end."
)
@click.option("--config", "config_path", type=click.Path(path_type=Path), help="Configuration (YAML).")
@click.option(
    "--roi-map", "map_path", type=click.Path(path_type=Path), help="Which names stand for which ROI (YAML)."
)
@click.option("--rois", help="ROIs to learn, separated by commas; overrides the configuration (data.rois).")
@structure_set_option(default=None, merge=True)
@acquisition_option
@click.option(
    "--exclude",
    "exclude_path",
    type=click.Path(path_type=Path),
    help="Patients to leave out (a test set, say): a patient ID or folder and the reason on each line, or YAML.",
)
@click.option("--network", help="resunet3d (4 levels) or deeper_resunet3d (5); overrides the configuration.")
@click.option(
    "--fold", type=Fold(), help="Cross-validation: 2/5 holds out the second of five parts of the patients."
)
@click.option(
    "--synthetic",
    "recipe_path",
    type=click.Path(path_type=Path),
    help="Train on synthetic patients, too, drawn by this recipe (YAML; see synthesize) from --label-maps or, without, "
    "as relatives of the training patients.",
)
@click.option(
    "--label-maps", type=click.Path(path_type=Path), help="File or folder of label maps to draw them from."
)
@click.option(
    "--share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Share of the samples that are synthetic (default: 0.5).",
)
@click.option(
    "--init",
    "init",
    help="Start from this model (a name, or the folder of a bundle), with its network and preprocessing; "
    "preprocess.spacing_mm_kij of the configuration, where given, stays.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Resume the training in the folder of the run, within what is left of its time budget.",
)
@click.option(
    "--time-budget", type=Duration(), help="End in this time (20m, 8h), with the schedule finished."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--cache", "cache_dir", type=click.Path(path_type=Path), help="Prepared patients; default: in the run."
)
@click.option("--strict", is_flag=True, help="Stop where the check of the archive finds a fault.")
@click.option("--check", "check_only", is_flag=True, help="Only check the archive, and end.")
@click.option(
    "--report", is_flag=True, help="With --check: write a page to look through suspicious contours."
)
@click.option(
    "--print-config", is_flag=True, help="Print the configuration with every key explained, and end."
)
def command(
    data_dir: Path | None,
    run_dir: Path | None,
    config_path: Path | None,
    map_path: Path | None,
    rois: str | None,
    structure_set: str | None,
    acquisition: int | None,
    exclude_path: Path | None,
    network: str | None,
    fold: tuple[int, int] | None,
    recipe_path: Path | None,
    label_maps: Path | None,
    share: float | None,
    init: str | None,
    resume: bool,
    time_budget: float | None,
    device: str,
    cache_dir: Path | None,
    strict: bool,
    check_only: bool,
    report: bool,
    print_config: bool,
) -> None:
    """Train a model on the patients in DATA_DIR: CT series and structure sets, paired by UID.

    Patients may lack any of the ROIs. The archive is checked first: ROIs that look wrong (volume, side, gaps, outside
    the body) are left out, and listed with reasons. What was planned from the data is printed before the first step;
    every value can be fixed in the configuration (--print-config shows them all). The run folder holds config.yaml,
    splits.json, archive-check.csv, metrics.csv, validation.csv (every patient), worst/, tensorboard/, checkpoints/,
    pseudo-labels/ with data.pseudo_label_from, and in the end bundle/, which `contour-ai predict --model` takes.

    Several GPUs or machines: `torchrun --nproc-per-node=4 -m contour_ai train ...`, or Slurm's `srun`; every process
    has its own samples in each step.
    """
    from dataclasses import replace

    from contour_ai.settings import from_mapping, to_mapping
    from contour_ai.training import config as configuration

    settings = configuration.load_config(config_path)
    if network is not None:
        changed = {**to_mapping(settings.network), "name": network}
        chosen = from_mapping(configuration.NetworkChoice, changed, where="--network", path="network")
        settings = replace(settings, network=chosen)
    if rois is not None:
        names = tuple(dict.fromkeys(name.strip() for name in rois.split(",") if name.strip()))
        settings = replace(settings, data=replace(settings.data, rois=names))
    if structure_set is not None:
        settings = replace(settings, data=replace(settings.data, structure_set=structure_set))
    if acquisition is not None:
        settings = replace(settings, data=replace(settings.data, acquisition=acquisition))
    if exclude_path is not None:
        from contour_ai.pipeline.archive_places import load_places

        excluded = {**settings.data.exclude, **load_places(exclude_path)}
        settings = replace(settings, data=replace(settings.data, exclude=excluded))
    if fold is not None:
        settings = replace(settings, data=replace(settings.data, fold=fold))
    drawn = {"recipe": recipe_path, "label_maps": label_maps, "share": share}
    if any(value is not None for value in drawn.values()):
        settings = _with_synthetic(settings, recipe_path, label_maps, share)
    if print_config:
        out().print(configuration.print_config(settings), end="")
        return
    if data_dir is None or run_dir is None:
        raise click.UsageError("DATA_DIR and --out are needed.")
    told = (config_path, map_path, rois, structure_set, exclude_path, network, fold, init, *drawn.values())
    if resume and (any(told) or acquisition is not None):
        raise ConfigError(
            "--resume takes the run's own configuration, map, network and patients.",
            where=run_dir,
            fix="give --resume without --config, --roi-map, --rois, --structure-set, --acquisition, --exclude, "
            "--network, --fold, --init, --synthetic, --label-maps and --share",
        )
    if report and not check_only:
        raise click.UsageError("--report goes with --check.")
    if check_only:
        _check(settings, data_dir, run_dir, map_path, cache_dir, strict, report)
        return
    _train(settings, data_dir, run_dir, map_path, init, resume, time_budget, device, cache_dir, strict)


def _with_synthetic(
    settings: TrainConfig, recipe_path: Path | None, label_maps: Path | None, share: float | None
) -> TrainConfig:
    """The configuration with what the options say of synthetic patients, over what it says itself."""
    from dataclasses import replace

    from contour_ai.sample.synthesis.recipe import load_recipe
    from contour_ai.training.synthetic import SyntheticConfig

    synthetic = settings.data.synthetic
    if synthetic is None:
        synthetic = SyntheticConfig(label_maps="" if label_maps is None else str(label_maps.resolve()))
    elif label_maps is not None:
        synthetic = replace(synthetic, label_maps=str(label_maps.resolve()))
    if recipe_path is not None:
        synthetic = replace(synthetic, recipe=load_recipe(recipe_path))
    if share is not None:
        synthetic = replace(synthetic, share=share)
    return replace(settings, data=replace(settings.data, synthetic=synthetic))


def _train(
    settings: object,
    data_dir: Path,
    run_dir: Path,
    map_path: Path | None,
    init: str | None,
    resume: bool,
    time_budget: float | None,
    device: str,
    cache_dir: Path | None,
    strict: bool,
) -> None:
    from contour_ai.bundle import load_bundle
    from contour_ai.pipeline._train import TrainOptions, train
    from contour_ai.structures.roi_map import RoiMap
    from contour_ai.training.config import TrainConfig
    from contour_ai.training.distributed import FirstProcessError, LostProcessError, place

    assert isinstance(settings, TrainConfig)
    limits: list[RoiLimit] = []
    options = TrainOptions(
        roi_map=None if map_path is None else RoiMap.load(map_path),
        device=device,
        init=None if init is None else load_bundle(init),
        resume=resume,
        time_budget_s=time_budget,
        cache_dir=cache_dir,
        strict=strict,
        on_names=_print_names,
        on_check=lambda check: _print_check(check, run_dir),
        on_plan=_print_plan,
        on_limits=limits.extend,
    )
    if place().rank:
        # The first process speaks for all; what happens in this one alone is an error that ends it.
        with contextlib.suppress(FirstProcessError, LostProcessError):
            try:
                train(data_dir, run_dir, settings, options)
            except KeyboardInterrupt:
                raise SystemExit(INTERRUPTED) from None
        return
    with training_log() as on_progress:
        try:
            bundle = train(data_dir, run_dir, settings, options, on_progress)
        except KeyboardInterrupt:
            if (run_dir / "checkpoints" / "last.pt").is_file():
                again = _command_to_resume(data_dir, run_dir, device, cache_dir, strict)
                raise KeyboardInterrupt(f"the training is saved. This resumes it:\n  {again}") from None
            raise KeyboardInterrupt(
                "the training had not begun; patients that were prepared stay in the cache. Run the same command "
                "again to continue."
            ) from None
    _print_result(bundle.folder)
    print_what_next(limits, bundle, data_dir, run_dir, time_budget)


def _command_to_resume(
    data_dir: Path, run_dir: Path, device: str, cache_dir: Path | None, strict: bool
) -> str:
    """The command that goes on with a training, in as many processes, for the shell of this system."""
    words = ["train", str(data_dir), "--out", str(run_dir), "--resume"]
    words += ["--device", device] if device != "auto" else []
    words += ["--cache", str(cache_dir)] if cache_dir is not None else []
    words += ["--strict"] if strict else []
    return launch_command(*words)


def _check(
    settings: object,
    data_dir: Path,
    run_dir: Path,
    map_path: Path | None,
    cache_dir: Path | None,
    strict: bool,
    report: bool,
) -> None:
    from contour_ai.pipeline._train import CURATION_PAGE, TrainOptions, check_archive, refuse_faults
    from contour_ai.structures.roi_map import RoiMap
    from contour_ai.training.config import TrainConfig

    assert isinstance(settings, TrainConfig)
    options = TrainOptions(
        roi_map=None if map_path is None else RoiMap.load(map_path),
        cache_dir=cache_dir,
        strict=strict,
        on_names=_print_names,
    )
    with progress_bar() as on_progress:
        check = check_archive(settings, data_dir, run_dir, on_progress, options, report=report)
    _print_check(check, run_dir)
    if report:
        out().print(f"page: {run_dir / CURATION_PAGE}")
    refuse_faults(check, run_dir, options)


def _print_names(described: str) -> None:
    err().print(f"names: {described}")


def _print_check(check: object, run_dir: Path) -> None:
    """A table of what looks wrong, and why."""
    from rich.box import SIMPLE
    from rich.table import Column, Table

    from contour_ai.training.archive_check import ArchiveCheck

    assert isinstance(check, ArchiveCheck)
    if not check.findings:
        err().print("check of the archive: nothing looks wrong")
        return
    # Folded, not cut: a name or a path that ends in "…" helps nobody.
    columns = [Column(name, overflow="fold") for name in ("patient", "ROI", "what", "", "reason")]
    table = Table(*columns, box=SIMPLE, title="check of the archive")
    for f in check.findings:
        action = "left out" if f.left_out else "look at"
        table.add_row(f.patient, f.roi, f.kind, action, f.reason)
    err().print(table)
    rois = {(f.patient, f.roi) for f in check.left_out}
    err().print(
        f"{len(rois)} left out, the rest is used; the list: {run_dir / 'archive-check.csv'}. What is right after all "
        "goes under accepted in the ROI map."
    )


def _print_plan(facts: object) -> None:
    from collections.abc import Mapping

    assert isinstance(facts, Mapping)
    for key, value in facts.items():
        err().print(f"  {key:20}{value}")


def _print_result(folder: Path) -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    from contour_ai.bundle import read_description
    from contour_ai.bundle.poor_models import weaknesses

    bundle = read_description(folder)
    table = Table("ROI", "patients", "Dice in validation", box=SIMPLE)
    for roi in bundle.roi_names:
        dice = bundle.results.dice.get(roi)
        patients = bundle.data.rois[roi].patients
        table.add_row(roi, str(patients), "-" if dice is None else f"{dice:.3f}")
    table.add_row("mean", "", "-" if bundle.results.mean_dice is None else f"{bundle.results.mean_dice:.3f}")
    out().print(table)
    for sentence in weaknesses(bundle):
        print_warning(sentence)
    out().print(f"model: {folder}")
    out().print(
        f"to contour with it: {shell_command('predict', 'PATIENT_DIR', '--model', str(folder), '--out', 'DIR')}"
    )
    if bundle.kind == "phantom":
        out().print("it learnt from drawn phantoms: never use it on a patient")
