"""What a training will do: derived from the data where the configuration leaves it open."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from contour_ai.errors import ConfigError
from contour_ai.grid import Grid
from contour_ai.network_config import NetworkConfig, anisotropic_strides
from contour_ai.preprocess import PreprocessSettings
from contour_ai.structures import flip_pairs
from contour_ai.training.cache import Case
from contour_ai.training.config import NetworkChoice, TrainConfig
from contour_ai.volume import roi_voxels

Triple = tuple[int, int, int]

SIZE_PERCENTILE = 75
"""Whole-body samples have the size of this patient: padding the small ones up to the largest would waste time."""

WHOLE_VOXELS = {"cpu": 1_000_000, "cuda": 6_000_000}
"""A body of up to this many voxels is one sample; larger ones are cut into patches of half as many."""

MOST_VOXELS_A_STEP = {"cpu": 1_200_000, "cuda": 24_000_000}
"""Most voxels in one step: more would make steps few, and on a GPU no faster a voxel."""

BYTES_PER_VOXEL_AND_FILTER = 80
"""Memory of a step: about twenty activations at full resolution and their gradients, in bf16."""

BATCH_LIMIT = 4
"""Samples a step where memory does not limit them."""

BATCH_NORM_SAMPLES = 4
"""Statistics of fewer samples are too far from those of the data: a short trial with one sample a step reached a mean
Dice of 0.42 with instance normalisation, 0.11 with batch normalisation."""


DEEPEST_VOXELS = 6
"""A network is deep enough where its coarsest level has so many voxels along every axis: with fewer it would see little
besides padding there."""

SOFT_TISSUE_HU = (-160.0, 240.0)
WIDE_HU = (-500.0, 1000.0)
"""The second window holds at least these, for orientation at bone and air."""
WINDOW_LIMITS_HU = (-1024.0, 3000.0)
WINDOW_STEP_HU = 50
WINDOW_PERCENTILES = (0.5, 99.5)
PATIENTS_LOOKED_AT = 40
"""Windows are planned from so many patients, evenly picked."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The decisions of one training."""

    rois: tuple[str, ...]
    settings: PreprocessSettings
    network: NetworkConfig
    patch_kij: Triple
    batch_size: int
    whole_body: bool
    """Whether a sample holds the whole body of most patients."""
    flip_pairs: tuple[tuple[str, str], ...] = ()
    """ROIs that change places in a left-right mirror."""

    @property
    def mirror(self) -> tuple[int, ...]:
        """Channel each ROI becomes in a mirror."""
        channels = list(range(len(self.rois)))
        for a, b in self.flip_pairs:
            channels[self.rois.index(a)], channels[self.rois.index(b)] = (
                self.rois.index(b),
                self.rois.index(a),
            )
        return tuple(channels)

    @property
    def window_kij(self) -> Triple:
        """Of the network that is run in windows: the sample, but no smaller than what the network divides."""
        k, i, j = (max(n, m) for n, m in zip(self.patch_kij, self.network.multiple_kij, strict=True))
        return k, i, j

    def facts(self) -> dict[str, str]:
        """What is worth printing before a long training."""
        spacing = " x ".join(f"{s:g}" for s in self.settings.spacing_mm_kij)
        patch = " x ".join(map(str, self.patch_kij))
        windows = ", ".join(f"{low:g} to {high:g}" for low, high in self.settings.windows_hu)
        pairs = [f"{a}/{b}" for a, b in self.flip_pairs]
        strides = ", ".join("x".join(map(str, s)) for s in self.network.level_strides)
        return {
            "ROIs": ", ".join(self.rois),
            "left-right pairs": ", ".join(pairs) or "none",
            "voxel size": f"{spacing} mm (k, i, j)",
            "windows": f"{windows} HU",
            "network": f"{self.network.name}, {self.network.levels} levels, {self.network.base_filters} filters, "
            f"{self.network.norm} norm, strides {strides}",
            "sample": f"{patch} voxels ({'the whole body' if self.whole_body else 'a patch'})",
            "samples a step": str(self.batch_size),
        }


def plan_settings(config: TrainConfig, grids: Sequence[Grid]) -> PreprocessSettings:
    """The preprocessing: as configured, the voxel size by default the median of the patients' CTs."""
    wanted = config.preprocess
    spacing = wanted.spacing_mm_kij
    if spacing is None:
        median = np.median([patient_spacing_mm(grid) for grid in grids], axis=0)
        k, i, j = (round(max(float(s), wanted.finest_mm), 2) for s in median)
        spacing = (k, i, j)
    windows = wanted.windows_hu or (SOFT_TISSUE_HU, WIDE_HU)
    return PreprocessSettings(
        spacing_mm_kij=spacing,
        windows_hu=windows,
        body_threshold_hu=wanted.body_threshold_hu,
        margin_mm=wanted.margin_mm,
        outside_hu=wanted.outside_hu,
    )


