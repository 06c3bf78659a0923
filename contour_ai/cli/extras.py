"""Says which extra of the installation a command needs, where its packages are missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from contour_ai.errors import ConfigError


@contextmanager
def needs_extra(extra: str, *packages: str) -> Iterator[None]:
    """Turns a failed import of one of `packages` in the block into an error with the command that installs it.

    Raises:
        ConfigError: one of the packages is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in packages:
            raise
        raise ConfigError(
            f"This command needs packages of the extra {extra!r}.",
            found=f"{error.name} is not installed",
            fix=f'pip install "contour-ai[{extra}]"; from a checkout: pip install ".[{extra}]"',
        ) from error
