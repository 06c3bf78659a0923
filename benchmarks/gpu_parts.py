"""The measurements of benchmarks/gpu.py, which starts this file and says what each means."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import functools
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from contour_ai.network_config import NetworkConfig
    from contour_ai.training.cache import Case

ROOT = Path(__file__).resolve().parents[1]
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
DICE_DIFFERENCE = 0.003
PREDICT_S = 5.0
BUSY = 0.95

Row = dict[str, Any]


class NotRunError(Exception):
    """A part that cannot be measured here, and why."""


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


# -- environment and tests ----------------------------------------------------------------------------------------


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


# -- prediction -----------------------------------------------------------------------------------------------------


def _model(settings: dict[str, Any]) -> str:
    return "phantom-headneck" if settings["small"] else "headneck-openkbp"


def _patient(settings: dict[str, Any]) -> Path:
    """A patient as DICOM: a clinic's scan of 512 x 512 x 150, or a small one of the checkout."""
    if settings["small"]:
        return ROOT / "sample_data" / "phantom-headneck-01"
    folder = Path(settings["scratch"]) / "patient"
    if not folder.exists():
        from prediction import draw_patient

        draw_patient(folder, 150, 512)
    return folder


def answers(settings: dict[str, Any], rows: list[Row]) -> None:
    """Contours of fp32 and bf16 on the device against fp32 on the CPU."""
    import torch

    from contour_ai import read_ct, read_structures
    from contour_ai.bundle import load_bundle
    from contour_ai.inference import Predictor, autocast_dtype
    from contour_ai.preprocess import prepare, resample_logits_to_ct

    device = device_of(settings)
    folder = ROOT / "sample_data" / "phantom-headneck-01"
    bundle = load_bundle("phantom-headneck")
    volume = read_ct(folder / "ct").volume
    truth = read_structures(folder / "RS.dcm", read_ct(folder / "ct"))
    prepared = prepare(volume, bundle.preprocess)
    network = bundle.build_network("cpu")
    dice: dict[str, dict[str, float]] = {}
    masks: dict[str, dict[str, Any]] = {}
    half = autocast_dtype(device) or torch.bfloat16
    for name, where, autocast in (
        ("CPU, fp32", torch.device("cpu"), None),
        (f"{device}, fp32", device, None),
        (f"{device}, {str(half).removeprefix('torch.')}", device, half),
    ):
        predictor = Predictor.of(bundle, network, where, autocast)
        logits = predictor.logits(prepared.hu)
        masks[name], dice[name] = {}, {}
        for r, roi in enumerate(bundle.rois):
            if roi.name not in truth.names:
                continue
            contoured = truth.mask(roi.name)
            found = contoured & False
            restored = resample_logits_to_ct(logits[r], prepared.grid, volume.grid)
            if restored is not None:
                found[restored[0]] = restored[1] > 0
            masks[name][roi.name] = found
            dice[name][roi.name] = _dice(found, contoured)
    first = next(iter(dice))
    row(
        rows,
        f"mean Dice, {first}",
        f"{statistics.mean(dice[first].values()):.4f}",
        note=f"{len(dice[first])} ROIs of a phantom",
    )
    for name in list(dice)[1:] if device.type != "cpu" else list(dice)[2:]:
        differences = {roi: abs(dice[name][roi] - dice[first][roi]) for roi in dice[first]}
        worst = max(differences, key=lambda roi: differences[roi])
        row(
            rows,
            f"largest difference of Dice, {name} against {first}",
            f"{differences[worst]:.5f}",
            note=worst,
            goal=f"below {DICE_DIFFERENCE}",
            met=differences[worst] < DICE_DIFFERENCE,
        )
        least = min(_dice(masks[name][roi], masks[first][roi]) for roi in masks[first])
        row(rows, f"least Dice of {name} and {first} with each other", f"{least:.5f}")


def _dice(a: Any, b: Any) -> float:
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0


