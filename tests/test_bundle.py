"""Bundles come back as they were saved, and damaged ones are refused by name."""

from __future__ import annotations

import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner

from contour_ai.bundle import (
    MODELS_VARIABLE,
    DataRecord,
    MadeFrom,
    ModelBundle,
    OtherRun,
    ResultsRecord,
    RoiData,
    RoiPostprocess,
    TrainingRecord,
    default_bundle,
    describe,
    list_bundles,
    load_bundle,
    read_description,
    save_bundle,
)
from contour_ai.bundle import reading as bundle_module
from contour_ai.bundle.commissioned_record import (
    RECORDS_VARIABLE,
    CommissionedRecord,
    commissioned_sentence,
    readable_record_of,
    record_of,
    refuse_uncommissioned,
    save_record,
)
from contour_ai.bundle.poor_models import epochs_of, poor_rois, weaknesses
from contour_ai.cli.models import command
from contour_ai.errors import ConfigError, ModelError, OutputError
from contour_ai.network import ResidualUNet3d, build_network, preset
from contour_ai.pipeline._predict import PredictOptions
from contour_ai.pipeline._predict.contouring import wanted_rois
from contour_ai.pipeline._predict.options import poor_note
from contour_ai.pipeline.card import FIELDS, LONGEST_LINE, _continued, missing_fields, model_card
from contour_ai.preprocess import PreprocessSettings
from contour_ai.structures import roi_info


