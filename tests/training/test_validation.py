"""What a validation leaves in TensorBoard, in metrics.csv and in pictures."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import torch
from training_cases import ROIS, case

from contour_ai.bundle import InferenceSettings
from contour_ai.inference import Predictor
from contour_ai.network import build_network
from contour_ai.preprocess import PreprocessSettings
from contour_ai.training.cache import Case
from contour_ai.training.validation import Score, draw_worst, validate, write_metrics, write_score
from contour_ai.training.validation_figures import CaseFigures, case_figures


class Recorder:
    """Takes the place of TensorBoard's writer."""

    def __init__(self) -> None:
        self.scalars: dict[str, float] = {}
        self.images: dict[str, tuple[int, ...]] = {}

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars[name] = value

    def add_image(self, name: str, image: np.ndarray, step: int, dataformats: str) -> None:
        assert dataformats == "HWC" and image.dtype == np.uint8
        self.images[name] = image.shape

    def flush(self) -> None:
        pass


def logits_of(one: Case) -> np.ndarray:
    """Perfect but for the left parotid of patient 1, which is not found."""
    logits = np.stack([np.where((one.bits >> r) & 1, 4.0, -4.0) for r in range(3)]).astype(np.float32)
    if one.patient_id == "patient-1":
        logits[0] = -4.0
    return logits


def scored(cases: list[Case]) -> Score:
    figures = CaseFigures()
    for one in cases:
        figures.merge(case_figures(logits_of(one), one))
    return Score.of(7, 1.0, 0.5, 1e-3, ROIS, figures)


CASES = [case(0), case(1), case(2, presence=(False, True, True))]


def test_figures_by_hand() -> None:
    score = scored(CASES)
    assert score.dice == {"Parotid_L": 0.5, "Parotid_R": 1.0, "Brainstem": 1.0}
    assert score.surface_dice["Parotid_L"] == 0.5 and score.hd95_mm["Brainstem"] == 0.0
    assert score.hd95_mm["Parotid_L"] == math.inf  # of two patients, one misses it
    assert score.patients["patient-2"] == {"Parotid_R": 1.0, "Brainstem": 1.0}
    assert 0.99 < score.accuracies["overall_accuracy"] < 1.0
    assert score.accuracies["mean_accuracy"] < score.accuracies["overall_accuracy"]


def test_curves_and_table(tmp_path: Path) -> None:
    score, writer = scored(CASES), Recorder()
    write_score(writer, score)
    assert writer.scalars["Dice/Parotid_L"] == 0.5 and writer.scalars["surface Dice/Brainstem"] == 1.0
    assert writer.scalars["hd95_mm/Brainstem"] == 0.0 and "hd95_mm/Parotid_L" not in writer.scalars
    assert writer.scalars["accuracy/mean_class_dice"] == score.accuracies["mean_class_dice"]
    write_metrics(tmp_path / "metrics.csv", ROIS, [score])
    with (tmp_path / "metrics.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["hd95_mm Parotid_L"] == "inf" and row["surface dice Parotid_L"] == "0.5000"
    assert float(row["frequency_weighted_accuracy"]) > 0.9


def test_figures_of_no_patient_are_empty(tmp_path: Path) -> None:
    nothing = Score.of(1, 1.0, 0.5, 1e-3, ROIS, CaseFigures())
    assert nothing.mean == 0.0 and nothing.accuracies == {}
    write_metrics(tmp_path / "metrics.csv", ROIS, [nothing])
    with (tmp_path / "metrics.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["overall_accuracy"] == row["dice Brainstem"] == ""


def test_pictures_of_the_worst(tmp_path: Path) -> None:
    writer = Recorder()
    draw_worst(tmp_path / "worst", writer, scored(CASES), CASES, logits_of)
    names = sorted(path.name for path in (tmp_path / "worst").iterdir())
    assert len(names) == 3 and names[0] == "1_patient-1_Parotid_L_0.000.png"
    assert set(writer.images) == {"worst/1", "worst/2", "worst/3"}
    assert all(shape[2] == 3 for shape in writer.images.values())


def test_threads_give_the_same_figures_in_the_same_order() -> None:
    network = build_network("resunet3d", in_channels=1, out_channels=3, base_filters=2)
    predictor = Predictor(
        network=network,
        preprocess=PreprocessSettings(spacing_mm_kij=(4.0, 4.0, 4.0), windows_hu=((-160.0, 240.0),)),
        inference=InferenceSettings(),
        device=torch.device("cpu"),
        autocast=None,
    )
    seen: list[str] = []
    several = validate(CASES, predictor, lambda event: seen.append(event.facts.get("patient", "")), threads=2)
    alone = validate(CASES, predictor)
    assert list(several.patients) == [case.patient_id for case in CASES] == seen[:-1]
    assert several.patients == alone.patients
    assert (several.confusion.matrix == alone.confusion.matrix).all()
