"""Processes that benchmarks/robustness_kill.py starts, signals and waits for.

As a script it is the process that has imported everything, and forks itself for a command.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

HANG_S = 20.0
"""A process that takes so much of the processor's time after INT or TERM hangs."""

HANG_WALL_S = 120.0
"""So does one that does nothing for so long; on a machine that does other work, ending takes its time."""


class Process(Protocol):
    """What is used of `subprocess.Popen`."""

    pid: int
    returncode: int

    def poll(self) -> int | None:
        """The status, None while it runs."""

    def send_signal(self, sig: int, /) -> None:
        """Sends a signal."""

    def kill(self) -> None:
        """Ends it at once."""

    def communicate(self, *, timeout: float | None = None) -> tuple[str, Any]:
        """What it printed, at its end."""


class Ended(NamedTuple):
    """How a process ended."""

    status: int
    output: str
    hung: bool
    """Whether it had to be killed at last."""


class Warm:
    """A process that has imported everything, and forks itself for a command. One at a time."""

    server: Warm | None = None
    """Where it is there, it runs all commands."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @classmethod
    @contextlib.contextmanager
    def running(cls) -> Iterator[None]:
        """Within the block one runs all commands."""
        cls.server = cls()
        try:
            yield
        finally:
            cls.server.close()
            cls.server = None

    def fork(self, arguments: Sequence[str], output: Path) -> int:
        """Starts a command; gives its process."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([list(arguments), str(output)]) + "\n")
        self._process.stdin.flush()
        return int(self.answer(None) or 0)

    def answer(self, timeout: float | None) -> str | None:
        """The next line; None where there is none in time."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], timeout)[0]:
            return None
        return self._process.stdout.readline()

    def close(self) -> None:
        """Ends it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


class Forked:
    """A command in a fork of the warm process."""

    def __init__(self, server: Warm, arguments: Sequence[str]) -> None:
        handle, name = tempfile.mkstemp(suffix=".log")
        os.close(handle)
        self._output, self._server, self._status = Path(name), server, None
        self.pid = server.fork(arguments, self._output)

    @property
    def returncode(self) -> int | None:
        return self._status

    def poll(self, timeout: float | None = 0) -> int | None:
        if self._status is None and (line := self._server.answer(timeout)):
            self._status = os.waitstatus_to_exitcode(int(line))
        return self._status

    def send_signal(self, sig: int, /) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it ended in between
                os.kill(self.pid, sig)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, *, timeout: float | None = None) -> tuple[str, None]:
        if self.poll(timeout) is None:
            raise subprocess.TimeoutExpired("contour-ai", timeout or 0)
        text = self._output.read_text(encoding="utf-8", errors="replace")
        self._output.unlink()
        return text, None


def serve() -> None:
    """Imports everything; forks for each line of stdin, and says the process and then its status. For `Warm`."""
    import pkgutil

    import contour_ai
    from contour_ai.cli.main import main as command_line

    for module in pkgutil.walk_packages(contour_ai.__path__, "contour_ai."):
        if not module.name.endswith("__main__"):
            with contextlib.suppress(ImportError):  # of an extra that is not installed
                importlib.import_module(module.name)
    answers = os.fdopen(os.dup(1), "w")
    questions = os.fdopen(os.dup(0))
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    while line := questions.readline():
        arguments, output = json.loads(line)
        if not (pid := os.fork()):
            break
        print(pid, file=answers, flush=True)
        print(os.waitpid(pid, 0)[1], file=answers, flush=True)
    else:
        return
    os.close(answers.fileno())
    os.close(questions.fileno())
    written = os.open(output, os.O_WRONLY)
    os.dup2(written, 1)
    os.dup2(written, 2)
    sys.argv = ["contour-ai", *arguments]
    command_line()


def run(arguments: Sequence[str]) -> None:
    """A command that has to succeed."""
    status, text, _ = wait(start_process(arguments), 300)
    if status:
        raise SystemExit(f"contour-ai {' '.join(arguments)}: status {status}\n{text}")


def start_process(arguments: Sequence[str]) -> Process:
    """The command line in a process of its own."""
    if Warm.server is not None:
        return Forked(Warm.server, arguments)
    return subprocess.Popen(
        [sys.executable, "-m", "contour_ai", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    )


def stop(process: Process, name: str) -> Ended:
    """Sends a signal, and waits."""
    if process.poll() is None:
        # Windows has but one way to end a process that has no console.
        process.send_signal(signal.SIGTERM if is_windows() else getattr(signal, f"SIG{name}"))
    began, cpu = time.monotonic(), _cpu_s(process.pid)
    while process.poll() is None and time.monotonic() - began < HANG_WALL_S:
        now = _cpu_s(process.pid)
        spent = time.monotonic() - began if cpu is None or now is None else now - cpu
        if spent > HANG_S:
            break
        time.sleep(0.05)
    return wait(process, 0.1)


def wait(process: Process, longest_s: float) -> Ended:
    """Waits so long, and kills it then."""
    try:
        text, _ = process.communicate(timeout=longest_s)
    except subprocess.TimeoutExpired:
        process.kill()
        text, _ = process.communicate()
        return Ended(process.returncode, text, True)
    return Ended(process.returncode, text, False)


def wait_for(path: Path, process: Process) -> None:
    """Until a file is there."""
    while not path.exists():
        if process.poll() is not None:
            raise SystemExit(f"the training ended before its first checkpoint\n{process.communicate()[0]}")
        time.sleep(0.1)


def _cpu_s(pid: int) -> float | None:
    """Seconds of the processor that a process has taken; None where it cannot be told."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def until_handling(process: Process) -> float:
    """Seconds until the process handles TERM: before, Python itself is starting. Elsewhere than on Linux a guess."""
    began = time.monotonic()
    facts = Path(f"/proc/{process.pid}/status")
    while facts.exists() and process.poll() is None and time.monotonic() - began < 30:
        caught = [
            line for line in facts.read_text(encoding="ascii").splitlines() if line.startswith("SigCgt")
        ]
        if caught and int(caught[0].split()[1], 16) >> (signal.SIGTERM - 1) & 1:
            return time.monotonic() - began
        time.sleep(0.01)
    if not Path("/proc").exists():
        time.sleep(1.0)
    return time.monotonic() - began


def is_windows() -> bool:
    return sys.platform == "win32"


if __name__ == "__main__":
    serve()
