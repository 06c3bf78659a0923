"""What the commands print with: results to stdout, messages and progress bars to stderr."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # rich takes 50 ms to import, which --help must not pay
    from rich.console import Console
    from rich.text import Text

    from contour_ai.progress import OnProgress, ProgressEvent

WIDTH_IN_FILES = 160
"""What goes to a file or a pipe: rich would squeeze tables into 80 columns and cut names short."""


@cache
def out() -> Console:
    """The console for results (stdout)."""
    return _console(stderr=False)


@cache
def err() -> Console:
    """The console for messages (stderr)."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    from contour_ai.cli.visible_console import VisibleConsole

    width = None if (sys.stderr if stderr else sys.stdout).isatty() else WIDTH_IN_FILES
    # No markup: names of patients and ROIs are printed as they are, with their brackets. See `styled`.
    return VisibleConsole(
        stderr=stderr, highlight=False, soft_wrap=True, width=width, markup=False, emoji=False
    )


def styled(*parts: str | tuple[str, str]) -> Text:
    """A line of plain parts and parts with a style: ``styled(("note", "yellow"), ": ", sentence)``."""
    from rich.text import Text

    return Text.assemble(*parts)


VERDICT_STYLES = {"clear": "green", "look": "yellow", "stop": "bold red"}


def verdict_part(verdict: str) -> tuple[str, str]:
    """A verdict as a part of a `styled` line."""
    return verdict, VERDICT_STYLES.get(verdict, "")


def styled_verdict(verdict: str) -> Text:
    """A verdict in its colour."""
    return styled(verdict_part(verdict))


def reasons_text(reasons: Sequence[str], *, every: bool) -> str:
    """The first of several reasons with the number of the others, or every one of them."""
    if every or len(reasons) < 2:
        return "; ".join(reasons)
    return f"{reasons[0]} (+{len(reasons) - 1})"


def print_note(sentence: object) -> None:
    """A line on stderr that begins with `note`."""
    err().print(styled(("note", "yellow"), f": {sentence}"))


def print_warning(sentence: object) -> None:
    """A yellow line on stderr."""
    err().print(styled((str(sentence), "yellow")))


def start_logging(verbose: bool) -> None:
    """Sends the library's log to stderr: warnings and above, everything with `verbose`."""
    handler = _ConsoleHandler()
    logger = logging.getLogger("contour_ai")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.DEBUG if verbose else logging.WARNING)
    logger.propagate = False
    # pydicom warns of every value that is not quite as the standard has it; what matters is said in our own words.
    warnings.filterwarnings("ignore", module=r"pydicom\b")


class _ConsoleHandler(logging.Handler):
    """Prints log records above any running progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        style = (
            "red"
            if record.levelno >= logging.ERROR
            else "yellow"
            if record.levelno >= logging.WARNING
            else "dim"
        )
        err().print(styled((record.levelname.lower(), style), f": {record.getMessage()}"))


@contextmanager
def progress_bar() -> Iterator[OnProgress]:
    """A rich progress display on stderr, one line a stage; yields the `on_progress` callback that feeds it."""
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    tasks: dict[str, TaskID] = {}
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[facts]}", markup=False),
        console=err(),
    ) as progress:

        def on_progress(event: ProgressEvent) -> None:
            facts = "  ".join(f"{name} {value}" for name, value in event.facts.items())
            if event.stage not in tasks:
                tasks[event.stage] = progress.add_task(event.stage, total=event.total, facts=facts)
            progress.update(tasks[event.stage], completed=event.done, total=event.total, facts=facts)

        yield on_progress


class ClosableBar:
    """A progress display that makes way for results: they go to stdout, which a running display must not share.

    Events that come while it is closed are let go; whoever sends them will send others.
    """

    def __init__(self) -> None:
        self._stack: ExitStack | None = None
        self._current: OnProgress | None = None

    def on_progress(self, event: ProgressEvent) -> None:
        """Shows an event; from any thread."""
        current = self._current
        if current is not None:
            current(event)

    def __enter__(self) -> ClosableBar:
        self._stack = ExitStack()
        self._current = self._stack.enter_context(progress_bar())
        return self

    def __exit__(self, *error: object) -> None:
        self._current = None
        if self._stack is not None:
            self._stack.close()

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Takes the display away for a while."""
        self.__exit__()
        yield
        self.__enter__()
