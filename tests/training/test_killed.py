"""A training that is killed at any moment goes on as if nothing had happened."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from test_loop import CONFIG, assert_same, job, last, run

STEPS = 12
ALWAYS = replace(
    CONFIG, run=replace(CONFIG.run, steps=STEPS, validate_every=5, checkpoint_minutes=1e-9), network=replace(
        CONFIG.network, dropout=0.3))  # fmt: skip
"""A checkpoint after every step, so that most moments are in the middle of writing one."""

PROGRAM = """
import sys
from pathlib import Path
from test_killed import ALWAYS
from test_loop import job, run
run(job(Path(sys.argv[1]), ALWAYS, resume=len(sys.argv) > 2))
"""


def start(run_dir: Path, *more: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(run_dir), *more], env=environment)


@pytest.mark.slow
def test_killed_again_and_again_it_ends_with_the_same_weights(tmp_path: Path) -> None:
    run(job(tmp_path / "whole", ALWAYS))
    parts = tmp_path / "parts"
    for more, moment_s in (((), 0.011), (("resume",), 0.053)):
        process = start(parts, *more)
        # What was there before does not count: the moment is after this process's own first checkpoint.
        before = written(parts)
        while written(parts) == before:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.001)
        time.sleep(moment_s)
        process.kill()
        assert process.wait() != 0
    assert 0 < last(parts)["step"] < STEPS
    assert start(parts, "resume").wait() == 0
    assert_same(last(tmp_path / "whole"), last(parts))
    names = [
        sorted(p.name for p in (folder / "checkpoints").iterdir()) for folder in (tmp_path / "whole", parts)
    ]
    assert names[0] == names[1]


def written(run_dir: Path) -> int:
    """Changes with every checkpoint."""
    path = run_dir / "checkpoints" / "last.pt"
    return path.stat().st_mtime_ns if path.exists() else 0
