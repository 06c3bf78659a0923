"""What a file is that is no DICOM file: archives, compressed slices, images of other formats, by their first bytes."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SNIFFED_BYTES = 512
UNPACK = "unpack it into a folder of its own and give that folder"
NO_CT = "contour-ai reads CTs as DICOM only; export the original DICOM slices"
DICOM_SUFFIXES = frozenset({"", ".dcm", ".dicom", ".dic", ".ima", ".img"})
UID_NAME = re.compile(r"[\d.]{8,}")
SYSTEM_NAMES = frozenset({".ds_store", "thumbs.db", "desktop.ini", "dicomdir"})


@dataclass(frozen=True, kw_only=True)
class ForeignKind:
    """A format that lies in patient folders; `fix` is what to do where it was meant as input."""

    name: str
    several: str
    fix: str
    holds_dicom: bool = False
    """Whether there is, or may be, DICOM inside."""


ZIP = ForeignKind(name="zip archive", several="zip archives", fix=UNPACK, holds_dicom=True)
TAR = ForeignKind(name="tar archive", several="tar archives", fix=UNPACK, holds_dicom=True)
SEVEN_ZIP = ForeignKind(name="7z archive", several="7z archives", fix=UNPACK, holds_dicom=True)
RAR = ForeignKind(name="rar archive", several="rar archives", fix=UNPACK, holds_dicom=True)
GZIP = ForeignKind(name="gzip file", several="gzip files", fix="unpack it (gunzip)", holds_dicom=True)
GZIP_TAR = ForeignKind(
    name="gzipped tar archive", several="gzipped tar archives", fix=UNPACK, holds_dicom=True
)
GZIP_DICOM = ForeignKind(
    name="gzipped DICOM file",
    several="gzipped DICOM files",
    fix="unpack them (gunzip *.gz)",
    holds_dicom=True,
)
PACKED = ForeignKind(
    name="compressed file (bzip2 or xz)",
    several="compressed files (bzip2 or xz)",
    fix="unpack it",
    holds_dicom=True,
)
NIFTI = ForeignKind(name="NIfTI file", several="NIfTI files", fix=NO_CT)
NRRD = ForeignKind(name="NRRD file", several="NRRD files", fix=NO_CT)
META_IMAGE = ForeignKind(name="MetaImage file", several="MetaImage files", fix=NO_CT)
NUMPY = ForeignKind(name="NumPy file", several="NumPy files", fix=NO_CT)
MINC = ForeignKind(name="HDF5 or MINC file", several="HDF5 or MINC files", fix=NO_CT)
PICTURE = ForeignKind(name="picture", several="pictures", fix=NO_CT)
PDF = ForeignKind(name="PDF document", several="PDF documents", fix=NO_CT)
OTHER = ForeignKind(name="other file", several="other files", fix="")


def foreign_kind(path: Path) -> ForeignKind:
    """What a file without DICOM's marks is; `OTHER` where that is not known."""
    start = _start(path)
    if start.startswith(b"\x1f\x8b"):
        inside = _inflated(start)
        if inside[128:132] == b"DICM":
            return GZIP_DICOM
        return {NIFTI: NIFTI, NRRD: NRRD, TAR: GZIP_TAR}.get(_plain_kind(inside, path), GZIP)
    return _plain_kind(start, path)


def looks_like_dicom(path: Path) -> bool:
    """Whether a file that cannot be read was meant to be DICOM: by its name, and as it is neither text nor known."""
    name = path.name.casefold()
    if name in SYSTEM_NAMES or name.startswith("._") or name.startswith(".git"):
        return False
    numbered = path.suffix[1:].isdigit()  # UIDs and numbered slices: "1.2.840.1", "slice.0012"
    if not (numbered or path.suffix.casefold() in DICOM_SUFFIXES or UID_NAME.fullmatch(path.stem)):
        return False
    start = _start(path)
    return not start or not any(start) or (foreign_kind(path) is OTHER and not _is_text(start))


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(SNIFFED_BYTES)
    except OSError:
        return b""


def _inflated(start: bytes) -> bytes:
    """The first bytes inside a gzip file, as far as its own first bytes give them."""
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(start, SNIFFED_BYTES)
    except zlib.error:
        return b""


def _is_text(start: bytes) -> bool:
    return b"\0" not in start and sum(byte < 9 or 13 < byte < 32 for byte in start) == 0


def _plain_kind(start: bytes, path: Path) -> ForeignKind:
    return next((kind for kind, is_it in SIGNS if is_it(start, path)), OTHER)


def _begins(*signs: bytes) -> Callable[[bytes, Path], bool]:
    return lambda start, path: start.startswith(signs)


SIGNS: tuple[tuple[ForeignKind, Callable[[bytes, Path], bool]], ...] = (
    (NUMPY, lambda start, path: start.startswith(b"\x93NUMPY") or path.suffix.casefold() == ".npz"),
    (ZIP, _begins(b"PK\x03\x04", b"PK\x05\x06")),
    (TAR, lambda start, path: start[257:262] == b"ustar"),
    (SEVEN_ZIP, _begins(b"7z\xbc\xaf\x27\x1c")),
    (RAR, _begins(b"Rar!\x1a\x07")),
    (PACKED, _begins(b"BZh", b"\xfd7zXZ\0")),
    (
        NIFTI,
        lambda start, path: start[344:347] in (b"n+1", b"ni1") or start[4:8] in (b"n+2\0", b"ni2\0"),
    ),
    (NRRD, _begins(b"NRRD")),
    (META_IMAGE, lambda start, path: path.suffix.casefold() in (".mhd", ".mha") and b"NDims" in start),
    (MINC, _begins(b"\x89HDF\r\n\x1a\n")),
    (PICTURE, _begins(b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*")),
    (PDF, _begins(b"%PDF")),
)
