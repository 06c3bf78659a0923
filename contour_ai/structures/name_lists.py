"""Lists of ROI names as files: what a planning system or a colleague exports instead of an archive."""

from __future__ import annotations

from pathlib import Path

from contour_ai.errors import InputError
from contour_ai.text_files import read_text_file, table_rows


def read_name_list(path: Path) -> dict[str, int]:
    """{ROI name: number of structure sets} of a CSV file (name, number) or a text file (one name in a line).

    A first row without a number is a heading where other rows have one.

    Raises:
        InputError: the file cannot be read or has no name.
    """
    try:
        text = read_text_file(path)
    except (OSError, UnicodeError) as error:
        raise InputError("The list of names cannot be read.", where=path, found=error) from error
    if path.suffix.lower() == ".csv":
        rows = [row for row in table_rows(text) if row and row[0].strip()]
    else:
        rows = [[line] for line in text.splitlines() if line.strip()]
    numbered = any(len(row) > 1 and row[1].strip().isdigit() for row in rows)
    counts: dict[str, int] = {}
    for n, row in enumerate(rows):
        number = row[1].strip() if len(row) > 1 else ""
        if n == 0 and numbered and not number.isdigit():
            continue
        counts[row[0]] = counts.get(row[0], 0) + (int(number) if number.isdigit() else 1)
    if not counts:
        raise InputError("The list has no names.", where=path, expected="one name in a line")
    return counts
