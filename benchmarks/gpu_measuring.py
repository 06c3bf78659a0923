"""What the measurements of benchmarks/gpu.py share: rows of the table, the device, times, the load of the GPU."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


ROOT = Path(__file__).resolve().parents[1]

Row = dict[str, Any]


class NotRunError(Exception):
    """A part that cannot be measured here, and why."""


def device_of(settings: dict[str, Any]) -> torch.device:
    import torch

    device = torch.device(settings["device"])
    if device.type == "cuda" and not torch.cuda.is_available():
        raise NotRunError(f"torch {torch.__version__} finds no CUDA device")
    return device


def wait(device: torch.device) -> None:
    """Until the device has done everything."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


def row(rows: list[Row], what: str, value: str, **more: Any) -> None:
    rows.append({"what": what, "value": value, **more})


def process_s(command: Sequence[str]) -> float:
    began = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command[2:5])} ended with status {done.returncode}: {done.stderr.strip()[-400:]}"
        )
    return time.perf_counter() - began


class Utilisation:
    """What nvidia-smi says while something runs."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._index = settings["device"].partition(":")[2] or "0"
        self._on_gpu = settings["device"] != "cpu"
        self._process: subprocess.Popen[str] | None = None
        self._values: list[float] = []

    def __enter__(self) -> Utilisation:
        if self._on_gpu and shutil.which("nvidia-smi"):
            command = [
                "nvidia-smi",
                "--query-gpu=utilization.gpu",
                "--format=csv,noheader,nounits",
                "-lms",
                "250",
            ]
            self._process = subprocess.Popen(
                [*command, "-i", self._index], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            threading.Thread(target=self._read, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip().replace(".", "").isdigit():
                self._values.append(float(line))

    def described(self) -> str:
        values = self._values[1:]
        return f"{statistics.mean(values):.0f} %, {len(values)} readings" if values else "not told"
