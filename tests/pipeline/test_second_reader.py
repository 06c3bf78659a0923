"""The second reader of a training: its weights in the bundle, its own patients' voxels, stopping and going on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from test_train import CONFIG
from tiny_patients import write_patient

from contour_ai import second_reading
from contour_ai.bundle import load_bundle
from contour_ai.cli.main import cli
from contour_ai.errors import ConfigError, ModelError
from contour_ai.pipeline._train import TrainOptions, second_reader, train
from contour_ai.pipeline._train.second_reader import budget_share
from contour_ai.pipeline.calibration import CalibrationOptions
from contour_ai.pipeline.second_reader_training import SecondReaderOptions, with_second_reader
from contour_ai.progress import ProgressEvent
from contour_ai.second_reading import SecondNetwork
from contour_ai.training.checkpoint import LAST
from contour_ai.training.second_reader_config import SecondReaderConfig
from contour_ai.training.stopping import TrainingStoppedError

STEPS = 12
TWO = replace(CONFIG, second_reader=SecondReaderConfig(steps=STEPS, base_filters=4))


@pytest.fixture(autouse=True)
def short_trainings_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second_reader, "FEWEST_READER_STEPS", 1)
    monkeypatch.setattr(second_reader, "LEAST_MEAN_DICE", -1.0)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    for n in range(1, 5):
        write_patient(folder / f"p{n}", n, {"Brainstem": (2, 8, 10), "Parotid_L": (5, 8, 15)})
    return folder


def test_a_training_gives_a_second_reader_of_its_own(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages: list[str] = []
    bundle = train(archive, tmp_path, TWO, on_progress=lambda event: stages.append(event.stage))
    second = bundle.second_reader
    assert second is not None and second.steps == STEPS and second.seed == TWO.run.seed + 1
    assert second.spacing_mm_kij == (9.0, 7.5, 7.5) and second.network.base_filters == 4
    assert second.patients == bundle.results.patients
    assert "second reader: training" in stages and stages.count("validated") == 2  # the first network's alone
    assert not (tmp_path / second_reader.FOLDER / second_reader.PATIENTS).exists()
    # Other weights, and an answer on the model's grid.
    network = SecondNetwork.of(load_bundle(tmp_path / "bundle"), torch.device("cpu"), None)
    assert network is not None
    hu = np.full((9, 20, 21), -1024, np.int16)
    hu[2:7, 4:16, 4:16] = 40
    logits = network.logits(hu, (6.0, 5.0, 5.0))
    assert logits.shape == (2, 9, 20, 21) and np.isfinite(logits).all()
    assert network.masks(hu, (6.0, 5.0, 5.0), hu > -500) == {}, (
        "what it finds too poorly it has no opinion on"
    )
    monkeypatch.setattr(second_reading, "LEAST_ROI_DICE", 0.0)
    masks = network.masks(hu, (6.0, 5.0, 5.0), hu > -500)
    assert set(masks) == {"Brainstem", "Parotid_L"} and not any(
        mask[hu < -500].any() for mask in masks.values()
    )


def test_stopped_in_the_second_training_it_goes_on_there(archive: Path, tmp_path: Path) -> None:
    whole = train(archive, tmp_path / "whole", TWO)

    def stop(event: ProgressEvent) -> None:
        if event.stage == "second reader: training":
            raise TrainingStoppedError

    with pytest.raises(TrainingStoppedError):
        train(archive, tmp_path / "run", TWO, on_progress=stop)
    saved = tmp_path / "run" / second_reader.FOLDER / "checkpoints" / LAST
    assert saved.is_file() and not (tmp_path / "run" / "bundle").exists()
    resumed = train(archive, tmp_path / "run", TWO, options=TrainOptions(resume=True))
    assert resumed.second_reader is not None and resumed.weights_sha256 == whole.weights_sha256
    assert whole.second_reader is not None
    assert resumed.second_reader.weights_sha256 == whole.second_reader.weights_sha256


@pytest.mark.parametrize("config", [CONFIG, replace(TWO, second_reader=SecondReaderConfig(enabled=False))])
def test_there_is_none_where_it_is_off_or_the_training_short(
    archive: Path, tmp_path: Path, config: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(second_reader, "FEWEST_READER_STEPS", 100)
    bundle = train(archive, tmp_path, config)  # type: ignore[arg-type]
    assert bundle.second_reader is None and not (tmp_path / second_reader.FOLDER).exists()
    assert "second_reader" not in (tmp_path / "bundle" / "model.yaml").read_text(encoding="utf-8")


def test_its_share_of_a_time_budget() -> None:
    assert budget_share(TWO, 1000.0) == pytest.approx(120.0)
    assert budget_share(TWO, None) == budget_share(TWO, 30.0) == 0.0
    assert budget_share(replace(TWO, second_reader=SecondReaderConfig(enabled=False)), 1000.0) == 0.0
    with pytest.raises(ConfigError, match=r"second_reader.budget_share"):
        SecondReaderConfig(budget_share=0.2)


def test_one_that_finds_too_little_is_not_kept(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(second_reader, "LEAST_MEAN_DICE", 1.1)
    assert train(archive, tmp_path, TWO).second_reader is None
    assert "The second reader is not kept: mean Dice" in caplog.text


def test_a_model_made_before_gets_one(archive: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    off = replace(TWO, second_reader=replace(TWO.second_reader, enabled=False))
    before = train(archive, run, off)
    done = CliRunner().invoke(
        cli, ["models", "second-reader", str(run / "bundle"), str(archive), "--run", str(run)]
    )
    assert done.exit_code == 0, done.output
    after = load_bundle(run / "bundle")
    assert after.second_reader is not None and after.weights_sha256 == before.weights_sha256
    assert after.inference_fingerprint == before.inference_fingerprint
    assert f"second reader, {STEPS} steps" in done.output
    assert "### Second reader" in (run / "bundle" / "MODEL_CARD.md").read_text(encoding="utf-8")
    held_back = json.loads((run / "splits.json").read_text(encoding="utf-8"))["validation"]
    assert after.second_reader.patients == len(held_back)


def test_without_the_splits_of_a_training_there_is_no_second_reader(archive: Path, tmp_path: Path) -> None:
    bundle = load_bundle("phantom-headneck")
    with pytest.raises(ConfigError, match="no others"):
        with_second_reader(
            bundle, archive, tmp_path, SecondReaderOptions(archive=CalibrationOptions(), config=TWO)
        )


def test_damaged_weights_of_a_second_reader_are_refused(archive: Path, tmp_path: Path) -> None:
    bundle = train(archive, tmp_path, TWO)
    path = bundle.second_reader_path
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelError, match=r"missing or damaged(.|\n)*second-reader.safetensors"):
        load_bundle(bundle.folder)
    path.unlink()
    with pytest.raises(ModelError, match=r"missing or damaged"):
        load_bundle(bundle.folder)
