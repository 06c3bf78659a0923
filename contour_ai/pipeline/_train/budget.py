"""Measures the machine and some patients, and fits the plan of a training to its time budget."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from contour_ai.dicom.ct import read_ct
from contour_ai.errors import InputError, UnforeseenError
from contour_ai.faults import patient_boundary
from contour_ai.pipeline._train.options import TrainOptions
from contour_ai.pipeline._train.second_reader import budget_share
from contour_ai.pipeline.archive import PatientSource, Sources, choose_rois, typical_grids
from contour_ai.pipeline.naming import least_patients
from contour_ai.preprocess import body_mask, prepare
from contour_ai.progress import OnProgress, ProgressEvent
from contour_ai.training.budget import BudgetPlan, Machine, filters_to_try, fitted
from contour_ai.training.config import TrainConfig
from contour_ai.training.plan import plan_network, plan_settings

PATIENTS_MEASURED = 3
"""Bodies that are measured, and timed: from them the time of preparing all patients is known."""
MEASURED_VOXEL_MM = 8.0
"""Voxel size for measuring bodies."""
KEPT_FRACTION = 0.05
"""Of the budget, for choosing rules and writing the model."""


def plan_for_budget(
    config: TrainConfig,
    sources: Sources,
    options: TrainOptions,
    on_progress: OnProgress,
    *,
    started: float,
    prepared: bool,
) -> BudgetPlan | None:
    """The configuration with voxel size, samples a step and filters that fit the time; None where nothing is measured.

    Args:
        started: `time.monotonic` of the beginning of the run.
        prepared: whether the patients lie in the cache already.
    """
    from contour_ai.inference import choose_device
    from contour_ai.training.arithmetic import computed_in, fewest_samples
    from contour_ai.training.step_time import seconds_per_voxel

    if options.time_budget_s is None:
        return None
    device = choose_device(options.device)
    precision = computed_in(config, device)
    on_progress(ProgressEvent(stage="measuring this machine", done=0, total=1))
    fixed_size = config.preprocess.spacing_mm_kij is not None
    settings = plan_settings(config, [] if fixed_size else typical_grids(sources.own.patients, on_progress))
    # Where the sample is fixed, bodies decide nothing, and preparation of so small patients is quick.
    fixed = config.input.patch_kij is not None and fixed_size
    sizes, seconds = ([(MEASURED_VOXEL_MM,) * 3], 0.0) if fixed else _bodies(sources.own.patients, config)
    least = least_patients(config.data.min_patients, len(sources.own.patients))
    rois, _ = choose_rois(sources.counts(), config.data.rois, least)
    per_voxel = {}
    for filters in filters_to_try(config.network) if options.init is None else (config.network.base_filters,):
        network = plan_network(replace(config.network, base_filters=filters), settings, len(rois))
        per_voxel[filters] = seconds_per_voxel(network, device, precision, config.input.patch_kij)
    on_progress(ProgressEvent(stage="measuring this machine", done=1, total=1))
    spent = time.monotonic() - started + (0.0 if prepared else seconds * len(sources.patients))
    left_s = (1 - KEPT_FRACTION) * options.time_budget_s - spent
    left_s -= budget_share(config, options.time_budget_s)
    return fitted(
        config,
        settings.spacing_mm_kij,
        sizes,
        len(sources.own.patients),
        Machine(
            seconds_per_voxel=per_voxel,
            left_s=left_s,
            device_type=device.type,
            fewest_samples=fewest_samples(device, precision),
        ),
        spacing_is_open=config.preprocess.spacing_mm_kij is None and options.init is None,
        filters_are_open=options.init is None,
    )


def steps_in_words(plan: BudgetPlan, training: int, budget_s: float, started: float) -> str:
    """Planned steps, epochs and the end, for people."""
    batch = plan.config.input.batch_size or 1
    epochs = plan.steps * batch / max(training, 1)
    end = datetime.now().astimezone() + timedelta(seconds=started + budget_s - time.monotonic())
    return (
        f"about {plan.steps} of {_in_words(plan.seconds_per_step)}, {epochs:.1f} epochs of {training} patients; "
        f"ends at {end:%H:%M:%S}"
    )


def shortage(plan: BudgetPlan) -> str:
    """What to say where the time is too short for the patients; empty where it is not."""
    if plan.steps >= plan.wanted:
        return ""
    longer = plan.wanted / plan.steps
    return (
        f"the time is short: {plan.wanted} steps would be needed even with the coarsest voxels, {longer:.1f} times as "
        "many as fit; expect a poor model, or give a longer --time-budget"
    )


def _in_words(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"


def _bodies(patients: Sequence[PatientSource], config: TrainConfig) -> tuple[list[tuple[float, ...]], float]:
    """Sizes (k, i, j) of some bodies in mm, and the seconds that preparing a patient takes.

    Raises:
        InputError: no CT can be read.
    """
    coarse = replace(config, preprocess=replace(config.preprocess, spacing_mm_kij=(MEASURED_VOXEL_MM,) * 3))
    settings = plan_settings(coarse, [])
    sizes: list[tuple[float, ...]] = []
    times: list[float] = []
    step = max(1, len(patients) // PATIENTS_MEASURED)
    for patient in patients[::step]:
        if len(sizes) == PATIENTS_MEASURED:
            break
        began = time.monotonic()
        try:
            with patient_boundary(f"measuring patient {patient.label}"):
                volume = read_ct(patient.files.ct).volume
                assert volume is not None
                body = body_mask(volume, settings.body_threshold_hu)
                shape = prepare(volume, settings, body=body).grid.shape_kij
        except (InputError, UnforeseenError):
            continue
        times.append(time.monotonic() - began)
        sizes.append(tuple(float(n) * MEASURED_VOXEL_MM for n in shape))
    if not sizes:
        raise InputError("No CT of the archive can be read.", fix="`contour-ai inspect` says why")
    return sizes, math.fsum(times) / len(times)
