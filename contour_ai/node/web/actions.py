"""What a person can do on the page; every action says what it did, and stands in the audit log."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace

from contour_ai.node.config import Rule
from contour_ai.node.database import Row, now
from contour_ai.node.jobs import JobSettings
from contour_ai.node.rules import choose_rule
from contour_ai.node.service import Node
from contour_ai.node.web.job_lists import summary_of

Form = dict[str, str]


class RefusedError(Exception):
    """What was asked for cannot be done now; the text says why."""


def release(node: Node, series: Row, form: Form, user: str) -> str:
    """Takes a series as it is, although its connection was cut off."""
    if series["state"] not in ("receiving", "incomplete"):
        raise RefusedError("the series does not wait for images")
    node.database.execute(
        "UPDATE series SET released = 1, state = 'receiving', reason = '' WHERE series_uid = ?",
        series["series_uid"],
    )
    node.audit.write(user, "released series", series=series["series_uid"])
    return "taken as it is, unless slices are missing"


def contour(node: Node, series: Row, form: Form, user: str) -> str:
    """Contours a series by its rule, or with another model."""
    if not node.store.paths(series["series_uid"]):
        raise RefusedError("its images are deleted")
    if series["state"] == "receiving":
        raise RefusedError("its images are still arriving")
    if series["state"] == "incomplete":
        raise RefusedError("slices are missing")
    choice = choose_rule(node.config.rules, node.intake.facts(series))
    rule, name = choice.rule or Rule(), choice.name or "by hand"
    if form.get("model"):
        rule, name = replace(rule, model=form["model"]), f"{name}, model {form['model']}"
    again = uuid.uuid4().hex
    if not node.intake.contour(series, rule, name, again=again, by=user):
        raise RefusedError("there is a job for it already")
    node.database.execute(
        "UPDATE series SET state = 'contoured', reason = '' WHERE series_uid = ?", series["series_uid"]
    )
    return "a job was made"


def set_series_aside(node: Node, series: Row, form: Form, user: str) -> str:
    """Takes a series out of the lists of what is to be done."""
    node.database.execute(
        "UPDATE series SET state = 'set aside', reason = ? WHERE series_uid = ?",
        f"set aside by {user}",
        series["series_uid"],
    )
    node.audit.write(user, "set series aside", series=series["series_uid"])
    return "set aside"


def confirm(node: Node, job: Row, form: Form, user: str) -> str:
    """Lets a held result go."""
    if not node.book.confirm(job["id"], user):
        raise RefusedError("the result is not held")
    node.audit.write(user, "confirmed", job=job["id"])
    return "confirmed"


def resend(node: Node, job: Row, form: Form, user: str) -> str:
    """Sends a result again."""
    if not job["structure_set"]:
        raise RefusedError("there is no structure set to send")
    if job["state"] == "held":
        raise RefusedError("the result waits for a confirmation")
    if job["state"] == "superseded":
        raise RefusedError("a newer structure set has taken its place")
    known = (
        [form["destination"]]
        if form.get("destination")
        else list(JobSettings.from_json(job["settings"]).send_to)
    )
    destinations = [name for name in known if name in node.config.destinations]
    if not destinations:
        raise RefusedError("there is no such destination")
    node.book.resend(job["id"], destinations)
    node.audit.write(user, "resent", job=job["id"], destinations=destinations)
    return f"sent again to {', '.join(destinations)}"


def again(node: Node, job: Row, form: Form, user: str) -> str:
    """Contours the patient of a job again, with the same or another model."""
    series = node.database.row("SELECT * FROM series WHERE series_uid = ?", job["series_uid"])
    if series is None or not node.store.paths(job["series_uid"]):
        raise RefusedError("its images are deleted")
    settings = JobSettings.from_json(job["settings"])
    name = job["rule"]
    if form.get("model"):
        settings, name = replace(settings, model=form["model"]), f"{name}, model {form['model']}"
    content = node.store.content_of(job["series_uid"])
    number = node.book.make(job["series_uid"], content, name, settings, again=uuid.uuid4().hex)
    node.audit.write(user, "asked for it again", job=job["id"], new_job=number)
    node.wake_workers()
    return f"job {number} was made"


def set_job_aside(node: Node, job: Row, form: Form, user: str) -> str:
    """Sends nothing of a job any more."""
    with node.database.transaction() as connection:
        connection.execute(
            "UPDATE deliveries SET state = 'cancelled', message = ? WHERE job = ? AND state = 'waiting'",
            (f"set aside by {user}", job["id"]),
        )
        connection.execute(
            "UPDATE jobs SET state = CASE WHEN structure_set = '' THEN 'failed' ELSE 'done' END, message = ?"
            " WHERE id = ? AND state IN ('waiting', 'held', 'sending', 'failed', 'stopped')",
            (f"set aside by {user}", job["id"]),
        )
    node.audit.write(user, "set job aside", job=job["id"])
    return "set aside"


def rate(node: Node, job: Row, form: Form, user: str) -> str:
    """Keeps what a physician had to change at a ROI."""
    from contour_ai.node.web.app import RATINGS

    roi, rating, reason = form.get("roi", ""), form.get("rating", ""), form.get("reason", "")[:300]
    if rating not in RATINGS:
        raise RefusedError("choose none, minor, major or not usable")
    summary = summary_of(job)
    if summary is None or roi not in summary.rois:
        raise RefusedError("the result has no such ROI")
    node.database.execute(
        "INSERT OR REPLACE INTO ratings (job, roi, rating, reason, by, at) VALUES (?, ?, ?, ?, ?, ?)",
        job["id"],
        roi,
        rating,
        reason,
        user,
        now(),
    )
    node.audit.write(user, "rated", job=job["id"], roi=roi, rating=rating)
    return f"{roi}: {rating}"


ACTIONS: dict[tuple[str, str], Callable[[Node, Row, Form, str], str]] = {
    ("series", "release"): release,
    ("series", "contour"): contour,
    ("series", "set-aside"): set_series_aside,
    ("jobs", "confirm"): confirm,
    ("jobs", "resend"): resend,
    ("jobs", "again"): again,
    ("jobs", "set-aside"): set_job_aside,
    ("jobs", "rate"): rate,
}
"""(what, action in the address): function."""
