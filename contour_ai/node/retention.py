"""Deletes images and results after their days, and never before they are sent."""

from __future__ import annotations

import shutil

from contour_ai.node.audit import AuditLog
from contour_ai.node.config import Retention
from contour_ai.node.database import Database, now
from contour_ai.node.jobs import JobBook
from contour_ai.node.store import ImageStore

DAY_S = 86_400.0
PENDING = ("waiting", "working", "held", "sending")
"""States of a job whose result somebody still waits for."""


def delete_old(keep: Retention, database: Database, store: ImageStore, book: JobBook, audit: AuditLog) -> int:
    """Deletes what is old enough; returns how many series and jobs lost their files.

    A series is as old as its last image or its last result, whichever is later.
    """
    return _images(keep, database, store, audit) + _results(keep, database, store, book, audit)


def _images(keep: Retention, database: Database, store: ImageStore, audit: AuditLog) -> int:
    pending = ", ".join(f"'{state}'" for state in PENDING)
    old = database.rows(
        "SELECT series_uid FROM series WHERE state NOT IN ('deleted', 'receiving', 'ask') AND last_at < ?"
        f" AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.series_uid = series.series_uid AND (state IN ({pending})"
        " OR COALESCE(finished_at, created_at) >= ?))",
        *(now() - keep.images_days * DAY_S,) * 2,
    )
    for row in old:
        series_uid = row["series_uid"]
        with database.transaction() as connection:
            connection.execute(
                "UPDATE series SET state = 'deleted', reason = 'images deleted after their days' WHERE series_uid = ?",
                (series_uid,),
            )
            connection.execute("DELETE FROM instances WHERE series_uid = ?", (series_uid,))
        shutil.rmtree(store.series_folder(series_uid), ignore_errors=True)
        audit.write("node", "deleted images", series=series_uid)
    return len(old)


def _results(keep: Retention, database: Database, store: ImageStore, book: JobBook, audit: AuditLog) -> int:
    limit = now() - keep.results_days * DAY_S
    pending = ", ".join(f"'{state}'" for state in PENDING)
    old = database.rows(
        f"SELECT id FROM jobs WHERE folder != '' AND state NOT IN ({pending}) AND"
        " COALESCE(sent_at, finished_at, created_at) < ?",
        limit,
    )
    for row in old:
        database.execute("UPDATE jobs SET folder = '', structure_set = '' WHERE id = ?", row["id"])
        book.forget_files(row["id"])
        audit.write("node", "deleted results", job=row["id"])
    for row in database.rows("SELECT sop_uid, path FROM returned WHERE received_at < ?", limit):
        (store.root / row["path"]).unlink(missing_ok=True)
        database.execute("DELETE FROM returned WHERE sop_uid = ?", row["sop_uid"])
    for row in database.rows("SELECT id, path FROM aside WHERE received_at < ?", limit):
        (store.root / row["path"]).unlink(missing_ok=True)
        database.execute("DELETE FROM aside WHERE id = ?", row["id"])
    return len(old)
