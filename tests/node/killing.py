"""Kills a node and its workers at random moments while studies are sent to it, and counts what was lost.

Used by the tests for a few kills and by benchmarks/node.py for many.
"""

from __future__ import annotations

import hashlib
import queue
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pydicom
from nodes import CALLER, Peer, wait_for
from programs import answers, free_port
from pydicom.uid import CTImageStorage
from pynetdicom import AE
from synthetic import axial, write_stack

from contour_ai.files import is_temporary
from contour_ai.node.sending import settle
from contour_ai.settings import to_yaml

QUICK = (sys.executable, str(Path(__file__).with_name("killed_node.py")))
"""Starts a node with quick workers; its configuration is added."""
RESEND_S = 0.3


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What became of the studies.

    Args:
        node_kills, worker_kills: signals that hit a living process.
        while_busy: kills while studies were received, contoured or sent.
        lost: studies without a structure set at the destination.
        twice: studies with more than one.
        changed: structure sets that came again with other content.
        half: files in the storage that are not what the database says, or unfinished.
        failed: jobs that were set aside because both of their workers were killed; they were taken up again.
    """

    studies: int
    node_kills: int
    worker_kills: int
    while_busy: int
    lost: int
    twice: int
    changed: int
    half: int
    failed: int


class KilledNode:
    """A node as a process, started again whenever it is killed."""

    def __init__(self, folder: Path, tps_port: int, command: Sequence[str], extra: dict[str, object]) -> None:
        self.storage, self.port = folder / "storage", free_port()
        self.log = (folder / "node.log").open("ab")
        config = {
            "port": self.port,
            "storage": str(self.storage),
            "quiet_s": 0.5,
            "callers": [{"ae_title": CALLER}],
            "rules": [{"model": "phantom-headneck", "send_to": ["TPS"]}],
            "destinations": {"TPS": {"ae_title": "TPS", "host": "127.0.0.1", "port": tps_port}},
            "devices": ["cpu"],
            "web": {"port": 0},
            **extra,
        }
        (folder / "node.yaml").write_text(to_yaml(config), encoding="utf-8")
        self.command = [*command, str(folder / "node.yaml")]
        self.start()

    def start(self) -> None:
        """Starts it and waits until it listens."""
        self.process = subprocess.Popen(
            self.command, stdout=self.log, stderr=self.log, start_new_session=True
        )
        wait_for(lambda: answers(self.port) or self.process.poll() is not None, 120)
        assert self.process.poll() is None, "the node did not start"

    def worker_ids(self) -> list[int]:
        """Process numbers of its workers (Linux)."""
        pid = self.process.pid
        children: set[int] = set()
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                children.update(map(int, task.read_text().split()))
            except OSError:
                continue
        return sorted(children)

    def kill(self) -> None:
        """kill -9, and a new start."""
        self.process.kill()
        self.process.wait()
        self.start()

    def end(self) -> None:
        """Ends it in order."""
        self.process.terminate()
        self.process.wait(60)
        self.log.close()

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        """Of its database."""
        connection = sqlite3.connect(self.storage / "node.sqlite", timeout=60)
        try:
            found = connection.execute(sql).fetchall()
            connection.commit()
            return found
        finally:
            connection.close()


@contextmanager
def killed_node(
    folder: Path, command: Sequence[str] = QUICK, **extra: object
) -> Iterator[tuple[KilledNode, Peer]]:
    """A node and its destination; what is still there at the end is ended.

    Args:
        command: starts the node.
        extra: keys of its configuration.
    """
    tps = Peer()
    try:
        node = KilledNode(folder, tps.port, command, extra)
        try:
            yield node, tps
        finally:
            if node.process.poll() is None:
                node.process.kill()
    finally:
        tps.close()


def make_studies(folder: Path, count: int, slices: int = 5) -> list[list[Path]]:
    """Patients of small slices, each with a study of its own."""
    return [
        write_stack(
            folder / f"S{n}",
            axial(slices, patient_id=f"S{n}", series=f"kill {n}", study=f"kill {n}", frame=f"kill {n}"),
        )
        for n in range(count)
    ]


def send_until_taken(port: int, paths: Sequence[Path]) -> float:
    """As a scanner does: the whole study again until every slice was taken; when the last slice was."""
    while True:
        ae = AE(ae_title=CALLER)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 30
        ae.add_requested_context(CTImageStorage)
        association = ae.associate("127.0.0.1", port, ae_title="CONTOURAI")
        try:
            if association.is_established and all(_store(association, path) for path in paths):
                at = time.time()
                association.release()
                if association.is_released:
                    return at
        finally:
            if association.is_established:
                association.abort()
        time.sleep(RESEND_S)


def _store(association: object, path: Path) -> bool:
    settle(association)
    if not association.is_established:  # type: ignore[attr-defined]
        return False
    try:
        status = association.send_c_store(path)  # type: ignore[attr-defined]
    except (RuntimeError, ValueError):
        return False
    return bool(status) and status.Status == 0


class Senders:
    """Threads that send the studies given to them, one after the other, each until it was taken."""

    def __init__(self, port: int, count: int) -> None:
        self.studies: queue.Queue[Sequence[Path] | None] = queue.Queue()
        self.threads = [threading.Thread(target=self._work, args=(port,), daemon=True) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def _work(self, port: int) -> None:
        while (study := self.studies.get()) is not None:
            send_until_taken(port, study)

    def finish(self) -> None:
        """Waits until every study was taken."""
        for _ in self.threads:
            self.studies.put(None)
        for thread in self.threads:
            thread.join(600)


def kill_while_sending(
    folder: Path,
    *,
    studies: int,
    senders: int,
    kills: int,
    pause_s: tuple[float, float],
    seed: int = 1,
    slices: int = 5,
    command: Sequence[str] = QUICK,
    cts: Sequence[Sequence[Path]] | None = None,
    devices: Sequence[str] = ("cpu",),
) -> Tally:
    """Sends studies and kills meanwhile; waits until everything is done, then counts.

    The studies are spread over the kills, so that there is work whenever something is killed.

    Args:
        pause_s: shortest and longest time before a kill.
        slices: of each study.
        command: starts the node; default: with quick workers.
        cts: the studies; default: small ones are made.
        devices: of the node, a worker each.
    """
    rng = random.Random(seed)
    cts = cts or make_studies(folder / "cts", studies, slices)
    hits: Counter[str] = Counter()
    given = 0
    with killed_node(folder, command, devices=list(devices)) as (node, tps):
        sending = Senders(node.port, senders)
        for number in range(kills):
            while given < min(studies, senders + round(studies * (number + 1) / kills)):
                sending.studies.put(cts[given])
                given += 1
            time.sleep(rng.uniform(*pause_s))
            hits["busy"] += bool(sending.studies.qsize() or _at_work(node))
            workers = node.worker_ids()
            if number % 2 and workers:
                _kill(rng.choice(workers))
                hits["worker"] += 1
            else:
                node.kill()
                hits["node"] += 1
        sending.finish()
        failed = _finish(node)
        wait_for(lambda: len(set(tps.uids)) >= len(node.rows("SELECT id FROM jobs WHERE state = 'sent'")), 60)
        node.end()
        return _tally(node, tps, studies, hits, failed)


def _at_work(node: KilledNode) -> bool:
    """Whether a series is being received, or a job is not at its destination yet."""
    return bool(
        node.rows("SELECT 1 FROM series WHERE state IN ('receiving', 'complete') LIMIT 1")
        or node.rows("SELECT 1 FROM jobs WHERE state IN ('waiting', 'working', 'sending') LIMIT 1")
    )


def _kill(process: int) -> None:
    import os

    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return


def _finish(node: KilledNode) -> int:
    """Waits until nothing is to be done any more; how many jobs had been set aside."""
    failed = 0

    def done() -> bool:
        nonlocal failed
        again = node.rows(
            "UPDATE jobs SET state = 'waiting', attempts = 0 WHERE state = 'failed' RETURNING id"
        )
        failed += len(again)
        series = {str(r[0]) for r in node.rows("SELECT DISTINCT state FROM series")}
        jobs = {str(r[0]) for r in node.rows("SELECT DISTINCT state FROM jobs")}
        return series == {"contoured"} and jobs <= {"sent", "superseded"}

    wait_for(done, 600)
    return failed


def _tally(node: KilledNode, tps: Peer, studies: int, hits: Counter[str], failed: int) -> Tally:
    at_destination: dict[str, set[str]] = {}
    contents: dict[str, set[str]] = {}
    for one in tps.received:
        at_destination.setdefault(str(one.StudyInstanceUID), set()).add(str(one.SOPInstanceUID))
        contents.setdefault(str(one.SOPInstanceUID), set()).add(one.to_json())
    return Tally(
        studies=studies,
        node_kills=hits["node"],
        worker_kills=hits["worker"],
        while_busy=hits["busy"],
        lost=studies - len(at_destination),
        twice=sum(len(uids) > 1 for uids in at_destination.values()),
        changed=sum(len(texts) > 1 for texts in contents.values()),
        half=_half_files(node),
        failed=failed,
    )


def _half_files(node: KilledNode) -> int:
    """Files that are not what the database says of them, that cannot be read, or that are unfinished."""
    storage, bad = node.storage, 0
    known = dict(node.rows("SELECT path, sha256 FROM instances"))
    for path in (p for p in storage.rglob("*") if p.is_file()):
        name = path.relative_to(storage).as_posix()
        if name.startswith("images/"):
            bad += hashlib.sha256(path.read_bytes()[132:]).hexdigest() != known.get(name)
        elif path.suffix == ".dcm":
            bad += not pydicom.dcmread(path).get("SOPInstanceUID")
        bad += any(is_temporary(part) or part == "incoming" for part in path.relative_to(storage).parts)
    return bad + sum(not (storage / str(name)).is_file() for name in known)
