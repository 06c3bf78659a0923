"""Text files in UTF-8 with plain newlines, whatever names of files and people are in them."""

from __future__ import annotations

from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 with ``\\n``; a byte of a file name that is not UTF-8 becomes ``\\udcXX``, which JSON reads back."""
    path.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
