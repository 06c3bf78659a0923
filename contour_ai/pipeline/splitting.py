"""Which patients are trained on, which validate, and which are left out of both."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from contour_ai.dicom.header import read_header
from contour_ai.dicom.values import text
from contour_ai.errors import ConfigError, listed
from contour_ai.pipeline.archive import PatientSource
from contour_ai.pipeline.archive_places import normal_place
from contour_ai.training.cache import Case
from contour_ai.training.data_config import DataConfig

DATES = ("AcquisitionDate", "SeriesDate", "StudyDate")
SAMPLED = 3
"""Every so many voxels along each axis are compared first; only then whole images."""


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """How validation patients are chosen.

    Args:
        fraction: of the patients, by a hash of the patient ID.
        fold: (k, n) for part k of n of a cross-validation instead.
        labels: exactly these instead; None for a hash.
    """

    fraction: float = 0.15
    fold: tuple[int, int] | None = None
    labels: frozenset[str] | None = None


def held_out(data: DataConfig, patients: Sequence[PatientSource]) -> HeldOut:
    """How a configuration chooses the validation patients of an archive.

    Raises:
        ConfigError: it names patients that cannot be used, or a CT has no date to go by.
    """
    if data.validation_patients is not None:
        return HeldOut(labels=frozenset(_named(patients, data.validation_patients)))
    if data.validation_from is not None:
        first = data.validation_from.replace("-", "")
        return HeldOut(labels=frozenset(p.label for p in patients if _scanned_on(p) >= first))
    return HeldOut(fraction=data.validation_share, fold=data.fold)


def _named(patients: Sequence[PatientSource], places: Sequence[str]) -> list[str]:
    """Labels of the patients with one of these IDs, or in one of these folders."""
    found: dict[str, list[str]] = {}
    for place in places:
        wanted = normal_place(place)
        found[place] = [
            p.label for p in patients if wanted in p.places or wanted == normal_place(p.patient_id)
        ]
    missing = [place for place, labels in found.items() if not labels]
    if missing:
        raise ConfigError(
            "data.validation_patients speaks of patients that are not in this archive, or cannot be used.",
            found=listed(missing, between=", "),
            expected="patient IDs, or folders below the archive, of patients that are not left out",
        )
    return [label for labels in found.values() for label in labels]


def _scanned_on(patient: PatientSource) -> str:
    """The day of a CT, as DICOM writes it.

    Raises:
        ConfigError: it has none.
    """
    header = read_header(patient.files.ct.paths[0], DATES)
    found = next(filter(None, ("".join(filter(str.isdigit, text(header, d))) for d in DATES)), "")
    if not found:
        raise ConfigError(
            "A CT has no date, and data.validation_from goes by it.",
            where=patient.files.ct.paths[0],
            found=f"patient {patient.label} without {', '.join(DATES)}",
            fix="leave the patient out (--exclude), or choose with data.validation_patients",
        )
    return found


@dataclass(frozen=True, kw_only=True)
class PatientSplit:
    """Labels of the training and of the validation patients, and why others are in neither."""

    training: list[str]
    validation: list[str]
    left_out: Mapping[str, str] = field(default_factory=dict)


def same_images(cases: Mapping[str, Case]) -> list[tuple[str, ...]]:
    """Groups of labels whose images are equal, voxel for voxel: one CT under several names.

    Args:
        cases: {label: patient on the model's grid}.
    """
    alike: dict[tuple[tuple[int, ...], int], list[str]] = {}
    for label, case in cases.items():
        hu = case.whole().hu
        some = np.ascontiguousarray(hu[::SAMPLED, ::SAMPLED, ::SAMPLED])
        alike.setdefault((hu.shape, zlib.crc32(some.tobytes())), []).append(label)
    groups: list[tuple[str, ...]] = []
    for labels in alike.values():
        while len(labels) > 1:
            first = cases[labels[0]].whole().hu
            equal = [label for label in labels if np.array_equal(cases[label].whole().hu, first)]
            if len(equal) > 1:
                groups.append(tuple(equal))
            labels = [label for label in labels if label not in equal]
    return groups


def people(ids: Mapping[str, str], same: Sequence[Collection[str]] = ()) -> dict[str, frozenset[str]]:
    """{label: patient IDs of the person}: IDs that share an image are one person's.

    Args:
        ids: {label: patient ID}.
        same: groups of labels with equal images.
    """
    person = {i: frozenset([i]) for i in ids.values()}
    for group in same:
        together = frozenset().union(*(person[ids[label]] for label in group))
        for i in together:
            person[i] = together
    return {label: person[i] for label, i in ids.items()}


def split_patients(
    ids: Mapping[str, str],
    held_out: HeldOut,
    same: Sequence[Collection[str]] = (),
    excluded: Mapping[str, str] | None = None,
) -> PatientSplit:
    """Who is trained on and who validates; all that is of one person stays on one side.

    A person goes by a hash of the patient ID alone, so that adding patients moves nobody to the other side. Where that
    leaves one side empty, the person with the smallest hash validates; a single one does both.

    Args:
        ids: {label: patient ID}, those excluded among them.
        held_out: how validation patients are chosen.
        same: groups of labels with equal images.
        excluded: {label: reason} of patients that must be on neither side, nor any other image of theirs.

    Raises:
        ConfigError: fewer patients than parts, or nobody left to train on or to validate.
    """
    excluded = excluded or {}
    persons = people(ids, same)
    out = {persons[label]: label for label in excluded}
    left_out = {
        label: excluded.get(label) or f"the same patient as {out[person]}, who is left out"
        for label, person in persons.items()
        if person in out
    }
    usable = {label: person for label, person in persons.items() if label not in left_out}
    if held_out.labels is not None:
        chosen = {usable[label] for label in held_out.labels if label in usable}
        _refuse_one_side(usable, chosen)
    else:
        chosen = _by_hash(usable, held_out)
    training = [label for label, person in usable.items() if person not in chosen]
    validation = [label for label, person in usable.items() if person in chosen]
    return PatientSplit(training=training or validation, validation=validation or training, left_out=left_out)


def split(
    labels_and_ids: Mapping[str, str], validation_share: float, fold: tuple[int, int] | None = None
) -> tuple[list[str], list[str]]:
    """Labels of the training and of the validation patients, by a hash (see `split_patients`)."""
    found = split_patients(labels_and_ids, HeldOut(fraction=validation_share, fold=fold))
    return found.training, found.validation


def _refuse_one_side(usable: Mapping[str, frozenset[str]], chosen: Collection[frozenset[str]]) -> None:
    people_left = set(usable.values())
    if not chosen or len(chosen) == len(people_left):
        raise ConfigError(
            "The validation patients that were chosen leave one side empty.",
            found=f"{len(chosen)} of {len(people_left)} patients validate",
            expected="at least one to train on and one to validate",
            fix="change data.validation_patients or data.validation_from",
        )


def _by_hash(usable: Mapping[str, frozenset[str]], held_out: HeldOut) -> set[frozenset[str]]:
    """The people who validate."""
    places = {person: min(map(_place, person)) for person in set(usable.values())}
    ordered = sorted(places, key=lambda person: places[person])
    if held_out.fold is not None:
        part, parts = held_out.fold
        if len(ordered) < parts:
            raise ConfigError(
                "There are fewer patients than parts of the cross-validation.",
                found=f"{len(ordered)} patients",
                expected=f"at least {parts}",
                fix="choose fewer parts: --fold 1/2",
            )
        return set(ordered[part - 1 :: parts])
    chosen = {person for person in ordered if places[person] < held_out.fraction}
    if len(ordered) > 1 and (not chosen or len(chosen) == len(ordered)):
        chosen = {ordered[0]}
    return chosen


def _place(patient_id: str) -> float:
    """0 to 1, the same for an ID whatever else is in the archive."""
    digest = hashlib.sha256(f"contour-ai split {patient_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
