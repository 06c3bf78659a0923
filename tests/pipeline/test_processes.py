"""Training in two processes: the same curve and weights as in one with twice the samples a step."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_train import write_patient
from training_files import tensors

from contour_ai.bundle import load_bundle

CONFIG = """
model: {{name: tiny, kind: phantom}}
network: {{base_filters: 4, norm: instance, deep_supervision: 1}}
preprocess: {{spacing_mm_kij: [6, 5, 5]}}
input: {{patch_kij: [8, 16, 16], batch_size: {batch_size}}}
optimiser: {{learning_rate: 2.0e-3}}
run: {{steps: {steps}, validate_every: {validate_every}, checkpoint_minutes: 0.001, threads: 1, precision: fp32}}
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five patients, some without a parotid."""
    folder = tmp_path_factory.mktemp("archive")
    for number in range(1, 6):
        rois = {"Brainstem": (2, 8, 10), "Parotid_L": (5, 8, 15), "Parotid_R": (6, 7, 5)}
        if number % 2:
            del rois["Parotid_R"]
        write_patient(folder / str(number), number, rois)
    return folder


def command(archive: Path, run: Path, processes: int = 1, *more: str, **config: int) -> list[str]:
    """The command line of a training."""
    path = run.parent / f"{run.name}.yaml"
    path.write_text(CONFIG.format(**config), encoding="utf-8")
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    train = ["-m", "contour_ai", "train", str(archive), "--out", str(run), *more]
    return [sys.executable, *(launcher if processes > 1 else []), *train, "--config", str(path)]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def run_command(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        arguments, env=environment(), capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def losses(run: Path) -> list[float]:
    with (run / "metrics.csv").open(encoding="utf-8") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


@pytest.mark.slow
def test_two_processes_learn_as_one_with_twice_the_samples(archive: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    run_command(command(archive, one, batch_size=2, steps=4, validate_every=2))
    said = run_command(command(archive, two, 2, batch_size=1, steps=4, validate_every=2))
    assert len(losses(one)) == 2 and losses(one)[0] != losses(one)[-1]
    np.testing.assert_allclose(losses(one), losses(two), rtol=1e-4)
    mine, theirs = tensors(one / "bundle"), tensors(two / "bundle")
    for name, value in mine.items():
        np.testing.assert_allclose(value, theirs[name], atol=2e-3, err_msg=name)
    # The first process speaks and writes, and it alone.
    assert said.stderr.count("samples a step") == 1 and said.stdout.count("model: ") == 1
    assert load_bundle(two / "bundle").training.samples_a_step == 2
    assert len(list((two / "tensorboard").glob("events.*"))) == 1


def test_an_error_of_the_first_process_is_told_once_and_ends_all(archive: Path, tmp_path: Path) -> None:
    begun = tmp_path / "run" / "checkpoints" / "last.pt"
    begun.parent.mkdir(parents=True)
    begun.touch()
    arguments = command(archive, tmp_path / "run", 2, batch_size=1, steps=1, validate_every=1)
    done = subprocess.run(
        arguments, env=environment(), capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode != 0
    assert done.stderr.count("There is a training in this folder already.") == 1
