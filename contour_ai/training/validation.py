"""What a validation on whole patients finds, and where it is written."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from contour_ai.files import atomic_file
from contour_ai.inference import predict_logits
from contour_ai.network import ResidualUNet3d
from contour_ai.preprocess import PreprocessSettings, image_channels
from contour_ai.progress import OnProgress, ProgressEvent, no_progress
from contour_ai.training.cache import Case

FORWARD_SHARE = 0.4
"""Of a training step, the forward pass: what a validation takes is guessed from it until one was seen."""


@dataclass(frozen=True)
class Windows:
    """How the network is run over patients, as in prediction."""

    window_kij: tuple[int, int, int] = (96, 128, 128)
    """Sliding window on bodies that do not fit."""
    overlap: float = 0.5
    max_voxels: int = 6_000_000

    def voxels(self, case: Case) -> float:
        """Voxels that go through the network for a patient, those in several windows several times."""
        n = math.prod(case.hu.shape)
        return n if n <= self.max_voxels else n / (1 - self.overlap) ** 3


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


def validate(
    cases: Sequence[Case],
    settings: PreprocessSettings,
    network: ResidualUNet3d,
    device: torch.device,
    precision: torch.dtype | None,
    windows: Windows,
    on_progress: OnProgress = no_progress,
) -> dict[str, dict[str, float]]:
    """{patient: {ROI: Dice}} of the validation patients, whole, on the model grid, by the predictor itself."""
    patients: dict[str, dict[str, float]] = {}
    for n, case in enumerate(cases):
        on_progress(ProgressEvent("validation", n, len(cases), {"patient": case.patient_id}))
        logits = predict_logits(
            network,
            torch.from_numpy(image_channels(case.hu, settings)),
            window_kij=windows.window_kij,
            overlap=windows.overlap,
            max_voxels=windows.max_voxels,
            device=device,
            autocast=precision,
        )
        patients[case.patient_id] = case_dice(logits.numpy() > 0, case)
    on_progress(ProgressEvent("validation", len(cases), len(cases)))
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


def write_score(writer: Any, score: Score) -> None:
    """The curves of TensorBoard."""
    writer.add_scalar("Dice/mean", score.mean, score.step)
    for roi, value in score.dice.items():
        if not math.isnan(value):
            writer.add_scalar(f"Dice/{roi}", value, score.step)
    writer.flush()
