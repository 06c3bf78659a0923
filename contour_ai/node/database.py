"""The node's memory: one SQLite database (WAL), with short transactions that say what is to be done next."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from contour_ai.errors import InputError

SCHEMA_VERSION = 1
BUSY_S = 60.0
"""How long to wait for a lock that another program (a backup) holds."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS associations (
    id INTEGER PRIMARY KEY, calling_ae TEXT NOT NULL, called_ae TEXT NOT NULL, host TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'released', 'aborted')), opened_at REAL NOT NULL, closed_at REAL,
    last_opened INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS instances (
    sop_uid TEXT PRIMARY KEY, series_uid TEXT NOT NULL, path TEXT NOT NULL, sha256 TEXT NOT NULL,
    received_at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS instances_of_series ON instances (series_uid);
CREATE TABLE IF NOT EXISTS touches (
    association INTEGER NOT NULL, series_uid TEXT NOT NULL, PRIMARY KEY (association, series_uid)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS touches_of_series ON touches (series_uid);
CREATE TABLE IF NOT EXISTS series (
    series_uid TEXT PRIMARY KEY, study_uid TEXT NOT NULL, patient_id TEXT NOT NULL, patient_name TEXT NOT NULL,
    facts TEXT NOT NULL, first_at REAL NOT NULL, last_at REAL NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('receiving', 'incomplete', 'complete', 'unmatched', 'ask', 'contoured',
                                         'set aside', 'deleted')),
    reason TEXT NOT NULL DEFAULT '', content TEXT NOT NULL DEFAULT '', released INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS aside (
    id INTEGER PRIMARY KEY, sop_uid TEXT NOT NULL, path TEXT NOT NULL, reason TEXT NOT NULL, received_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS jobs (
    id INTEGER PRIMARY KEY, series_uid TEXT NOT NULL, content TEXT NOT NULL, rule TEXT NOT NULL, settings TEXT NOT NULL,
    sop_uid TEXT NOT NULL UNIQUE, uid_seed TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'working', 'held', 'sending', 'sent', 'stopped', 'failed',
                                         'superseded', 'done')),
    attempts INTEGER NOT NULL DEFAULT 0, created_at REAL NOT NULL, started_at REAL, finished_at REAL, sent_at REAL,
    folder TEXT NOT NULL DEFAULT '', structure_set TEXT NOT NULL DEFAULT '', verdict TEXT NOT NULL DEFAULT '',
    summary TEXT NOT NULL DEFAULT '', message TEXT NOT NULL DEFAULT '', confirmed_by TEXT NOT NULL DEFAULT '',
    UNIQUE (series_uid, content, settings, uid_seed)
);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state);
CREATE TABLE IF NOT EXISTS deliveries (
    id INTEGER PRIMARY KEY, job INTEGER NOT NULL REFERENCES jobs (id), destination TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'sent', 'cancelled')),
    attempts INTEGER NOT NULL DEFAULT 0, next_at REAL NOT NULL, sent_at REAL, message TEXT NOT NULL DEFAULT '',
    UNIQUE (job, destination)
);
CREATE TABLE IF NOT EXISTS returned (
    sop_uid TEXT PRIMARY KEY, path TEXT NOT NULL, series_uid TEXT NOT NULL, job INTEGER, received_at REAL NOT NULL,
    approved INTEGER NOT NULL, sha256 TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS commitments (
    sop_uid TEXT NOT NULL, ae_title TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (sop_uid, ae_title)
);
CREATE TABLE IF NOT EXISTS ratings (
    job INTEGER NOT NULL, roi TEXT NOT NULL, rating TEXT NOT NULL, reason TEXT NOT NULL, by TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (job, roi)
);
CREATE TABLE IF NOT EXISTS watched (
    path TEXT PRIMARY KEY, size INTEGER NOT NULL, modified REAL NOT NULL, taken_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS alerts (subject TEXT PRIMARY KEY, at REAL NOT NULL);
"""

Row = sqlite3.Row


class Database:
    """The one connection of a node, used by one thread at a time; what was written is on disk when a call returns.

    Threads come and go with every association; connections of their own would add up.

    Raises:
        InputError: the file is of another version of contour-ai.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(
            path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
        )
        path.chmod(0o600)
        self._connection.row_factory = sqlite3.Row
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            self._connection.execute(f"PRAGMA {pragma}")
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, SCHEMA_VERSION):
            raise InputError(
                "The node's database is of another version of contour-ai.",
                where=path,
                found=version,
                expected=SCHEMA_VERSION,
                fix="run the version that made it, or choose another `storage`",
            )
        self._connection.executescript(SCHEMA)
        self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A transaction that takes the write lock at once, so that what it reads is what it changes.

        Inside another one of the same thread it is a part of that: both are kept, or neither.
        """
        with self._lock:
            if self._connection.in_transaction:
                yield self._connection
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def rows(self, sql: str, *values: object) -> list[Row]:
        """All rows of a query."""
        with self._lock:
            return self._connection.execute(sql, values).fetchall()

    def row(self, sql: str, *values: object) -> Row | None:
        """The first row of a query; None where there is none."""
        with self._lock:
            found: Row | None = self._connection.execute(sql, values).fetchone()
            return found

    def execute(self, sql: str, *values: object) -> int:
        """One statement as a transaction of its own; the number of rows it changed."""
        with self._lock:
            return self._connection.execute(sql, values).rowcount

    def insert(self, sql: str, *values: object) -> int:
        """Inserts a row; its number."""
        with self._lock:
            return int(self._connection.execute(sql, values).lastrowid or 0)

    def backup(self, path: Path) -> None:
        """A consistent copy while the node runs."""
        target = sqlite3.connect(path)
        try:
            with self._lock:
                self._connection.backup(target)
        finally:
            target.close()

    def close(self) -> None:
        """Closes the connection; the database must not be used after it."""
        with self._lock:
            self._connection.close()


def now() -> float:
    """Seconds since 1970."""
    return time.time()


def to_json(value: object) -> str:
    """JSON with sorted keys, so that equal values are equal texts."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
