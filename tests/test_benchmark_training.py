"""The benchmark of training says what it needs where nnU-Net is not installed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "training.py"


@pytest.mark.skipif(importlib.util.find_spec("nnunetv2") is not None, reason="nnunetv2 is installed here")
def test_it_refuses_without_nnunet() -> None:
    done = subprocess.run([sys.executable, str(BENCHMARK)], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and not done.stdout
    assert "nnunetv2" in done.stderr and "pip install nnunetv2" in done.stderr
    assert "Traceback" not in done.stderr
