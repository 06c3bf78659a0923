"""Small tensors on their way to a GPU, which goes on working meanwhile."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on `device`. Nothing waits for a GPU: the copy is queued behind the work that it has.

    `Tensor.to` and indexing with lists or CPU tensors wait until the GPU has done everything before them; each wait in
    a training step leaves the GPU without work while the next kernels are queued.
    """
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
