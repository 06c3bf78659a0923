"""What a file is, by its first bytes: a single file is replaced only by one of its own kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LOOKED_AT = 4096
"""Bytes at the start of a file that tell what it is."""

PREAMBLE = 128
"""Bytes before the letters DICM of a DICOM file (PS3.10, section 7.1)."""


@dataclass(frozen=True)
class FileKind:
    """A kind of file that contour-ai writes.

    Args:
        name: as in "This is no ...".
        fits: told the first bytes of a file.
    """

    name: str
    fits: Callable[[bytes], bool]

    def holds(self, path: Path) -> bool:
        """Whether `path` is a file of this kind; an empty one is of any."""
        with path.open("rb") as file:
            start = file.read(LOOKED_AT)
        return not start or self.fits(start)


def dicom_kind(name: str, sop_class_uid: str) -> FileKind:
    """DICOM files of one SOP class, by the MediaStorageSOPClassUID of their file meta information."""
    element = b"\x02\x00\x02\x00UI"
    padded = sop_class_uid.encode("ascii") + b"\0" * (len(sop_class_uid) % 2)
    value = element + len(padded).to_bytes(2, "little") + padded
    return FileKind(name, lambda start: start[PREAMBLE : PREAMBLE + 4] == b"DICM" and value in start)


NPZ = FileKind(
    "npz file of masks", lambda start: start[:4] in (b"PK\x03\x04", b"PK\x05\x06") and b".npy" in start
)
RTSTRUCT = dicom_kind("RTSTRUCT", "1.2.840.10008.5.1.4.1.1.481.3")
SEG = dicom_kind("SEG", "1.2.840.10008.5.1.4.1.1.66.4")
ROI_MAP = FileKind("ROI map", lambda start: b"rois:" in start or b"ignore:" in start)
