"""What changes the weights: the optimiser, gradient clipping, and the moving average that is shipped."""

from __future__ import annotations

import copy

import torch
from torch import nn

from contour_ai.network import ResidualUNet3d
from contour_ai.training.config import OptimiserConfig


def build_optimiser(network: nn.Module, config: OptimiserConfig) -> torch.optim.Optimizer:
    """The configured optimiser; norms and biases are not decayed."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, nesterov=True)
    if config.name == "adam":
        return torch.optim.Adam(groups, lr=config.learning_rate, betas=config.betas, fused=True)
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Sets the learning rate of every group."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def clip(network: nn.Module, config: OptimiserConfig) -> None:
    """Scales the gradient down to the configured norm, where it is longer."""
    if config.clip_norm is not None:
        nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)


class MovingAverage:
    """A copy of a network whose weights and norm statistics follow it slowly.

    Early on the average is short (a tenth of the steps so far), so that it forgets the random start.
    """

    def __init__(self, network: ResidualUNet3d, decay: float) -> None:
        self.decay = decay
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: ResidualUNet3d, step: int) -> None:
        """Moves the average towards `network` after step number `step` (from 0)."""
        keep = min(self.decay, (1 + step) / (10 + step))
        mine, theirs = self.network.state_dict(), network.state_dict()
        floating = [name for name, value in mine.items() if value.is_floating_point()]
        torch._foreach_lerp_([mine[n] for n in floating], [theirs[n] for n in floating], 1 - keep)
        for name, value in mine.items():
            if not value.is_floating_point():
                value.copy_(theirs[name])
