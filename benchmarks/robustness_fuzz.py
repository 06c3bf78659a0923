"""Damaged and hostile files through the commands: none may raise, die, hang, take much memory or change its input.

Small valid files of every kind (CT, compressed CT, structure set, SEG, masks in seven formats, six kinds of YAML, model
bundles) are mutated, byte by byte and element by element, and given to the commands that read them. Commands run in a
worker process, so that a crash is counted instead of ending the run.

    python benchmarks/robustness_fuzz.py --files 10000 [--seed 1] [--only masks,YAML] [--keep FOLDER] [--state FILE]

A case is one number: `--seed N --files 1 --first CASE` runs it again; `--keep` keeps the inputs of cases that failed.
`--state` keeps the counts in a file after every 100 cases; the same command goes on from there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from robustness_fuzz_mutations import mutated_bytes, mutated_dicom, mutated_mask, mutated_yaml
from robustness_fuzz_seeds import Seeds
from robustness_fuzz_worker import MOST_MB, Worker

KINDS = ("CT", "compressed CT", "RTSTRUCT", "SEG", "masks", "YAML", "bundle")
FORESEEN = (0, 2, 3, 4, 5, 6, 7)
"""Exit statuses that say what is wrong with the input (6: limits not met); 1 is a fault of the program."""
UNFORESEEN = ("Traceback (most recent", "does not foresee")
FAULTS = ("traceback", "dead process", "hang", "memory", "input changed", "left-over")

# -- cases -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """Inputs in a folder and the commands that read them."""

    kind: str
    commands: list[list[str]]
    environment: dict[str, str] = field(default_factory=dict)


def make_case(seeds: Seeds, folder: Path, out: Path, kind: str, rng: random.Random) -> Case:
    """Writes the mutated input of one case into `folder`; its commands write below `out`."""
    if kind in ("CT", "compressed CT", "RTSTRUCT"):
        return _dicom_case(seeds, folder, out, kind, rng)
    if kind in ("masks", "SEG"):
        name = "seg.dcm" if kind == "SEG" else rng.choice([n for n in seeds.masks if n != "seg.dcm"])
        path = folder / name
        path.write_bytes(mutated_mask(name, seeds.masks[name], rng))
        ct = str(seeds.folder / "patient" / "ct")
        return Case(kind=kind, commands=[["to-rtstruct", ct, str(path), "--out", str(out / "rs.dcm")]])
    if kind == "YAML":
        name = rng.choice(sorted(seeds.yamls))
        text, arguments = seeds.yamls[name]
        (folder / name).write_bytes(mutated_yaml(text, rng))
        places = {"{file}": str(folder / name), "{out}": str(out / "out")}
        return Case(kind=kind, commands=[[re.sub(r"\{\w+\}", lambda m: places[m[0]], a) for a in arguments]])
    return _bundle_case(seeds, folder, out, rng)


def _dicom_case(seeds: Seeds, folder: Path, out: Path, kind: str, rng: random.Random) -> Case:
    source = "compressed" if kind == "compressed CT" else "patient"
    shutil.copytree(seeds.folder / source, folder / "p")
    structure_set = folder / "p" / "rs.dcm"
    files = [structure_set] if kind == "RTSTRUCT" else sorted((folder / "p" / "ct").iterdir())
    same = rng.randrange(1 << 30)
    everywhere = kind != "RTSTRUCT" and rng.random() < 0.3
    for path in files if everywhere else [rng.choice(files)]:
        path.write_bytes(mutated_dicom(path.read_bytes(), random.Random(same)))
    patient = str(folder / "p")
    return Case(
        kind=kind,
        commands=[
            ["inspect", patient],
            ["to-masks", patient, "--out", str(out / "m.npz")],
            rng.choice(
                [
                    ["rois", patient],
                    ["check", str(structure_set), "--ct", patient],
                    ["evaluate", str(seeds.folder / "made" / "ai.dcm"), str(structure_set), "--ct", patient],
                    [
                        "to-rtstruct",
                        patient,
                        str(seeds.folder / "made" / "m.npz"),
                        "--out",
                        str(out / "o.dcm"),
                    ],
                    ["anonymise", patient, "--out", str(out / "anonymous")],
                    ["to-seg", patient, "--out", str(out / "seg.dcm")],
                    [
                        "predict",
                        patient,
                        "--out",
                        str(out / "p"),
                        "--model",
                        str(seeds.folder / "models" / "small"),
                    ],
                ]
            ),
        ],
    )


def _bundle_case(seeds: Seeds, folder: Path, out: Path, rng: random.Random) -> Case:
    bundle = folder / "models" / "small"
    shutil.copytree(seeds.folder / "models" / "small", bundle)
    description, weights = bundle / "model.yaml", bundle / "weights.safetensors"
    if rng.random() < 0.7:
        description.write_bytes(mutated_yaml(description.read_text(encoding="utf-8"), rng))
    else:
        changed = mutated_bytes(weights.read_bytes(), rng)
        weights.write_bytes(changed)
        if rng.random() < 0.7:  # a hostile bundle's checksum fits
            text = description.read_text(encoding="utf-8")
            digest = hashlib.sha256(changed).hexdigest()
            description.write_text(
                re.sub(r"weights_sha256: \w+", f"weights_sha256: {digest}", text), encoding="utf-8"
            )
    patient = str(seeds.folder / "patient")
    return Case(
        kind="bundle",
        commands=[
            ["models"],
            ["models", "show", str(bundle)],
            [
                "predict",
                patient,
                "--out",
                str(out / "p"),
                "--model",
                str(bundle),
                "--no-overlays",
                "--device",
                "cpu",
            ],
        ],
        environment={"CONTOUR_AI_MODELS": str(folder / "models")},
    )


# -- running ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """What went wrong with one command of one case."""

    case: int
    kind: str
    what: str
    command: str
    output: str


@dataclass
class Result:
    """Counts of a run."""

    files: Counter[str] = field(default_factory=Counter)
    commands: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    faults: list[Fault] = field(default_factory=list)

    def as_json(self) -> str:
        """All of it as text."""
        return json.dumps({**vars(self), "faults": [vars(fault) for fault in self.faults]})

    @classmethod
    def from_json(cls, text: str) -> Result:
        """What `as_json` wrote."""
        known = json.loads(text)
        counts = {name: Counter(known[name]) for name in ("files", "commands", "refused")}
        return cls(**counts, slowest_s=known["slowest_s"], faults=[Fault(**f) for f in known["faults"]])


def fuzz(
    files: int,
    *,
    seed: int = 1,
    first: int = 0,
    kinds: Sequence[str] = KINDS,
    keep: Path | None = None,
    before: Result | None = None,
    on_case: Callable[[int, Result], None] = lambda number, result: None,
) -> Result:
    """Runs cases `first` to `first + files - 1`; the kind of a case follows from its number.

    Args:
        keep: folder for the inputs of cases that failed.
        before: of the cases before `first`; this run is added to it.
    """
    result = before or Result()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        base = Path(name)
        (base / "seeds").mkdir()
        seeds = Seeds(base / "seeds")
        valid = _digests(seeds.folder)
        worker = Worker(base / "worker.log")
        for number in range(first, first + files):
            kind = kinds[number % len(kinds)]
            folder, out = base / "case", base / "out"
            folder.mkdir()
            out.mkdir()
            case = make_case(seeds, folder, out, kind, random.Random(f"{seed} {number}"))
            result.files[kind] += 1
            faults = list(_run(case, number, folder, out, worker, result))
            if faults and keep is not None:
                shutil.copytree(folder, keep / f"{number}", dirs_exist_ok=True)
            result.faults += faults
            shutil.rmtree(folder)
            shutil.rmtree(out)
            on_case(number, result)
        worker.close()
        if _digests(seeds.folder) != valid:
            result.faults.append(Fault(-1, "all", "input changed", "", "the valid files"))
    return result


def _run(case: Case, number: int, folder: Path, out: Path, worker: Worker, result: Result) -> Iterator[Fault]:
    before = _digests(folder)
    for arguments in case.commands:
        started = time.monotonic()
        answer = worker.run(arguments, case.environment)
        result.slowest_s = max(result.slowest_s, time.monotonic() - started)
        result.commands[case.kind] += 1
        result.refused[case.kind] += answer["status"] in (2, 3, 4, 5)
        command = " ".join(arguments)
        output = str(answer["output"])
        if answer["status"] == -2:
            yield Fault(number, case.kind, "hang", command, output)
        elif answer["status"] == -1:
            yield Fault(number, case.kind, "dead process", command, output)
        elif answer["status"] not in FORESEEN or any(sign in output for sign in UNFORESEEN):
            yield Fault(number, case.kind, "traceback", command, output)
        elif answer["mb"] > MOST_MB:
            yield Fault(number, case.kind, "memory", command, f"{answer['mb']:.0f} MB")
    if _digests(folder) != before:
        yield Fault(number, case.kind, "input changed", "", "")
    left = [p.name for p in [*out.rglob("*"), *folder.rglob("*")] if p.name.startswith(".tmp-")]
    if left:
        yield Fault(number, case.kind, "left-over", "", ", ".join(left))


def _digests(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def table(result: Result) -> str:
    """The result as Markdown."""
    lines = ["| input | files | commands | refused with a message | " + " | ".join(FAULTS) + " |"]
    lines.append("|---" * (4 + len(FAULTS)) + "|")
    rows = [(kind, [kind]) for kind in result.files] + [("all", list(result.files))]
    for title, kinds in rows:
        counts = [sum(f.what == what and f.kind in (*kinds, title) for f in result.faults) for what in FAULTS]
        numbers = [sum(c[kind] for kind in kinds) for c in (result.files, result.commands, result.refused)]
        lines.append(f"| {title} | " + " | ".join(str(n) for n in [*numbers, *counts]) + " |")
    return "\n".join([*lines, "", f"The slowest command took {result.slowest_s:.1f} s."])


def main() -> None:
    """The command line of this benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--only", help=f"kinds with commas between them, of {', '.join(KINDS)}")
    parser.add_argument("--keep", type=Path, help="keep the inputs of cases that failed in this folder")
    parser.add_argument("--state", type=Path, help="keep the counts in this file, and go on from it")
    options = parser.parse_args()
    kinds = tuple(options.only.split(",")) if options.only else KINDS
    before, done = None, 0
    if options.state is not None and options.state.exists():
        before = Result.from_json(options.state.read_text(encoding="utf-8"))
        done = sum(before.files.values())

    def tell(number: int, result: Result) -> None:
        if (number + 1) % 100 and number + 1 != options.first + options.files:
            return
        print(f"{number + 1} cases, {len(result.faults)} faults", file=sys.stderr, flush=True)
        if options.state is not None:
            part = options.state.with_suffix(".part")
            part.write_text(result.as_json(), encoding="utf-8")
            part.replace(options.state)

    result = fuzz(
        max(options.files - done, 0),
        seed=options.seed,
        first=options.first + done,
        kinds=kinds,
        keep=options.keep,
        before=before,
        on_case=tell,
    )
    for fault in result.faults:
        print(f"## case {fault.case} ({fault.kind}): {fault.what}\n{fault.command}\n{fault.output[-1500:]}\n")
    print(table(result))
    sys.exit(bool(result.faults))


if __name__ == "__main__":
    main()
