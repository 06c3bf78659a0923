"""The key file: which pseudonym stands for which patient. It is kept apart from the copies."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from contour_ai.errors import InputError
from contour_ai.files import atomic_file, write_text

FORMAT = "contour-ai anonymisation key 1"
OLDEST_SHIFT_DAYS, NEWEST_SHIFT_DAYS = 730, 62
"""Dates of a patient are moved back by between two months and two years."""


@dataclass(frozen=True)
class Pseudonym:
    """What stands for one patient: a name, and the days by which the dates are moved (negative: back)."""

    name: str
    shift_days: int


@dataclass
class Key:
    """The secret from which pseudonyms, dates and UIDs are made, and the patients that have one.

    The same key gives the same copies, so that a follow-up CT joins its patient.
    """

    secret: str = field(default_factory=lambda: secrets.token_hex(32))
    prefix: str = "ANON"
    patients: dict[str, Pseudonym] = field(default_factory=dict)

    def pseudonym(self, patient: str) -> Pseudonym:
        """The patient's pseudonym, made where there is none yet."""
        if patient not in self.patients:
            digest = hmac.new(
                self.secret.encode(), patient.encode("utf-8", "surrogateescape"), hashlib.sha256
            )
            number = int.from_bytes(digest.digest()[8:16], "big")
            days = NEWEST_SHIFT_DAYS + number % (OLDEST_SHIFT_DAYS - NEWEST_SHIFT_DAYS)
            self.patients[patient] = Pseudonym(f"{self.prefix}-{digest.hexdigest()[:10].upper()}", -days)
        return self.patients[patient]


def read_key(path: Path) -> Key:
    """Reads a key file.

    Raises:
        InputError: it cannot be read, or is no key file.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.get("format") != FORMAT:
            raise ValueError(f"format {content.get('format')!r}")
        patients = {
            str(patient): Pseudonym(str(entry["pseudonym"]), int(entry["shift_days"]))
            for patient, entry in content["patients"].items()
        }
        return Key(str(content["secret"]), str(content["prefix"]), patients)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            "The key file cannot be used.",
            where=path,
            found=error,
            expected="the file that an earlier `contour-ai anonymise` wrote",
            fix="name another with --key; a new file starts new pseudonyms",
        ) from error


def write_key(path: Path, key: Key) -> None:
    """Writes a key file, readable for its owner alone.

    Raises:
        OutputError: it cannot be written.
    """
    content = {
        "format": FORMAT,
        "caution": "Who has this file can tell the patients. Keep it apart from the copies.",
        "secret": key.secret,
        "prefix": key.prefix,
        "patients": {
            patient: {"pseudonym": one.name, "shift_days": one.shift_days}
            for patient, one in sorted(key.patients.items())
        },
    }
    with atomic_file(path, overwrite=True, private=True) as temporary:
        temporary.touch(mode=0o600)
        write_text(temporary, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
