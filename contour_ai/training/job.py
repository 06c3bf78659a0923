"""What a training is to do, and how far it has come."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from contour_ai.bundle import InferenceSettings
from contour_ai.training.cache import Case
from contour_ai.training.config import TrainConfig
from contour_ai.training.plan import Plan
from contour_ai.training.synthetic import SyntheticPart
from contour_ai.training.validation import Score


@dataclass(frozen=True, kw_only=True)
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
    decided_by: Mapping[str, str] = field(default_factory=dict)
    """{setting or patient: its value} of all that the fingerprint is of, as text; empty where nobody can say."""
    time_budget_s: float | None = None
    """End in this time from now on; None for the configured steps, or for what is left of a resumed run's budget."""
    whole_budget_s: float | None = None
    """The time budget as it was given, preparation and the end included."""
    prepared_s: float = 0.0
    """How long preparation took: taken from what is left of a resumed run's budget."""
    resume: bool = False
    started_from: str = ""
    """Name and version of the model whose weights it began with; a resumed run knows them."""
    inference: InferenceSettings = field(default_factory=InferenceSettings)
    """How validation runs the network, and the model will be run."""
    synthetic: int = 0
    """So many of the training patients, the last ones, are synthetic."""
    exclusive: np.ndarray | None = None
    """(R, R) true for ROIs that are assumed not to overlap: a voxel of one is none of the other."""

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.run_dir / "checkpoints"

    @property
    def own_training(self) -> Sequence[Case]:
        """The training patients of the archive, without synthetic ones."""
        return self.training[: len(self.training) - self.synthetic]

    @property
    def synthetic_part(self) -> SyntheticPart | None:
        """Which of the training patients are synthetic, and how often they are shown; None where none is."""
        wanted = self.config.data.synthetic
        return None if wanted is None or not self.synthetic else SyntheticPart(self.synthetic, wanted.share)

    @property
    def pseudo_label_folder(self) -> Path:
        """Folder of the pseudo-labels; a run that contour-ai 0.1 began keeps its own."""
        earlier = self.run_dir / "filled"
        return earlier if earlier.is_dir() else self.run_dir / "pseudo-labels"


@dataclass(kw_only=True)
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
    whole_budget_s: float | None = None
    """The time budget as it was given; None where there is none."""
    validation_due: bool = False
    """Whether the next thing to do is a validation: one was broken off."""
    pseudo_label_step: int = 0
    """After which pseudo-labels were drawn; 0 where there are none, or none yet."""
    pseudo_labels: dict[str, int] = field(default_factory=dict)
    """{ROI: training patients who have one}."""
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
