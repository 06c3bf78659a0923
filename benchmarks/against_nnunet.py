"""The same patients, the same time: `contour-ai train` against nnU-Net v2, scored on the same held-back patients.

    contour-ai import-openkbp open-kbp/provided-data openkbp-dicom
    python -m venv peer; peer/bin/pip install nnunetv2 torch          (2.8.1 was used)
    python benchmarks/against_nnunet.py openkbp-dicom --nnunet peer/bin --out comparison --minutes 45

That is the whole comparison: three trainings of 45 minutes, and what preparation and prediction take. 12 % of the
patients (17 of the 170 OpenKBP patients at hand) are held back by the fixed hash of their ID by which
`contour-ai train` splits, too; all others train. What was cut short goes on when the same command is given again:
stages that are done are skipped, trainings resume from their last checkpoint with the time that is left. `--only`
runs one side, or `score`. For a first look: `--minutes 1 --patients 12 --held-back 2 --plan-gb 0.1`.

nnU-Net takes no patient who lacks an organ. Its users have two ways out, and both are tried: `nnunet-complete` trains
on the patients with all ROIs, `nnunet-background` on all, a missing organ being background. Contours that
`contour-ai train --check` leaves out are missing for both programs. Where ROIs overlap, the smaller one gets the voxel.

nnU-Net's own commands plan, preprocess, train and predict, with its own trainer (nnunet_trainer/budget_trainer.py
only ends it in time, schedule finished). As a user with paired organs would, it trains without mirroring
(`--mirror all` for its default, which predicts eight times, too). `--plan own` is what its planner says (for 8 GB of
GPU memory, 32 features), of which a CPU does few steps in an hour. `--plan small` has it plan for `--plan-gb` (2) and
halves the features to 16, those of `contour-ai train`; that is the default on a CPU. There it computes in fp32, a few
hundred steps in an hour; `--dtype bfloat16` gives it the arithmetic that `contour-ai train` takes where the CPU has
units for it, and a smaller `--plan-gb` more and smaller steps. It trains on all its patients, and its last weights are
taken; `contour-ai train` sets a few of its patients aside to choose its best weights.

Both train for `--minutes`, start and validation included, on patients prepared before. Both predict the held-back
patients, whose contours become RTSTRUCTs, and `contour-ai evaluate` scores them on the CT's own voxels: a ROI that is
not found has Dice 0. result.md and result.json in the folder of `--out` have the figures, logs/ what the programs said.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_export import SIDES, export, split_patients
from nnunet_options import comparison_options
from nnunet_tables import NAMES, OURS, figures, table

TRAINER = "BudgetTrainer"
NARROW = "3d_narrow"


def main() -> None:
    options = comparison_options(__doc__.splitlines()[0])
    if options.step:
        STEPS[options.step[0]](Path(options.step[1]), *options.step[2:])
        return
    run = Run(options)
    run.step(
        "patients", lambda: run.myself("patients", run.data, str(options.patients), str(options.held_back))
    )
    wanted = options.only or [*SIDES, OURS, "score"]
    if OURS in wanted or set(SIDES) & set(wanted):
        run.step("contour-ai check", run.check)
    for side in SIDES:
        if side in wanted:
            run.nnunet(side)
    if OURS in wanted:
        run.contour_ai()
    if "score" in wanted:
        run.score()


# -- stages ---------------------------------------------------------------------------------------------------


class Run:
    """One comparison in a folder; every step is a process of its own, timed, logged and done once."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.out: Path = options.out.resolve()
        self.data: Path = options.data.resolve()
        self.rois = [roi.strip() for roi in options.rois.split(",")]
        self.patients = self.out / "patients"
        self.cache = self.out / "cache"
        settings = {k: str(v) for k, v in vars(options).items() if k not in ("only", "step", "out", "nnunet")}
        path = self.out / "settings.json"
        if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != settings:
            sys.exit(
                f"{self.out} holds a comparison with other options; give another --out.\nIts own: {path}"
            )
        (self.out / "logs").mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings, indent=1), encoding="utf-8")

    def step(self, name: str, work: Callable[[], None]) -> None:
        """Does a step unless it is done, and keeps what it took, earlier attempts included."""
        done = self._done(name)
        if done.is_file():
            print(f"{name}: done before", flush=True)
            return
        print(f"{name} ...", flush=True)
        self._log, self._peak_bytes, start = self.out / "logs" / f"{done.stem}.log", 0, time.monotonic()
        done.parent.mkdir(exist_ok=True)
        part = done.with_suffix(".part")
        before_s = float(part.read_text(encoding="utf-8")) if part.is_file() else 0.0
        try:
            work()
        finally:
            seconds = round(before_s + time.monotonic() - start, 1)
            part.write_text(str(seconds), encoding="utf-8")
        done.write_text(json.dumps({"seconds": seconds, "peak_bytes": self._peak_bytes}), encoding="utf-8")
        part.unlink()
        print(f"{name}: {seconds:.0f} s, {self._peak_bytes / 1e9:.2f} GB", flush=True)

    def took(self, name: str) -> dict[str, float]:
        """Seconds and peak memory of a step."""
        return dict(json.loads(self._done(name).read_text(encoding="utf-8")))

    def _done(self, name: str) -> Path:
        return self.out / "done" / f"{name.replace(' ', '-')}.json"

    def call(self, command: Sequence[object], environment: Mapping[str, str] | None = None) -> None:
        """Runs a program to its end; what it says goes to the log of the step."""
        words = [str(word) for word in command]
        threads = {"OMP_NUM_THREADS": str(self.options.threads), "PYTHONUNBUFFERED": "1"}
        with self._log.open("a", encoding="utf-8") as log:
            log.write(f"\n$ {' '.join(words)}\n")
            log.flush()
            process = subprocess.Popen(
                words,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **threads, **(environment or {})},
            )
            try:
                code, peak = _ended(process)
            except KeyboardInterrupt:
                process.wait()
                raise
        self._peak_bytes = max(self._peak_bytes, peak)
        if code:
            last = "\n".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
            sys.exit(
                f"{last}\n\n{words[0]} failed; {self._log} has all of it. The same command goes on from here."
            )

    def myself(self, step: str, *arguments: object) -> None:
        """A piece of this script as a process: the peak memory of a child begins with that of its parent."""
        self.call([sys.executable, __file__, "--step", step, self.out, *arguments])

    # -- contour-ai ---------------------------------------------------------------------------------------------

    def ours(self, *arguments: object) -> None:
        """A command of contour-ai."""
        self.call([sys.executable, "-m", "contour_ai", *arguments])

    @property
    def config(self) -> Path:
        """The configuration given, with ROIs and threads."""
        import yaml

        given = self.options.config
        content = {} if given is None else yaml.safe_load(given.read_text(encoding="utf-8")) or {}
        for part, key, value in (("data", "rois", self.rois), ("run", "threads", self.options.threads)):
            content[part] = {**content.get(part, {}), key: value}
        path = self.out / "train.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return path

    def check(self) -> None:
        """Prepares the training patients, and says whose contours are left out by both programs."""
        training = self.patients / "training"
        arguments = ["--config", self.config, "--out", self.out / "check", "--cache", self.cache]
        self.ours("train", training, *arguments, "--check")

    def contour_ai(self) -> None:
        """Trains and predicts."""
        folder, training = self.out / OURS, self.patients / "training"
        run, device = folder / "run", ["--device", self.options.device]

        def train() -> None:
            go_on: list[object] = ["--resume"]
            if not (run / "checkpoints" / "last.pt").is_file():
                shutil.rmtree(run, ignore_errors=True)
                go_on = ["--config", self.config, "--time-budget", f"{60 * self.options.minutes:.0f}s"]
            self.ours("train", training, "--out", run, "--cache", self.cache, *device, *go_on)

        def predict() -> None:
            cohort = sorted((self.patients / "held-back").iterdir())
            arguments = [
                "--out",
                folder / "structures",
                "--model",
                run / "bundle",
                "--no-overlays",
                "--skip-done",
            ]
            self.ours("predict", *cohort, *arguments, *device)

        self.step(f"{OURS} train", train)
        self.step(f"{OURS} predict", predict)

    # -- nnU-Net --------------------------------------------------------------------------------------------------

    def nnunet(self, side: str) -> None:
        """Exports, plans, preprocesses, trains, predicts, and makes structure sets of it."""
        folder, number = self.out / side, SIDES[side]
        data = folder / "raw" / f"Dataset{number}_Comparison"
        small = self.options.plan == "small"
        plans, configuration = ("nnUNetSmallPlans", NARROW) if small else ("nnUNetPlans", "3d_fullres")
        device = ["-device", self.options.device]

        def prepare() -> None:
            processes = ["-npfp", self.options.threads, "-np", self.options.threads]
            target = (
                ["-gpu_memory_target", self.options.plan_gb, "-overwrite_plans_name", plans] if small else []
            )
            self.its(
                side,
                "plan_and_preprocess",
                "-d",
                number,
                "-c",
                "3d_fullres",
                "--no_pbar",
                *processes,
                *target,
            )
            if small:
                halve_features(folder / "preprocessed" / data.name / f"{plans}.json")

        def train() -> None:
            results = folder / "results" / data.name / f"{TRAINER}__{plans}__{configuration}" / "fold_all"
            go_on = ["--c"] if any(results.glob("checkpoint_*.pth")) else []
            self.its(
                side, "train", number, configuration, "all", "-tr", TRAINER, "-p", plans, *device, *go_on
            )

        def predict() -> None:
            model = ["-d", number, "-tr", TRAINER, "-p", plans, "-c", configuration, "-f", "all"]
            places = ["-i", data / "imagesTs", "-o", folder / "predicted"]
            one_process = ["-npp", 0, "-nps", 0, "--disable_progress_bar"]
            self.its(side, "predict", *places, *model, *device, *one_process, "--continue_prediction")

        def structures() -> None:
            names = {roi: label for label, roi in enumerate(self.rois, start=1)}
            (folder / "predicted" / "names.json").write_text(json.dumps(names), encoding="utf-8")
            for patient in sorted((self.patients / "held-back").iterdir()):
                mask = folder / "predicted" / f"{patient.name}.nii.gz"
                out = folder / "structures" / f"{patient.name}.dcm"
                self.ours("to-rtstruct", patient / "ct", mask, "--out", out, "--overwrite")

        self.step(f"{side} export", lambda: self.myself("export", side, ",".join(self.rois)))
        self.step(f"{side} prepare", prepare)
        self.step(f"{side} train", train)
        self.step(f"{side} predict", predict)
        self.step(f"{side} structures", structures)

    def its(self, side: str, command: str, *arguments: object) -> None:
        """A command of nnU-Net, without a swarm of processes."""
        folder = self.out / side
        environment = {f"nnUNet_{name}": str(folder / name) for name in ("raw", "preprocessed", "results")}
        environment |= {
            "nnUNet_extTrainer": str(Path(__file__).resolve().parent / "nnunet_trainer"),
            "nnUNet_def_n_proc": str(self.options.threads),
            # On a CPU, processes that augment would take the cores from the network. (Planning refuses 0.)
            "nnUNet_n_proc_DA": "0"
            if self.options.device == "cpu" and command != "plan_and_preprocess"
            else "1",
            "BUDGET_SECONDS": str(60 * self.options.minutes),
            "BUDGET_THREADS": str(self.options.threads),
            "BUDGET_MIRROR": self.options.mirror,
            "BUDGET_DTYPE": self.options.dtype,
        }
        if self.options.device == "cuda":
            environment["nnUNet_n_proc_DA"] = str(max(1, self.options.threads - 1))
        program = shutil.which(f"nnUNetv2_{command}", path=str(self.options.nnunet))
        assert program is not None
        self.call([program, *arguments], environment)

    # -- result -------------------------------------------------------------------------------------------------

    def score(self) -> None:
        """Scores what was predicted, and writes the table."""
        sides = {}
        held_back = self.patients / "held-back"
        for side in NAMES:
            last = f"{side} predict" if side == OURS else f"{side} structures"
            if not self._done(last).is_file():
                print(f"{side}: not predicted yet", flush=True)
                continue

            def evaluate(side: str = side) -> None:
                arguments = ["--rois", ",".join(self.rois), "--out", self.out / "score" / side, "--overwrite"]
                self.ours("evaluate", self.out / side / "structures", held_back, *arguments)

            self.step(f"{side} evaluate", evaluate)
            sides[side] = self._result(side)
        if not sides:
            sys.exit("Nothing was predicted yet.")
        result = {
            "options": json.loads((self.out / "settings.json").read_text(encoding="utf-8")),
            "machine": _machine(self.options.threads),
            "nnunetv2": _version(self.options.nnunet, "nnunetv2"),
            "patients": json.loads((self.out / "patients.json").read_text(encoding="utf-8")),
            "sides": sides,
        }
        text = table(result, self.rois)
        (self.out / "result.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
        (self.out / "result.md").write_text(text, encoding="utf-8")
        print(text)

    def _result(self, side: str) -> dict[str, Any]:
        with (self.out / "score" / side / "metrics.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        held_back = len(list((self.patients / "held-back").iterdir()))
        if len({row["patient"] for row in rows}) != held_back:
            sys.exit(
                f"{side}: only {len({row['patient'] for row in rows})} of {held_back} patients were scored."
            )
        facts: dict[str, Any] = {"rois": figures(rows, self.rois), "train": self.took(f"{side} train")}
        facts["predict"] = self.took(f"{side} predict")
        if side == OURS:
            import yaml

            bundle = self.out / OURS / "run" / "bundle" / "model.yaml"
            described = yaml.safe_load(bundle.read_text(encoding="utf-8"))
            facts["prepare"] = self.took("contour-ai check")
            facts["steps"], facts["batch"] = (
                described["training"]["steps"],
                described["training"]["samples_a_step"],
            )
            facts["sample"] = described["training"]["sample_kij"]
            facts["features"] = described["network"]["base_filters"]
            facts["training"] = {roi: described["data"]["rois"][roi]["patients"] for roi in self.rois}
            facts["patients"] = described["data"]["training_patients"]
            return facts
        state = next((self.out / side / "results").glob("*/*/fold_all/checkpoint_final.pth.json"))
        trained = json.loads(state.read_text(encoding="utf-8"))
        facts["prepare"] = self.took(f"{side} prepare")
        facts["steps"], facts["batch"], facts["sample"] = (
            trained[k] for k in ("iterations", "batch", "patch")
        )
        facts["features"] = trained["features"][0]
        exported = json.loads((self.out / side / "export.json").read_text(encoding="utf-8"))
        return {**facts, **exported}


def _ended(process: subprocess.Popen[bytes]) -> tuple[int, int]:
    """Exit status and peak memory in bytes (0 where the system does not tell) of a process and its children."""
    if not hasattr(os, "wait4"):
        return process.wait(), 0
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def halve_features(path: Path) -> None:
    """Adds a configuration of half the width to nnU-Net's plans, as its documentation tells users to."""
    plans = json.loads(path.read_text(encoding="utf-8"))
    whole = plans["configurations"]["3d_fullres"]
    architecture = json.loads(json.dumps(whole["architecture"]))
    features = architecture["arch_kwargs"]["features_per_stage"]
    architecture["arch_kwargs"]["features_per_stage"] = [n // 2 for n in features]
    plans["configurations"][NARROW] = {"inherits_from": "3d_fullres", "architecture": architecture}
    path.write_text(json.dumps(plans, indent=4), encoding="utf-8")


STEPS: dict[str, Callable[..., None]] = {"patients": split_patients, "export": export}


def _machine(threads: int) -> str:
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{threads} threads of {name}"


def _version(folder: Path, package: str) -> str:
    """Of a package in the environment of a folder of commands."""
    python = shutil.which("python", path=str(folder))
    if python is None:
        return "?"
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    main()
