"""A self-contained HTML page from its parts: template, style, script and data; nothing that a browser would fetch."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from importlib import resources
from string import Template

from contour_ai.visible_text import visible


def asset(name: str) -> str:
    """A file of this package as text."""
    return resources.files("contour_ai.report").joinpath(name).read_text(encoding="utf-8")


def script(*names: str) -> str:
    """The script of a page from files of this package, in their order, after what all of them use."""
    return "\n".join(asset(name) for name in ("elements.js", *names))


def fill(template: str, *, texts: dict[str, str], raw: dict[str, str]) -> str:
    """The template with every $name replaced; `texts` are escaped, `raw` are put in as they are."""
    escaped = {name: escaped_text(text) for name, text in texts.items()}
    return Template(template).substitute(escaped | raw)


def escaped_text(text: object) -> str:
    """Text of any origin for a page: neither markup nor characters that show a name as another one."""
    return html.escape(visible(str(text)))


def embedded_json(value: object) -> str:
    """JSON that no browser takes for markup inside a script element.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(_visible(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _visible(value: object) -> object:
    """The same value with every text in it safe to show."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Mapping):
        return {visible(key) if isinstance(key, str) else key: _visible(item) for key, item in value.items()}
    if isinstance(value, list | tuple) and any(not isinstance(item, int | float) for item in value):
        return [_visible(item) for item in value]
    return value
