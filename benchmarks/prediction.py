"""`contour-ai predict` as a whole process against the same network run the usual way, on one large CT.

    python -m venv peers; peers/bin/pip install monai rt-utils pydicom SimpleITK safetensors contour-ai
    python benchmarks/prediction.py [--model NAME] [--filters 32] [--slices 150] [--runs 3] [--peer peers/bin/python]
    python benchmarks/prediction.py --patients 10
    python benchmarks/prediction.py --no-overlays --peer peers/bin/python      (neither draws pictures then)
    python benchmarks/prediction.py --no-tta --peer peers/bin/python           (neither averages the mirror image then)
    python benchmarks/prediction.py --second-reader                            (with one and without, by turns)
    python benchmarks/prediction.py --parts --peer peers/bin/python [--filters 32]
    ONEDNN_MAX_CPU_ISA=AVX2 python benchmarks/prediction.py        (imitates a CPU without bf16 units)

The patient is a phantom scanned at 512 x 512 pixels of 1 mm with a couch, a mask and noise. The usual way is what most
research scripts do: SimpleITK reads and resamples the whole CT, MONAI's `sliding_window_inference` runs in fp32 with
50 % overlap, all channels are resampled back to the full grid, argmax, rt-utils writes. Both read the same files, use
the same weights, and end with an RTSTRUCT; ours draws pictures, too, unless told not to. With `--filters`, the network
has that many and random weights: then only the time means something. Runs alternate; the figures are medians.
`--parts` says stage by stage what the gain is made of: body crop, arithmetic, one piece instead of windows, restoring,
contours. With `--patients`, one process contours so many, and its time and memory are set against those for one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from usual_prediction import (
    usual_channels,
    usual_labels,
    usual_network,
    usual_reading,
    usual_structures,
    usual_way,
)

if TYPE_CHECKING:
    import torch


def main() -> None:
    arguments = _arguments()
    if arguments.usual_way:
        usual_way(
            Path(arguments.usual_way[0]), arguments.usual_way[1], Path(arguments.usual_way[2]), arguments.tta
        )
        return
    if arguments.parts_of:
        parts(Path(arguments.parts_of[0]), arguments.parts_of[1], Path(arguments.parts_of[2]), arguments.tta)
        return
    if arguments.draw:
        draw_patient(Path(arguments.draw), arguments.slices, arguments.pixels)
        return
    tta = [] if arguments.tta is None else ["--no-tta"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        patient = folder / "patient"
        # In a process of its own: a child's peak memory begins with that of its parent.
        draw = [sys.executable, __file__, "--draw", str(patient)]
        subprocess.run(
            [*draw, "--slices", str(arguments.slices), "--pixels", str(arguments.pixels)], check=True
        )
        model = arguments.model
        if arguments.filters:
            model = str(random_model(folder / "model", arguments.model, arguments.filters))
        if arguments.parts:
            print(setting(arguments), flush=True)
            command = [arguments.peer, __file__, "--parts-of", str(patient), model, str(folder), *tta]
            subprocess.run(command, check=True)
            return
        if arguments.second_reader:
            second_reader(folder, patient, model, arguments)
            return
        if arguments.patients:
            several(folder, patient, model, arguments)
            return
        ours: list[tuple[float, float]] = []
        theirs: list[tuple[float, float]] = []
        for run in range(arguments.runs):
            out = folder / f"out{run}"
            ours.append(measured(predict_command([patient], out, model, arguments)))
            if arguments.peer:
                command = [
                    arguments.peer,
                    __file__,
                    "--usual-way",
                    str(patient),
                    model,
                    str(folder / f"usual{run}.dcm"),
                    *tta,
                ]
                theirs.append(measured(command))
        stages = json.loads(next((folder / "out0").glob("*/summary.json")).read_text(encoding="utf-8"))[
            "timings_s"
        ]
    print(setting(arguments))
    report("contour-ai predict", ours)
    print("  " + ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in stages.items()))
    if theirs:
        report("the usual way", theirs)
        print(f"ratio {_median(theirs) / _median(ours):.1f}")


def several(folder: Path, patient: Path, model: str, arguments: argparse.Namespace) -> None:
    """Many patients in one process against one."""
    patients = [patient]
    for n in range(1, arguments.patients):
        copy = folder / f"patient{n}"
        renamed(patient, copy, n)
        patients.append(copy)

    def runs(name: str, patients: list[Path]) -> list[tuple[float, float]]:
        outs = [folder / f"{name}{run}" for run in range(arguments.runs)]
        return [measured(predict_command(patients, out, model, arguments)) for out in outs]

    one, many = runs("one", [patient]), runs("many", patients)
    print(setting(arguments))
    report("one patient", one)
    report(f"{len(patients)} patients", many)
    each = _median(many) / len(patients)
    further = (_median(many) - _median(one)) / (len(patients) - 1)
    print(
        f"{each:.1f} s a patient; each further one takes {further:.1f} s, alone it takes {_median(one):.1f} s"
    )


def renamed(patient: Path, copy: Path, number: int) -> None:
    """The same scan as another patient's."""
    import pydicom
    from pydicom.uid import generate_uid

    study, series = (generate_uid(entropy_srcs=[str(number), what]) for what in ("study", "series"))
    for path in sorted(p for p in patient.rglob("*") if p.is_file()):
        dataset = pydicom.dcmread(path)
        dataset.PatientID, dataset.StudyInstanceUID = f"benchmark{number}", study
        dataset.SeriesInstanceUID = series
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=[str(number), dataset.SOPInstanceUID])
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        target = copy / path.relative_to(patient)
        target.parent.mkdir(parents=True, exist_ok=True)
        dataset.save_as(target)


