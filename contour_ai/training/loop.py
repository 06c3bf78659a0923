"""The training loop: one that can be read from top to bottom."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from contour_ai.errors import ContourAIError, ModelError
from contour_ai.inference import autocast_dtype, memory_format
from contour_ai.network import ResidualUNet3d
from contour_ai.progress import OnProgress, ProgressEvent, no_progress
from contour_ai.training import checkpoint
from contour_ai.training.batches import BatchMaker
from contour_ai.training.cache import Case
from contour_ai.training.clock import Clock
from contour_ai.training.config import TrainConfig
from contour_ai.training.distributed import Processes
from contour_ai.training.filling import fill, filled_counts, load_filled
from contour_ai.training.memory import used_bytes
from contour_ai.training.plan import Plan
from contour_ai.training.schedule import rate_share
from contour_ai.training.step import Stepper
from contour_ai.training.validation import (
    FORWARD_SHARE,
    VALIDATION_FILE,
    Score,
    Windows,
    draw_worst,
    predicted,
    validate,
    write_metrics,
    write_patients,
    write_score,
)
from contour_ai.training.validation_figures import CaseFigures

logger = logging.getLogger(__name__)

LOOK_EVERY = 10
"""Steps between looks at the loss: each one waits for the GPU."""

LOOK_EVERY_S = 10.0
"""Longest time between looks, where steps are slow."""

SMOOTHING = 0.035
"""Weight of a new loss in the smoothed one, that of the last thirty or so."""


@dataclass(frozen=True)
class Job:
    """One training: what `train_network` needs besides the network."""

    config: TrainConfig
    plan: Plan
    training: Sequence[Case]
    validation: Sequence[Case]
    run_dir: Path
    device: torch.device
    fingerprint: str
    """Of the data and the plan: a checkpoint of another one is refused."""
    time_budget_s: float | None = None
    """End in this time from now on; None for the configured steps, or for what is left of a resumed run's budget."""
    resume: bool = False
    started_from: str = ""
    """Name and version of the model whose weights it began with; a resumed run knows them."""
    window_kij: tuple[int, int, int] = (96, 128, 128)
    """Sliding window of validation on bodies that do not fit."""
    overlap: float = 0.5
    max_voxels: int = 6_000_000
    exclusive: np.ndarray | None = None
    """(R, R) true for ROIs that never overlap, whose voxels are certain negatives for each other."""

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.run_dir / "checkpoints"

    @property
    def filled(self) -> Path:
        """Folder of what the network filled in."""
        return self.run_dir / "filled"

    @property
    def windows(self) -> Windows:
        """How validation runs the network."""
        return Windows(self.window_kij, self.overlap, self.max_voxels)


@dataclass
class Progress:
    """Everything about a training that changes, besides the tensors."""

    step: int = 0
    elapsed_s: float = 0.0
    done: float = 0.0
    """How much of the training, 0 to 1: of the steps, or of the time budget."""
    best: float = -1.0
    best_step: int = 0
    loss: float = math.nan
    """Smoothed."""
    budget_left_s: float | None = None
    """Of the time budget; None where there is none."""
    filled_step: int = 0
    """After which ROIs that were not contoured were filled in; 0 where they are not, or not yet."""
    filled: dict[str, int] = field(default_factory=dict)
    """{ROI: training patients in whom it was}."""
    started_from: str = ""
    scores: list[Score] = field(default_factory=list)
    mean: Score | None = None
    """Of the mean of the best and the last weights, where that is the model."""

    @property
    def shipped(self) -> Score:
        """The validation of the weights that become the model."""
        return self.mean or next(score for score in self.scores if score.step == self.best_step)

    @property
    def finished(self) -> bool:
        """Whether no step is to follow; with a budget there is at least one step."""
        return self.done >= 1.0 and self.step > 0


PLAIN = tuple(f.name for f in fields(Progress) if f.name not in ("scores", "mean"))
"""What a checkpoint holds of `Progress` as it is; `scores` it spells out, `mean` is made after the last one."""


