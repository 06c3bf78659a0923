"""From a folder of DICOM patients to a bundle that predicts: pairing, mapping, leaving out, splitting, going on."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from tiny_patients import write_patient

from contour_ai.bundle import load_bundle
from contour_ai.bundle.seen_series import SeriesContent
from contour_ai.cli.main import cli
from contour_ai.errors import ConfigError, InputError, ModelError, OutputError
from contour_ai.pipeline._train import TrainOptions, train
from contour_ai.pipeline.archive import (
    choose_rois,
    find_sources,
)
from contour_ai.pipeline.splitting import split
from contour_ai.structures.roi_record import tg263_table
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
    model=ModelConfig(name="tiny", kind="phantom", commands=("contour-ai train somewhere --out run",)),
    preprocess=PreprocessConfig(spacing_mm_kij=(6.0, 5.0, 5.0), windows_hu=((-160.0, 240.0),)),
    network=NetworkChoice(base_filters=4),
    input=InputConfig(patch_kij=(8, 16, 16), batch_size=1),
    run=RunConfig(steps=2, validate_every=1, threads=1),
)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four patients with structure sets and different ROIs, one without."""
    folder = tmp_path_factory.mktemp("archive")
    write_patient(folder / "a", 1, {"Brainstem": (2, 8, 10), "Lt Parotid": (5, 8, 15)})
    write_patient(folder / "b", 2, {"brainstem": (3, 9, 11), "Parotid R": (5, 8, 5)})
    write_patient(folder / "c", 3, {"BRAINSTEM": (3, 8, 9), "Parotid_L": (6, 7, 15), "Parotid_R": (6, 7, 5)})
    write_patient(folder / "d", 4, {"Brainstem": (4, 9, 10), "PTV": (1, 4, 4)})
    write_patient(folder / "e", 5, {})
    return folder


