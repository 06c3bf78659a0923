"""Voxels a second through augmentation, forward pass, backward pass and step: ours against nnU-Net v2's trainer.

    pip install nnunetv2          (2.8 was measured)
    python benchmarks/training.py [--threads 1] [--steps 6] [--patch 80 64 96] [--batch 2] [--filters 16] [--cpu-time]

Both learn the same patients (drawn heads and necks, in memory or in nnU-Net's own cache format), with the same patch,
samples a step, width and levels, without deep supervision, on the same device, turn by turn in one process. nnU-Net
uses its own loader, augmentation, loss, optimiser and training step, unchanged: on a CPU that is fp32 (it has no
autocast there). It runs twice: with its plain U-Net of this width, and with our network put into its trainer, where
only the machinery differs. Ours computes in what `contour-ai train` would choose, and also in fp32, to tell how much is
the arithmetic. nnU-Net's augmentation runs in the process itself, as ours does (`nnUNet_n_proc_DA=0`): on a machine
with idle cores its workers would hide some of it.

Measured on two cores of an AMD EPYC with AVX512-BF16 (no AMX), idle otherwise (--threads 2 --steps 4, nnU-Net 2.8.1,
torch 2.13), voxels/s: nnU-Net's plain U-Net 310 000, our network in its trainer 200 000, ours in bfloat16 604 000, ours
in fp32 253 000. That is 1.9 and 3.0 times as fast in bfloat16, 0.8 and 1.3 times in fp32. A step is convolutions, so
the ratio is that of the arithmetic; batches (0.05 to 0.14 s) are too small a part to matter on a CPU.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from nnunet_drawn import LEVELS, SPACING_MM, nnunet_dataset, nnunet_plans, write_nnunet_patients

os.environ.setdefault("OMP_NUM_THREADS", "1")

NEEDED = ("nnunetv2", "batchgenerators", "batchgeneratorsv2", "blosc2", "dynamic_network_architectures")
PATIENTS = 6
clock: Callable[[], float] = time.perf_counter
"""What seconds are read from."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each side")
    parser.add_argument("--steps", type=int, default=6, help="steps timed, after two to warm up")
    parser.add_argument("--patch", type=int, nargs=3, default=(80, 64, 96), help="voxels of a sample, k i j")
    parser.add_argument("--batch", type=int, default=2, help="samples a step")
    parser.add_argument("--filters", type=int, default=16, help="channels at full resolution")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--cpu-time", action="store_true", help="count CPU seconds, for a machine that others use as well"
    )
    options = parser.parse_args()
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(
            f"benchmarks/training.py compares with nnU-Net v2, and {', '.join(missing)} cannot be imported.\n"
            "Install it beside contour-ai, in an environment of its own: pip install nnunetv2"
        )
    with tempfile.TemporaryDirectory() as folder:
        compare(options, Path(folder))


def compare(options: argparse.Namespace, folder: Path) -> None:
    """Times all sides turn by turn and prints a table."""
    import torch

    global clock
    clock = time.process_time if options.cpu_time else time.perf_counter
    torch.set_num_threads(options.threads)
    cases = draw_patients()
    sides: dict[str, Callable[[int], tuple[float, float]]] = {}
    sides |= nnunet_sides(cases, options, folder)
    sides |= our_sides(cases, options)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for step in range(2 + options.steps):
        for name, side in sides.items():
            taken = side(step)
            if step >= 2:
                seconds[name].append(taken)
    report(seconds, options)


