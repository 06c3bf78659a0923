"""A bounded run of the fuzzer: damaged files of every kind through the commands, each foreseen and none changed."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import robustness_fuzz as fuzzer
import robustness_fuzz_worker as worker_module
from robustness_fuzz_mutations import mutated_bytes, mutated_yaml

CASES = 35


@pytest.mark.skipif(sys.platform == "win32", reason="the worker measures its memory as POSIX tells it")
@pytest.mark.slow
def test_no_case_raises_dies_hangs_or_changes_its_input() -> None:
    result = fuzzer.fuzz(CASES, seed=20)
    assert [(f.case, f.what, f.command, f.output[-800:]) for f in result.faults] == []
    assert set(result.files) == set(fuzzer.KINDS)
    assert sum(result.refused.values()) >= CASES / 2, "mutations must do harm"
    assert f"| all | {CASES} |" in fuzzer.table(result)


def test_a_worker_that_dies_or_hangs_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "HANG_WALL_S", 2.0)
    (tmp_path / "worker.py").write_text(
        "import os, sys, time\nfor line in sys.stdin:\n    os.abort() if 'die' in line else time.sleep(60)\n"
    )
    monkeypatch.setattr(worker_module, "__file__", str(tmp_path / "worker.py"))
    worker = worker_module.Worker(tmp_path / "log")
    assert worker.run(["die"], {})["status"] == -1
    assert worker.run(["wait"], {})["status"] == -2


def test_mutations_are_the_same_again_and_differ_from_the_original() -> None:
    data = bytes(range(256)) * 8
    changed = {mutated_bytes(data, random.Random(n)) for n in range(50)}
    assert len(changed) > 40 and mutated_bytes(data, random.Random(3)) in changed
    text = "a: 1\nb: [2, 3]\nc:\n  d: x\n"
    assert len({mutated_yaml(text, random.Random(n)) for n in range(50)}) > 30


def test_counts_are_kept_in_a_file_and_gone_on_from() -> None:
    result = fuzzer.Result(slowest_s=1.5)
    result.files["masks"] += 3
    result.faults.append(fuzzer.Fault(2, "masks", "hang", "check", "text"))
    again = fuzzer.Result.from_json(result.as_json())
    assert again == result and again.files["other"] == 0
