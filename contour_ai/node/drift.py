"""Looks at what was edited at the approved contours that came back, and gives an alert where a control chart alarms."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from contour_ai.errors import InputError
from contour_ai.monitoring.kept import TABLE, from_text, to_text
from contour_ai.monitoring.measure import measure_edits
from contour_ai.monitoring.pairs import pairs_of_node
from contour_ai.monitoring.records import Edit
from contour_ai.monitoring.summary import RoiChart, roi_charts
from contour_ai.node.alerts import alert
from contour_ai.node.config import Alerts
from contour_ai.node.database import Database

logger = logging.getLogger(__name__)


def look_for_drift(storage: Path, database: Database, settings: Alerts) -> list[str]:
    """Measures what came back since the last look; alerts once for every ROI and month with alarms.

    Returns:
        The subjects of the alerts that are new. None of them names a patient.
    """
    measure_returned(storage, database)
    edits = [e for row in database.rows(LAST) for e in from_text(row["content"])]
    fresh = []
    for subject, figures in _by_month(
        roi_charts(sorted(edits, key=lambda e: (e.date, e.series_uid, e.roi)))
    ).items():
        if database.row("SELECT 1 FROM alerts WHERE subject = ?", subject):
            continue
        way = f"`contour-ai monitor {storage} --out DIR` names the patients and draws the charts."
        text = f"{'; '.join(figures)}. {way}"
        if not alert(settings, database, subject, text):
            logger.warning("%s. %s", subject, text)
            database.execute("INSERT OR REPLACE INTO alerts (subject, at) VALUES (?, 0)", subject)
        fresh.append(subject)
    return fresh


def _by_month(charts: Sequence[RoiChart]) -> dict[str, list[str]]:
    """{subject of an alert: alarms}, one for each ROI, model and month: many charts have many false alarms."""
    found: dict[str, list[str]] = {}
    for one in charts:
        for alarm in one.chart.alarms:
            month = one.dates[alarm.index][:7] or "no date"
            subject = f"drift: {one.roi}, {one.models[alarm.index] or 'unknown model'}, {month}"
            where = f"at patient {alarm.index + 1} of {len(one.patients)} by date"
            found.setdefault(subject, []).append(f"{one.figure}: {alarm.rule} {where}")
    return found


LAST = "SELECT content FROM edits WHERE rowid IN (SELECT MAX(rowid) FROM edits GROUP BY series_uid)"
"""Of each series the structure set that was measured last."""


def measure_returned(storage: Path, database: Database) -> int:
    """Measures the approved structure sets that were not measured yet, and keeps the figures; how many."""
    database.execute(TABLE)
    try:
        pairs, _ = pairs_of_node(storage)
    except InputError:
        return 0
    count = 0
    for pair in pairs:
        if database.row("SELECT 1 FROM edits WHERE approved = ?", pair.approved.name):
            continue
        edits, notes = measure_edits([pair])
        for note in notes:
            logger.warning("approved contours of a series could not be compared: %s", note)
        _keep(database, pair.approved.name, pair.series_uid, edits)
        count += 1
    return count


def _keep(database: Database, approved: str, series_uid: str, edits: list[Edit]) -> None:
    database.execute(
        "INSERT OR REPLACE INTO edits (approved, series_uid, content) VALUES (?, ?, ?)",
        approved,
        series_uid,
        to_text(edits),
    )
