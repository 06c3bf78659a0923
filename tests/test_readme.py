"""The commands of README.md work when they are pasted one after the other, in an empty folder; those of the other
documents name commands and options that exist."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from contour_ai.cli.main import cli

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = (README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
PATIENCE_S = 300

SHORT_TRAINING = """\
preprocess: {spacing_mm_kij: [9, 8, 8], windows_hu: [[-160, 240]]}
network: {name: resunet3d, base_filters: 4, norm: instance}
input: {patch_kij: [16, 24, 24], batch_size: 1}
run: {steps: 2, validate_every: 2}
"""
"""What stands in for five minutes of training."""


def section(title: str) -> str:
    """README.md from one heading to the next of its level."""
    return README.read_text(encoding="utf-8").split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def blocks(text: str) -> list[str]:
    """The shell blocks of a text in Markdown."""
    return re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """Words of every contour-ai command in the shell blocks of a text, up to a pipe, an ellipsis or a comment."""
    lines = (line for block in blocks(text) for line in re.split(r"\n|&&", block))
    words = [shlex.split(line.replace("…", ""), comments=True) for line in lines if "contour-ai" in line]
    return [line[1:] for line in words if line and line[0] == "contour-ai"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_the_documents_exist_with_their_options(page: Path) -> None:
    for words in commands(page.read_text(encoding="utf-8")):
        command: click.Command | None = cli
        names = [w for w in words if not w.startswith("-")]
        while isinstance(command, click.Group) and names:
            command = command.get_command(click.Context(command), names.pop(0))
        assert command is not None, f"{page.name}: contour-ai {shlex.join(words)}: no such command"
        options = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help", "--version"}
        for word in words:
            assert not word.startswith("--") or word.partition("=")[0] in options, (
                f"{page.name}: contour-ai {shlex.join(words)}: no option {word}"
            )


class Shell:
    """Bash in a folder that was empty, with this Python's contour-ai as `contour-ai`."""

    def __init__(self, folder: Path, programs: Path) -> None:
        programs.mkdir()
        program = programs / "contour-ai"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m contour_ai "$@"\n', encoding="utf-8")
        program.chmod(0o755)
        self._folder = folder
        self._environment = {
            **os.environ,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        }

    def start(self, block: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=self._folder,
            env=self._environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def paste(self, block: str) -> str:
        """Runs a block, which has to succeed; everything it printed."""
        process = self.start(block)
        output, _ = process.communicate(timeout=PATIENCE_S * 3)
        assert process.returncode == 0, f"{block}\n{output}"
        return output


def replaced(text: str, old: str, new: str) -> str:
    assert old in text, f"README.md has no {old!r} any more: change what this test puts in its place"
    return text.replace(old, new)


@pytest.mark.skipif(
    shutil.which("bash") is None or os.name == "nt", reason="README.md's commands are for bash"
)
@pytest.mark.slow
def test_the_commands_work_one_after_the_other(tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    shell = Shell(folder, tmp_path / "programs")

    for block in blocks(section("Contour a patient")):
        output = shell.paste(block)
    patient = folder / "out" / "phantom-headneck-01"
    assert len(list(patient.glob("RS.*.dcm"))) == 1
    assert {"report.html", "overlays", "montage.png", "summary.json"} <= {p.name for p in patient.iterdir()}
    assert all(
        (folder / name).is_file() for name in ("masks.npz", "from-masks.dcm", "SEG.dcm", "derived.dcm")
    )
    assert list((folder / "anonymous").rglob("*.dcm")), output

    (tmp_path / "short.yaml").write_text(SHORT_TRAINING, encoding="utf-8")
    (training,) = blocks(section("Train"))
    training = replaced(training, "--time-budget 5m", f"--config {tmp_path / 'short.yaml'}")
    training = replaced(training, "--count 6", "--count 2")
    *learn, use = training.strip().splitlines()
    shell.paste("\n".join(learn))
    assert (folder / "runs" / "first" / "bundle" / "weights.safetensors").is_file()
    assert (
        use.startswith("contour-ai predict") and "--model runs/first/bundle" in use
    )  # two steps find nothing

    node, send = blocks(section("Run as a DICOM node"))
    port, page_port = free_port(), free_port()
    node = replaced(node, "quiet_s: 5 ", f"port: {port}\nweb: {{port: {page_port}}}\nquiet_s: 0.5 ")
    running = shell.start(node)
    try:
        page = f"http://127.0.0.1:{page_port}"
        wait_for(lambda: reachable(page), running)
        shell.paste(replaced(send, ":11112", f":{port}"))
        wait_for(lambda: bool(list((folder / "contour-ai-node").rglob("RS.*.dcm"))), running)
    finally:
        os.killpg(running.pid, signal.SIGINT)
        output, _ = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 0 and "phantom-headneck" in output, output


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def reachable(page: str) -> bool:
    try:
        with urllib.request.urlopen(page, timeout=5):
            return True
    except OSError:
        return False


def wait_for(happened: Callable[[], bool], running: subprocess.Popen[str]) -> None:

    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert running.poll() is None, running.communicate()[0]
        assert time.monotonic() < deadline, "the node did not get there"
        time.sleep(0.2)


def test_the_changelog_says_each_thing_once() -> None:
    """What two branches wrote into CHANGELOG.md may be there twice once they are merged."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    lines = re.findall(r"^(?:- .{40,}|##? .*)$", text, flags=re.MULTILINE)
    assert [line for line in set(lines) if lines.count(line) > 1] == []
