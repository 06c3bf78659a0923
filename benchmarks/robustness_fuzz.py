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
import gzip
import hashlib
import json
import logging
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "tests"), str(REPOSITORY)]

KINDS = ("CT", "compressed CT", "RTSTRUCT", "SEG", "masks", "YAML", "bundle")
FORESEEN = (0, 2, 3, 4, 5, 6, 7)
"""Exit statuses that say what is wrong with the input (6: limits not met); 1 is a fault of the program."""
UNFORESEEN = ("Traceback (most recent", "does not foresee")
HANG_S = 20.0
"""Of the processor's time; a machine that does other work may take `HANG_WALL_S`."""
HANG_WALL_S = 180.0
MOST_MB = 3000
FAULTS = ("traceback", "dead process", "hang", "memory", "input changed", "left-over")

# -- the worker ------------------------------------------------------------------------------------------------------


def serve() -> None:
    """Runs commands given as lines of JSON on stdin, in this process; answers with a line of JSON each."""
    import resource

    from click.testing import CliRunner

    from contour_ai.cli.main import cli

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not get among the answers
    for line in sys.stdin:
        arguments, environment = json.loads(line)
        result = CliRunner(env=environment).invoke(cli, arguments, prog_name="contour-ai")
        raised = result.exception is not None and not isinstance(result.exception, SystemExit)
        text = result.output + (f"\n{result.exception!r}" if raised else "")
        mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
            1024 if sys.platform != "darwin" else 1024**2
        )
        print(
            json.dumps({"status": 1 if raised else result.exit_code, "output": text[-4000:], "mb": mb}),
            file=answers,
            flush=True,
        )


def _watch(process: subprocess.Popen[str], ended: threading.Event, hung: list[bool]) -> None:
    """Kills a process that takes too long over one command."""
    began, cpu = time.monotonic(), _cpu_s(process.pid)
    while not ended.wait(0.2):
        wall, now = time.monotonic() - began, _cpu_s(process.pid)
        spent = wall if cpu is None or now is None else now - cpu
        if spent > HANG_S or wall > HANG_WALL_S:
            hung.append(True)
            process.kill()
            return


