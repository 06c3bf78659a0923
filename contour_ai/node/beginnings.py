"""Series that will be contoured once they are quiet: a worker that has nothing else to do begins with them.

Nothing that is begun is a result. The job of a series is made when it is complete, as ever; a worker that has begun
with the same images, model and ROIs has less left to do.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from contour_ai.node.jobs import JobSettings


class Beginnings:
    """Which series are worth beginning with, and which worker has begun with which. For any thread.

    Args:
        on_wanted: told when there is a series to begin with.
    """

    def __init__(self, on_wanted: Callable[[], None] = lambda: None) -> None:
        self._on_wanted = on_wanted
        self._lock = threading.Lock()
        self._wanted: OrderedDict[str, JobSettings] = OrderedDict()
        self._claims: dict[str, str] = {}

    def want(self, series_uid: str, settings: JobSettings) -> None:
        """This series is likely to become a job with these settings."""
        with self._lock:
            self._wanted[series_uid] = settings
        self._on_wanted()

    def claim(self, worker: str) -> tuple[str, JobSettings] | None:
        """A series for a worker to begin with; None where there is none."""
        with self._lock:
            if not self._wanted:
                return None
            series_uid, settings = self._wanted.popitem(last=False)
            self._claims[worker] = series_uid
            return series_uid, settings

    def of_others(self, worker: str) -> tuple[str, ...]:
        """The series that other workers have begun with: their jobs are quicker there."""
        with self._lock:
            return tuple(uid for owner, uid in self._claims.items() if owner != worker)

    def free(self, worker: str) -> None:
        """A worker has taken a job, or has ended: it keeps no series for itself."""
        with self._lock:
            self._claims.pop(worker, None)

    def forget(self, series_uid: str) -> None:
        """This series has become a job, or will not become one: it is too late to begin with it."""
        with self._lock:
            self._wanted.pop(series_uid, None)
