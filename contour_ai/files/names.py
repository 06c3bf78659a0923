"""Names for files and folders that every file system accepts."""

from __future__ import annotations

import re
import unicodedata

MAX_NAME_CHARACTERS = 80
"""Windows paths are limited to 260 characters in all; a name must be short enough for the folders above it."""

RESERVED_ON_WINDOWS = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


def safe_name(text: str, fallback: str = "unnamed") -> str:
    """`text` (a DICOM tag's value) as a file or folder name for Windows, Linux and macOS.

    Accents and every character but letters, digits, '.', '-' and '_' are replaced; device names of Windows
    and leading dots get an underscore. Different texts may give the same name: check for collisions where it matters.
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", plain)[:MAX_NAME_CHARACTERS].rstrip("._ ").lstrip("_ ")
    if not name:
        return fallback
    if name.startswith(".") or RESERVED_ON_WINDOWS.fullmatch(name):
        name = "_" + name
    return name
