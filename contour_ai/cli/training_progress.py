"""What `contour-ai train` shows while it works: bars on a terminal, a line a minute in a file, a table a validation."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from contour_ai.cli.console import err

if TYPE_CHECKING:
    from contour_ai.progress import OnProgress, ProgressEvent

LINE_EVERY_S = 60.0
"""A log of a night's training has some hundred lines, and a stalled one is noticed within minutes."""
BAR_FROM_WIDTH, BAR_WIDTH = 110, 20
"""Width of a terminal, in characters, from which on a bar is shown, and the width of the bar."""


@contextmanager
def training_log(every_s: float = LINE_EVERY_S) -> Iterator[OnProgress]:
    """Yields the `on_progress` callback that shows on stderr how a training goes."""
    with _bars() if err().is_terminal else _lines(every_s) as show:

        def on_progress(event: ProgressEvent) -> None:
            if event.stage == "validated":
                _print_scores(event.facts)
            else:
                show(event)

        yield on_progress


@contextmanager
def _bars() -> Iterator[OnProgress]:
    """Yields a callback that keeps one line a stage on the terminal; what does not fit its width is left out whole."""
    from rich.progress import BarColumn, Progress, TaskID, TextColumn

    console = err()
    wide = console.width >= BAR_FROM_WIDTH
    # One column of text: a column for the stages would be as wide as the longest of them.
    columns = [
        *([BarColumn(bar_width=BAR_WIDTH)] if wide else []),
        TextColumn("{task.fields[line]}", markup=False),
    ]
    text_width = console.width - (BAR_WIDTH + 1 if wide else 0)
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console) as progress:

        def show(event: ProgressEvent) -> None:
            share = f"{100 * event.done / event.total:.0f}%" if event.total else ""
            begin = f"{event.stage} {share}"
            line = f"{begin}  {fitting_facts(event.facts, text_width - len(begin) - 2)}".rstrip()
            if event.stage not in tasks:
                tasks[event.stage] = progress.add_task(event.stage, total=event.total, line=line)
            progress.update(tasks[event.stage], completed=event.done, total=event.total, line=line)

        yield show


def fitting_facts(facts: Mapping[str, object], width: int) -> str:
    """As many of the facts, from the first one on, as fit so many characters."""
    line = ""
    for name, value in facts.items():
        longer = f"{line}  {name} {value}" if line else f"{name} {value}"
        if len(longer) > width:
            break
        line = longer
    return line


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