def predict(settings: dict[str, Any], rows: list[Row]) -> None:
    """As a process, and in a process that keeps its model."""
    device = device_of(settings)
    import contour_ai

    patient, model = _patient(settings), _model(settings)
    out = Path(settings["scratch"]) / "predicted"
    start = "import torch; torch.zeros(1, device={!r})".format(settings["device"])
    command = [
        sys.executable,
        "-m",
        "contour_ai",
        "predict",
        str(patient),
        "--model",
        model,
        "--device",
        str(device),
    ]
    pictures = not settings["small"]  # they take most of the time of so small a patient
    command += [] if pictures else ["--no-overlays"]
    processes, imports = [], []
    for run in range(1 if settings["small"] else 2):
        processes.append(_process_s([*command, "--out", f"{out}-{run}"]))
        if not settings["small"]:
            imports.append(_process_s([sys.executable, "-c", start]))
    whole, torch_s = statistics.median(processes), statistics.median(imports or [0.0])
    row(
        rows,
        "predict as a process",
        f"{whole:.2f} s",
        note=f"{model}, {'all' if pictures else 'no'} pictures, median of {len(processes)}",
    )
    if imports:
        row(
            rows,
            "of which importing torch and starting CUDA",
            f"{torch_s:.2f} s",
            note="a process that does nothing else",
        )
        row(
            rows,
            "predict besides that",
            f"{whole - torch_s:.2f} s",
            goal=f"below {PREDICT_S:g} s",
            met=whole - torch_s < PREDICT_S,
        )
    loaded = contour_ai.load_model(model, device=str(device))
    seconds = []
    for run in range(1 if settings["small"] else 3):
        began = time.perf_counter()
        drawn = contour_ai.PredictOptions(overlays=pictures)
        made = contour_ai.predict(patient, loaded, Path(f"{out}-in-process-{run}"), drawn)
        seconds.append(time.perf_counter() - began)
    later = statistics.median(seconds[1:] or seconds)
    row(
        rows,
        "predict in a process that keeps its model",
        f"{later:.2f} s",
        note=f"the first {seconds[0]:.2f} s",
        goal=f"below {PREDICT_S:g} s",
        met=later < PREDICT_S,
    )
    summary = (
        json.loads((Path(made.path).parent / "summary.json").read_text(encoding="utf-8")) if made.path else {}
    )
    stages = ", ".join(f"{stage} {s:.2f}" for stage, s in summary.get("timings_s", {}).items())
    row(rows, "its stages, s", stages or "not told")
    if device.type == "cuda":
        import torch

        row(
            rows,
            "most memory of the GPU in prediction",
            f"{torch.cuda.max_memory_allocated(device) / 1e9:.2f} GB",
        )


def _process_s(command: Sequence[str]) -> float:
    began = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command[2:5])} ended with status {done.returncode}: {done.stderr.strip()[-400:]}"
        )
    return time.perf_counter() - began


def resampling(settings: dict[str, Any], rows: list[Row]) -> None:
    """A CT to the model's grid and seven ROIs back, on the device and on the CPU."""
    import numpy as np

    from contour_ai.device_resampling import DeviceResampler
    from contour_ai.grid import Grid
    from contour_ai.preprocess import SPARSE, PreprocessSettings, prepare, resample_logits_to_ct
    from contour_ai.volume import Volume

    device = device_of(settings)
    shape = (12, 40, 48) if settings["small"] else (200, 512, 512)
    grid = Grid.axial(shape, (2.5, 0.98, 0.98))
    hu = np.random.default_rng(1).integers(-300, 300, shape).astype(np.int16)
    wanted = PreprocessSettings(spacing_mm_kij=(2.5, 3.0, 3.0), windows_hu=((-160.0, 240.0),))
    body = np.ones(shape, bool)
    found: dict[str, tuple[Any, Any]] = {}
    for name, resampler in (("CPU", SPARSE), (str(device), DeviceResampler(device))):
        times = []
        for _ in range(2):
            began = time.perf_counter()
            prepared = prepare(Volume(hu, grid), wanted, body=body, resampler=resampler)
            middle = time.perf_counter()
            logit = np.random.default_rng(2).normal(-1, 1, prepared.grid.shape_kij).astype(np.float32)
            back = [resample_logits_to_ct(logit, prepared.grid, grid, resampler=resampler) for _ in range(7)]
            times.append((middle - began, time.perf_counter() - middle))
        found[name] = prepared.hu, back[0]
        x = " x ".join(map(str, shape))
        row(rows, f"to the model's grid, {name}", f"{times[1][0]:.3f} s", note=f"{x}, the second time")
        row(rows, f"7 ROIs back to the CT, {name}", f"{times[1][1]:.3f} s", note="whole fields")
    (here, back_here), (there, back_there) = found.values()
    difference = int(np.abs(here.astype(int) - there).max())
    row(
        rows,
        "largest difference of the resampled CT",
        f"{difference} HU",
        goal="at most 1 HU",
        met=difference <= 1,
    )
    row(rows, "largest difference of a logit", f"{float(np.abs(back_here[1] - back_there[1]).max()):.1e}")


# -- training ---------------------------------------------------------------------------------------------------------


@functools.cache
def _cases(small: bool) -> list[Case]:
    """Random patients of the size of a head and neck; corners of them in the small version."""
    from training import draw_patients

    cases: list[Case] = draw_patients()
    if not small:
        return cases
    corner = (slice(60, 84), slice(20, 44), slice(30, 54))
    return [
        dataclasses.replace(c, image=c.hu[corner].copy(), labels=c.bits[corner].copy()) for c in cases[:3]
    ]


