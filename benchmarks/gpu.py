"""What one NVIDIA GPU does with contour-ai, in one command of at most eight minutes; the rest of them is a training.

    python benchmarks/gpu.py [--minutes 8] [--out runs/gpu] [--device cuda] [--parts tests,predict]
    python benchmarks/gpu.py --device cpu --small              (every part as a small version, without a GPU)

It needs no installation: it runs from a checkout with the packages that the machine has. PyTorch with CUDA, NumPy,
SciPy, scikit-image, Pillow, PyYAML, click, rich, safetensors and tensorboard are commonly there. pydicom, python-gdcm
and rt-utils can be carried as wheels:

    pip download --no-deps --only-binary=:all: -d wheels pydicom python-gdcm rt-utils      (--python-version as there)
    pip install --no-index --no-deps --target site wheels/*.whl; PYTHONPATH=site python benchmarks/gpu.py

A part whose package or device is missing says so, and the others go on; so they do where one fails, hangs or ends its
process. `--parts` runs some of them again. All patients are drawn on the machine. OUT/gpu.md has one table,
OUT/gpu.json the same; both are written anew after every part.

| part | what is measured |
|---|---|
| environment | versions, GPU, driver, memory, processors, packages that are missing |
| tests | the tests marked `gpu` |
| answers | contours of fp32 and bf16 on the device against fp32 on the CPU: difference of Dice below 0.003 |
| predict | `contour-ai predict` as a process (below 5 s besides importing torch), and in one that keeps its model |
| steps | training steps a second, time the GPU is busy (95 % wanted), memory, making batches, validation |
| compile | the same with `run.compile`, and how long compiling takes |
| resampling | a CT to the model's grid and back, on the device and on the CPU |
| nnunet | a step of nnU-Net's trainer with its network and with ours (needs nnunetv2) |
| train | `contour-ai train` on drawn patients for the rest of the time: phantoms, or from `--label-maps` |

On a CPU "busy" is the share of the threads' time that the process computed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent

LIMITS_S = {
    "environment": 40,
    "tests": 60,
    "answers": 60,
    "predict": 80,
    "steps": 70,
    "compile": 80,
    "resampling": 30,
    "nnunet": 50,
    "train": 0,
}
"""Longest time of each part, of eight minutes; `train` has what is left."""
MINUTES = 8.0
LEAST_TRAINING_S = 40.0
"""With less left there is no training."""
LOOK_EVERY_S = 0.1

Row = dict[str, Any]
"""`what`, `value`, and where there is one `goal`, `met` and `note`."""
Part = dict[str, Any]
"""`state` (done, not run, failed), `seconds`, `reason` and `rows`."""


def main() -> None:
    options = _arguments()
    ends = time.monotonic() + 60 * options.minutes
    options.out.mkdir(parents=True, exist_ok=True)
    names = list(LIMITS_S) if options.parts is None else options.parts.split(",")
    unknown = [name for name in names if name not in LIMITS_S]
    if unknown:
        sys.exit(f"There is no part {', '.join(unknown)}. The parts are {', '.join(LIMITS_S)}.")
    record: dict[str, Any] = {"options": _described(options), "parts": {}}
    with tempfile.TemporaryDirectory() as scratch:
        for name, part in run_parts(names, options, Path(scratch), ends):
            record["parts"][name] = part
            _write(options.out, record)
            print(
                f"{name}: {part['state']}, {part['seconds']:.1f} s {part.get('reason', '')}".rstrip(),
                flush=True,
            )
    print((options.out / "gpu.md").read_text(encoding="utf-8"))
    failed = [name for name, part in record["parts"].items() if part["state"] == "failed"]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def run_parts(
    names: list[str], options: argparse.Namespace, scratch: Path, ends: float
) -> Iterator[tuple[str, Part]]:
    """Each part's outcome. They run in one process; after one that ended or hung, the others in a new one."""
    waiting = list(names)
    while waiting:
        with _Worker(waiting, options, scratch, ends) as worker:
            while waiting:
                part = worker.outcome(waiting[0])
                yield waiting.pop(0), part
                if worker.ended:
                    break


