"""A checkpoint is taken up on other machines, by other numbers of processes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_loop import CONFIG, job, last, run

from contour_ai.errors import ModelError
from contour_ai.training.checkpoint import LAST, random_state, restore_random_state, save_checkpoint
from contour_ai.training.resuming import read_training


def test_generators_of_gpus_that_are_not_here_are_passed_over() -> None:
    torch.manual_seed(4)
    state = replace(random_state(), cuda=[torch.zeros(16, dtype=torch.uint8)] * 99)
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
    assert at.step == 2 and "1 processes resume a training of 2" in caplog.text


def test_unknown_missing_and_other_values_are_refused_by_name(tmp_path: Path) -> None:
    one = replace(CONFIG, run=replace(CONFIG.run, steps=1, validate_every=1))
    run(job(tmp_path, one))
    path, whole = tmp_path / "checkpoints" / LAST, last(tmp_path)
    score = whole["scores"][0]
    for content, message in (
        ({**whole, "best_stepp": 1}, "unknown key 'best_stepp'.*expected: best_step\n"),
        ({**whole, "scores": [{**score, "surface": {}}]}, "unknown key 'surface'"),
        ({**whole, "step": "1"}, "value of 'step'.*found: str"),
        ({k: v for k, v in whole.items() if k != "optimiser"}, "not complete.*no optimiser"),
        ([1], "no checkpoint"),
    ):
        torch.save(content, path)
        with pytest.raises(ModelError, match=f"(?s){message}") as caught:
            run(job(tmp_path, one, resume=True))
        assert str(path) in str(caught.value)


def test_a_checkpoint_of_version_0_1_is_taken_up(tmp_path: Path) -> None:
    one = replace(CONFIG, run=replace(CONFIG.run, steps=1, validate_every=1))
    run(job(tmp_path, one))
    path, saved = tmp_path / "checkpoints" / LAST, last(tmp_path)
    for key in ("pseudo_label_step", "pseudo_labels", "validation_due", "whole_budget_s", "started_from"):
        del saved[key]
    older = [
        {k: v for k, v in score.items() if k not in ("surface_dice", "hd95_mm", "accuracies")}
        for score in saved["scores"]
    ]
    save_checkpoint(path, {**saved, "scores": older, "filled_step": 1, "filled": {"Brain": 2}})
    progress = read_training(path).progress
    assert (progress.pseudo_label_step, progress.pseudo_labels) == (1, {"Brain": 2})
    save_checkpoint(path, {**saved, "scores": older, "filled_step": 0, "filled": {}})
    _, at = run(job(tmp_path, replace(one, run=replace(one.run, steps=2)), resume=True))
    assert at.step == 2 and at.scores[0].surface_dice == {}
