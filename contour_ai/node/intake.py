"""From series that arrive to jobs: completeness, rules, and the choice among several series of a study."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from contour_ai.node.audit import AuditLog
from contour_ai.node.config import NodeConfig, Rule
from contour_ai.node.database import Database, Row
from contour_ai.node.jobs import JobBook, JobSettings
from contour_ai.node.rules import Choice, SeriesFacts, choose_rule
from contour_ai.node.series import Readiness, check_slices, cut_off, readiness
from contour_ai.node.store import ImageStore

logger = logging.getLogger(__name__)

EARLY_S = 0.1
"""Quiet for so long, a series is looked at before its `quiet_s` are over: what is found holds if nothing more comes."""
EARLY_LOOKS = 3
"""Early looks at one series, at most: a sender that pauses again and again costs no more than that."""


class Intake:
    """Looks at the series that are not contoured yet, again and again.

    Quiet is measured with the clock that cannot be set: seconds since a slice was seen, or since the node started.

    Args:
        on_likely: told a series that will become a job with these settings if nothing more of it comes.
        on_job: told when a job is made.
    """

    def __init__(
        self,
        config: Callable[[], NodeConfig],
        database: Database,
        store: ImageStore,
        book: JobBook,
        audit: AuditLog,
        on_likely: Callable[[str, JobSettings], None] = lambda series_uid, settings: None,
        on_job: Callable[[], None] = lambda: None,
    ) -> None:
        self.on_likely, self.on_job = on_likely, on_job
        self._checked: dict[str, tuple[str, Readiness]] = {}
        self._early: dict[str, list[str]] = {}
        self._config, self.database, self.store, self.book, self.audit = config, database, store, book, audit
        self._started = time.monotonic()
        self._seen: dict[str, float] = {}
        self._lock = threading.Lock()

    def saw(self, series_uid: str) -> None:
        """A slice of the series has just been stored."""
        with self._lock:
            self._seen[series_uid] = time.monotonic()

    def quiet_for_s(self, series_uid: str) -> float:
        """Seconds since the last slice of a series, or since the start."""
        with self._lock:
            return time.monotonic() - max(self._seen.get(series_uid, self._started), self._started)

    def look(self) -> None:
        """Takes up every series that has become complete.

        A series' job is made before the next series is looked at: a check of slices takes its time.
        """
        config = self._config()
        receiving = self.database.rows("SELECT * FROM series WHERE state = 'receiving'")
        for row in receiving:
            if self._look_at(row, config):
                self._decide_all(config)
        self._decide_all(config)
        likely = [row["series_uid"] for row in receiving if self._is_likely(row, config)]
        if likely:
            self._check(likely[0])  # the others in the next looks

    def _decide_all(self, config: NodeConfig) -> None:
        for row in self.database.rows("SELECT * FROM series WHERE state = 'complete'"):
            self._decide(row, config)

    def _look_at(self, row: Row, config: NodeConfig) -> bool:
        """Whether the series has become complete."""
        uid = row["series_uid"]
        quiet_for_s = self.quiet_for_s(uid)
        found = readiness(uid, self.database, self._check, quiet_for_s=quiet_for_s, quiet_s=config.quiet_s)
        if quiet_for_s >= config.quiet_s:
            self._checked.pop(uid, None)
            self._early.pop(uid, None)
        if found.ready:
            return self._set(row, "complete", "")
        if not found.counts:
            self._set(row, "set aside", found.reason)
        elif not found.waits:
            self._set(row, "incomplete", found.reason)
            self.audit.write("node", "series incomplete", series=uid, reason=found.reason)
        elif found.reason != row["reason"]:
            self.database.execute("UPDATE series SET reason = ? WHERE series_uid = ?", found.reason, uid)
        return False

    def _check(self, series_uid: str) -> Readiness:
        """Of the slices that are here; what was found is kept for as long as they are the same."""
        content = self.store.content_of(series_uid)
        known, found = self._checked.get(series_uid, ("", None))
        if found is None or known != content:
            found = check_slices(series_uid, self.store)
            self._checked[series_uid] = (content, found)
        return found

    def _is_likely(self, row: Row, config: NodeConfig) -> bool:
        """Whether the slices of a series are worth a check in the time that it has to be quiet; the check is not made.

        Where a rule contours the series whatever else its study holds, it is said at once.
        """
        uid = row["series_uid"]
        if not EARLY_S <= self.quiet_for_s(uid) < config.quiet_s or cut_off(uid, self.database):
            return False
        content, looked_at = self.store.content_of(uid), self._early.setdefault(uid, [])
        if content not in looked_at:
            if len(looked_at) >= EARLY_LOOKS:
                return False
            looked_at.append(content)
            rule = choose_rule(config.rules, self.facts(row)).rule
            if rule is not None and rule.several == "all":
                self.on_likely(uid, JobSettings.of(rule, config))
        return self._checked.get(uid, ("",))[0] != content

    def _set(self, row: Row, state: str, reason: str) -> bool:
        """Changes a series that is still as it was seen: a slice that came meanwhile makes it another one."""
        return bool(
            self.database.execute(
                "UPDATE series SET state = ?, reason = ?, content = ?"
                " WHERE series_uid = ? AND state = ? AND last_at = ?",
                state,
                reason,
                self.store.content_of(row["series_uid"]),
                row["series_uid"],
                row["state"],
                row["last_at"],
            )
        )

    def facts(self, row: Row) -> SeriesFacts:
        """What rules look at."""
        count = self.database.row("SELECT COUNT(*) n FROM instances WHERE series_uid = ?", row["series_uid"])
        return SeriesFacts.of(row["facts"], 0 if count is None else count["n"])

    def _decide(self, row: Row, config: NodeConfig) -> None:
        choice = choose_rule(config.rules, self.facts(row))
        if choice.rule is None:
            reason = "no rule fits: " + ("; ".join(choice.why_not) or "there is none")
            self._set(row, "unmatched", reason)
            self.audit.write("node", "series unmatched", series=row["series_uid"], reason=reason)
            return
        if choice.rule.several == "ask":
            self._set(row, "ask", f"{choice.name} asks whether this series is to be contoured")
            return
        if choice.rule.several != "all" and not self._is_chosen(row, choice, config):
            return
        self.contour(row, choice.rule, choice.name)

    def contour(self, row: Row, rule: Rule, name: str, *, again: str = "", by: str = "node") -> bool:
        """Makes the job of a series; False where there is one for the same images and settings."""
        settings = JobSettings.of(rule, self._config())
        with self.database.transaction():  # a series never counts as contoured without its job
            content = self.store.content_of(row["series_uid"])
            if not again and not self._set(row, "contoured", ""):
                return False
            job = self.book.make(row["series_uid"], content, name, settings, again=again)
        if job is None:
            return False
        self.audit.write(by, "job made", series=row["series_uid"], job=job, rule=name)
        self.on_job()
        return True

    def _is_chosen(self, row: Row, choice: Choice, config: NodeConfig) -> bool:
        """Whether this series is the one of its study that the rule wants. Waits until the study is quiet."""
        study = self.database.rows(
            "SELECT * FROM series WHERE study_uid = ? AND state IN ('receiving', 'complete')",
            row["study_uid"],
        )
        if any(
            other["state"] == "receiving" or self.quiet_for_s(other["series_uid"]) < config.quiet_s
            for other in study
        ):
            return False
        rivals = [
            other for other in study if choose_rule(config.rules, self.facts(other)).name == choice.name
        ]
        assert choice.rule is not None
        best = min(rivals, key=lambda other: self._rank(other, choice.rule))  # type: ignore[arg-type]
        if best["series_uid"] == row["series_uid"]:
            return True
        self._set(row, "unmatched", f"{choice.name} took another series of this study")
        return False

    def _rank(self, row: Row, rule: Rule) -> tuple[float | str, ...]:
        """The smallest is taken."""
        facts = self.facts(row)
        if rule.several == "thinnest":
            return (facts.thickness_mm or float("inf"), -facts.slices, row["series_uid"])
        when = facts.texts.get("SeriesDate", "") + facts.texts.get("SeriesTime", "")
        return ("".join(chr(0x10FFFF - ord(c)) for c in when), row["series_uid"])
