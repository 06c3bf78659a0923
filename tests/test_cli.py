"""The command line as a whole: instant help, every command documented, errors as exit statuses."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from contour_ai import errors
from contour_ai.cli.main import COMMANDS, LazyGroup, cli, exit_status

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "SimpleITK", "skimage", "cv2", "pydicom", "numpy", "scipy", "rich", "PIL")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from contour_ai.cli.main import cli\n"
        "try: cli(['--help'])\n"
        "except SystemExit: pass\n"
        f"print('loaded:', [m for m in {HEAVY!r} if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "loaded: []" in done.stdout
    assert "predict" in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_help_and_stands_in_the_readme(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None and command.help, f"{name} has no help"
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.help, f"{name} {parameter.opts} has no help"
    shown = CliRunner().invoke(cli, [name, "--help"])
    assert shown.exit_code == 0 and "Usage:" in shown.output
    assert re.search(rf"contour-ai {name}\b", (ROOT / "README.md").read_text(encoding="utf-8")), name


def test_unknown_commands_are_wrong_usage() -> None:
    assert CliRunner().invoke(cli, ["predcit"]).exit_code == 2


def test_a_message_of_another_library_comes_without_its_traceback() -> None:
    cause = ValueError(
        "With tag (3006,0024) got exception: no such VR\nTraceback (most recent call last):\n  File"
    )
    error = errors.InputError("This DICOM file is damaged.", found=cause, fix="export it again")
    found = "With tag (3006,0024) got exception: no such VR"
    assert error.found == found
    assert str(error).splitlines() == [
        "This DICOM file is damaged.",
        f"  found: {found}",
        "  what to do: export it again",
    ]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.OutputError("x"), 2),
        (errors.InputError("x"), 3),
        (errors.GeometryError("x"), 3),
        (errors.ModelError("x"), 4),
        (errors.ConfigError("x"), 4),
        (errors.VerificationError("x"), 5),
        (errors.ContourAIError("x"), 1),
        (ZeroDivisionError(), 1),
    ],
)
def test_errors_become_exit_statuses(error: Exception, status: int) -> None:
    assert exit_status(error) == status

    @click.command()
    def failing() -> None:
        raise error

    group = LazyGroup("x")
    group.get_command = lambda ctx, name: failing  # type: ignore[method-assign]
    result = CliRunner().invoke(group, ["failing"])
    assert result.exit_code == status
    if isinstance(error, errors.ContourAIError):
        assert result.stderr == "error: x\n"
    else:
        assert "Please report it" in result.stderr and "ZeroDivisionError" in result.stderr


def test_interrupting_says_how_to_go_on() -> None:
    @click.command()
    def slow() -> None:
        raise KeyboardInterrupt

    group = LazyGroup("x")
    group.get_command = lambda ctx, name: slow  # type: ignore[method-assign]
    result = CliRunner().invoke(group, ["slow"])
    assert result.exit_code == 130
    assert "no partial file" in result.stderr


@pytest.mark.parametrize(
    ("interrupted", "status"), [(False, 1), (True, 130)], ids=["fault", "after an interrupt"]
)
def test_an_error_that_comes_of_an_interrupt_is_no_fault(
    monkeypatch: pytest.MonkeyPatch, interrupted: bool, status: int
) -> None:
    def command() -> None:
        raise TypeError("expected a message argument")

    module = sys.modules["contour_ai.cli.main"]
    monkeypatch.setattr(module, "_interrupted_at", [1.0] if interrupted else [])
    group = LazyGroup(commands={"broken": click.Command("broken", callback=command)})
    monkeypatch.setattr(LazyGroup, "get_command", lambda self, _ctx, name: self.commands[name])
    done = CliRunner().invoke(group, ["broken"])
    assert done.exit_code == status
    assert ("fault of contour-ai" in done.stderr) is not interrupted
    assert done.stderr.startswith("interrupted: no partial file") is interrupted
