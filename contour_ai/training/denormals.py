"""Numbers too small for the usual form of a float (denormals), which slow a CPU down a hundredfold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Takes denormals for zero within the block, so that a vanishing gradient does not slow the training down.

    The setting is the calling thread's and counts for everything it computes, so the caller gets back what it had.
    """
    before = float(np.float32(1e-40) * np.float32(1)) == 0.0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
