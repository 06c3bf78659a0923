"""The bench of signals, with a few of them: nothing is lost, and the next run works."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import robustness_kill as bench
from robustness_kill_processes import Warm

SIGNALS = {
    "to-masks": (1.5, ["KILL", "TERM"]),
    "to-rtstruct": (1.5, ["KILL"]),
    "evaluate": (1.5, ["INT"]),
    "predict": (5.0, ["KILL"]),
    "train --resume": (8.0, ["INT"]),
}
"""{command: (latest moment of a signal in seconds, signals)}."""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.slow
def test_signals_at_random_moments_lose_nothing(tmp_path: Path) -> None:
    with Warm.running():
        bombard_all(tmp_path)


def bombard_all(folder: Path) -> None:
    commands = bench.make_commands(folder, list(SIGNALS))
    assert [c.name for c in commands] == list(SIGNALS)
    chance = random.Random()
    for command in commands:
        lasts_s, signals = SIGNALS[command.name]
        tally = bench.bombard(folder, command, signals, chance, lasts_s)
        assert not tally.faults, "\n".join(tally.faults)
        assert sum(tally.sent.values()) == len(signals)
    assert "| 0 |" in bench.table({"all": tally})
