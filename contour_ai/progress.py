"""How the library tells a caller how far it has come, without printing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class ProgressEvent:
    """One step of one stage, as a function given as `on_progress` receives it."""

    stage: str
    """Name of the stage, such as "reading CT"."""
    done: float
    """How much of the stage is done, in the unit of `total`: files, patients, training steps or seconds."""
    total: float | None = None
    """How much the stage has in all; None where that is unknown."""
    facts: Mapping[str, object] = field(default_factory=dict)
    """What is worth showing beside a bar (loss, ROI, seconds left), by name and in plain units."""


class OnProgress(Protocol):
    """A function that is told of every `ProgressEvent`: any function of one argument.

    An exception that it raises ends what is being done. `predict` of several patients may call it from other threads.
    """

    def __call__(self, event: ProgressEvent, /) -> None: ...


def no_progress(event: ProgressEvent) -> None:
    """Ignores every event: the default where nobody watches."""
