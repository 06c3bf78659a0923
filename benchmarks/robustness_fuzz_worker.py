"""Runs commands of benchmarks/robustness_fuzz.py in a process that may crash, hang or take much memory.

As a script it is that process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
HANG_S = 20.0
"""Of the processor's time; a machine that does other work may take `HANG_WALL_S`."""
HANG_WALL_S = 180.0
MOST_MB = 3000


def serve() -> None:
    """Runs commands given as lines of JSON on stdin, in this process; answers with a line of JSON each."""
    import resource

    from click.testing import CliRunner

    from contour_ai.cli.main import cli

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not get among the answers
    for line in sys.stdin:
        arguments, environment = json.loads(line)
        result = CliRunner(env=environment).invoke(cli, arguments, prog_name="contour-ai")
        raised = result.exception is not None and not isinstance(result.exception, SystemExit)
        text = result.output + (f"\n{result.exception!r}" if raised else "")
        mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
            1024 if sys.platform != "darwin" else 1024**2
        )
        print(
            json.dumps({"status": 1 if raised else result.exit_code, "output": text[-4000:], "mb": mb}),
            file=answers,
            flush=True,
        )


def _watch(process: subprocess.Popen[str], ended: threading.Event, hung: list[bool]) -> None:
    """Kills a process that takes too long over one command."""
    began, cpu = time.monotonic(), _cpu_s(process.pid)
    while not ended.wait(0.2):
        wall, now = time.monotonic() - began, _cpu_s(process.pid)
        spent = wall if cpu is None or now is None else now - cpu
        if spent > HANG_S or wall > HANG_WALL_S:
            hung.append(True)
            process.kill()
            return


def _cpu_s(pid: int) -> float | None:
    """Seconds of the processor that a process has taken, its ended children included; None where it cannot be told."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


class Worker:
    """A process that runs commands; it is started again where it died or hung."""

    def __init__(self, log: Path) -> None:
        self._log, self._process = log, None

    def run(self, arguments: Sequence[str], environment: dict[str, str]) -> dict[str, object]:
        """The answer: status, output, largest memory; a status of -1 for a dead process, -2 for a hang."""
        if self._process is None:
            self._start()
        process = self._process
        ended = threading.Event()
        hung: list[bool] = []
        watch = threading.Thread(target=_watch, args=(process, ended, hung))
        watch.start()
        try:
            process.stdin.write(json.dumps([list(arguments), environment]) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            ended.set()
            watch.join()
        if line:
            answer = json.loads(line)
            if answer["mb"] > MOST_MB:
                self.close()
            return answer
        process.wait()
        self._process = None
        return {"status": -2 if hung else -1, "output": f"return code {process.returncode}", "mb": 0}

    def _start(self) -> None:
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).resolve())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160"},
            )

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.stdin.close()
            self._process.wait(timeout=600)
            self._process = None


if __name__ == "__main__":
    sys.path.insert(0, str(REPOSITORY))
    serve()