def train_network(
    job: Job,
    network: ResidualUNet3d,
    on_progress: OnProgress = no_progress,
    processes: Processes | None = None,
) -> tuple[dict[str, torch.Tensor], Progress]:
    """Trains `network` in place.

    Args:
        job: what is to be done; the same in all processes.
        network: with the weights to start from.
        on_progress: stages "training" and "validation"; "validated" with the scores in its facts.
        processes: those that train together, each with `plan.batch_size` samples a step; None for this one alone.

    Returns:
        The weights that become the model, as `run.weights` says, and how it went.

    Raises:
        ContourAIError: the loss became NaN or infinite; the message names the patients of the batch. The device's
            memory is not enough for one sample.
        ModelError: the checkpoint to resume from is missing, damaged or of another training.
    """
    config = job.config
    processes = processes or Processes.only(job.device)
    precision = _start_torch(config, processes)
    order = memory_format(processes.device, precision)
    network.to(device=processes.device, memory_format=order)  # type: ignore[call-overload]
    stepper = Stepper(network, config, _batches(job, processes), job.exclusive, precision, processes)
    at = _resume(job, stepper) if job.resume else Progress(started_from=job.started_from)
    if at.filled_step:
        job = _with_training(job, stepper, load_filled(job.training, job.filled))
    stepper.begin()
    if not job.resume:
        _save(job, stepper, at)  # from here on a killed training can go on
    clock = _clock(job, at, processes.size)
    at.done = clock.done  # of the steps wanted now, where that is another number than before
    watch = LossWatch(at.loss)
    writer = _tensorboard(job.run_dir, at.step) if processes.is_first else _NoWriter()
    saved_s = time.monotonic()

    while not at.finished:
        if _is_time_to_fill(config, at):
            job = _with_training(job, stepper, _filled(job, stepper, on_progress))
            at.filled_step, at.filled = at.step, filled_counts(job.training)
            clock.paused()
        rate = config.optimiser.learning_rate * rate_share(config.schedule, at.done, at.step)
        loss, patient_ids = stepper.step(at.step, rate)
        watch.add(loss, patient_ids)
        clock.tick()
        overdue = time.monotonic() - saved_s > 60 * config.run.checkpoint_minutes
        at.done, save_now = processes.decide(clock.done, overdue)
        at.step, at.elapsed_s, at.budget_left_s = clock.step, clock.elapsed_s, clock.budget_left_s

        validate_now = at.finished or at.step % config.run.validate_every == 0
        if at.step % LOOK_EVERY == 0 or watch.waiting_s > LOOK_EVERY_S or validate_now or save_now:
            at.loss = watch.look(at.step)
            writer.add_scalar("loss", at.loss, at.step)
            writer.add_scalar("learning rate", rate, at.step)
            on_progress(ProgressEvent("training", at.done, 1.0, _facts(clock, at, processes.device)))
        if validate_now:
            figures = _validated(job, stepper, on_progress)
            score = Score.of(at.step, at.elapsed_s, at.loss, rate, job.plan.rois, figures)
            _draw_worst(job, stepper, score, writer)
            clock.validated()
            at.elapsed_s, at.budget_left_s = clock.elapsed_s, clock.budget_left_s
            at.scores.append(score)
            if score.mean > at.best:
                at.best, at.best_step = score.mean, at.step
                _save_best(job, stepper, score)
            write_score(writer, score)
            _write_scores(job, stepper, at)
            on_progress(ProgressEvent("validated", at.done, 1.0, _score_facts(score, at)))
        if validate_now or save_now:
            _save(job, stepper, at)
            saved_s = time.monotonic()

    writer.close()
    processes.decide(0.0)  # the first has written the best weights
    best = checkpoint.load_checkpoint(checkpoint.best_path(job.checkpoints, at.best_step))["model"]
    if config.run.weights == "best" or at.best_step == at.step:
        return best, at
    return _mean_with_last(job, stepper, best, at, on_progress), at


# -- looking at it ------------------------------------------------------------------------------------------


class LossWatch:
    """Collects losses without waiting for the GPU, and looks at them now and then."""

    def __init__(self, recent: float = math.nan) -> None:
        self.recent = recent
        self._looked_s = time.monotonic()
        self._losses: list[torch.Tensor] = []
        self._patients: list[tuple[str, ...]] = []

    def add(self, loss: torch.Tensor, patient_ids: tuple[str, ...]) -> None:
        """After every step."""
        self._losses.append(loss.detach())
        self._patients.append(patient_ids)

    @property
    def waiting_s(self) -> float:
        """Since the last look."""
        return time.monotonic() - self._looked_s

    def look(self, step: int) -> float:
        """Averages what was collected into `recent`, and gives that; the same whenever it is looked at.

        Raises:
            ContourAIError: a loss is not finite.
        """
        self._looked_s = time.monotonic()
        if not self._losses:
            return self.recent
        values = torch.stack(self._losses).tolist()
        for n, value in enumerate(values):
            number = step - len(values) + n + 1
            if not math.isfinite(value):
                raise ContourAIError(
                    "The training diverged: the loss is no longer a number.",
                    where=f"step {number}, patients {', '.join(self._patients[n])}",
                    found=value,
                    fix="check these patients (`contour-ai inspect`), or lower optimiser.learning_rate; "
                    "--resume goes on from the last checkpoint",
                )
            weight = max(SMOOTHING, 1 / number)
            self.recent = value if number == 1 else (1 - weight) * self.recent + weight * value
        self._losses, self._patients = [], []
        return self.recent


