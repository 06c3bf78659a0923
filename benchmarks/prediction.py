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
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from prediction_inputs import draw_patient, judged_model, random_model, renamed
from prediction_parts import parts
from usual_prediction import usual_way


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