class _Steps:
    """A training on random patients of the size of a head and neck, step by step."""

    def __init__(
        self, settings: dict[str, Any], filters: int, *, stay: bool | None = None, compiled: bool = False
    ) -> None:
        import torch
        from training import SPACING_MM

        from contour_ai.inference import autocast_dtype, memory_format
        from contour_ai.network import build_network
        from contour_ai.preprocess import PreprocessSettings
        from contour_ai.training.batches import BatchMaker
        from contour_ai.training.config import AugmentationConfig, TrainConfig
        from contour_ai.training.distributed import Processes
        from contour_ai.training.step import Stepper

        self.device = device_of(settings)
        self.cases = _cases(settings["small"])
        self.patch = (16, 16, 16) if settings["small"] else (112, 64, 104)
        self.batch_size = 1 if settings["small"] else 4
        self.settings = PreprocessSettings(
            spacing_mm_kij=SPACING_MM, windows_hu=((-160.0, 240.0), (-500.0, 1000.0))
        )
        config = TrainConfig()
        config = dataclasses.replace(config, run=dataclasses.replace(config.run, compile=compiled))
        torch.manual_seed(1)
        if self.device.type == "cuda":
            torch.backends.cudnn.benchmark = True
            torch.cuda.reset_peak_memory_stats(self.device)
        self.precision = autocast_dtype(self.device)
        network = build_network(_network(filters, len(self.cases[0].rois), self.batch_size))
        network.to(device=self.device, memory_format=memory_format(self.device, self.precision))  # type: ignore[call-overload]
        self.batches = BatchMaker(
            self.cases,
            self.settings,
            patch_kij=self.patch,
            batch_size=self.batch_size,
            foreground_fraction=0.5,
            augmentation=AugmentationConfig(),
            mirror=(0, 1, 3, 2, 4, 5, 6),
            seed=1,
            device=self.device,
            stay=stay,
        )
        self.stepper = Stepper(
            network, config, self.batches, None, self.precision, Processes.only(self.device)
        )
        self.stepper.begin()
        self.number = 0

    def run(self, steps: int) -> float:
        """Seconds that steps take, the last one done."""
        wait(self.device)
        began = time.perf_counter()
        for _ in range(steps):
            self.stepper.step(self.number, 1e-3)
            self.number += 1
        wait(self.device)
        return time.perf_counter() - began

    @property
    def voxels(self) -> int:
        k, i, j = self.patch
        return k * i * j * self.batch_size


def _network(filters: int, rois: int, batch_size: int) -> NetworkConfig:
    from contour_ai.network_config import preset

    norm = "batch" if batch_size >= 4 else "instance"
    return preset("resunet3d", in_channels=2, out_channels=rois, base_filters=filters, norm=norm, dropout=0.0)


