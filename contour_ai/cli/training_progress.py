"""What `contour-ai train` shows while it works: bars on a terminal, a line a minute in a file, a table a validation."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from contour_ai.cli.console import err, progress_bar

if TYPE_CHECKING:
    from contour_ai.progress import OnProgress, ProgressEvent

LINE_EVERY_S = 60.0
"""A log of a night's training has some hundred lines, and a stalled one is noticed within minutes."""


@contextmanager
def training_log(every_s: float = LINE_EVERY_S) -> Iterator[OnProgress]:
    """Yields the `on_progress` callback that shows on stderr how a training goes."""
    with progress_bar() if err().is_terminal else _lines(every_s) as show:

        def on_progress(event: ProgressEvent) -> None:
            if event.stage == "validated":
                _print_scores(event.facts)
            else:
                show(event)

        yield on_progress


@contextmanager
def _lines(every_s: float) -> Iterator[OnProgress]:
    """Yields a callback that prints the first event of every stage, the last one, and one in `every_s`."""
    printed: dict[str, float] = {}

    def show(event: ProgressEvent) -> None:
        ended = event.total is not None and event.done >= event.total
        if not ended and time.monotonic() - printed.get(event.stage, -math.inf) < every_s:
            return
        printed[event.stage] = time.monotonic()
        err().print(_line(event))

    yield show


def _line(event: ProgressEvent) -> str:
    """`12:34:56  training 41 %  step 820  loss 0.2310  steps/s 1.15  left 17 min  memory 2.31 GB`."""
    if event.total is None:
        done = f"{event.done:g}"
    elif event.total > 1:
        done = f"{event.done:g} of {event.total:g}"
    else:
        done = f"{100 * event.done / event.total:.0f} %" if event.total else ""
    facts = "".join(f"  {name} {value}" for name, value in event.facts.items())
    return f"{time.strftime('%H:%M:%S')}  {event.stage} {done}{facts}"


def _print_scores(facts: Mapping[str, object]) -> None:
    """A validation: every mapping of ROIs to figures is a column."""
    from rich.box import SIMPLE
    from rich.table import Table

    figures = {name: values for name, values in facts.items() if isinstance(values, Mapping) and values}
    table = Table(box=SIMPLE)
    table.add_column("ROI")
    for name in figures:
        table.add_column(name, justify="right")
    for roi in dict.fromkeys(roi for values in figures.values() for roi in values):
        table.add_row(roi, *(_number(values.get(roi)) for values in figures.values()))
    err().print(
        f"{time.strftime('%H:%M:%S')}  validation after step {facts['step']}: mean Dice {_number(facts['mean Dice'])} "
        f"(best {_number(facts['best'])} after step {facts['best step']}), loss {facts['loss']:.4f}"
    )
    err().print(table)


def _number(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) and math.isfinite(value) else "-"
