"""What the node promises, measured: kills, times from the last slice to the destination, memory.

    python benchmarks/node.py --kills 30 --studies 40 --patients 300

Kills: studies from four senders while node and workers are killed at random moments (quick workers). Times: from the
last slice acknowledged to the structure set at the destination, with one and with four senders, against `predict` as a
process on the same patients. Memory: resident memory of the worker after every patient. Prints tables. Linux.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import astuple, fields
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "node")]

import pydicom  # noqa: E402
from killing import KilledNode, Tally, kill_while_sending, send_all, send_until_taken  # noqa: E402
from nodes import Peer, wait_for  # noqa: E402
from pydicom.uid import generate_uid  # noqa: E402

SAMPLE = Path(__file__).resolve().parents[1] / "sample_data" / "phantom-headneck-01" / "ct"
SERVE = (sys.executable, "-m", "contour_ai", "serve", "--config")


def patients(folder: Path, count: int, first: int = 0) -> list[list[Path]]:
    """Copies of the phantom, each a patient of its own."""
    made = []
    for number in range(first, first + count):
        uids: dict[str, str] = {}
        place = folder / f"B{number:04d}"
        place.mkdir(parents=True)
        for path in sorted(SAMPLE.iterdir()):
            data_set = pydicom.dcmread(path)
            data_set.PatientID = f"B{number:04d}"
            for key in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID"):
                old = str(data_set[key].value)
                data_set[key].value = uids.setdefault(old, generate_uid())
            data_set.file_meta.MediaStorageSOPInstanceUID = data_set.SOPInstanceUID
            data_set.save_as(place / path.name, enforce_file_format=True)
        made.append(sorted(place.iterdir()))
    return made


def kills(folder: Path, studies: int, count: int) -> None:
    """Prints the table of kills."""
    os.environ["CONTOUR_AI_TEST_WORK_S"] = "0.3"
    tally = kill_while_sending(folder, studies=studies, senders=4, kills=count, pause_s=(0.2, 3.0))
    print("| " + " | ".join(f.name.replace("_", " ") for f in fields(Tally)) + " |")
    print("|" + "---|" * len(fields(Tally)))
    print("| " + " | ".join(map(str, astuple(tally))) + " |\n")


def times(folder: Path, count: int) -> None:
    """Prints p50 and p95 of the node with one and four senders, and of `predict`."""
    cts = patients(folder / "cts", count)
    processes = [_predict(study[0].parent, folder / "out" / str(n)) for n, study in enumerate(cts)]
    print("| | patients | p50 (s) | p95 (s) |")
    print("|---|---|---|---|")
    _line("`predict` as a process", processes)
    for senders in (1, 4):
        place = folder / f"senders{senders}"
        place.mkdir()
        _line(f"node, {senders} sender(s)", _through_node(place, cts, senders))
    print()


def _line(name: str, seconds: Sequence[float]) -> None:
    ordered = sorted(seconds)
    p95 = ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]
    print(f"| {name} | {len(ordered)} | {statistics.median(ordered):.1f} | {p95:.1f} |", flush=True)


def _predict(ct: Path, out: Path) -> float:
    start = time.monotonic()
    command = [sys.executable, "-m", "contour_ai", "predict", str(ct), "--out", str(out)]
    subprocess.run(
        [*command, "--model", "phantom-headneck", "--no-overlays", "--device", "cpu"],
        check=True,
        capture_output=True,
    )
    return time.monotonic() - start


def _through_node(folder: Path, cts: Sequence[Sequence[Path]], senders: int) -> list[float]:
    """Seconds from the last slice to the destination. One sender waits for each result before it sends the next CT."""
    tps = Peer()
    arrived: dict[str, float] = {}
    tps.received = _Arrivals(arrived)  # type: ignore[assignment]
    node = KilledNode(folder, tps.port, SERVE, {})
    sent: dict[str, float] = {}
    try:
        send_until_taken(node.port, cts[0])  # the first patient warms the worker
        wait_for(lambda: len(arrived) == 1, 600)
        rest = cts[1:]
        threads = [
            threading.Thread(target=_send, args=(node.port, rest[n::senders], sent, arrived))
            for n in range(senders)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_for(lambda: len(arrived) == len(cts), 3600)
        node.end()
    finally:
        if node.process.poll() is None:
            node.process.kill()
        tps.close()
    return [arrived[patient] - at for patient, at in sent.items()]


class _Arrivals(list):  # type: ignore[type-arg]
    """Notes when a patient's structure set arrived."""

    def __init__(self, times_by_patient: dict[str, float]) -> None:
        super().__init__()
        self.times = times_by_patient

    def append(self, data_set: pydicom.Dataset) -> None:
        self.times[str(data_set.PatientID)] = time.time()


def _send(
    port: int, studies: Sequence[Sequence[Path]], sent: dict[str, float], arrived: dict[str, float]
) -> None:
    for study in studies:
        patient = study[0].parent.name
        sent[patient] = send_until_taken(port, study)
        wait_for(lambda p=patient: p in arrived, 3600)  # type: ignore[misc]


def memory(folder: Path, count: int) -> None:
    """Prints the worker's resident memory over many patients."""
    tps = Peer()
    node = KilledNode(folder, tps.port, SERVE, {})
    sizes: list[float] = []
    arrived: dict[str, float] = {}
    tps.received = _Arrivals(arrived)  # type: ignore[assignment]
    try:
        for number in range(count):
            (ct,) = patients(folder / f"cts{number}", 1, first=number)
            send_all(node.port, [ct], 1)[0].join()
            wait_for(lambda n=number: len(arrived) > n, 600)  # type: ignore[misc]
            sizes.append(max(map(_resident_mb, node.worker_ids())))
            shutil.rmtree(folder / f"cts{number}")
        node.end()
    finally:
        if node.process.poll() is None:
            node.process.kill()
        tps.close()
    third = max(count // 3, 1)
    first, last = statistics.mean(sizes[:third]), statistics.mean(sizes[-third:])
    print(f"memory of the worker: first {third} patients {first:.0f} MB, last {third} {last:.0f} MB, "
          f"ratio {last / first:.3f}")  # fmt: skip


def _resident_mb(process: int) -> float:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=40)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--timed", type=int, default=20, help="patients for the times; 0 for none")
    parser.add_argument("--patients", type=int, default=300, help="patients for the memory; 0 for none")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="node-") as name:
        for part, action in (
            ("kills", lambda place: kills(place, options.studies, options.kills)),
            ("times", lambda place: times(place, options.timed)),
            ("memory", lambda place: memory(place, options.patients)),
        ):
            if {"kills": options.kills, "times": options.timed, "memory": options.patients}[part]:
                place = Path(name) / part
                place.mkdir()
                action(place)
    print(f"load average {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
