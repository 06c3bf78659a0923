"""Images on disk: an instance counts as received when its bytes and its row in the database are on disk."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from dataclasses import dataclass
from enum import Enum
from io import BytesIO
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.filereader import dcmread
from pydicom.uid import RTStructureSetStorage

from contour_ai.dicom.classify import CT_CLASSES
from contour_ai.dicom.header import UNREADABLE
from contour_ai.dicom.values import text
from contour_ai.errors import InputError
from contour_ai.node.database import Database, now, to_json
from contour_ai.node.equal_instances import same_instance

TEMPORARY = "incoming"
FACT_KEYWORDS = (
    "StationName",
    "Manufacturer",
    "StudyDescription",
    "SeriesDescription",
    "BodyPartExamined",
    "ProtocolName",
    "ConvolutionKernel",
    "ImageType",
    "SliceThickness",
    "ContrastBolusAgent",
    "StudyDate",
    "SeriesDate",
    "SeriesTime",
    "Modality",
)
"""What rules and the page look at."""


class Stored(Enum):
    """What became of an instance."""

    NEW = "new"
    KNOWN = "known"
    """The same instance was here already."""
    ASIDE = "aside"
    """Another instance has its UID; this one is kept aside."""


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """How an instance came.

    Args:
        association: number of the association in the database; None for a watched folder.
        calling_ae, called_ae: titles; `FOLDER` for a watched folder.
    """

    association: int | None
    calling_ae: str
    called_ae: str


@dataclass(frozen=True)
class Receipt:
    """What became of an instance, and of which series it is."""

    outcome: Stored
    series_uid: str
    is_structure_set: bool = False


class ImageStore:
    """Files below `root`: images/<series>/, structure sets that came back in returned/, doubtful ones in aside/."""

    def __init__(self, root: Path, database: Database) -> None:
        self.root, self.database = root, database
        for name in ("images", "returned", "aside", TEMPORARY):
            (root / name).mkdir(parents=True, exist_ok=True, mode=0o700)

    def series_folder(self, series_uid: str) -> Path:
        """Where the images of a series lie."""
        return self.root / "images" / _digest(series_uid)

    def clean(self) -> int:
        """Removes what a killed process left; nothing of it was acknowledged. Returns how many files."""
        leftovers = list((self.root / TEMPORARY).iterdir())
        for path in leftovers:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        return len(leftovers)

    def add(self, content: bytes, arrival: Arrival) -> Receipt:
        """Stores the bytes of a DICOM file.

        Args:
            content: the whole file, with preamble and meta information.

        Raises:
            InputError: it is neither a CT image nor a structure set, or lacks its UIDs.
            OSError: the disk is full or cannot be written; nothing is left.
        """
        header = _header(content)
        sop_uid, series_uid = text(header, "SOPInstanceUID"), text(header, "SeriesInstanceUID")
        sop_class = text(header, "SOPClassUID")
        if sop_class not in CT_CLASSES and sop_class != RTStructureSetStorage:
            raise InputError(
                "This is neither a CT image nor a structure set.", found=sop_class or "no SOP class"
            )
        if not sop_uid or not series_uid:
            raise InputError("This instance has no SOPInstanceUID or SeriesInstanceUID.")
        digest = hashlib.sha256(content[132:]).hexdigest()
        if sop_class == RTStructureSetStorage:
            return self._add_structure_set(content, header, digest)
        known = self.database.row("SELECT sha256, path FROM instances WHERE sop_uid = ?", sop_uid)
        if known is not None and (self.root / known["path"]).exists():
            same = digest == known["sha256"] or same_instance(
                content, (self.root / known["path"]).read_bytes(), self.root / TEMPORARY
            )
            return self._add_known(content, header, digest, same, arrival)
        path = self.series_folder(series_uid) / f"{_digest(sop_uid)}.dcm"
        self._write(path, content)
        self._register(header, path, digest, arrival)
        return Receipt(Stored.NEW, series_uid)

    def _add_known(
        self, content: bytes, header: Dataset, digest: str, same: bool, arrival: Arrival
    ) -> Receipt:
        sop_uid, series_uid = text(header, "SOPInstanceUID"), text(header, "SeriesInstanceUID")
        self._touch(series_uid, arrival)
        if same:
            return Receipt(Stored.KNOWN, series_uid)
        self._aside(content, sop_uid, digest, "another image has this SOPInstanceUID")
        return Receipt(Stored.ASIDE, series_uid)

    def _add_structure_set(self, content: bytes, header: Dataset, digest: str) -> Receipt:
        """Keeps a structure set; what it belongs to is found out afterwards (`returned`)."""
        sop_uid = text(header, "SOPInstanceUID")
        known = self.database.row("SELECT sha256, path FROM returned WHERE sop_uid = ?", sop_uid)
        if known is not None:
            here = self.root / known["path"]
            if known["sha256"] == digest or (here.exists() and same_instance(content, here.read_bytes())):
                return Receipt(Stored.KNOWN, "", is_structure_set=True)
            self._aside(content, sop_uid, digest, "another structure set has this SOPInstanceUID")
            return Receipt(Stored.ASIDE, "", is_structure_set=True)
        path = self.root / "returned" / f"{_digest(sop_uid)}.dcm"
        self._write(path, content)
        self.database.execute(
            "INSERT OR IGNORE INTO returned (sop_uid, path, series_uid, job, received_at, approved, sha256)"
            " VALUES (?, ?, '', NULL, ?, ?, ?)",
            sop_uid,
            path.relative_to(self.root).as_posix(),
            now(),
            int(text(header, "ApprovalStatus") == "APPROVED"),
            digest,
        )
        return Receipt(Stored.NEW, "", is_structure_set=True)

    def _aside(self, content: bytes, sop_uid: str, digest: str, reason: str) -> None:
        path = self.root / "aside" / f"{_digest(sop_uid)}-{digest[:12]}.dcm"
        if not path.exists():
            self._write(path, content)
            self.database.execute(
                "INSERT INTO aside (sop_uid, path, reason, received_at) VALUES (?, ?, ?, ?)",
                sop_uid,
                path.relative_to(self.root).as_posix(),
                reason,
                now(),
            )

    def _write(self, path: Path, content: bytes) -> None:
        """The whole file or none, on disk when it returns."""
        temporary = self.root / TEMPORARY / f"{uuid.uuid4().hex}.dcm"
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)

    def _register(self, header: Dataset, path: Path, digest: str, arrival: Arrival) -> None:
        series_uid = text(header, "SeriesInstanceUID")
        facts = {**series_facts(header), "called_ae": arrival.called_ae, "calling_ae": arrival.calling_ae}
        at = now()
        with self.database.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO instances (sop_uid, series_uid, path, sha256, received_at)"
                " VALUES (?, ?, ?, ?, ?)",
                (
                    text(header, "SOPInstanceUID"),
                    series_uid,
                    path.relative_to(self.root).as_posix(),
                    digest,
                    at,
                ),
            )
            connection.execute(
                "INSERT INTO series (series_uid, study_uid, patient_id, patient_name, facts, first_at, last_at, state)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, 'receiving')"
                " ON CONFLICT (series_uid) DO UPDATE SET last_at = excluded.last_at, state = 'receiving', released = 0",
                (
                    series_uid,
                    text(header, "StudyInstanceUID"),
                    text(header, "PatientID"),
                    text(header, "PatientName"),
                    to_json(facts),
                    at,
                    at,
                ),
            )
            _touched(connection, series_uid, arrival)

    def _touch(self, series_uid: str, arrival: Arrival) -> None:
        """An instance that came again: the series is not quiet, but nothing about it is new."""
        with self.database.transaction() as connection:
            connection.execute(
                "UPDATE series SET last_at = ?, state = CASE state WHEN 'incomplete' THEN 'receiving' ELSE state END"
                " WHERE series_uid = ?",
                (now(), series_uid),
            )
            _touched(connection, series_uid, arrival)

    def paths(self, series_uid: str) -> list[Path]:
        """The files of a series."""
        rows = self.database.rows(
            "SELECT path FROM instances WHERE series_uid = ? ORDER BY sop_uid", series_uid
        )
        return [self.root / row["path"] for row in rows]

    def content_of(self, series_uid: str) -> str:
        """One hash of all images of a series: other images, another hash."""
        rows = self.database.rows(
            "SELECT sop_uid, sha256 FROM instances WHERE series_uid = ? ORDER BY sop_uid", series_uid
        )
        return hashlib.sha256("\n".join(f"{r['sop_uid']} {r['sha256']}" for r in rows).encode()).hexdigest()

    def free_gb(self) -> float:
        """Free space where the images lie."""
        return shutil.disk_usage(self.root).free / 1e9


def series_facts(header: Dataset) -> dict[str, str]:
    """What rules and the page look at, by DICOM keyword; values of several parts are joined by a backslash."""
    return {keyword: _fact(header, keyword) for keyword in FACT_KEYWORDS}


def sync_folder(folder: Path) -> None:
    """Puts a folder's list of names on disk, where the system has a way to (Windows has none and needs none)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _touched(connection: object, series_uid: str, arrival: Arrival) -> None:
    if arrival.association is not None:
        connection.execute(  # type: ignore[attr-defined]
            "INSERT OR IGNORE INTO touches (association, series_uid) VALUES (?, ?)",
            (arrival.association, series_uid),
        )


def _header(content: bytes) -> Dataset:
    try:
        return dcmread(BytesIO(content), stop_before_pixels=True)
    except UNREADABLE as error:
        raise InputError("This instance cannot be read.", found=error) from error


def _fact(header: Dataset, keyword: str) -> str:
    try:
        value = header.get(keyword)
    except UNREADABLE:
        return ""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip("\0 ")
    return "\\".join(str(v) for v in value) if hasattr(value, "__iter__") else str(value)


def _digest(uid: str) -> str:
    """A short name for a file or folder: UIDs of strangers are no safe names."""
    return hashlib.sha256(uid.encode("utf-8", "surrogateescape")).hexdigest()[:24]
