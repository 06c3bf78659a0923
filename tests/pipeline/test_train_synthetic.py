"""Training on an archive and on synthetic patients that are drawn for it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from drawn_label_map import drawn_label_map
from tiny_patients import write_patient

from contour_ai.cli.main import cli
from contour_ai.errors import ConfigError, InputError
from contour_ai.pipeline._train import TrainOptions, train
from contour_ai.sample.synthesis.recipe import GridConfig, OrganConfig, SynthesisRecipe, ViewConfig
from contour_ai.settings import from_mapping
from contour_ai.training.config import (
    DataConfig,
    InputConfig,
    ModelConfig,
    NetworkChoice,
    PreprocessConfig,
    RunConfig,
    TrainConfig,
)
from contour_ai.training.synthetic import SyntheticConfig, interleaved

MEN = OrganConfig(female_probability=0, prostatectomy_probability=0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of three patients, and label maps."""
    folder = tmp_path_factory.mktemp("place")
    for number in (1, 2, 3):
        write_patient(
            folder / "archive" / str(number), number, {"Prostate": (2, 8, 10), "SeminalVes": (6, 8, 10)}
        )
    drawn = drawn_label_map()
    spacing = np.array(drawn.spacing_mm_kij)
    np.savez(folder / "map.npz", lab=drawn.labels, names=np.array(drawn.names), spacing_mm_kij=spacing)
    return folder


def config_of(place: Path) -> TrainConfig:
    synthetic = SyntheticConfig(
        label_maps=str(place / "map.npz"),
        count=2,
        share=0.5,
        recipe=SynthesisRecipe(
            grid=GridConfig((6.0, 6.0), (6.0,)), view=ViewConfig(part=0, trunk=0, above=0), organs=MEN
        ),
    )
    return TrainConfig(
        model=ModelConfig(name="tiny", kind="phantom"),
        data=DataConfig(synthetic=synthetic, public=True),
        preprocess=PreprocessConfig(spacing_mm_kij=(8.0, 8.0, 8.0), windows_hu=((-160.0, 240.0),)),
        network=NetworkChoice(base_filters=4),
        input=InputConfig(patch_kij=(8, 16, 16), batch_size=2),
        run=RunConfig(steps=2, validate_every=2, threads=1),
    )


def test_an_archive_with_synthetic_patients(place: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    plans: list[dict[str, str]] = []
    bundle = train(
        place / "archive", run, config_of(place), TrainOptions(on_plan=lambda f: plans.append(dict(f)))
    )
    assert bundle.roi_names == ("Prostate", "SeminalVes")  # the archive's, not all that are drawn
    assert bundle.data.patients == 3 and bundle.data.synthetic_patients == 2
    assert bundle.ranges is not None and bundle.ranges.patients == bundle.data.training_patients == 2
    assert plans[0]["patients"] == "2 for training and 2 synthetic ones, 1 for validation"
    splits = json.loads((run / "splits.json").read_text(encoding="utf-8"))
    assert splits["training"][2:] == ["synthetic-00001", "synthetic-00002"]
    assert len(splits["validation"]) == 1 and splits["validation"][0].startswith("P")
    assert "2 synthetic ones, drawn from label maps" in (run / "bundle" / "MODEL_CARD.md").read_text("utf-8")


def test_it_goes_on_without_the_label_maps(place: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    maps = tmp_path / "map.npz"
    maps.write_bytes((place / "map.npz").read_bytes())
    config = config_of(place)
    assert config.data.synthetic is not None
    synthetic = replace(config.data.synthetic, label_maps=str(maps))
    config = replace(config, data=replace(config.data, synthetic=synthetic))
    first = train(place / "archive", run, config)
    maps.unlink()
    again = train(place / "archive", run, options=TrainOptions(resume=True))
    assert again.data == first.data and again.weights_sha256 == first.weights_sha256


def test_relatives_are_those_of_the_training_patients(place: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    config = config_of(place)
    assert config.data.synthetic is not None
    synthetic = replace(config.data.synthetic, label_maps="", count=3)
    config = replace(config, data=replace(config.data, synthetic=synthetic))
    bundle = train(place / "archive", run, config)
    assert bundle.data.training_patients == 2 and bundle.data.synthetic_patients == 3
    assert bundle.data.relatives
    splits = json.loads((run / "splits.json").read_text(encoding="utf-8"))
    related = {name.partition(" relative ")[0] for name in splits["training"][2:]}
    assert related == set(splits["training"][:2])  # none of the patient that validates
    assert "3 synthetic ones, drawn as relatives of those" in (run / "bundle" / "MODEL_CARD.md").read_text(
        "utf-8"
    )
    again = train(place / "archive", run, options=TrainOptions(resume=True))
    assert again.weights_sha256 == bundle.weights_sha256


def test_synthetic_patients_alone_are_no_archive(place: Path, tmp_path: Path) -> None:
    write_patient(tmp_path / "archive", 1, {"Bladder": (2, 8, 10)})  # 7 cm3: left out as implausible
    config = config_of(place)
    assert config.data.synthetic is not None
    config = replace(config, data=replace(config.data, synthetic=replace(config.data.synthetic, count=1)))
    with pytest.raises(InputError, match="synthetic patients alone have nothing to validate on"):
        train(tmp_path / "archive", tmp_path / "run", config)


def test_the_options_are_those_of_the_configuration(place: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("organs: {female_probability: 0.5}", encoding="utf-8")
    arguments = ["train", "--synthetic", recipe, "--label-maps", place / "map.npz", "--share", "0.25"]
    result = CliRunner().invoke(cli, [*map(str, arguments), "--print-config"])
    assert result.exit_code == 0, result.output
    assert "share: 0.25" in result.output and "female_probability: 0.5" in result.output
    result = CliRunner().invoke(cli, ["train", "--synthetic", str(recipe), "--print-config"])
    assert result.exit_code == 0 and "label_maps: ''" in result.output, result.output  # relatives


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_of_nothing_or_all_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="share is not valid"):
        from_mapping(DataConfig, {"synthetic": {"label_maps": "maps", "share": share}})


@pytest.mark.parametrize("share", [0.5, 0.3, 0.75, 0.01])
def test_positions_are_shared_out_and_each_part_counts_on(share: float) -> None:
    places: dict[bool, list[int]] = {True: [], False: []}
    for position in range(1000):
        part, number = interleaved(position, share)
        places[part].append(number)
    assert places[True] == list(range(len(places[True]))) and places[False] == list(range(len(places[False])))
    assert len(places[True]) == pytest.approx(1000 * share, abs=1)
