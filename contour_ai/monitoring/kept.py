"""Edits that a node measured while the images were there: they stay when the images are deleted after their days."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from contour_ai.monitoring.records import Edit

TABLE = "CREATE TABLE IF NOT EXISTS edits (approved TEXT PRIMARY KEY, series_uid TEXT NOT NULL, content TEXT NOT NULL)"
"""In the node's database: file name of the approved structure set, series, edits as JSON."""


def kept_edits(database: Path) -> dict[str, list[Edit]]:
    """{SeriesInstanceUID: edits of the structure set that was measured last}; empty where nothing was measured yet."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        rows = connection.execute("SELECT series_uid, content FROM edits ORDER BY rowid").fetchall()
    except sqlite3.OperationalError:  # a node that has measured nothing yet has no such table
        rows = []
    finally:
        connection.close()
    return {series: from_text(content) for series, content in rows}


def to_text(edits: Sequence[Edit]) -> str:
    """JSON of edits; NaN as null."""
    plain = [{k: None if v != v else v for k, v in asdict(e).items()} for e in edits]
    return json.dumps(plain, allow_nan=False)


def from_text(text: str) -> list[Edit]:
    """The inverse of `to_text`."""
    return [Edit(**{k: _figure(k, v) for k, v in one.items()}) for one in json.loads(text)]


def _figure(key: str, value: Any) -> Any:
    missing = value is None and not key.startswith("dose_")
    return float("nan") if missing else value
