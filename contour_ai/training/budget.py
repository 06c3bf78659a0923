"""Fits voxel size, samples a step and filters to a time budget, so that enough steps happen for the patients."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from contour_ai.training.config import NetworkChoice, TrainConfig
from contour_ai.training.plan import BATCH_LIMIT, MOST_VOXELS_A_STEP, WHOLE_VOXELS

EPOCHS_WANTED = 20
FEWEST_TO_FIND_ORGANS = 300
"""A network of 16 filters needs about so many steps before it finds organs at all; 24 phantoms were learnt in 400."""

COARSER = (1.0, 1.15, 1.3, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)
"""Factors of the voxel size that are tried, the finest first."""
COARSEST_MM = 7.0
"""Coarser voxels lose organs of a few cm3: rather fewer steps."""
FEWER_FILTERS = 8

STEP_OVERHEAD = 1.35
"""Of a whole step to the network's part of it: cutting and augmenting the samples, loss, optimiser, average."""
FORWARD_FRACTION = 0.4
"""Of a training step: what a validation of as many voxels takes."""
VALIDATIONS = 2
"""Whole validations that are counted on: the last one, and choosing the rules."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What was measured before the first step.

    Args:
        seconds_per_voxel: {filters: of the network's part of a training step}.
        left_s: until the budget ends, preparation of the patients taken off.
        device_type: `cpu` or `cuda`.
        fewest_samples: a step; fewer are slower.
    """

    seconds_per_voxel: Mapping[int, float]
    left_s: float
    device_type: str = "cpu"
    fewest_samples: int = 1


@dataclass(frozen=True, kw_only=True)
class BudgetPlan:
    """A configuration that fits, and what is expected of it.

    Args:
        config: with voxel size, samples a step and filters fixed where they were open.
        steps: that fit the time.
        wanted: that the number of patients asks for.
        seconds_per_step: expected.
    """

    config: TrainConfig
    steps: int
    wanted: int
    seconds_per_step: float


def wanted_steps(training_patients: int, most: int, samples: int = 1) -> int:
    """Steps that the number of patients asks for: every patient some times, but never too few.

    Args:
        most: steps that are configured.
        samples: a step; of several, the steps are steadier, and somewhat fewer are enough.
    """
    epochs = math.ceil(EPOCHS_WANTED * training_patients / samples)
    return min(max(epochs, math.ceil(FEWEST_TO_FIND_ORGANS / math.sqrt(samples))), most)


def fitted(
    config: TrainConfig,
    spacing_mm_kij: Sequence[float],
    sizes_mm_kij: Sequence[Sequence[float]],
    patients: int,
    machine: Machine,
    *,
    spacing_is_open: bool,
    filters_are_open: bool,
) -> BudgetPlan:
    """The finest voxels, then the most filters, with which enough steps fit the time; else what gives most steps.

    Args:
        config: what is fixed stays.
        spacing_mm_kij: the voxel size that would be planned without a budget.
        sizes_mm_kij: of the bodies of some patients.
        patients: of the archive.
        machine: what was measured.
        spacing_is_open: whether the voxel size may be changed.
        filters_are_open: whether the filters may be.
    """
    size = np.percentile(np.array(sizes_mm_kij), 75, axis=0)
    training = max(round(patients * (1 - config.data.validation_share)), 1)
    best: BudgetPlan | None = None
    for factor in COARSER if spacing_is_open else (1.0,):
        coarser = [max(s, min(s * factor, COARSEST_MM)) for s in spacing_mm_kij]
        k, i, j = (round(float(s), 2) for s in coarser)
        whole = float(math.prod(np.ceil(size / (k, i, j))))
        sample = (
            whole if whole <= WHOLE_VOXELS[machine.device_type] else WHOLE_VOXELS[machine.device_type] / 2
        )
        if config.input.patch_kij is not None:
            sample = float(math.prod(config.input.patch_kij))
        most = min(max(int(MOST_VOXELS_A_STEP[machine.device_type] / sample), 1), BATCH_LIMIT)
        filters_here = list(machine.seconds_per_voxel) if filters_are_open else [config.network.base_filters]
        fewest = machine.fewest_samples if machine.fewest_samples <= most else 1
        for filters, batch in itertools.product(filters_here, _batches(config, most, factor, fewest)):
            wanted = wanted_steps(training, config.run.steps, batch if batch == fewest else 1)
            chosen = replace(
                config,
                preprocess=replace(config.preprocess, spacing_mm_kij=(k, i, j)),
                network=replace(config.network, base_filters=filters),
                input=replace(config.input, batch_size=batch),
            )
            voxel_s = STEP_OVERHEAD * machine.seconds_per_voxel[filters]
            validation_s = VALIDATIONS * FORWARD_FRACTION * voxel_s * whole * (patients - training)
            seconds = voxel_s * sample * batch
            steps = max(int((machine.left_s - validation_s) / seconds), 1)
            plan = BudgetPlan(config=chosen, steps=steps, wanted=wanted, seconds_per_step=seconds)
            if steps >= wanted:
                return plan
            if best is None or steps > best.steps:
                best = plan
    assert best is not None
    return best


def _batches(config: TrainConfig, most: int, factor: float, fewest: int) -> tuple[int, ...]:
    """Samples a step to try: as many as without a budget where voxels stay as they are, else as few as are fast."""
    if config.input.batch_size is not None:
        return (config.input.batch_size,)
    return (most, fewest) if factor == 1.0 and most > fewest else (fewest,)


def filters_to_try(choice: NetworkChoice) -> tuple[int, ...]:
    """Filters that a plan may take: those configured, and where these are the default, fewer."""
    is_default = choice.base_filters == NetworkChoice().base_filters
    return (choice.base_filters, FEWER_FILTERS) if is_default else (choice.base_filters,)
