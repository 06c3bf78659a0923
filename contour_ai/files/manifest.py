"""The list of an output folder's files, with sizes and hashes: what may be replaced, and what is never input."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Record = Literal["results", "patients"]
"""What a folder holds: results, which never become input of a folder above them; or patients, made to be input."""

MANIFEST = ".contour-ai.json"
FORMAT = 1

MADE_BY_SYSTEMS = frozenset({".ds_store", "thumbs.db", "desktop.ini"})
"""Files that file managers put into any folder: nobody's work, so they keep no folder from being replaced."""

HASH_THREADS = 4


@dataclass(frozen=True)
class FileFacts:
    """Size and hash of a file."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What contour-ai wrote into a folder.

    Args:
        record: what the files are.
        files: {path in the folder, with '/': size and hash}, the manifest itself left out.
    """

    record: Record
    files: dict[str, FileFacts]

    def save(self, folder: Path) -> None:
        """Writes it into its folder: the same bytes for the same files, whoever writes them and when."""
        content = {
            "what": "files that contour-ai wrote into this folder; it replaces the folder only while they are as "
            "listed here",
            "format": FORMAT,
            "record": self.record,
            "files": {
                name: {"size": facts.size, "sha256": facts.sha256}
                for name, facts in sorted(self.files.items())
            },
        }
        # ASCII: a name that is not valid Unicode can be told all the same.
        text = json.dumps(content, indent=1) + "\n"
        (folder / MANIFEST).write_text(text, encoding="ascii", newline="\n")

    @classmethod
    def load(cls, folder: Path) -> Manifest | None:
        """The manifest of a folder, or None where there is none that can be read."""
        try:
            content = json.loads((folder / MANIFEST).read_text(encoding="ascii"))
            files = {
                str(name): FileFacts(int(facts["size"]), str(facts["sha256"]))
                for name, facts in content["files"].items()
            }
            record = content["record"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        return cls(record, files) if record in ("results", "patients") else None


@dataclass(frozen=True)
class Stranger:
    """A file in an output folder that is not as contour-ai wrote it."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def write_manifest(folder: Path, record: Record) -> None:
    """Lists all files of a folder that was just written."""
    paths = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
    paths.pop(MANIFEST, None)
    with ThreadPoolExecutor(HASH_THREADS) as pool:
        Manifest(record, dict(zip(paths, pool.map(facts_of, paths.values()), strict=True))).save(folder)


def update_manifest(folder: Path, *names: str, make: Record | None = None) -> None:
    """Notes that contour-ai itself has changed or added files in a folder.

    Args:
        make: what a folder without a manifest holds; None where it is to stay without.
    """
    manifest = Manifest.load(folder) or (None if make is None else Manifest(make, {}))
    if manifest is not None:
        files = {**manifest.files, **{name: facts_of(folder / name) for name in names}}
        Manifest(manifest.record, files).save(folder)


def first_stranger(folder: Path) -> Stranger | None:
    """The first file in a folder that contour-ai did not write, or that was changed since; None where there is none."""
    manifest = Manifest.load(folder)
    if manifest is None:
        listing = folder / MANIFEST
        if listing.exists():
            return Stranger(listing, "the list of the folder's files cannot be read")
        first = next((p for p in _files(folder) if not _is_of_system(p)), None)
        return None if first is None else Stranger(first, f"not listed, there is no {MANIFEST}")
    for path in _files(folder):
        name = path.relative_to(folder).as_posix()
        if name == MANIFEST or _is_of_system(path):
            continue
        listed = manifest.files.get(name)
        if listed is None:
            return Stranger(path, "not written by contour-ai")
        if path.is_symlink() or not path.is_file():
            return Stranger(path, "a link, and was a file")
        if path.stat().st_size != listed.size or facts_of(path) != listed:
            return Stranger(path, "changed since contour-ai wrote it")
    return None


def is_whole(folder: Path, name: str) -> bool:
    """Whether a file of an output folder is there and as it was written."""
    manifest = Manifest.load(folder)
    listed = None if manifest is None else manifest.files.get(name)
    try:
        return listed is not None and facts_of(folder / name) == listed
    except OSError:
        return False


def facts_of(path: Path) -> FileFacts:
    """Size and SHA-256 of a file."""
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            size += len(block)
    return FileFacts(size, digest.hexdigest())


def content_sha256(paths: Iterable[Path]) -> str:
    """SHA-256 of the files' bytes, whatever their names and order."""
    with ThreadPoolExecutor(HASH_THREADS) as pool:
        digests = sorted(facts.sha256 for facts in pool.map(facts_of, paths))
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    """Every file below a folder, and every link, sorted; links are not followed."""
    for here, folders, names in os.walk(folder):
        folders.sort()
        links = [name for name in folders if Path(here, name).is_symlink()]
        yield from (Path(here, name) for name in sorted([*names, *links]))


def _is_of_system(path: Path) -> bool:
    return path.name.casefold() in MADE_BY_SYSTEMS and not path.is_symlink()
