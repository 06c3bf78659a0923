"""What holds for all tests. Its being here puts this folder on the path of those in subfolders (`import synthetic`)."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from contour_ai.cores import available_cores

# pytest-xdist runs one process a core: with threads of their own in each of them, and in what they start, the threads
# wait for each other most of the time. torch and OpenMP read this when they are first imported.
_workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if _workers > 1:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // _workers)))

# How long one example takes says more about the machine than about the program.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow ones first: what several processes share out at the end is short."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
