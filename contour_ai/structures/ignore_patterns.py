"""From the names that were set aside to the few patterns that catch them, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from contour_ai.structures.name_class import NameClass
from contour_ai.structures.name_patterns import compiled, entry_for

LEAST_NAMES = 2
"""A pattern that catches a single name says no more than the name."""


@dataclass(frozen=True)
class IgnoreRule:
    """An entry of a map's ``ignore``, and the names that it catches."""

    text: str
    names: tuple[str, ...]


def ignore_rules(set_aside: Sequence[NameClass], kept: Iterable[str]) -> tuple[IgnoreRule, ...]:
    """Entries for `set_aside`, the ones that catch most first; names that no safe pattern catches stand for themselves.

    Args:
        set_aside: classes of the names to ignore.
        kept: names that must not be caught: those that stand for ROIs, those to decide, and the ROIs themselves.
    """
    names = [c.name.strip() for c in set_aside]
    keep = [name.strip() for name in kept]
    safe: dict[str, set[int]] = {}
    for text in dict.fromkeys(c.pattern for c in set_aside if c.pattern):
        pattern = compiled(text)
        if not any(pattern.search(name) for name in keep):
            safe[text] = {n for n, name in enumerate(names) if pattern.search(name)}
    left, rules = set(range(len(names))), []
    while safe:
        text = max(safe, key=lambda t: (len(safe[t] & left), t))
        caught = safe.pop(text) & left
        if len(caught) < LEAST_NAMES:
            break
        left -= caught
        rules.append(IgnoreRule(text, tuple(names[n] for n in sorted(caught))))
    return (*rules, *(IgnoreRule(entry_for(names[n]), (names[n],)) for n in sorted(left)))
