"""How a model wants its images: voxel size, windows, body threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contour_ai.errors import ConfigError
from contour_ai.settings import from_mapping, to_mapping


@dataclass(frozen=True, kw_only=True)
class PreprocessSettings:
    """How a model wants its images; stored in the bundle and taken from nowhere else."""

    spacing_mm_kij: tuple[float, float, float] = (2.5, 2.5, 2.5)
    """Voxel size of the model's grid in mm: superior, posterior, left."""
    windows_hu: tuple[tuple[float, float], ...] = ((-160.0, 240.0),)
    """One window, [low, high] in HU, for each input channel."""
    body_threshold_hu: float = -300.0
    """Tissue is above, air below."""
    margin_mm: float = 10.0
    """Air kept around the body on every side."""
    outside_hu: int = -1024
    """What everything outside the body is set to."""

    def __post_init__(self) -> None:
        checks = (
            (
                "spacing_mm_kij",
                all(0.1 <= s <= 20 for s in self.spacing_mm_kij),
                "three sizes from 0.1 to 20 mm",
            ),
            (
                "windows_hu",
                self.windows_hu and all(low < high for low, high in self.windows_hu),
                "one or more pairs low < high",
            ),
            ("body_threshold_hu", -1000 < self.body_threshold_hu < 0, "between air and water: -1000 to 0 HU"),
            ("margin_mm", 0 <= self.margin_mm <= 200, "0 to 200 mm"),
            ("outside_hu", -32768 <= self.outside_hu <= -900, "air: -32768 to -900 HU"),
        )
        for name, fine, expected in checks:
            if not fine:
                raise ConfigError(
                    f"The preprocessing's {name} cannot be used.",
                    found=getattr(self, name),
                    expected=expected,
                )

    @classmethod
    def from_dict(cls, values: Mapping[str, object], *, where: object = None) -> PreprocessSettings:
        """From a mapping as YAML gives it.

        Raises:
            ConfigError: unknown key, wrong type, or a value that makes no sense.
        """
        return from_mapping(cls, values, where=where, path="preprocess")

    def to_dict(self) -> dict[str, object]:
        """Plain lists and numbers, as YAML and JSON want them; `from_dict` takes them back."""
        values: dict[str, object] = to_mapping(self)
        return values


def window(x: Any, lo_hu: float, hi_hu: float) -> Any:
    """HU to [-1, 1] within the window, clipped outside; NumPy arrays give float32, torch tensors float."""
    scale, middle = 2.0 / (hi_hu - lo_hu), (hi_hu + lo_hu) / 2
    if isinstance(x, np.ndarray):
        x = x.astype(np.float32, copy=False)
    return ((x - middle) * scale).clip(-1.0, 1.0)


def image_channels(hu: NDArray[np.generic], settings: PreprocessSettings) -> NDArray[np.float32]:
    """(C, k, i, j) float32: one channel a window of `settings`."""
    return np.stack([window(hu, low, high) for low, high in settings.windows_hu])
