"""Norms and biases do not decay; Muon's steps are orthogonal; the moving average follows."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from contour_ai.network import build_network
from contour_ai.training.config import OptimiserConfig
from contour_ai.training.optimiser import MovingAverage, build_optimiser, clip, orthogonal, set_rate


@pytest.mark.parametrize("name", ["adamw", "muon", "adam", "sgd"])
def test_only_convolutions_decay(name: str) -> None:
    network = build_network("resunet3d", in_channels=1, out_channels=1, base_filters=4)
    optimiser = build_optimiser(network, OptimiserConfig(name=name, weight_decay=0.5))
    groups = optimiser.param_groups
    assert {g["weight_decay"] for g in groups} == {0.0, 0.5}
    assert all((p.ndim == 5) == (g["weight_decay"] == 0.5) for g in groups for p in g["params"])
    assert sorted(map(id, network.parameters())) == sorted(id(p) for g in groups for p in g["params"])
    set_rate(optimiser, 0.125)
    assert {g["lr"] for g in groups} == {0.125}


@pytest.mark.parametrize("shape", [(6, 40), (40, 6), (8, 8), (1, 27)])
def test_a_matrix_made_orthogonal_keeps_its_singular_vectors(shape: tuple[int, int]) -> None:
    torch.manual_seed(1)
    u, _, v = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    values = torch.logspace(2, 0, min(shape))
    result = u.T @ orthogonal(u * values @ v) @ v.T
    kept = result.diagonal()
    assert kept.min() > 0.6 and kept.max() < 1.25
    torch.testing.assert_close(result, kept.diag(), atol=1e-3, rtol=0)


def test_orthogonal_of_nothing_is_nothing() -> None:
    assert not orthogonal(torch.zeros(3, 5)).any()


def test_muon_turns_kernels_and_leaves_the_rest_to_adamw() -> None:
    network = build_network("resunet3d", in_channels=1, out_channels=2, base_filters=4)
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    other = copy.deepcopy(network)
    settings = OptimiserConfig(name="muon", learning_rate=0.01, weight_decay=0.5, momentum=0.9)
    muon, adamw = build_optimiser(network, settings), build_optimiser(other, replace(settings, name="adamw"))
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    torch.manual_seed(2)
    for _ in range(3):
        for mine, theirs in zip(network.parameters(), other.parameters(), strict=True):
            mine.grad = torch.randn_like(mine)
            theirs.grad = mine.grad.clone()
        first = muon.state == {}
        muon.step()
        adamw.step()
        if first:
            for name, p in network.named_parameters():
                if p.ndim == 5 and p[0, 0].numel() > 1:
                    change = (p - before[name] * (1 - 0.01 * 0.5)).detach() / 0.01
                    assert change.square().mean().sqrt() == pytest.approx(0.18, abs=0.06), name
    left_to_adamw = 0
    for (name, mine), theirs in zip(network.named_parameters(), other.parameters(), strict=True):
        same = mine.ndim < 5 or mine[0, 0].numel() == 1
        left_to_adamw += same
        assert torch.equal(mine, theirs) == same, name
    assert 0 < left_to_adamw < len(before)


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
