"""The errors contour-ai raises on purpose: each says what, where, found, expected, and the way out.

The command line maps the classes to exit statuses (`contour_ai.cli.EXIT_STATUS`); the library never exits.
"""

from __future__ import annotations

from collections.abc import Iterable

_TRACEBACK = "Traceback (most recent call last)"


def without_traceback(message: object) -> str:
    """A message, without the traceback that pydicom puts into those of its own exceptions."""
    return str(message).partition(_TRACEBACK)[0].rstrip()


def listed(items: Iterable[object], *, between: str = "; ", most: int = 12) -> str:
    """Items in a message: the first ones, and how many more there are. An archive has hundreds of everything.

    Args:
        items: whatever there is.
        between: what stands between two of them.
        most: so many are named.
    """
    every = [str(item) for item in items]
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return between.join(every[:most]) + more


class ContourAIError(Exception):
    """Base of every error that contour-ai raises on purpose.

    Args:
        what: one sentence saying what could not be done and why.
        where: file, ROI or slice concerned.
        found: what was there.
        expected: what should have been there.
        fix: what the user can do about it.
    """

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        found: object = None,
        expected: object = None,
        fix: str | None = None,
    ) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.found = None if found is None else without_traceback(found)
        self.expected = None if expected is None else str(expected)
        self.fix = fix
        super().__init__(str(self))

    def __str__(self) -> str:
        lines = [self.what]
        for label, text in (
            ("where", self.where),
            ("found", self.found),
            ("expected", self.expected),
            ("what to do", self.fix),
        ):
            if text:
                lines.append(f"  {label}: {text}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword-only arguments do not pickle by default; worker processes need it.
        return (
            _rebuild,
            (type(self), self.what, self.where, self.found, self.expected, self.fix),
        )


def _rebuild(
    cls: type[ContourAIError],
    what: str,
    where: str | None,
    found: str | None,
    expected: str | None,
    fix: str | None,
) -> ContourAIError:
    return cls(what, where=where, found=found, expected=expected, fix=fix)


class InputError(ContourAIError):
    """The input (CT, structure set, masks, archive) cannot be used."""


class GeometryError(InputError):
    """A spatial layout that cannot be handled exactly: grids that do not match, missing slices."""


class NoImageError(ContourAIError, ValueError):
    """A CT or a prediction was kept without its image, which is asked for now."""


class ModelError(ContourAIError):
    """A model bundle is unknown, corrupt or does not fit."""


class ConfigError(ModelError):
    """A configuration file, profile or ROI map cannot be used."""


class OutputError(ContourAIError):
    """The output folder or file cannot be written."""


class UnforeseenError(ContourAIError):
    """A fault of contour-ai itself, met in one patient of several; the traceback is in the log that it names."""


class VerificationError(ContourAIError):
    """An output did not pass its own verification; it was not left behind."""
