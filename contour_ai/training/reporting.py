"""What a training tells: progress facts, TensorBoard, tables."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from contour_ai.files import private_folder
from contour_ai.training.clock import Clock
from contour_ai.training.job import Job, Progress
from contour_ai.training.memory import used_bytes
from contour_ai.training.validation import CurveWriter, Score

logger = logging.getLogger(__name__)


def score_facts(score: Score, at: Progress) -> dict[str, object]:
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


def progress_facts(
    job: Job, clock: Clock, at: Progress, device: torch.device, processes: int
) -> dict[str, object]:
    """What a person wants to know, the most important first: a narrow terminal shows the first of them."""
    facts: dict[str, object] = {
        "step": at.step,
        "epoch": f"{epochs_of(job, at, processes):.1f}",
        "left": duration(clock.left_s),
    }
    if at.scores:
        best = next((score for score in at.scores if score.step == at.best_step), at.scores[-1])
        facts["best Dice"] = f"{at.best:.3f} (step {at.best_step})"
        facts["reached"] = f"{duration(max(at.elapsed_s - best.elapsed_s, 0.0))} ago"
    facts["loss"] = f"{at.loss:.4f}"
    facts["steps/s"] = f"{1 / clock.seconds_per_step:.2f}" if clock.seconds_per_step else "-"
    memory = used_bytes(device)
    if memory is not None:
        facts["memory"] = f"{memory / 1e9:.2f} GB"
    return facts


def epochs_of(job: Job, at: Progress, processes: int = 1) -> float:
    """How often each training patient was shown, as a mean."""
    return at.step * job.plan.batch_size * processes / max(len(job.training), 1)


def duration(seconds: float) -> str:
    """A time for people."""
    minutes, hours = seconds / 60, seconds / 3600
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if hours < 2 else f"{hours:.1f} h"


def tensorboard_writer(run_dir: Path, step: int) -> CurveWriter:
    """TensorBoard's writer; without TensorBoard one that writes nothing. metrics.csv has the same figures."""
    try:
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import
    except ImportError:
        logger.warning(
            "TensorBoard is not installed: no tensorboard/ is written; metrics.csv has the same figures"
        )
        return NoWriter()

    private_folder(run_dir / "tensorboard")
    return SummaryWriter(str(run_dir / "tensorboard"), purge_step=step or None)


class NoWriter:
    """Writes nothing: for all processes but the first, and where TensorBoard is not installed."""

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Nothing."""

    def add_image(self, name: str, picture: NDArray[np.uint8], step: int, *, dataformats: str) -> None:
        """Nothing."""

    def flush(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""