def _validated(job: Job, stepper: Stepper, on_progress: OnProgress) -> CaseFigures:
    """The figures of all validation patients, of which each process looks at some."""
    processes = stepper.processes
    processes.copy_buffers_of_first(stepper.average.network)
    mine = job.validation[processes.rank :: processes.size]
    found = validate(
        mine,
        job.plan.settings,
        stepper.average.network,
        processes.device,
        stepper.precision,
        job.windows,
        on_progress,
    )
    together = CaseFigures()
    for part in processes.gather(found):
        together.merge(part)
    together.patients = {case.patient_id: together.patients[case.patient_id] for case in job.validation}
    return together


def _mean_with_last(
    job: Job, stepper: Stepper, best: dict[str, torch.Tensor], at: Progress, on_progress: OnProgress
) -> dict[str, torch.Tensor]:
    """The mean of the best and the last averaged weights, validated into `at`."""
    network = stepper.average.network
    weights = {
        name: torch.lerp(best[name], last.cpu(), 0.5) if last.is_floating_point() else last.cpu()
        for name, last in network.state_dict().items()
    }
    network.load_state_dict(weights)
    at.mean = Score.of(
        at.step, at.elapsed_s, at.loss, 0.0, job.plan.rois, _validated(job, stepper, on_progress)
    )
    if stepper.processes.is_first:
        write_patients(job.run_dir / VALIDATION_FILE, at.mean)
    on_progress(ProgressEvent("validated", at.done, 1.0, _score_facts(at.mean, at)))
    return weights


def _is_time_to_fill(config: TrainConfig, at: Progress) -> bool:
    share = config.data.fill_at
    return share is not None and at.step > 0 and not at.filled_step and at.done >= share


def _filled(job: Job, stepper: Stepper, on_progress: OnProgress) -> list[Case]:
    """The training patients, filled in by the averaged network of the first process."""
    predict = _predictor(job, stepper)
    return stepper.processes.from_first(
        lambda: fill(job.training, predict, job.exclusive, job.filled, on_progress)
    )


def _with_training(job: Job, stepper: Stepper, training: Sequence[Case]) -> Job:
    """Goes on with these training patients."""
    job = replace(job, training=training)
    stepper.batches.patients.leave()
    stepper.batches = _batches(job, stepper.processes)
    return job


def _predictor(job: Job, stepper: Stepper) -> Callable[[Case], NDArray[np.float32]]:
    """What gives the averaged network's logits of a patient."""
    network, device, precision = stepper.average.network, stepper.processes.device, stepper.precision
    return lambda case: predicted(case, job.plan.settings, network, device, precision, job.windows)


def _draw_worst(job: Job, stepper: Stepper, score: Score, writer: Any) -> None:
    if stepper.processes.is_first:
        draw_worst(job.run_dir / "worst", writer, score, job.validation, _predictor(job, stepper))


def _write_scores(job: Job, stepper: Stepper, at: Progress) -> None:
    score = at.scores[-1]
    logger.info("step %d: loss %.4f, mean Dice %.4f", at.step, score.loss, score.mean)
    if stepper.processes.is_first:
        write_metrics(job.run_dir / "metrics.csv", job.plan.rois, at.scores)
        if score.step == at.best_step:
            write_patients(job.run_dir / VALIDATION_FILE, score)


def _score_facts(score: Score, at: Progress) -> dict[str, object]:
    return {
        "step": score.step,
        "loss": score.loss,
        "mean Dice": score.mean,
        "best": at.best,
        "best step": at.best_step,
        "Dice": dict(score.dice),
        "surface Dice": dict(score.surface_dice),
        "HD95 mm": dict(score.hd95_mm),
    }


