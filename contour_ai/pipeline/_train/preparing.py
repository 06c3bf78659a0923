"""Decides everything and prepares every patient, before the first step."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from contour_ai.bundle import InferenceSettings
from contour_ai.dicom.file_index import FileIndex
from contour_ai.errors import InputError, listed
from contour_ai.files import private_folder, update_manifest
from contour_ai.network_config import LEVELS_OF_PRESET
from contour_ai.pipeline._train.options import CHECK_FILE, CURATION_PAGE, TrainOptions
from contour_ai.pipeline._train.relatives import draw_relatives
from contour_ai.pipeline._train.run_folder import refuse_strange_files
from contour_ai.pipeline.archive import Sources, choose_rois, find_sources, typical_grids
from contour_ai.pipeline.cases import PreparedCases, check_cases, checked, prepare_cases
from contour_ai.pipeline.naming import NAMES_FILE, least_patients
from contour_ai.pipeline.prepared_case import PreparedCase
from contour_ai.pipeline.splitting import PatientSplit, held_out, same_images, split_patients
from contour_ai.preprocess import PreprocessSettings
from contour_ai.progress import OnProgress, no_progress
from contour_ai.settings import to_mapping
from contour_ai.training.archive_check import ArchiveCheck
from contour_ai.training.config import TrainConfig
from contour_ai.training.overlap import exclusive_pairs
from contour_ai.training.plan import Plan, plan_input, plan_network, plan_settings, plan_windows

if TYPE_CHECKING:
    from contour_ai.training.job import Job


DONE_KEYS = frozenset({"steps", "validate_every", "weights", "checkpoint_minutes", "threads", "compile"})
"""Keys of `run` that may change when a training goes on."""


@dataclass(frozen=True)
class PreparedJob:
    """A training that can begin."""

    job: Job
    rois_left_out: dict[str, str]
    """{ROI: why it is not learnt}."""
    patients_left_out: dict[str, str]
    """{label: why}."""


class _OnModelGrid(NamedTuple):
    """The patients of the archive as the model will see them."""

    settings: PreprocessSettings
    cases: PreparedCases
    same: list[tuple[str, ...]]
    """Groups of labels with equal images."""


class _SplitCases(NamedTuple):
    """Who is trained on and who validates, and the prepared patients that may be used, by label."""

    split: PatientSplit
    prepared: Mapping[str, PreparedCase]


def prepared_job(
    config: TrainConfig, sources: Sources, run_dir: Path, options: TrainOptions, on_progress: OnProgress
) -> PreparedJob:
    """Everything decided and every patient prepared."""
    from contour_ai.inference import choose_device
    from contour_ai.training.arithmetic import computed_in, fewest_samples
    from contour_ai.training.job import Job
    from contour_ai.training.memory import free_bytes

    device = choose_device(options.device)
    least = least_patients(config.data.min_patients, len(sources.own.patients))
    rois, rois_left_out = choose_rois(sources.counts(), config.data.rois, least)
    usable = _usable(config, sources, rois, run_dir, options, on_progress)
    split, prepared = _split(config, sources, usable)
    cases, settings = {label: one.case for label, one in prepared.items()}, usable.settings
    if config.preprocess.windows_hu is None:
        settings = replace(settings, windows_hu=plan_windows(list(cases.values())))
    network = plan_network(config.network, settings, len(rois))
    shapes = [case.hu.shape for case in cases.values()]
    fewest = fewest_samples(device, computed_in(config, device))
    plan = plan_input(config, rois, settings, network, shapes, device.type, free_bytes(device), fewest=fewest)
    resolved = _resolved(config, plan)
    learnt = [cases[label] for label in split.training]
    exclusive = None
    if config.loss.certain_negatives:
        exclusive = exclusive_pairs(learnt, plan.mirror, config.loss.may_overlap)
    drawn = [cases[p.label] for p in sources.patients if p.synthetic and p.label in cases]
    wanted = config.data.synthetic
    if wanted is not None and not wanted.label_maps:
        training = {prepared[label].key: prepared[label].case for label in split.training}
        drawn = draw_relatives(training, wanted, options.cache_dir or run_dir / "cache", on_progress)
    job = Job(
        config=resolved,
        plan=plan,
        training=[*learnt, *drawn],
        validation=[cases[label] for label in split.validation],
        run_dir=run_dir,
        device=device,
        fingerprint=_fingerprint(resolved, prepared),
        decided_by=_decided_by(resolved, prepared),
        resume=options.resume,
        started_from="" if options.init is None else f"{options.init.name} {options.init.version}",
        inference=_inference(config, plan),
        synthetic=len(drawn),
        exclusive=exclusive,
    )
    patients_left_out = {**sources.left_out, **usable.cases.left_out, **split.left_out}
    return PreparedJob(job, rois_left_out, patients_left_out)


def _inference(config: TrainConfig, plan: Plan) -> InferenceSettings:
    """In one piece where the memory allows, or always in windows of the samples' size."""
    most = 1 if config.model.windows else InferenceSettings.max_voxels
    return InferenceSettings(window_kij=plan.window_kij, max_voxels=most, mirror=config.model.mirror)


