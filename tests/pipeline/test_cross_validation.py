"""Trainings that held out one part of the patients each, put together into a model's card."""

from __future__ import annotations

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from test_train import CONFIG as TINY
from tiny_patients import write_patient

from contour_ai.bundle import DataRecord, ResultsRecord, load_bundle
from contour_ai.cli.main import cli
from contour_ai.errors import ConfigError, ContourAIError, ModelError
from contour_ai.pipeline._train import train
from contour_ai.pipeline.cross_validation import cross_validated
from contour_ai.structures import roi_info
from contour_ai.training.config import DataConfig

CONFIG = replace(TINY, data=DataConfig(rois=("Brainstem", "Parotid_L")), run=replace(TINY.run, steps=4))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1 and 2 held out a half of four patients each, "other" a half of them with another recipe, "all" is the model."""
    folder = tmp_path_factory.mktemp("runs")
    for n in range(1, 5):
        rois = {"Brainstem": (2, 8, 10), **({"Parotid_L": (5, 8, 15)} if n != 2 else {})}
        write_patient(folder / "archive" / str(n), n, rois)
    longer = replace(CONFIG, run=replace(CONFIG.run, steps=5))
    for name, config, fold in (
        ("1", CONFIG, (1, 2)),
        ("2", replace(CONFIG, run=replace(CONFIG.run, checkpoint_minutes=7.0)), (2, 2)),
        ("other", longer, (2, 2)),
        ("all", CONFIG, None),
    ):
        train(folder / "archive", folder / name, replace(config, data=replace(config.data, fold=fold)))
    return folder


def rows(run: Path) -> dict[tuple[str, str], float]:
    with (run / "validation.csv").open(encoding="utf-8", newline="") as file:
        return {(row["patient"], row["roi"]): float(row["dice"]) for row in csv.DictReader(file)}


@pytest.mark.slow
def test_every_patient_is_held_out_once(runs: Path, tmp_path: Path) -> None:
    model = shutil.copytree(runs / "all" / "bundle", tmp_path / "model")
    weights = (model / "weights.safetensors").read_bytes()
    arguments = ["models", "cross-validation", str(model), str(runs / "2"), str(runs / "1")]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    scores = rows(runs / "1") | rows(runs / "2")
    assert sorted(p for p, roi in scores if roi == "Brainstem") == ["P1", "P2", "P3", "P4"]
    found = load_bundle(str(model)).results.cross_validation
    assert found is not None and (found.parts, found.patients, found.steps) == (2, 4, (4, 4))
    keys: dict[str, str] = {}
    for part in ("1", "2"):
        keys |= json.loads((runs / part / "pseudonyms.json").read_text(encoding="utf-8"))
    text = (model / "model.yaml").read_text(encoding="utf-8") + (model / "MODEL_CARD.md").read_text(
        encoding="utf-8"
    )
    assert keys and not [patient for patient in keys if re.search(rf"\b{re.escape(patient)}\b", text)]
    means = []
    for roi, n in (("Brainstem", 4), ("Parotid_L", 3)):
        values = {p: dice for (p, name), dice in scores.items() if name == roi}
        assert found.dice[roi].patients == n
        assert found.dice[roi].mean == pytest.approx(np.mean(list(values.values())), abs=1e-4)
        assert found.dice[roi].percentiles[1] == pytest.approx(np.median(list(values.values())), abs=1e-4)
        worst = min(values, key=lambda p: (values[p], p))
        assert found.dice[roi].worst[0] == f"{keys[worst]} {values[worst]:.3f}"
        means.append(found.dice[roi].mean)
    assert found.mean_dice == pytest.approx(np.mean(means), abs=1e-4)
    card = (model / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "## Cross-validation" in card and f"| Parotid_L | 3 | {means[1]:.3f} |" in card
    assert "Each took 4 steps; this model's training took 4." in card
    assert (model / "weights.safetensors").read_bytes() == weights


def test_validation_csv_is_of_the_best_weights(runs: Path) -> None:
    bundle = load_bundle(str(runs / "1" / "bundle"))
    for roi, mean in bundle.results.dice.items():
        values = [dice for (_, name), dice in rows(runs / "1").items() if name == roi]
        assert mean == pytest.approx(np.mean(values), abs=1e-4)


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (["1"], ConfigError, "found: 1/2"),
        (["1", "1"], ConfigError, "found: 1/2, 1/2"),
        (["1", "all"], ConfigError, "no part of a cross-validation"),
        (["1", "other"], ConfigError, "trained alike(.|\n)*run.steps: 5"),
        (["1", "archive"], ModelError, "not the folder of a finished training"),
    ],
)
def test_what_is_no_cross_validation_is_refused(
    runs: Path, names: list[str], error: type[ContourAIError], message: str
) -> None:
    model = load_bundle(str(runs / "all" / "bundle"))
    before = (model.folder / "model.yaml").read_bytes()
    with pytest.raises(error, match=message):
        cross_validated(model, [runs / name for name in names])
    assert (model.folder / "model.yaml").read_bytes() == before


def test_parts_of_other_archives_or_rois_are_refused(runs: Path, tmp_path: Path) -> None:
    model = load_bundle(str(runs / "all" / "bundle"))
    shutil.copytree(runs / "2", tmp_path / "2")
    shutil.copy(runs / "1" / "validation.csv", tmp_path / "2" / "validation.csv")
    with pytest.raises(ConfigError, match=r"in several parts(.|\n)*found: P"):
        cross_validated(model, [runs / "1", tmp_path / "2"])
    other = replace(
        model,
        rois=(roi_info("Brainstem"), roi_info("Parotid_R")),
        data=DataRecord(),
        results=ResultsRecord(),
        ranges=None,
    )
    with pytest.raises(ConfigError, match=r"other ROIs than tiny(.|\n)*expected: Brainstem, Parotid_R$"):
        cross_validated(other, [runs / "1", runs / "2"])
