"""Saves a training so that it can go on as if nothing had happened, and goes on with it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

from contour_ai.errors import ModelError
from contour_ai.training import checkpoint
from contour_ai.training.checkpoint import RandomState, load_checkpoint, record_of
from contour_ai.training.job import Job, Progress
from contour_ai.training.step import Stepper, StepperState
from contour_ai.training.validation import Score

T = TypeVar("T")
logger = logging.getLogger(__name__)
NOT_SAVED = "mean"
"""Of `Progress`: it is made after the last step."""
RENAMED = {"filled_step": "pseudo_label_step", "filled": "pseudo_labels"}
"""{key in checkpoints of contour-ai 0.1: its name now}."""


@dataclass(frozen=True, kw_only=True)
class SavedTraining:
    """What `last.pt` holds: everything needed to go on as if nothing had happened.

    The file has the fields of all parts side by side. The sampler's position is the step.
    """

    fingerprint: str
    stepper: StepperState
    random: tuple[RandomState, ...]
    """One of each process."""
    progress: Progress

    def content(self) -> dict[str, object]:
        """As tensors and plain values."""
        progress = {key: value for key, value in vars(self.progress).items() if key != NOT_SAVED}
        return {
            "fingerprint": self.fingerprint,
            **vars(self.stepper),
            "random": [vars(state) for state in self.random],
            **progress,
            "scores": [vars(score) for score in self.progress.scores],
        }


@dataclass(frozen=True)
class _Head:
    """What belongs to no other part of the file."""

    fingerprint: str
    random: list[dict[str, object]]


def read_training(path: Path) -> SavedTraining:
    """A `last.pt`, of this version or an earlier one.

    Raises:
        ModelError: it is not there, cannot be read, or has unknown keys, values of other types, or not all it needs.
    """
    content = {RENAMED.get(key, key): value for key, value in load_checkpoint(path).items()}

    def part(cls: type[T]) -> T:
        names = [f.name for f in fields(cls) if f.name in content]  # type: ignore[arg-type]
        return record_of(cls, {name: content.pop(name) for name in names}, path)

    stepper, head = part(StepperState), part(_Head)
    content["scores"] = [record_of(Score, score, path) for score in content.get("scores", ())]
    return SavedTraining(
        fingerprint=head.fingerprint,
        stepper=stepper,
        random=tuple(record_of(RandomState, state, path) for state in head.random),
        progress=record_of(Progress, content, path),
    )


def save_training(job: Job, stepper: Stepper, at: Progress) -> None:
    """Writes `last.pt`, from which a training can go on, by the main process."""
    random = stepper.processes.gather(checkpoint.random_state())
    if not stepper.processes.is_main_process:
        return
    saved = SavedTraining(
        fingerprint=job.fingerprint, stepper=stepper.state(), random=tuple(random), progress=at
    )
    checkpoint.save_checkpoint(job.checkpoints / checkpoint.LAST, saved.content())
    checkpoint.remove_others(job.checkpoints, at.best_step)


def save_best(job: Job, stepper: Stepper, score: Score) -> None:
    """Writes the averaged weights of a validation, by the main process."""
    if stepper.processes.is_main_process:
        weights = stepper.average.network.state_dict()
        checkpoint.save_best(job.checkpoints, checkpoint.BestWeights(weights, score.step, score.mean))


def resume_training(job: Job, stepper: Stepper) -> Progress:
    """Brings network, optimiser and generators back to where the run folder's training stands, and gives its progress.

    Raises:
        ModelError: there is no checkpoint, it cannot be used, or it is of another training.
    """
    path, processes = job.checkpoints / checkpoint.LAST, stepper.processes
    saved = read_training(path)
    if saved.fingerprint != job.fingerprint:
        raise ModelError(
            "The checkpoint is of a training with other patients, ROIs or settings.",
            where=path,
            fix="give the same data as before, or start anew with another --out",
        )
    if processes.is_main_process:
        checkpoint.remove_others(job.checkpoints, saved.progress.best_step)
    stepper.restore(saved.stepper)
    if len(saved.random) == processes.size:
        checkpoint.restore_random_state(saved.random[processes.rank])
    else:
        logger.warning(
            "%d processes go on with a training of %d: from here on a step holds other samples.",
            processes.size,
            len(saved.random),
        )
    return saved.progress
