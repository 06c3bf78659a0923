"""Norms and biases do not decay; the moving average follows."""

from __future__ import annotations

import pytest
import torch

from contour_ai.network import build_network
from contour_ai.training.config import OptimiserConfig
from contour_ai.training.optimiser import MovingAverage, build_optimiser, clip, set_rate


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_only_convolutions_decay(name: str) -> None:
    network = build_network("resunet3d", in_channels=1, out_channels=1, base_filters=4)
    optimiser = build_optimiser(network, OptimiserConfig(name, weight_decay=0.5))
    convolutions, rest = optimiser.param_groups
    assert convolutions["weight_decay"] == 0.5 and all(p.ndim == 5 for p in convolutions["params"])
    assert rest["weight_decay"] == 0 and all(p.ndim == 1 for p in rest["params"])
    set_rate(optimiser, 0.125)
    assert [g["lr"] for g in optimiser.param_groups] == [0.125, 0.125]


def test_the_average_is_short_at_first_and_long_later() -> None:
    network = build_network("resunet3d", in_channels=1, out_channels=1, base_filters=4)
    average = MovingAverage(network, 0.99)
    start = network.head.bias.clone()
    with torch.no_grad():
        network.head.bias.add_(1)
    average.update(network, 0)
    torch.testing.assert_close(average.network.head.bias, start + 0.9)
    average.update(network, 10**6)
    torch.testing.assert_close(average.network.head.bias, start + 1 - 0.1 * 0.99)


def test_gradients_are_clipped_to_the_norm() -> None:
    network = build_network("resunet3d", in_channels=1, out_channels=1, base_filters=4)
    for p in network.parameters():
        p.grad = torch.ones_like(p)
    clip(network, OptimiserConfig(clip_norm=2.0))
    norm = torch.cat([p.grad.ravel() for p in network.parameters()]).norm()  # type: ignore[union-attr]
    assert float(norm) == pytest.approx(2.0, rel=1e-4)
