"""The part of the training configuration that says whether the model gets a second reader, and which."""

from __future__ import annotations

from dataclasses import dataclass

from contour_ai.training.values import check_value


@dataclass(frozen=True, kw_only=True)
class SecondReaderConfig:
    """A small second network, trained after the first one, with which contours are compared."""

    enabled: bool = True
    """Whether the model gets one. It never contours: verdicts ask whether it agrees."""
    coarser: float = 1.5
    """Its voxels are so many times as long as the model's along every axis."""
    base_filters: int = 8
    """Feature channels at its full resolution; it has 4 levels."""
    steps: int | None = None
    """Training steps; null for half as many as run.steps. With a time budget as many as fit budget_share instead."""
    budget_share: float = 0.12
    """Share of a time budget that it gets."""

    def __post_init__(self) -> None:
        check_value(1 <= self.coarser <= 4, "second_reader.coarser", self.coarser, "1 to 4")
        check_value(self.base_filters >= 1, "second_reader.base_filters", self.base_filters, "at least 1")
        check_value(
            self.steps is None or self.steps >= 1, "second_reader.steps", self.steps, "null, or 1 or more"
        )
        check_value(
            0 < self.budget_share <= 0.15,
            "second_reader.budget_share",
            self.budget_share,
            "above 0, at most 0.15",
        )
