"""What can be learnt from a folder of exported patients: paired by UID, ROIs named by the map, split by patient."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from contour_ai.bundle import RoiData
from contour_ai.dicom.ct import read_ct
from contour_ai.dicom.file_index import FileIndex
from contour_ai.dicom.header import read_header
from contour_ai.dicom.scan import PatientFiles, find_patients
from contour_ai.dicom.scan_facts import SCAN_FACT_KEYWORDS, facts_of_scan
from contour_ai.dicom.structure_set_choice import NEWEST, choose_structure_set
from contour_ai.errors import ConfigError, InputError, UnforeseenError, listed
from contour_ai.faults import patient_boundary
from contour_ai.grid import Grid
from contour_ai.pipeline.archive_places import MapPlaces, Places
from contour_ai.pipeline.merging import rois_of_sets
from contour_ai.pipeline.naming import Naming, learnable, least_patients, name_rois
from contour_ai.progress import OnProgress, ProgressEvent, no_progress
from contour_ai.quality.suitability import TrainedOn, trained_on
from contour_ai.structures import roi_info
from contour_ai.structures.roi_map import RoiMap
from contour_ai.training.archive_check import ArchiveFinding
from contour_ai.training.cache import Case, contoured_cm3
from contour_ai.volume import MAX_ROIS

GRIDS_LOOKED_AT = 40
"""The median voxel size is that of so many patients, evenly picked; reading every slice of every one takes long."""


@dataclass(frozen=True, kw_only=True)
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
    places: frozenset[str] = frozenset()
    """Its patient ID and the folders in which it lies, as `normal_place` compares them."""
    drawn_in: Mapping[str, int] = field(default_factory=dict)
    """{ROI: which of the structure sets it is in}, where they are merged; the first for others."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What can be trained on, and what cannot and why."""

    patients: tuple[PatientSource, ...]
    left_out: Mapping[str, str]
    """{patient: reason}."""
    findings: tuple[ArchiveFinding, ...] = ()
    """What was ambiguous."""
    naming: Naming = field(default_factory=Naming)
    """What became of every name."""
    excluded: tuple[PatientSource, ...] = ()
    """Patients that must not be used, nor their images under another name; `left_out` has the reasons."""

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
    structure_set: str = NEWEST,
    acquisition: int | None = None,
    exclude: Mapping[str, str] | None = None,
    index: FileIndex | None = None,
) -> Sources:
    """The patients with a CT series and a structure set, their ROIs named by the map.

    Without a map, names stand for the TG-263 names proposed for them.

    Args:
        data_dir: the archive.
        roi_map: which names stand for which ROI.
        on_progress: told about files.
        wanted: ROIs to learn; None for the organs that enough patients have.
        min_patients: so many are enough; None for a twentieth of them.
        structure_set: which is taken where a CT has several (see `choose_structure_set`).
        acquisition: which is read where several overlap in a CT series; None leaves such patients out.
        exclude: {patient ID or folder: reason} of patients to leave out.
        index: what is known of files from earlier.

    Raises:
        InputError: there is nothing to train on.
        ConfigError: names that are neither mapped nor ignored, and may be a ROI to learn; all are named. A folder or
            patient of the map's or the list's that is not in the archive.
    """
    found = find_patients(data_dir, on_progress, index=index, acquisition=acquisition)
    every = dict(zip(_labels(found), found, strict=True))
    places = Places(data_dir, every)
    excluded = _excluded_patients(every, places, exclude or {})
    kept = {label: files for label, files in every.items() if label not in excluded}
    usable, left_out, findings = _with_structure_sets(kept, structure_set)
    left_out.update(excluded)
    findings += [
        ArchiveFinding(patient=label, roi="", kind="excluded", reason=reason)
        for label, reason in excluded.items()
    ]
    names = Counter(
        n for files in usable.values() for n in {n for s in files.structure_sets for n in s.roi_names}
    )
    naming = name_rois(names, roi_map, wanted)
    map_places = MapPlaces(places, roi_map)
    patients = []
    for label, files in usable.items():
        drawn = rois_of_sets(files.structure_sets, naming.rois)
        findings += [
            ArchiveFinding(patient=label, roi=roi, kind="ambiguous", reason=why)
            for roi, why in drawn.ambiguous.items()
        ]
        absent, accepted = map_places.absent(label), map_places.accepted(label)
        if drawn.names or absent:
            source = PatientSource(
                label=label,
                patient_id=files.ct.patient_id or label,
                files=files,
                rois=drawn.names,
                absent=absent,
                accepted=accepted,
            )
            patients.append(replace(source, drawn_in=drawn.drawn_in, places=places.of_label[label]))
        else:
            left_out[label] = "; ".join(drawn.ambiguous.values()) or "none of its ROIs is mapped"
    if not patients:
        raise InputError(
            "There is no patient to train on.",
            where=data_dir,
            found=listed(f"{label}: {reason}" for label, reason in left_out.items()),
            expected="CT series, each with a structure set that belongs to it",
            fix="`contour-ai inspect` says what is in the folder",
        )
    never = tuple(
        PatientSource(label=p, patient_id=every[p].ct.patient_id or p, files=every[p], rois={})
        for p in excluded
    )
    sources = Sources(
        patients=tuple(patients), left_out=left_out, findings=tuple(findings), naming=naming, excluded=never
    )
    least = least_patients(min_patients, len(patients))
    naming.refuse_doubts(wanted if wanted is not None else learnable(sources.counts(), least))
    return sources


