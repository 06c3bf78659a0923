"""What a training of four minutes without a configuration gives on a poor machine: one core, no AMX, by the wall clock.

    python benchmarks/small_budget.py [--budget 4m] [--core 0] [--keep DIR]

Draws 24 pelvis phantoms and six of other seeds, trains on the first with `contour-ai train --time-budget`, on one core
and with ONEDNN_MAX_CPU_ISA=AVX2, predicts the others and prints the mean Dice. Exit status 1 below 0.85. The core
should do nothing else: what other work takes from it is missing in the training.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LEAST_DICE = 0.85
TRAINING, TEST = (24, 100), (6, 900)
"""Number of phantoms and first seed."""


def run(words: list[str], core: int) -> float:
    """Runs a command of contour-ai on one core without AMX; the seconds that it took."""
    pinned = ["taskset", "-c", str(core)] if sys.platform == "linux" else []
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        environment.pop(name, None)
    began = time.monotonic()
    subprocess.run([*pinned, sys.executable, "-m", "contour_ai", *words], check=True, env=environment)
    return time.monotonic() - began


def draw(folder: Path, number: int, seed: int, core: int) -> None:
    """Draws phantoms, where they are not there already."""
    if not folder.exists():
        region = ["--region", "pelvis", "--count", str(number), "--first-seed", str(seed)]
        run(["sample", str(folder), *region], core)


def dice_of(folder: Path) -> dict[str, float]:
    """{patient: mean Dice of its organs}."""
    found = {}
    for path in sorted(folder.glob("*/summary.json")):
        scores = json.loads(path.read_text(encoding="utf-8"))["scores"]
        found[path.parent.name] = scores["mean_dice_of_organs"]
    return found


def measure(folder: Path, budget: str, core: int) -> float:
    """The mean Dice on the phantoms of other seeds."""
    draw(folder / "training", *TRAINING, core)
    draw(folder / "test", *TEST, core)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    bundle, predicted = folder / f"run-{stamp}" / "bundle", folder / f"predicted-{stamp}"
    seconds = run(
        ["train", str(folder / "training"), "--out", str(bundle.parent), "--time-budget", budget], core
    )
    patients = [str(path) for path in sorted((folder / "test").iterdir()) if path.is_dir()]
    more = ["--no-overlays", "--allow-poor", "--keep-stopped"]
    run(["predict", *patients, "--model", str(bundle), "--out", str(predicted), *more], core)
    every = dice_of(predicted)
    for patient, dice in every.items():
        print(f"{patient}  {dice:.3f}")
    mean = sum(every.values()) / len(every)
    verdict = "kept" if mean >= LEAST_DICE else "NOT KEPT"
    print(f"trained {seconds:.0f} s of {budget}; mean Dice {mean:.3f} on {len(every)} phantoms of other seeds; "
          f"at least {LEAST_DICE:g}: {verdict}")  # fmt: skip
    return mean


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--budget", default="4m", help="as --time-budget of contour-ai train")
    parser.add_argument("--core", type=int, default=0, help="the processor core that is used")
    parser.add_argument("--keep", type=Path, help="folder for phantoms and runs, kept and used again")
    given = parser.parse_args()
    if given.keep is not None:
        given.keep.mkdir(parents=True, exist_ok=True)
        return 0 if measure(given.keep, given.budget, given.core) >= LEAST_DICE else 1
    with tempfile.TemporaryDirectory() as folder:
        return 0 if measure(Path(folder), given.budget, given.core) >= LEAST_DICE else 1


if __name__ == "__main__":
    sys.exit(main())
