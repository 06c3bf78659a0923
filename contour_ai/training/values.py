"""Checks of single values of the training configuration."""

from __future__ import annotations

from contour_ai.errors import ConfigError


def check_value(ok: bool, key: str, found: object, expected: str) -> None:
    """Refuses a value.

    Raises:
        ConfigError: it is not `ok`.
    """
    if not ok:
        raise ConfigError(
            f"The value of {key} is not valid.",
            found=found,
            expected=expected,
            fix="change it in the configuration, or leave it out; `contour-ai train --print-config` explains every key",
        )
