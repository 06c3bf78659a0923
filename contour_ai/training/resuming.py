"""Saves a training so that it can be resumed as if it had not been interrupted, and resumes it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
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
MOST_NAMED, LONGEST_VALUE = 6, 40
"""Changes that a refusal names, and characters of a value that it shows."""
RENAMED = {"filled_step": "pseudo_label_step", "filled": "pseudo_labels"}
"""{key in checkpoints of contour-ai 0.1: its name now}."""


@dataclass(frozen=True, kw_only=True)
class SavedTraining:
    """What `last.pt` holds: everything needed to go on as if nothing had happened.

    The file has the fields of all parts side by side. The sampler's position is the step.
    """

    fingerprint: str
    decided_by: Mapping[str, str]
    """As `Job.decided_by`; empty in earlier checkpoints."""
    stepper: StepperState
    random: tuple[RandomState, ...]
    """One of each process."""
    progress: Progress

    def content(self) -> dict[str, object]:
        """As tensors and plain values."""
        progress = {key: value for key, value in vars(self.progress).items() if key != NOT_SAVED}
        return {
            "fingerprint": self.fingerprint,
            "decided_by": dict(self.decided_by),
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
    decided_by: dict[str, str] = field(default_factory=dict)


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
    scores = content.get("scores", ())
    if isinstance(scores, (list, tuple)):
        content["scores"] = [record_of(Score, score, path) for score in scores]
    return SavedTraining(
        fingerprint=head.fingerprint,
        decided_by=head.decided_by,
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
        fingerprint=job.fingerprint,
        decided_by=job.decided_by,
        stepper=stepper.state(),
        random=tuple(random),
        progress=at,
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
            found=_changed(saved.decided_by, job.decided_by) or None,
            fix="give the same data as before and undo what was changed in config.yaml of the run, or start anew "
            "with another --out",
        )
    if processes.is_main_process:
        checkpoint.remove_others(job.checkpoints, saved.progress.best_step)
    stepper.restore(saved.stepper)
    if len(saved.random) == processes.size:
        checkpoint.restore_random_state(saved.random[processes.rank])
    else:
        logger.warning(
            "%d processes resume a training of %d: from here on a step holds other samples.",
            processes.size,
            len(saved.random),
        )
    return saved.progress


def _changed(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What decides a training and is not as it was; empty where the checkpoint does not say."""
    if not before or not now:
        return ""
    texts = []
    for key in sorted({*before, *now}):
        if key not in now:
            texts.append(f"{key} is gone")
        elif key not in before:
            texts.append(f"{key} is new")
        elif before[key] != now[key]:
            is_value = (
                not key.startswith("patient ") and max(len(before[key]), len(now[key])) <= LONGEST_VALUE
            )
            texts.append(f"{key} is {now[key]}, was {before[key]}" if is_value else f"{key} has changed")
    return "; ".join(texts[:MOST_NAMED]) + (
        f"; and {len(texts) - MOST_NAMED} more" if len(texts) > MOST_NAMED else ""
    )
