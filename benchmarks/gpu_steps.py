"""Parts of benchmarks/gpu.py: training steps, torch.compile, nnU-Net's step of the same network."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpu_measuring import NotRunError, Row, Utilisation, device_of, row, wait

if TYPE_CHECKING:
    from contour_ai.network_config import NetworkConfig
    from contour_ai.training.cache import Case


BUSY = 0.95


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
        with Utilisation(settings) as utilisation:
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
