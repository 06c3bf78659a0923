"""From a folder of exported patients to prepared training cases: paired, mapped, left out where unusable, cached."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from contour_ai.dicom.ct import read_ct, refuse_wide_gaps
from contour_ai.dicom.rtstruct_read import read_structures
from contour_ai.dicom.scan import PatientFiles, find_patients
from contour_ai.errors import ConfigError, InputError
from contour_ai.grid import Grid
from contour_ai.preprocess import PreprocessSettings, prepare, resample_structures
from contour_ai.progress import OnProgress, ProgressEvent, no_progress
from contour_ai.structures import roi_info, tg263_name
from contour_ai.structures.roi_map import RoiMap
from contour_ai.training.cache import Case, case_key, content_hash, load_case, save_case
from contour_ai.volume import Structures

PREPARING_THREADS = 4
"""Patients prepared at once, at most: each holds a whole CT in memory."""

GRIDS_LOOKED_AT = 40
"""The median voxel size is that of so many patients, evenly picked; reading every slice of every one takes long."""


@dataclass(frozen=True)
class Source:
    """A patient of the archive that can be trained on."""

    label: str
    """The patient ID, with the series where a patient has several; unique."""
    patient_id: str
    files: PatientFiles
    rois: Mapping[str, str]
    """{ROI: its name in the structure set}."""


@dataclass(frozen=True)
class Sources:
    """What can be trained on, and what cannot and why."""

    patients: tuple[Source, ...]
    left_out: Mapping[str, str]
    """{patient: reason}."""

    def counts(self) -> dict[str, int]:
        """{ROI: number of patients whose structure set has it}, by name."""
        found = Counter(roi for patient in self.patients for roi in patient.rois)
        return dict(sorted(found.items()))


def find_sources(
    data_dir: Path, roi_map: RoiMap | None = None, on_progress: OnProgress = no_progress
) -> Sources:
    """The patients with one CT series and one structure set, their ROIs named by the map.

    Without a map, names stand for the TG-263 names proposed for them.

    Raises:
        InputError: there is nothing to train on.
        ConfigError: ROI names that are neither mapped nor ignored; all are named.
    """
    found = find_patients(data_dir, on_progress)
    labels = _labels(found)
    usable, left_out = {}, {}
    for label, files in zip(labels, found, strict=True):
        if len(files.structure_sets) == 1:
            usable[label] = files
        else:
            left_out[label] = "; ".join(files.problems) or "no structure set belongs to its CT"
    names = {n for files in usable.values() for n in files.structure_sets[0].roi_names}
    rois_of = map_names(names, roi_map)
    patients = []
    for label, files in usable.items():
        rois, notes = _rois_of(files.structure_sets[0].roi_names, rois_of)
        if not rois:
            left_out[label] = "; ".join(notes) or "none of its ROIs is mapped"
            continue
        if notes:
            left_out[f"{label}, some ROIs"] = "; ".join(notes)
        patients.append(Source(label, files.ct.patient_id or label, files, rois))
    if not patients:
        raise InputError(
            "There is no patient to train on.",
            where=data_dir,
            found="; ".join(f"{label}: {reason}" for label, reason in left_out.items()),
            expected="CT series, each with one structure set that belongs to it",
            fix="`contour-ai inspect` says what is in the folder",
        )
    return Sources(tuple(patients), left_out)


def map_names(names: Iterable[str], roi_map: RoiMap | None) -> dict[str, str]:
    """{name in a structure set: ROI}, ignored names left out.

    Raises:
        ConfigError: names that are neither mapped nor ignored.
    """
    ordered = sorted(set(names))
    if roi_map is None:
        proposed = {name: tg263_name(name) for name in ordered}
        unmapped = tuple(name for name, roi in proposed.items() if roi is None)
        mapped = {name: roi for name, roi in proposed.items() if roi is not None}
    else:
        applied = roi_map.apply(ordered)
        mapped, unmapped = dict(applied.rois), applied.unmapped
    if unmapped:
        raise ConfigError(
            f"{len(unmapped)} ROI names are neither mapped nor ignored.",
            where="TG-263 proposals" if roi_map is None else roi_map.source,
            found=", ".join(unmapped),
            fix="write a map with `contour-ai rois DATA_DIR --out roi-map.yaml`, edit it, and give it as --roi-map",
        )
    return mapped


def choose_rois(
    counts: Mapping[str, int], wanted: Sequence[str] | None, min_patients: int
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The ROIs to learn, and those left out with the reason.

    Without a wish, all organs: targets differ from patient to patient, and the body comes by rule.

    Raises:
        ConfigError: a ROI asked for is nowhere, or none is left.
    """
    if wanted is not None:
        missing = [roi for roi in wanted if not counts.get(roi)]
        if missing:
            raise ConfigError(
                "ROIs of data.rois are in no patient.", found=", ".join(missing), expected=", ".join(counts)
            )
        return tuple(wanted), {}
    left_out = {}
    for roi, number in counts.items():
        kind = roi_info(roi).interpreted_type
        if kind != "ORGAN":
            left_out[roi] = f"its type is {kind}; name it in data.rois to learn it"
        elif number < min_patients:
            left_out[roi] = f"in {number} patients only"
    rois = tuple(roi for roi in counts if roi not in left_out)
    if not rois:
        raise ConfigError(
            "There is no ROI to learn.",
            found="; ".join(f"{roi}: {reason}" for roi, reason in left_out.items()),
            fix="name them in data.rois, or lower data.min_patients",
        )
    return rois, left_out


