"""The loop learns, resumes bit for bit, keeps to its time, and stops where the loss is no number."""

from __future__ import annotations

import csv
import math
import time
from dataclasses import replace
from functools import partialmethod
from pathlib import Path

import numpy as np
import pytest
import torch
from training_cases import ROIS, case

from contour_ai.errors import ContourAIError, ModelError
from contour_ai.network import NetworkConfig, ResidualUNet3d, build_network
from contour_ai.preprocess import PreprocessSettings
from contour_ai.progress import ProgressEvent
from contour_ai.training.config import (
    AugmentationConfig,
    DataConfig,
    InputConfig,
    LossConfig,
    NetworkChoice,
    OptimiserConfig,
    RunConfig,
    ScheduleConfig,
    TrainConfig,
)
from contour_ai.training.job import Job, Progress
from contour_ai.training.loop import train_network
from contour_ai.training.plan import plan_input, plan_network
from contour_ai.training.validation import Score

SETTINGS = PreprocessSettings(spacing_mm_kij=(4.0, 4.0, 4.0), windows_hu=((-160.0, 240.0),))
CONFIG = TrainConfig(
    network=NetworkChoice(base_filters=4, norm="batch", dropout=0.1),
    input=InputConfig(patch_kij=(16, 24, 24), batch_size=2),
    augmentation=AugmentationConfig(shift_mm=4.0),
    optimiser=OptimiserConfig(learning_rate=5e-3, ema_decay=0.9),
    run=RunConfig(steps=8, validate_every=4, precision="fp32", threads=1),
)