def steps(settings: dict[str, Any], rows: list[Row]) -> None:
    """Training steps a second, time that the device is busy, memory, batches, streamed patients, validation."""
    device = device_of(settings)
    small = settings["small"]
    for filters in (4,) if small else (16, 32):
        made = _Steps(settings, filters)
        made.run(2 if small else 5)
        each = made.run(1 if small else 5) / (1 if small else 5)
        number = max(2, int((0.2 if small else 5.0) / each))
        used = time.process_time()
        with _Utilisation(settings) as utilisation:
            seconds = made.run(number)
        used = time.process_time() - used
        size = " x ".join(map(str, made.patch))
        name = f"{filters} filters"
        row(
            rows,
            f"steps a second, {name}",
            f"{number / seconds:.2f}",
            note=f"{made.batch_size} samples of {size}",
        )
        row(rows, f"voxels a second, {name}", f"{made.voxels * number / seconds:.3g}")
        if device.type == "cuda":
            import torch

            busy = _busy_share(made, max(3, min(20, number // 2)))
            row(
                rows,
                f"GPU busy, {name}",
                f"{100 * busy:.1f} %",
                note="kernels of torch's profiler",
                goal=f"{100 * BUSY:.0f} %",
                met=busy >= BUSY,
            )
            row(rows, f"GPU busy by nvidia-smi, {name}", utilisation.described())
            memory = torch.cuda.max_memory_allocated(device)
            row(rows, f"most memory of a step, {name}", f"{memory / 1e9:.2f} GB")
        else:
            import torch

            share = used / seconds / torch.get_num_threads()
            row(rows, f"threads busy, {name}", f"{100 * share:.0f} %")
        row(
            rows,
            f"making a batch, {name}",
            f"{100 * _batch_s(made, number) / (seconds / number):.0f} % of a step",
            note="on the device, alone",
        )
    streamed = _Steps(settings, 4 if small else 16, stay=False)
    streamed.run(2)
    number = 1 if small else 30
    row(
        rows,
        "steps a second where patients do not stay on the device",
        f"{number / streamed.run(number):.2f}",
    )
    _validation(streamed, rows)


def _batch_s(made: _Steps, steps: int) -> float:
    """Seconds of making one batch."""
    number = min(steps, 20)
    wait(made.device)
    began = time.perf_counter()
    for n in range(number):
        made.batches.batch(n)
    wait(made.device)
    return (time.perf_counter() - began) / number


def _validation(made: _Steps, rows: list[Row]) -> None:
    from contour_ai.bundle import InferenceSettings
    from contour_ai.inference import Predictor
    from contour_ai.training.validation import validate
    from contour_ai.training.validation_figures import case_figures

    predictor = Predictor(
        network=made.stepper.average.network,
        preprocess=made.settings,
        inference=InferenceSettings(),
        device=made.device,
        autocast=made.precision,
    )
    cases = made.cases
    predictor.logits(cases[0].hu)
    began = time.perf_counter()
    logits = predictor.logits(cases[0].hu)
    network_s = time.perf_counter() - began
    case_figures(logits, cases[0])
    figures_s = time.perf_counter() - began - network_s
    began = time.perf_counter()
    validate(cases, predictor)
    each = (time.perf_counter() - began) / len(cases)
    row(
        rows,
        "validation of a patient",
        f"{each:.3f} s",
        note=f"alone the network takes {network_s:.3f} s, the figures {figures_s:.3f} s",
    )


def _busy_share(made: _Steps, steps: int) -> float:
    """Share of the time in which the GPU computes or copies, by torch's profiler."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        made.run(steps)
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in profiled.events()
        if event.device_type == torch.autograd.DeviceType.CUDA
    )
    if not spans:
        raise RuntimeError("torch's profiler saw no kernel")
    busy, reached = 0.0, spans[0][0]
    for start, end in spans:
        busy += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return float(busy / (reached - spans[0][0]))


class _Utilisation:
    """What nvidia-smi says while something runs."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._index = settings["device"].partition(":")[2] or "0"
        self._on_gpu = settings["device"] != "cpu"
        self._process: subprocess.Popen[str] | None = None
        self._values: list[float] = []

    def __enter__(self) -> _Utilisation:
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


def compile_(settings: dict[str, Any], rows: list[Row]) -> None:
    """What `run.compile` gains, and costs."""
    device_of(settings)
    if settings["small"]:
        from torch import nn

        from contour_ai.network import ResidualUNet3d

        # Traced, but not translated: that takes a minute, and a compiler that a machine may lack.
        ResidualUNet3d.compile = functools.partialmethod(nn.Module.compile, backend="eager")  # type: ignore[method-assign]
    filters = 4 if settings["small"] else 16
    number = 1 if settings["small"] else 40
    plain = _Steps(settings, filters)
    plain.run(2)
    plain_s = plain.run(number) / number
    del plain
    made = _Steps(settings, filters, compiled=True)
    first = made.run(1)
    made.run(2)
    each = made.run(number) / number
    note = "traced only, in the small version" if settings["small"] else ""
    row(rows, "the first step, compiled", f"{first:.1f} s", note=note)
    row(
        rows,
        "steps a second, compiled",
        f"{1 / each:.2f}",
        note=f"not compiled {1 / plain_s:.2f}; {plain_s / each:.2f} times as fast",
    )


def nnunet(settings: dict[str, Any], rows: list[Row]) -> None:
    """A step of nnU-Net's trainer."""
    import importlib.util

    from training import NEEDED, draw_patients, nnunet_sides

    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise NotRunError(
            f"{', '.join(missing)} cannot be imported: carry the wheels of nnunetv2 and its own"
        )
    device = device_of(settings)
    small = settings["small"]
    options = argparse.Namespace(
        device=str(device),
        patch=(16, 16, 16) if small else (112, 64, 104),
        batch=2,
        filters=4 if small else 16,
        compile=False,
    )
    folder = Path(settings["scratch"]) / f"nnunet-{time.monotonic_ns()}"
    folder.mkdir()
    for name, step in nnunet_sides(draw_patients(), options, folder).items():
        for n in range(3):
            step(n)
        number = 2 if small else 20
        wait(device)
        began = time.perf_counter()
        parts = [step(n) for n in range(number)]
        wait(device)
        each = (time.perf_counter() - began) / number
        k, i, j = options.patch
        batch_s = statistics.median(part[0] for part in parts)
        note = f"2 samples, {options.filters} filters, not compiled; {batch_s:.3f} of {each:.3f} s make the batch, here"
        row(rows, f"voxels a second, {name}", f"{options.batch * k * i * j / each:.3g}", note=note)


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
    with _Utilisation(settings) as utilisation:
        seconds = _process_s(command)
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


PATIENTS = 60
"""Drawn to train on."""

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
