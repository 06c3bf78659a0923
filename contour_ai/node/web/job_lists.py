"""What the page shows: series and jobs as rows for a person, from the database and the summaries of results."""

from __future__ import annotations

import json
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from contour_ai.errors import ConfigError
from contour_ai.node.database import Database, Row
from contour_ai.pipeline.summary import Summary, parse_summary

STATES = {
    "receiving": "arriving",
    "incomplete": "incomplete",
    "complete": "complete",
    "unmatched": "no rule",
    "ask": "question",
    "set aside": "set aside",
    "waiting": "waiting",
    "working": "working",
    "held": "held",
    "sending": "sending",
    "sent": "sent",
    "done": "done",
    "stopped": "stopped",
    "failed": "failed",
    "superseded": "superseded",
    "deleted": "deleted",
}
"""State of a series or job: the word on the page."""

NEEDS_SOMEBODY = ("incomplete", "ask", "held", "stopped", "failed")
LISTED = 200
DAY_S = 86_400.0

GROUPS = {
    "all": None,
    "needs somebody": NEEDS_SOMEBODY,
    "under way": ("receiving", "complete", "waiting", "working", "sending"),
    "sent": ("sent", "done"),
    "stopped or failed": ("stopped", "failed"),
    "not contoured": ("unmatched", "incomplete", "set aside"),
}
"""Filters of the worklist."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the worklist: a series with its last job, if it has one."""

    series: int
    job: int | None
    at: str
    patient_id: str
    patient_name: str
    description: str
    slices: int
    rule: str
    model: str
    verdict: str
    state: str
    state_word: str
    message: str
    phantom: bool = False


@dataclass(frozen=True, kw_only=True)
class RoiLine:
    """One ROI of a result."""

    name: str
    volume_cm3: float | None
    slices: str
    verdict: str
    reasons: tuple[str, ...]
    rating: str = ""
    rating_reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Today:
    """Counts and times of the last 24 hours.

    Args:
        waiting: jobs that wait or are worked on; `oldest_wait_s` is since when the first of them waits.
        unsent: deliveries that wait; `failing` of them failed before.
        median_s, p95_s: from the last slice to the destination.
        hours: series that arrived in each hour of the day, local time, from 0.
    """

    arrived: int = 0
    contoured: int = 0
    sent: int = 0
    stopped: int = 0
    failed: int = 0
    waiting: int = 0
    oldest_wait_s: float = 0.0
    unsent: int = 0
    failing: int = 0
    median_s: float | None = None
    p95_s: float | None = None
    hours: tuple[int, ...] = (0,) * 24
    rules: dict[str, int] = field(default_factory=dict)


def when(seconds: float | None) -> str:
    """Local date and time, to the second."""
    return "" if seconds is None else datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


def worklist(database: Database, group: str = "all", search: str = "") -> list[Line]:
    """The newest lines, those of a filter and a search in patient, description and rule."""
    rows = database.rows(
        "SELECT series.rowid AS number, series.*, jobs.id AS job, jobs.rule AS rule, jobs.settings AS settings,"
        " jobs.verdict AS verdict, jobs.state AS job_state, jobs.message AS message,"
        " (SELECT COUNT(*) FROM instances WHERE instances.series_uid = series.series_uid) AS slices,"
        " (SELECT COUNT(*) FROM aside JOIN instances USING (sop_uid) WHERE instances.series_uid = series.series_uid)"
        " AS aside, CASE WHEN json_valid(jobs.summary) THEN json_extract(jobs.summary, '$.model.kind') END AS kind"
        " FROM series LEFT JOIN jobs ON jobs.id ="
        " (SELECT MAX(id) FROM jobs WHERE jobs.series_uid = series.series_uid) ORDER BY last_at DESC"
    )
    lines = [_line(row) for row in rows]
    wanted = GROUPS.get(group)
    folded = search.casefold().strip()
    return [
        line
        for line in lines
        if (wanted is None or line.state in wanted)
        and folded in f"{line.patient_id} {line.patient_name} {line.description} {line.rule}".casefold()
    ][:LISTED]


