"""Every key is explained, unknown ones are refused, the printed default is the default."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from contour_ai.errors import ConfigError
from contour_ai.settings import field_docs
from contour_ai.training.config import TrainConfig, load_config, print_config


def test_the_printed_default_is_the_default(tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text(print_config(TrainConfig()), encoding="utf-8")
    assert load_config(path) == TrainConfig() == load_config(None)


def test_every_key_is_explained() -> None:
    def check(value: object) -> None:
        for field in fields(value):  # type: ignore[arg-type]
            assert field_docs(type(value)).get(field.name), (
                f"{type(value).__name__}.{field.name} has no docstring"
            )
            if is_dataclass(getattr(value, field.name)):
                check(getattr(value, field.name))

    check(TrainConfig())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimiser: {learning_rat: 1}", "did you mean 'optimiser.learning_rate'?"),
        ("optimizer: {}", "did you mean 'optimiser'?"),
        ("schedule: {name: polly}", "did you mean poly?"),
        ("data: {validation_share: 1.5}", "data.validation_share is not valid"),
        ("augmentation: {gamma: [2, 1]}", "augmentation.gamma is not valid"),
        ("{model: {mirror: true}, augmentation: {flip: false}}", "model.mirror is not valid"),
        ("loss: {may_overlap: [Brain]}", "The value of loss.may_overlap"),
        ("run: {steps: 1.5}", "The value of run.steps does not fit.\n"),
        ("- a", "must be a mapping"),
        ("a: [", "it is not valid YAML."),
    ],
)
def test_what_does_not_fit_is_refused_with_the_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "train.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert message in str(caught.value) and str(path) in str(caught.value)


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="The configuration cannot be read"):
        load_config(tmp_path / "none.yaml")


EARLIER = """
data: {fill_at: 0.4}
loss: {filled_weight: 0.5}
input: {roi_share: 0.7}
schedule: {rise_share: 0.1, start_share: 0.2, final_share: 0.01}
"""


def test_keys_of_an_earlier_version_are_read_with_a_note(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "train.yaml"
    path.write_text(EARLIER, encoding="utf-8")
    config = load_config(path)
    assert (config.data.pseudo_label_from, config.loss.pseudo_label_weight) == (0.4, 0.5)
    assert config.input.foreground_fraction == 0.7
    schedule = config.schedule
    assert (schedule.warmup_fraction, schedule.start_lr_factor, schedule.final_lr_factor) == (0.1, 0.2, 0.01)
    notes = [record.getMessage() for record in caplog.records]
    assert len(notes) == 6 and "data.fill_at is now called data.pseudo_label_from" in notes[0]
    assert str(path) in notes[0]
    caplog.clear()
    path.write_text(print_config(config), encoding="utf-8")
    assert load_config(path) == config and not caplog.records


def test_a_key_under_both_its_names_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text("data: {fill_at: 0.4, pseudo_label_from: 0.5}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"data\.fill_at is the earlier name of data\.pseudo_label_from"):
        load_config(path)
