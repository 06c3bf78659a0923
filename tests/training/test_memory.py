"""Memory that a training frees stays at hand, and goes back to the system afterwards."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest
import torch

from contour_ai.training.memory import freed_memory_kept

glibc_only = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone has these settings")

COUNT = """
import resource, torch
from contour_ai.training.memory import freed_memory_kept

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        a = torch.zeros(16 << 20) + torch.ones(16 << 20)
        del a
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

with freed_memory_kept(torch.device("cpu")) as kept:
    for _ in range(5):
        faults()  # until the heap has grown
    within = faults()
print(kept, within, faults())
"""


@glibc_only
def test_pages_are_asked_for_once() -> None:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_") and k != "GLIBC_TUNABLES"}
    command = [sys.executable, "-c", COUNT]
    printed = subprocess.run(command, env=clean, capture_output=True, text=True, check=True).stdout
    kept, within, after = printed.split()
    assert kept == "True"
    assert int(within) < 100 < int(after)


@pytest.mark.parametrize(
    ("variable", "value"), [("MALLOC_TOP_PAD_", "0"), ("GLIBC_TUNABLES", "glibc.malloc.check=0")]
)
def test_what_the_user_set_stays(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    with freed_memory_kept(torch.device("cpu")) as kept:
        assert not kept


def test_a_gpu_has_memory_of_its_own() -> None:
    with freed_memory_kept(torch.device("cuda")) as kept:
        assert not kept