def test_a_model_of_small_samples_may_run_in_windows(archive: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    whole = train(archive, run, CONFIG)
    assert whole.inference.max_voxels > 1_000_000
    config = run / "config.yaml"
    text = config.read_text(encoding="utf-8")
    assert "windows: false" in text
    config.write_text(text.replace("windows: false", "windows: true"), encoding="utf-8")
    windows = train(archive, run, options=TrainOptions(resume=True))
    assert windows.inference.max_voxels == 1 and windows.inference.window_kij == (8, 16, 16)
    assert windows.weights_sha256 == whole.weights_sha256  # run otherwise, not trained otherwise


def test_archive_to_bundle_and_on(archive: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    plans: list[dict[str, str]] = []
    bundle = train(archive, run, CONFIG, options=TrainOptions(on_plan=lambda f: plans.append(dict(f))))
    assert bundle.roi_names == ("Brainstem", "Parotid_L", "Parotid_R")
    assert bundle.mirror_channels == (0, 2, 1)
    assert bundle == load_bundle(run / "bundle") and bundle.kind == "phantom" and not bundle.default
    assert bundle.ranges is not None and bundle.ranges.patients == bundle.data.training_patients
    assert bundle.data.training_patients + bundle.results.patients == 4
    assert "P5: no structure set" in plans[0]["patients left out"]
    assert "1 set aside; listed in roi-names.csv" in plans[0]["names"]
    assert "PTV,1,set aside,,standard name PTV" in (run / "roi-names.csv").read_text(encoding="utf-8-sig")
    assert set(bundle.results.accuracies) == {
        "overall_accuracy",
        "mean_accuracy",
        "frequency_weighted_accuracy",
        "mean_class_dice",
    }
    assert set(bundle.results.surface_dice) == set(bundle.results.dice)
    names = json.loads((run / "pseudonyms.json").read_text(encoding="utf-8"))
    assert [line.split(":")[0] for line in bundle.results.worst] != []
    assert {line.split(":")[0] for line in bundle.results.worst} <= set(names.values())
    for path in ("model.yaml", "MODEL_CARD.md"):
        text = (run / "bundle" / path).read_text(encoding="utf-8")
        assert not re.search(r"\bP[1-5]\b", text) and str(tmp_path) not in text, path
    if os.name != "nt":
        shown = [p for p in run.rglob("*") if "bundle" not in p.parts]
        assert [p for p in (run, *shown) if p.stat().st_mode & 0o077] == []
    splits = json.loads((run / "splits.json").read_text(encoding="utf-8"))
    assert sorted(splits["training"] + splits["validation"]) == ["P1", "P2", "P3", "P4"]
    resolved = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert resolved["data"]["rois"] == ["Brainstem", "Parotid_L", "Parotid_R"]
    card = (run / "bundle" / "MODEL_CARD.md").read_text(encoding="utf-8")
    for words in (
        "Not a medical device",
        "never the default",
        "| Brainstem | 3 |",
        "contour-ai train somewhere",
    ):
        assert words in card
    with pytest.raises(ModelError, match="No checkpoint to resume from"):
        train(archive, tmp_path / "none", CONFIG, options=TrainOptions(resume=True))
    with pytest.raises(OutputError, match="There is a training in this folder already"):
        train(archive, run, CONFIG)
    going_on = train(archive, run, CONFIG, options=TrainOptions(resume=True))
    assert going_on.training.steps == 2
    (seen,) = bundle.data.seen_series
    series = {
        p.label: SeriesContent(uid=p.files.ct.series_instance_uid) for p in find_sources(archive).patients
    }
    roles = {label: seen.role_of(content) for label, content in series.items()}
    sides = {"training": "training", "validation": "held back"}
    assert roles == {label: role for side, role in sides.items() for label in splits[side]}
    assert going_on.data.seen_series == bundle.data.seen_series
    assert not any(
        content.uid in (run / "bundle" / "model.yaml").read_text("utf-8") for content in series.values()
    )


@pytest.mark.parametrize("patient_id", ["phantom-pelvis-01", "P1"])  # by its hash one of each side
def test_a_single_patient_trains_and_validates(patient_id: str) -> None:
    assert split({"a": patient_id}, 0.2) == (["a"], ["a"])


def test_fine_tuning_keeps_shared_rois_and_says_so(archive: Path, tmp_path: Path) -> None:
    first = replace(CONFIG, data=DataConfig(rois=("Parotid_R", "Brainstem")))
    model = train(archive, tmp_path / "first", first)
    plans: list[dict[str, str]] = []
    other = replace(
        CONFIG,
        network=NetworkChoice(base_filters=6),
        data=DataConfig(rois=("Brainstem", "Parotid_L")),
        run=replace(CONFIG.run, steps=1),
    )
    options = TrainOptions(init=model, on_plan=lambda f: plans.append(dict(f)))
    tuned = train(archive, tmp_path / "second", other, options=options)
    assert plans[0]["starts from"] == "tiny 1.0; kept: Brainstem; new: Parotid_L"
    assert tuned.network.base_filters == 4 and tuned.preprocess == model.preprocess
    assert tuned.training.started_from == "tiny 1.0"
    assert tuned.data.seen_series[1:] == model.data.seen_series, "what the first model saw counts, too"
    again = train(archive, tmp_path / "second", other, options=TrainOptions(resume=True))
    assert again.training.started_from == "tiny 1.0"
    assert again.data.seen_series == tuned.data.seen_series


@pytest.mark.parametrize("named", [None, (6.0, 4.5, 4.5)])
def test_fine_tuning_goes_to_the_voxel_size_that_is_named(
    archive: Path, tmp_path: Path, named: tuple[float, float, float] | None
) -> None:
    model = train(archive, tmp_path / "first", CONFIG)
    preprocess = PreprocessConfig(spacing_mm_kij=named, windows_hu=((0.0, 80.0),), margin_mm=25.0)
    other = replace(CONFIG, preprocess=preprocess, run=replace(CONFIG.run, steps=1))
    tuned = train(archive, tmp_path / "second", other, options=TrainOptions(init=model))
    wanted = named or model.preprocess.spacing_mm_kij
    assert tuned.preprocess == replace(model.preprocess, spacing_mm_kij=wanted)


def test_start_from_copies_rows_by_name() -> None:
    import torch

    from contour_ai.network import build_network
    from contour_ai.training.transfer import start_from

    old = build_network("resunet3d", in_channels=1, out_channels=2, base_filters=4)
    new = build_network("resunet3d", in_channels=1, out_channels=3, base_filters=4)
    fresh = new.head.weight.clone()
    assert start_from(new, ("C", "B", "A"), old, ("A", "B")) == (("B", "A"), ("C",))
    assert torch.equal(new.head.weight[1], old.head.weight[1])
    assert torch.equal(new.head.weight[2], old.head.weight[0])
    assert torch.equal(new.head.weight[0], fresh[0])
    assert torch.equal(new.stem.conv1.weight, old.stem.conv1.weight)


def test_a_roi_that_stands_twice_in_a_patient_is_left_out_there(tmp_path: Path) -> None:
    write_patient(tmp_path, 1, {"Parotid_L": (2, 8, 10), "Lt Parotid": (5, 8, 15), "Brainstem": (2, 4, 4)})
    sources = find_sources(tmp_path)
    assert dict(sources.patients[0].rois) == {"Brainstem": "Brainstem"}
    (finding,) = sources.findings
    assert (finding.patient, finding.roi, finding.kind) == ("P1", "Parotid_L", "ambiguous")
    assert "Parotid_L stands there as Parotid_L and as Lt Parotid" in finding.reason


def test_an_archive_without_patients_is_refused(archive: Path) -> None:
    with pytest.raises(InputError, match=r"There is no patient to train on(.|\n)*P5: no structure set"):
        find_sources(archive / "e")


def test_no_more_rois_than_a_model_learns() -> None:
    organs = [name for name, row in tg263_table().items() if row.interpreted_type == "ORGAN"][:70]
    counts = {organ: 10 + n for n, organ in enumerate(organs)}
    rois, left_out = choose_rois(counts, None, 2)
    assert list(rois) == organs[6:]  # the most common ones
    assert list(left_out) == organs[5::-1]
    assert "in 10 patients; a model learns at most 64 ROIs" in left_out[organs[0]]
    with pytest.raises(ConfigError, match=r"more ROIs than a model can learn(.|\n)*found: 70"):
        choose_rois(counts, organs, 2)


def test_rois_asked_for_must_be_there() -> None:
    counts = {"Brainstem": 4, "PTV": 9, "Larynx": 1}
    assert choose_rois(counts, None, 2) == (
        ("Brainstem",),
        {"PTV": "its type is PTV; name it in data.rois to learn it", "Larynx": "in 1 patients only"},
    )
    assert choose_rois(counts, ["PTV"], 2) == (("PTV",), {})
    with pytest.raises(ConfigError, match=r"ROIs of data.rois are in no patient.\n  found: Heart"):
        choose_rois(counts, ["Heart"], 1)


def test_split_goes_by_patient_and_moves_nobody() -> None:
    some = {f"L{n}": f"P{n // 2}" for n in range(200)}
    training, validation = split(some, 0.2)
    assert 20 <= len(validation) <= 60 and not set(training) & set(validation)
    assert all((f"L{n}" in training) == (f"L{n + 1}" in training) for n in range(0, 200, 2))
    more = some | {f"M{n}": f"Q{n}" for n in range(50)}
    assert set(validation) <= set(split(more, 0.2)[1]) and set(training) <= set(split(more, 0.2)[0])
    assert [len(side) for side in split({"a": "1", "b": "2", "c": "3"}, 1e-9)] == [2, 1]
    assert split({"a": "1"}, 0.2) == (["a"], ["a"])


def test_command(archive: Path, tmp_path: Path) -> None:
    config = tmp_path / "train.yaml"
    config.write_text(
        "model: {name: tiny, kind: phantom}\nnetwork: {base_filters: 4}\n"
        "preprocess: {spacing_mm_kij: [6, 5, 5]}\ninput: {patch_kij: [8, 16, 16], batch_size: 1}\n"
        "run: {steps: 1, threads: 1}\n",
        encoding="utf-8",
    )
    arguments = ["train", str(archive), "--config", str(config), "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    assert "Brainstem" in done.stdout and "model:" in done.stdout
    assert "left-right pairs Parotid_L/Parotid_R" in " ".join(done.stderr.split())
    again = CliRunner().invoke(cli, arguments)
    assert again.exit_code == 2 and "--resume" in again.stderr
    config.write_text("optimiser: {learning_rat: 1}\n", encoding="utf-8")
    wrong = CliRunner().invoke(cli, [*arguments[:-1], str(tmp_path / "other")])
    assert wrong.exit_code == 4 and "did you mean 'optimiser.learning_rate'?" in wrong.stderr
    assert not (tmp_path / "other").exists()
    assert CliRunner().invoke(cli, ["train", "--print-config"]).stdout.startswith("# What the bundle")
    folded = CliRunner().invoke(cli, ["train", "--print-config", "--fold", "2/5"]).stdout
    assert yaml.safe_load(folded)["data"]["fold"] == [2, 5]
    assert CliRunner().invoke(cli, ["train"]).exit_code == 2


def test_every_patient_validates_in_one_part_of_a_cross_validation() -> None:
    some = {f"L{n}": f"P{n // 2}" for n in range(46)}  # 23 patients of two series each
    parts = [split(some, 0.2, (k, 5)) for k in range(1, 6)]
    held_out = [label for _, validation in parts for label in validation]
    assert sorted(held_out) == sorted(some)
    assert sorted(len(validation) for _, validation in parts) == [8, 8, 10, 10, 10]
    for training, validation in parts:
        assert not {some[label] for label in training} & {some[label] for label in validation}
        assert len(training) + len(validation) == len(some)
    assert split(dict(reversed(some.items())), 0.2, (2, 5))[1] == parts[1][1][::-1]
    with pytest.raises(ConfigError, match=r"fewer patients than parts(.|\n)*found: 23 patients"):
        split(some, 0.2, (1, 24))


@pytest.mark.parametrize("text", ["0/5", "6/5", "1/1", "2", "a/b"])
def test_parts_that_are_none_are_refused(text: str) -> None:
    done = CliRunner().invoke(cli, ["train", "somewhere", "--out", "run", "--fold", text])
    assert done.exit_code == 2 and "write 1/5 to 5/5" in done.stderr


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("20m", 1200), ("1h30m", 5400), ("1.5h", 5400)])
def test_durations(text: str, seconds: float) -> None:
    from contour_ai.cli.duration import Duration

    assert Duration().convert(text, None, None) == seconds
