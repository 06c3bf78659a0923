"""A checkpoint is taken up on other machines, by other numbers of processes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_loop import CONFIG, job, last, run

from contour_ai.training.checkpoint import LAST, random_state, restore_random_state, save_checkpoint


def test_generators_of_gpus_that_are_not_here_are_passed_over() -> None:
    torch.manual_seed(4)
    state = {**random_state(), "cuda": [torch.zeros(16, dtype=torch.uint8)] * 99}
    expected = torch.rand(3)
    restore_random_state(state)
    assert torch.equal(torch.rand(3), expected)


def test_another_number_of_processes_goes_on_for_more_steps_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = replace(CONFIG, run=replace(CONFIG.run, steps=1, validate_every=1))
    run(job(tmp_path, one))
    saved = last(tmp_path)
    save_checkpoint(tmp_path / "checkpoints" / LAST, {**saved, "random": saved["random"] * 2})
    two = replace(one, run=replace(one.run, steps=2))
    _, at = run(job(tmp_path, two, resume=True))
    assert at.step == 2 and "1 processes go on with a training of 2" in caplog.text