def typical_grids(patients: Sequence[Source], on_progress: OnProgress = no_progress) -> list[Grid]:
    """The CT grids of evenly picked patients; unreadable ones are passed over."""
    picked = patients[:: max(1, len(patients) // GRIDS_LOOKED_AT)]
    grids = []
    for done, patient in enumerate(picked):
        on_progress(ProgressEvent("looking at voxel sizes", done, len(picked)))
        try:
            grids.append(read_ct(patient.files.ct, with_pixels=False).grid)
        except InputError:
            continue
    on_progress(ProgressEvent("looking at voxel sizes", len(picked), len(picked)))
    if not grids:
        raise InputError("No CT of the archive can be read.", fix="`contour-ai inspect` says why")
    return grids


def prepare_cases(
    patients: Sequence[Source],
    rois: tuple[str, ...],
    settings: PreprocessSettings,
    cache: Path,
    on_progress: OnProgress = no_progress,
) -> tuple[dict[str, tuple[str, Case]], dict[str, str]]:
    """Every patient on the model grid, from the cache where it is there already.

    Returns:
        ({label: (cache key, case)}, {label: why it was left out}), in the order of `patients`.

    Raises:
        InputError: no patient could be prepared.
    """

    def one(patient: Source) -> tuple[str, Case] | str:
        try:
            return _prepared(patient, rois, settings, cache)
        except InputError as error:
            return str(error).replace("\n", ";")

    cases: dict[str, tuple[str, Case]] = {}
    left_out: dict[str, str] = {}
    with ThreadPoolExecutor(min(PREPARING_THREADS, os.cpu_count() or 1)) as pool:
        for done, (patient, result) in enumerate(
            zip(patients, pool.map(one, patients), strict=True), start=1
        ):
            if isinstance(result, str):
                left_out[patient.label] = result
            elif not any(result[1].presence):
                left_out[patient.label] = "none of the ROIs to learn is contoured"
            else:
                cases[patient.label] = result
            on_progress(ProgressEvent("preparing patients", done, len(patients)))
    if not cases:
        reasons = "; ".join(f"{label}: {reason}" for label, reason in left_out.items())
        raise InputError("No patient can be used for training.", found=reasons)
    return cases, left_out


def split(labels_and_ids: Mapping[str, str], validation_share: float) -> tuple[list[str], list[str]]:
    """Labels of the training and of the validation patients.

    A patient (all its series) goes by a hash of its ID alone, so that adding patients moves nobody to the other side.
    Where that leaves one side empty, the patient with the smallest hash validates; a single patient does both.
    """

    def place(patient_id: str) -> float:
        digest = hashlib.sha256(f"contour-ai split {patient_id}".encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64

    ids = sorted(set(labels_and_ids.values()), key=place)
    held_out = {i for i in ids if place(i) < validation_share}
    if len(ids) > 1 and (not held_out or len(held_out) == len(ids)):
        held_out = {ids[0]}
    training = [label for label, i in labels_and_ids.items() if i not in held_out]
    validation = [label for label, i in labels_and_ids.items() if i in held_out]
    return training, validation or training


def _prepared(
    patient: Source, rois: tuple[str, ...], settings: PreprocessSettings, cache: Path
) -> tuple[str, Case]:
    """One patient, from the cache or computed.

    Raises:
        InputError: its CT or structure set cannot be used.
    """
    here = {roi: patient.rois[roi] for roi in rois if roi in patient.rois}
    structure_set = patient.files.structure_sets[0].path
    what = {"settings": settings.to_dict(), "rois": rois, "names": here, "label": patient.label}
    try:
        key = case_key(content_hash([*patient.files.ct.paths, structure_set]), what)
    except OSError as error:
        raise InputError("A file cannot be read.", where=error.filename, found=error.strerror) from error
    cached = load_case(cache, key)
    if cached is not None:
        return key, cached
    ct = read_ct(patient.files.ct)
    refuse_wide_gaps(ct)
    assert ct.volume is not None
    notes: list[str] = []
    drawn = read_structures(structure_set, ct, names=tuple(here.values()), on_note=notes.append)
    prepared = prepare(ct.volume, settings)
    named = Structures(drawn.bits, drawn.grid, tuple(here), drawn.presence)
    onto = resample_structures(named, prepared.grid)
    case = Case(
        patient.label,
        prepared.hu,
        onto.bits,
        onto.names,
        onto.presence,
        settings.spacing_mm_kij,
        tuple(notes),
    ).select(rois)
    return key, save_case(cache, key, without_empty(case))


def without_empty(case: Case) -> Case:
    """A ROI without a voxel on the model grid (outside the body, or too small) counts as not contoured."""
    bits = case.bits
    presence = tuple(
        here and bool((bits & bits.dtype.type(1 << r)).any()) for r, here in enumerate(case.presence)
    )
    gone = [roi for roi, a, b in zip(case.rois, case.presence, presence, strict=True) if a != b]
    notes = (*case.notes, *(f"{roi}: no voxel of it is left on the model's grid" for roi in gone))
    return Case(case.patient_id, case.image, case.labels, case.rois, presence, case.spacing_mm_kij, notes)


def _rois_of(names: Iterable[str], rois_of: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """({ROI: name} of one structure set, what is ambiguous in it)."""
    by_roi: dict[str, list[str]] = {}
    for name in names:
        if name in rois_of:
            by_roi.setdefault(rois_of[name], []).append(name)
    notes = [f"{roi} stands there as {' and as '.join(n)}" for roi, n in by_roi.items() if len(n) > 1]
    return {roi: n[0] for roi, n in by_roi.items() if len(n) == 1}, notes


def _labels(found: Sequence[PatientFiles]) -> list[str]:
    """The patient IDs, with the series UID where one has several series or none has an ID."""
    times = Counter(files.ct.patient_id for files in found)
    return [
        files.ct.patient_id
        if files.ct.patient_id and times[files.ct.patient_id] == 1
        else f"{files.ct.patient_id or 'no ID'} ({files.ct.series_instance_uid})"
        for files in found
    ]


def spread(cases: Sequence[Case], rois: Sequence[str]) -> dict[str, dict[str, object]]:
    """{ROI: number of patients, and its volume's 5 %, 50 % and 95 % in cm3}: what the model has seen."""
    volumes: dict[str, list[float]] = {roi: [] for roi in rois}
    for case in cases:
        bits, voxel_cm3 = case.bits, float(np.prod(case.spacing_mm_kij)) / 1000
        for r, roi in enumerate(rois):
            if case.presence[r]:
                volumes[roi].append(np.count_nonzero(bits & bits.dtype.type(1 << r)) * voxel_cm3)
    facts: dict[str, dict[str, object]] = {}
    for roi, found in volumes.items():
        facts[roi] = {"patients": len(found)}
        if found:
            facts[roi]["volume_cm3"] = [round(float(v), 2) for v in np.percentile(found, (5, 50, 95))]
    return facts
