"""Writes docs/summary.schema.json from the record of `contour_ai.pipeline.summary`: `python docs/make_schemas.py`."""

from __future__ import annotations

import json
from pathlib import Path

from contour_ai.pipeline.summary import Summary
from contour_ai.schemas import json_schema

SUMMARY_SCHEMA = Path(__file__).resolve().parent / "summary.schema.json"


def summary_schema() -> str:
    """The schema as text."""
    schema = json_schema(Summary, "summary.json of contour-ai predict")
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SUMMARY_SCHEMA.write_text(summary_schema(), encoding="utf-8", newline="\n")
