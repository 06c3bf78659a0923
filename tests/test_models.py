"""The shipped models are whole, small, honest about what they are, and find the organs of the sample patients."""

from __future__ import annotations

from pathlib import Path

import pytest

from contour_ai import PredictOptions, predict
from contour_ai.bundle import CARD_FILE, load_bundle
from contour_ai.training.config import load_config

ROOT = Path(__file__).parents[1]
SHIPPED = sorted(p.parent for p in (ROOT / "models").glob("*/model.yaml"))


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda p: p.name)
def test_shipped_models_are_whole(folder: Path) -> None:
    bundle = load_bundle(folder)
    assert bundle.name == folder.name
    card = (folder / CARD_FILE).read_text(encoding="utf-8")
    config = load_config(folder / "train.yaml")
    for words in (bundle.name, "Not a medical device", *bundle.roi_names, *config.model.commands):
        assert words in card, words
    assert config.preprocess.spacing_mm_kij == bundle.preprocess.spacing_mm_kij
    if bundle.kind == "phantom":
        assert not bundle.default and bundle.weights_path.stat().st_size < 5e6


@pytest.mark.parametrize("sample", ["phantom-headneck-01", "phantom-headneck-02", "phantom-pelvis-01"])
def test_phantom_models_find_the_organs_of_the_sample_patients(sample: str, tmp_path: Path) -> None:
    bundle = load_bundle(ROOT / "models" / sample.rpartition("-")[0])
    done = predict(
        ROOT / "sample_data" / sample, bundle, tmp_path, PredictOptions(device="cpu", overlays=False)
    )
    assert done.mean_dice is not None and done.mean_dice > 0.9
    assert all(roi.dice is None or roi.dice > 0.8 for roi in done.rois)