def _split(config: TrainConfig, sources: Sources, usable: _OnModelGrid) -> _SplitCases:
    """Who is trained on and who validates.

    Raises:
        InputError: no patient of the archive is left.
        ConfigError: the configuration's choice of validation patients does not fit the archive.
    """
    prepared = usable.cases.prepared
    own = [patient for patient in sources.own.patients if patient.label in prepared]
    ids = {p.label: p.patient_id for p in [*own, *sources.excluded]}
    excluded = {p.label: sources.left_out[p.label] for p in sources.excluded}
    split = split_patients(ids, held_out(config.data, own), usable.same, excluded)
    if not split.training:
        raise InputError(
            "No patient of the archive can be used for training; synthetic patients alone have nothing to validate on.",
            found=listed(
                f"{label}: {reason}" for label, reason in {**usable.cases.left_out, **split.left_out}.items()
            ),
            fix=f"look at {CHECK_FILE}; or write synthetic patients with `contour-ai synthesize`, and train on those",
        )
    return _SplitCases(split, {k: one for k, one in prepared.items() if k not in split.left_out})


def named_sources(
    config: TrainConfig, data_dir: Path, run_dir: Path, options: TrainOptions, on_progress: OnProgress
) -> Sources:
    """The patients of the archive with their ROIs named; what became of every name goes into `run_dir`.

    Raises:
        InputError: there is nothing to train on.
        ConfigError: names to decide that may be a ROI to learn.
        OutputError: `run_dir` cannot be written.
    """
    index = FileIndex((options.cache_dir or run_dir / "cache") / FileIndex.NAME)
    sources = find_sources(
        data_dir,
        options.roi_map,
        on_progress,
        wanted=config.data.rois,
        min_patients=config.data.min_patients,
        structure_set=config.data.structure_set,
        acquisition=config.data.acquisition,
        exclude=config.data.exclude,
        index=index,
    )
    private_folder(run_dir)
    index.save()
    refuse_strange_files(run_dir, (NAMES_FILE,))
    sources.naming.save(run_dir / NAMES_FILE)
    update_manifest(run_dir, NAMES_FILE, make="results")
    options.on_names(f"{sources.naming.described}; the list: {run_dir / NAMES_FILE}")
    return sources


def check_archive(
    config: TrainConfig,
    data_dir: Path,
    run_dir: Path,
    on_progress: OnProgress = no_progress,
    options: TrainOptions | None = None,
    *,
    report: bool = False,
) -> ArchiveCheck:
    """Only checks the archive: prepares the patients, as `train` would, and writes `run_dir`/archive-check.csv.

    Args:
        report: also write `run_dir`/archive-check.html, a page to look through what is suspicious.

    Raises:
        InputError: there is nothing to check.
        ConfigError: unmapped ROI names, values that do not fit the data.
        OutputError: `run_dir` cannot be written.
    """
    options = options or TrainOptions()
    sources = named_sources(config, data_dir, run_dir, options, on_progress)
    least = least_patients(config.data.min_patients, len(sources.patients))
    rois, _ = choose_rois(sources.counts(), config.data.rois, least)
    _, prepared, same = _prepare(config, sources, rois, run_dir, options, on_progress)
    check = check_cases(sources, prepared, same)
    check.save(run_dir / CHECK_FILE)
    if report:
        from contour_ai.pipeline.curation import write_page

        refuse_strange_files(run_dir, (CURATION_PAGE,))
        write_page(run_dir / CURATION_PAGE, data_dir, sources, prepared, check)
        update_manifest(run_dir, CURATION_PAGE, make="results")
    return check