def small_bundle(name: str = "small", **changes: object) -> tuple[ModelBundle, ResidualUNet3d]:
    """A description and a network with random weights that fit each other."""
    torch.manual_seed(3)
    config = preset("resunet3d", in_channels=2, out_channels=3, base_filters=4, dropout=0.0)
    bundle = ModelBundle(
        folder=Path(),
        name=name,
        version="1.2",
        kind="phantom",
        rois=tuple(roi_info(n) for n in ("Brainstem", "Parotid_L", "Parotid_R")),
        preprocess=PreprocessSettings(
            spacing_mm_kij=(4.0, 3.0, 3.0), windows_hu=((-160.0, 240.0), (-500.0, 1500.0))
        ),
        network=config,
        postprocess={"Brainstem": RoiPostprocess(largest_component=True)},
        training=TrainingRecord(steps=10),
    )
    return replace(bundle, **changes), build_network(config)  # type: ignore[arg-type]


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of bundles that is the only one searched, with one bundle `small` in it."""
    folder = tmp_path / "models"
    monkeypatch.setenv(MODELS_VARIABLE, str(folder))
    monkeypatch.setattr(bundle_module, "__file__", str(tmp_path / "elsewhere" / "bundle" / "reading.py"))
    bundle, network = small_bundle()
    save_bundle(folder / "small", bundle, network.state_dict(), model_card="# small\n")
    return folder


def test_round_trip(models: Path) -> None:
    bundle, network = small_bundle()
    loaded = load_bundle("small")
    assert replace(loaded, folder=Path(), weights_sha256="") == bundle
    assert loaded == load_bundle(models / "small") == load_bundle(str(models / "small" / "model.yaml"))
    assert loaded.mirror_channels == (0, 2, 1)
    assert loaded.postprocess_of("Brainstem").largest_component
    assert loaded.postprocess_of("Parotid_L").threshold_logit == 0
    rebuilt = loaded.build_network()
    x = torch.randn(1, 2, 8, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(rebuilt(x), network.eval()(x), rtol=2e-2, atol=2e-2)
    assert (models / "small" / "MODEL_CARD.md").read_text(encoding="utf-8") == "# small\n"


def test_pairs_that_were_learnt_are_those_of_prediction() -> None:
    assert small_bundle(data=DataRecord(flip_pairs=()))[0].mirror_channels == (0, 1, 2)
    assert small_bundle(data=DataRecord(flip_pairs=(("Brainstem", "Parotid_R"),)))[0].mirror_channels == (
        2,
        1,
        0,
    )


def test_a_model_that_saw_no_mirrored_patients_says_so() -> None:
    assert (
        small_bundle()[0].trained_with_mirroring
        and small_bundle(training=TrainingRecord(steps=3))[0].trained_with_mirroring
    )
    assert not small_bundle(training=TrainingRecord(mirrored_samples=False))[0].trained_with_mirroring


def test_weights_are_half_the_size_and_norms_are_exact(models: Path) -> None:
    _, network = small_bundle()
    size = sum(p.numel() for p in network.parameters())
    assert (models / "small" / "weights.safetensors").stat().st_size < 2.3 * size
    rebuilt = load_bundle("small").build_network().state_dict()
    for name, value in network.state_dict().items():
        assert rebuilt[name].dtype == value.dtype
        if value.ndim == 1:
            assert torch.equal(rebuilt[name], value), name


def test_an_existing_bundle_is_not_overwritten_unasked(models: Path) -> None:
    bundle, network = small_bundle()
    with pytest.raises(OutputError):
        save_bundle(models / "small", bundle, network.state_dict(), model_card="")


def test_unknown_model_names_what_there_is(models: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load_bundle("smal")
    assert "There is no such model." in str(caught.value) and "one of: small" in str(caught.value)
    with pytest.raises(ModelError, match=r"This folder is no model bundle"):
        load_bundle(models)


def test_corrupt_weights_are_refused(models: Path) -> None:
    path = models / "small" / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"weights of the model small are missing or damaged"):
        load_bundle("small")
    path.unlink()
    with pytest.raises(ModelError, match=r"cannot be read: No such file"):
        load_bundle("small")
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ModelError, match=r"git lfs pull"):
        load_bundle("small")


def test_weights_of_another_network_are_refused(models: Path) -> None:
    path = models / "small" / "model.yaml"
    path.write_text(
        path.read_text(encoding="utf-8").replace("base_filters: 4", "base_filters: 8"), encoding="utf-8"
    )
    with pytest.raises(ModelError, match=r"of another network than model.yaml describes"):
        load_bundle("small").build_network()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nmae": "x"}, "Unknown key 'nmae'"),
        ({"format": 7}, "another format"),
        ({"kind": "phantm"}, "did you mean phantom?"),
        ({"default": True}, "A phantom model cannot be the default"),
        (
            {"kind": "research", "default": True, "data": {"saw_no_patient": True}},
            "A model that never saw a patient cannot be the default",
        ),
        ({"name": "a/b"}, "must be a plain file name"),
        ({"data": {"flip_pair": []}}, "did you mean 'data.flip_pairs'?"),
        (
            {"data": {"flip_pairs": [["Brainstem", "Heart"]]}},
            "data.flip_pairs for ROIs the model does not have",
        ),
        ({"training": {"miror_samples": False}}, "Unknown key 'training.miror_samples'"),
        ({"training": {"mirrored_samples": "no"}}, "The value of training.mirrored_samples does not fit"),
        ({"results": {"dice": {"Heart": 0.9}}}, "results.dice for ROIs the model does not have"),
        ({"results": {"mirored": {}}}, "Unknown key 'results.mirored'"),
        ({"results": {"mirrored": {"patients": 1}}}, "is missing"),
        ({"provenance": {"sed": 3}}, "Unknown key 'provenance.sed'"),
        ({"ranges": {"patients": 5, "rois": {"Heart": {"patients": 5}}}}, "Ranges for ROIs the model"),
        ({"postprocess": {"Heart": {}}}, "Post-processing for ROIs the model does not have"),
        ({"preprocess": {"windows_hu": [[-160, 240]]}}, "input channels and its windows differ"),
        ({"network": {"name": "resunet3d"}}, "The key network.in_channels is missing"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(models: Path, change: dict, message: str) -> None:
    path = models / "small" / "model.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump(content | change), encoding="utf-8")
    with pytest.raises(ModelError) as caught:
        read_description(models / "small")
    assert message in str(caught.value) and str(path) in str(caught.value)


def test_what_is_known_about_a_model_reads_back(tmp_path: Path) -> None:
    run = OtherRun(
        patients=4, dice={"Brainstem": 0.8}, difference={"Brainstem": -0.1}, largest_difference=0.2
    )
    results = ResultsRecord(
        what="Dice", patients=4, mean_dice=0.8, dice={"Brainstem": 0.8}, other_runs={"not mirrored": run}
    )
    data = DataRecord(patients=9, rois={"Brainstem": RoiData(patients=7, volume_cm3=(1.0, 2.0, 3.0))})
    bundle, network = small_bundle(
        data=data, results=results, provenance=MadeFrom(seed=0, commands=("a", "b"))
    )
    saved = save_bundle(tmp_path / "m", bundle, network.state_dict(), model_card="# m\n")
    for key in ("data", "training", "results", "provenance"):
        assert getattr(saved, key) == getattr(bundle, key), key
    content = yaml.safe_load((tmp_path / "m" / "model.yaml").read_text(encoding="utf-8"))
    assert content["results"]["not mirrored"]["difference"] == {"Brainstem": -0.1}
    assert "other_runs" not in content["results"] and content["training"] == {"steps": 10}


def test_an_organ_of_one_piece_keeps_one_part_unless_the_model_says_why() -> None:
    bundle, _ = small_bundle()
    assert replace(bundle, postprocess={}).postprocess_of("Brainstem").largest_component
    several = {"Brainstem": RoiPostprocess(several_parts="drawn in two parts by our guideline")}
    assert not replace(bundle, postprocess=several).postprocess_of("Brainstem").largest_component
    assert "several_parts: drawn in two parts" in describe(replace(bundle, postprocess=several))
    assert "several_parts" not in describe(bundle)
    with pytest.raises(ConfigError, match=r"cannot both keep its largest part only and have a reason"):
        RoiPostprocess(largest_component=True, several_parts="x")


def test_a_model_of_0_1_is_written_as_it_was_read() -> None:
    """Keys, order and numbers of a description that has every record."""
    folder = Path(__file__).parents[1] / "models" / "headneck-openkbp"
    bundle = read_description(folder)
    assert describe(bundle) == (folder / "model.yaml").read_text(encoding="utf-8")
    assert not bundle.trained_with_mirroring and bundle.results.other_runs.keys() == {"fp32", "mirrored"}


def test_default_is_a_marked_one_that_saw_patients(models: Path) -> None:
    with pytest.raises(
        ModelError, match=r"No model trained on patients is installed(.|\n)*small \(phantom\)"
    ):
        default_bundle()
    for name in ("a", "b"):
        bundle, network = small_bundle(name, kind="research", default=True)
        save_bundle(models / name, bundle, network.state_dict(), model_card="")
        if name == "a":
            assert default_bundle().name == "a"
    with pytest.raises(ModelError, match="More than one model is marked"):
        default_bundle()


def test_a_broken_bundle_does_not_hide_the_others(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    (models / "broken").mkdir()
    (models / "broken" / "model.yaml").write_text(": :", encoding="utf-8")
    assert [b.name for b in list_bundles()] == ["small"]
    assert "Left out of the list of models" in caplog.text


def test_description_is_readable() -> None:
    text = describe(small_bundle()[0])
    assert "spacing_mm_kij: [4.0, 3.0, 3.0]" in text
    assert yaml.safe_load(text)["rois"][0]["name"] == "Brainstem"


def test_listing_imports_no_torch(models: Path) -> None:
    code = "import sys; from contour_ai.bundle import list_bundles; list_bundles(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_command_lists_and_shows(models: Path) -> None:
    listed = CliRunner().invoke(command, [])
    assert listed.exit_code == 0 and "small" in listed.output and "phantom" in listed.output
    shown = CliRunner().invoke(command, ["show", "small"])
    assert shown.exit_code == 0
    for words in ("never patients", "Parotid_L", "4 x 3 x 3 mm", "steps: 10", "SHA-256"):
        assert words in shown.output


HOSTILE = {
    "aliases": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(
        f"{c}: &{c} [{','.join(['*' + p] * 9)}]\n" for p, c in zip("abcdefghij", "bcdefghijk", strict=True)
    ),
    "deep": "format: 1\nname: " + "[" * 5000 + "]" * 5000,
    "date": "format: 1\nname: 2001-99-99\n",
    "self": "format: 1\ndata: &a {b: *a}\n",
    "latin": "format: 1\nname: \xe9\n",
    "empty": "",
}


def test_one_broken_bundle_does_not_hide_the_others(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = (models / "small" / "model.yaml").read_text(encoding="utf-8")
    hostile = {
        **HOSTILE,
        "infinite": text.replace("spacing_mm_kij: [4.0", "spacing_mm_kij: [.inf"),
        "pairs": text.replace("data: {}", "data: {flip_pairs: 5}"),
    }
    assert all(other != text for other in hostile.values())
    for name, content in hostile.items():
        (models / name).mkdir()
        (models / name / "model.yaml").write_bytes(content.encode("latin-1"))
    assert "small" in [b.name for b in list_bundles()]
    left_out = [r.getMessage() for r in caplog.records]
    assert sum("Left out of the list of models" in text for text in left_out) >= len(hostile) - 1
    shown = CliRunner().invoke(command, [], catch_exceptions=False)
    assert shown.exit_code == 0 and "small" in shown.stdout
    for name in HOSTILE:
        with pytest.raises(ModelError, match=r"model\.yaml"):
            load_bundle(models / name)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    bundle, network = small_bundle()
    with torch.no_grad():
        network.head.weight[0, 0] = float("nan")
    with pytest.raises(ModelError, match=r"not finite \(NaN or infinity\) in head.weight"):
        save_bundle(tmp_path / "small", bundle, network.state_dict(), model_card="")
    assert not (tmp_path / "small").exists()


def test_clinical_of_older_bundles_is_read_as_research(models: Path) -> None:
    path = models / "small" / "model.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump(content | {"kind": "clinical", "default": True}), encoding="utf-8")
    assert read_description(models / "small").kind == "research"


def test_a_poor_model_says_so() -> None:
    dice = {"Brainstem": 0.31}
    results = ResultsRecord(what="Dice", patients=4, mean_dice=0.31, dice=dice)
    data = DataRecord(training_patients=8, rois={"Brainstem": RoiData(patients=8)})
    training = TrainingRecord(steps=11, samples_a_step=1)
    poor, _ = small_bundle(results=results, data=data, training=training)
    assert dict(poor_rois(poor)) == dice and epochs_of(poor) == pytest.approx(11 / 8)
    first, second, third = weaknesses(poor)
    assert "Dice below 0.5 in validation: Brainstem 0.310" in first
    assert "trained for 1.4 epochs" in second and "fewer than 10 training patients have: Brainstem 8" in third
    assert "## What is poor about it" in model_card(poor) and "Brainstem 0.310" in model_card(poor)
    with pytest.raises(
        ConfigError,
        match=r"below 0.5 in the model's validation(.|\n)*Brainstem: Dice 0.310(.|\n)*--allow-poor",
    ):
        wanted_rois(poor, ["brainstem"])
    assert "Brainstem" in wanted_rois(poor, None, allow_poor=True)
    others = [roi for roi in poor.roi_names if roi != "Brainstem"]
    assert [roi for roi in wanted_rois(poor, None) if roi != "Body"] == others
    (note,) = poor_note(poor, PredictOptions())
    assert (
        note.startswith("Brainstem is not drawn") and poor_note(poor, PredictOptions(allow_poor=True)) == ()
    )
    fine, _ = small_bundle(
        results=ResultsRecord(what="Dice", patients=4, mean_dice=0.8, dice={"Brainstem": 0.8})
    )
    assert weaknesses(fine) == [] and "poor" not in model_card(fine)


def test_a_card_has_the_six_sections_and_marks_its_gaps() -> None:
    bundle, _ = small_bundle(
        notes={"Risks": "None is known.", "developers": "A. N. Other", "On top": "More."}
    )
    card = model_card(bundle)
    headings = [line for line in card.splitlines() if line.startswith("## ")]
    assert [heading.split()[1] for heading in headings] == ["0.", "1.", "2.", "3.", "4.", "5."]
    assert "doi:10.1016/j.phro.2026.100940" in card
    assert "### Risks\n\nNone is known." in card and "### On top\n\nMore." in card
    gaps = [line for line in card.splitlines() if line.startswith("- **Gap**")]
    missing = missing_fields(bundle)
    assert len(gaps) == len(missing) == len(FIELDS) - 2
    assert not any("Risks" in line or "Developers" in line for line in gaps)
    assert any("Data – source" in line for line in gaps)
    where = card.index("### developers")
    assert card.index("## 1. ") < where < card.index("## 2. "), "in its section, whatever its case"
    said = {field.heading: "Said." for field in FIELDS}
    assert "Gap" not in model_card(replace(bundle, notes=said))


def test_paragraphs_and_items_of_a_card_have_short_lines_and_the_rest_stays() -> None:
    words = "word " * 50
    table = f"| ROI | said |\n|---|---|\n| Heart | {words}|"
    code = "```bash\ncontour-ai train " + "--config one.yaml " * 12 + "\n```"
    note = f"{words}ends.\nGoes on.\n\n- An item {words}\n  goes on\n- Another\n\n{table}\n\n{code}\n\n1. First {words}"
    note += "- 5 mm"
    bundle, _ = small_bundle(notes={"On top": note, "Broken": f"A line  \nthat {words}"})
    card = model_card(bundle)
    assert table in card and code in card and f"A line  \nthat {words}".strip() in card
    said = card[card.index("### On top") : card.index(table)].splitlines()
    assert max(map(len, said)) <= LONGEST_LINE
    item = said.index(next(line for line in said if line.startswith("- An item")))
    assert said[item + 1].startswith("  word") and said[item + 1].endswith("word goes on")
    assert said[item + 2] == "- Another"
    assert not any(line.lstrip().startswith("- 5 mm") for line in card.splitlines()), "no list of its own"
    plain = card.replace("\n", " ").split()
    assert plain.count("word") == 5 * 50


def test_a_commissioning_counts_for_these_weights_and_rules_alone(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RECORDS_VARIABLE, str(models / "records"))
    bundle = load_bundle("small")
    with pytest.raises(ConfigError, match=r"small 1.2 is not commissioned on this machine(.|\n)*--signed-by"):
        refuse_uncommissioned(bundle)
    record = CommissionedRecord(
        model="small",
        version="1.2",
        fingerprint=bundle.inference_fingerprint,
        signed_by="A. Physicist",
        date="2026-05-01T10:00:00+00:00",
        series=("1.2.3",),
        limits=("Brainstem: Dice at least 0.8",),
    )
    save_record(record)
    refuse_uncommissioned(bundle)
    assert record_of(bundle) == record
    assert (
        "by A. Physicist on 2026-05-01, 1 patients, 1 limits kept"
        in CliRunner().invoke(command, ["show", "small"]).output
    )
    assert "by A. Physicist on" in " ".join(CliRunner().invoke(command, ["list"]).output.split())
    long = replace(record, signed_by="N" * 2000)
    sentence = commissioned_sentence(long)
    assert len(sentence) < 130 and sentence.endswith("… on 2026-05-01 with 1 patients."), (
        "it fits the description"
    )
    other = {"Brainstem": RoiPostprocess(threshold=0.4, largest_component=True)}
    assert record_of(replace(bundle, postprocess=other)) is None
    # A record that cannot be read hides no model, and counts as none.
    next((models / "records").glob("*.json")).write_text("{", encoding="utf-8")
    assert "small" in CliRunner().invoke(command, ["list"]).output
    assert readable_record_of(bundle) is None


def test_a_long_command_of_a_card_is_the_same_command_to_a_shell() -> None:
    """The card's lines end where an option begins, and a shell reads them as one command."""
    short = "contour-ai models card runs/a"
    long = "contour-ai train synthetic " + " ".join(f"--option-{n} some/folder/{n}" for n in range(12))
    assert _continued(short) == short
    lines = _continued(long).split("\n")
    assert len(lines) > 1 and max(map(len, lines)) <= LONGEST_LINE
    assert shlex.split(_continued(long).replace("\\\n", "")) == shlex.split(long)  # as a shell goes on