def choose_rois(
    counts: Mapping[str, int], wanted: Sequence[str] | None, min_patients: int
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The ROIs to learn, and those left out with the reason.

    Without a wish, the organs that most patients have: targets differ from patient to patient, and the body comes by
    rule.

    Raises:
        ConfigError: a ROI asked for is nowhere, there are more than a model can learn, or none is left.
    """
    if wanted is not None:
        missing = [roi for roi in wanted if not counts.get(roi)]
        if missing:
            raise ConfigError(
                "ROIs of data.rois are in no patient.", found=", ".join(missing), expected=", ".join(counts)
            )
        if len(wanted) > MAX_ROIS:
            raise ConfigError(
                "data.rois has more ROIs than a model can learn.",
                found=len(wanted),
                expected=f"at most {MAX_ROIS}",
                fix="train two models, each on some of them",
            )
        return tuple(wanted), {}
    left_out = {}
    for roi, number in counts.items():
        kind = roi_info(roi).interpreted_type
        if kind != "ORGAN":
            left_out[roi] = f"its type is {kind}; name it in data.rois to learn it"
        elif number < min_patients:
            left_out[roi] = f"in {number} patients only"
    most_common = sorted((roi for roi in counts if roi not in left_out), key=lambda roi: (-counts[roi], roi))
    for roi in most_common[MAX_ROIS:]:
        left_out[roi] = (
            f"in {counts[roi]} patients; a model learns at most {MAX_ROIS} ROIs, and more patients have the others"
        )
    rois = tuple(roi for roi in counts if roi not in left_out)
    if not rois:
        raise ConfigError(
            "There is no ROI to learn.",
            found=listed(f"{roi}: {reason}" for roi, reason in left_out.items()),
            fix="name them in data.rois, or lower data.min_patients",
        )
    return rois, left_out


def typical_grids(patients: Sequence[PatientSource], on_progress: OnProgress = no_progress) -> list[Grid]:
    """The CT grids of evenly picked patients; unreadable ones are skipped."""
    picked = patients[:: max(1, len(patients) // GRIDS_LOOKED_AT)]
    grids = []
    for done, patient in enumerate(picked):
        on_progress(ProgressEvent(stage="looking at voxel sizes", done=done, total=len(picked)))
        try:
            with patient_boundary(f"reading the CT of patient {patient.label}"):
                grids.append(read_ct(patient.files.ct, with_pixels=False).grid)
        except (InputError, UnforeseenError):
            continue
    on_progress(ProgressEvent(stage="looking at voxel sizes", done=len(picked), total=len(picked)))
    if not grids:
        raise InputError("No CT of the archive can be read.", fix="`contour-ai inspect` says why")
    return grids


def headers_say(patients: Sequence[PatientSource]) -> TrainedOn:
    """What the headers of all patients' CTs say together, one file each; unreadable ones are skipped."""
    found = []
    for patient in patients:
        try:
            with patient_boundary(f"reading the CT of patient {patient.label}"):
                found.append(facts_of_scan(read_header(patient.files.ct.paths[0], SCAN_FACT_KEYWORDS)))
        except (InputError, UnforeseenError):
            continue
    return trained_on(found)


class _ChosenSets(NamedTuple):
    """Which CT series can be learnt from."""

    usable: dict[str, PatientFiles]
    """By label."""
    left_out: dict[str, str]
    """{label: why not}."""
    findings: list[ArchiveFinding]
    """Which of these is a fault."""


def _with_structure_sets(found: Mapping[str, PatientFiles], how: str) -> _ChosenSets:
    """Every CT series with the structure set that counts."""
    usable, left_out, findings = {}, {}, []
    for label, every in found.items():
        chosen = choose_structure_set(every.structure_sets, how)
        files = chosen.of(every)
        if files.structure_sets:
            usable[label] = files
            if chosen.reason:
                findings.append(
                    ArchiveFinding(
                        patient=label, roi="", kind="structure sets", reason=chosen.reason, left_out=False
                    )
                )
            continue
        left_out[label] = "; ".join(files.problems) or "no structure set belongs to its CT"
        faulty = bool(files.problems)
        findings.append(
            ArchiveFinding(
                patient=label,
                roi="",
                kind="mismatch" if faulty else "note",
                reason=left_out[label],
                left_out=faulty,
            )
        )
    return _ChosenSets(usable, left_out, findings)


def _excluded_patients(
    patients: Mapping[str, PatientFiles], places: Places, exclude: Mapping[str, str]
) -> dict[str, str]:
    """{label: reason} of patients that a list leaves out.

    Raises:
        ConfigError: a place of the list is not in the archive.
    """
    places.refuse_unknown(exclude, "The list of patients to leave out speaks")
    within = {label: places.within(label, exclude) for label in patients}
    return {
        label: f"excluded: {exclude[place] or 'no reason given'}"
        for label, place in within.items()
        if place is not None
    }


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
