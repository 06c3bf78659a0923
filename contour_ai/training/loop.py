"""The training loop: one that can be read from top to bottom, and what it looks at on the way."""

from __future__ import annotations

import csv
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from contour_ai.errors import ContourAIError, ModelError
from contour_ai.files import atomic_file
from contour_ai.inference import autocast_dtype, predict_logits
from contour_ai.losses import masked_loss
from contour_ai.network import ResidualUNet3d
from contour_ai.preprocess import image_channels
from contour_ai.progress import OnProgress, ProgressEvent, no_progress
from contour_ai.training import checkpoint
from contour_ai.training.batches import BatchMaker
from contour_ai.training.cache import Case
from contour_ai.training.config import TrainConfig
from contour_ai.training.memory import used_bytes
from contour_ai.training.optimiser import MovingAverage, build_optimiser, clip, set_rate
from contour_ai.training.plan import Plan
from contour_ai.training.schedule import rate_share

logger = logging.getLogger(__name__)

LOOK_EVERY = 10
"""Steps between looks at the loss: each one waits for the GPU."""

FINISH_S = 5.0
"""Time kept from a budget for writing the bundle."""


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
    resume: bool = False
    window_kij: tuple[int, int, int] = (96, 128, 128)
    """Sliding window of validation on bodies that do not fit."""
    overlap: float = 0.5
    max_voxels: int = 6_000_000


@dataclass(frozen=True)
class Score:
    """A validation on whole patients."""

    step: int
    elapsed_s: float
    loss: float
    rate: float
    dice: Mapping[str, float]
    """Mean over the patients that have the ROI; NaN where none has."""
    patients: Mapping[str, Mapping[str, float]]
    """{patient ID: {ROI: Dice}}."""

    @classmethod
    def of(
        cls,
        step: int,
        elapsed_s: float,
        loss: float,
        rate: float,
        rois: Sequence[str],
        patients: Mapping[str, Mapping[str, float]],
    ) -> Score:
        """Averages the patients' scores."""
        dice = {}
        for roi in rois:
            values = [p[roi] for p in patients.values() if roi in p]
            dice[roi] = float(np.mean(values)) if values else math.nan
        return cls(step, elapsed_s, loss, rate, dice, patients)

    @property
    def mean(self) -> float:
        """Mean over the ROIs that could be scored; 0 where none could."""
        values = [v for v in self.dice.values() if not math.isnan(v)]
        return float(np.mean(values)) if values else 0.0


@dataclass
class Progress:
    """Everything about a training that changes, besides the tensors."""

    step: int = 0
    elapsed_s: float = 0.0
    best: float = -1.0
    best_step: int = 0
    loss: float = math.nan
    """Smoothed."""
    scores: list[Score] = field(default_factory=list)


