"""Collects losses without waiting for the GPU, and stops a training that diverges."""

from __future__ import annotations

import math
import time

import torch

from contour_ai.errors import ContourAIError

SMOOTHING = 0.035
"""Weight of a new loss in the smoothed one, that of the last thirty or so."""


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
                    "--resume starts from the last checkpoint",
                )
            weight = max(SMOOTHING, 1 / number)
            self.recent = value if number == 1 else (1 - weight) * self.recent + weight * value
        self._losses, self._patients = [], []
        return self.recent
