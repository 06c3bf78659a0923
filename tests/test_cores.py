"""A process that may use one core of several counts one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from contour_ai.cores import available_cores

COUNT = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from contour_ai.cores import available_cores
print(available_cores())
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux alone binds processes so")
def test_cores_that_a_process_may_use() -> None:
    done = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


def test_all_cores_where_the_system_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert available_cores() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cores() == 1