def train_network(
    job: Job, network: ResidualUNet3d, on_progress: OnProgress = no_progress
) -> tuple[dict[str, torch.Tensor], Progress]:
    """Trains `network` in place.

    Returns:
        The best weights by validation Dice, and how it went.

    Raises:
        ContourAIError: the loss became NaN or infinite; the message names the patients of the batch.
        ModelError: the checkpoint to resume from is missing, damaged or of another training.
    """
    config, plan, device = job.config, job.plan, job.device
    precision = _start_torch(config, device)
    network.to(device=device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    average = MovingAverage(network, config.optimiser.ema_decay)
    optimiser = build_optimiser(network, config.optimiser)
    batches = BatchMaker(
        job.training,
        plan.settings,
        patch_kij=plan.patch_kij,
        batch_size=plan.batch_size,
        roi_share=config.input.roi_share,
        augmentation=config.augmentation,
        mirror=plan.mirror,
        seed=config.run.seed,
        device=device,
    )
    at = Progress()
    if job.resume:
        at = _resume(job, network, average, optimiser)
    clock = Clock(config.run.steps, job.time_budget_s, at)
    watch = LossWatch(at.loss)
    writer = _tensorboard(job.run_dir, at.step)
    saved_s = time.monotonic()

    while not clock.finished:
        network.train()
        rate = config.optimiser.learning_rate * rate_share(config.schedule, clock.progress, at.step)
        set_rate(optimiser, rate)
        batch = batches.batch(at.step)
        with torch.autocast(device.type, dtype=precision, enabled=precision is not None):
            logits = network(batch.images)
        loss = masked_loss(
            logits,
            batch.targets,
            batch.states,
            dice_weight=config.loss.dice_weight,
            bce_weight=config.loss.bce_weight,
        )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        clip(network, config.optimiser)
        optimiser.step()
        average.update(network, at.step)
        watch.add(loss, batch.patient_ids)
        at.step += 1
        clock.tick()

        if at.step % LOOK_EVERY == 0 or clock.finished or at.step % config.run.validate_every == 0:
            at.loss = watch.look(at.step)
            writer.add_scalar("loss", watch.recent, at.step)
            writer.add_scalar("learning rate", rate, at.step)
            on_progress(ProgressEvent("training", clock.progress, 1.0, _facts(watch, clock, at, device)))
        if clock.finished or at.step % config.run.validate_every == 0:
            patients = validate(job, average.network, precision, on_progress)
            score = Score.of(at.step, at.elapsed_s, watch.recent, rate, plan.rois, patients)
            clock.validated()
            logger.info("step %d: loss %.4f, mean Dice %.4f", at.step, watch.recent, score.mean)
            at.scores.append(score)
            _write_score(writer, score)
            write_metrics(job.run_dir / "metrics.csv", plan.rois, at.scores)
            if score.mean > at.best:
                at.best, at.best_step = score.mean, at.step
                best = {"model": average.network.state_dict(), "step": at.step, "dice": score.mean}
                checkpoint.save_checkpoint(job.run_dir / "checkpoints" / checkpoint.BEST, best)
            _save(job, network, average, optimiser, at)
            saved_s = time.monotonic()
        elif time.monotonic() - saved_s > 60 * config.run.checkpoint_minutes:
            at.loss = watch.look(at.step)
            _save(job, network, average, optimiser, at)
            saved_s = time.monotonic()

    writer.close()
    return checkpoint.load_checkpoint(job.run_dir / "checkpoints" / checkpoint.BEST)["model"], at


# -- looking at it ------------------------------------------------------------------------------------------


class Clock:
    """How much of the training is done: in steps, or in time where there is a budget."""

    def __init__(self, steps: int, budget_s: float | None, at: Progress) -> None:
        self.steps, self.budget_s, self.at = steps, budget_s, at
        self._started = time.monotonic() - at.elapsed_s
        self._first_step = at.step
        self._training_s = 0.0
        self._last = time.monotonic()
        self._validation_s: float | None = None

    def tick(self) -> None:
        """After every step."""
        now = time.monotonic()
        self._training_s += now - self._last
        self._last = now
        self.at.elapsed_s = now - self._started

    def validated(self) -> None:
        """After every validation."""
        now = time.monotonic()
        self._validation_s = now - self._last
        self._last = now
        self.at.elapsed_s = now - self._started

    @property
    def progress(self) -> float:
        """0 to 1."""
        if self.budget_s is None:
            return min(self.at.step / self.steps, 1.0)
        # Before the first validation one is taken to last as long as ten steps.
        finish_s = (
            10 * self.seconds_per_step if self._validation_s is None else 1.2 * self._validation_s
        ) + FINISH_S
        return min(self.at.elapsed_s / max(self.budget_s - finish_s, 1e-9), 1.0)

    @property
    def finished(self) -> bool:
        """Whether no step is to follow; with a budget there is at least one step."""
        return self.progress >= 1.0 and self.at.step > 0

    @property
    def seconds_per_step(self) -> float:
        """Since this process began, validation left out."""
        return self._training_s / max(self.at.step - self._first_step, 1)

    @property
    def left_s(self) -> float:
        """Until the last step, validation left out."""
        if self.budget_s is not None:
            return max(self.budget_s - self.at.elapsed_s, 0.0)
        return (self.steps - self.at.step) * self.seconds_per_step


class LossWatch:
    """Collects losses without waiting for the GPU, and looks at them now and then."""

    def __init__(self, recent: float = math.nan) -> None:
        self.recent = recent
        self._losses: list[torch.Tensor] = []
        self._patients: list[tuple[str, ...]] = []

    def add(self, loss: torch.Tensor, patient_ids: tuple[str, ...]) -> None:
        """After every step."""
        self._losses.append(loss.detach())
        self._patients.append(patient_ids)

    def look(self, step: int) -> float:
        """Averages what was collected into `recent`, and gives that.

        Raises:
            ContourAIError: a loss is not finite.
        """
        if not self._losses:
            return self.recent
        values = torch.stack(self._losses).tolist()
        for n, value in enumerate(values):
            if not math.isfinite(value):
                raise ContourAIError(
                    "The training diverged: the loss is no longer a number.",
                    where=f"step {step - len(values) + n + 1}, patients {', '.join(self._patients[n])}",
                    found=value,
                    fix="check these patients (`contour-ai inspect`), or lower optimiser.learning_rate; "
                    "--resume goes on from the last checkpoint",
                )
        mean = float(np.mean(values))
        self.recent = mean if math.isnan(self.recent) else 0.7 * self.recent + 0.3 * mean
        self._losses, self._patients = [], []
        return self.recent


def validate(
    job: Job, network: ResidualUNet3d, precision: torch.dtype | None, on_progress: OnProgress = no_progress
) -> dict[str, dict[str, float]]:
    """{patient: {ROI: Dice}} of the validation patients, whole, on the model grid, by the predictor itself."""
    patients: dict[str, dict[str, float]] = {}
    for n, case in enumerate(job.validation):
        on_progress(ProgressEvent("validation", n, len(job.validation), {"patient": case.patient_id}))
        logits = predict_logits(
            network,
            torch.from_numpy(image_channels(case.hu, job.plan.settings)),
            window_kij=job.window_kij,
            overlap=job.overlap,
            max_voxels=job.max_voxels,
            device=job.device,
            autocast=precision,
        )
        patients[case.patient_id] = case_dice(logits.numpy() > 0, case)
    on_progress(ProgressEvent("validation", len(job.validation), len(job.validation)))
    return patients


def case_dice(predicted: np.ndarray, case: Case) -> dict[str, float]:
    """{ROI: Dice} of the ROIs contoured in a patient; `predicted` (R, k, i, j) bool. Both empty: left out."""
    dice, bits = {}, case.bits
    for r, roi in enumerate(case.rois):
        if not case.presence[r]:
            continue
        truth = (bits & bits.dtype.type(1 << r)) != 0
        both = int(truth.sum()) + int(predicted[r].sum())
        if both:
            dice[roi] = 2 * int((truth & predicted[r]).sum()) / both
    return dice


def write_metrics(path: Path, rois: Sequence[str], scores: Sequence[Score]) -> None:
    """`metrics.csv`: one row a validation."""
    with (
        atomic_file(path, overwrite=True) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        table = csv.writer(file)
        table.writerow(
            ["step", "elapsed_s", "loss", "learning_rate", "mean_dice", *(f"dice {r}" for r in rois)]
        )
        for s in scores:
            values = ["" if math.isnan(s.dice[r]) else f"{s.dice[r]:.4f}" for r in rois]
            table.writerow(
                [s.step, f"{s.elapsed_s:.1f}", f"{s.loss:.5f}", f"{s.rate:.3e}", f"{s.mean:.4f}", *values]
            )


def _write_score(writer: Any, score: Score) -> None:
    writer.add_scalar("Dice/mean", score.mean, score.step)
    for roi, value in score.dice.items():
        if not math.isnan(value):
            writer.add_scalar(f"Dice/{roi}", value, score.step)
    writer.flush()


def _facts(watch: LossWatch, clock: Clock, at: Progress, device: torch.device) -> dict[str, object]:
    facts: dict[str, object] = {
        "step": at.step,
        "loss": f"{watch.recent:.4f}",
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


# -- starting and going on ----------------------------------------------------------------------------------


def _start_torch(config: TrainConfig, device: torch.device) -> torch.dtype | None:
    """Sets threads and number formats; gives what the network computes in, None for fp32."""
    torch.set_flush_denormal(True)  # a vanishing gradient must not slow the CPU down a hundredfold
    if config.run.threads is not None:
        torch.set_num_threads(config.run.threads)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
    torch.manual_seed(config.run.seed)
    if config.run.precision == "fp32":
        return None
    return torch.bfloat16 if config.run.precision == "bf16" else autocast_dtype(device)


def _save(
    job: Job,
    network: ResidualUNet3d,
    average: MovingAverage,
    optimiser: torch.optim.Optimizer,
    at: Progress,
) -> None:
    """Everything needed to go on as if nothing had happened; the sampler's position is the step."""
    content = {
        "fingerprint": job.fingerprint,
        "model": network.state_dict(),
        "average": average.network.state_dict(),
        "optimiser": optimiser.state_dict(),
        "random": checkpoint.random_state(),
        "step": at.step,
        "elapsed_s": at.elapsed_s,
        "best": at.best,
        "best_step": at.best_step,
        "loss": at.loss,
        "scores": [vars(score) for score in at.scores],
    }
    checkpoint.save_checkpoint(job.run_dir / "checkpoints" / checkpoint.LAST, content)


def _resume(
    job: Job, network: ResidualUNet3d, average: MovingAverage, optimiser: torch.optim.Optimizer
) -> Progress:
    path = job.run_dir / "checkpoints" / checkpoint.LAST
    for left_behind in path.parent.glob(".tmp-*"):  # by a process that was killed while it wrote
        left_behind.unlink()
    saved = checkpoint.load_checkpoint(path)
    if saved["fingerprint"] != job.fingerprint:
        raise ModelError(
            "The checkpoint is of a training with other patients, ROIs or settings.",
            where=path,
            fix="give the same data as before, or start anew with another --out",
        )
    network.load_state_dict(saved["model"])
    average.network.load_state_dict(saved["average"])
    optimiser.load_state_dict(saved["optimiser"])
    checkpoint.restore_random_state(saved["random"])
    scores = [Score(**score) for score in saved["scores"]]
    return Progress(
        saved["step"], saved["elapsed_s"], saved["best"], saved["best_step"], saved["loss"], scores
    )
