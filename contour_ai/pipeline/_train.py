"""Trains a model on an archive: DICOM patients in; a run folder with checkpoints, curves and a model bundle out."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from contour_ai import __version__
from contour_ai.bundle import InferenceSettings, ModelBundle, save_bundle
from contour_ai.errors import ConfigError, InputError, ModelError, OutputError
from contour_ai.files import atomic_file
from contour_ai.network_config import LEVELS_OF_PRESET
from contour_ai.pipeline.archive import (
    Sources,
    choose_rois,
    find_sources,
    split,
    spread,
    typical_grids,
)
from contour_ai.pipeline.calibration import measured_confidence, measured_ranges
from contour_ai.pipeline.card import model_card
from contour_ai.pipeline.cases import Prepared, check_cases, checked, prepare_cases
from contour_ai.pipeline.tuning import tuned
from contour_ai.preprocess import PreprocessSettings
from contour_ai.progress import OnProgress, no_progress
from contour_ai.settings import from_mapping, to_mapping
from contour_ai.structures import roi_info
from contour_ai.structures.roi_map import RoiMap
from contour_ai.training.archive_check import ArchiveCheck
from contour_ai.training.cache import Case
from contour_ai.training.config import NetworkChoice, PreprocessConfig, TrainConfig, load_config, print_config
from contour_ai.training.overlap import described, exclusive_pairs
from contour_ai.training.plan import Plan, plan_input, plan_network, plan_settings, plan_windows

if TYPE_CHECKING:
    from torch import Tensor

    from contour_ai.network import ResidualUNet3d
    from contour_ai.quality.ranges import Ranges
    from contour_ai.training.distributed import Processes
    from contour_ai.training.job import Job, Progress

logger = logging.getLogger(__name__)

CONFIG_FILE = "config.yaml"
MAP_FILE = "roi-map.yaml"
SPLITS_FILE = "splits.json"
CHECK_FILE = "archive-check.csv"
BUNDLE = "bundle"

FINISHING_BUDGET_SHARE = 0.03
"""Of a time budget: so much is spent on choosing the rules of the model that is ready, and on its confidence."""

DONE_KEYS = frozenset({"steps", "validate_every", "weights", "checkpoint_minutes", "threads", "compile"})
"""Keys of `run` that may change when a training goes on."""


@dataclass(frozen=True)
class TrainOptions:
    """What `train` can be told besides configuration, data and run folder."""

    roi_map: RoiMap | None = None
    """Which names stand for which ROI; None for the TG-263 names proposed."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    init: ModelBundle | None = None
    """A model to start from: its network and preprocessing are taken over (but for a voxel size that the configuration
    names), shared ROIs keep their weights."""
    resume: bool = False
    """Go on with the training in the run folder, with its own configuration and map."""
    time_budget_s: float | None = None
    """End in this time, preparation included, with the schedule finished and the best model validated."""
    cache_dir: Path | None = None
    """Where prepared patients are kept; None for `cache` in the run folder."""
    strict: bool = False
    """Stop where the check of the archive would leave something out."""
    on_check: Callable[[ArchiveCheck], None] = lambda check: None
    """Told what looks wrong in the archive, before anything is left out."""
    on_plan: Callable[[Mapping[str, str]], None] = lambda facts: None
    """Told what will be done, before the first step."""


