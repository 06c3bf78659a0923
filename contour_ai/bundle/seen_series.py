"""Which CT series a model has seen in training, as salted hashes: known again by their UID, or by their slices."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

HASH_DIGITS = 16
"""Hexadecimal digits of a hash (64 bits): no two series of any archive share one by chance."""
KEPT_SLICES = 6
"""Hashes of slices that are kept of a series: those with the smallest values, so that any slices may be missing from
another export of it."""
EQUAL_SLICES = 2
"""So many of them must be found again."""
LEAST_VALUES = 64
"""A slice with fewer different densities in the patient is drawn or empty, and equal to slices of other series."""
PATIENT_FROM_HU = -500
LEAST_FRACTION = 0.02
"""Of the pixels of a slice: with less of the patient in it, it does not count."""

Role = Literal["training", "held back"]


@dataclass(frozen=True, kw_only=True)
class SeriesContent:
    """A CT series as it is hashed.

    Args:
        uid: SeriesInstanceUID; "" where there is none.
        slices: of `slice_digests`.
    """

    uid: str
    slices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SeenSeries:
    """The series of one training. Whoever has a series can tell whether it is among them; nothing else can be read."""

    salt: str
    """Hexadecimal, drawn by chance for every training."""
    training: tuple[str, ...] = ()
    """Of each series: the hash of its UID and those of some slices, separated by spaces."""
    held_back: tuple[str, ...] = ()
    """The same of the patients that validated, on whom the weights and the rules after the network were chosen."""

    @classmethod
    def of(
        cls,
        training: Iterable[SeriesContent],
        held_back: Iterable[SeriesContent] = (),
        *,
        salt: str | None = None,
    ) -> SeenSeries:
        """Hashes series; those that trained are not listed among those held back."""
        salt = secrets.token_hex(8) if salt is None else salt
        learnt = sorted({_line(salt, one) for one in training})
        others = sorted({_line(salt, one) for one in held_back} - set(learnt))
        return cls(salt=salt, training=tuple(learnt), held_back=tuple(others))

    def role_of(self, content: SeriesContent) -> Role | None:
        """What a series was in the training; None where it is not known."""
        uid = _hash(self.salt, f"series {content.uid}") if content.uid else ""
        slices = {_hash(self.salt, digest) for digest in content.slices}
        if any(_is_same(line, uid, slices) for line in self.training):
            return "training"
        return "held back" if any(_is_same(line, uid, slices) for line in self.held_back) else None


def role_in(seen: Sequence[SeenSeries], content: SeriesContent) -> Role | None:
    """What a series was in several trainings, one of which began with the model of another."""
    roles = {one.role_of(content) for one in seen}
    return "training" if "training" in roles else "held back" if "held back" in roles else None


def series_in_words(seen: Sequence[SeenSeries]) -> str:
    """How many series are recorded, for people."""
    if not seen:
        return "not recorded"
    training, held_back = sum(len(s.training) for s in seen), sum(len(s.held_back) for s in seen)
    return f"salted hashes of {training} CT series trained on and {held_back} held back"


def slice_digests(hu: NDArray[np.generic]) -> tuple[str, ...]:
    """Hashes of the slices (k, i, j) of a CT, in Hounsfield units on its own grid, that show enough of a patient."""
    found = []
    for plane in hu:
        values = np.ascontiguousarray(np.rint(plane).astype("<i2"))
        inside = values[values > PATIENT_FROM_HU]
        if inside.size < LEAST_FRACTION * values.size or np.unique(inside).size < LEAST_VALUES:
            continue
        found.append(hashlib.sha256(str(values.shape).encode() + values.tobytes()).hexdigest())
    return tuple(found)


def _line(salt: str, content: SeriesContent) -> str:
    uid = _hash(salt, f"series {content.uid}") if content.uid else "-"
    return " ".join([uid, *sorted(_hash(salt, digest) for digest in content.slices)[:KEPT_SLICES]])


def _is_same(line: str, uid: str, slices: set[str]) -> bool:
    known, *kept = line.split(" ")
    if uid and known == uid:
        return True
    return bool(kept) and len(slices.intersection(kept)) >= min(EQUAL_SLICES, len(kept))


def _hash(salt: str, text: str) -> str:
    return hashlib.sha256(f"{salt} {text}".encode()).hexdigest()[:HASH_DIGITS]
