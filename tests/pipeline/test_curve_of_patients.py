"""The learning curve on tiny patients: three trainings, the same validation patients, nothing done twice."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_patients import write_patient

from contour_ai.errors import InputError
from contour_ai.pipeline import curve_of_patients as module
from contour_ai.pipeline._train import TrainOptions
from contour_ai.pipeline.curve_of_patients import CurvePoint, LearningCurve, learning_curve
from contour_ai.training.config import (
    DataConfig,
    InputConfig,
    ModelConfig,
    NetworkChoice,
    PreprocessConfig,
    RunConfig,
    TrainConfig,
)

CONFIG = TrainConfig(
    model=ModelConfig(name="tiny", kind="phantom"),
    data=DataConfig(validation_share=0.2),
    preprocess=PreprocessConfig(spacing_mm_kij=(6.0, 5.0, 5.0), windows_hu=((-160.0, 240.0),)),
    network=NetworkChoice(base_filters=4),
    input=InputConfig(patch_kij=(8, 16, 16), batch_size=1),
    run=RunConfig(steps=2, validate_every=1, threads=1),
)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    for n in range(12):
        write_patient(folder / f"p{n}", n, {"Brainstem": (2 + n % 3, 8, 10)})
    return folder


@pytest.mark.slow
def test_three_trainings_with_nested_patients(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In steps instead of seconds, so that it takes the same on any machine.
    in_steps = module._options_of_part
    monkeypatch.setattr(module, "_options_of_part", lambda *a: replace(in_steps(*a), time_budget_s=None))
    said: list[str] = []
    curve = learning_curve(
        archive, tmp_path / "out", CONFIG, TrainOptions(device="cpu"), 30.0, on_part=said.append
    )
    splits = {
        part: json.loads((tmp_path / "out" / part / "splits.json").read_text(encoding="utf-8"))
        for part in ("all", "half", "quarter")
    }
    sizes = {part: len(found["training"]) for part, found in splits.items()}
    whole = sizes["all"]
    assert (sizes["half"], sizes["quarter"]) == (round(whole / 2), round(whole / 4))
    assert (
        set(splits["quarter"]["training"]) < set(splits["half"]["training"]) < set(splits["all"]["training"])
    )
    assert len({tuple(sorted(found["validation"])) for found in splits.values()}) == 1
    assert [point.patients for point in curve.of("Brainstem")] == sorted(sizes.values())
    table = list(csv.DictReader((tmp_path / "out" / "learning-curve.csv").open(encoding="utf-8")))
    assert {row["part"]: int(row["patients"]) for row in table} == sizes
    page = (tmp_path / "out" / "learning-curve.html").read_text(encoding="utf-8")
    assert "<svg" in page and "Brainstem" in page and 'http-equiv="refresh"' not in page

    # Again: what is finished stays as it is.
    monkeypatch.setattr(module, "train", lambda *a, **k: pytest.fail("trained again"))
    said.clear()
    again = learning_curve(
        archive, tmp_path / "out", CONFIG, TrainOptions(device="cpu"), 30.0, on_part=said.append
    )
    assert again.points == curve.points
    assert [line.split(":")[1].split(" (")[0] for line in said] == [" finished already"] * 3


def test_a_training_that_was_broken_off_goes_on(tmp_path: Path) -> None:
    run = tmp_path / "all"
    fresh = module._options_of_part(TrainOptions(), tmp_path, run, 60.0)
    assert (fresh.resume, fresh.time_budget_s, fresh.cache_dir) == (False, 60.0, tmp_path / "cache")
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "last.pt").touch()
    begun = module._options_of_part(TrainOptions(), tmp_path, run, 60.0)
    assert (begun.resume, begun.time_budget_s) == (True, None), "within what is left of its own budget"


def test_too_few_patients(tmp_path: Path) -> None:
    for n in range(3):
        write_patient(tmp_path / "data" / f"p{n}", n, {"Brainstem": (2, 8, 10)})
    with pytest.raises(InputError, match="too few patients for a learning curve"):
        learning_curve(tmp_path / "data", tmp_path / "out", CONFIG, TrainOptions(device="cpu"), 30.0)


def test_what_doubling_gave() -> None:
    dice = {"quarter": (5, 0.6), "half": (10, 0.7), "all": (20, 0.78)}
    points = tuple(CurvePoint(part=p, roi="Rectum", patients=n, dice=d) for p, (n, d) in dice.items())
    curve = LearningCurve(folder=Path(), points=points, validation_patients=4)
    assert curve.gain_of_doubling("Rectum") == pytest.approx(0.08)
    assert curve.gain_of_doubling("Bladder") is None
    assert module.advice_of(curve) == ["Rectum: +0.080 from half of the patients to all"]
