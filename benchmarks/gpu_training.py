"""A part of benchmarks/gpu.py: a training for the time that is left, and the patients that it draws."""

from __future__ import annotations

import csv
import dataclasses
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gpu_measuring import ROOT, NotRunError, Row, Utilisation, device_of, process_s, row

TRAINING = """\
model: {{name: drawn-on-a-gpu, kind: {kind}}}
run: {{validate_every: 250, steps: 20000}}
"""
SMALL_TRAINING = """\
model: {name: drawn-on-a-cpu, kind: phantom}
data: {rois: [Brainstem, Bone_Mandible]}
preprocess: {spacing_mm_kij: [8.0, 8.0, 8.0]}
network: {name: resunet3d, base_filters: 2}
input: {batch_size: 1, patch_kij: [16, 16, 16]}
run: {steps: 2, validate_every: 2, threads: 1}
"""

PATIENTS = 60
"""Drawn to train on."""


def train(settings: dict[str, Any], rows: list[Row]) -> None:
    """`contour-ai train` for the rest of the time."""
    began = time.monotonic()
    device = device_of(settings)
    small = settings["small"]
    folders = (Path(settings["out"]) / f"training{suffix}" for suffix in ("", *map(str, range(2, 1000))))
    out = next(folder for folder in folders if not folder.exists())
    least_s, kept_s = (0.0, 0.0) if small else (40.0, 20.0)
    roi_map = settings["roi_map"]
    if settings["data"]:
        data, training = Path(settings["data"]), TRAINING.format(kind="research")
    elif settings["label_maps"]:
        data, training = _synthetic(settings), TRAINING.format(kind="research")
        roi_map = data / "roi-map.yaml"
    else:
        data, training = _phantoms(settings), SMALL_TRAINING if small else TRAINING.format(kind="phantom")
    drawn_s = time.monotonic() - began
    left = settings["left_s"] - drawn_s - kept_s
    if left < least_s:
        raise NotRunError(f"{max(left, 0):.0f} s are left, at least {least_s:.0f} are needed")
    config = Path(settings["scratch"]) / "train.yaml"
    config.write_text(training, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "contour_ai",
        "train",
        str(data),
        "--out",
        str(out),
        "--config",
        str(config),
    ]
    command += ["--device", str(device)]
    command += [] if small else ["--time-budget", f"{int(left)}s"]
    command += ["--roi-map", str(roi_map)] if roi_map else []
    with Utilisation(settings) as utilisation:
        seconds = process_s(command)
    with (out / "metrics.csv").open(encoding="utf-8", newline="") as file:
        last = list(csv.DictReader(file))[-1]
    row(
        rows,
        "patients",
        f"{len([p for p in data.iterdir() if p.is_dir()])}",
        note="" if settings["data"] else f"drawn in {drawn_s:.0f} s",
    )
    row(
        rows,
        "training, with preparation and rules",
        f"{seconds:.0f} s",
        note=f"its model is in {out / 'bundle'}",
    )
    row(rows, "steps", last["step"], note=f"in {last['elapsed_s']} s, validations included")
    row(rows, "mean Dice of validation", last["mean_dice"])
    if device.type == "cuda":
        row(rows, "GPU busy by nvidia-smi, preparation included", utilisation.described())


def _phantoms(settings: dict[str, Any]) -> Path:
    """Phantoms as DICOM, drawn by all processors; in the small version those of the checkout."""
    folder = Path(settings["scratch"]) / "phantoms"
    if not settings["small"]:
        _in_parts(
            lambda first, each, _: [
                "sample",
                folder,
                "--region",
                "headneck",
                "--count",
                each,
                "--first-seed",
                first,
            ]
        )
    elif not folder.exists():
        for name in ("phantom-headneck-01", "phantom-headneck-02"):
            shutil.copytree(ROOT / "sample_data" / name, folder / name)
    return folder


def _synthetic(settings: dict[str, Any]) -> Path:
    """Patients drawn from label maps by all processors, each into a folder of its own; then all in one."""
    folder = Path(settings["scratch"]) / "synthetic"
    recipe = ["--recipe", Path(settings["recipe"]).resolve()] if settings["recipe"] else []
    maps = Path(settings["label_maps"]).resolve()
    parts: list[Path] = []

    def command(first: int, each: int, number: int) -> list[Any]:
        parts.append(folder / f"part-{number}")
        return ["synthesize", maps, parts[-1], *recipe, "--count", each, "--first-seed", first]

    _in_parts(command)
    return joined(parts, folder / "all")


def joined(parts: Sequence[Path], target: Path) -> Path:
    """Folders of synthetic patients in one, with what is absent in each patient."""
    from contour_ai.structures.roi_map import RoiMap

    target.mkdir(parents=True)
    maps = [RoiMap.load(part / "roi-map.yaml") for part in parts]
    for part in parts:
        for patient in sorted(p for p in part.iterdir() if p.is_dir()):
            patient.rename(target / patient.name)
    absent = {name: rois for one in maps for name, rois in one.absent.items()}
    dataclasses.replace(maps[0], absent=absent).save(target / "roi-map.yaml")
    return target


def _in_parts(command: Callable[[int, int, int], list[Any]]) -> None:
    """Draws patients in as many processes as there are processors: `command(first seed, patients, number)`."""
    processes = max(min((os.cpu_count() or 1) - 1, 15), 1)
    each = -(-PATIENTS // processes)
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "contour_ai", *map(str, command(1000 + n * each, each, n))],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(processes)
    ]
    errors = [process.communicate()[1] for process in running]
    for process, error in zip(running, errors, strict=True):
        if process.returncode:
            raise RuntimeError(f"drawing patients: status {process.returncode}: {error.strip()[-300:]}")