def plan_windows(cases: Sequence[Case]) -> tuple[tuple[float, float], ...]:
    """Soft tissue, and a wider window that holds nearly all voxels of every ROI."""
    values: dict[str, list[NDArray[np.int16]]] = {}
    for case in cases[:: max(1, len(cases) // PATIENTS_LOOKED_AT)]:
        hu, bits = np.asarray(case.hu), np.asarray(case.bits)
        for r, roi in enumerate(case.rois):
            if case.presence[r]:
                values.setdefault(roi, []).append(hu[roi_voxels(bits, r)])
    low, high = WIDE_HU
    for found in values.values():
        ends = np.percentile(np.concatenate(found), WINDOW_PERCENTILES)
        low = min(low, math.floor(ends[0] / WINDOW_STEP_HU) * WINDOW_STEP_HU)
        high = max(high, math.ceil(ends[1] / WINDOW_STEP_HU) * WINDOW_STEP_HU)
    return SOFT_TISSUE_HU, (max(low, WINDOW_LIMITS_HU[0]), min(high, WINDOW_LIMITS_HU[1]))


def patient_spacing_mm(grid: Grid) -> tuple[float, float, float]:
    """Voxel size along superior, posterior and left of a CT of any orientation."""
    axes = np.abs([grid.normal, grid.step_i_lps, grid.step_j_lps])
    axes /= axes.sum(axis=1, keepdims=True)
    # The axis of the CT that runs most along z, then y, then x: the columns of LPS backwards.
    k, i, j = (grid.spacing_mm[int(axes[:, column].argmax())] for column in (2, 1, 0))
    return k, i, j


def plan_network(choice: NetworkChoice, settings: PreprocessSettings, rois: int) -> NetworkConfig:
    """The network for these windows and ROIs; strides keep thick slices until voxels are nearly cubes.

    What is left open is decided by `plan_input`, which knows samples and batches: until then the norm is instance
    normalisation, and the network the shallower one.
    """
    return NetworkConfig(
        name=choice.name or "resunet3d",
        in_channels=len(settings.windows_hu),
        out_channels=rois,
        base_filters=choice.base_filters,
        levels=choice.levels,
        max_filters=choice.max_filters,
        norm=choice.norm or "instance",
        dropout=choice.dropout,
        strides=choice.strides or anisotropic_strides(settings.spacing_mm_kij, choice.levels),
        kernels=choice.kernels,
        deep_supervision=choice.deep_supervision,
    )


def plan_input(
    config: TrainConfig,
    rois: tuple[str, ...],
    settings: PreprocessSettings,
    network: NetworkConfig,
    shapes: Sequence[Triple],
    device_type: str,
    memory_bytes: int | None = None,
    *,
    fewest: int = 1,
) -> Plan:
    """The size of a sample and how many make a step.

    Args:
        config: what is fixed.
        rois: in the order of the network's channels.
        settings: the preprocessing.
        network: the network.
        shapes: (k, i, j) of the prepared patients.
        device_type: `cpu` or `cuda`.
        memory_bytes: free memory of the device; None not to be limited by it.
        fewest: samples with which a step is fast, where so many are not too large together.
    """
    typical = np.percentile(np.array(shapes), SIZE_PERCENTILE, axis=0)
    patch = config.input.patch_kij or _patch(typical, network.multiple_kij, WHOLE_VOXELS[device_type])
    if config.network.name is None and config.network.strides is None and config.network.kernels is None:
        deeper = plan_network(replace(config.network, name="deeper_resunet3d"), settings, len(rois))
        larger = config.input.patch_kij or _patch(typical, deeper.multiple_kij, WHOLE_VOXELS[device_type])
        if all(p >= DEEPEST_VOXELS * m for p, m in zip(larger, deeper.multiple_kij, strict=True)):
            network, patch = deeper, larger
    voxels = math.prod(patch)
    batch_size = config.input.batch_size
    if batch_size is None:
        most = MOST_VOXELS_A_STEP[device_type]
        if memory_bytes is not None:
            most = min(most, int(0.6 * memory_bytes / (BYTES_PER_VOXEL_AND_FILTER * network.base_filters)))
        batch_size = min(max(most // voxels, 1), BATCH_LIMIT)
        if fewest * voxels <= MOST_VOXELS_A_STEP[device_type]:
            batch_size = max(batch_size, fewest)
    if config.network.norm is None and batch_size >= BATCH_NORM_SAMPLES:
        network = replace(network, norm="batch")
    whole = all(p >= n for p, n in zip(patch, typical, strict=True))
    pairs = _flip_pairs(rois, config.data.flip_pairs)
    return Plan(
        rois=rois,
        settings=settings,
        network=network,
        patch_kij=patch,
        batch_size=batch_size,
        whole_body=bool(whole),
        flip_pairs=pairs,
    )


def _flip_pairs(
    rois: tuple[str, ...], wanted: tuple[tuple[str, str], ...] | None
) -> tuple[tuple[str, str], ...]:
    """Those of the configuration, or those that the names say.

    Raises:
        ConfigError: a pair of ROIs that are not learnt, or a ROI in two pairs.
    """
    if wanted is None:
        return tuple((rois[a], rois[b]) for a, b in flip_pairs(rois))
    names = [roi for pair in wanted for roi in pair]
    wrong = sorted({roi for roi in names if roi not in rois or names.count(roi) > 1})
    if wrong:
        raise ConfigError(
            "data.flip_pairs does not fit the ROIs.",
            found=", ".join(wrong),
            expected=f"each at most once, of {', '.join(rois)}",
        )
    return wanted


def _patch(typical: np.ndarray, multiple: Triple, limit: int) -> Triple:
    """The typical body rounded up to what the network divides, or a smaller box of its proportions."""
    whole = [math.ceil(n / m) * m for n, m in zip(typical, multiple, strict=True)]
    if math.prod(whole) <= limit:
        return whole[0], whole[1], whole[2]
    shrink = (limit / 2 / math.prod(whole)) ** (1 / 3)
    k, i, j = (max(int(n * shrink) // m, 2) * m for n, m in zip(whole, multiple, strict=True))
    return k, i, j
