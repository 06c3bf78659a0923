"""Patterns of ROI names in a map: globs (``PTV*``) and regular expressions (``re:^lt[ _]?parotid``)."""

from __future__ import annotations

import re
from functools import lru_cache

from contour_ai.errors import ConfigError

EXPRESSION = "re:"
"""What a regular expression begins with; it may match anywhere in a name."""


def is_pattern(text: str) -> bool:
    """Whether an entry of a map is a pattern; ``[`` and ``]`` are letters like others ("Dose 50[%]")."""
    return text.startswith(EXPRESSION) or any(sign in text for sign in "*?")


def entry_for(name: str) -> str:
    """An entry of a map that catches `name` alone, also where the name has the signs of a pattern in it."""
    name = name.strip()
    return f"{EXPRESSION}^{re.escape(name)}$" if is_pattern(name) else name


def matches(text: str, name: str) -> bool:
    """Whether a pattern catches a name; case and spaces at the ends of the name do not matter.

    Raises:
        ConfigError: the regular expression cannot be used.
    """
    return compiled(text).search(name.strip()) is not None


@lru_cache(maxsize=4096)
def compiled(text: str) -> re.Pattern[str]:
    """A pattern, ready to search with.

    Raises:
        ConfigError: the regular expression cannot be used.
    """
    if text.startswith(EXPRESSION):
        try:
            return re.compile(text.removeprefix(EXPRESSION), re.IGNORECASE)
        except re.error as error:
            raise ConfigError(
                "A pattern of the ROI map is no regular expression.",
                found=f"{text!r}: {error}",
                expected="a glob such as PTV*, or re: and a Python regular expression",
            ) from error
    signs = {"*": ".*", "?": "."}
    expression = "".join(signs.get(letter) or re.escape(letter) for letter in text.strip())
    return re.compile(rf"\A{expression}\Z", re.IGNORECASE | re.DOTALL)
