"""Trains the second reader of a model, after the first network, on the same patients with coarser voxels."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from contour_ai.bundle import InferenceSettings, ModelBundle, SecondReader
from contour_ai.network_config import LEVELS_OF_PRESET
from contour_ai.progress import OnProgress, ProgressEvent
from contour_ai.settings import to_mapping
from contour_ai.training.coarser_patients import coarser_cases
from contour_ai.training.config import (
    InputConfig,
    NetworkChoice,
    OptimiserConfig,
    ScheduleConfig,
    TrainConfig,
)
from contour_ai.training.plan import plan_input, plan_network

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from contour_ai.network import ResidualUNet3d
    from contour_ai.second_reading import SecondNetwork
    from contour_ai.training.distributed import Processes
    from contour_ai.training.job import Job, Progress

logger = logging.getLogger(__name__)
FOLDER = "second_reader"
"""In the run folder: its checkpoints, its figures, its patients."""
PATIENTS = "patients"
PRESET: Literal["resunet3d"] = "resunet3d"
FEWEST_READER_STEPS = 100
"""A training of fewer steps, or of less time than `FEWEST_READER_S`, is not begun: such a network knows nothing."""
FEWEST_READER_S = 10.0
LEAST_MEAN_DICE = 0.3
"""Mean over the ROIs in validation: a second reader that finds less is not kept."""
MOST_VALIDATED = 20
"""Patients that it is validated on, at most, evenly picked."""
CLOSING_S = 2.0
"""Of its time, kept for reading its patients back."""


@dataclass(frozen=True, eq=False)
class TrainedReader:
    """The second reader that a training ended with."""

    described: SecondReader
    weights: dict[str, Tensor]

    def on(self, device: torch.device, bundle: ModelBundle) -> SecondNetwork:
        """Ready to run, for the bundle that it becomes a part of."""
        from contour_ai.inference import autocast_dtype
        from contour_ai.network import build_network
        from contour_ai.second_reading import SecondNetwork

        network = build_network(self.described.network)
        network.load_state_dict(self.weights)
        return SecondNetwork(
            bundle=bundle,
            reader=self.described,
            network=network.eval().to(device),
            device=device,
            autocast=autocast_dtype(device),
        )


def budget_share(config: TrainConfig, budget_s: float | None) -> float:
    """Seconds of a time budget that the second reader gets; 0 without a budget, and where it would be too short."""
    if budget_s is None or not config.second_reader.enabled:
        return 0.0
    seconds = config.second_reader.budget_share * budget_s
    return seconds if seconds >= FEWEST_READER_S else 0.0


def train_second_reader(
    job: Job,
    processes: Processes,
    on_progress: OnProgress,
    *,
    started: float,
    whole_budget_s: float | None,
) -> TrainedReader | None:
    """The second reader of a model whose first network is trained; None where there is to be none.

    It is stopped, saved and resumed as the first one: where it has a checkpoint, it goes on.

    Args:
        job: of the first network.
        started: `time.monotonic` when the second reader's time began.
        whole_budget_s: the time budget of the whole training; None where steps count.

    Raises:
        TrainingStoppedError: it was asked to stop, and is saved.
    """
    wanted = job.config.second_reader
    seconds = budget_share(job.config, whole_budget_s)
    steps = second_steps(job.config)
    if not wanted.enabled or (seconds == 0.0 if whole_budget_s is not None else steps < FEWEST_READER_STEPS):
        return None
    second = processes.run_on_main(lambda: second_job(job, steps, on_progress))
    if whole_budget_s is not None and not second.resume:
        left_s = max(started + seconds - time.monotonic() - CLOSING_S, 1.0)
        second = replace(second, time_budget_s=left_s, whole_budget_s=whole_budget_s)
    return trained_reader(second, processes, on_progress)


def second_steps(config: TrainConfig) -> int:
    """How many steps it takes where no time budget counts."""
    return config.second_reader.steps or math.ceil(config.run.steps / 2)


def trained_reader(second: Job, processes: Processes, on_progress: OnProgress) -> TrainedReader | None:
    """Carries out a `second_job`; None where the network finds too little to be kept."""
    import torch

    from contour_ai.network import build_network
    from contour_ai.training.loop import train_network

    torch.manual_seed(second.config.run.seed)
    network = build_network(second.plan.network)
    second = replace(second, device=processes.device)
    weights, progress = train_network(second, network, _of_second(on_progress), processes)
    if processes.is_main_process:
        shutil.rmtree(second.run_dir / PATIENTS, ignore_errors=True)
    return _kept(second, network, weights, progress)


def second_job(job: Job, steps: int, on_progress: OnProgress) -> Job:
    """What is to be done, from what was done with the first network; its patients are written."""
    from contour_ai.training.arithmetic import computed_in, fewest_samples
    from contour_ai.training.checkpoint import LAST
    from contour_ai.training.memory import free_bytes

    config, wanted, main = job.config, job.config.second_reader, job.plan
    k, i, j = (round(s * wanted.coarser, 3) for s in main.settings.spacing_mm_kij)
    settings = replace(main.settings, spacing_mm_kij=(k, i, j))
    folder = job.run_dir / FOLDER
    picked = job.validation[:: -(-len(job.validation) // MOST_VALIDATED) or 1]
    cases = coarser_cases([*job.training, *picked], settings.spacing_mm_kij, folder / PATIENTS, on_progress)
    training, validation = cases[: len(job.training)], cases[len(job.training) :]
    patch = _patch(main.patch_kij, wanted.coarser)
    config = replace(
        config,
        data=replace(config.data, pseudo_label_from=None),
        preprocess=replace(config.preprocess, spacing_mm_kij=settings.spacing_mm_kij),
        network=NetworkChoice(name=PRESET, base_filters=wanted.base_filters),
        input=InputConfig(
            patch_kij=patch,
            batch_size=fewest_samples(job.device, computed_in(config, job.device)),
            foreground_fraction=config.input.foreground_fraction,
        ),
        optimiser=OptimiserConfig(),
        schedule=ScheduleConfig(),
        run=replace(
            config.run,
            steps=steps,
            validate_every=10**9,
            weights="best",
            seed=config.run.seed + 1,
            compile=False,
        ),
    )
    network = plan_network(config.network, settings, len(main.rois))
    shapes = [case.hu.shape for case in cases]
    plan = plan_input(config, main.rois, settings, network, shapes, job.device.type, free_bytes(job.device))
    plan = replace(plan, flip_pairs=main.flip_pairs)
    return replace(
        job,
        config=config,
        plan=plan,
        training=training,
        validation=validation,
        run_dir=folder,
        fingerprint=_fingerprint(job.fingerprint, config),
        decided_by={},
        time_budget_s=None,
        whole_budget_s=None,
        prepared_s=0.0,
        resume=(folder / "checkpoints" / LAST).is_file(),
        started_from="",
        inference=InferenceSettings(window_kij=plan.window_kij),
    )


def _patch(first_kij: Sequence[int], coarser: float) -> tuple[int, int, int]:
    """As much of the body as a sample of the first network shows, in voxels that the network divides."""
    multiple = 2 ** (LEVELS_OF_PRESET[PRESET] - 1)
    k, i, j = (max(1, math.ceil(n / coarser / multiple)) * multiple for n in first_kij)
    return k, i, j


def _fingerprint(first: str, config: TrainConfig) -> str:
    mapping = to_mapping(config)
    decides = [first, mapping["network"], mapping["preprocess"], mapping["run"]["seed"]]
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def _kept(
    second: Job, network: ResidualUNet3d, weights: dict[str, Tensor], progress: Progress
) -> TrainedReader | None:
    """The second reader as it goes into the bundle; None where it finds too little."""
    score = progress.shipped
    if score.mean < LEAST_MEAN_DICE:
        logger.warning(
            "The second reader is not kept: mean Dice %.2f in validation, expected at least %.2f.",
            score.mean,
            LEAST_MEAN_DICE,
        )
        return None
    described = SecondReader(
        spacing_mm_kij=second.plan.settings.spacing_mm_kij,
        network=network.config,
        seed=second.config.run.seed,
        steps=progress.step,
        hours=round(progress.elapsed_s / 3600, 3),
        patients=len(second.validation),
        dice={roi: round(value, 4) for roi, value in score.dice.items() if math.isfinite(value)},
    )
    return TrainedReader(described, weights)


def _of_second(on_progress: OnProgress) -> OnProgress:
    """Names the stages of the second training; its validation, of a network that contours nothing, is not shown."""

    def told(event: ProgressEvent) -> None:
        if event.stage != "validated":
            on_progress(replace(event, stage=f"second reader: {event.stage}"))

    return told