def _facts(clock: Clock, at: Progress, device: torch.device) -> dict[str, object]:
    facts: dict[str, object] = {
        "step": at.step,
        "loss": f"{at.loss:.4f}",
        "steps/s": f"{1 / clock.seconds_per_step:.2f}" if clock.seconds_per_step else "-",
        "left": _duration(clock.left_s),
    }
    memory = used_bytes(device)
    if memory is not None:
        facts["memory"] = f"{memory / 1e9:.2f} GB"
    if at.scores:
        facts["Dice"] = f"{at.scores[-1].mean:.3f} (best {at.best:.3f})"
    return facts


def _duration(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if hours < 2 else f"{hours:.1f} h"


def _tensorboard(run_dir: Path, step: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter  # takes a second to import

    return SummaryWriter(str(run_dir / "tensorboard"), purge_step=step or None)


class _NoWriter:
    """Curves are written by the first process alone."""

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Nothing."""

    def flush(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


# -- starting and going on ----------------------------------------------------------------------------------


def _start_torch(config: TrainConfig, processes: Processes) -> torch.dtype | None:
    """Sets threads and number formats; gives what the network computes in, None for fp32."""
    torch.set_flush_denormal(True)  # a vanishing gradient must not slow the CPU down a hundredfold
    if config.run.threads is not None:
        torch.set_num_threads(config.run.threads)
    if processes.device.type == "cuda":
        torch.backends.cudnn.benchmark = True
    torch.manual_seed(config.run.seed + processes.rank)  # dropout differs between processes
    if config.run.precision == "fp32":
        return None
    return torch.bfloat16 if config.run.precision == "bf16" else autocast_dtype(processes.device)


def _batches(job: Job, processes: Processes) -> BatchMaker:
    return BatchMaker(
        job.training,
        job.plan.settings,
        patch_kij=job.plan.patch_kij,
        batch_size=job.plan.batch_size,
        roi_share=job.config.input.roi_share,
        augmentation=job.config.augmentation,
        mirror=job.plan.mirror,
        seed=job.config.run.seed,
        device=processes.device,
        process=(processes.rank, processes.size),
    )


def _clock(job: Job, at: Progress, processes: int) -> Clock:
    """A clock that goes on from where the training stands."""
    step_voxels = math.prod(job.plan.patch_kij) * job.plan.batch_size * processes
    validation_steps = FORWARD_SHARE * sum(map(job.windows.voxels, job.validation)) / step_voxels
    return Clock(
        job.config.run.steps,
        at.budget_left_s if job.time_budget_s is None else job.time_budget_s,
        step=at.step,
        elapsed_s=at.elapsed_s,
        done=at.done,
        validation_steps=validation_steps,
    )


def _save(job: Job, stepper: Stepper, at: Progress) -> None:
    """Everything needed to go on as if nothing had happened; the sampler's position is the step."""
    random = stepper.processes.gather(checkpoint.random_state())
    if not stepper.processes.is_first:
        return
    content = {
        "fingerprint": job.fingerprint,
        **stepper.state(),
        "random": random,
        **{key: getattr(at, key) for key in PLAIN},
        "scores": [vars(score) for score in at.scores],
    }
    checkpoint.save_checkpoint(job.checkpoints / checkpoint.LAST, content)
    checkpoint.remove_others(job.checkpoints, at.best_step)


def _save_best(job: Job, stepper: Stepper, score: Score) -> None:
    if stepper.processes.is_first:
        best = {"model": stepper.average.network.state_dict(), "step": score.step, "dice": score.mean}
        checkpoint.save_checkpoint(checkpoint.best_path(job.checkpoints, score.step), best)


def _resume(job: Job, stepper: Stepper) -> Progress:
    path, processes = job.checkpoints / checkpoint.LAST, stepper.processes
    saved = checkpoint.load_checkpoint(path)
    if saved["fingerprint"] != job.fingerprint:
        raise ModelError(
            "The checkpoint is of a training with other patients, ROIs or settings.",
            where=path,
            fix="give the same data as before, or start anew with another --out",
        )
    if processes.is_first:
        checkpoint.remove_others(job.checkpoints, saved["best_step"])
    stepper.restore(saved)
    if len(saved["random"]) == processes.size:
        checkpoint.restore_random_state(saved["random"][processes.rank])
    else:
        logger.warning(
            "%d processes go on with a training of %d: from here on a step holds other samples.",
            processes.size,
            len(saved["random"]),
        )
    scores = [Score(**score) for score in saved["scores"]]
    return Progress(**{key: saved[key] for key in PLAIN if key in saved}, scores=scores)