def predict_command(patients: list[Path], out: Path, model: str, arguments: argparse.Namespace) -> list[str]:
    return [
        sys.executable,
        "-m",
        "contour_ai",
        "predict",
        *map(str, patients),
        "--out",
        str(out),
        "--model",
        model,
        *([] if arguments.overlays else ["--no-overlays"]),
        *([] if arguments.tta is None else ["--no-tta"]),
    ]


def setting(arguments: argparse.Namespace) -> str:
    """What was run, in two lines."""
    isa = os.environ.get("ONEDNN_MAX_CPU_ISA", "all that the processor has")
    return (
        f"{arguments.pixels} x {arguments.pixels} x {arguments.slices}, model {arguments.model}, "
        f"{arguments.filters or 'its own'} filters\nthreads {os.environ.get('OMP_NUM_THREADS', 'all')}, "
        f"{os.cpu_count()} processors, instructions: {isa}"
    )


def report(name: str, runs: list[tuple[float, float]]) -> None:
    peak = max(memory for _, memory in runs)
    times = ", ".join(f"{seconds:.1f}" for seconds, _ in runs)
    print(f"{name:20} {_median(runs):6.1f} s (runs {times}), peak memory {peak / 1e9:.2f} GB")


def _median(runs: list[tuple[float, float]]) -> float:
    return statistics.median(seconds for seconds, _ in runs)


def measured(command: list[str]) -> tuple[float, float]:
    """Wall clock seconds and peak resident memory in bytes of a whole process (0 where the system does not tell)."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        if hasattr(os, "wait4"):
            _, status, usage = os.wait4(process.pid, 0)
            code, peak = (
                os.waitstatus_to_exitcode(status),
                usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
            )
            process.returncode = code
        else:
            code, peak = process.wait(), 0
        seconds = time.perf_counter() - start
        if code:
            errors.seek(0)
            raise SystemExit(f"{' '.join(command)}\n{errors.read().decode()}")
    return seconds, float(peak)


def draw_patient(folder: Path, slices: int, pixels: int) -> Path:
    """A phantom's body scanned as a clinic does, as DICOM."""
    import numpy as np

    from contour_ai.dicom.ct_write import PatientIdentity, write_ct
    from contour_ai.grid import Grid
    from contour_ai.sample.phantom import draw_phantom
    from contour_ai.sample.variants import Scan, scanned
    from contour_ai.volume import Volume

    phantom = draw_phantom("headneck", 901)
    body = phantom.structures.mask("External")
    cut_out = Volume(
        np.where(body, np.maximum(phantom.volume.hu, -1000), -1024).astype(np.int16), phantom.volume.grid
    )
    length = float(np.ptp(phantom.volume.grid.slice_offsets_mm))
    scan = Scan(
        pixel_mm=512 / pixels, matrix=pixels, slice_mm=round(length / (slices - 0.5), 4), couch="sandwich"
    )
    drawn = scanned(cut_out, phantom.structures, scan, seed=1)
    if drawn.volume.hu.shape[0] < slices:  # a longer patient than there is: go on with the same slices
        drawn_hu = np.resize(drawn.volume.hu, (slices, pixels, pixels))
    else:
        drawn_hu = drawn.volume.hu[:slices]
    grid = Grid.axial(drawn_hu.shape, drawn.volume.grid.spacing_mm, (0.0, 0.0, 0.0))
    folder.mkdir()
    write_ct(
        folder / "ct",
        Volume(drawn_hu, grid),
        PatientIdentity(patient_id="benchmark", patient_name="Benchmark", study_date="20260101"),
        uid_seed="b",
    )
    return folder


