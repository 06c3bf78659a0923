"""A training that is asked to stop saves itself at once, wherever it is, and goes on as if nothing had happened."""

from __future__ import annotations

import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from test_loop import CONFIG, assert_same, job, last, run

from contour_ai.progress import ProgressEvent
from contour_ai.training import loop, stopping
from contour_ai.training.stopping import StopRequest, TrainingStoppedError, stop_requests

LONG = replace(CONFIG, run=replace(CONFIG.run, steps=6, validate_every=3, checkpoint_minutes=1000.0))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a training that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")
    run(job(folder, LONG))
    return folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_in_a_step_saves_that_step(
    tmp_path: Path, whole: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        step = loop.Stepper.step

        def stopping(self: loop.Stepper, at: int, rate: float) -> object:
            if at == 1:
                signal.raise_signal(number)
            return step(self, at, rate)

        patch.setattr(loop.Stepper, "step", stopping)
        with pytest.raises(KeyboardInterrupt):
            run(job(tmp_path / "parts", LONG))
    assert signal.getsignal(number) is before
    assert last(tmp_path / "parts")["step"] == 2
    run(job(tmp_path / "parts", LONG, resume=True))
    assert_same(last(whole), last(tmp_path / "parts"))


@pytest.mark.parametrize("at_step", [3, 6])
def test_a_stop_in_a_validation_ends_it_and_it_is_made_again(
    tmp_path: Path, whole: Path, at_step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        validate, calls = loop.validate, []

        def stopping(*arguments: object) -> object:
            calls.append(arguments)
            if 3 * len(calls) == at_step:
                signal.raise_signal(signal.SIGINT)
                pytest.fail("the validation went on")
            return validate(*arguments)  # type: ignore[arg-type]

        patch.setattr(loop, "validate", stopping)
        with pytest.raises(TrainingStoppedError):
            run(job(tmp_path / "parts", LONG))
    saved = last(tmp_path / "parts")
    assert saved["step"] == at_step and saved["validation_due"]
    _, at = run(job(tmp_path / "parts", LONG, resume=True))
    assert [s.step for s in at.scores] == [3, 6]
    assert_same(last(whole), last(tmp_path / "parts"))


def test_a_budget_counts_from_the_first_step_and_goes_on_where_it_stood(tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    def killed(event: ProgressEvent) -> None:
        raise KilledError

    long = replace(LONG, run=replace(LONG.run, steps=10_000, validate_every=10_000))
    with pytest.raises(KilledError):  # before anything but the first checkpoint was written
        run(job(tmp_path, long, time_budget_s=30.0, whole_budget_s=40.0), killed)
    saved = last(tmp_path)
    assert saved["step"] == 0 and saved["budget_left_s"] == pytest.approx(30, abs=1)
    assert saved["whole_budget_s"] == 40.0
    _, at = run(job(tmp_path, long, resume=True, prepared_s=25.0))
    assert at.finished and at.whole_budget_s == 40.0 and at.elapsed_s < 15


def test_a_third_request_ends_it_anywhere() -> None:
    stop = StopRequest()
    stop.request()
    stop.request()
    assert stop.requested
    with pytest.raises(KeyboardInterrupt) as caught:
        stop.request()
    assert not isinstance(caught.value, TrainingStoppedError)


def test_what_a_launcher_passes_on_is_the_same_request(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now[0])
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    with stop_requests() as stop:
        for _ in range(2):  # somebody presses Ctrl-C twice, and every one comes twice or more often
            for _ in range(4):
                signal.raise_signal(signal.SIGINT)
                now[0] += 0.5
            now[0] += 10
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_second_request_does_not_end_the_saving(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        step, save = loop.Stepper.step, loop.save_training

        def stopping_step(self: loop.Stepper, at: int, rate: float) -> object:
            if at == 1:
                signal.raise_signal(signal.SIGINT)
            return step(self, at, rate)

        def interrupted(*arguments: object) -> None:
            if arguments[2].step:  # type: ignore[attr-defined]
                signal.raise_signal(signal.SIGINT)
            save(*arguments)  # type: ignore[arg-type]

        patch.setattr(loop.Stepper, "step", stopping_step)
        patch.setattr(loop, "save_training", interrupted)
        with pytest.raises(TrainingStoppedError):
            run(job(tmp_path / "parts", LONG))
    assert last(tmp_path / "parts")["step"] == 2


def test_in_another_thread_signals_are_left_alone() -> None:
    before, seen = signal.getsignal(signal.SIGINT), []

    def enter() -> None:
        with stop_requests() as stop:
            seen.append((stop.requested, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [(False, before)]
