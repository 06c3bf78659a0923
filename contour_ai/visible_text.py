"""Text of unknown origin (names in DICOM files, folder names) made safe to show on a terminal."""

from __future__ import annotations

import re

HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but tab and newline: escape sequences begin with one
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # order of writing: they show a name as another one
    "\u200b\u2028\u2029\u2060\ufeff\ufff9-\ufffb"  # no width, and other ends of lines
    "\ud800-\udfff]"  # bytes of a file name that is not UTF-8
)


def visible(text: str) -> str:
    """`text` with every character that a terminal obeys instead of showing written as an escape such as ``\\x1b``.

    Tabs and newlines stay: messages have several lines.
    """
    return HIDDEN.sub(lambda found: _escaped(ord(found[0])), text)


def _escaped(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
