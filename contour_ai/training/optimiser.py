"""What changes the weights: the optimiser, gradient clipping, and the moving average that is shipped."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from contour_ai.network import ResidualUNet3d
from contour_ai.training.config import OptimiserConfig

USUAL_MOMENTUM = {"muon": 0.95, "sgd": 0.99}
"""Where the configuration names none."""


def build_optimiser(network: nn.Module, config: OptimiserConfig) -> torch.optim.Optimizer:
    """The configured optimiser; norms and biases are not decayed."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    momentum = USUAL_MOMENTUM.get(config.name, 0.0) if config.momentum is None else config.momentum
    if config.name == "muon":
        return Muon(groups, rate=config.learning_rate, momentum=momentum, betas=config.betas)
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=momentum, nesterov=True)
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


class Muon(torch.optim.AdamW):
    """Momentum whose step is made orthogonal, for the kernels of convolutions; AdamW for everything else.

    A kernel is taken as a matrix with a row for each channel of its first axis. Its smoothed gradient is brought to
    singular values of about 1, so that rare directions are learnt as fast as frequent ones, and scaled to the root
    mean square of 0.2 that AdamW's steps have about: both take the same learning rates. Kernels of one voxel
    (which merge channels, and the heads), norms and biases go with AdamW.

    Sources: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024; the scale from Liu et al.,
    "Muon is scalable for LLM training", arXiv:2502.16982.

    Args:
        groups: of parameters, as any optimiser takes them.
        rate: learning rate of all.
        momentum: share of the smoothed gradient that is kept from step to step.
        betas: averaging of AdamW.
    """

    RMS = 0.2

    def __init__(
        self, groups: Sequence[dict[str, Any]], *, rate: float, momentum: float, betas: tuple[float, float]
    ) -> None:
        self.momentum = momentum
        split = [
            {
                **group,
                "params": [p for p in group["params"] if _has_extent(p) is kernels],
                "orthogonal": kernels,
            }
            for group in groups
            for kernels in (True, False)
        ]
        super().__init__([group for group in split if group["params"]], lr=rate, betas=betas, fused=True)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Changes every parameter that has a gradient; those of the kernels are used up."""
        for group in self.param_groups:
            if group["orthogonal"]:
                for kernel in group["params"]:
                    if kernel.grad is not None:
                        kernel.mul_(1 - group["lr"] * group["weight_decay"])
                        kernel.add_(self._change(kernel, kernel.grad), alpha=-group["lr"])
                        kernel.grad = None  # AdamW skips it
        super().step()

    def _change(self, kernel: Tensor, gradient: Tensor) -> Tensor:
        state = self.state[kernel]
        if not state:
            # AdamW asks for the number of steps when a state is loaded.
            state.update(step=torch.zeros((), device=kernel.device), momentum=torch.zeros_like(kernel))
        smooth = state["momentum"].lerp_(gradient, 1 - self.momentum)
        # The order of the columns does not matter: this one is a view of kernels whose channels come last.
        ahead = gradient.lerp(smooth, self.momentum).movedim(1, -1)
        rows = ahead.flatten(1)
        return orthogonal(rows).mul_(self.RMS * max(rows.shape) ** 0.5).view(ahead.shape).movedim(-1, 1)


def _has_extent(kernel: Tensor) -> bool:
    return kernel.ndim > 2 and kernel[0, 0].numel() > 1


def orthogonal(rows: Tensor) -> Tensor:
    """The matrix with the singular vectors of `rows` and singular values near 1 (0.7 to 1.2, but for tiny ones).

    Newton-Schulz steps with the coefficients of Jordan et al., carried out on the Gram matrix of the shorter side: of
    large matrices, only two products have the length of the longer one.

    Args:
        rows: (m, n).
    """
    if rows.shape[0] > rows.shape[1]:
        return orthogonal(rows.T).T
    rows = rows / rows.norm().clamp_min(1e-12)
    gram = rows @ rows.T
    one = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    total = one
    for step in range(5):
        polynomial = torch.addmm(3.4445 * one - 4.7750 * gram, gram, gram, alpha=2.0315)
        total = polynomial @ total if step else polynomial
        if step < 4:
            gram = polynomial @ gram @ polynomial
    return total @ rows


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
