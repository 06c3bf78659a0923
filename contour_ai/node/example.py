"""`node.yaml` with every key explained, to start from."""

from __future__ import annotations

import textwrap
from dataclasses import fields, is_dataclass

from contour_ai.node.config import (
    Alerts,
    Caller,
    Destination,
    NodeConfig,
    Rule,
    Smtp,
    Tls,
    WatchedFolder,
    When,
)
from contour_ai.settings import commented_yaml, field_docs, to_mapping, to_yaml

ITEMS: dict[str, tuple[type, str]] = {
    "callers": (Caller, "- {ae_title: MODALITY, host: 10.1.2.3}"),
    "rules": (
        Rule,
        "- when: {series_description: '*H&N*'}\n  model: headneck-openkbp\n  profile: eclipse\n  send_to: [TPS]",
    ),
    "destinations": (Destination, "TPS: {ae_title: TPS, host: 127.0.0.1, port: 104}"),
    "watch": (WatchedFolder, "- {folder: /mnt/export, pattern: '**/*.dcm'}"),
}
"""Key: what its items are, and an example."""


def example_yaml() -> str:
    """Every key with its default under its explanation; lists and mappings with an example as a comment."""
    docs, lines = field_docs(NodeConfig), []
    default = NodeConfig()
    for field in fields(NodeConfig):
        value = getattr(default, field.name)
        lines += _comment(docs.get(field.name, ""))
        if field.name in ITEMS:
            kind, example = ITEMS[field.name]
            lines += _keys(kind)
            lines += ["# for example:", *(f"#   {line}" for line in example.splitlines())]
            lines.append(to_yaml({field.name: to_mapping(value)}).rstrip())
        elif is_dataclass(value) and not isinstance(value, type):
            lines += [f"{field.name}:", textwrap.indent(commented_yaml(value).rstrip(), "  ")]
            if isinstance(value, Alerts):
                lines += ["# mail:", *_keys(Smtp)]
        else:
            if field.name == "tls":
                lines += _keys(Tls)
            lines.append(to_yaml({field.name: to_mapping(value)}).rstrip())
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _keys(kind: type) -> list[str]:
    """The keys of an item, explained in comments."""
    lines: list[str] = []
    docs = field_docs(kind)
    for field in fields(kind):
        lines += [f"#   {line}" for line in textwrap.wrap(f"{field.name}: {docs.get(field.name, '')}", 100)]
        if kind is Rule and field.name == "when":
            lines += [f"#     {line[4:]}" for line in _keys(When)]
    return lines


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, 104)]
