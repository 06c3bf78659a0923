"""Trains a model on an archive: from the first file to the bundle."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from contour_ai.bundle import ModelBundle, save_bundle
from contour_ai.errors import ConfigError, ModelError, OutputError
from contour_ai.files import clear_left_behind, only_one, private_folder, restrict
from contour_ai.pipeline._train.budget import plan_for_budget, shortage, steps_in_words
from contour_ai.pipeline._train.drawn_sources import Drawn, drawn_ids, drawn_patients
from contour_ai.pipeline._train.options import BUNDLE, CONFIG_FILE, MAP_FILE, TrainOptions
from contour_ai.pipeline._train.preparing import named_sources, prepared_job
from contour_ai.pipeline._train.record import describe_model
from contour_ai.pipeline._train.run_folder import plan_facts, refuse_strange_files, write_run_folder
from contour_ai.pipeline._train.second_reader import TrainedReader, budget_share, train_second_reader
from contour_ai.pipeline._train.series_record import seen_series
from contour_ai.pipeline._train.synthetic import with_synthetic
from contour_ai.pipeline.archive import headers_say, typical_grids
from contour_ai.pipeline.calibration import measured_confidence, measured_ranges
from contour_ai.pipeline.card import model_card
from contour_ai.pipeline.contour_calibration import fitted_contour_models
from contour_ai.pipeline.naming import NAMES_FILE
from contour_ai.pipeline.tuning import tuned
from contour_ai.progress import OnProgress, no_progress
from contour_ai.quality.suitability import TrainedOn
from contour_ai.settings import from_mapping, to_mapping
from contour_ai.structures.roi_map import RoiMap
from contour_ai.training.config import NetworkChoice, PreprocessConfig, TrainConfig, load_config
from contour_ai.training.threads import let_waiting_threads_sleep

if TYPE_CHECKING:
    from torch import Tensor

    from contour_ai.bundle.seen_series import SeenSeries
    from contour_ai.network import ResidualUNet3d
    from contour_ai.quality.ranges import Ranges
    from contour_ai.training.distributed import Processes
    from contour_ai.training.job import Job


logger = logging.getLogger(__name__)
FINISHING_BUDGET_SHARE = 0.045
"""Of a time budget: so much is spent on choosing the rules of the model that is ready, and on its confidence."""


def train(
    data_dir: str | Path,
    run_dir: str | Path,
    config: TrainConfig | str | Path | None = None,
    options: TrainOptions | None = None,
    on_progress: OnProgress = no_progress,
) -> ModelBundle:
    """Trains on every usable patient in `data_dir`, and leaves everything in `run_dir`.

    Args:
        data_dir: folders of exports: CT series with their structure sets, in any arrangement.
        run_dir: where configuration, checkpoints, curves and the model go.
        config: what is trained and how, or a YAML file of it; None for the defaults. A run that is resumed keeps its
            own.
        options: device, map of names, time budget and so on; None for the defaults.
        on_progress: told how far each stage has come.

    Returns:
        The bundle `run_dir`/bundle, of the weights that validated best.

    Raises:
        InputError: there is nothing to train on.
        ConfigError: unmapped ROI names, unknown device, values that do not fit the data.
        ModelError: the checkpoint to resume from or the model to start from cannot be used.
        OutputError: `run_dir` holds another training, or cannot be written.
    """
    started = time.monotonic()
    options = options or TrainOptions()
    settings = (
        config if isinstance(config, TrainConfig) else load_config(None if config is None else Path(config))
    )

    let_waiting_threads_sleep()  # before torch is imported
    from contour_ai.training.distributed import join

    processes = join(options.device)
    from contour_ai.training.denormals import denormals_flushed

    # Before torch starts threads, which take this from the one that starts them: half of a tensor would keep denormals.
    with processes.until_done(), denormals_flushed(), ExitStack() as held:

        def begin() -> None:
            private_folder(Path(run_dir))
            held.enter_context(_alone_in(Path(run_dir)))

        processes.run_on_main(begin)
        return _train_with(settings, Path(data_dir), Path(run_dir), on_progress, options, processes, started)


def _alone_in(run_dir: Path) -> AbstractContextManager[None]:
    """A second training in the same folder would write over the first one's checkpoints."""
    return only_one(
        run_dir,
        what="Another training is at work in this folder.",
        fix="wait until it has ended or stop it, then give --resume; or give another --out",
    )


@dataclass(frozen=True, kw_only=True)
class _Begun:
    """What the first process has prepared."""

    job: Job
    facts: Mapping[str, str]
    ranges: Ranges
    headers: TrainedOn
    drawn: Drawn = ""
    """What the patients are, where they are none."""
    drawn_ids: frozenset[str] = frozenset()
    """IDs of the patients that were drawn."""
    seen: tuple[SeenSeries, ...] = ()
    """The CT series that were learnt from."""


