"""Resampling where the network runs gives what the CPU's gives, on every grid; torch's CPU stands in for a GPU."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from test_preprocess import EVERY_GRID, SETTINGS, ball, centre, everything

from contour_ai import device_resampling
from contour_ai.device_resampling import DeviceResampler
from contour_ai.grid import Grid
from contour_ai.preprocess import prepare, resample_logits_to_ct
from contour_ai.volume import Volume

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")],
    ),
]


@EVERY_GRID
@pytest.mark.parametrize("device", DEVICES)
def test_there_and_back_are_as_on_the_cpu(grid: Grid, device: str) -> None:
    resampler = DeviceResampler(torch.device(device))
    hu = np.random.default_rng(1).integers(-300, 300, grid.shape_kij).astype(np.int16)
    for body in (everything(grid), ball(grid, centre(grid), 25.0)):
        plain = prepare(Volume(hu, grid), SETTINGS, body=body)
        there = prepare(Volume(hu, grid), SETTINGS, body=body, resampler=resampler)
        assert there.grid.matches(plain.grid, 0.0)
        assert (there.body != plain.body).mean() < 1e-4  # a voxel that is half body by a rounding error
        same = there.body & plain.body
        assert np.abs(there.hu.astype(int) - plain.hu)[same].max() <= 1  # rounding of ties
        assert (there.hu != plain.hu)[same].mean() < 0.01
    logit = np.random.default_rng(2).normal(-1, 1, plain.grid.shape_kij).astype(np.float32)
    expected, found = (
        resample_logits_to_ct(logit, plain.grid, grid, threshold=0.3, **options)  # type: ignore[arg-type]
        for options in ({}, {"resampler": resampler})
    )
    assert expected is not None and found is not None
    assert found[0] == expected[0]
    np.testing.assert_allclose(found[1], expected[1], atol=1e-4)


def test_without_memory_the_cpu_does_it_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory (injected)")

    monkeypatch.setattr(device_resampling, "_along", full)
    grid = Grid.axial((6, 20, 24), (5.0, 2.0, 2.0))
    hu = np.random.default_rng(1).integers(-300, 300, grid.shape_kij).astype(np.int16)
    resampler = DeviceResampler(torch.device("cpu"))
    plain = prepare(Volume(hu, grid), SETTINGS, body=everything(grid))
    with caplog.at_level(logging.WARNING, "contour_ai"):
        there = prepare(Volume(hu, grid), SETTINGS, body=everything(grid), resampler=resampler)
        logit = np.random.default_rng(2).normal(-1, 1, plain.grid.shape_kij).astype(np.float32)
        found = resample_logits_to_ct(logit, plain.grid, grid, resampler=resampler)
    np.testing.assert_array_equal(there.hu, plain.hu)
    expected = resample_logits_to_ct(logit, plain.grid, grid)
    assert expected is not None and found is not None
    np.testing.assert_array_equal(found[1], expected[1])
    assert caplog.text.count("not enough to resample there") >= 2
