"""What can be learnt from a folder of exported patients: paired by UID, ROIs named by the map, split by patient."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from contour_ai.bundle import RoiData
from contour_ai.dicom.ct import read_ct
from contour_ai.dicom.scan import PatientFiles, find_patients
from contour_ai.errors import ConfigError, InputError, UnforeseenError
from contour_ai.faults import patient_boundary
from contour_ai.grid import Grid
from contour_ai.pipeline.naming import Naming, learnable, least_patients, name_rois
from contour_ai.progress import OnProgress, ProgressEvent, no_progress
from contour_ai.structures import roi_info
from contour_ai.structures.roi_map import RoiMap
from contour_ai.training.archive_check import ArchiveFinding
from contour_ai.training.cache import Case, contoured_cm3

GRIDS_LOOKED_AT = 40
"""The median voxel size is that of so many patients, evenly picked; reading every slice of every one takes long."""


@dataclass(frozen=True)
class PatientSource:
    """A patient of the archive that can be trained on."""

    label: str
    """The patient ID, with the series where a patient has several; unique."""
    patient_id: str
    files: PatientFiles
    rois: Mapping[str, str]
    """{ROI: its name in the structure set}."""
    absent: frozenset[str] = frozenset()
    """ROIs that the map declares absent here."""
    accepted: frozenset[str] = frozenset()
    """ROIs that the map declares right here."""
    synthetic: bool = False
    """Whether it was drawn for the training: it is never validated on."""


@dataclass(frozen=True)
class Sources:
    """What can be trained on, and what cannot and why."""

    patients: tuple[PatientSource, ...]
    left_out: Mapping[str, str]
    """{patient: reason}."""
    findings: tuple[ArchiveFinding, ...] = ()
    """What was ambiguous."""
    naming: Naming = field(default_factory=Naming)
    """What became of every name."""

    @property
    def own(self) -> Sources:
        """Without synthetic patients."""
        return replace(self, patients=tuple(p for p in self.patients if not p.synthetic))

    def counts(self) -> dict[str, int]:
        """{ROI: number of patients whose structure set has it}, by name."""
        found = Counter(roi for patient in self.patients for roi in patient.rois)
        return dict(sorted(found.items()))


def find_sources(
    data_dir: Path,
    roi_map: RoiMap | None = None,
    on_progress: OnProgress = no_progress,
    *,
    wanted: Sequence[str] | None = None,
    min_patients: int | None = None,
) -> Sources:
    """The patients with one CT series and one structure set, their ROIs named by the map.

    Without a map, names stand for the TG-263 names proposed for them.

    Args:
        data_dir: the archive.
        roi_map: which names stand for which ROI.
        on_progress: told about files.
        wanted: ROIs to learn; None for the organs that enough patients have.
        min_patients: so many are enough; None for a twentieth of them.

    Raises:
        InputError: there is nothing to train on.
        ConfigError: names that are neither mapped nor ignored, and may be a ROI to learn; all are named. A folder or
            patient of the map's that is not in the archive.
    """
    found = find_patients(data_dir, on_progress)
    usable, left_out, findings = _with_one_structure_set(found)
    names = Counter(n for files in usable.values() for n in set(files.structure_sets[0].roi_names))
    naming = name_rois(names, roi_map, wanted)
    rois_of = naming.rois
    places = _Places(data_dir, usable, roi_map)
    patients = []
    for label, files in usable.items():
        rois, ambiguous = _rois_of(files.structure_sets[0].roi_names, rois_of)
        findings += [ArchiveFinding(label, roi, "ambiguous", reason) for roi, reason in ambiguous.items()]
        absent, accepted = places.absent(label), places.accepted(label)
        if rois or absent:
            patient_id = files.ct.patient_id or label
            patients.append(PatientSource(label, patient_id, files, rois, absent, accepted))
        else:
            left_out[label] = "; ".join(ambiguous.values()) or "none of its ROIs is mapped"
    if not patients:
        raise InputError(
            "There is no patient to train on.",
            where=data_dir,
            found="; ".join(f"{label}: {reason}" for label, reason in left_out.items()),
            expected="CT series, each with one structure set that belongs to it",
            fix="`contour-ai inspect` says what is in the folder",
        )
    sources = Sources(tuple(patients), left_out, tuple(findings), naming)
    least = least_patients(min_patients, len(patients))
    naming.refuse_doubts(wanted if wanted is not None else learnable(sources.counts(), least))
    return sources


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


def typical_grids(patients: Sequence[PatientSource], on_progress: OnProgress = no_progress) -> list[Grid]:
    """The CT grids of evenly picked patients; unreadable ones are passed over."""
    picked = patients[:: max(1, len(patients) // GRIDS_LOOKED_AT)]
    grids = []
    for done, patient in enumerate(picked):
        on_progress(ProgressEvent("looking at voxel sizes", done, len(picked)))
        try:
            with patient_boundary(f"reading the CT of patient {patient.label}"):
                grids.append(read_ct(patient.files.ct, with_pixels=False).grid)
        except (InputError, UnforeseenError):
            continue
    on_progress(ProgressEvent("looking at voxel sizes", len(picked), len(picked)))
    if not grids:
        raise InputError("No CT of the archive can be read.", fix="`contour-ai inspect` says why")
    return grids


def split(
    labels_and_ids: Mapping[str, str], validation_share: float, fold: tuple[int, int] | None = None
) -> tuple[list[str], list[str]]:
    """Labels of the training and of the validation patients.

    A patient (all its series) goes by a hash of its ID alone, so that adding patients moves nobody to the other side.
    Where that leaves one side empty, the patient with the smallest hash validates; a single patient does both.

    Args:
        labels_and_ids: {label: patient ID}.
        validation_share: share of the patients that validate.
        fold: (k, n) for part k of n of a cross-validation instead: the parts differ by one patient at most, and each
            patient validates in one of them.

    Raises:
        ConfigError: fewer patients than parts.
    """

    def place(patient_id: str) -> float:
        digest = hashlib.sha256(f"contour-ai split {patient_id}".encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64

    ids = sorted(set(labels_and_ids.values()), key=place)
    if fold is not None:
        if len(ids) < fold[1]:
            raise ConfigError(
                "There are fewer patients than parts of the cross-validation.",
                found=f"{len(ids)} patients",
                expected=f"at least {fold[1]}",
                fix="choose fewer parts: --fold 1/2",
            )
        held_out = set(ids[fold[0] - 1 :: fold[1]])
    else:
        held_out = {i for i in ids if place(i) < validation_share}
        if len(ids) > 1 and (not held_out or len(held_out) == len(ids)):
            held_out = {ids[0]}
    training = [label for label, i in labels_and_ids.items() if i not in held_out]
    validation = [label for label, i in labels_and_ids.items() if i in held_out]
    return training or validation, validation or training


def _with_one_structure_set(
    found: Sequence[PatientFiles],
) -> tuple[dict[str, PatientFiles], dict[str, str], list[ArchiveFinding]]:
    """The CT series that can be learnt from, by label; why the others cannot, and which of these is a fault."""
    usable, left_out, findings = {}, {}, []
    for label, files in zip(_labels(found), found, strict=True):
        if len(files.structure_sets) == 1:
            usable[label] = files
            continue
        left_out[label] = "; ".join(files.problems) or "no structure set belongs to its CT"
        faulty = bool(files.problems)
        findings.append(ArchiveFinding(label, "", "mismatch" if faulty else "note", left_out[label], faulty))
    return usable, left_out, findings


class _Places:
    """What a map says of folders and patients.

    Raises:
        ConfigError: one of them is not in the archive.
    """

    def __init__(self, data_dir: Path, patients: Mapping[str, PatientFiles], roi_map: RoiMap | None) -> None:
        self.roi_map = roi_map
        self.of_label = {label: _places(data_dir, files) for label, files in patients.items()}
        known = {place for places in self.of_label.values() for place in places}
        said = () if roi_map is None else dict.fromkeys((*roi_map.absent, *roi_map.accepted))
        unknown = [place for place in said if _normal(place) not in known]
        if roi_map is not None and unknown:
            raise ConfigError(
                "The ROI map speaks of folders or patients that are not in this archive.",
                where=roi_map.source,
                found=", ".join(unknown),
                expected="a folder below the archive, as in site/pelvis, or a patient ID",
            )

    def absent(self, label: str) -> frozenset[str]:
        """ROIs that are certainly not in a patient."""
        return frozenset() if self.roi_map is None else self._of(label, self.roi_map.absent)

    def accepted(self, label: str) -> frozenset[str]:
        """ROIs of a patient that are right."""
        return frozenset() if self.roi_map is None else self._of(label, self.roi_map.accepted)

    def _of(self, label: str, said: Mapping[str, Sequence[str]]) -> frozenset[str]:
        here = self.of_label[label]
        return frozenset(roi for place, rois in said.items() if _normal(place) in here for roi in rois)


def _places(data_dir: Path, files: PatientFiles) -> frozenset[str]:
    """A patient's ID, and the folders below the archive in which its structure set or CT lies."""
    # Not resolved: a folder of the archive may be a link to one elsewhere.
    root, found = data_dir.absolute(), {_normal(files.ct.patient_id)}
    for path in (files.structure_sets[0].path.absolute(), files.ct.paths[0].absolute()):
        if root in path.parents:
            parts = path.relative_to(root).parts[:-1]
            found |= {_normal("/".join(parts[: n + 1])) for n in range(len(parts))}
    return frozenset(found - {""})