def _line(row: Row) -> Line:
    facts = json.loads(row["facts"])
    state = (
        row["job_state"] if row["state"] in ("contoured", "deleted") and row["job_state"] else row["state"]
    )
    settings = json.loads(row["settings"]) if row["settings"] else {}
    aside = f"{row['aside']} other image(s) of the same UID kept aside" if row["aside"] else ""
    return Line(
        series=row["number"],
        job=row["job"],
        at=when(row["last_at"]),
        patient_id=row["patient_id"],
        patient_name=row["patient_name"].replace("^", " ").strip(),
        description=facts.get("SeriesDescription", ""),
        slices=row["slices"],
        rule=row["rule"] or "",
        model=settings.get("model", "") or ("default" if settings else ""),
        verdict=row["verdict"] or "",
        state=state,
        state_word=STATES.get(state, state),
        message="; ".join(part for part in (row["message"] or row["reason"], aside) if part),
        phantom=row["kind"] == "phantom",
    )


def today(database: Database) -> Today:
    """Counts of the last 24 hours, and the median time from the last slice to the destination."""
    since = time.time() - DAY_S

    def count(sql: str) -> int:
        row = database.row(sql, since)
        return 0 if row is None else int(row[0])

    times = [
        row["seconds"]
        for row in database.rows(
            "SELECT jobs.sent_at - series.last_at AS seconds FROM jobs JOIN series USING (series_uid)"
            " WHERE jobs.sent_at > ? AND jobs.sent_at >= series.last_at",
            since,
        )
    ]
    rules = database.rows(
        "SELECT rule, COUNT(*) n FROM jobs WHERE created_at > ? GROUP BY rule ORDER BY n DESC", since
    )
    waiting = database.row(
        "SELECT COUNT(*) n, MIN(created_at) at FROM jobs WHERE state IN ('waiting', 'working')"
    )
    unsent = database.row(
        "SELECT COUNT(*) n, COALESCE(SUM(attempts > 0), 0) failing FROM deliveries WHERE state = 'waiting'"
    )
    assert waiting is not None and unsent is not None
    arrivals = Counter(
        datetime.fromtimestamp(row["first_at"]).hour
        for row in database.rows("SELECT first_at FROM series WHERE first_at > ?", since)
    )
    return Today(
        arrived=count("SELECT COUNT(*) FROM series WHERE first_at > ?"),
        contoured=count("SELECT COUNT(*) FROM jobs WHERE structure_set != '' AND finished_at > ?"),
        sent=count("SELECT COUNT(*) FROM jobs WHERE sent_at > ?"),
        stopped=count("SELECT COUNT(*) FROM jobs WHERE state = 'stopped' AND finished_at > ?"),
        failed=count("SELECT COUNT(*) FROM jobs WHERE state = 'failed' AND finished_at > ?"),
        waiting=int(waiting["n"]),
        oldest_wait_s=max(0.0, time.time() - waiting["at"]) if waiting["n"] else 0.0,
        unsent=int(unsent["n"]),
        failing=int(unsent["failing"]),
        median_s=statistics.median(times) if times else None,
        p95_s=sorted(times)[round(0.95 * (len(times) - 1))] if times else None,
        hours=tuple(arrivals[hour] for hour in range(24)),
        rules={row["rule"]: row["n"] for row in rules},
    )


def is_phantom(job: Row) -> bool:
    """Whether a phantom model made a result."""
    summary = summary_of(job)
    return summary is not None and summary.model.kind == "phantom"


def summary_of(job: Row) -> Summary | None:
    """What the prediction found; None before there is one, and where it cannot be read."""
    try:
        return parse_summary(job["summary"] or "{}")
    except ConfigError:
        return None


def roi_lines(job: Row, database: Database) -> list[RoiLine]:
    """The ROIs of a result with verdict and reasons, the worst first."""
    summary = summary_of(job)
    if summary is None:
        return []
    ratings = {r["roi"]: r for r in database.rows("SELECT * FROM ratings WHERE job = ?", job["id"])}
    lines = []
    for name, roi in summary.rois.items():
        flags, slices = roi.findings or roi.flags, roi.slices_from_1
        rating = ratings.get(name)
        lines.append(
            RoiLine(
                name=name,
                volume_cm3=roi.volume_cm3,
                slices="" if slices is None else f"{slices[0]} to {slices[1]}",
                verdict=roi.verdict or ("look" if flags else ""),
                reasons=tuple(flag.reason for flag in flags),
                rating="" if rating is None else rating["rating"],
                rating_reason="" if rating is None else rating["reason"],
            )
        )
    order = {"stop": 0, "look": 1, "": 2, "clear": 3}
    return sorted(lines, key=lambda line: order.get(line.verdict, 2))
