"""Writes the JSON schemas of docs/ from the records that the files are written from: `python docs/make_schemas.py`."""

from __future__ import annotations

import json
from pathlib import Path

from contour_ai.pipeline._commission.record import CommissioningRecord
from contour_ai.pipeline.summary import Summary
from contour_ai.report.review_record import ReviewRecord
from contour_ai.schemas import json_schema

DOCS = Path(__file__).resolve().parent

SCHEMAS: dict[str, tuple[type, str]] = {
    "summary.schema.json": (Summary, "summary.json of contour-ai predict"),
    "review.schema.json": (ReviewRecord, "review.json of contour-ai review"),
    "commissioning.schema.json": (CommissioningRecord, "commissioning.json of contour-ai commission"),
}
"""{file in docs/: (record, title)}."""


def schema_text(name: str) -> str:
    """The schema as text."""
    record, title = SCHEMAS[name]
    return json.dumps(json_schema(record, title), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name in SCHEMAS:
        (DOCS / name).write_text(schema_text(name), encoding="utf-8", newline="\n")
