"""What INT, TERM and KILL at random moments leave of to-masks, to-rtstruct, evaluate, predict and train --resume.

    python benchmarks/robustness_kill.py --signals 400 [--warm] [--state FILE]

Every command runs on phantoms and is hit at a random moment, half of the times over an earlier result (--overwrite).
After each signal: no input changed or gone; under the name of the result nothing, or a whole result. Then the command
runs again, undisturbed: it must succeed, and leave nothing unfinished beside its result. Prints a table.

With `--warm` (not on Windows) commands are forked from a process that has imported everything: Python's start and the
imports take most of the time of a command on a phantom, and nothing is being written meanwhile. `--state` keeps the
counts in a file after every signal; the same command goes on from there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from robustness_kill_processes import (
    Warm,
    is_windows,
    run,
    start_process,
    stop,
    until_handling,
    wait,
    wait_for,
)

from contour_ai.dicom.rtstruct_read import load_structure_set
from contour_ai.files import MANIFEST, first_stranger, is_temporary
from contour_ai.training.resuming import read_training

TRAINS_S = 12.0
"""The latest moment of a signal to a training, which does not end by itself."""

WARM_TRAINS_S = 6.0
"""The same where nothing has to be imported."""

TRAINS_ON_S = 300.0
"""The longest time until a training that goes on has saved again."""

MODEL = "phantom-pelvis"
SIGNALS = ("INT", "TERM", "KILL")
TRAINING = """
network: {base_filters: 4}
preprocess: {spacing_mm_kij: [10.0, 9.0, 9.0], windows_hu: [[-160, 240]]}
input: {patch_kij: [16, 32, 32], batch_size: 1}
run: {steps: 100000, validate_every: 100000, checkpoint_minutes: 0.02, threads: 1}
"""
FOUND = (
    "over before the signal",
    "inputs changed",
    "results lost or half-written",
    "hangs over 20 s",
    "tracebacks",
    "wrong status",
    "next run failed",
    "left unfinished after it",
)


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command, and how to tell whether its result is whole."""

    name: str
    arguments: tuple[str, ...]
    result: Path
    is_whole: Callable[[Path], bool]
    ends: bool = True
    """False for a training, which goes on until it is stopped."""


@dataclass
class Tally:
    """What was found in all trials of a command."""

    sent: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    details: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        """Everything that must not happen, in words."""
        return [f"{name}: {n}" for name, n in self.found.items() if n and name != FOUND[0]] + self.details

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Tally:
        """What `vars` gave, through JSON."""
        return cls(Counter(record["sent"]), Counter(record["found"]), record["details"])


def make_commands(work: Path, names: Sequence[str]) -> list[Command]:
    """Phantoms, masks, a prediction and a training to work on, below `work`, and the commands."""
    run(["sample", str(work / "data"), "--region", "pelvis", "--count", "1"])
    (patient,) = (work / "data").iterdir()
    _thin_out(patient / "ct")
    run(["to-masks", str(patient), "--out", str(work / "masks.npz")])
    run(["to-rtstruct", str(patient / "ct"), str(work / "masks.npz"), "--out", str(work / "ai" / "RS.dcm")])
    shutil.copy(work / "ai" / "RS.dcm", patient / "RS.dcm")
    out = work / "out"
    commands = [
        Command(
            name="to-masks",
            arguments=("to-masks", str(patient), "--out", str(out / "masks")),
            result=out / "masks",
            is_whole=_is_whole_folder,
        ),
        Command(
            name="to-rtstruct",
            arguments=(
                *("to-rtstruct", str(patient / "ct"), str(work / "masks.npz"), "--out", str(out / "RS.dcm")),
            ),
            result=out / "RS.dcm",
            is_whole=lambda path: len(load_structure_set(path).rois) == 6,
        ),
        Command(
            name="evaluate",
            arguments=("evaluate", str(work / "ai"), str(patient), "--out", str(out / "scores")),
            result=out / "scores",
            is_whole=_is_whole_folder,
        ),
        Command(
            name="predict",
            arguments=("predict", str(patient), "--model", MODEL, "--device", "cpu", "--out", str(out)),
            result=out / patient.name,
            is_whole=_is_whole_folder,
        ),
    ]
    if "train --resume" in names:
        (work / "config.yaml").write_text(TRAINING, encoding="utf-8")
        start = [
            "train",
            str(work / "data"),
            "--out",
            str(work / "run"),
            "--config",
            str(work / "config.yaml"),
        ]
        process = start_process([*start, "--device", "cpu"])
        wait_for(work / "run" / "checkpoints" / "last.pt", process)
        stop(process, "TERM")
        commands.append(
            Command(
                name="train --resume",
                arguments=(*start[:4], "--resume", "--device", "cpu"),
                result=work / "run",
                is_whole=lambda path: _saved_step(path) >= 0,
                ends=False,
            )
        )
    return [c for c in commands if c.name in names]


