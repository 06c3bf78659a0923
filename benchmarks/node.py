"""What the node promises, measured: nothing lost when it is killed, times, memory. Linux.

    python benchmarks/node.py                   everything; about 40 minutes
    python benchmarks/node.py times             sized for six minutes on two idle cores
    python benchmarks/node.py kills --studies 40 --kills 30
    python benchmarks/node.py kills --contour --studies 10 --kills 10 --pause 2 15
    python benchmarks/node.py memory --patients 300

kills: studies come from four senders while node and workers are killed with `kill -9` at random moments. The workers
answer quickly, so that many states are met; with --contour they contour.

times: from the last slice acknowledged to the structure set at the destination, against `predict` as a process on the
same patients, in turns; then four at once: four senders, against four processes. CTs of 512 x 512 pixels.

memory: resident memory of the node, and of its workers together, after every patient, small CTs of different lengths.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, fields
from pathlib import Path

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "node"), str(HERE)]

import pydicom  # noqa: E402
from killing import QUICK, KilledNode, Tally, kill_while_sending, killed_node, send_until_taken  # noqa: E402
from nodes import wait_for  # noqa: E402
from pydicom.uid import generate_uid  # noqa: E402

SAMPLE = HERE.parent / "sample_data" / "phantom-headneck-01" / "ct"
SERVE = (sys.executable, "-m", "contour_ai", "serve", "--config")
AT_ONCE = 4
LIMIT = 0.6
"""Promised: the node takes at most this share of the time of `predict` as a process."""


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="kills|times|memory", help="default: all of them")
    parser.add_argument("--studies", type=int, default=40, help="for kills")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--contour", action="store_true", help="kills: workers that contour")
    parser.add_argument(
        "--pause",
        type=float,
        nargs=2,
        default=(0.2, 3.0),
        metavar=("MIN", "MAX"),
        help="seconds before a kill",
    )
    parser.add_argument("--timed", type=int, default=12, help="patients for the times")
    parser.add_argument("--slices", type=int, default=150, help="of each, for the times")
    parser.add_argument("--model", default="phantom-headneck", help="of the node, for times and memory")
    parser.add_argument(
        "--devices", default="auto", help="of the node: auto (two workers on a processor), cpu, cpu,cpu, ..."
    )
    parser.add_argument("--patients", type=int, default=300, help="for the memory")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="the memory: stop after so many")
    options = parser.parse_args()
    actions: dict[str, Callable[[Path], None]] = {
        "kills": lambda place: kills(place, options),
        "times": lambda place: times(place, options),
        "memory": lambda place: memory(place, options),
    }
    for part in options.parts:
        if part not in actions:
            parser.error(f"{part} is none of {', '.join(actions)}")
    os.environ.pop("OMP_NUM_THREADS", None)  # node and `predict` as they are started by a user
    for part in options.parts or actions:
        print(f"\n{part}; {machine()}", flush=True)
        begun = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="node-") as name:
            actions[part](Path(name))
        print(f"{time.monotonic() - begun:.0f} s; {machine()}", flush=True)


def machine() -> str:
    """Date, commit, processor and load."""
    commit = subprocess.run(
        ["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    name = names[0].split(":")[1].strip() if names else platform.processor()
    when = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    return f"{when} UTC, commit {commit or '?'}, {os.cpu_count()} x {name}, load {os.getloadavg()[0]:.1f}"


def table(header: Sequence[object], *rows: Sequence[object]) -> None:
    """Prints a table."""
    for row in (header, ["---"] * len(header), *rows):
        print("| " + " | ".join(map(str, row)) + " |", flush=True)


# -- kills --------------------------------------------------------------------------------------------------


def kills(folder: Path, options: argparse.Namespace) -> None:
    """Prints the table of kills."""
    os.environ["CONTOUR_AI_TEST_WORK_S"] = "0.3"
    cts = small_patients(folder / "cts", options.studies) if options.contour else None
    tally = kill_while_sending(
        folder,
        studies=options.studies,
        senders=4,
        kills=options.kills,
        pause_s=tuple(options.pause),
        slices=20,
        command=SERVE if options.contour else QUICK,
        cts=cts,
        devices=options.devices.split(","),
    )
    table([f.name.replace("_", " ") for f in fields(Tally)], astuple(tally))


# -- times --------------------------------------------------------------------------------------------------


def times(folder: Path, options: argparse.Namespace) -> None:
    """Prints p50 and p95 of the node and of `predict`: one patient after the other, then four at once."""
    cts = large_patients(folder / "cts", options.timed + 1, options.slices)
    warm, *cts = cts
    one: dict[str, list[float]] = {"predict": [], "node": []}
    four: dict[str, list[float]] = {"predict": [], "node": []}
    with a_node(folder, options) as (node, arrived):
        send_until_taken(node.port, warm)  # the first patient warms the worker
        wait_for(lambda: len(arrived) == 1, 600)
        for number, ct in enumerate(cts):
            one["predict"].append(_predict(ct[0].parent, folder / "out" / str(number), options.model))
            one["node"] += _through_node(node.port, [ct], arrived)
    # The series are known to the node by now: the same patients go to a new one.
    again = folder / "again"
    again.mkdir()
    with a_node(again, options) as (node, arrived):
        send_until_taken(node.port, warm)
        wait_for(lambda: len(arrived) == 1, 600)
        for start in range(0, len(cts) // AT_ONCE * AT_ONCE, AT_ONCE):
            group = cts[start : start + AT_ONCE]
            four["predict"] += at_once(
                lambda ct: _predict(ct[0].parent, again / "out" / ct[0].parent.name, options.model), group
            )
            four["node"] += _through_node(node.port, group, arrived)
    print(
        f"CT of 512 x 512 x {options.slices}, model {options.model}, devices {options.devices}, "
        "quiet_s 0.5 (part of the node's times)"
    )
    rows = []
    for name, found in (("one after the other", one), (f"{AT_ONCE} at once", four)):
        for who, seconds in found.items():
            p50, p95 = _quantiles(seconds)
            of_p50, of_p95 = (a / b for a, b in zip((p50, p95), _quantiles(found["predict"]), strict=True))
            share = "" if who == "predict" else f"{of_p50:.0%} / {of_p95:.0%} (at most {LIMIT:.0%})"
            what = "`predict` as a process" if who == "predict" else "node"
            rows.append((f"{what}, {name}", len(seconds), f"{p50:.1f}", f"{p95:.1f}", share))
    table(("", "patients", "p50 (s)", "p95 (s)", "of `predict`"), *rows)


def _quantiles(seconds: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(seconds)
    return statistics.median(ordered), ordered[round(0.95 * (len(ordered) - 1))]


def _predict(ct: Path, out: Path, model: str) -> float:
    start = time.monotonic()
    command = [sys.executable, "-m", "contour_ai", "predict", str(ct), "--out", str(out)]
    subprocess.run(
        [*command, "--model", model, "--no-overlays", "--device", "cpu"], check=True, capture_output=True
    )
    return time.monotonic() - start


def _through_node(port: int, cts: Sequence[Sequence[Path]], arrived: dict[str, float]) -> list[float]:
    """Seconds from the last slice of each CT to its structure set at the destination; all are sent at once."""

    def send(ct: Sequence[Path]) -> float:
        sent = send_until_taken(port, ct)
        patient = ct[0].parent.name
        wait_for(lambda: patient in arrived, 600)
        return arrived[patient] - sent

    return at_once(send, cts)


def at_once(action: Callable[[Sequence[Path]], float], cts: Sequence[Sequence[Path]]) -> list[float]:
    """What an action gives for each CT, all in threads of their own."""
    found: list[float] = []
    threads = [threading.Thread(target=lambda ct=ct: found.append(action(ct))) for ct in cts]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(found) < len(cts):
        raise SystemExit("a patient did not come to an end; see above")
    return found


# -- memory -------------------------------------------------------------------------------------------------


def memory(folder: Path, options: argparse.Namespace) -> None:
    """Prints the resident memory of node and workers over many patients, a third of them at a time."""
    end = time.monotonic() + 60 * options.minutes
    sizes: dict[str, list[float]] = {"node": [], "workers": []}
    with a_node(folder, options) as (node, arrived):
        for number in range(options.patients):
            (ct,) = small_patients(folder / f"cts{number}", 1, first=number)
            _through_node(node.port, [ct], arrived)
            sizes["node"].append(_resident_mb(node.process.pid))
            sizes["workers"].append(sum(map(_resident_mb, node.worker_ids())))
            shutil.rmtree(folder / f"cts{number}")
            if time.monotonic() > end:
                break
            if (number + 1) % 50 == 0:
                print(f"  {number + 1} patients: node {sizes['node'][-1]:.0f} MB, "
                      f"workers {sizes['workers'][-1]:.0f} MB", flush=True)  # fmt: skip
    third = max(len(sizes["node"]) // 3, 1)
    rows = []
    for who, found in sizes.items():
        parts = [statistics.mean(found[start : start + third]) for start in (0, third, 2 * third)]
        rows.append((who, *(f"{part:.0f}" for part in parts), f"{parts[2] / parts[0]:.3f}"))
    table(("resident memory (MB)", f"first {third}", f"next {third}", f"last {third}", "last : first"), *rows)


def _resident_mb(process: int) -> float:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


# -- node and patients --------------------------------------------------------------------------------------


@contextlib.contextmanager
def a_node(folder: Path, options: argparse.Namespace) -> Iterator[tuple[KilledNode, dict[str, float]]]:
    """A node that contours, and when each patient's structure set arrived at its destination."""
    arrived: dict[str, float] = {}
    rules = [{"model": options.model, "send_to": ["TPS"]}]
    with killed_node(folder, SERVE, rules=rules, devices=options.devices.split(",")) as (node, tps):
        tps.received = _Arrivals(arrived)  # type: ignore[assignment]
        yield node, arrived
        node.end()


