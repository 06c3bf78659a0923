"""How the library tells a caller how far it has come, without printing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class ProgressEvent:
    """One step of one stage.

    `facts` holds what is worth showing beside the bar (loss, ROI, seconds left), by name and already in plain units.
    """

    stage: str
    done: float
    total: float | None = None
    facts: Mapping[str, object] = field(default_factory=dict)


OnProgress = Callable[[ProgressEvent], None]


def no_progress(event: ProgressEvent) -> None:
    """Ignores every event: the default where nobody watches."""