def _train_with(
    config: TrainConfig,
    data_dir: Path,
    run_dir: Path,
    on_progress: OnProgress,
    options: TrainOptions,
    processes: Processes,
    started: float,
) -> ModelBundle:
    import torch

    from contour_ai.network import build_network
    from contour_ai.training.limiting import in_sentences, limits_of
    from contour_ai.training.loop import train_network
    from contour_ai.training.progress_page import write_progress_page

    begun = processes.run_on_main(
        lambda: _begin(config, data_dir, run_dir, on_progress, options, processes, started)
    )
    job = replace(begun.job, device=processes.device)
    torch.manual_seed(job.config.run.seed)
    network = build_network(job.plan.network)
    if options.init is not None and not options.resume:
        from contour_ai.training.transfer import start_from

        start_from(
            network, job.plan.rois, options.init.build_network(calibrated=False), options.init.roi_names
        )
    job = replace(job, prepared_s=time.monotonic() - started)
    if options.time_budget_s is not None:
        left_s = (1 - FINISHING_BUDGET_SHARE) * options.time_budget_s - job.prepared_s
        left_s -= budget_share(job.config, options.time_budget_s)
        job = replace(job, time_budget_s=max(left_s, 1.0), whole_budget_s=options.time_budget_s)
    weights, progress = train_network(job, network, on_progress, processes)
    second = train_second_reader(
        job, processes, on_progress, started=time.monotonic(), whole_budget_s=progress.whole_budget_s
    )

    def finish() -> ModelBundle:
        limits = limits_of(job, progress, processes.size)
        options.on_limits(limits)
        write_progress_page(job, progress, processes.size, advice=in_sentences(limits))
        described = describe_model(job, progress, begun.facts, processes.size, begun.drawn, begun.drawn_ids)
        data = replace(described.data, trained_on=begun.headers, seen_series=begun.seen)
        bundle = replace(described, ranges=begun.ranges, data=data)
        return _finished(bundle, network, weights, second, job, on_progress, progress.whole_budget_s)

    return processes.run_on_main(finish)


def _begin(
    config: TrainConfig,
    data_dir: Path,
    run_dir: Path,
    on_progress: OnProgress,
    options: TrainOptions,
    processes: Processes,
    started: float,
) -> _Begun:
    """Everything decided, prepared, written into the run folder and told, before the first step."""
    from contour_ai.training.checkpoint import LAST, time_left_s

    config, options = _opened(config, run_dir, options)
    sources = named_sources(config, data_dir, run_dir, options, on_progress)
    sources = with_synthetic(sources, config, run_dir, on_progress)
    budgeted = None
    if not options.resume:
        ready = (options.cache_dir or run_dir / "cache").is_dir()
        budgeted = plan_for_budget(config, sources, options, on_progress, started=started, prepared=ready)
    config = config if budgeted is None else budgeted.config
    prepared = prepared_job(config, sources, run_dir, options, on_progress)
    job = prepared.job
    write_run_folder(run_dir, job, prepared.patients_left_out, options.roi_map)
    facts = plan_facts(job, prepared.rois_left_out, prepared.patients_left_out, options.time_budget_s)
    if budgeted is not None and options.time_budget_s is not None:
        facts["steps"] = steps_in_words(budgeted, len(job.own_training), options.time_budget_s, started)
        if short := shortage(budgeted):
            facts["warning"] = short
    if options.resume and options.time_budget_s is None:
        left_s = time_left_s(job.checkpoints / LAST)
        facts["steps"] = (
            facts["steps"] if left_s is None else f"as many as fit the {left_s:.0f} s that are left"
        )
    drawn = drawn_patients(sources.own)
    if drawn == "phantom":
        facts["kind"] = "phantom: there are phantoms of `contour-ai sample` among the patients"
    elif drawn:
        facts["kind"] = f"{config.model.kind}; it will never have seen a patient: all were drawn"
    facts["names"] = f"{sources.naming.described}; listed in {NAMES_FILE}"
    if not processes.alone:
        facts["samples a step"] += f" in each of {processes.size} processes"
    if options.init is not None and not options.resume:
        from contour_ai.training.transfer import shared_and_new

        kept, fresh = shared_and_new(job.plan.rois, options.init.roi_names)
        facts["starts from"] = (
            f"{job.started_from}; kept: {', '.join(kept) or 'no ROI'}; new: {', '.join(fresh) or 'none'}"
        )
    options.on_plan(facts)
    grids = typical_grids(sources.own.patients, on_progress)
    ranges = measured_ranges(job.own_training, grids, job.plan.settings.outside_hu, on_progress)
    seen = seen_series(job, sources.own, options.init, on_progress)
    trained = {case.patient_id for case in job.own_training}
    headers = headers_say([patient for patient in sources.own.patients if patient.patient_id in trained])
    return _Begun(
        job=job,
        facts=facts,
        ranges=ranges,
        headers=headers,
        drawn=drawn,
        drawn_ids=drawn_ids(sources.own),
        seen=seen,
    )


