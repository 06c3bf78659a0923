"""Reads text files and tables that people write with any editor or spreadsheet, on any system."""

from __future__ import annotations

import codecs
import csv
import io
from pathlib import Path

UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
SEPARATORS = ",;\t"
"""Of the cells of a table: a spreadsheet writes semicolons where commas are for decimals."""


def read_text_file(path: Path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark, or in UTF-16 with one; lines end with a newline.

    Other encodings are not guessed: a name that is read wrongly would be another name.

    Raises:
        OSError: it cannot be read.
        UnicodeError: it is in another encoding; the message says in which line, and what to do.
    """
    data = path.read_bytes()
    try:
        text = data.decode("utf-16" if data.startswith(UTF_16_MARKS) else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UnicodeError(
            f"line {line} is not in UTF-8 (byte 0x{data[error.start]:02x}); save the file with the encoding UTF-8"
        ) from error
    return io.StringIO(text, newline=None).read()


def table_rows(text: str) -> list[list[str]]:
    """The cells of a table, separated by what its first line has most of: commas, semicolons or tabs.

    Raises:
        csv.Error: it is no table.
    """
    first = text.partition("\n")[0]
    return list(csv.reader(io.StringIO(text), delimiter=max(SEPARATORS, key=first.count)))