def _thin_out(ct: Path) -> None:
    """Leaves every second slice around the organs: what takes a quarter of the time is hit four times as often."""
    heights = {
        p: float(pydicom.dcmread(p, specific_tags=["ImagePositionPatient"])[0x200032][2])
        for p in ct.iterdir()
    }
    files = sorted(heights, key=lambda p: heights[p])
    kept = files[len(files) // 4 : len(files) * 3 // 4 : 2]
    for path in set(files) - set(kept):
        path.unlink()


def _saved_step(run_folder: Path) -> int:
    return read_training(run_folder / "checkpoints" / "last.pt").progress.step


def _is_whole_folder(folder: Path) -> bool:
    return (folder / MANIFEST).is_file() and first_stranger(folder) is None


def bombard(
    work: Path,
    command: Command,
    signals: Sequence[str],
    chance: random.Random,
    lasts_s: float | None = None,
    *,
    before: Tally | None = None,
    on_signal: Callable[[Tally], None] = lambda tally: None,
) -> Tally:
    """Runs a command once for each signal, and looks at what is left.

    Args:
        lasts_s: how long it lasts undisturbed, which is the latest moment of a signal; None to measure that first.
        before: of an earlier run; this one is added to it.
    """
    tally = before or Tally()
    inputs = _hashes([work / "data", work / "ai", work / "masks.npz"])
    if lasts_s is None and command.ends:
        began = time.monotonic()
        run([*command.arguments])
        lasts_s = time.monotonic() - began
    lasts_s = lasts_s or (TRAINS_S if Warm.server is None else WARM_TRAINS_S)
    for name in signals:
        there = command.result.exists()
        overwrite = ["--overwrite"] if command.ends and there else []
        process = start_process([*command.arguments, *overwrite])
        ready = until_handling(process)
        time.sleep(chance.uniform(0, max(lasts_s - ready, 0.2)))
        tally.sent[name] += 1
        tally.found["over before the signal"] += process.poll() is not None
        status, text, hung = stop(process, name)
        tally.found["hangs over 20 s"] += hung
        tally.found["tracebacks"] += "Traceback" in text
        fine = status in ((0, 1) if is_windows() else (0, -9) if name == "KILL" else (0, 130))
        tally.found["wrong status"] += not fine
        if "Traceback" in text or not fine:
            tally.details.append(f"{command.name}, {name}, status {status}: {text[-2000:]}")
        tally.found["inputs changed"] += _hashes([work / "data", work / "ai", work / "masks.npz"]) != inputs
        if command.result.exists():
            tally.found["results lost or half-written"] += not command.is_whole(command.result)
        _run_again(command, there, tally)
        if command.ends and chance.random() < 0.5:
            _remove(command.result)
        on_signal(tally)
    return tally


def _run_again(command: Command, there: bool, tally: Tally) -> None:
    """The next run: puts back what was being replaced, succeeds, and clears up."""
    if not command.ends:
        step = _saved_step(command.result)
        process = start_process(command.arguments)
        until_handling(process)
        began = time.monotonic()
        while process.poll() is None and time.monotonic() - began < TRAINS_ON_S:
            if _saved_step(command.result) > step:
                break
            time.sleep(0.2)
        status, text, _ = stop(process, "TERM")
        whole = status == 130 and command.is_whole(command.result) and _saved_step(command.result) > step
    else:
        if there:  # refused, because the earlier result or the new one stands there
            process = start_process(command.arguments)
            status, text, _ = wait(process, 120)
            whole = status != 0 and "exists already" in text and command.is_whole(command.result)
            tally.found["results lost or half-written"] += not whole
            if not whole:
                tally.details.append(
                    f"{command.name} over an earlier result, status {status}: {text[-2000:]}"
                )
        overwrite = ["--overwrite"] if command.result.exists() else []
        status, text, _ = wait(start_process([*command.arguments, *overwrite]), 240)
        whole = status == 0 and command.is_whole(command.result)
    tally.found["next run failed"] += not whole
    if not whole:
        tally.details.append(f"{command.name}, run again, status {status}: {text[-2000:]}")
    places = [command.result.parent] if command.ends else [command.result, command.result / "checkpoints"]
    left = [p for place in places for p in place.iterdir() if is_temporary(p.name)]
    tally.found["left unfinished after it"] += bool(left)
    tally.details += [f"{command.name}: left {path}" for path in left]


def _hashes(places: Sequence[Path]) -> dict[str, str]:
    files = [p for place in places for p in ([place] if place.is_file() else sorted(place.rglob("*")))]
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files if p.is_file()}


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def table(tallies: dict[str, Tally]) -> str:
    """What was found, a line a command, as Markdown."""
    heads = ["command", *SIGNALS, *FOUND]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    total = Tally()
    for tally in tallies.values():
        total.sent += tally.sent
        total.found += tally.found
    for name, tally in {**tallies, "all": total}.items():
        cells = [name, *(str(tally.sent[s]) for s in SIGNALS), *(str(tally.found[f]) for f in FOUND)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    """Prints the table; 1 where something was found that must not be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--signals", type=int, default=400, help="in all (default: 400)")
    parser.add_argument("--seed", type=int, default=1)
    names = ["to-masks", "to-rtstruct", "evaluate", "predict", "train --resume"]
    parser.add_argument("--commands", nargs="+", default=names, choices=names)
    parser.add_argument("--warm", action="store_true", help="fork commands from a process that runs already")
    parser.add_argument("--state", type=Path, help="keep the counts in this file, and go on from it")
    options = parser.parse_args()
    # What a shell starts in the background ignores INT, and so would the commands.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    tallies: dict[str, Tally] = {}
    if options.state is not None and options.state.exists():
        known = json.loads(options.state.read_text(encoding="utf-8"))
        tallies = {name: Tally.from_record(record) for name, record in known.items()}
    chance = random.Random(f"{options.seed} {sum(sum(t.sent.values()) for t in tallies.values())}")

    def keep(name: str, tally: Tally) -> None:
        tallies[name] = tally
        if options.state is not None:
            text = json.dumps({name: vars(tally) for name, tally in tallies.items()})
            part = options.state.with_suffix(".part")
            part.write_text(text, encoding="utf-8")
            part.replace(options.state)

    with tempfile.TemporaryDirectory() as folder, Warm.running() if options.warm else nullcontext():
        commands = make_commands(Path(folder), options.commands)
        each = np.diff(np.linspace(0, options.signals, len(commands) + 1).round()).astype(int)
        for command, number in zip(commands, each, strict=True):
            before = tallies.get(command.name, Tally())
            wanted = Counter(SIGNALS[n % len(SIGNALS)] for n in range(number))
            signals = sorted((wanted - before.sent).elements())
            chance.shuffle(signals)
            if signals:
                bombard(
                    Path(folder),
                    command,
                    signals,
                    chance,
                    before=before,
                    on_signal=partial(keep, command.name),
                )
            print(f"{command.name}: {number} signals", file=sys.stderr, flush=True)
    print(table(tallies))
    faults = [fault for tally in tallies.values() for fault in tally.faults]
    print("\n".join(faults), file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
