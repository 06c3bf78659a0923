"""A training that nobody watches leaves a log worth reading."""

from __future__ import annotations

import io
import math
import re

import pytest

from contour_ai.cli import training_progress as log
from contour_ai.progress import ProgressEvent


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is printed, by a clock that moves 20 s with every event."""
    from rich.console import Console

    said: list[str] = []
    now = iter(range(0, 10**6, 20))
    console = Console(file=None, width=160)
    monkeypatch.setattr(log, "err", lambda: console)
    monkeypatch.setattr(console, "print", lambda *a, **k: said.append(str(a[0])))
    monkeypatch.setattr(type(console), "is_terminal", False)
    monkeypatch.setattr(log.time, "monotonic", lambda: float(next(now)))
    return said


def test_a_line_a_minute_with_what_matters(lines: list[str]) -> None:
    with log.training_log() as on_progress:
        for step in range(10, 140, 10):
            facts = {"step": step, "loss": "0.5", "steps/s": "0.50", "left": "3 min", "memory": "1.00 GB"}
            on_progress(ProgressEvent(stage="training", done=step / 130, total=1.0, facts=facts))
    # Each event looks at the clock once or twice: every third or so is printed, the first and the last among them.
    assert 4 <= len(lines) <= 8
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d  training 8 %  step 10  loss 0.5  steps/s 0.50  left 3 min  memory 1.00 GB", lines[0]
    )
    assert "training 100 %  step 130" in lines[-1]


def test_counted_stages_say_how_many(lines: list[str]) -> None:
    with log.training_log() as on_progress:
        on_progress(ProgressEvent(stage="preparing patients", done=3, total=170))
    assert lines[0].endswith("preparing patients 3 of 170")


def test_a_validation_is_a_sentence_and_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    console = Console(width=160, record=True, file=io.StringIO())
    monkeypatch.setattr(log, "err", lambda: console)
    facts = {
        "step": 500,
        "loss": 0.25,
        "mean Dice": 0.8125,
        "best": 0.9,
        "best step": 400,
        "Dice": {"Brainstem": 0.8125, "Parotid_L": math.nan},
        "HD95 mm": {"Brainstem": 4.5},
    }
    with log.training_log() as on_progress:
        on_progress(ProgressEvent(stage="validated", done=0.5, total=1.0, facts=facts))
    text = console.export_text()
    assert "validation after step 500: mean Dice 0.812 (best 0.900 after step 400), loss 0.2500" in text
    assert re.search(r"ROI +Dice +HD95 mm", text)
    assert re.search(r"Brainstem +0.812 +4.500", text) and re.search(r"Parotid_L +- +-", text)


FACTS = {"step": 12000, "epoch": "12.3", "left": "17 min", "best Dice": "0.731 (step 11000)", "reached": "4 min ago",
         "loss": "0.2310", "steps/s": "1.15"}  # fmt: skip


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_shows_step_epoch_time_left_and_the_best(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    monkeypatch.setattr(log, "err", lambda: console)
    with log.training_log() as on_progress:
        on_progress(ProgressEvent(stage="recording the series", done=6, total=6))
        on_progress(ProgressEvent(stage="training", done=0.41, total=1.0, facts=FACTS))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    for words in (
        "training",
        "41%",
        "step 12000",
        "epoch 12.3",
        "left 17 min",
        "best Dice 0.731 (step 11000)",
    ):
        assert words in shown, words
    assert ("reached 4 min ago" in shown) is (width == 120)
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown).replace("\r", "\n").splitlines()
    assert max(map(len, lines)) <= width, "nothing wraps"


def test_facts_are_left_out_whole() -> None:
    assert log.fitting_facts({"step": 10, "loss": 0.25}, 17) == "step 10"
    assert log.fitting_facts({"step": 10, "loss": 0.25}, 18) == "step 10  loss 0.25"
    assert log.fitting_facts({"step": 10}, 3) == ""
