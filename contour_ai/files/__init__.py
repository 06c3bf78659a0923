"""Writing files and folders so that nothing is half-written and nothing of the user's is lost.

Outputs are written under a temporary name and moved into place (`writing`); temporary names say which process uses
them, so that the next run removes what a killed one left (`temporary`, `process`). An output folder lists its files
with sizes and hashes (`manifest`): it is replaced only while it holds nothing else, and never read as input of a
folder above it.
"""

from contour_ai.files.formats import NPZ, ROI_MAP, RTSTRUCT, SEG, FileKind, dicom_kind
from contour_ai.files.lock import LOCK, only_one
from contour_ai.files.manifest import (
    MANIFEST,
    Manifest,
    Record,
    Stranger,
    content_sha256,
    first_stranger,
    is_whole,
    update_manifest,
    write_manifest,
)
from contour_ai.files.names import MAX_NAME_CHARACTERS, safe_name
from contour_ai.files.private import private_file, private_folder, restrict
from contour_ai.files.process import ProcessId, this_process
from contour_ai.files.temporary import clear_left_behind, is_temporary
from contour_ai.files.text import write_text
from contour_ai.files.writing import atomic_file, atomic_folder, check_target

__all__ = [
    "LOCK",
    "MANIFEST",
    "MAX_NAME_CHARACTERS",
    "NPZ",
    "ROI_MAP",
    "RTSTRUCT",
    "SEG",
    "FileKind",
    "Manifest",
    "ProcessId",
    "Record",
    "Stranger",
    "atomic_file",
    "atomic_folder",
    "check_target",
    "clear_left_behind",
    "content_sha256",
    "dicom_kind",
    "first_stranger",
    "is_temporary",
    "is_whole",
    "only_one",
    "private_file",
    "private_folder",
    "restrict",
    "safe_name",
    "this_process",
    "update_manifest",
    "write_manifest",
    "write_text",
]