def train(
    config: TrainConfig,
    data_dir: Path,
    run_dir: Path,
    on_progress: OnProgress = no_progress,
    options: TrainOptions | None = None,
) -> ModelBundle:
    """Trains on every usable patient in `data_dir`, and leaves everything in `run_dir`.

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

    from contour_ai.training.distributed import join

    processes = join(options.device)
    with processes.until_done():
        return _train_as(config, data_dir, run_dir, on_progress, options, processes, started)


@dataclass(frozen=True)
class _Begun:
    """What the first process has prepared."""

    job: Job
    facts: Mapping[str, str]
    ranges: Ranges


def _train_as(
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
    from contour_ai.training.loop import train_network

    begun = processes.from_first(lambda: _begin(config, data_dir, run_dir, on_progress, options, processes))
    job = replace(begun.job, device=processes.device)
    # Before torch starts threads, which take this from the one that starts them: half of a tensor would keep denormals.
    torch.set_flush_denormal(True)
    torch.manual_seed(job.config.run.seed)
    network = build_network(job.plan.network)
    if options.init is not None and not options.resume:
        from contour_ai.training.transfer import start_from

        start_from(
            network, job.plan.rois, options.init.build_network(calibrated=False), options.init.roi_names
        )
    if options.time_budget_s is not None:
        left_s = (1 - FINISHING_BUDGET_SHARE) * options.time_budget_s - (time.monotonic() - started)
        job = replace(job, time_budget_s=max(left_s, 1.0))
    weights, progress = train_network(job, network, on_progress, processes)

    def finish() -> ModelBundle:
        described = _describe(job, progress, begun.facts, processes.size)
        bundle = replace(described, ranges=begun.ranges)
        return _finished(bundle, network, weights, job, on_progress, options)

    return processes.from_first(finish)


def _begin(
    config: TrainConfig,
    data_dir: Path,
    run_dir: Path,
    on_progress: OnProgress,
    options: TrainOptions,
    processes: Processes,
) -> _Begun:
    """Everything decided, prepared, written into the run folder and told, before the first step."""
    config, options = _opened(config, run_dir, options)
    sources = find_sources(data_dir, options.roi_map, on_progress)
    job, rois_left_out, left_out = _job(config, sources, run_dir, options, on_progress)
    _write_run(run_dir, job, left_out, options.roi_map)
    facts = _facts(job, rois_left_out, left_out, options.time_budget_s)
    if not processes.alone:
        facts["samples a step"] += f" in each of {processes.size} processes"
    if options.init is not None and not options.resume:
        from contour_ai.training.transfer import shared_and_new

        kept, fresh = shared_and_new(job.plan.rois, options.init.roi_names)
        facts["starts from"] = (
            f"{job.started_from}; kept: {', '.join(kept) or 'no ROI'}; new: {', '.join(fresh) or 'none'}"
        )
    options.on_plan(facts)
    grids = typical_grids(sources.patients, on_progress)
    ranges = measured_ranges(job.training, grids, job.plan.settings.outside_hu, on_progress)
    return _Begun(job, facts, ranges)


def _finished(
    bundle: ModelBundle,
    network: ResidualUNet3d,
    weights: dict[str, Tensor],
    job: Job,
    on_progress: OnProgress,
    options: TrainOptions,
) -> ModelBundle:
    """The bundle, its rules chosen and its confidence measured, on disk."""
    held_back = [case for case in job.validation if case not in job.training]
    if held_back:
        network.load_state_dict(weights)
        seconds = FINISHING_BUDGET_SHARE / 2 * (options.time_budget_s or math.inf)
        bundle = tuned(bundle, network, held_back, str(job.device), on_progress, seconds=seconds)
        bundle.calibrate_network(network)
        shares = measured_confidence(
            bundle, network, held_back, str(job.device), on_progress, seconds=seconds
        )
        assert bundle.ranges is not None
        bundle = replace(bundle, ranges=bundle.ranges.with_confidence(*shares))
    return save_bundle(
        job.run_dir / BUNDLE,
        bundle,
        weights,
        model_card=model_card(bundle),
        overwrite=True,
    )


def _opened(config: TrainConfig, run_dir: Path, options: TrainOptions) -> tuple[TrainConfig, TrainOptions]:
    """The configuration and options of a new run, or those of the one to go on with."""
    from contour_ai.training.checkpoint import LAST

    begun = (run_dir / "checkpoints" / LAST).exists() or (run_dir / BUNDLE).exists()
    if options.resume:
        if not begun:
            raise ModelError(
                "There is no training to go on with.", where=run_dir, fix="start it without --resume"
            )
        for left_behind in run_dir.glob(".tmp-*"):  # by a process that was killed while it wrote the bundle
            shutil.rmtree(left_behind) if left_behind.is_dir() else left_behind.unlink()
        config = load_config(run_dir / CONFIG_FILE)
        if (run_dir / MAP_FILE).is_file():
            options = replace(options, roi_map=RoiMap.load(run_dir / MAP_FILE))
        return config, options
    if begun:
        raise OutputError(
            "There is a training in this folder already.",
            where=run_dir,
            fix="give --resume to go on with it, or another --out",
        )
    if options.init is not None:
        config = _as(options.init, config)
    return config, options


def _as(bundle: ModelBundle, config: TrainConfig) -> TrainConfig:
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


def _job(
    config: TrainConfig, sources: Sources, run_dir: Path, options: TrainOptions, on_progress: OnProgress
) -> tuple[Job, dict[str, str], dict[str, str]]:
    """Everything decided and every patient prepared; also what ROIs and patients were left out."""
    from contour_ai.inference import choose_device
    from contour_ai.training.job import Job
    from contour_ai.training.memory import free_bytes

    device = choose_device(options.device)
    rois, rois_left_out = choose_rois(sources.counts(), config.data.rois, config.data.min_patients)
    settings, prepared = _usable(config, sources, rois, run_dir, options, on_progress)
    cases = prepared.cases
    if config.preprocess.windows_hu is None:
        settings = replace(settings, windows_hu=plan_windows([case for _, case in cases.values()]))
    network = plan_network(config.network, settings, len(rois))
    shapes = [case.hu.shape for _, case in cases.values()]
    plan = plan_input(config, rois, settings, network, shapes, device.type, free_bytes(device))
    resolved = _resolved(config, plan)
    ids = {p.label: p.patient_id for p in sources.patients if p.label in cases}
    training, validation = split(ids, config.data.validation_share, config.data.fold)
    learnt = [cases[label][1] for label in training]
    exclusive = None
    if config.loss.certain_negatives:
        exclusive = exclusive_pairs(learnt, plan.mirror, config.loss.may_overlap)
    window = tuple(max(n, m) for n, m in zip(plan.patch_kij, plan.network.multiple_kij, strict=True))
    job = Job(
        resolved,
        plan,
        learnt,
        [cases[label][1] for label in validation],
        run_dir,
        device,
        _fingerprint(resolved, cases),
        resume=options.resume,
        started_from="" if options.init is None else f"{options.init.name} {options.init.version}",
        window_kij=(window[0], window[1], window[2]),
        exclusive=exclusive,
    )
    return job, rois_left_out, {**sources.left_out, **prepared.left_out}


def check_archive(
    config: TrainConfig,
    data_dir: Path,
    run_dir: Path,
    on_progress: OnProgress = no_progress,
    options: TrainOptions | None = None,
) -> ArchiveCheck:
    """Only checks the archive: prepares the patients, as `train` would, and writes `run_dir`/archive-check.csv.

    Raises:
        InputError: there is nothing to check.
        ConfigError: unmapped ROI names, values that do not fit the data.
        OutputError: `run_dir` cannot be written.
    """
    options = options or TrainOptions()
    sources = find_sources(data_dir, options.roi_map, on_progress)
    rois, _ = choose_rois(sources.counts(), config.data.rois, config.data.min_patients)
    _, prepared = _prepare(config, sources, rois, run_dir, options, on_progress)
    check = check_cases(sources, prepared)
    check.save(run_dir / CHECK_FILE)
    return check


def _usable(
    config: TrainConfig,
    sources: Sources,
    rois: tuple[str, ...],
    run_dir: Path,
    options: TrainOptions,
    on_progress: OnProgress,
) -> tuple[PreprocessSettings, Prepared]:
    """The patients on the model grid, checked."""
    settings, prepared = _prepare(config, sources, rois, run_dir, options, on_progress)
    check = check_cases(sources, prepared)
    check.save(run_dir / CHECK_FILE)
    options.on_check(check)
    refuse_faults(check, run_dir, options)
    return settings, checked(sources, prepared, check)


def refuse_faults(check: ArchiveCheck, run_dir: Path, options: TrainOptions) -> None:
    """Stops a strict training.

    Raises:
        InputError: the check found faults, which are named.
    """
    if options.strict and check.left_out:
        listing = "; ".join(f"{f.patient} {f.roi}: {f.reason}" for f in check.left_out)
        raise InputError(
            f"The check of the archive found {len(check.left_out)} faults.",
            where=run_dir / CHECK_FILE,
            found=listing,
            fix="correct them, list what is right under accepted in the ROI map, or leave them out by going on "
            "without --strict",
        )


def _prepare(
    config: TrainConfig,
    sources: Sources,
    rois: tuple[str, ...],
    run_dir: Path,
    options: TrainOptions,
    on_progress: OnProgress,
) -> tuple[PreprocessSettings, Prepared]:
    fixed = config.preprocess.spacing_mm_kij is not None
    settings = plan_settings(config, [] if fixed else typical_grids(sources.patients, on_progress))
    cache = options.cache_dir or run_dir / "cache"
    prepared = prepare_cases(sources.patients, rois, settings, cache, on_progress)
    return settings, prepared.with_blank_slices() if config.data.blank_slices == "keep" else prepared


def _resolved(config: TrainConfig, plan: Plan) -> TrainConfig:
    """The configuration with every planned value fixed, so that the run goes on the same on any machine."""
    shallow = plan.network.levels == LEVELS_OF_PRESET["resunet3d"]
    preset: Literal["resunet3d", "deeper_resunet3d"] = "resunet3d" if shallow else "deeper_resunet3d"
    return replace(
        config,
        data=replace(config.data, rois=plan.rois, flip_pairs=plan.flip_pairs),
        preprocess=replace(
            config.preprocess,
            spacing_mm_kij=plan.settings.spacing_mm_kij,
            windows_hu=plan.settings.windows_hu,
        ),
        network=replace(
            config.network, name=preset, norm=plan.network.norm, strides=plan.network.level_strides
        ),
        input=replace(config.input, patch_kij=plan.patch_kij, batch_size=plan.batch_size),
    )


def _fingerprint(config: TrainConfig, cases: Mapping[str, tuple[str, Case]]) -> str:
    """Of all that decides what is learnt, besides how long."""
    keys = {label: (key, case.states) for label, (key, case) in cases.items()}
    mapping = to_mapping(config)
    mapping["run"] = {k: v for k, v in mapping["run"].items() if k not in DONE_KEYS}
    text = json.dumps([mapping, sorted(keys.items())], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _write_run(run_dir: Path, job: Job, left_out: Mapping[str, str], roi_map: RoiMap | None) -> None:
    """What a run folder says about itself."""
    with atomic_file(run_dir / CONFIG_FILE, overwrite=True) as path:
        path.write_text(print_config(job.config), encoding="utf-8", newline="\n")
    if roi_map is not None:
        roi_map.save(run_dir / MAP_FILE, overwrite=True)
    splits = {
        "training": [case.patient_id for case in job.training],
        "validation": [case.patient_id for case in job.validation],
        "left_out": dict(left_out),
        "rois_left_out": _rois_left_out(job),
    }
    with atomic_file(run_dir / SPLITS_FILE, overwrite=True) as path:
        path.write_text(json.dumps(splits, indent=1, ensure_ascii=False), encoding="utf-8", newline="\n")


def _rois_left_out(job: Job) -> dict[str, list[str]]:
    """{patient: ROIs that are contoured, but do not count, for the reasons in archive-check.csv}."""
    found = {}
    for case in {case.patient_id: case for case in [*job.training, *job.validation]}.values():
        states = zip(case.rois, case.presence, strict=True)
        rois = [roi for roi, here in states if not here and roi in case.facts]
        if rois:
            found[case.patient_id] = rois
    return found


def _blank_in(job: Job) -> int:
    """In how many patients slices that are blank but around contours were cut off."""
    return len({case.patient_id for case in [*job.training, *job.validation] if case.is_cut})


def _facts(
    job: Job, rois_left_out: Mapping[str, str], left_out: Mapping[str, str], time_budget_s: float | None
) -> dict[str, str]:
    """What will be done, for people."""
    config = job.config
    both = [c.patient_id for c in job.validation] == [c.patient_id for c in job.training]
    facts = {
        "patients": f"{len(job.training)} for training, {len(job.validation)} for validation"
        + (" (the same: there is only one)" if both else "")
        + ("" if config.data.fold is None else " (part {} of {})".format(*config.data.fold)),
        **job.plan.facts(),
        "steps": str(config.run.steps) if time_budget_s is None else "as many as fit the time",
        "optimiser": f"{config.optimiser.name}, learning rate {config.optimiser.learning_rate:g}, "
        f"{config.schedule.name}",
        "device": str(job.device),
    }
    if job.exclusive is not None:
        facts["never overlapping"] = described(job.exclusive, job.plan.rois)
    if left_out:
        facts["patients left out"] = "; ".join(f"{label}: {reason}" for label, reason in left_out.items())
    blank = _blank_in(job)
    if blank:
        facts["blank slices"] = f"cut off in {blank} patients (which: {CHECK_FILE})"
    wrong = _rois_left_out(job)
    if wrong:
        listing = "; ".join(f"{label}: {', '.join(rois)}" for label, rois in wrong.items())
        facts["contours left out"] = f"{listing} (why: {CHECK_FILE})"
    if rois_left_out:
        facts["ROIs left out"] = "; ".join(f"{roi}: {reason}" for roi, reason in rois_left_out.items())
    return facts


def _describe(job: Job, progress: Progress, facts: Mapping[str, str], processes: int) -> ModelBundle:
    """The bundle's description, without its weights."""
    import torch

    config, plan = job.config, job.plan
    best = progress.shipped
    validated: dict[str, Any] = {
        "what": "Dice on whole validation patients, on the model's grid",
        "patients": len(job.validation),
        "mean_dice": round(best.mean, 4),
        "dice": _rounded(best.dice),
        "surface_dice": _rounded(best.surface_dice),
        "hd95_mm": _rounded(best.hd95_mm),
        "accuracies": _rounded(best.accuracies),
        "worst": _worst(best.patients),
    }
    return ModelBundle(
        folder=Path(),
        name=config.model.name,
        version=config.model.version,
        kind=config.model.kind,
        description=config.model.description,
        notes=config.model.notes,
        rois=tuple(roi_info(roi) for roi in plan.rois),
        preprocess=plan.settings,
        network=plan.network,
        inference=InferenceSettings(job.window_kij, job.overlap, mirror=config.model.mirror),
        data={
            "patients": len({c.patient_id for c in [*job.training, *job.validation]}),
            "training_patients": len(job.training),
            **({"patients_cut_where_blank": blank} if (blank := _blank_in(job)) else {}),
            "rois": spread(job.training, plan.rois),
            "flip_pairs": [list(pair) for pair in plan.flip_pairs],
        },
        training={
            "steps": progress.step,
            "best_step": progress.best_step,
            **({"weights": "the mean of those of the best and the last step"} if progress.mean else {}),
            "hours": round(progress.elapsed_s / 3600, 3),
            "sample_kij": list(plan.patch_kij),
            "samples_a_step": plan.batch_size * processes,
            **({"processes": processes} if processes > 1 else {}),
            "optimiser": facts["optimiser"],
            "device": _device_name(job),
            **({} if config.augmentation.flip else {"mirrored_samples": False}),
            "filled_in": _filling(job, progress),
            "started_from": progress.started_from,
        },
        results=validated,
        provenance={
            "made_with": f"contour-ai {__version__}, torch {torch.__version__}, Python {platform.python_version()}",
            "date": datetime.now(timezone.utc).date().isoformat(),
            "seed": config.run.seed,
            **({"commands": list(config.model.commands)} if config.model.commands else {}),
            "data_and_settings_sha256": job.fingerprint,
        },
    )


def _filling(job: Job, progress: Progress) -> str:
    """What the network filled in; empty where it did not."""
    if not progress.filled_step:
        return ""
    rois = ", ".join(f"{roi} in {number}" for roi, number in progress.filled.items()) or "nothing"
    return f"{rois} training patients, after step {progress.filled_step}, with weight {job.config.loss.filled_weight:g}"


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    """Without those that are no number."""
    return {name: round(value, 4) for name, value in values.items() if math.isfinite(value)}


def _worst(patients: Mapping[str, Mapping[str, float]], number: int = 3) -> list[str]:
    """The ROIs found worst, by patient."""
    scored = sorted((dice, roi, label) for label, rois in patients.items() for roi, dice in rois.items())
    return [f"{label}: {roi} {dice:.3f}" for dice, roi, label in scored[:number]]


def _device_name(job: Job) -> str:
    import torch

    if job.device.type == "cuda":
        return torch.cuda.get_device_name(job.device)
    return f"CPU, {torch.get_num_threads()} threads"