def _usable(
    config: TrainConfig,
    sources: Sources,
    rois: tuple[str, ...],
    run_dir: Path,
    options: TrainOptions,
    on_progress: OnProgress,
) -> _OnModelGrid:
    """The patients on the model grid, checked, and groups of them with equal images; what was drawn is right, and
    nothing to compare patients with."""
    on_grid = _prepare(config, sources, rois, run_dir, options, on_progress)
    own = sources.own
    check = check_cases(own, on_grid.cases.of({patient.label for patient in own.patients}), on_grid.same)
    check.save(run_dir / CHECK_FILE)
    options.on_check(check)
    refuse_faults(check, run_dir, options)
    return on_grid._replace(cases=checked(sources, on_grid.cases, check))


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
            fix="correct them, list what is right under accepted in the ROI map, or leave them out: run again "
            "without --strict",
        )


def _prepare(
    config: TrainConfig,
    sources: Sources,
    rois: tuple[str, ...],
    run_dir: Path,
    options: TrainOptions,
    on_progress: OnProgress,
) -> _OnModelGrid:
    """The patients of `sources` on the model grid, and groups of labels with equal images, those excluded included."""
    fixed = config.preprocess.spacing_mm_kij is not None
    settings = plan_settings(config, [] if fixed else typical_grids(sources.own.patients, on_progress))
    cache = options.cache_dir or run_dir / "cache"
    every = prepare_cases((*sources.patients, *sources.excluded), rois, settings, cache, on_progress)
    same = same_images(every.cases)
    prepared = every.of({patient.label for patient in sources.patients})
    if config.data.blank_slices == "keep":
        prepared = prepared.with_blank_slices()
    return _OnModelGrid(settings, prepared, same)


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


def _with_floats(value: object) -> object:
    """The same with every number a float: a plan says -1000 where the file that it was written to says -1000.0."""
    if isinstance(value, Mapping):
        return {key: _with_floats(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_floats(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _fingerprint(config: TrainConfig, cases: Mapping[str, PreparedCase]) -> str:
    """Of all that decides what is learnt, besides how long."""
    keys = {label: (key, case.states) for label, (key, case) in cases.items()}
    text = json.dumps([_deciding_settings(config), sorted(keys.items())], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _decided_by(config: TrainConfig, cases: Mapping[str, PreparedCase]) -> dict[str, str]:
    """What the fingerprint is of, setting by setting and patient by patient: to say what changed."""
    settings = {
        f"{section}.{key}": json.dumps(value, sort_keys=True)
        for section, keys in _deciding_settings(config).items()
        for key, value in keys.items()
    }
    texts = {label: json.dumps([key, case.states], sort_keys=True) for label, (key, case) in cases.items()}
    hashes = {label: hashlib.sha256(text.encode()).hexdigest()[:16] for label, text in texts.items()}
    return {**settings, **{f"patient {label}": sha256 for label, sha256 in hashes.items()}}


def _deciding_settings(config: TrainConfig) -> dict[str, dict[str, object]]:
    mapping: dict[str, dict[str, object]] = to_mapping(config)
    del mapping["model"]["windows"]  # decides how the network is run, not what is learnt
    del mapping["data"]["public"]  # decides how patients are named, not what is learnt
    for key in ("structure_set", "acquisition", "exclude"):  # seen in the cases
        del mapping["data"][key]
    del mapping["second_reader"]  # has a training and a checkpoint of its own
    for key in ("validation_patients", "validation_from"):
        if mapping["data"][key] is None:  # as it was before there were such keys
            del mapping["data"][key]
    for section, value in vars(config).items():  # a run goes on though keys were renamed since it began
        for earlier, name in getattr(type(value), "RENAMED_KEYS", {}).items():
            mapping[section][earlier] = mapping[section].pop(name)
    mapping["run"] = {k: v for k, v in mapping["run"].items() if k not in DONE_KEYS}
    return {section: {k: _with_floats(v) for k, v in keys.items()} for section, keys in mapping.items()}
