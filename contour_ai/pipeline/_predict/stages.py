"""The stages of a prediction: how long each takes, and how far the patient has come."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from contour_ai.progress import OnProgress, ProgressEvent

SHARES = {
    "finding": 2,
    "reading": 10,
    "body": 5,
    "model": 8,
    "preprocessing": 5,
    "network": 35,
    "restoring": 4,
    "second reader": 0,
    "flags": 1,
    "position": 0,
    "judging": 0,
    "structure set": 10,
    "reference": 5,
    "pictures": 15,
}
"""Stages, and about what share of the time each takes (in all 100), for the progress bar; 0 for what not every patient
goes through."""


@dataclass(kw_only=True)
class StageClock:
    """Seconds of every stage; whoever watches sees one bar a patient, with the stage beside it."""

    watcher: OnProgress
    patient: str
    started: float = field(default_factory=time.perf_counter)
    seconds: dict[str, float] = field(default_factory=dict)
    waited: float = 0.0
    """Seconds in which nothing was done for the patient, between `pause` and `go_on`: no part of the total."""
    paused: float | None = None

    @contextmanager
    def stage(self, name: str) -> Iterator[OnProgress]:
        """Times a stage; yields the callback for what it is made of."""
        begun, before = time.perf_counter(), sum(SHARES[done] for done in self.seconds)

        part = 0.0

        def within(event: ProgressEvent) -> None:
            nonlocal part  # a stage may be made of several counts; the bar never goes back
            part = max(part, min(event.done / event.total, 1.0) if event.total else 0.0)
            self.watcher(
                ProgressEvent(
                    stage=self.patient, done=before + part * SHARES[name], total=100, facts={"now": name}
                )
            )

        within(ProgressEvent(stage=name, done=0, total=1))
        yield within
        self.seconds[name] = time.perf_counter() - begun
        within(ProgressEvent(stage=name, done=1, total=1))

    def pause(self) -> None:
        """Nothing is done for the patient until `go_on`."""
        self.paused = time.perf_counter()

    def go_on(self) -> None:
        """The end of a pause."""
        if self.paused is not None:
            self.waited += time.perf_counter() - self.paused
            self.paused = None

    def finished(self) -> dict[str, float]:
        """{stage: seconds}, with their total."""
        return {**self.seconds, "total": time.perf_counter() - self.started - self.waited}
