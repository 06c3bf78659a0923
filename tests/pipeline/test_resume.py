"""Training goes on from whatever a killed process left, and says in its plan what it takes for certain."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_train import CONFIG, write_patient

from contour_ai.bundle import load_bundle
from contour_ai.pipeline._train import TrainOptions, train
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
    assert again.training["steps"] == model.training["steps"]


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
    assert plans[0]["never overlapping"].startswith(
        "3 pairs of 3, certain negatives of each other: Brainstem/"
    )
    measured = seen[0]
    assert isinstance(measured, torch.Tensor) and int(measured.sum()) == 6
    declared = replace(CONFIG, loss=LossConfig(may_overlap=(("Brainstem", "Parotid_L"),)))
    train(archive, tmp_path / "declared", declared, options=options)
    # And so may its mirror image, the brainstem and the right parotid.
    assert plans[1]["never overlapping"].endswith("other: Parotid_L/Parotid_R")
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
