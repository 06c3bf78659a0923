"""The audit log: who did what, when, to which patient, as JSON lines that are only ever appended to."""

from __future__ import annotations

import json
import logging
import os
import threading
from datetime import datetime, timezone
from pathlib import Path

logger = logging.getLogger(__name__)


class AuditLog:
    """Appends one line per action and access; each is on disk when `write` returns.

    Where it cannot be written, its lines go to the log of the service instead."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, who: str, action: str, **facts: object) -> None:
        """Appends a line.

        Args:
            who: user name, AE title and address, or "node".
            action: what was done, in a word or two.
            facts: of what: patient, series, job, destination.
        """
        at = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        line = json.dumps({"at": at, "who": who, "action": action, **facts}, ensure_ascii=False) + "\n"
        try:
            with self._lock:
                self._append(line.encode("utf-8", "backslashreplace"))
        except (
            OSError
        ) as error:  # a full disk: what was to be recorded goes on, and stands in the service's log
            logger.error("the audit log cannot be written (%s): %s", error.strerror or error, line.strip())

    def _append(self, line: bytes) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
