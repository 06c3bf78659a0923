"""The second reader of a bundle: a small network of its own, whose answer is compared with contours, never written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from contour_ai.errors import ConfigError
from contour_ai.network_config import NetworkConfig

SECOND_READER_FILE = "second-reader.safetensors"


@dataclass(frozen=True, kw_only=True)
class SecondReader:
    """What the second reader of a model is: `second_reader` in `model.yaml`.

    It sees the CT on the model's grid, brought to coarser voxels, through the model's windows, and has the model's
    ROIs in the model's order. It was trained on the model's training patients, from weights of its own.
    """

    spacing_mm_kij: tuple[float, float, float]
    """Voxel size (superior, posterior, left) that it wants; the nearest is taken that divides an image evenly."""
    network: NetworkConfig
    weights_sha256: str = ""
    """Of `second-reader.safetensors` beside the weights of the model."""
    seed: int = 0
    """Fixed its weights at the start and every random choice."""
    steps: int = 0
    hours: float = 0.0
    patients: int = 0
    """Held back from its training, on whom the Dice was measured: the same as those of the model."""
    dice: Mapping[str, float] = field(default_factory=dict)
    """By ROI, on its own grid."""

    def __post_init__(self) -> None:
        if min(self.spacing_mm_kij) <= 0:
            raise ConfigError("The voxels of the second reader must have a size.", found=self.spacing_mm_kij)

    @property
    def mean_dice(self) -> float:
        """Over the ROIs; 0 where none could be scored."""
        return sum(self.dice.values()) / len(self.dice) if self.dice else 0.0
