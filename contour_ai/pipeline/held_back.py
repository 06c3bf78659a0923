"""Which of the patients held back from a training are looked at after it, and for how long."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from contour_ai.progress import OnProgress, ProgressEvent, no_progress
from contour_ai.training.cache import Case

MOST_PATIENTS = 20
"""Patients held back that are looked at, at most, evenly picked: their network takes most of the time."""


def picked_cases(
    held_back: Sequence[Case],
    stage: str,
    on_progress: OnProgress = no_progress,
    seconds: float = float("inf"),
) -> Iterator[Case]:
    """At most `MOST_PATIENTS` of the cases, evenly picked; after so many seconds no other one is begun."""
    started = time.monotonic()
    picked = held_back[:: -(-len(held_back) // MOST_PATIENTS) or 1]
    for done, case in enumerate(picked):
        on_progress(ProgressEvent(stage=stage, done=done, total=len(picked)))
        if time.monotonic() - started > seconds:
            break
        yield case
    on_progress(ProgressEvent(stage=stage, done=len(picked), total=len(picked)))
