"""The node's side of its workers: one process and one thread for each device."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO

from contour_ai.node.beginnings import Beginnings
from contour_ai.node.database import Row
from contour_ai.node.jobs import JobBook, JobSettings
from contour_ai.node.worker import KEPT_S, Answer, Order
from contour_ai.settings import from_mapping

logger = logging.getLogger(__name__)

LOG_TAIL_BYTES = 20_000
START_LIMIT_S = 300
PAUSE_S = 1.0
OWN_GROUP_ON_WINDOWS = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
COMMAND = (sys.executable, "-m", "contour_ai.node.worker")
"""Starts a worker; the device is added."""


class Worker(threading.Thread):
    """Takes jobs and has its process carry them out; a process that ends is replaced.

    Args:
        device: of the process.
        book: the jobs.
        images: gives the folder of a series' images.
        beginnings: series to begin with before their jobs are made.
        title: tells it from others, in messages and the names of files; the device where None.
        warm: models to load at the start.
        threads: of the processor; None for as many as the system and OMP_NUM_THREADS give.
        on_ready: told the device that a started process computes on.
        on_finished: told the job when something became of it.
    """

    def __init__(
        self,
        device: str,
        book: JobBook,
        images: Callable[[str], Path],
        beginnings: Beginnings,
        *,
        title: str | None = None,
        warm: Sequence[str] = (),
        job_limit_s: float = 3600,
        threads: int | None = None,
        on_ready: Callable[[str], None] = lambda device: None,
        on_finished: Callable[[int], None] = lambda job: None,
    ) -> None:
        self.title = title or device
        super().__init__(name=f"worker {self.title}", daemon=True)
        self.device, self.book, self.images, self.beginnings = device, book, images, beginnings
        self.warm, self.job_limit_s = tuple(warm), job_limit_s
        self.on_ready, self.on_finished = on_ready, on_finished
        # PASSIVE: threads that wait give the processor away, as receiving and other workers need it, too.
        self.environment = {"PYTHONUTF8": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        if threads is not None and "OMP_NUM_THREADS" not in os.environ:
            self.environment["OMP_NUM_THREADS"] = str(threads)
        self.wake = threading.Event()
        self._ending = threading.Event()
        self._changing = threading.RLock()
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[Mapping[str, object] | None] = queue.Queue()
        self._begun, self._begun_at = "", 0.0
        self._log: IO[bytes] | None = None
        self.log_path = book.results / f"worker-{self.title.replace(':', '-').replace(' ', '-')}.log"

    def run(self) -> None:
        """Until `stop`: the next job, or a short wait."""
        while not self._ending.is_set():
            try:
                if not self._work_once():
                    self.wake.wait(PAUSE_S)
                    self.wake.clear()
            except Exception:
                if not self._ends():
                    logger.exception("worker %s could not take up a job", self.title)
        self._end_process()

    def stop(self) -> None:
        """Ends the process; a job that it works on goes back to waiting at the next start."""
        with self._changing:  # so that no process starts unnoticed
            self._ending.set()
            self._end_process()
        self.wake.set()

    def _ends(self) -> bool:
        """Whether the node ends, asked when the process is gone: what ends both may reach the process first."""
        return self._ending.wait(PAUSE_S)

    @property
    def process_id(self) -> int | None:
        """Of the running process; None where there is none."""
        process = self._process
        return None if process is None or process.poll() is not None else process.pid

    def _work_once(self) -> bool:
        if not self._has_process():
            return False
        job = self.book.take(leave=self.beginnings.of_others(self.title))
        if job is None:
            self._begin_next()
            return not self._has_begun() and self._report_once()
        self.beginnings.free(self.title)
        self.beginnings.forget(job["series_uid"])
        if job["series_uid"] == self._begun:
            self._begun = ""
        log_start = self.log_path.stat().st_size
        answer = self._ask(_order(job, self.book, self.images))
        self._keep_log(job["id"], log_start)
        if answer is None:
            if not self._ends():
                logger.error("worker %s died or hung during job %d", self.title, job["id"])
                self.book.worker_died(job["id"], "the worker process ended or did not finish in time")
                self._end_process()
        else:
            self._record(answer)
        self.on_finished(job["id"])
        return True

    def _has_begun(self) -> bool:
        """Whether the process keeps a patient whose job is to come."""
        return bool(self._begun) and time.monotonic() - self._begun_at < KEPT_S

    def _begin_next(self) -> None:
        """Where nobody waits: gives the process a series whose job is about to be made."""
        claimed = None if self._has_begun() else self.beginnings.claim(self.title)
        if claimed is not None:
            series_uid, settings = claimed
            self._begun, self._begun_at = series_uid, time.monotonic()
            self._write({"begin": asdict(_order_of(settings, self.images(series_uid)))})

    def _report_once(self) -> bool:
        """Where nobody waits: the report of a patient whose structure set is on its way."""
        job = self.book.take_without_report()
        if job is None:
            return False
        log_start = self.log_path.stat().st_size
        self._write(
            {
                "report": {
                    "folder": str(self.book.results / job["folder"]),
                    "images": str(self.images(job["series_uid"])),
                }
            }
        )
        answer = self._next_answer(self.job_limit_s)
        if answer is None:
            if not self._ends():
                logger.error("worker %s died or hung at the report of job %d", self.title, job["id"])
            self._end_process()
        elif not answer.get("reported"):
            logger.warning("job %d has no report; see its log", job["id"])
            self._keep_log(job["id"], log_start)
        return True

    def _record(self, answer: Answer) -> None:
        if answer.outcome == "contoured":
            structure_set = Path(answer.structure_set)
            self.book.contoured(
                answer.job, structure_set, answer.verdict, _summary_text(structure_set.parent)
            )
        elif answer.outcome == "stopped":
            folder = Path(answer.structure_set).parent
            self.book.stopped(answer.job, folder, _summary_text(folder), answer.message)
        else:
            self.book.failed(answer.job, answer.message)

    # -- the process ----------------------------------------------------------------------------------------

    def _has_process(self) -> bool:
        """Starts a process where there is none; False where the node ends.

        Raises:
            RuntimeError: it did not start.
        """
        if self.process_id is not None:
            return True
        if not self._start_process():
            return False
        ready = self._next_answer(START_LIMIT_S)
        if ready is None:
            if self._ends():
                return False
            raise RuntimeError(f"the process of worker {self.title} did not start; see {self.log_path}")
        if self.warm:
            self._write({"warm": list(self.warm)})
        self.on_ready(str(ready.get("device", "")))
        return True

    def _start_process(self) -> bool:
        """False where the node ends."""
        with self._changing:
            self._end_process()
            if self._ending.is_set():
                return False
            self._log = self.log_path.open("ab")
            self.log_path.chmod(0o600)
            self._answers = queue.Queue()
            self._process = subprocess.Popen(
                [*COMMAND, self.device],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
                encoding="utf-8",
                bufsize=1,
                env={**os.environ, **self.environment},
                start_new_session=True,  # Ctrl-C in the node's terminal is for the node
                creationflags=OWN_GROUP_ON_WINDOWS,
            )
            threading.Thread(target=_read, args=(self._process, self._answers), daemon=True).start()
        return True

    def _ask(self, order: Order) -> Answer | None:
        """The answer to an order; None where the process ended, or took longer than the limit."""
        try:
            self._write(asdict(order))
        except OSError:
            return None
        content = self._next_answer(self.job_limit_s)
        return None if content is None else from_mapping(Answer, content)

    def _next_answer(self, limit_s: float) -> Mapping[str, object] | None:
        try:
            return self._answers.get(timeout=limit_s)
        except queue.Empty:
            return None

    def _write(self, content: Mapping[str, object]) -> None:
        process = self._process
        if process is None or process.stdin is None:
            raise BrokenPipeError
        process.stdin.write(json.dumps(content) + "\n")
        process.stdin.flush()

    def _end_process(self) -> None:
        with self._changing:
            process, self._process = self._process, None
            self._begun = ""
            self.beginnings.free(self.title)
            if process is not None:
                process.kill()
                process.wait()
                if process.stdin is not None:
                    with contextlib.suppress(OSError):  # it holds an order that the process did not read
                        process.stdin.close()
            if self._log is not None:
                self._log.close()
                self._log = None

    def _keep_log(self, job: int, start: int) -> None:
        """What the process said during a job, beside its result."""
        try:
            with self.log_path.open("rb") as file:
                file.seek(start)
                logged = file.read()[-LOG_TAIL_BYTES:]
            if logged.strip():
                path = self.book.results / f"job-{job:06d}.log"
                path.write_bytes(logged)
                path.chmod(0o600)
        except OSError as error:
            logger.warning("the log of job %d could not be kept: %s", job, error)


def _read(process: subprocess.Popen[str], answers: queue.Queue[Mapping[str, object] | None]) -> None:
    """Hands on the answers of a process; None when it has ended. Its output is read, and closed, by this alone."""
    assert process.stdout is not None
    with process.stdout as output:
        try:
            for line in output:
                answers.put(json.loads(line))
        except ValueError:
            logger.error("the worker process wrote a line that is no answer")
    answers.put(None)


def _order(job: Row, book: JobBook, images: Callable[[str], Path]) -> Order:
    settings = JobSettings.from_json(job["settings"])
    order = _order_of(settings, images(job["series_uid"]))
    return replace(order, job=job["id"], out_dir=str(book.folder_of(job["id"])), uids_from=job["uid_seed"])


def _order_of(settings: JobSettings, images: Path) -> Order:
    """An order without a job: it can be begun with."""
    return Order(
        job=0,
        images=str(images),
        out_dir="",
        model=settings.model,
        rois=settings.rois,
        profile=settings.profile,
        derive=settings.derive,
        template=settings.template,
        require=settings.require,
        uids_from="",
    )


def _summary_text(folder: Path) -> str:
    try:
        return (folder / "summary.json").read_text(encoding="utf-8")
    except OSError:
        return ""