def report(seconds: dict[str, list[tuple[float, float]]], options: argparse.Namespace) -> None:
    """A table of medians; the ratios are those of whole steps."""
    import torch

    voxels = options.batch * options.patch[0] * options.patch[1] * options.patch[2]
    print(
        f"torch {torch.__version__}, {options.device}, {options.threads} threads; patch {tuple(options.patch)}, "
        f"{options.batch} samples a step, {options.filters} filters, {LEVELS} levels, {options.steps} steps "
        f"(medians of {'CPU' if options.cpu_time else 'wall clock'} seconds)"
    )
    whole = {name: statistics.median(sum(pair) for pair in pairs) for name, pairs in seconds.items()}
    print(f"{'':44}{'batch s':>9}{'network s':>11}{'step s':>9}{'voxels/s':>12}")
    for name, pairs in seconds.items():
        batch, network = (statistics.median(pair[n] for pair in pairs) for n in (0, 1))
        print(f"{name:44}{batch:9.2f}{network:11.2f}{whole[name]:9.2f}{voxels / whole[name]:12.0f}")
    ours = [name for name in whole if name.startswith("contour-ai")]
    for theirs in (name for name in whole if name not in ours):
        for mine in ours:
            print(f"{mine} is {whole[theirs] / whole[mine]:.2f} times as fast as {theirs}")


# -- data ---------------------------------------------------------------------------------------------------


def draw_patients() -> list:  # type: ignore[type-arg]
    """Bodies of the size of a head and neck on the model grid, with seven ROIs that do not overlap."""
    import numpy as np

    from contour_ai.training.cache import Case

    names = ("Brainstem", "SpinalCord", "Parotid_R", "Parotid_L", "Esophagus", "Larynx", "Bone_Mandible")
    shape = (108, 62, 102)
    places = (
        (85, 33, 51),
        (45, 40, 51),
        (75, 30, 25),
        (75, 30, 77),
        (20, 34, 51),
        (45, 22, 51),
        (62, 12, 51),
    )
    radii = ((8, 5, 6), (38, 3, 3), (11, 6, 6), (11, 6, 6), (16, 3, 4), (9, 6, 7), (8, 8, 14))
    cases = []
    for seed in range(PATIENTS):
        rng = np.random.default_rng(seed)
        k, i, j = np.ogrid[tuple(map(slice, shape))]
        body = ((i - 31) / 29) ** 2 + ((j - 51) / 46) ** 2 + 0 * k < 1
        hu = np.where(body, rng.normal(30, 20, shape), -1024).astype(np.int16)
        bits = np.zeros(shape, np.uint8)
        for r, (place, radius) in enumerate(zip(places, radii, strict=True)):
            centre = np.array(place) + rng.uniform(-2, 2, 3)
            mask = sum(((x - c) / a) ** 2 for x, c, a in zip((k, i, j), centre, radius, strict=True)) < 1
            mask &= bits == 0
            bits[mask] = 1 << r
            hu[mask] += 40 * (r + 1)
        cases.append(
            Case(
                patient_id=f"patient_{seed}",
                image=hu,
                labels=bits,
                rois=names,
                presence=(True,) * len(names),
                spacing_mm_kij=SPACING_MM,
            )
        )
    return cases


# -- ours -----------------------------------------------------------------------------------------------------


def our_sides(
    cases: Sequence, options: argparse.Namespace
) -> dict[str, Callable[[int], tuple[float, float]]]:  # type: ignore[type-arg]
    """The steps of `contour-ai train`, in the arithmetic that it would choose and in fp32."""
    import torch

    from contour_ai.inference import autocast_dtype, memory_format
    from contour_ai.network import build_network
    from contour_ai.preprocess import PreprocessSettings
    from contour_ai.structures import flip_pairs
    from contour_ai.training.batches import BatchMaker
    from contour_ai.training.config import InputConfig, NetworkChoice, TrainConfig
    from contour_ai.training.distributed import Processes
    from contour_ai.training.plan import plan_network
    from contour_ai.training.step import Stepper

    device = torch.device(options.device)
    torch.set_flush_denormal(True)
    settings = PreprocessSettings(spacing_mm_kij=SPACING_MM, windows_hu=((-160.0, 240.0),))
    config = TrainConfig(
        network=NetworkChoice(base_filters=options.filters, norm="instance", deep_supervision=0),
        input=InputConfig(patch_kij=tuple(options.patch), batch_size=options.batch),
    )
    mirror = list(range(len(cases[0].rois)))
    for a, b in flip_pairs(cases[0].rois):
        mirror[a], mirror[b] = b, a

    def side(precision: torch.dtype | None) -> Callable[[int], tuple[float, float]]:
        network = build_network(plan_network(config.network, settings, len(cases[0].rois)))
        order = memory_format(device, precision)
        network.to(device=device, memory_format=order)  # type: ignore[call-overload]
        batches = BatchMaker(
            cases,
            settings,
            patch_kij=tuple(options.patch),  # type: ignore[arg-type]
            batch_size=options.batch,
            foreground_fraction=0.33,
            augmentation=config.augmentation,
            mirror=mirror,
            seed=1,
            device=device,
        )
        timed = _TimedBatches(batches)
        stepper = Stepper(network, config, timed, None, precision, Processes.only(device))  # type: ignore[arg-type]
        stepper.begin()

        def step(number: int) -> tuple[float, float]:
            before = timed.seconds
            start = clock()
            loss, _ = stepper.step(number, 1e-3)
            float(loss)  # waits for a GPU
            whole = clock() - start
            batch = timed.seconds - before
            return batch, whole - batch

        return step

    chosen = autocast_dtype(device)
    name = "fp32" if chosen is None else str(chosen).removeprefix("torch.")
    sides = {f"contour-ai, {name}": side(chosen)}
    if chosen is not None:
        sides["contour-ai, fp32"] = side(None)
    return sides