def job(run_dir: Path, config: TrainConfig = CONFIG, **changes: object) -> Job:
    cases = [case(n, presence=(True, n % 2 == 0, True)) for n in range(5)]
    network = plan_network(config.network, SETTINGS, len(ROIS))
    plan = plan_input(config, ROIS, SETTINGS, network, [c.hu.shape for c in cases], "cpu")  # type: ignore[misc]
    made = Job(
        config=config,
        plan=plan,
        training=cases[:4],
        validation=cases[4:],
        run_dir=run_dir,
        device=torch.device("cpu"),
        fingerprint="data",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def run(work: Job, on_progress=lambda event: None) -> tuple[dict[str, torch.Tensor], Progress]:  # type: ignore[no-untyped-def]
    torch.manual_seed(11)
    return train_network(work, build_network(work.plan.network), on_progress)


def last(run_dir: Path) -> dict:  # type: ignore[type-arg]
    return torch.load(run_dir / "checkpoints" / "last.pt", weights_only=True)


def assert_same(a: object, b: object, path: str = "") -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            if key not in ("elapsed_s", "scores"):
                assert_same(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, list):
        for n, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{path}[{n}]")
    else:
        assert a == b, path


class InterruptedHereError(Exception):
    pass


@pytest.mark.parametrize("name", ["adamw", "muon", "sgd"])
def test_resuming_continues_bit_for_bit(tmp_path: Path, name: str) -> None:
    config = replace(CONFIG, optimiser=replace(CONFIG.optimiser, name=name))
    run(job(tmp_path / "whole", config))

    def interrupt(event: ProgressEvent) -> None:
        if event.stage == "training" and event.facts["step"] == 8:
            raise InterruptedHereError

    with pytest.raises(InterruptedHereError):
        run(job(tmp_path / "parts", config), interrupt)
    assert last(tmp_path / "parts")["step"] == 4
    (tmp_path / "parts" / "checkpoints" / ".tmp-12345678.pt").write_bytes(b"killed while writing")
    run(job(tmp_path / "parts", config, resume=True))
    assert_same(last(tmp_path / "whole"), last(tmp_path / "parts"))
    assert [s["step"] for s in last(tmp_path / "parts")["scores"]] == [4, 8]
    best = f"best-{last(tmp_path / 'parts')['best_step']}.pt"
    assert sorted(p.name for p in (tmp_path / "parts" / "checkpoints").iterdir()) == [best, "last.pt"]


def test_the_model_may_be_the_mean_of_the_best_and_the_last_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Score.of
    looked_at: list[int] = []

    def falling(step: int, *others: object) -> Score:
        looked_at.append(step)
        return replace(real(step, *others), dice=dict.fromkeys(ROIS, 1 / step))  # type: ignore[arg-type]

    monkeypatch.setattr(Score, "of", falling)
    best, at = run(job(tmp_path / "best"))
    assert (at.best_step, at.step) == (4, 8) and at.shipped.step == 4
    config = replace(CONFIG, run=replace(CONFIG.run, weights="mean"))
    looked_at.clear()
    weights, at = run(job(tmp_path / "mean", config))
    assert looked_at == [4, 8, 8] and at.shipped is at.mean and at.best_step == 4
    ends = last(tmp_path / "mean")["average"]
    for name, value in weights.items():
        expected = (best[name] + ends[name]) / 2 if value.is_floating_point() else ends[name]
        torch.testing.assert_close(value, expected)
    # The run that went before can still be turned into it, and into itself.
    again, _ = run(job(tmp_path / "best", config, resume=True))
    assert_same(again, weights)
    assert_same(run(job(tmp_path / "mean", resume=True))[0], best)


def test_filling_in_is_done_once_and_survives_being_killed(tmp_path: Path) -> None:
    config = replace(
        CONFIG,
        data=DataConfig(pseudo_label_from=0.4),
        loss=LossConfig(pseudo_label_weight=0.5),
        run=replace(CONFIG.run, checkpoint_minutes=1e-9),
    )

    def like_ball(self, hu, *_):  # type: ignore[no-untyped-def]
        return np.where(np.abs(hu - 120) < 30, 1.0, -1.0)[None].repeat(len(ROIS), 0).astype(np.float32)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("contour_ai.inference.Predictor.logits", like_ball)
        patch.setattr(
            "contour_ai.training.pseudo_labels._plausible_cm3", lambda cases: {ROIS[1]: (0.01, 10**6)}
        )
        events: list[ProgressEvent] = []
        _, at = run(job(tmp_path / "whole", config), events.append)
        assert at.pseudo_label_step == 4 and at.pseudo_labels == {ROIS[1]: 2}
        assert [e.done for e in events if e.stage == "pseudo-labels"] == [0, 1, 2, 3, 4]
        for interrupted_at in (3, 6):
            parts = tmp_path / f"parts-{interrupted_at}"

            def interrupt(event: ProgressEvent, step: int = interrupted_at) -> None:
                if event.stage == "training" and event.facts["step"] == step:
                    raise InterruptedHereError

            with pytest.raises(InterruptedHereError):
                run(job(parts, config), interrupt)
            run(job(parts, config, resume=True))
            assert_same(last(tmp_path / "whole"), last(parts))
    plain = replace(config, data=DataConfig())
    run(job(tmp_path / "plain", plain))
    assert not torch.equal(
        last(tmp_path / "plain")["model"]["head.weight"], last(parts)["model"]["head.weight"]
    )


def test_what_a_run_leaves(tmp_path: Path) -> None:
    seen: list[ProgressEvent] = []
    weights, at = run(job(tmp_path), seen.append)
    assert at.step == 8 and at.best_step in (4, 8)
    with (tmp_path / "metrics.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["4", "8"]
    assert float(rows[1]["mean_dice"]) == pytest.approx(at.scores[1].mean, abs=1e-4)
    assert float(rows[1]["surface dice Brainstem"]) == pytest.approx(
        at.scores[1].surface_dice["Brainstem"], abs=1e-4
    )
    assert float(rows[1]["hd95_mm Parotid_L"]) == pytest.approx(at.scores[1].hd95_mm["Parotid_L"], abs=1e-4)
    for name, value in at.scores[1].accuracies.items():
        assert float(rows[1][name]) == pytest.approx(value, abs=1e-4)
    assert len(at.scores[1].accuracies) == 4
    (worst,) = (tmp_path / "worst").iterdir()
    assert worst.name.startswith("1_patient-4_") and worst.suffix == ".png"
    assert set(weights) == set(build_network(job(tmp_path).plan.network).state_dict())
    assert list((tmp_path / "tensorboard").glob("events.*"))
    facts = [event.facts for event in seen if event.stage == "training"][-1]
    assert {"loss", "steps/s", "left", "step"} <= set(facts)
    assert {event.stage for event in seen} == {"training", "validation", "validated"}


def test_it_learns_left_from_right(tmp_path: Path) -> None:
    config = replace(
        CONFIG,
        network=NetworkChoice(base_filters=8),
        augmentation=AugmentationConfig(shift_mm=4.0, rotation_deg=10.0, cut_probability=0.0),
        optimiser=OptimiserConfig(learning_rate=1e-2, ema_decay=0.9),
        schedule=ScheduleConfig(name="one-cycle"),
        run=RunConfig(steps=120, validate_every=120, threads=1),
    )
    _, at = run(job(tmp_path, config))
    assert at.scores[-1].dice["Parotid_L"] > 0.7 and at.scores[-1].dice["Brainstem"] > 0.7
    assert math.isfinite(at.scores[-1].loss)


def test_a_time_budget_is_kept_and_ends_with_a_validation(tmp_path: Path) -> None:
    config = replace(CONFIG, run=replace(CONFIG.run, steps=10**6, validate_every=10**6))
    started = time.monotonic()
    _, at = run(job(tmp_path, config, time_budget_s=20.0))
    assert time.monotonic() - started < 40  # without the budget it would take days
    assert 1 < at.step < 10**5 and at.scores[-1].step == at.step


def test_a_budget_that_was_interrupted_goes_on_in_the_time_given_now(tmp_path: Path) -> None:
    config = replace(
        CONFIG, run=replace(CONFIG.run, steps=10**6, validate_every=10**6, checkpoint_minutes=1e-9)
    )

    def interrupt(event: ProgressEvent) -> None:
        if event.stage == "training" and event.facts["step"] == 10:
            raise InterruptedHereError

    started = time.monotonic()
    with pytest.raises(InterruptedHereError):
        run(job(tmp_path, config, time_budget_s=600.0), interrupt)
    before = last(tmp_path)
    assert 0 < before["done"] < 0.5 and 600 - (time.monotonic() - started) < before["budget_left_s"] < 600
    shares: list[float] = []
    started = time.monotonic()
    _, at = run(
        job(tmp_path, config, resume=True, time_budget_s=9.0),
        lambda event: shares.append(event.done) if event.stage == "training" else None,
    )
    assert time.monotonic() - started < 40  # without the budget it would take days
    assert shares == sorted(shares) and shares[0] >= before["done"] and shares[-1] == 1.0
    assert at.step > before["step"] and at.scores[-1].step == at.step


@pytest.mark.slow
def test_a_compiled_training_is_the_same_and_leaves_the_same_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The graphs of forward and backward are taken as always, but run as they are: g++ would translate them for minutes.
    monkeypatch.setattr(
        ResidualUNet3d, "compile", partialmethod(torch.nn.Module.compile, backend="aot_eager")
    )
    small = NetworkConfig(
        name="custom",
        in_channels=1,
        out_channels=len(ROIS),
        base_filters=2,
        levels=2,
        norm="batch",
        dropout=0.0,
    )
    config = replace(CONFIG, run=replace(CONFIG.run, steps=2, validate_every=1))
    compiled = replace(config, run=replace(config.run, compile=True))

    def trained(name: str, config: TrainConfig, **changes: object) -> dict[str, torch.Tensor]:
        work = job(tmp_path / name, config, **changes)
        return run(replace(work, plan=replace(work.plan, network=small)))[0]

    plain, fast = trained("plain", config), trained("fast", compiled)
    assert list(plain) == list(fast)
    for key, value in plain.items():
        torch.testing.assert_close(fast[key], value, rtol=1e-3, atol=1e-4, msg=key)
    more = replace(compiled, run=replace(compiled.run, steps=3))
    assert list(trained("fast", more, resume=True)) == list(plain)
    assert last(tmp_path / "fast")["step"] == 3


def test_resuming_another_training_is_refused(tmp_path: Path) -> None:
    config = replace(CONFIG, run=replace(CONFIG.run, steps=1, validate_every=1))
    run(job(tmp_path, config))
    with pytest.raises(ModelError, match="other patients, ROIs or settings"):
        run(job(tmp_path, config, resume=True, fingerprint="other"))
    with pytest.raises(ModelError, match="No checkpoint to resume from"):
        run(job(tmp_path / "none", config, resume=True))
    (tmp_path / "checkpoints" / "last.pt").write_bytes(b"half a file")
    with pytest.raises(ModelError, match="The checkpoint cannot be read"):
        run(job(tmp_path, config, resume=True))


def test_a_loss_that_is_no_number_stops_and_names_the_patients(tmp_path: Path) -> None:
    work = job(tmp_path)
    network = build_network(work.plan.network)
    with torch.no_grad():
        network.head.bias.fill_(float("nan"))
    with pytest.raises(
        ContourAIError, match=r"(?s)The training diverged.*step 1, patients patient-\d, patient-\d"
    ):
        train_network(work, network)
    assert last(tmp_path)["step"] == 0
