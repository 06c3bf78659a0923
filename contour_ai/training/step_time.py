"""Measures how long the network's part of a training step takes here and now."""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from contour_ai.inference import memory_format
from contour_ai.network import ResidualUNet3d, build_network
from contour_ai.network_config import NetworkConfig
from contour_ai.training.arithmetic import fewest_samples

PROBES_KIJ = {"cpu": (32, 48, 48), "cuda": (96, 128, 128)}
"""Large enough that the time is that of voxels, not of starting kernels; small enough for a slow machine."""
REPEATS = 2


def seconds_per_voxel(
    network: NetworkConfig,
    device: torch.device,
    precision: torch.dtype | None,
    largest_kij: tuple[int, int, int] | None = None,
) -> float:
    """Seconds of forward and backward pass per voxel of a sample, the fastest of a few.

    Args:
        network: what is measured, with instance normalisation.
        device: where.
        precision: in which the training will compute (see `computed_in`); None for fp32.
        largest_kij: the sample that is tried is no larger; None for no limit.
    """
    order = memory_format(device, precision)
    built = build_network(replace(network, norm="instance")).train()
    built.to(device=device, memory_format=order)  # type: ignore[call-overload]
    sizes = PROBES_KIJ[device.type]
    if largest_kij is not None:
        k, i, j = (min(pair) for pair in zip(sizes, largest_kij, strict=True))
        sizes = (k, i, j)
    while True:
        k, i, j = (-(-n // m) * m for n, m in zip(sizes, network.multiple_kij, strict=True))
        try:
            samples = fewest_samples(device, precision)
            return _seconds(built, (k, i, j), device, precision, samples) / float(samples * k * i * j)
        except torch.OutOfMemoryError:
            if max(sizes) <= max(network.multiple_kij):
                raise
        torch.cuda.empty_cache()
        k, i, j = sizes
        sizes = (k // 2, i // 2, j // 2)


def _seconds(
    network: ResidualUNet3d,
    size_kij: tuple[int, int, int],
    device: torch.device,
    precision: torch.dtype | None,
    samples: int,
) -> float:
    """Of a forward and backward pass, the fastest of a few."""
    order = memory_format(device, precision)
    image = torch.randn(samples, network.config.in_channels, *size_kij, device=device).contiguous(
        memory_format=order
    )
    times = []
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=True):  # as a training has it
        for _ in range(1 + REPEATS):  # the first one prepares kernels
            began = time.monotonic()
            with torch.autocast(device.type, dtype=precision, enabled=precision is not None):
                logits = network(image)
            every = logits if isinstance(logits, (list, tuple)) else [logits]
            torch.stack([one.float().mean() for one in every]).sum().backward()  # type: ignore[no-untyped-call]
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.monotonic() - began)
    return min(times[1:])
