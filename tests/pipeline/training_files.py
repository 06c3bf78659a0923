"""What a training leaves, as arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file


def tensors(bundle: Path) -> dict[str, np.ndarray]:
    """{name: weights} of a bundle."""
    return {
        name: value.astype(np.float32) for name, value in load_file(bundle / "weights.safetensors").items()
    }
