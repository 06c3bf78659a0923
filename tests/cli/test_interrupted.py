"""An interrupt ends with status 130 and the command that goes on."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from contour_ai.cli import predict as predict_command
from contour_ai.cli.main import cli
from contour_ai.pipeline import _train


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments], prog_name="contour-ai")


def interrupted(*arguments: object, **options: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.skipif(sys.platform == "win32", reason="another shell")
def test_a_training_says_the_command_that_resumes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_train, "train", interrupted)
    run_dir = tmp_path / "my run"
    arguments = ["train", tmp_path, "--out", run_dir, "--device", "cpu", "--strict", "--time-budget", "20m"]
    result = run(*arguments)
    assert result.exit_code == 130 and "had not begun" in result.stderr and "same command" in result.stderr
    (run_dir / "checkpoints").mkdir(parents=True)
    (run_dir / "checkpoints" / "last.pt").touch()
    result = run(*arguments)
    assert result.exit_code == 130 and "interrupted: the training is saved" in result.stderr
    command = shlex.split(result.stderr.splitlines()[-1])
    expected = [
        "contour-ai",
        "train",
        str(tmp_path),
        "--out",
        str(run_dir),
        "--resume",
        "--device",
        "cpu",
        "--strict",
    ]
    assert command == expected
    assert run(*command[1:]).exit_code == 130  # the options are ones that --resume takes


@pytest.mark.parametrize(
    ("more", "advice"),
    [(["b"], "with --skip-done"), ([], "same command again"), (["b", "--overwrite"], "same command again")],
)
def test_a_cohort_goes_on_with_what_is_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str], advice: str
) -> None:
    monkeypatch.setattr(predict_command, "_predict_all", interrupted)
    result = run("predict", "a", *more, "--out", tmp_path, "--model", "phantom-pelvis")
    assert result.exit_code == 130 and "interrupted: " in result.stderr
    assert advice in result.stderr and ("--skip-done" in result.stderr) == ("--skip-done" in advice)


@pytest.mark.skipif(sys.platform == "win32", reason="no head")
@pytest.mark.parametrize("arguments", [["--help"], ["commission", "--example-limits"], ["models", "list"]])
def test_a_reader_that_has_gone_is_no_failure(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "contour_ai", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_an_interrupt_within_an_exec_of_text_has_the_same_status(tmp_path: Path) -> None:
    """As in the making of a named tuple or dataclass; Python 3.11 ended `python -m` with the signal then."""
    (tmp_path / "started.py").write_text(
        "import sys\n"
        "import importlib\n"
        "module = importlib.import_module('contour_ai.cli.main')\n"
        "def interrupted(**more):\n"
        "    try:\n"
        "        exec('raise KeyboardInterrupt')\n"
        "    except KeyboardInterrupt:\n"
        "        sys.exit(module.INTERRUPTED)\n"
        "module.cli.main = interrupted\n"
        "module.main()\n",
        encoding="utf-8",
    )
    paths = os.pathsep.join(p for p in (str(tmp_path), *sys.path) if p)
    ended = subprocess.run(
        [sys.executable, "-m", "started"], env={**os.environ, "PYTHONPATH": paths}, capture_output=True
    )
    assert ended.returncode == 130, ended.stderr
