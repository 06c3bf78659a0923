"""The measurements of benchmarks/gpu.py, which starts this file and says what each means."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpu_measuring import ROOT, NotRunError, Row, device_of, row
from gpu_prediction import answers, predict, resampling
from gpu_steps import compile_, nnunet, steps
from gpu_training import train

PACKAGES = (
    "pydicom",
    "gdcm",
    "rt_utils",
    "skimage",
    "PIL",
    "yaml",
    "click",
    "rich",
    "safetensors",
    "tensorboard",
)
"""Imported by what is measured here; torch, NumPy and SciPy by all of it."""


def main() -> None:
    settings = json.loads(sys.argv[1])
    for name in sys.argv[2:]:
        began = time.monotonic()
        settings["left_s"] = settings["seconds_left"] - (began - STARTED)
        part: dict[str, Any] = {"part": name, "state": "done", "rows": []}
        try:
            PARTS[name](settings, part["rows"])
        except NotRunError as why:
            part |= {"state": "not run", "reason": str(why)}
        except ModuleNotFoundError as error:
            part |= {"state": "not run", "reason": f"the package {error.name} is missing here"}
        except Exception as error:  # noqa: BLE001 - whatever it is, the other parts go on
            part |= {"state": "failed", "reason": f"{type(error).__name__}: {error}"}
        part["seconds"] = time.monotonic() - began
        with Path(settings["results"]).open("a", encoding="utf-8") as results:
            results.write(json.dumps(part) + "\n")


def environment(settings: dict[str, Any], rows: list[Row]) -> None:
    """Versions, GPU, and what is missing."""
    import importlib.util

    import numpy
    import scipy
    import torch

    row(
        rows,
        "Python, torch, NumPy, SciPy",
        f"{platform.python_version()}, {torch.__version__}, {numpy.__version__}, {scipy.__version__}",
    )
    row(rows, "processors, torch's threads", f"{os.cpu_count()}, {torch.get_num_threads()}")
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    row(rows, "packages missing", ", ".join(missing) or "none")
    device = device_of(settings)
    from contour_ai.inference import autocast_dtype

    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        row(rows, "GPU", torch.cuda.get_device_name(device))
        row(rows, "memory of the GPU", f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free")
        row(rows, "CUDA, cuDNN", f"{torch.version.cuda}, {torch.backends.cudnn.version()}")
        row(rows, "driver", _nvidia_smi("driver_version") or "nvidia-smi is not there")
    row(rows, "networks compute in", str(autocast_dtype(device) or torch.float32).removeprefix("torch."))


def _nvidia_smi(query: str) -> str:
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip().partition("\n")[0]


def tests(settings: dict[str, Any], rows: list[Row]) -> None:
    """Those marked `gpu`."""
    import pytest  # noqa: F401 - says that it is missing

    files = sorted(
        p for p in (ROOT / "tests").rglob("test_*.py") if "mark.gpu" in p.read_text(encoding="utf-8")
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-m",
        "gpu",
        "-rfE",
        "-p",
        "no:cacheprovider",
        *map(str, files),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    counts = dict.fromkeys(("passed", "failed", "errors", "skipped"), 0)
    last = (done.stdout.strip().splitlines() or [""])[-1]
    for number, word in re.findall(r"(\d+) (passed|failed|errors?|skipped)", last):
        counts["errors" if word.startswith("error") else word] += int(number)
    value = ", ".join(f"{number} {word}" for word, number in counts.items())
    if not any(counts.values()):
        raise RuntimeError(f"pytest: {last or done.stderr.strip()[-300:]}")
    on_gpu = settings["device"] != "cpu"
    judged = {"goal": "all pass", "met": counts["passed"] == sum(counts.values())} if on_gpu else {}
    row(rows, f"tests marked gpu, of {len(files)} files", value, **judged)
    for line in done.stdout.splitlines():
        if line.startswith(("FAILED", "ERROR")):
            row(rows, "test", line)


PARTS: dict[str, Callable[[dict[str, Any], list[Row]], None]] = {
    "environment": environment,
    "tests": tests,
    "answers": answers,
    "predict": predict,
    "steps": steps,
    "compile": compile_,
    "resampling": resampling,
    "nnunet": nnunet,
    "train": train,
}
STARTED = time.monotonic()

if __name__ == "__main__":
    main()
