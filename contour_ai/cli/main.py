"""The command group: loads commands on first use and turns errors into messages and exit statuses."""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import os
import signal
import sys
import time
from collections.abc import Iterable
from types import FrameType

import click

from contour_ai import __version__
from contour_ai.errors import (
    ContourAIError,
    InputError,
    ModelError,
    OutputError,
    VerificationError,
)
from contour_ai.faults import FILE_FAULTS, as_known
from contour_ai.interrupts import INTERRUPTS, ignore_interrupts
from contour_ai.visible_text import visible

COMMANDS = {
    "predict": "contour_ai.cli.predict",
    "train": "contour_ai.cli.train",
    "evaluate": "contour_ai.cli.evaluate",
    "commission": "contour_ai.cli.commission",
    "review": "contour_ai.cli.review",
    "inspect": "contour_ai.cli.inspect",
    "rois": "contour_ai.cli.rois",
    "to-masks": "contour_ai.cli.to_masks",
    "to-rtstruct": "contour_ai.cli.to_rtstruct",
    "to-seg": "contour_ai.cli.to_seg",
    "derive": "contour_ai.cli.derive",
    "check": "contour_ai.cli.check",
    "models": "contour_ai.cli.models",
    "serve": "contour_ai.cli.serve",
    "send": "contour_ai.cli.send",
    "monitor": "contour_ai.cli.monitor",
    "sample": "contour_ai.cli.sample",
    "synthesize": "contour_ai.cli.synthesize",
    "import-openkbp": "contour_ai.cli.import_openkbp",
    "anonymise": "contour_ai.cli.anonymise",
    "doctor": "contour_ai.cli.doctor",
}
"""Command name: module that holds it, as an attribute named `command`."""

EXIT_STATUS: tuple[tuple[type[ContourAIError], int], ...] = (
    (OutputError, 2),
    (InputError, 3),
    (ModelError, 4),
    (VerificationError, 5),
)
"""Error class to exit status; 1 is for anything unforeseen. Documented in README.md."""

INTERRUPTED = 130
SECONDS_TO_TIDY_UP = 10.0
"""After an interrupt, further ones are held back so long: they would end the removal of half-written files."""

OBJECTS_A_COLLECTION = 50_000
"""Python's own 700 cost a tenth of a prediction's time: importing torch and reading headers make objects to keep."""
REPORT_HERE = "This is a fault of contour-ai, not of your data. Please report it, with the lines above."


def exit_status(error: BaseException) -> int:
    """The exit status that stands for an error."""
    for cls, status in EXIT_STATUS:
        if isinstance(error, cls):
            return status
    return 1


STOPPED = 7
"""At least one patient's contours are not fit to be used."""


def worst_status(errors: Iterable[BaseException], *, stopped: bool = False) -> int:
    """The exit status of a command that went on after errors: 1 is worse than all others, 0 means there was none.

    Args:
        stopped: whether the verdict on a patient is `stop`.
    """
    statuses = {exit_status(error) for error in errors} | ({STOPPED} if stopped else set())
    return 1 if 1 in statuses else max(statuses, default=0)


class LazyGroup(click.Group):
    """Imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """As click does, but with the whole first sentence of every command, wrapped instead of cut."""
        rows = []
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None:
                rows.append((name, command.get_short_help_str(limit=500)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> object:
        try:
            status = super().invoke(ctx)
        except ContourAIError as error:
            _echo_error(str(error))
            status = exit_status(error)
        except (KeyboardInterrupt, click.Abort) as error:
            status = _interrupted(str(error) or _NOTHING_LEFT)
        except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
            raise
        except Exception as error:  # noqa: BLE001 - the last resort: shown in full, with exit status 1
            status = _interrupted(_NOTHING_LEFT) if _interrupted_at else _unforeseen(error)
        if isinstance(status, int) and status:
            ctx.exit(status)
        return status


_NOTHING_LEFT = "no partial file was left. Run the same command again to continue."
_interrupted_at: list[float] = []
"""When an interrupt was raised. Where that happens within Python's own work, as in the middle of an import, another
error can come of it: that is the interrupt's, not a fault."""


def _interrupted(advice: str) -> int:
    click.echo(f"interrupted: {visible(advice)}", err=True)
    return INTERRUPTED


def _echo_error(text: str) -> None:
    click.echo(f"{click.style('error', fg='red')}: {visible(text)}", err=True)


def _unforeseen(error: Exception) -> int:
    """Says what happened; a file that the system refuses is the caller's to mend, all else is a fault of ours."""
    if isinstance(error, OSError) and error.errno in FILE_FAULTS:
        known = as_known(error, "")
        _echo_error(str(known))
        return exit_status(known)
    import traceback

    click.echo(visible("".join(traceback.format_exception(error))), err=True)
    click.echo(f"contour-ai {__version__}, Python {sys.version.split()[0]}. {REPORT_HERE}", err=True)
    return 1


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="contour-ai")
@click.option("-v", "--verbose", is_flag=True, help="Also print what the library logs while it works.")
def cli(verbose: bool) -> None:
    """Auto-contouring for radiotherapy: DICOM CT in, DICOM RTSTRUCT out.

    Not a medical device; for research and local commissioning. Every contour needs review by a qualified person.
    """
    from contour_ai.cli.console import start_logging

    start_logging(verbose)


def main() -> None:
    """Entry point of the ``contour-ai`` console script."""
    _interrupt_once()
    _make_streams_tolerant()
    gc.set_threshold(OBJECTS_A_COLLECTION)
    atexit.register(gc.freeze)  # no last collection: the process frees its memory anyway
    stdout = sys.stdout
    try:
        status = cli.main(prog_name="contour-ai", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except SystemExit as error:
        # Nobody reads any more (``--help | head``): click replaces the stream, and takes it for a failure.
        status = error.code if sys.stdout is stdout else 0
    except (KeyboardInterrupt, click.Abort):  # before or after the command itself
        click.echo("interrupted", err=True)
        status = INTERRUPTED
    ignore_interrupts()  # what comes now is Python's own tidying up, which an interrupt would turn into a traceback
    # Python remembers an interrupt within an `exec` of text (every named tuple and dataclass is made by one), although
    # it was caught, and ends a module that was started by `-m` with the signal instead of its status; the next `exec`
    # makes it forget.
    exec("")
    sys.exit(status if isinstance(status, int) else 0)


def _make_streams_tolerant() -> None:
    """Characters that a console's encoding lacks are written as escapes; files and pipes get UTF-8.

    On Windows what is redirected would be written in the ANSI code page, which has no superscript in Japan and no
    Japanese elsewhere. An encoding that PYTHONIOENCODING asks for is kept.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            keep_encoding = os.environ.get("PYTHONIOENCODING") or stream.isatty()
            stream.reconfigure(encoding=None if keep_encoding else "utf-8", errors="backslashreplace")


def _interrupt_once() -> None:
    """Only the first Ctrl-C or SIGTERM interrupts; those that follow at once must not interrupt the tidying up.

    Without a handler SIGTERM (on Windows Ctrl-Break) would end the process with its half-written files left behind.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        if not _interrupted_at:
            _interrupted_at.append(time.monotonic())
            raise KeyboardInterrupt
        if time.monotonic() - _interrupted_at[0] > SECONDS_TO_TIDY_UP:
            os._exit(INTERRUPTED)

    for number in INTERRUPTS:
        # Not where they are ignored (nohup).
        if signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL):
            signal.signal(number, interrupt)