def _finished(
    bundle: ModelBundle,
    network: ResidualUNet3d,
    weights: dict[str, Tensor],
    second: TrainedReader | None,
    job: Job,
    on_progress: OnProgress,
    whole_budget_s: float | None,
) -> ModelBundle:
    """The bundle, its rules chosen and its confidence measured, on disk."""
    if second is not None:
        bundle = replace(bundle, second_reader=second.described)
    held_back = [case for case in job.validation if case not in job.training]
    if held_back:
        network.load_state_dict(weights)
        seconds = FINISHING_BUDGET_SHARE / 3 * (whole_budget_s or math.inf)
        bundle = tuned(bundle, network, held_back, str(job.device), on_progress, seconds=seconds)
        bundle.calibrate_network(network)
        confidence = measured_confidence(
            bundle, network, held_back, str(job.device), on_progress, seconds=seconds
        )
        assert bundle.ranges is not None
        bundle = replace(bundle, ranges=bundle.ranges.with_confidence(*confidence))
        bundle = fitted_contour_models(
            bundle,
            network,
            held_back,
            str(job.device),
            on_progress,
            second=None if second is None else second.on(job.device, bundle),
            seconds=seconds,
        )
    saved = save_bundle(
        job.run_dir / BUNDLE,
        bundle,
        weights,
        model_card=model_card(bundle),
        overwrite=True,
        second_reader=None if second is None else second.weights,
    )
    for path in job.run_dir.iterdir():
        if path.name != BUNDLE:  # all but the model shows patients
            restrict(path)
    return saved


def _opened(config: TrainConfig, run_dir: Path, options: TrainOptions) -> tuple[TrainConfig, TrainOptions]:
    """The configuration and options of a new run, or those of the one to resume."""
    from contour_ai.training.checkpoint import LAST

    begun = (run_dir / "checkpoints" / LAST).exists() or (run_dir / BUNDLE).exists()
    if options.resume:
        if not begun:
            raise ModelError(
                "No checkpoint to resume from.",
                where=run_dir,
                expected=f"checkpoints/{LAST} or {BUNDLE} of an earlier run",
                fix="start the training without --resume",
            )
        clear_left_behind(run_dir, exclusive=True)  # by a process that was killed while it wrote the bundle
        if not (run_dir / CONFIG_FILE).is_file():
            raise ModelError(
                "The configuration of this training is not there any more.",
                where=run_dir / CONFIG_FILE,
                fix="put it back, or start anew with another --out",
            )
        config = load_config(run_dir / CONFIG_FILE, fix="undo what was changed in it")
        if (run_dir / MAP_FILE).is_file():
            options = replace(options, roi_map=RoiMap.load(run_dir / MAP_FILE))
        return config, options
    if begun:
        raise OutputError(
            "There is a training in this folder already.",
            where=run_dir,
            fix="give --resume to resume it, or another --out",
        )
    refuse_strange_files(run_dir)
    if options.init is not None:
        config = _config_of_model(options.init, config)
    return config, options


def _config_of_model(bundle: ModelBundle, config: TrainConfig) -> TrainConfig:
    """The configuration with a bundle's preprocessing and network; a voxel size that the configuration names stays.

    Raises:
        ConfigError: the bundle's network is none of the presets.
    """
    network = bundle.network
    choice = {
        **to_mapping(network),
        "dropout": config.network.dropout,
        "deep_supervision": config.network.deep_supervision,
        "strides": to_mapping(network.level_strides),
    }
    for key in ("in_channels", "out_channels", "levels"):
        del choice[key]
    preprocess = {**vars(config.preprocess), **vars(bundle.preprocess)}
    preprocess["spacing_mm_kij"] = config.preprocess.spacing_mm_kij or bundle.preprocess.spacing_mm_kij
    taken = replace(
        config,
        preprocess=PreprocessConfig(**preprocess),
        network=from_mapping(NetworkChoice, choice, where=bundle.folder, path="network"),
    )
    if taken.network.levels != network.levels:
        raise ConfigError(
            "This model cannot be fine-tuned: its network is none of the presets.",
            where=bundle.folder,
            found=f"{network.name} with {network.levels} levels",
        )
    return taken
