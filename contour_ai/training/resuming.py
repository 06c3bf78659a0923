"""Saves a training so that it can go on as if nothing had happened, and goes on with it."""

from __future__ import annotations

import logging
from dataclasses import fields

from contour_ai.errors import ModelError
from contour_ai.training import checkpoint
from contour_ai.training.job import Job, Progress
from contour_ai.training.step import Stepper
from contour_ai.training.validation import Score

logger = logging.getLogger(__name__)
PLAIN = tuple(f.name for f in fields(Progress) if f.name not in ("scores", "mean"))
"""What a checkpoint holds of `Progress` as it is; `scores` it spells out, `mean` is made after the last one."""

RENAMED = {"filled_step": "pseudo_label_step", "filled": "pseudo_labels"}
"""{key in checkpoints of contour-ai 0.1: its name now}."""


def save_training(job: Job, stepper: Stepper, at: Progress) -> None:
    """Everything needed to go on as if nothing had happened; the sampler's position is the step."""
    random = stepper.processes.gather(checkpoint.random_state())
    if not stepper.processes.is_main_process:
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


def save_best(job: Job, stepper: Stepper, score: Score) -> None:
    if stepper.processes.is_main_process:
        best = {"model": stepper.average.network.state_dict(), "step": score.step, "dice": score.mean}
        checkpoint.save_checkpoint(checkpoint.best_path(job.checkpoints, score.step), best)


def resume_training(job: Job, stepper: Stepper) -> Progress:
    path, processes = job.checkpoints / checkpoint.LAST, stepper.processes
    saved = checkpoint.load_checkpoint(path)
    if saved["fingerprint"] != job.fingerprint:
        raise ModelError(
            "The checkpoint is of a training with other patients, ROIs or settings.",
            where=path,
            fix="give the same data as before, or start anew with another --out",
        )
    if processes.is_main_process:
        checkpoint.remove_others(job.checkpoints, saved["best_step"])
    stepper.restore(saved)
    saved = {RENAMED.get(key, key): value for key, value in saved.items()}
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
