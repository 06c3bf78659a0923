"""The local record that a department has commissioned a model, outside the bundle, for these weights and rules."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from contour_ai.bundle.description import ModelBundle
from contour_ai.errors import ConfigError
from contour_ai.files import atomic_file, private_folder, write_text
from contour_ai.settings import read_record, to_mapping

logger = logging.getLogger(__name__)
RECORDS_VARIABLE = "CONTOUR_AI_RECORDS"
"""Environment variable with the folder of the records, as where a node runs under another account."""

LONGEST_SIGNATURE = 64
"""Characters of a name within a longer text."""


@dataclass(frozen=True, kw_only=True)
class CommissionedRecord:
    """Who commissioned a model, when, and on what.

    Args:
        fingerprint: of weights and rules (`ModelBundle.inference_fingerprint`).
        signed_by: who answers for it.
        date: ISO, of the run.
        series: SeriesInstanceUIDs of the patients.
        limits: that were kept, in words.
        report: folder of the run, so that it can be repeated.
    """

    model: str
    version: str
    fingerprint: str
    signed_by: str
    date: str
    series: tuple[str, ...]
    limits: tuple[str, ...]
    report: str = ""

    def __str__(self) -> str:
        return f"by {self.signed_by} on {self.date[:10]}, {len(self.series)} patients, {len(self.limits)} limits kept"


def records_folder() -> Path:
    """Where this machine's records lie."""
    if named := os.environ.get(RECORDS_VARIABLE):
        return Path(named)
    if os.name == "nt" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "contour-ai" / "commissioned"
    share = os.environ.get("XDG_DATA_HOME")
    return (Path(share) if share else Path.home() / ".local" / "share") / "contour-ai" / "commissioned"


def save_record(record: CommissionedRecord) -> Path:
    """Writes a record in place of an earlier one of the same weights and rules.

    Raises:
        OutputError: the folder cannot be written.
    """
    private_folder(records_folder())
    path = records_folder() / f"{record.fingerprint}.json"
    with atomic_file(path, overwrite=True, private=True) as temporary:
        write_text(temporary, json.dumps(to_mapping(record), indent=1, ensure_ascii=False) + "\n")
    return path


def record_of(bundle: ModelBundle) -> CommissionedRecord | None:
    """The record of a model as it is now; None where there is none, so also after any change of weights or rules.

    Raises:
        ConfigError: it cannot be read.
    """
    path = records_folder() / f"{bundle.inference_fingerprint}.json"
    if not path.is_file():
        return None
    record = read_record(CommissionedRecord, path, "The record of a commissioning")
    return record if record.fingerprint == bundle.inference_fingerprint else None


def readable_record_of(bundle: ModelBundle) -> CommissionedRecord | None:
    """`record_of`; one that cannot be read counts as none, with a warning in the log."""
    try:
        return record_of(bundle)
    except ConfigError as error:
        logger.warning("%s", error)
        return None


def commissioned_sentence(record: CommissionedRecord | None) -> str:
    """For the description of a structure set, at most 1024 characters."""
    if record is None:
        return "Not commissioned on this machine."
    name = (
        record.signed_by
        if len(record.signed_by) <= LONGEST_SIGNATURE
        else f"{record.signed_by[: LONGEST_SIGNATURE - 1]}…"
    )
    return f"Commissioned by {name} on {record.date[:10]} with {len(record.series)} patients."


def refuse_uncommissioned(bundle: ModelBundle) -> None:
    """Stops where a model has to be commissioned and is not.

    Raises:
        ConfigError: there is no record of it on this machine.
    """
    if record_of(bundle) is None:
        raise ConfigError(
            f"The model {bundle.name} {bundle.version} is not commissioned on this machine.",
            where=records_folder(),
            found=f"no record for the fingerprint {bundle.inference_fingerprint[:16]} of its weights and rules",
            fix=f"`contour-ai commission DATA_DIR --model {bundle.name} --limits FILE --out DIR --signed-by NAME`",
        )
