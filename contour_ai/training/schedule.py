"""The learning rate as a function of how much of the training is done; no state, so resuming needs none."""

from __future__ import annotations

import math

from contour_ai.training.config import ScheduleConfig


def lr_factor(config: ScheduleConfig, progress: float, step: int) -> float:
    """Share of the highest learning rate to use.

    Args:
        config: the schedule.
        progress: how much of the training is done, 0 to 1: of the steps, or of the time budget.
        step: steps done, for the warm-up.
    """
    progress = min(max(progress, 0.0), 1.0)
    warmup = min((step + 1) / config.warmup_steps, 1.0) if config.warmup_steps else 1.0
    return warmup * _share(config, progress)


def _share(config: ScheduleConfig, progress: float) -> float:
    if config.name == "poly":
        return float((1 - progress) ** config.power)
    if config.name == "cosine":
        return _cosine(1.0, config.final_lr_factor, progress)
    if config.name == "one-cycle":
        if progress < config.warmup_fraction:
            return _cosine(config.start_lr_factor, 1.0, progress / config.warmup_fraction)
        return _cosine(
            1.0, config.final_lr_factor, (progress - config.warmup_fraction) / (1 - config.warmup_fraction)
        )
    if config.name == "multi-step":
        return float(config.factor ** sum(progress >= m for m in config.milestones))
    if config.name == "exponential":
        return float(config.final_lr_factor**progress)
    return 1.0


def _cosine(start: float, end: float, progress: float) -> float:
    """Half a cosine wave from `start` at 0 to `end` at 1."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
