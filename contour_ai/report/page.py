"""A self-contained HTML page from its parts: template, style, script and data; nothing that a browser would fetch."""

from __future__ import annotations

import html
import json
from importlib import resources
from string import Template
from typing import Any


def asset(name: str) -> str:
    """A file of this package as text."""
    return resources.files("contour_ai.report").joinpath(name).read_text(encoding="utf-8")


def fill(template: str, *, texts: dict[str, str], raw: dict[str, str]) -> str:
    """The template with every $name replaced; `texts` are escaped, `raw` are put in as they are."""
    escaped = {name: html.escape(text) for name, text in texts.items()}
    return Template(template).substitute(escaped | raw)


def embedded_json(value: Any) -> str:
    """JSON that no browser takes for markup inside a script element.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")