class _TimedBatches:
    """A `BatchMaker` that counts the seconds that batches take."""

    def __init__(self, batches: object) -> None:
        self._batches, self.seconds = batches, 0.0

    def __getattr__(self, name: str) -> object:
        return getattr(self._batches, name)

    def batch(self, step: int) -> object:
        start = clock()
        made = self._batches.batch(step)  # type: ignore[attr-defined]
        self.seconds += clock() - start
        return made


# -- nnU-Net ----------------------------------------------------------------------------------------------------


def nnunet_sides(
    cases: Sequence,  # type: ignore[type-arg]
    options: argparse.Namespace,
    folder: Path,
) -> dict[str, Callable[[int], tuple[float, float]]]:
    """Training steps of nnU-Net's trainer, with its plain U-Net and with our network."""
    for name in ("raw", "preprocessed", "results"):
        (folder / name).mkdir()
        os.environ[f"nnUNet_{name}"] = str(folder / name)  # read when nnunetv2 is imported
    os.environ["nnUNet_n_proc_DA"] = "0"  # noqa: SIM112 - its own spelling
    os.environ["nnUNet_compile"] = "f" if options.device == "cpu" else "t"  # noqa: SIM112
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from contour_ai.network import build_network
    from contour_ai.network_config import NetworkConfig

    write_nnunet_patients(cases, options, folder / "preprocessed" / "Dataset001_Drawn")

    class OurNetwork(nnUNetTrainer):  # type: ignore[misc]
        """nnU-Net's trainer around our network."""

        @staticmethod
        def build_network_architecture(
            plans_manager: object,
            configuration_manager: object,
            num_input_channels: int,
            num_output_channels: int,
            enable_deep_supervision: bool = True,
        ) -> torch.nn.Module:
            config = NetworkConfig(
                name="custom",
                in_channels=num_input_channels,
                out_channels=num_output_channels,
                base_filters=options.filters,
                levels=LEVELS,
                norm="instance",
                dropout=0.0,
            )
            return build_network(config)

    def side(kind: type) -> Callable[[int], tuple[float, float]]:
        trainer = kind(
            nnunet_plans(options), "3d_fullres", 0, nnunet_dataset(cases), torch.device(options.device)
        )
        trainer.enable_deep_supervision = False
        trainer.print_to_log_file = lambda *_, **__: None
        trainer.initialize()
        loader, _ = trainer.get_dataloaders()
        trainer.network.train()

        def step(number: int) -> tuple[float, float]:
            start = clock()
            batch = next(loader)
            middle = clock()
            trainer.train_step(batch)
            return middle - start, clock() - middle

        return step

    return {"nnU-Net v2, its plain U-Net": side(nnUNetTrainer), "nnU-Net v2, our network": side(OurNetwork)}


if __name__ == "__main__":
    main()
