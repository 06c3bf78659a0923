"""The plan fits its time budget, and the number of threads what the machine does besides."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Literal

import pytest
import torch
from pytest import MonkeyPatch

from contour_ai.pipeline._train.budget import plan_for_budget, shortage
from contour_ai.pipeline._train.options import TrainOptions
from contour_ai.training import arithmetic, step_time
from contour_ai.training.arithmetic import fewest_samples
from contour_ai.training.budget import (
    FEWEST_TO_FIND_ORGANS,
    BudgetPlan,
    Machine,
    filters_to_try,
    fitted,
    wanted_steps,
)
from contour_ai.training.config import InputConfig, NetworkChoice, PreprocessConfig, RunConfig, TrainConfig
from contour_ai.training.threads import STEPS_EACH, WAIT_POLICY, ThreadChoice, let_waiting_threads_sleep

SIZES = [(240.0, 280.0, 400.0)]
SPACING = (3.0, 2.0, 2.0)


def plan(left_s: float) -> BudgetPlan:
    machine = Machine(seconds_per_voxel={16: 5e-6, 8: 2e-6}, left_s=left_s)
    return fitted(
        TrainConfig(),
        SPACING,
        SIZES,
        24,
        machine,
        spacing_is_open=True,
        filters_are_open=True,
    )


def test_a_long_budget_changes_nothing() -> None:
    found = plan(100 * 3600)
    assert found.config.preprocess.spacing_mm_kij == SPACING
    assert found.config.network.base_filters == 16
    assert found.steps >= found.wanted and shortage(found) == ""


def test_less_time_takes_coarser_voxels_and_then_says_that_it_is_short() -> None:
    before = None
    for left_s in (8000, 1500, 400, 200):
        found = plan(left_s)
        assert found.steps >= found.wanted
        spacing = found.config.preprocess.spacing_mm_kij
        assert spacing is not None and max(spacing) <= 7.0
        assert before is None or spacing >= before
        assert found.config.input.batch_size == 1 or spacing == SPACING
        before = spacing
    found = plan(10)
    assert found.steps < found.wanted and "the time is short" in shortage(found)
    assert (
        found.config.preprocess.spacing_mm_kij == (7.0, 7.0, 7.0) and found.config.network.base_filters == 8
    )


def test_what_is_configured_stays() -> None:
    config = replace(TrainConfig(), input=InputConfig(batch_size=2), network=NetworkChoice(base_filters=12))
    assert filters_to_try(config.network) == (12,)
    machine = Machine(seconds_per_voxel={12: 5e-6}, left_s=200)
    found = fitted(config, SPACING, SIZES, 24, machine, spacing_is_open=False, filters_are_open=True)
    assert found.config.preprocess.spacing_mm_kij == SPACING
    assert (found.config.input.batch_size, found.config.network.base_filters) == (2, 12)
    # A sample of configured size costs the same, whatever the voxels.
    small = replace(config, input=InputConfig(patch_kij=(32, 32, 32), batch_size=1))
    assert fitted(small, SPACING, SIZES, 24, machine, spacing_is_open=True, filters_are_open=True).steps > 500


def test_steps_wanted_grow_with_the_patients() -> None:
    assert (
        wanted_steps(3, 4000)
        == FEWEST_TO_FIND_ORGANS
        < wanted_steps(60, 4000)
        < wanted_steps(1000, 4000)
        == 4000
    )
    assert wanted_steps(1000, RunConfig(steps=50).steps) == 50


def test_where_single_samples_are_slow_a_step_has_two() -> None:
    """fp32 on a CPU: torch convolves a single small sample by a slow way of its own."""
    machine = Machine(seconds_per_voxel={16: 5e-6, 8: 2e-6}, left_s=200, fewest_samples=2)
    found = fitted(TrainConfig(), SPACING, SIZES, 24, machine, spacing_is_open=True, filters_are_open=True)
    assert found.config.input.batch_size == 2 and found.steps >= found.wanted
    assert FEWEST_TO_FIND_ORGANS / 2 < found.wanted < FEWEST_TO_FIND_ORGANS
    one = replace(TrainConfig(), input=InputConfig(batch_size=1))
    alone = fitted(one, SPACING, SIZES, 24, machine, spacing_is_open=True, filters_are_open=True)
    assert alone.config.input.batch_size == 1, "what is configured stays"
    # Two samples that are too large for one step stay single.
    large = fitted(
        TrainConfig(), SPACING, [(600.0, 500.0, 500.0)], 24, replace(machine, left_s=10**6),
        spacing_is_open=False, filters_are_open=True,
    )  # fmt: skip
    assert large.config.input.batch_size in (1, 2)
    assert wanted_steps(100, 10**4, 2) == wanted_steps(100, 10**4) / 2


def test_single_small_samples_are_convolved_slowly() -> None:
    """The reason; where a later torch convolves them by oneDNN, `fewest_samples` has no reason any more."""
    cpu = torch.device("cpu")
    assert (fewest_samples(cpu, None), fewest_samples(cpu, torch.bfloat16)) == (2, 1)
    weight = torch.zeros(8, 8, 3, 3, 3)
    ways = [
        torch._C._select_conv_backend(  # type: ignore[attr-defined]
            torch.zeros(n, 8, 32, 40, 40), weight, None, [1] * 3, [1] * 3, [1] * 3, False, [0] * 3, 1, None
        )
        for n in (1, 2)
    ]
    if torch.backends.mkldnn.is_available() and torch.__version__.startswith("2.13"):  # type: ignore[no-untyped-call]
        assert [way.name for way in ways] == ["Slow3d", "Mkldnn"]


@pytest.mark.parametrize(
    ("wanted", "has_units", "precision"),
    [
        ("fp32", True, None),
        ("bf16", False, torch.bfloat16),
        ("auto", True, torch.bfloat16),
        ("auto", False, None),
    ],
)
def test_the_machine_is_measured_in_the_precision_of_the_run(
    wanted: Literal["auto", "bf16", "fp32"],
    has_units: bool,
    precision: torch.dtype | None,
    monkeypatch: MonkeyPatch,
) -> None:
    monkeypatch.setattr(arithmetic, "autocast_dtype", lambda device: torch.bfloat16 if has_units else None)
    config = TrainConfig(
        run=RunConfig(precision=wanted),
        input=InputConfig(patch_kij=(32, 32, 32)),
        preprocess=PreprocessConfig(spacing_mm_kij=(4.0, 4.0, 4.0)),
    )
    assert arithmetic.computed_in(config, torch.device("cpu")) == precision
    measured = []

    def seconds_per_voxel(network: object, device: object, precision: object, largest: object) -> float:
        measured.append(precision)
        return 1e-6

    monkeypatch.setattr(step_time, "seconds_per_voxel", seconds_per_voxel)
    patients = [None] * 30
    sources = SimpleNamespace(
        patients=patients, own=SimpleNamespace(patients=patients), counts=lambda: {"Liver": 30}
    )
    found = plan_for_budget(
        config,
        sources,  # type: ignore[arg-type]
        TrainOptions(time_budget_s=600.0, device="cpu"),
        lambda event: None,
        started=time.monotonic(),
        prepared=True,
    )
    assert found is not None and measured and set(measured) == {precision}


def steps(choice: ThreadChoice, seconds: dict[int, float], number: int) -> None:
    for _ in range(number):
        choice.stepped(seconds[choice.now])


def test_one_thread_is_kept_where_it_is_clearly_faster() -> None:
    used: list[int] = []
    choice = ThreadChoice((8, 1), used.append)
    steps(choice, {8: 5.0, 1: 0.5}, 2 * STEPS_EACH)
    assert choice.now == 1 and used == [1]
    # The machine has become idle: it is looked at again.
    steps(choice, {8: 0.1, 1: 0.5}, 5000)
    assert choice.now == 8


def test_all_threads_stay_where_one_is_no_faster() -> None:
    used: list[int] = []
    choice = ThreadChoice((8, 1), used.append)
    steps(choice, {8: 1.0, 1: 0.95}, 2 * STEPS_EACH)
    assert choice.now == 8 and used == [1, 8]
    only = ThreadChoice((1, 1), used.append)
    steps(only, {1: 1.0}, 1000)
    assert used == [1, 8]


def test_waiting_threads_sleep_unless_the_user_says_otherwise(monkeypatch: MonkeyPatch) -> None:
    for name in WAIT_POLICY:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert let_waiting_threads_sleep()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE" and os.environ["KMP_BLOCKTIME"] == "0"
    for name in WAIT_POLICY:  # what was set here must not reach other tests
        monkeypatch.delenv(name, raising=False)