def random_model(folder: Path, like: str, filters: int) -> Path:
    """The bundle `like` with a wider network of random weights."""
    import dataclasses

    from contour_ai.bundle import load_bundle, save_bundle
    from contour_ai.network import build_network

    bundle = load_bundle(like)
    config = dataclasses.replace(bundle.network, base_filters=filters)
    network = build_network(config)
    bundle = dataclasses.replace(
        bundle,
        network=config,
        ranges=None,
        calibration={},
        contour_model=None,
        own_contour_model=None,
        second_reader=None,
    )
    save_bundle(folder, bundle, network.state_dict(), model_card="Random weights, for their speed alone.")
    return folder


def judged_model(folder: Path, like: str, *, with_reader: bool) -> Path:
    """The bundle `like` with a second reader of random weights, and verdicts that ask it, or without both."""
    import dataclasses

    from contour_ai.bundle import SecondReader, load_bundle, save_bundle
    from contour_ai.network import build_network
    from contour_ai.network_config import preset
    from contour_ai.quality.contour_verdict import POOLED, ContourModel
    from contour_ai.quality.own_contours import OWN_FIGURE_NAMES
    from contour_ai.training.second_reader_config import SecondReaderConfig

    bundle, usual = load_bundle(like), SecondReaderConfig()
    k, i, j = (s * usual.coarser for s in bundle.preprocess.spacing_mm_kij)
    config = preset(
        "resunet3d",
        in_channels=bundle.network.in_channels,
        out_channels=len(bundle.rois),
        base_filters=usual.base_filters,
        norm="instance",
        dropout=0.0,
    )
    own = ContourModel(
        patients=1,
        false_alarm=0.08,
        intercept=-3.0,
        weights=dict.fromkeys(OWN_FIGURE_NAMES, 0.1),
        usual={POOLED: dict.fromkeys(OWN_FIGURE_NAMES, (0.1, 0.1))},
        limits={POOLED: 0.5},
    )
    described = dataclasses.replace(
        bundle,
        second_reader=SecondReader(spacing_mm_kij=(k, i, j), network=config) if with_reader else None,
        own_contour_model=own if with_reader else None,
        contour_model=None,
        default=False,
    )
    save_bundle(
        folder,
        described,
        bundle.build_network(calibrated=False).state_dict(),
        model_card="For the time of its verdicts alone.",
        second_reader=build_network(config).state_dict() if with_reader else None,
    )
    return folder


def second_reader(folder: Path, patient: Path, model: str, arguments: argparse.Namespace) -> None:
    """What a second reader and the verdicts that ask it take: with and without, by turns."""
    ways = {
        "without": str(judged_model(folder / "without", model, with_reader=False)),
        "with": str(judged_model(folder / "with", model, with_reader=True)),
    }
    times: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for run in range(arguments.runs):
        for way, bundle in ways.items():
            times[way].append(
                measured(predict_command([patient], folder / f"out-{way}{run}", bundle, arguments))
            )
    print(setting(arguments))
    for way, found in times.items():
        report(f"predict {way} a second reader", found)
    stages = json.loads(next((folder / "out-with0").glob("*/summary.json")).read_text(encoding="utf-8"))
    print(
        "  of it: "
        + ", ".join(f"{k} {s:.2f}" for k, s in stages["timings_s"].items() if k in ("second reader", "flags"))
    )
    difference = _median(times["with"]) - _median(times["without"])
    print(f"difference {difference:+.2f} s, ratio {_median(times['with']) / _median(times['without']):.2f}")


