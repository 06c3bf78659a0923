"""The precision in which the network computes a training step, and the number of samples from which on that is fast."""

from __future__ import annotations

import torch

from contour_ai.inference import autocast_dtype
from contour_ai.training.config import TrainConfig


def computed_in(config: TrainConfig, device: torch.device) -> torch.dtype | None:
    """The precision in which the network computes on a device under `run.precision`; None for fp32."""
    if config.run.precision == "fp32":
        return None
    return torch.bfloat16 if config.run.precision == "bf16" else autocast_dtype(device)


def fewest_samples(device: torch.device, precision: torch.dtype | None) -> int:
    """Samples with which a training step is fast: two for fp32 on CPUs, else one.

    For a single small sample in fp32, torch 2.13 convolves by a way of its own instead of oneDNN's (`_ConvBackend`,
    `use_mkldnn` in ATen/native/Convolution.cpp), forwards and backwards. Samples of 40 x 40 x 64 voxels, 8 filters, one
    core, AVX2: a step took 1.4 to 1.6 s for each sample alone, 0.28 s for each of two.

    Args:
        device: where the network runs.
        precision: what `computed_in` gives.
    """
    return 2 if device.type == "cpu" and precision is None else 1
