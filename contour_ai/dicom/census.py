"""Counts the ROI names in an archive, so that they can be mapped to the ROIs of a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from contour_ai.dicom.ct import read_ct
from contour_ai.dicom.inspection import roi_on_ct
from contour_ai.dicom.rtstruct_read import load_structure_set
from contour_ai.dicom.scan import PatientFiles, find_patients
from contour_ai.errors import InputError
from contour_ai.progress import OnProgress, ProgressEvent, no_progress
from contour_ai.structures import tg263_name
from contour_ai.structures.roi_map import RoiMap

THREADS = 4


@dataclass(frozen=True)
class RoiCount:
    """A ROI name, however it is capitalised, and what was found of it."""

    name: str
    """The spelling that is most common."""
    patients: int
    tg263_name: str | None
    volumes_cm3: tuple[float, ...] = ()
    """Of every time it is contoured, ascending; empty where volumes were not asked for."""


@dataclass(frozen=True)
class Census:
    """The ROI names of an archive, the most common first."""

    rois: tuple[RoiCount, ...]
    patients: int
    """Patients with a structure set."""
    without_structure_set: tuple[str, ...]
    """Patients whose CT has none."""
    problems: tuple[str, ...]

    def proposed_map(self) -> tuple[RoiMap, tuple[str, ...]]:
        """A map with every name that has a TG-263 proposal, and the names that have none."""
        rois: dict[str, list[str]] = {}
        undecided = []
        for roi in self.rois:
            if roi.tg263_name is None:
                undecided.append(roi.name)
            else:
                rois.setdefault(roi.tg263_name, []).append(roi.name)
        return RoiMap({roi: tuple(names) for roi, names in rois.items()}), tuple(undecided)


@dataclass
class _Tally:
    spellings: Counter[str] = field(default_factory=Counter)
    patients: set[str] = field(default_factory=set)
    volumes_cm3: list[float] = field(default_factory=list)


def count_rois(data_dir: Path, *, volumes: bool = True, on_progress: OnProgress = no_progress) -> Census:
    """Counts the names in every structure set that belongs to a CT series.

    Args:
        data_dir: an archive of patients, in any folders.
        volumes: measure the ROIs as well, which reads every structure set and the CT headers.
        on_progress: told about files and patients.

    Raises:
        InputError: there is no CT series, or no structure set that belongs to one.
    """
    patients = find_patients(data_dir, on_progress)
    problems = [f"patient {_patient(p)}: {text}" for p in patients for text in p.problems]
    contoured = [p for p in patients if p.structure_sets]
    if not contoured:
        raise InputError(
            "No CT series in this archive has a structure set.",
            where=data_dir,
            found="; ".join(problems[:3]) or f"{len(patients)} CT series without a structure set",
            expected="patients with a CT series and the RTSTRUCT drawn on it",
            fix="contour-ai inspect PATH says what belongs to what",
        )
    tallies: dict[str, _Tally] = {}
    with ThreadPoolExecutor(THREADS) as pool:
        counted = pool.map(_measured if volumes else _named, contoured)
        for done, (patient, (found, more)) in enumerate(zip(contoured, counted, strict=True), start=1):
            problems += [f"patient {_patient(patient)}: {text}" for text in more]
            for name, volumes_cm3 in found.items():
                tally = tallies.setdefault(name.strip().casefold(), _Tally())
                tally.spellings[name.strip()] += 1
                tally.patients.add(_patient(patient))
                tally.volumes_cm3 += volumes_cm3
            on_progress(ProgressEvent("counting ROIs", done, len(contoured)))
    without = sorted({_patient(p) for p in patients} - {_patient(p) for p in contoured})
    return Census(_sorted(tallies), len({_patient(p) for p in contoured}), tuple(without), tuple(problems))


def _sorted(tallies: Mapping[str, _Tally]) -> tuple[RoiCount, ...]:
    rois = []
    for tally in tallies.values():
        name = min(tally.spellings, key=lambda s: (-tally.spellings[s], s))
        rois.append(RoiCount(name, len(tally.patients), tg263_name(name), tuple(sorted(tally.volumes_cm3))))
    return tuple(sorted(rois, key=lambda roi: (-roi.patients, roi.name.casefold())))


def _patient(patient: PatientFiles) -> str:
    return patient.ct.patient_id or patient.ct.series_instance_uid


def _named(patient: PatientFiles) -> tuple[dict[str, list[float]], Sequence[str]]:
    """{name: no volumes} of one patient's structure sets."""
    return {name: [] for s in patient.structure_sets for name in s.roi_names}, ()


def _measured(patient: PatientFiles) -> tuple[dict[str, list[float]], Sequence[str]]:
    """{name: volumes in cm3} of one patient's structure sets, and what could not be read."""
    found, problems = _named(patient)[0], []
    try:
        ct = read_ct(patient.ct, with_pixels=False)
        for file in patient.structure_sets:
            for roi in load_structure_set(file.path).rois:
                slices, volume_cm3, _ = roi_on_ct(roi, ct)
                if slices:
                    found.setdefault(roi.original_name, []).append(volume_cm3)
    except InputError as error:
        problems.append(f"not measured: {error.what} ({error.where})")
    return found, problems