def parts(patient: Path, model: str, folder: Path, tta: bool | None) -> None:
    """Stage by stage in one process, the second of two runs of each: what the gain is made of."""
    import torch

    from contour_ai.bundle import load_bundle
    from contour_ai.inference import autocast_dtype
    from contour_ai.pipeline._predict import PredictOptions, load_model, open_patient, predict, run_network
    from contour_ai.preprocess import image_channels

    bundle = load_bundle(model)
    loaded = load_model(bundle, "cpu")
    plain = bundle.build_network("cpu").to(memory_format=torch.contiguous_format)
    ct = usual_reading(patient)
    whole = torch.from_numpy(usual_channels(ct, bundle))[None]
    opened = open_patient(patient, bundle)
    crop = torch.from_numpy(image_channels(opened.prepared.hu, bundle.preprocess))[None]
    dtype = autocast_dtype(torch.device("cpu"))

    def lower_precision(image: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
            return loaded.network(image.contiguous(memory_format=torch.channels_last_3d)).float()

    numbers = itertools.count()
    options = PredictOptions(overlays=False, tta=tta)
    mirror = bundle.mirror_channels if bundle.uses_mirror_tta(tta) else None
    logits = usual_network(whole, plain, mirror)
    labels = usual_labels(logits, ct.GetSize()[::-1])

    def contoured() -> Mapping[str, float]:
        out = folder / f"parts{next(numbers)}"
        return predict(patient, loaded, out, options).timings_s

    def rt_utils_file() -> None:
        usual_structures(patient, bundle, labels, folder / f"parts{next(numbers)}.dcm")

    contoured()
    stages = contoured()
    print(f"voxels: whole resampled CT {whole[0, 0].numel():,}, body crop {crop[0, 0].numel():,}")
    rows = [
        (
            "network: windows, fp32, whole CT (the usual way)",
            timed(lambda: usual_network(whole, plain, mirror)),
        ),
        ("network: windows, fp32, body crop", timed(lambda: usual_network(crop, plain, mirror))),
        (
            f"network: windows, {str(dtype or 'fp32').removeprefix('torch.')}, body crop",
            timed(lambda: usual_network(crop, lower_precision, mirror)),
        ),
        (
            "network: in one piece, body crop (ours)",
            timed(lambda: run_network(opened.prepared, loaded, options)),
        ),
        ("reading: SimpleITK", timed(lambda: usual_reading(patient))),
        ("reading: ours, looking for files included", stages["finding"] + stages["reading"]),
        ("resampling: SimpleITK", timed(lambda: usual_channels(ct, bundle))),
        ("resampling: ours", stages["preprocessing"]),
        ("body: ours only", stages["body"]),
        ("restoring: all channels, argmax", timed(lambda: usual_labels(logits, ct.GetSize()[::-1]))),
        ("restoring: each ROI in its box (ours)", stages["restoring"]),
        ("structure set: rt-utils", timed(rt_utils_file)),
        ("structure set: ours, read back and compared", stages["structure set"]),
    ]
    for name, seconds in rows:
        print(f"{name:52} {seconds:7.2f} s")


def timed(work: Callable[[], object]) -> float:
    """Seconds of the second of two runs."""
    work()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--second-reader", action="store_true", help="what a second reader takes")
    parser.add_argument("--model", default="phantom-headneck")
    parser.add_argument("--filters", type=int, default=0)
    parser.add_argument("--slices", type=int, default=150)
    parser.add_argument("--pixels", type=int, default=512)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--patients", type=int, default=0, help="so many in one process, against one")
    parser.add_argument(
        "--no-overlays", dest="overlays", action="store_false", help="as the peer, who draws none"
    )
    parser.add_argument(
        "--no-tta", dest="tta", action="store_false", default=None, help="never the mirror image"
    )
    parser.add_argument("--parts", action="store_true", help="what the gain is made of; needs --peer")
    parser.add_argument("--peer", help="Python with MONAI and rt-utils")
    parser.add_argument("--draw", metavar="PATIENT", help=argparse.SUPPRESS)
    parser.add_argument("--parts-of", nargs=3, metavar=("PATIENT", "MODEL", "OUT"), help=argparse.SUPPRESS)
    parser.add_argument("--usual-way", nargs=3, metavar=("PATIENT", "MODEL", "OUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.parts and not arguments.peer:
        parser.error("--parts needs --peer")
    return arguments


if __name__ == "__main__":
    main()
