"""A training resumes from whatever a killed process left, and says in its plan what it takes for certain."""

from __future__ import annotations

import os
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_train import CONFIG, write_patient

from contour_ai.bundle import load_bundle
from contour_ai.errors import ContourAIError, OutputError
from contour_ai.files import LOCK, only_one
from contour_ai.pipeline._train import TrainOptions, preparing, run, train
from contour_ai.training.config import LossConfig

ROIS = {"Brainstem": (2, 8, 10), "Parotid_L": (5, 8, 15), "Parotid_R": (6, 7, 5)}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    for number in range(1, 6):
        write_patient(folder / str(number), number, ROIS)
    return folder


def test_killed_before_the_first_checkpoint_it_can_be_started_anew(archive: Path, tmp_path: Path) -> None:
    left_behind = tmp_path / "checkpoints" / ".tmp-12345678.pt"
    left_behind.parent.mkdir()
    left_behind.write_bytes(b"half a checkpoint")
    train(archive, tmp_path, CONFIG)
    assert not left_behind.exists() and (tmp_path / "bundle" / "model.yaml").is_file()


def test_killed_while_the_bundle_was_written_it_is_written_again(archive: Path, tmp_path: Path) -> None:
    model = train(archive, tmp_path, CONFIG)
    half = tmp_path / ".tmp-12345678"
    (tmp_path / "bundle").rename(half)
    (half / "model.yaml").unlink()
    again = train(archive, tmp_path, CONFIG, options=TrainOptions(resume=True))
    assert not half.exists() and again == load_bundle(tmp_path / "bundle")
    assert again.weights_sha256 == model.weights_sha256
    assert again.training.steps == model.training.steps


def test_a_window_of_whole_numbers_is_the_same_after_it_was_written(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "plan_windows", lambda cases: ((-1000, 400), (0, 80.0)))
    config = replace(CONFIG, preprocess=replace(CONFIG.preprocess, windows_hu=None))
    first = train(archive, tmp_path, config)
    again = train(archive, tmp_path, config, options=TrainOptions(resume=True))
    assert again.training.steps == first.training.steps
    assert again.preprocess.windows_hu == ((-1000, 400), (0, 80))


def test_a_refused_resumption_says_what_changed(archive: Path, tmp_path: Path) -> None:
    train(archive, tmp_path / "run", CONFIG)
    kept = tmp_path / "run" / "config.yaml"
    text = kept.read_text(encoding="utf-8")

    def refused(data_dir: Path = archive) -> str:
        with pytest.raises(ContourAIError) as error:
            train(data_dir, tmp_path / "run", options=TrainOptions(resume=True))
        return str(error.value)

    rate = re.search(r"learning_rate: (.*)", text)
    assert rate is not None
    kept.write_text(text.replace(rate[0], "learning_rate: 0.5"), encoding="utf-8")
    said = refused()
    assert f"optimiser.learning_rate is 0.5, was {float(rate[1])}" in said and "undo what was changed" in said
    kept.write_text(text + "run: {}\n", encoding="utf-8")
    said = refused()
    assert "'run' is there twice" in said and "--config" not in said
    kept.unlink()
    said = refused()
    assert "is not there any more" in said and "put it back" in said
    kept.write_text(text, encoding="utf-8")
    fewer = tmp_path / "fewer"
    shutil.copytree(archive, fewer)
    shutil.rmtree(fewer / "2")
    assert re.search(r"patient \S*2 is gone", refused(fewer))


def test_what_is_left_of_a_time_budget_is_told_and_bounds_the_end(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    config = replace(CONFIG, run=replace(CONFIG.run, steps=10_000, validate_every=10_000))
    with monkeypatch.context() as patch:
        patch.setattr("contour_ai.training.loop._take_steps", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(archive, tmp_path, config, options=TrainOptions(time_budget_s=20.0))
    seconds: list[float] = []
    tuned = run.tuned
    monkeypatch.setattr(run, "tuned", lambda *a, seconds: seconds_of(seconds) or tuned(*a, seconds=seconds))
    seconds_of = seconds.append
    plans: list[dict[str, str]] = []
    options = TrainOptions(resume=True, on_plan=lambda facts: plans.append(dict(facts)))
    began = time.monotonic()
    train(archive, tmp_path, config, options=options)
    left = re.fullmatch(r"as many as fit the (\d+) s that are left", plans[0]["steps"])
    assert left is not None and 0 < int(left[1]) < 20
    assert time.monotonic() - began < 60 and seconds == [pytest.approx(0.3)]


def test_a_second_training_in_the_folder_is_refused_and_names_the_first(
    archive: Path, tmp_path: Path
) -> None:
    with (
        only_one(tmp_path, what="", fix=""),
        pytest.raises(
            OutputError, match=rf"(?s)Another training.*process {os.getpid()} on .*, since 2.*--resume"
        ),
    ):
        train(archive, tmp_path, CONFIG)
    assert not (tmp_path / LOCK).exists()


def test_files_of_somebody_else_in_the_run_folder_stay(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("# mine\n", encoding="utf-8")
    with pytest.raises(OutputError, match="contour-ai did not write it"):
        train(archive, tmp_path, CONFIG)
    assert (tmp_path / "config.yaml").read_text(encoding="utf-8") == "# mine\n"


def test_what_never_overlaps_is_in_the_plan_and_in_the_loss(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contour_ai.training import step

    seen: list[object] = []
    loss = step.masked_loss
    monkeypatch.setattr(step, "masked_loss", lambda *a, **k: seen.append(k["exclusive"]) or loss(*a, **k))
    plans: list[dict[str, str]] = []
    options = TrainOptions(on_plan=lambda facts: plans.append(dict(facts)))
    train(archive, tmp_path / "measured", CONFIG, options=options)
    assert plans[0]["never overlapping"].startswith("3 pairs of 3, assumed not to overlap: Brainstem/")
    measured = seen[0]
    assert isinstance(measured, torch.Tensor) and int(measured.sum()) == 6
    declared = replace(CONFIG, loss=LossConfig(may_overlap=(("Brainstem", "Parotid_L"),)))
    train(archive, tmp_path / "declared", declared, options=options)
    # And so may its mirror image, the brainstem and the right parotid.
    assert plans[1]["never overlapping"].endswith("overlap: Parotid_L/Parotid_R")
    train(
        archive, tmp_path / "off", replace(CONFIG, loss=LossConfig(certain_negatives=False)), options=options
    )
    assert "never overlapping" not in plans[2] and seen[-1] is None


def test_the_norm_is_planned_and_kept(archive: Path, tmp_path: Path) -> None:
    from contour_ai.training.config import load_config

    plans: list[dict[str, str]] = []
    model = train(
        archive, tmp_path, CONFIG, options=TrainOptions(on_plan=lambda facts: plans.append(dict(facts)))
    )
    assert CONFIG.network.norm is None and "instance norm" in plans[0]["network"]
    assert model.network.norm == load_config(tmp_path / "config.yaml").network.norm == "instance"