class _Worker:
    """A process that measures some parts, one after the other."""

    def __init__(self, names: list[str], options: argparse.Namespace, scratch: Path, ends: float) -> None:
        self.ended = False
        self._options, self._ends = options, ends
        self._results = scratch / f"results-{time.monotonic_ns()}.jsonl"
        self._results.touch()
        settings = {
            "device": options.device,
            "small": options.small,
            "out": str(options.out.resolve()),
            "scratch": str(scratch),
            "results": str(self._results),
            "data": options.data,
            "roi_map": options.roi_map,
            "label_maps": options.label_maps,
            "recipe": options.recipe,
            "seconds_left": ends - time.monotonic(),
        }
        path = [str(HERE.parent), str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._errors = (scratch / "errors.txt").open("w+", encoding="utf-8", errors="replace")
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "gpu_parts.py"), json.dumps(settings), *names],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "PYTHONUTF8": "1"},
            stdin=subprocess.DEVNULL,
            stdout=self._errors,
            stderr=self._errors,
            start_new_session=True,
        )

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._errors.close()

    def outcome(self, name: str) -> Part:
        """Waits for a part, as long as it may take."""
        began = time.monotonic()
        most = self._limit_s(name) if LIMITS_S[name] else self._ends - began
        most = max(min(most, self._ends - began), 0.0)
        while True:
            for line in self._results.read_text(encoding="utf-8").splitlines():
                part: Part = json.loads(line)
                if part.pop("part") == name:
                    return part
            seconds = time.monotonic() - began
            if self._process.poll() is not None:
                self.ended = True
                reason = f"its process ended with status {self._process.returncode}: {self._last_line()}"
                return {"state": "failed", "seconds": seconds, "reason": reason, "rows": []}
            if seconds > most:
                self._stop()
                self.ended = True
                reason = f"stopped after {most:.0f} s" if most else "no time was left"
                return {
                    "state": "failed" if most else "not run",
                    "seconds": seconds,
                    "reason": reason,
                    "rows": [],
                }
            time.sleep(LOOK_EVERY_S)

    def _limit_s(self, name: str) -> float:
        return LIMITS_S[name] * self._options.minutes / MINUTES

    def _last_line(self) -> str:
        self._errors.flush()
        text = Path(self._errors.name).read_text(encoding="utf-8", errors="replace")
        lines = [line for line in text.splitlines() if line.strip()]
        return lines[-1] if lines else "it said nothing"

    def _stop(self) -> None:
        """Ends the process and what it has started."""
        if self._process.poll() is None:
            if hasattr(os, "killpg"):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, 9)
            self._process.kill()
        self._process.wait()


def table(record: dict[str, Any]) -> str:
    """One Markdown table of all parts."""
    lines = ["| part | what | value | goal |", "|---|---|---|---|"]
    for name, part in record["parts"].items():
        if part["state"] != "done":
            lines.append(f"| {name} | **{part['state']}** | {_cell(part.get('reason', ''))} | |")
        for row in part["rows"]:
            goal = row.get("goal", "")
            if "met" in row:
                goal += " ✓" if row["met"] else " **missed**"
            note = f" ({row['note']})" if row.get("note") else ""
            lines.append(
                f"| {name} | {_cell(row['what'])} | {_cell(str(row['value']) + note)} | {_cell(goal)} |"
            )
        lines.append(f"| {name} | time of this part | {part['seconds']:.1f} s | |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _write(out: Path, record: dict[str, Any]) -> None:
    title = f"# contour-ai on {record['options']['device']}\n\n"
    for name, text in (
        ("gpu.md", title + table(record)),
        ("gpu.json", json.dumps(record, indent=1, ensure_ascii=False) + "\n"),
    ):
        partial = out / f".{name}.partial"
        partial.write_text(text, encoding="utf-8")
        partial.replace(out / name)


def _described(options: argparse.Namespace) -> dict[str, Any]:
    return {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=MINUTES, help="all parts together")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/gpu"), help="folder of the table and the model"
    )
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try the script without a GPU")
    parser.add_argument("--parts", help=f"some of {','.join(LIMITS_S)}")
    parser.add_argument(
        "--data", help="archive to train on; default: phantoms of the head and neck, drawn there"
    )
    parser.add_argument("--roi-map", help="its ROI map")
    parser.add_argument("--label-maps", help="draw the patients to train on from these, as `synthesize` does")
    parser.add_argument("--recipe", help="recipe of these; default: that of `synthesize`")
    return parser.parse_args()


if __name__ == "__main__":
    main()
