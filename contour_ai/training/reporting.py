"""What a training tells: progress facts, TensorBoard, tables."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from contour_ai.files import private_folder
from contour_ai.training.clock import Clock
from contour_ai.training.job import Progress
from contour_ai.training.memory import used_bytes
from contour_ai.training.validation import Score

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


def progress_facts(clock: Clock, at: Progress, device: torch.device) -> dict[str, object]:
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


def tensorboard_writer(run_dir: Path, step: int) -> Any:
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

    def flush(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""