def _cpu_s(pid: int) -> float | None:
    """Seconds of the processor that a process has taken, its ended children included; None where it cannot be told."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


class Worker:
    """A process that runs commands; it is started again where it died or hung."""

    def __init__(self, log: Path) -> None:
        self._log, self._process = log, None

    def run(self, arguments: Sequence[str], environment: dict[str, str]) -> dict[str, object]:
        """The answer: status, output, largest memory; a status of -1 for a dead process, -2 for a hang."""
        if self._process is None:
            self._start()
        process = self._process
        ended = threading.Event()
        hung: list[bool] = []
        watch = threading.Thread(target=_watch, args=(process, ended, hung))
        watch.start()
        try:
            process.stdin.write(json.dumps([list(arguments), environment]) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            ended.set()
            watch.join()
        if line:
            answer = json.loads(line)
            if answer["mb"] > MOST_MB:
                self.close()
            return answer
        process.wait()
        self._process = None
        return {"status": -2 if hung else -1, "output": f"return code {process.returncode}", "mb": 0}

    def _start(self) -> None:
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).resolve()), "--serve"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160"},
            )

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.stdin.close()
            self._process.wait(timeout=600)
            self._process = None


# -- valid files to begin with ---------------------------------------------------------------------------------------


@dataclass
class Seeds:
    """Valid files of every kind, and the commands that read them."""

    folder: Path
    masks: dict[str, bytes] = field(default_factory=dict)
    yamls: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    """{name: (text, arguments with {file})}."""

    def __post_init__(self) -> None:
        from synthetic import axial, box_contours, compress, write_stack, write_structure_set

        stack = axial(6, shape_ij=(24, 20))
        patient = self.folder / "patient"
        write_stack(patient / "ct", stack)
        rois = {"Brainstem": box_contours(stack, [1, 2, 3]), "Parotid_L": box_contours(stack, [2, 3])}
        write_structure_set(patient / "rs.dcm", stack, rois)
        shutil.copytree(patient, self.folder / "compressed")
        for n, path in enumerate(sorted((self.folder / "compressed" / "ct").iterdir())):
            compress(path, ("JPEGLosslessProcess14_1", "JPEG2000Lossless", "RLELossless")[n % 3])
        self._make_masks(patient)
        self._make_bundle()
        self._make_yamls()

    def _make_masks(self, patient: Path) -> None:
        from click.testing import CliRunner

        from contour_ai.cli.main import cli

        out = self.folder / "made"
        out.mkdir()
        for name in ("m.npz", "nifti", "nrrd", "m.seg.dcm"):
            kind = {"m.npz": "npz", "m.seg.dcm": "seg"}.get(name, name)
            arguments = ["to-masks", str(patient), "--out", str(out / name), "--format", kind]
            result = CliRunner().invoke(cli, arguments)
            if result.exit_code:
                raise SystemExit(f"the valid files cannot be made: {result.output}")
        arguments = ["to-rtstruct", str(patient / "ct"), str(out / "m.npz"), "--out", str(out / "ai.dcm")]
        if CliRunner().invoke(cli, arguments).exit_code:
            raise SystemExit("the valid files cannot be made: the structure set")
        image = (out / "nifti" / "Brainstem.nii.gz").read_bytes()
        nrrd = (out / "nrrd" / "Brainstem.nrrd").read_bytes()
        raw = gzip.decompress(nrrd[nrrd.index(b"\n\n") + 2 :])
        segments = b"Segment0_Name:=Brainstem\nSegment0_LabelValue:=1\nSegment0_Layer:=0\n\n"
        meta = (
            "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = False\n"
            "TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = -20 -30 -50\nElementSpacing = 2 2 3\n"
            "DimSize = 20 24 6\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
        )
        self.masks = {
            "a.npz": (out / "m.npz").read_bytes(),
            "a.nii.gz": image,
            "a.nii": gzip.decompress(image),
            "a.nrrd": nrrd,
            "a.seg.nrrd": nrrd.replace(b"\n\n", b"\n" + segments, 1),
            "b.nrrd": nrrd[: nrrd.index(b"\n\n")].replace(b"gzip", b"raw") + b"\n\n" + raw,
            "a.mha": meta.encode() + raw,
            "seg.dcm": (out / "m.seg.dcm").read_bytes(),
        }

    def _make_bundle(self) -> None:
        from dataclasses import replace

        from test_bundle import small_bundle

        from contour_ai.bundle import save_bundle

        bundle, network = small_bundle()
        bundle = replace(bundle, postprocess={})
        save_bundle(self.folder / "models" / "small", bundle, network.state_dict(), model_card="# small\n")

    def _make_yamls(self) -> None:
        from click.testing import CliRunner

        from contour_ai.cli.main import cli
        from contour_ai.dicom.profile import load_profile
        from contour_ai.settings import to_mapping, to_yaml
        from contour_ai.training.config import TrainConfig, print_config

        patient = str(self.folder / "patient")
        structure_set = str(self.folder / "patient" / "rs.dcm")
        profile = {k: v for k, v in to_mapping(load_profile("eclipse")).items() if k != "name"}
        config = "\n".join(
            line for line in print_config(TrainConfig()).splitlines() if not line.lstrip().startswith("#")
        )
        run = ["train", patient, "--out", "{out}", "--config", "{file}", "--check", "--device", "cpu"]
        model = str(self.folder / "models" / "small")
        limits = CliRunner().invoke(cli, ["commission", "--example-limits"]).output
        commission = ["commission", patient, "--model", model, "--limits", "{file}", "--out", "{out}"]
        self.yamls = {
            "profile.yaml": (to_yaml(profile), ["check", structure_set, "--profile", "{file}"]),
            "roi-map.yaml": (
                "rois:\n  Brainstem: [Hirnstamm, 'Brain stem']\n  Parotid_L: []\nignore: [PTV]\nabsent: {}\n",
                ["to-masks", patient, "--out", "{out}.npz", "--roi-map", "{file}"],
            ),
            "config.yaml": (config, run),
            "limits.yaml": (limits, commission),
            "recipe.yaml": (
                "description: a margin\nstructures:\n- name: Brainstem_PRV\n  of: Brainstem\n  steps: [{margin: 5}]\n",
                ["derive", patient, "--recipe", "{file}", "--out", "{out}.dcm"],
            ),
            "tau.yaml": (
                "default_mm: 2.0\n",
                [
                    "evaluate",
                    str(self.folder / "made" / "ai.dcm"),
                    structure_set,
                    "--tau",
                    "{file}",
                    "--ct",
                    patient,
                ],
            ),
        }


# -- mutations -------------------------------------------------------------------------------------------------------

HOSTILE_TEXT = (
    "",
    "nan",
    "inf",
    "-1",
    "0",
    "1e308",
    "-0.0",
    "1e-300",
    "99999999999999999999",
    "70,5",
    "--5",
    "\x1b[2J",
    "\u202eevil",
    "=cmd|'/C calc'!A0",
    "[/red]",
    "../../../etc/passwd",
    "a\\b\\c",
    "x" * 5000,
    "\x00",
    "2001-99-99",
    "é",
)
HOSTILE_YAML = (
    "2001-99-99",
    ".nan",
    ".inf",
    "-1",
    "1e999",
    "[]",
    "{}",
    "null",
    "yes",
    "''",
    "*a",
    "&a [*a]",
    "!!python/object/apply:os.system [ls]",
    "!!timestamp x",
    "!!int ''",
    "[" * 200,
    "? [a]",
    "'" + "x" * 3000 + "'",
    "\t",
    "{a: {b: {c: 1}}}",
    "[1, 2, 3, 4, 5, 6, 7]",
    "99999999999999999999999",
    "&a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]",
)


def mutated_bytes(data: bytes, rng: random.Random) -> bytes:
    """Flipped, cut, repeated, overwritten or inserted bytes; more often near the beginning, where headers are."""
    content = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        if not content:
            break
        reach = len(content) if rng.random() < 0.5 else min(len(content), 400)
        at, length = rng.randrange(reach), rng.choice((1, 2, 4, 8, 64, 1000))
        action = rng.randrange(6)
        if action == 0:
            content[at] ^= 1 << rng.randrange(8)
        elif action == 1:
            content[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif action == 2:
            del content[at:]
        elif action == 3:
            del content[at : at + length]
        elif action == 4:
            content[at:at] = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length)))
        else:
            content[at : at + length] = content[max(0, at - length) : at]
    return bytes(content)


def mutated_dicom(data: bytes, rng: random.Random) -> bytes:
    """An element deleted, emptied, repeated or given a hostile value; bytes where that cannot be written."""
    import io
    import warnings

    import pydicom

    if rng.random() < 0.4:
        return mutated_bytes(data, rng)
    warnings.simplefilter("ignore")
    logging.getLogger("pydicom").setLevel(logging.ERROR)
    data_set = pydicom.dcmread(io.BytesIO(data))
    for _ in range(rng.choice((1, 1, 2, 3))):
        holders = [data_set, *_items(data_set)]
        holder = rng.choice(holders[:1] * 3 + holders)
        elements = [e for e in holder if e.tag.group != 2]
        if not elements:
            continue
        element = rng.choice(elements)
        action = rng.randrange(5)
        try:
            if action == 0:
                del holder[element.tag]
            elif element.VR == "SQ":
                element.value = rng.choice(([], list(element.value) * 2, list(element.value)[:1]))
            elif action == 1:
                element.value = None
            elif element.VR in ("OB", "OW", "OB or OW", "UN"):
                element.value = mutated_bytes(bytes(element.value), rng)
            elif element.VR in ("US", "UL", "SS", "SL", "FL", "FD"):
                element.value = rng.choice((0, 1, 2, 3, 16, 65535, 32767))
            else:
                raw = rng.choice(HOSTILE_TEXT).encode("utf-8")
                if action == 2 and element.VM > 1:
                    raw = b"\\".join([raw] * element.VM)
                holder[element.tag] = pydicom.DataElement(element.tag, "UN", raw)
                holder[element.tag].VR = "LT" if rng.random() < 0.5 else "UT"
                holder[element.tag].value = raw.decode("utf-8")
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            continue
    out = io.BytesIO()
    try:
        pydicom.dcmwrite(out, data_set, enforce_file_format=False)
    except Exception:  # noqa: BLE001 - what cannot be written is no case
        return mutated_bytes(data, rng)
    return out.getvalue()


def _items(data_set: object) -> list[object]:
    found = []
    for element in data_set:  # type: ignore[attr-defined]
        if element.VR == "SQ":
            for item in element.value:
                found += [item, *_items(item)]
    return found


def mutated_yaml(text: str, rng: random.Random) -> bytes:
    """A line deleted, repeated, moved or indented, or a value replaced by a hostile one."""
    lines = text.splitlines()
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(lines))
        action = rng.randrange(6)
        if action == 0 and len(lines) > 1:
            del lines[at]
        elif action == 1:
            lines.insert(at, lines[rng.randrange(len(lines))])
        elif action == 2:
            lines[at] = " " * rng.randrange(1, 5) + lines[at]
        elif action == 3:
            return mutated_bytes("\n".join(lines).encode(), rng)
        else:
            key, separator, _ = lines[at].partition(":")
            value = rng.choice(HOSTILE_YAML)
            lines[at] = f"{key}: {value}" if separator else f"{value}"
    return "\n".join(lines).encode("utf-8", "surrogatepass") + b"\n"


def mutated_mask(name: str, data: bytes, rng: random.Random) -> bytes:
    """As bytes; of compressed files also what is inside, so that no checksum gives it away."""
    if name == "seg.dcm":
        return mutated_dicom(data, rng)
    inside = rng.random() < 0.6
    if inside and name.endswith(".nii.gz"):
        return gzip.compress(mutated_bytes(gzip.decompress(data), rng), 1)
    if inside and name.endswith(".npz"):
        return _npz_again(data, rng)
    if inside and b"\n\n" in data:
        end = data.index(b"\n\n")
        return mutated_yaml(data[:end].decode("latin-1"), rng) + b"\n" + data[end + 2 :]
    return mutated_bytes(data, rng)


def _npz_again(data: bytes, rng: random.Random) -> bytes:
    import io

    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            content = old.read(entry)
            new.writestr(entry.filename, mutated_bytes(content, rng) if rng.random() < 0.7 else content)
    return out.getvalue()


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
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return

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
