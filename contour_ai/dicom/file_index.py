"""What is known of files that were looked at before: by path, size and time, so that they need not be opened again."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

from contour_ai import __version__
from contour_ai.dicom.classify import Looked, OtherFile, SliceFile, StructureSetFile
from contour_ai.files import atomic_file, private_folder, write_text

FORMAT = "contour-ai file index 1"

SETTLED_NS = 2_000_000_000
"""A file that changed less than two seconds before it was looked at may change again within the same time stamp (FAT
counts in two seconds); it is looked at again the next time."""

KINDS: dict[str, type[SliceFile] | type[StructureSetFile] | type[OtherFile]] = {
    "slice": SliceFile,
    "structure set": StructureSetFile,
    "other": OtherFile,
}
"""What is remembered. Files that are no DICOM, or damaged, are looked at each time."""

FIELDS = {name: tuple(f.name for f in fields(kind) if f.name != "path") for name, kind in KINDS.items()}


class FileIndex:
    """What each file of an archive is, as `classify.look` said it, while its size and time of change stay.

    A file that is replaced by another of the same size and time is not noticed. An index that is damaged, of another
    version of the program, or none at all is as an empty one.

    Args:
        path: the file of the index, in a folder that is for its owner alone.
    """

    NAME = "files.json"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[str, dict[str, list[Any]]] = {}
        self._texts: list[str] = []
        self._number: dict[str, int] = {}
        self._changed = False
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self._load()

    def _load(self) -> None:
        content = json.loads(self.path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT or content["version"] != __version__:
            return
        texts, folders = content["texts"], content["folders"]
        if not all(isinstance(text, str) for text in texts):
            return
        if all(isinstance(rows, dict) for rows in folders.values()):
            self._texts, self._rows = texts, folders
            self._number = {text: n for n, text in enumerate(texts)}

    def known(self, path: Path, stat: os.stat_result) -> Looked | None:
        """What a file is; None where it is not known, or has changed."""
        row = self._rows.get(_folder(path), {}).get(path.name)
        if row is None:
            return None
        try:
            size, changed_ns, kind, *values = row
            if (size, changed_ns) != (stat.st_size, stat.st_mtime_ns):
                return None
            return KINDS[kind](path=path, **self._unpacked(kind, values))
        except (ValueError, TypeError, KeyError, IndexError):
            return None

    def remember(self, found: Looked, stat: os.stat_result) -> None:
        """Adds a file, with its size and time from before it was opened."""
        kind = next((name for name, of in KINDS.items() if isinstance(found, of)), None)
        rows = self._rows.setdefault(_folder(found.path), {})
        if kind is None or stat.st_mtime_ns > time.time_ns() - SETTLED_NS:
            self._changed |= rows.pop(found.path.name, None) is not None
            return
        packed = [self._packed(getattr(found, name)) for name in FIELDS[kind]]
        rows[found.path.name] = [stat.st_size, stat.st_mtime_ns, kind, *packed]
        self._changed = True

    def keep_only(self, paths: Iterable[Path], below: Iterable[Path]) -> None:
        """Forgets files below some folders that are there no more."""
        there = {(_folder(path), path.name) for path in paths}
        roots = [str(root.absolute()) for root in below]
        for folder, rows in list(self._rows.items()):
            if any(folder == root or folder.startswith(root.rstrip(os.sep) + os.sep) for root in roots):
                for name in [name for name in rows if (folder, name) not in there]:
                    del rows[name]
                    self._changed = True
            if not rows:
                del self._rows[folder]

    def save(self) -> None:
        """Writes the index if anything in it has changed; folders that another process has added meanwhile stay.

        Raises:
            OutputError: it cannot be written.
        """
        if not self._changed:
            return
        other = FileIndex(self.path)
        for folder in other._rows.keys() - self._rows.keys():
            for name, row in other._rows[folder].items():
                with contextlib.suppress(ValueError, TypeError, KeyError, IndexError):
                    size, changed_ns, kind, *values = row
                    unpacked = other._unpacked(kind, values)
                    packed = [self._packed(unpacked[field]) for field in FIELDS[kind]]
                    self._rows.setdefault(folder, {})[name] = [size, changed_ns, kind, *packed]
        private_folder(self.path.parent)
        content = {
            "format": FORMAT,
            "version": __version__,
            "texts": self._texts,
            "folders": {folder: rows for folder, rows in self._rows.items() if rows},
        }
        with atomic_file(self.path, overwrite=True, private=True) as temporary:
            write_text(temporary, json.dumps(content, separators=(",", ":")))
        self._changed = False

    def _packed(self, value: str | int | tuple[str, ...]) -> Any:
        """Texts, most of which many files share, as their number; whole numbers in a list of their own."""
        if isinstance(value, int):
            return [value]
        if isinstance(value, tuple):
            return [[self._packed(text) for text in value]]
        if value not in self._number:
            self._number[value] = len(self._texts)
            self._texts.append(value)
        return self._number[value]

    def _unpacked(self, kind: str, values: list[Any]) -> dict[str, Any]:
        found = dict(zip(FIELDS[kind], map(self._value, values), strict=True))
        for name, value in found.items():
            if not isinstance(value, TYPES.get(name, str)):
                raise TypeError(name)
        return found

    def _value(self, packed: Any) -> str | int | tuple[str, ...]:
        if isinstance(packed, int):
            return self._text(packed)
        (value,) = packed
        return value if isinstance(value, int) else tuple(self._text(n) for n in value)

    def _text(self, number: int) -> str:
        if number < 0:
            raise IndexError(number)
        return self._texts[number]


TYPES: dict[str, type[int] | type[tuple[str, ...]]] = {
    "frames": int,
    "frame_of_reference_uids": tuple,
    "referenced_series_uids": tuple,
    "referenced_sop_uids": tuple,
    "roi_names": tuple,
}
"""Of the fields that are no text."""


def _folder(path: Path) -> str:
    return str(path.parent.absolute())
