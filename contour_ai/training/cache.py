"""Prepared patients on disk: computed once per content and settings, written as a whole, read by memory mapping."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contour_ai.files import atomic_folder
from contour_ai.volume import bits_dtype

CACHE_FORMAT = 1
"""Changes whenever the same files and settings give other arrays, so that old entries are not taken."""

UNKNOWN, CONTOURED, ABSENT = 0, 1, 2
"""What is known of a ROI in a patient: not contoured, which says nothing; contoured; certainly not there."""


@dataclass(frozen=True, eq=False)
class Case:
    """A patient on the model grid, whose axes run superior, posterior, left.

    `hu` (k, i, j) int16, air outside the body; bit r of `bits` (k, i, j) is ROI `rois[r]`; `presence[r]` says
    whether it was contoured. Cached arrays are mapped into memory whenever they are asked for, and closed when they
    are let go: an archive of thousands needs neither their memory nor as many open files.
    """

    patient_id: str
    image: NDArray[np.int16] | Path
    """`hu`, or the file that holds it."""
    labels: NDArray[np.unsignedinteger] | Path
    """`bits`, or the file that holds them."""
    rois: tuple[str, ...]
    presence: tuple[bool, ...]
    spacing_mm_kij: tuple[float, float, float]
    notes: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    """ROIs that are certainly not in this patient: outside the scan, or removed by surgery; none of them contoured."""

    @property
    def states(self) -> tuple[int, ...]:
        """`UNKNOWN`, `CONTOURED` or `ABSENT` of every ROI."""
        return tuple(
            CONTOURED if here else ABSENT if roi in self.absent else UNKNOWN
            for roi, here in zip(self.rois, self.presence, strict=True)
        )

    @property
    def hu(self) -> NDArray[np.int16]:
        """(k, i, j) Hounsfield units; read-only where cached."""
        return np.load(self.image, mmap_mode="r") if isinstance(self.image, Path) else self.image

    @property
    def bits(self) -> NDArray[np.unsignedinteger]:
        """(k, i, j) one bit a ROI; read-only where cached."""
        return np.load(self.labels, mmap_mode="r") if isinstance(self.labels, Path) else self.labels

    def select(self, rois: tuple[str, ...]) -> Case:
        """The same patient with the ROIs asked for, in their order; those it does not know are not contoured."""
        if rois == self.rois:
            return self
        dtype, old = bits_dtype(len(rois)), self.bits
        bits = np.zeros(old.shape, dtype)
        presence = tuple(name in self.rois and self.presence[self.rois.index(name)] for name in rois)
        for r, name in enumerate(rois):
            if presence[r]:
                here = (old >> old.dtype.type(self.rois.index(name))) & old.dtype.type(1)
                bits |= here.astype(dtype) << dtype.type(r)
        return replace(self, labels=bits, rois=rois, presence=presence)


def content_hash(paths: Iterable[Path]) -> str:
    """SHA-256 of the files' bytes, whatever their names and order."""
    digests = []
    for path in paths:
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest")
                           else hashlib.sha256(file.read()).hexdigest())  # fmt: skip
    return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()


def case_key(content: str, settings: Mapping[str, object]) -> str:
    """The name of a cache entry: a hash of the files' content and of all that decides what is made of it."""
    text = json.dumps([CACHE_FORMAT, content, settings], sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def load_case(cache: Path, key: str) -> Case | None:
    """The entry `key`, its arrays still on disk, or None where there is none."""
    folder = cache / key
    if not (folder / "case.json").is_file():
        return None
    facts = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    k, i, j = facts["spacing_mm_kij"]
    return Case(
        facts["patient_id"],
        folder / "hu.npy",
        folder / "bits.npy",
        tuple(facts["rois"]),
        tuple(facts["presence"]),
        (k, i, j),
        tuple(facts["notes"]),
    )


def save_case(cache: Path, key: str, case: Case) -> Case:
    """Writes an entry, as a whole or not at all, and gives it back as `load_case` does.

    Raises:
        OutputError: the cache cannot be written.
    """
    with atomic_folder(cache / key, overwrite=True) as folder:
        np.save(folder / "hu.npy", np.ascontiguousarray(case.hu))
        np.save(folder / "bits.npy", np.ascontiguousarray(case.bits))
        facts = {
            "patient_id": case.patient_id,
            "rois": case.rois,
            "presence": [bool(p) for p in case.presence],
            "spacing_mm_kij": case.spacing_mm_kij,
            "notes": case.notes,
        }
        (folder / "case.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    loaded = load_case(cache, key)
    assert loaded is not None
    return loaded
