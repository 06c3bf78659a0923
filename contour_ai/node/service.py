"""The node as a whole: starts its parts, looks again and again at what is to be done, and ends in order."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from contour_ai.cores import available_cores
from contour_ai.errors import ContourAIError, OutputError
from contour_ai.node.alerts import alert
from contour_ai.node.audit import AuditLog
from contour_ai.node.beginnings import Beginnings
from contour_ai.node.config import NodeConfig
from contour_ai.node.database import Database, Row, now
from contour_ai.node.drift import look_for_drift
from contour_ai.node.intake import Intake
from contour_ai.node.jobs import JobBook
from contour_ai.node.receiver import Receiver
from contour_ai.node.requirements import unmet_rules
from contour_ai.node.retention import delete_old
from contour_ai.node.returned import pair_returned
from contour_ai.node.sending import Sent, send_files
from contour_ai.node.store import ImageStore, Receipt
from contour_ai.node.watching import FolderWatch
from contour_ai.node.workers import Worker

logger = logging.getLogger(__name__)

LOOK_S = 0.1
RETENTION_S = 3600.0
DISK_LOOK_S = 60.0
DRIFT_S = 6 * 3600.0
LATE_S = 3600.0
"""A result that was not sent for so long is a problem."""
LOCK = "node.lock"

AUTO, CPU = "auto", "cpu"
FIXED = ("ae_title", "host", "port", "storage", "devices", "tls", "web", "max_associations", "watch")
"""Keys that only a new start takes up."""


class Node:
    """A node that can be started and stopped. Everything that it has promised stands in database and files.

    Raises:
        OutputError: another node uses the same storage.
    """

    def __init__(self, config: NodeConfig, reload: Callable[[], NodeConfig] | None = None) -> None:
        self.config = config
        self._reload = reload
        self.storage = Path(config.storage)
        self.storage.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _StorageLock(self.storage / LOCK)
        self.database = Database(self.storage / "node.sqlite")
        self.audit = AuditLog(self.storage / "audit.jsonl")
        self.store = ImageStore(self.storage, self.database)
        self.book = JobBook(self.database, self.storage / "results")
        self.beginnings = Beginnings(self.wake_workers)
        self.intake = Intake(
            lambda: self.config,
            self.database,
            self.store,
            self.book,
            self.audit,
            on_likely=self.beginnings.want,
            on_job=self.wake_workers,
        )
        self.receiver = Receiver(lambda: self.config, self.database, self.store, self.audit, self._received)
        self.port = 0
        self.workers: list[Worker] = []
        self._threads: list[threading.Thread] = []
        self._senders: dict[str, threading.Thread] = {}
        self._ending = threading.Event()
        self._starting = threading.Lock()
        self._results = threading.Condition()
        self.reload_error = ""

    # -- start and end --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Goes on where the last run ended, then listens.

        Raises:
            ConfigError: the port cannot be opened.
        """
        removed, again = self.store.clean(), self.book.recover()
        self._warn_of_rules()
        logger.info("start: %d unfinished files removed, %d jobs taken up again", removed, again)
        self.port = self.receiver.start()
        for device in self.config.devices:
            self._start_worker(device)
        self._thread("intake", self._look)
        self._thread("housekeeping", self._keep_house)
        for folder in self.config.watch:
            watch = FolderWatch(folder, self.config.ae_title, self.database, self.store, self.audit)
            self._thread(f"watch {folder.folder}", lambda watch=watch: self._watch(watch))  # type: ignore[misc]
        self._start_senders()
        self.audit.write("node", "started", port=self.port)

    def _start_worker(self, device: str) -> None:
        same = sum(worker.device == device for worker in self.workers)
        worker = Worker(
            device,
            self.book,
            self.store.series_folder,
            self.beginnings,
            title=f"{device} {same + 1}" if same else device,
            warm=tuple(dict.fromkeys(rule.model for rule in self.config.rules)),
            job_limit_s=60 * self.config.job_limit_min,
            threads=_threads_each(self.config.devices),
            on_ready=lambda computes_on: self._second_on_processor(device, computes_on),
            on_finished=self._finished,
        )
        worker.start()
        self.workers.append(worker)

    def _second_on_processor(self, device: str, computes_on: str) -> None:
        """`auto` on the processor is two workers: much of the work on a patient uses one core."""
        with self._starting:  # so that `stop` misses none
            alone = sum(worker.device == AUTO for worker in self.workers) == 1 < available_cores()
            if device == AUTO and computes_on == CPU and alone and not self._ending.is_set():
                self._start_worker(AUTO)

    def stop(self) -> None:
        """Ends every part; jobs that are worked on are taken up at the next start."""
        with self._starting:
            self._ending.set()
        for worker in self.workers:
            worker.stop()
        self._wake_senders()
        self.receiver.stop()
        for thread in [*self._threads, *self._senders.values(), *self.workers]:
            thread.join(timeout=30)
        self.audit.write("node", "stopped")
        self.database.close()
        self._lock.release()

    def reload(self) -> str:
        """Reads the configuration anew; a wrong file keeps the old one. Returns what to tell, in a sentence."""
        if self._reload is None:
            return "this node has no configuration file"
        try:
            fresh = self._reload()
        except ContourAIError as error:
            self.reload_error = str(error)
            logger.error("the configuration was not taken up: %s", error)
            self.audit.write("node", "configuration refused", reason=str(error))
            return f"not taken up: {error}"
        kept = {key: getattr(self.config, key) for key in FIXED}
        waiting = [key for key in FIXED if getattr(fresh, key) != kept[key]]
        self.config = replace(fresh, **kept)
        self.reload_error = ""
        self._start_senders()
        self.audit.write("node", "configuration read", needs_restart=waiting)
        told = [f"only a new start changes {', '.join(waiting)}"] if waiting else []
        return "; ".join(["taken up", *told, *self._warn_of_rules()])

    def _warn_of_rules(self) -> list[str]:
        """What is wrong with rules as they are now; they are used all the same, as it may be put right meanwhile."""
        found = list(unmet_rules(self.config))
        for text in found:
            logger.warning("%s", text)
        return found

    # -- parts ----------------------------------------------------------------------------------------------

    def _thread(self, name: str, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _start_senders(self) -> None:
        """A thread for each destination, so that none waits for another."""
        for name in self.config.destinations:
            if name not in self._senders:
                thread = threading.Thread(target=self._send, args=(name,), name=f"send {name}", daemon=True)
                self._senders[name] = thread
                thread.start()

    def _received(self, receipt: Receipt) -> None:
        self.intake.saw(receipt.series_uid)

    def wake_workers(self) -> None:
        """Has workers that wait look for a job at once."""
        for worker in self.workers:
            worker.wake.set()

    def _wake_senders(self) -> None:
        with self._results:
            self._results.notify_all()

    def _finished(self, job: int) -> None:
        self._wake_senders()
        row = self.database.row("SELECT state, message FROM jobs WHERE id = ?", job)
        if row is not None and row["state"] == "failed":
            alert(self.config.alerts, self.database, f"job {job} failed", row["message"])

    def _look(self) -> None:
        while not self._ending.is_set():
            try:
                self.intake.look()
                pair_returned(self.database, self.store)
            except Exception:
                logger.exception("a look at the series failed; it is made again")
            self._ending.wait(LOOK_S)

    def _watch(self, watch: FolderWatch) -> None:
        while not self._ending.is_set():
            try:
                for receipt in watch.look():
                    self._received(receipt)
            except Exception:
                logger.exception("a look at %s failed; it is made again", watch.folder.folder)
            self._ending.wait(max(LOOK_S, min(1.0, watch.folder.settle_s / 2)))

    def _send(self, name: str) -> None:
        while not self._ending.is_set():
            try:
                for delivery in self.book.due(name):
                    if self._ending.is_set():
                        return
                    self._deliver(delivery, name)
            except Exception:
                logger.exception("sending to %s failed; it is tried again", name)
            with self._results:
                if not self._ending.is_set():
                    self._results.wait(LOOK_S)

    def _deliver(self, delivery: Row, name: str) -> None:
        destination = self.config.destinations.get(name)
        if destination is None:
            self.book.not_delivered(delivery["id"], f"{name} is no longer among the destinations")
            return
        path = self.book.results / delivery["folder"] / delivery["structure_set"]

        def is_committed(sop_uid: str) -> bool:
            query = "SELECT 1 FROM commitments WHERE sop_uid = ? AND ae_title = ?"
            return self.database.row(query, sop_uid, destination.ae_title.strip()) is not None

        if destination.commitment and is_committed(delivery["sop_uid"]):  # the report came after the last try
            sent = Sent(path=path, stored=True, message="stored and committed")
        else:
            (sent,) = send_files([path], destination, self.config.ae_title, is_committed=is_committed)
        if sent.stored:
            self.book.delivered(delivery["id"])
            self.audit.write("node", "sent", job=delivery["job"], destination=name, answer=sent.message)
        else:
            self.book.not_delivered(delivery["id"], sent.message)
            logger.warning("job %d could not be sent to %s: %s", delivery["job"], name, sent.message)
            subject = f"results cannot be sent to {name}"
            alert(self.config.alerts, self.database, subject, sent.message)

    def _keep_house(self) -> None:
        last_retention = last_disk = last_drift = -float("inf")
        while not self._ending.is_set():
            try:
                if time.monotonic() - last_disk > DISK_LOOK_S:
                    last_disk = time.monotonic()
                    self._look_at_disk()
                if time.monotonic() - last_drift > DRIFT_S:  # before retention: what goes is measured first
                    last_drift = time.monotonic()
                    look_for_drift(self.storage, self.database, self.config.alerts)
                if time.monotonic() - last_retention > RETENTION_S:
                    last_retention = time.monotonic()
                    delete_old(self.config.keep, self.database, self.store, self.book, self.audit)
            except Exception:
                logger.exception("housekeeping failed; it is tried again")
            self._ending.wait(1.0)

    def _look_at_disk(self) -> None:
        free = self.store.free_gb()
        if free < self.config.keep.free_gb:
            wanted = self.config.keep.free_gb
            text = f"{free:.1f} GB free, wanted {wanted:g} GB. Below a tenth of it no image is accepted."
            logger.warning("the disk is filling up: %s", text)
            alert(self.config.alerts, self.database, "the disk is filling up", text)

    # -- state ----------------------------------------------------------------------------------------------

    def health(self) -> dict[str, object]:
        """How the node is, as plain values: no patient is named."""
        jobs = {
            r["state"]: r["n"]
            for r in self.database.rows("SELECT state, COUNT(*) n FROM jobs GROUP BY state")
        }
        series = {
            r["state"]: r["n"]
            for r in self.database.rows("SELECT state, COUNT(*) n FROM series GROUP BY state")
        }
        late = self.database.row(
            "SELECT MIN(jobs.finished_at) oldest, COUNT(*) n FROM deliveries JOIN jobs ON jobs.id = job"
            " WHERE deliveries.state = 'waiting'"
        )
        free = self.store.free_gb()
        workers = [{"device": w.title, "alive": w.process_id is not None} for w in self.workers]
        problems = []
        if free < self.config.keep.free_gb:
            problems.append("disk")
        if not all(worker["alive"] for worker in workers):
            problems.append("worker")
        if late is not None and late["n"] and now() - (late["oldest"] or now()) > LATE_S:
            problems.append("sending")
        if self.reload_error:
            problems.append("configuration")
        return {
            "status": "ok" if not problems else "degraded",
            "problems": problems,
            "jobs": jobs,
            "series": series,
            "deliveries_waiting": 0 if late is None else late["n"],
            "free_gb": round(free, 1),
            "disk_gb": round(shutil.disk_usage(self.storage).total / 1e9, 1),
            "workers": workers,
            "time": now(),
        }


def _threads_each(devices: tuple[str, ...]) -> int | None:
    """Processor threads of each worker where several share this machine; None where each may take all.

    Workers on the processor wait for each other in much of their work: two of them are quicker with all cores each.
    """
    cores = available_cores()
    on_processor = sum(device in (AUTO, CPU) for device in devices)
    shares = len(devices) if on_processor < len(devices) else (on_processor + 1) // 2
    return None if shares < 2 else max(1, cores // shares)


class _StorageLock:
    """Keeps two nodes from using one storage. The system lets go of it when the process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("a+b")
        try:
            self._take()
        except OSError as error:
            self._file.close()
            raise OutputError(
                "Another node uses this storage.",
                where=path.parent,
                fix="end the other node, or choose another `storage`",
            ) from error

    def _take(self) -> None:
        try:
            import fcntl
        except ImportError:
            import msvcrt

            self._file.seek(0)
            msvcrt.locking(self._file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def release(self) -> None:
        """Lets another node use the storage."""
        self._file.close()
