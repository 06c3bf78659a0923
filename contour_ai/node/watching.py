"""Watched folders: files of exports are taken when they stop growing, and never moved or deleted unless configured."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from contour_ai.errors import InputError
from contour_ai.node.audit import AuditLog
from contour_ai.node.config import WatchedFolder
from contour_ai.node.database import Database, now
from contour_ai.node.store import Arrival, ImageStore, Receipt

logger = logging.getLogger(__name__)

FOLDER = "FOLDER"
"""Calling AE title of what comes from a folder."""


@dataclass(frozen=True)
class _Look:
    """A file as it was seen last, and since when (monotonic seconds)."""

    size: int
    modified: float
    since: float


class FolderWatch:
    """Looks through one folder again and again."""

    def __init__(
        self, folder: WatchedFolder, called_ae: str, database: Database, store: ImageStore, audit: AuditLog
    ) -> None:
        self.folder, self.called_ae = folder, called_ae
        self.database, self.store, self.audit = database, store, audit
        self._seen: dict[Path, _Look] = {}

    def look(self) -> list[Receipt]:
        """Takes the files that have not changed for `settle_s`; the others are looked at again the next time."""
        root = Path(self.folder.folder)
        receipts = []
        present = set()
        for path in sorted(root.glob(self.folder.pattern)):
            try:
                status = path.stat()
            except OSError:
                continue  # removed meanwhile
            if not path.is_file():
                continue
            present.add(path)
            if self._settled(path, status.st_size, status.st_mtime):
                receipt = self._take(path, status.st_size, status.st_mtime)
                if receipt is not None:
                    receipts.append(receipt)
        self._seen = {path: look for path, look in self._seen.items() if path in present}
        return receipts

    def _settled(self, path: Path, size: int, modified: float) -> bool:
        """Whether a file is new to the node and has not changed for a while; an empty one is still to come."""
        taken = self.database.row("SELECT size, modified FROM watched WHERE path = ?", str(path))
        if taken is not None and (taken["size"], taken["modified"]) == (size, modified):
            return False
        look = self._seen.get(path)
        if look is None or (look.size, look.modified) != (size, modified):
            self._seen[path] = _Look(size, modified, time.monotonic())
            return False
        return size > 0 and time.monotonic() - look.since >= self.folder.settle_s

    def _take(self, path: Path, size: int, modified: float) -> Receipt | None:
        receipt = None
        try:
            content = path.read_bytes()
            receipt = self.store.add(
                _with_meta(content), Arrival(association=None, calling_ae=FOLDER, called_ae=self.called_ae)
            )
        except InputError as error:
            logger.info("not taken from a watched folder: %s: %s", path, error.what)
        except OSError as error:
            logger.warning("%s could not be taken: %s", path, error)
            return None  # a share that was away, a full disk: looked at again
        self.database.execute(
            "INSERT OR REPLACE INTO watched (path, size, modified, taken_at) VALUES (?, ?, ?, ?)",
            str(path),
            size,
            modified,
            now(),
        )
        if receipt is not None and self.folder.delete:
            try:
                path.unlink()
                self.audit.write("node", "removed from watched folder", file=str(path))
            except OSError as error:
                logger.warning("%s could not be removed: %s", path, error)
        return receipt


def _with_meta(content: bytes) -> bytes:
    """A DICOM file with preamble and meta information, also where an export left them out.

    Raises:
        InputError: it is no DICOM file.
    """
    if content[128:132] == b"DICM":
        return content
    from io import BytesIO

    from pydicom.dataset import FileMetaDataset
    from pydicom.filereader import dcmread
    from pydicom.filewriter import dcmwrite
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

    from contour_ai.dicom.header import NOT_DICOM, UNREADABLE

    try:
        data_set = dcmread(BytesIO(content), force=True)
        if "SOPClassUID" not in data_set:
            raise InputError(NOT_DICOM)
        implicit, _ = data_set.original_encoding
        data_set.file_meta = FileMetaDataset()
        data_set.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        out = BytesIO()
        dcmwrite(out, data_set, enforce_file_format=True)
    except UNREADABLE as error:
        raise InputError("This instance cannot be read.", found=error) from error
    return out.getvalue()
