"""Parts of benchmarks/gpu.py: answers of several precisions, prediction, resampling."""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from gpu_measuring import ROOT, Row, device_of, process_s, row

DICE_DIFFERENCE = 0.003
PREDICT_S = 5.0


def _model(settings: dict[str, Any]) -> str:
    return "phantom-headneck" if settings["small"] else "headneck-openkbp"


def _patient(settings: dict[str, Any]) -> Path:
    """A patient as DICOM: a clinic's scan of 512 x 512 x 150, or a small one of the checkout."""
    if settings["small"]:
        return ROOT / "sample_data" / "phantom-headneck-01"
    folder = Path(settings["scratch"]) / "patient"
    if not folder.exists():
        from prediction_inputs import draw_patient

        draw_patient(folder, 150, 512)
    return folder


def answers(settings: dict[str, Any], rows: list[Row]) -> None:
    """Contours of fp32 and bf16 on the device against fp32 on the CPU."""
    import torch

    from contour_ai import read_ct, read_structures
    from contour_ai.bundle import load_bundle
    from contour_ai.inference import Predictor, autocast_dtype
    from contour_ai.mask_agreement import dice as mask_dice
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
            dice[name][roi.name] = mask_dice(found, contoured, neither=1.0)
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
        least = min(mask_dice(masks[name][roi], masks[first][roi], neither=1.0) for roi in masks[first])
        row(rows, f"least Dice of {name} and {first} with each other", f"{least:.5f}")


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
        processes.append(process_s([*command, "--out", f"{out}-{run}"]))
        if not settings["small"]:
            imports.append(process_s([sys.executable, "-c", start]))
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