class _Arrivals(list):  # type: ignore[type-arg]
    """Notes when a patient's structure set arrived."""

    def __init__(self, times_by_patient: dict[str, float]) -> None:
        super().__init__()
        self.times = times_by_patient

    def append(self, data_set: pydicom.Dataset) -> None:
        self.times[str(data_set.PatientID)] = time.time()


def small_patients(folder: Path, count: int, first: int = 0) -> list[list[Path]]:
    """The middle of the sample phantom, each a patient of its own, from 24 to 34 slices."""
    slices = sorted(SAMPLE.iterdir())[13:]
    return [
        copied(slices[: 24 + number % 11], folder / f"B{number:04d}")
        for number in range(first, first + count)
    ]


def large_patients(folder: Path, count: int, slices: int) -> list[list[Path]]:
    """A phantom as a clinic scans it, 512 x 512 pixels, copied as so many patients."""
    drawn = folder / "drawn"
    folder.mkdir(parents=True)
    draw = [sys.executable, str(HERE / "prediction.py"), "--draw", str(drawn), "--slices", str(slices)]
    subprocess.run(draw, check=True)
    paths = sorted((drawn / "ct").iterdir())
    return [copied(paths, folder / f"L{number:04d}") for number in range(count)]


def copied(paths: Sequence[Path], place: Path) -> list[Path]:
    """A CT as another patient's; the folder's name is the patient's ID."""
    uids: dict[str, str] = {}
    place.mkdir(parents=True)
    for path in paths:
        data_set = pydicom.dcmread(path)
        data_set.PatientID = place.name
        for key in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID"):
            old = str(data_set[key].value)
            data_set[key].value = uids.setdefault(old, generate_uid())
        data_set.file_meta.MediaStorageSOPInstanceUID = data_set.SOPInstanceUID
        data_set.save_as(place / path.name, enforce_file_format=True)
    return sorted(place.iterdir())


if __name__ == "__main__":
    main()
