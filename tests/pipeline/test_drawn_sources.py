"""A phantom of `contour-ai sample` among the patients makes a phantom model, whatever the configuration says."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from click.testing import CliRunner
from tiny_patients import write_patient

from contour_ai.cli.main import cli
from contour_ai.errors import ConfigError
from contour_ai.pipeline._train import TrainOptions, train
from contour_ai.pipeline._train.drawn_sources import drawn_ids, drawn_patients
from contour_ai.pipeline.archive import find_sources
from contour_ai.sample.synthesis.write import SYNTHETIC_STUDY
from contour_ai.training.config import (
    DataConfig,
    InputConfig,
    ModelConfig,
    NetworkChoice,
    PreprocessConfig,
    RunConfig,
    TrainConfig,
)

PHANTOM = Path(__file__).parents[2] / "sample_data" / "phantom-headneck-01"
CONFIG = TrainConfig(
    model=ModelConfig(name="told", kind="research"),
    data=DataConfig(rois=("Brainstem",), validation_patients=("P1",)),
    preprocess=PreprocessConfig(spacing_mm_kij=(10.0, 10.0, 10.0), windows_hu=((-160.0, 240.0),)),
    network=NetworkChoice(base_filters=4),
    input=InputConfig(patch_kij=(8, 16, 16), batch_size=1),
    run=RunConfig(steps=1, validate_every=1, threads=1),
)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Two patients that are none of `sample`'s."""
    for n in (1, 2):
        write_patient(tmp_path / "data" / f"p{n}", n, {"Brainstem": (2, 8, 10)})
    return tmp_path / "data"


def test_a_phantom_among_patients_makes_a_phantom_model(archive: Path, tmp_path: Path) -> None:
    assert drawn_patients(find_sources(archive)) == ""
    shutil.copytree(PHANTOM, archive / "p3")
    assert drawn_patients(find_sources(archive)) == "phantom"
    plans: list[dict[str, str]] = []
    options = TrainOptions(device="cpu", on_plan=lambda facts: plans.append(dict(facts)))
    bundle = train(archive, tmp_path / "run", CONFIG, options)
    assert bundle.kind == "phantom"
    assert "phantom" in plans[0]["kind"]
    with pytest.raises(ConfigError, match="phantom model cannot be the default"):
        replace(bundle, default=True)


def test_rois_that_only_drawn_patients_have_are_named(archive: Path, tmp_path: Path) -> None:
    write_patient(archive / "p3", 3, {"Brainstem": (2, 8, 10), "Larynx": (2, 12, 12)})
    for path in (archive / "p3").rglob("*.dcm"):
        data_set = pydicom.dcmread(path)
        if data_set.Modality == "CT":
            data_set.Manufacturer, data_set.StudyDescription = "contour-ai", SYNTHETIC_STUDY
            data_set.save_as(path)
    sources = find_sources(archive)
    assert drawn_patients(sources) == "" and drawn_ids(sources) == {"P3"}
    both = replace(CONFIG, data=replace(CONFIG.data, rois=("Brainstem", "Larynx")))
    bundle = train(archive, tmp_path / "run", both, TrainOptions(device="cpu"))
    assert not bundle.data.saw_no_patient and bundle.data.rois_of_drawings == ("Larynx",)
    card = (tmp_path / "run" / "bundle" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "Larynx it has learnt from drawings alone" in card
    predicted = CliRunner().invoke(
        cli,
        [
            "predict",
            str(archive / "p1"),
            "--model",
            str(bundle.folder),
            "--out",
            str(tmp_path / "out"),
            "--allow-poor",
        ],
    )
    assert "learnt from drawings alone, not for treatment: Larynx" in predicted.stderr