def _normal(place: str) -> str:
    """A folder or patient ID as it is compared: slashes either way, spaces and case do not matter."""
    return place.strip().replace("\\", "/").strip("/").casefold()


def _rois_of(names: Iterable[str], rois_of: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """({ROI: name} of one structure set, {ROI that is ambiguous in it: why})."""
    by_roi: dict[str, list[str]] = {}
    for name in names:
        if name in rois_of:
            by_roi.setdefault(rois_of[name], []).append(name)
    twice = {roi: f"{roi} stands there as {' and as '.join(n)}" for roi, n in by_roi.items() if len(n) > 1}
    return {roi: n[0] for roi, n in by_roi.items() if len(n) == 1}, twice


def _labels(found: Sequence[PatientFiles]) -> list[str]:
    """The patient IDs, with the series UID where one has several series or none has an ID."""
    times = Counter(files.ct.patient_id for files in found)
    return [
        files.ct.patient_id
        if files.ct.patient_id and times[files.ct.patient_id] == 1
        else f"{files.ct.patient_id or 'no ID'} ({files.ct.series_instance_uid})"
        for files in found
    ]


def spread(cases: Sequence[Case], rois: Sequence[str]) -> dict[str, RoiData]:
    """{ROI: number of patients, and its volume's 5 %, 50 % and 95 % in cm3}: what the model has seen."""
    facts = {}
    for roi, found in contoured_cm3(cases, rois).items():
        volumes = None
        if found:
            low, middle, high = (round(float(v), 2) for v in np.percentile(found, (5, 50, 95)))
            volumes = low, middle, high
        facts[roi] = RoiData(patients=len(found), volume_cm3=volumes)
    return facts
