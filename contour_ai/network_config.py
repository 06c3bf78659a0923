"""The description of a network: what `model.yaml` and a training configuration say about it, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from contour_ai.errors import ConfigError
from contour_ai.settings import from_mapping, to_mapping

LEVELS_OF_PRESET = {"resunet3d": 4, "deeper_resunet3d": 5}
"""The ancestor project's two networks; they differ in depth alone."""


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Everything that fixes the shape of a `ResidualUNet3d`."""

    name: str
    """Preset it was made from: `resunet3d` (4 levels), `deeper_resunet3d` (5), or `custom`."""
    in_channels: int
    """Image channels: one per intensity window."""
    out_channels: int
    """One logit per ROI."""
    base_filters: int = 16
    """Feature channels at full resolution; they double at every level."""
    levels: int = 4
    """Resolutions, the full one included."""
    max_filters: int | None = None
    """Upper limit of the doubling; null for none."""
    norm: Literal["batch", "instance"] = "batch"
    """Normalisation; `instance` does not depend on the batch."""
    dropout: float = 0.2
    """Dropout inside the blocks while training; 0 switches it off. Never active at inference."""
    strides: tuple[tuple[int, int, int], ...] | None = None
    """(k, i, j) stride of each step down, levels - 1 of them; null for 2, 2, 2 everywhere."""
    kernels: tuple[tuple[int, int, int], ...] | None = None
    """(k, i, j) convolution kernel of each level, 1 or 3 each; null for 3, 3, 3 everywhere."""
    deep_supervision: int = 0
    """Coarser decoder levels that get a loss of their own while training."""

    def __post_init__(self) -> None:
        for key in ("in_channels", "out_channels", "base_filters"):
            if getattr(self, key) < 1:
                raise ConfigError(f"The network's {key} must be at least 1.", found=getattr(self, key))
        if not 2 <= self.levels <= 8:
            raise ConfigError("A network has 2 to 8 levels.", found=self.levels)
        if not 0 <= self.dropout < 1:
            raise ConfigError("The network's dropout must lie in [0, 1).", found=self.dropout)
        if not 0 <= self.deep_supervision <= self.levels - 2:
            raise ConfigError(
                "Deep supervision needs as many coarser decoder levels.",
                found=self.deep_supervision,
                expected=f"0 to {self.levels - 2}",
            )
        self._check_triples("strides", self.levels - 1, (1, 2))
        self._check_triples("kernels", self.levels, (1, 3))

    def _check_triples(self, key: str, number: int, allowed: tuple[int, int]) -> None:
        triples = getattr(self, key)
        if triples is None:
            return
        if len(triples) != number or any(n not in allowed for triple in triples for n in triple):
            raise ConfigError(
                f"The network's {key} do not fit its {self.levels} levels.",
                found=triples,
                expected=f"{number} triples of {allowed[0]} or {allowed[1]}",
            )

    @property
    def filters(self) -> tuple[int, ...]:
        """Feature channels of every level, finest first."""
        limit = self.max_filters or self.base_filters * 2**self.levels
        return tuple(min(self.base_filters * 2**level, limit) for level in range(self.levels))

    @property
    def level_strides(self) -> tuple[tuple[int, int, int], ...]:
        """(k, i, j) stride of each of the levels - 1 steps down."""
        return self.strides or ((2, 2, 2),) * (self.levels - 1)

    @property
    def level_kernels(self) -> tuple[tuple[int, int, int], ...]:
        """(k, i, j) kernel of each level."""
        return self.kernels or ((3, 3, 3),) * self.levels

    @property
    def multiple_kij(self) -> tuple[int, int, int]:
        """Input sizes divisible by these need no padding: the product of all strides."""
        k = i = j = 1
        for stride in self.level_strides:
            k, i, j = k * stride[0], i * stride[1], j * stride[2]
        return k, i, j

    def to_dict(self) -> dict[str, object]:
        """As plain values for YAML."""
        mapping: dict[str, object] = to_mapping(self)
        return mapping

    @classmethod
    def from_dict(cls, mapping: object, *, where: object = None) -> NetworkConfig:
        """From plain values.

        Raises:
            ConfigError: unknown or missing keys, values that do not fit.
        """
        return from_mapping(cls, mapping, where=where, path="network")


def preset(name: str, *, in_channels: int, out_channels: int, **options: object) -> NetworkConfig:
    """The configuration of a preset, with any other field of `NetworkConfig` as an option.

    Raises:
        ConfigError: no such preset, or options that do not fit.
    """
    if name not in LEVELS_OF_PRESET:
        raise ConfigError("No such network.", found=name, expected=", ".join(LEVELS_OF_PRESET))
    mapping: dict[str, object] = {
        "name": name,
        "in_channels": in_channels,
        "out_channels": out_channels,
        "levels": LEVELS_OF_PRESET[name],
    }
    return NetworkConfig.from_dict(mapping | options)


ANISOTROPY = 1.75
"""Axes that are finer than the coarsest by this factor are halved first: at 1.75 the voxel is never further from a cube
after the step than before it."""


def anisotropic_strides(spacing_mm_kij: Sequence[float], levels: int) -> tuple[tuple[int, int, int], ...]:
    """(k, i, j) strides that first halve only the axes that are finer than the coarsest by `ANISOTROPY` or more."""
    spacing = [float(s) for s in spacing_mm_kij]
    strides = []
    for _ in range(levels - 1):
        coarsest = max(spacing)
        fine = [coarsest / s >= ANISOTROPY for s in spacing]
        stride = tuple(2 if (f or not any(fine)) else 1 for f in fine)
        spacing = [s * n for s, n in zip(spacing, stride, strict=True)]
        strides.append((stride[0], stride[1], stride[2]))
    return tuple(strides)
