"""Denormals are flushed while a network is trained, and the caller's arithmetic is as it was afterwards."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from contour_ai.training.denormals import denormals_flushed


def keeps_denormals() -> bool:
    return float(np.float32(1e-40) * np.float32(1)) != 0.0


def test_the_setting_ends_with_the_block() -> None:
    if not torch.set_flush_denormal(False):
        pytest.skip("this CPU cannot flush denormals")
    with pytest.raises(ValueError, match="stop"), denormals_flushed():
        assert not keeps_denormals()
        raise ValueError("stop")
    assert keeps_denormals()
