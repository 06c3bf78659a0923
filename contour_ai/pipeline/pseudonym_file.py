"""Names for patients in files that people share; who is who stays in the run folder."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from pathlib import Path

from contour_ai.errors import ConfigError
from contour_ai.files import atomic_file, write_text

PSEUDONYMS_FILE = "pseudonyms.json"
"""In a run folder: {patient ID: pseudonym}. Keep it apart from the model."""


def pseudonyms(run_dir: Path, patient_ids: Iterable[str]) -> dict[str, str]:
    """{patient ID: pseudonym}, those of the run folder where it has them, else new ones, which it then has.

    Pseudonyms are drawn by chance: nothing in them comes from the ID.

    Raises:
        ConfigError: the run folder's list cannot be read.
        OutputError: the run folder cannot be written.
    """
    path = run_dir / PSEUDONYMS_FILE
    names = _read(path) if path.is_file() else {}
    missing = sorted(set(patient_ids) - names.keys())
    taken = set(names.values())
    for patient in missing:
        name = _new()
        while name in taken:
            name = _new()
        taken.add(name)
        names[patient] = name
    if missing:
        with atomic_file(path, overwrite=True, private=True) as temporary:
            write_text(temporary, json.dumps(names, indent=1, ensure_ascii=False) + "\n")
    return names


def _new() -> str:
    return f"patient-{secrets.token_hex(4)}"


def _read(path: Path) -> dict[str, str]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"{type(content).__name__} instead of a mapping")
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError("The list of pseudonyms cannot be read.", where=path, found=error) from error
    return {str(patient): str(name) for patient, name in content.items()}
