"""Measures how long the network's part of a training step takes here and now."""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from contour_ai.inference import autocast_dtype, memory_format
from contour_ai.network import build_network
from contour_ai.network_config import NetworkConfig

PROBE_KIJ = (32, 48, 48)
"""Large enough that its time is that of voxels, small enough for a slow machine."""
REPEATS = 2


def seconds_per_voxel(
    network: NetworkConfig, device: torch.device, largest_kij: tuple[int, int, int] = PROBE_KIJ
) -> float:
    """Seconds of forward and backward pass per voxel of a sample, the fastest of a few.

    Args:
        largest_kij: the sample that is tried is no larger.
    """
    precision = autocast_dtype(device)
    order = memory_format(device, precision)
    sizes = [min(pair) for pair in zip(PROBE_KIJ, largest_kij, strict=True)]
    probe = tuple(-(-n // m) * m for n, m in zip(sizes, network.multiple_kij, strict=True))
    built = build_network(replace(network, norm="instance")).train()
    built.to(device=device, memory_format=order)  # type: ignore[call-overload]
    image = torch.randn(1, network.in_channels, *probe, device=device).contiguous(memory_format=order)
    times = []
    for _ in range(1 + REPEATS):  # the first one prepares kernels
        began = time.monotonic()
        with torch.autocast(device.type, dtype=precision, enabled=precision is not None):
            logits = built(image)
        every = logits if isinstance(logits, (list, tuple)) else [logits]
        torch.stack([one.float().mean() for one in every]).sum().backward()  # type: ignore[no-untyped-call]
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.monotonic() - began)
    return min(times[1:]) / float(probe[0] * probe[1] * probe[2])
