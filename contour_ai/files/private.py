"""Files and folders that only their owner may read: what holds patients' names, images or figures.

On Windows access follows the folder's own list of permissions, and nothing is done here.
"""

from __future__ import annotations

import os
from pathlib import Path

OWNER_FILE = 0o600
OWNER_FOLDER = 0o700


def private_file(path: Path) -> Path:
    """Makes an empty file for its owner alone; what is then written into it was never readable to others."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, OWNER_FILE))
    return path


def private_folder(path: Path) -> Path:
    """Makes a folder, and those above it that are missing; it is for its owner alone unless it was there already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=OWNER_FOLDER, exist_ok=True)
    return path


def restrict(path: Path) -> None:
    """Takes the rights of others from a file, or from a folder and all that lies in it."""
    if os.name == "nt":
        return
    for folder, _, names in os.walk(path):
        Path(folder).chmod(OWNER_FOLDER)
        for name in names:
            file = Path(folder, name)
            if not file.is_symlink():
                file.chmod(OWNER_FILE)
    if path.is_file():
        path.chmod(OWNER_FILE)
