"""Learning rates start, peak and end where they should."""

from __future__ import annotations

import pytest

from contour_ai.training.config import ScheduleConfig
from contour_ai.training.schedule import lr_factor


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (ScheduleConfig(name="constant"), {0: 1, 0.5: 1, 1: 1}),
        (ScheduleConfig(name="poly", power=0.9), {0: 1, 0.5: 0.5**0.9, 1: 0}),
        (ScheduleConfig(name="cosine", final_lr_factor=0.01), {0: 1, 0.5: 0.505, 1: 0.01}),
        (
            ScheduleConfig(name="one-cycle", start_lr_factor=0.04, warmup_fraction=0.25),
            {0: 0.04, 0.25: 1, 1: 1e-3},
        ),
        (ScheduleConfig(name="multi-step", milestones=(0.5, 0.75)), {0.49: 1, 0.5: 0.1, 0.8: 0.01}),
        (ScheduleConfig(name="exponential", final_lr_factor=0.01), {0: 1, 0.5: 0.1, 1: 0.01}),
    ],
)
def test_shape(config: ScheduleConfig, expected: dict[float, float]) -> None:
    for progress, share in expected.items():
        assert lr_factor(config, progress, 10**6) == pytest.approx(share)


def test_warm_up_is_linear_on_top_of_any() -> None:
    config = ScheduleConfig(name="constant", warmup_steps=4)
    assert [lr_factor(config, 0.0, step) for step in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1, 1])
