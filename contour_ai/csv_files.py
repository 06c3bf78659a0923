"""Writes CSV files whose text no spreadsheet takes for a formula."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from contour_ai.files import atomic_file

FORMULA = re.compile(r"[=+\-@\t\r\uff1d\uff0b\uff0d\uff20]")
"""Characters with which a spreadsheet begins a formula, in full width too (Excel of East Asia)."""

FORMULA_AFTER_SEPARATOR = re.compile(r"([;\t\r\n]\s*)([=+\-@\uff1d\uff0b\uff0d\uff20])")
"""A spreadsheet may split cells at semicolons and tabs, too."""

MARK = "'"
"""Before text that would be a formula: spreadsheets then show it as text."""


def write_csv(
    path: Path, header: Sequence[str], rows: Iterable[Sequence[object]], *, overwrite: bool = False
) -> None:
    """Writes a table as UTF-8, for its owner alone.

    Text that would be a formula gets `MARK` in front; numbers stay as they are.

    Raises:
        OutputError: `path` exists and `overwrite` is False, or it cannot be written.
    """
    with (
        atomic_file(path, overwrite=overwrite, private=True) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        table = csv.writer(file, lineterminator="\n")
        table.writerow([harmless(cell) for cell in header])
        table.writerows([harmless(cell) for cell in row] for row in rows)


def harmless(cell: object) -> str:
    """A cell as text that is no formula."""
    text = str(cell)
    if _is_number(text):
        return text
    if FORMULA.match(text):
        text = MARK + text
    return FORMULA_AFTER_SEPARATOR.sub(rf"\1{MARK}\2", text)


def original(cell: str) -> str:
    """What `harmless` was given, for a cell without separators inside."""
    return cell[1:] if cell.startswith(MARK) and FORMULA.match(cell[1:]) else cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return not text[:1].isspace()
