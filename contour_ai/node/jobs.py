"""Jobs: a series, a rule and a structure set whose UID is fixed from the start; deliveries of its result."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from contour_ai.dicom.rtstruct_header import structure_set_uid
from contour_ai.node.config import NodeConfig, Rule
from contour_ai.node.database import Database, Row, now, to_json

ATTEMPTS = 2
"""Attempts at a job: one whose worker process ended is tried a second time, then fails."""

REPORTS_LOOKED_AT = 50
"""Newest contoured jobs whose reports are missed; older ones had their chance."""

FIRST_RETRY_S = 10.0
LONGEST_RETRY_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class JobSettings:
    """What decides the result of a job, as the rule said when it was made.

    Args:
        model: name or folder; empty for the default one.
        require: `commissioned` where a model that is not is never used.
        send_to: names of destinations.
        hold: whether the result waits for a confirmation.
    """

    model: str
    rois: tuple[str, ...] | None
    profile: str
    derive: str | None
    template: str | None
    send_to: tuple[str, ...]
    hold: bool
    require: str | None = None

    @classmethod
    def of(cls, rule: Rule, config: NodeConfig) -> JobSettings:
        """The settings of a rule, with what it leaves to the node and the destinations."""
        hold = config.hold if rule.hold is None else rule.hold
        return cls(
            model=rule.model,
            rois=rule.rois,
            profile=rule.profile,
            derive=rule.derive,
            template=rule.template,
            send_to=rule.send_to,
            hold=hold or any(config.destinations[name].hold for name in rule.send_to),
            require=rule.require,
        )

    @classmethod
    def from_json(cls, text: str) -> JobSettings:
        """The inverse of `to_json(asdict(...))`."""
        content = json.loads(text)
        content["send_to"] = tuple(content["send_to"])
        content["rois"] = None if content["rois"] is None else tuple(content["rois"])
        return cls(**content)


class JobBook:
    """The jobs and deliveries in the database. States only change here."""

    def __init__(self, database: Database, results: Path) -> None:
        self.database, self.results = database, results
        results.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._reports_taken: set[int] = set()
        self._reports_lock = threading.Lock()

    # -- making ---------------------------------------------------------------------------------------------

    def make(
        self, series_uid: str, content: str, rule: str, settings: JobSettings, *, again: str = ""
    ) -> int | None:
        """Makes a job for a series as it is now; None where there is one for the same images and settings already.

        Older jobs of the series are superseded: what was not sent of them will not be.

        Args:
            content: hash of the images.
            again: anything that makes a job of the same images and settings another one: asked for on the page.
        """
        text = to_json(asdict(settings))
        seed = hashlib.sha256(f"{series_uid}\0{content}\0{text}\0{again}".encode()).hexdigest()[:32]
        sop_uid = structure_set_uid(seed)
        with self.database.transaction() as connection:
            found = connection.execute("SELECT id FROM jobs WHERE sop_uid = ?", (sop_uid,)).fetchone()
            if found is not None:
                return None
            connection.execute(
                "UPDATE deliveries SET state = 'cancelled', message = 'superseded' WHERE state = 'waiting' AND job IN"
                " (SELECT id FROM jobs WHERE series_uid = ?)",
                (series_uid,),
            )
            connection.execute(
                "UPDATE jobs SET state = 'superseded', message = 'superseded by a newer structure set'"
                " WHERE series_uid = ? AND state NOT IN ('failed', 'stopped')",
                (series_uid,),
            )
            cursor = connection.execute(
                "INSERT INTO jobs (series_uid, content, rule, settings, sop_uid, uid_seed, state, created_at)"
                " VALUES (?, ?, ?, ?, ?, ?, 'waiting', ?)",
                (series_uid, content, rule, text, sop_uid, seed, now()),
            )
            return int(cursor.lastrowid or 0)

    # -- working --------------------------------------------------------------------------------------------

    def take(self, leave: Sequence[str] = ()) -> Row | None:
        """The oldest job that waits, now marked as worked on; None where there is none.

        Args:
            leave: series whose jobs are left to others.
        """
        with self.database.transaction() as connection:
            row: Row | None = connection.execute(
                f"SELECT * FROM jobs WHERE state = 'waiting' AND series_uid NOT IN ({', '.join('?' * len(leave))})"
                " ORDER BY id LIMIT 1",
                tuple(leave),
            ).fetchone()
            if row is None:
                return None
            connection.execute(
                "UPDATE jobs SET state = 'working', attempts = attempts + 1, started_at = ? WHERE id = ?",
                (now(), row["id"]),
            )
            taken: Row = connection.execute("SELECT * FROM jobs WHERE id = ?", (row["id"],)).fetchone()
            return taken

    def take_without_report(self) -> Row | None:
        """The newest contoured job that has no report yet; each is given once."""
        with self._reports_lock:
            for row in self.database.rows(
                "SELECT * FROM jobs WHERE state IN ('held', 'sending', 'done', 'sent') AND folder != ''"
                " ORDER BY id DESC LIMIT ?",
                REPORTS_LOOKED_AT,
            ):
                report = self.results / row["folder"] / "report.html"
                if row["id"] not in self._reports_taken and report.parent.is_dir() and not report.is_file():
                    self._reports_taken.add(row["id"])
                    return row
        return None

    def recover(self) -> int:
        """Puts jobs that were worked on when the node ended back to waiting. Returns how many.

        The node's own end is no fault of the job: it does not count as an attempt.
        """
        return self.database.execute(
            "UPDATE jobs SET state = 'waiting', attempts = MAX(attempts - 1, 0) WHERE state = 'working'"
        )

    def worker_died(self, job: int, message: str) -> None:
        """The worker ended without an answer: the job is tried again, or set aside."""
        self.database.execute(
            "UPDATE jobs SET state = CASE WHEN attempts >= ? THEN 'failed' ELSE 'waiting' END, message = ?,"
            " finished_at = ? WHERE id = ? AND state = 'working'",
            ATTEMPTS,
            message,
            now(),
            job,
        )

    def failed(self, job: int, message: str) -> None:
        """The patient could not be contoured; trying again would change nothing."""
        self.database.execute(
            "UPDATE jobs SET state = 'failed', message = ?, finished_at = ? WHERE id = ? AND state = 'working'",
            message,
            now(),
            job,
        )

    def stopped(self, job: int, folder: Path, summary: str, message: str) -> None:
        """The verdict is `stop`: nothing is sent."""
        self.database.execute(
            "UPDATE jobs SET state = 'stopped', verdict = 'stop', folder = ?, summary = ?, message = ?, finished_at = ?"
            " WHERE id = ? AND state = 'working'",
            folder.relative_to(self.results).as_posix(),
            summary,
            message,
            now(),
            job,
        )

    def contoured(self, job: int, structure_set: Path, verdict: str, summary: str) -> None:
        """A result is there: it is sent, or waits for a confirmation, or stays on the page."""
        with self.database.transaction() as connection:
            row = connection.execute("SELECT * FROM jobs WHERE id = ?", (job,)).fetchone()
            if row is None or row["state"] != "working":
                return  # superseded meanwhile
            settings = JobSettings.from_json(row["settings"])
            state = "held" if settings.hold else "sending" if settings.send_to else "done"
            connection.execute(
                "UPDATE jobs SET state = ?, folder = ?, structure_set = ?, verdict = ?, summary = ?, finished_at = ?,"
                " message = '' WHERE id = ?",
                (
                    state,
                    structure_set.parent.relative_to(self.results).as_posix(),
                    structure_set.name,
                    verdict,
                    summary,
                    now(),
                    job,
                ),
            )
            if state == "sending":
                _deliveries(connection, job, settings.send_to)

    def confirm(self, job: int, who: str) -> bool:
        """Lets a held result go; False where it was not held."""
        with self.database.transaction() as connection:
            row = connection.execute("SELECT * FROM jobs WHERE id = ? AND state = 'held'", (job,)).fetchone()
            if row is None:
                return False
            send_to = JobSettings.from_json(row["settings"]).send_to
            connection.execute(
                "UPDATE jobs SET state = ?, confirmed_by = ? WHERE id = ?",
                ("sending" if send_to else "done", who, job),
            )
            _deliveries(connection, job, send_to)
            return True

    # -- sending --------------------------------------------------------------------------------------------

    def due(self, destination: str) -> list[Row]:
        """Deliveries to a destination whose time has come, with their job's file.

        One that was put off for longer than the longest wait was put off by another clock: its time has come, too.
        """
        return self.database.rows(
            "SELECT deliveries.*, jobs.folder, jobs.structure_set, jobs.sop_uid FROM deliveries JOIN jobs"
            " ON jobs.id = deliveries.job WHERE deliveries.state = 'waiting' AND destination = ?"
            " AND (next_at <= ? OR next_at > ?) ORDER BY next_at",
            destination,
            now(),
            now() + 2 * LONGEST_RETRY_S,
        )

    def delivered(self, delivery: int) -> None:
        """A destination has the result; the job is sent once all have it."""
        with self.database.transaction() as connection:
            connection.execute(
                "UPDATE deliveries SET state = 'sent', sent_at = ?, message = '' WHERE id = ?",
                (now(), delivery),
            )
            job = connection.execute("SELECT job FROM deliveries WHERE id = ?", (delivery,)).fetchone()["job"]
            waiting = connection.execute(
                "SELECT COUNT(*) FROM deliveries WHERE job = ? AND state = 'waiting'", (job,)
            ).fetchone()[0]
            if not waiting:
                connection.execute(
                    "UPDATE jobs SET state = 'sent', sent_at = ? WHERE id = ? AND state = 'sending'",
                    (now(), job),
                )

    def not_delivered(self, delivery: int, message: str) -> None:
        """A destination did not take the result: it is tried again, after longer and longer waits."""
        row = self.database.row("SELECT attempts FROM deliveries WHERE id = ?", delivery)
        attempts = 0 if row is None else int(row["attempts"])
        wait = min(FIRST_RETRY_S * 2.0**attempts, LONGEST_RETRY_S)
        self.database.execute(
            "UPDATE deliveries SET attempts = attempts + 1, next_at = ?, message = ? WHERE id = ?",
            now() + wait,
            message,
            delivery,
        )

    def resend(self, job: int, destinations: Sequence[str]) -> None:
        """Sends a result (again) to destinations, at once; what was committed before does not count."""
        with self.database.transaction() as connection:
            connection.execute(
                "DELETE FROM commitments WHERE sop_uid = (SELECT sop_uid FROM jobs WHERE id = ?)", (job,)
            )
            _deliveries(connection, job, destinations)
            connection.execute(
                "UPDATE jobs SET state = 'sending' WHERE id = ? AND state IN ('sent', 'done', 'sending')",
                (job,),
            )

    # -- files ----------------------------------------------------------------------------------------------

    def folder_of(self, job: int) -> Path:
        """Where a job's results go."""
        return self.results / f"job-{job:06d}"

    def forget_files(self, job: int) -> None:
        """Removes a job's results."""
        shutil.rmtree(self.folder_of(job), ignore_errors=True)


def _deliveries(connection: object, job: int, destinations: Sequence[str]) -> None:
    for name in destinations:
        connection.execute(  # type: ignore[attr-defined]
            "INSERT INTO deliveries (job, destination, state, next_at) VALUES (?, ?, 'waiting', ?)"
            " ON CONFLICT (job, destination) DO UPDATE SET state = 'waiting', next_at = excluded.next_at, attempts = 0",
            (job, name, now()),
        )
