"""Counts the ROI names in an archive, so that they can be mapped to the ROIs of a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

import numpy as np

from contour_ai.dicom.ct import CTSeries, read_ct
from contour_ai.dicom.frames import drawn_on
from contour_ai.dicom.rtstruct_read import RoiContoursRead, contours_on_slices, load_structure_set
from contour_ai.dicom.scan import PatientFiles, find_patients
from contour_ai.errors import InputError, OutputError, UnforeseenError
from contour_ai.faults import patient_boundary
from contour_ai.polygons import stack_in_box
from contour_ai.progress import OnProgress, ProgressEvent, no_progress
from contour_ai.structures import Kind, NameClass, classify, roi_info
from contour_ai.structures.ignore_patterns import IgnoreRule, ignore_rules
from contour_ai.structures.measured import Occurrence, decide_by_measure, reference_organs, remainder_cm3
from contour_ai.structures.name_patterns import entry_for
from contour_ai.structures.roi_map import RoiMap

CENSUS_THREADS = 4


@dataclass(frozen=True, kw_only=True)
class RoiCount:
    """A ROI name, however it is capitalised, and what was found of it.

    Args:
        name: the spelling that is most common.
        patients: that have it.
        structure_sets: that have it.
        found: what it is the name of, after its volumes and places where they were measured.
        occurrences: every time it is contoured; empty where it was not measured.
    """

    name: str
    patients: int
    structure_sets: int
    found: NameClass
    occurrences: tuple[Occurrence, ...] = ()

    @property
    def volumes_cm3(self) -> tuple[float, ...]:
        """Of every time it is contoured, ascending."""
        return tuple(sorted(here.volume_cm3 for here in self.occurrences))

    @property
    def roi(self) -> str | None:
        """The ROI that the name is proposed for."""
        return self.found.tg263_name if self.found.fate == "map" else None


@dataclass(frozen=True, kw_only=True)
class Census:
    """The ROI names of an archive, the most common first.

    Args:
        rois: the names.
        patients: with a structure set.
        without_structure_set: patients whose CT has none.
        problems: what could not be read.
        remarks: contours that are an organ by name and only what is left of it by volume.
    """

    rois: tuple[RoiCount, ...]
    patients: int
    without_structure_set: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def mapped(self) -> tuple[RoiCount, ...]:
        """Names with a proposal."""
        return tuple(roi for roi in self.rois if roi.found.fate == "map")

    @property
    def set_aside(self) -> tuple[RoiCount, ...]:
        """Names that are no organ's."""
        return tuple(roi for roi in self.rois if roi.found.fate == "set aside")

    @property
    def undecided(self) -> tuple[RoiCount, ...]:
        """Names that a person has to decide."""
        return tuple(roi for roi in self.rois if roi.found.fate == "decide")

    def ignore_rules(self) -> tuple[IgnoreRule, ...]:
        """Patterns that catch the names that were set aside, and no others."""
        kept = [roi.name for roi in self.rois if roi.found.fate != "set aside"]
        kept += [roi.roi for roi in self.mapped if roi.roi is not None]
        return ignore_rules([replace(roi.found, name=roi.name) for roi in self.set_aside], kept)

    def proposed_map(self) -> RoiMap:
        """A map with every name that has a proposal, and patterns for those that were set aside."""
        rois: dict[str, list[str]] = {}
        for roi in self.mapped:
            if roi.roi is not None:
                rois.setdefault(roi.roi, []).append(entry_for(roi.name))
        return RoiMap(
            rois={roi: tuple(names) for roi, names in rois.items()},
            ignore=tuple(r.text for r in self.ignore_rules()),
        )

    def structure_sets_of(self, names: Iterable[str]) -> int:
        """How many structure sets have these names, each name counted for itself."""
        wanted = {name.strip().casefold() for name in names}
        return sum(roi.structure_sets for roi in self.rois if roi.name.casefold() in wanted)


@dataclass(kw_only=True)
class _Tally:
    spellings: Counter[str] = field(default_factory=Counter)
    patients: set[str] = field(default_factory=set)
    structure_sets: int = 0
    occurrences: list[Occurrence] = field(default_factory=list)


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
    for patient in contoured:
        for structure_set in patient.structure_sets:
            for name in dict.fromkeys(structure_set.roi_names):
                tally = tallies.setdefault(name.strip().casefold(), _Tally())
                tally.spellings[name.strip()] += 1
                tally.patients.add(_patient(patient))
                tally.structure_sets += 1
    with ThreadPoolExecutor(CENSUS_THREADS) as pool:
        measured = pool.map(_measured, contoured) if volumes else iter(())
        for done, (found, more) in enumerate(measured, start=1):
            problems += more
            for name, here in found:
                tallies.setdefault(name.strip().casefold(), _Tally()).occurrences.append(here)
            on_progress(ProgressEvent(stage="measuring ROIs", done=done, total=len(contoured)))
    without = sorted({_patient(p) for p in patients} - {_patient(p) for p in contoured})
    rois, remarks = told_apart(_sorted(tallies))
    return Census(
        rois=rois,
        patients=len({_patient(p) for p in contoured}),
        without_structure_set=tuple(without),
        problems=tuple(dict.fromkeys(problems)),
        remarks=remarks,
    )


def count_names(counts: Mapping[str, int]) -> Census:
    """A census of a mere list: {name: number of structure sets that have it}."""
    tallies: dict[str, _Tally] = {}
    for name, number in counts.items():
        if name.strip():
            tally = tallies.setdefault(name.strip().casefold(), _Tally())
            tally.spellings[name.strip()] += number
            tally.structure_sets += number
    rois = tuple(replace(roi, patients=roi.structure_sets) for roi in _sorted(tallies))
    return Census(rois=tuple(sorted(rois, key=_order)), patients=0)


def _sorted(tallies: Mapping[str, _Tally]) -> tuple[RoiCount, ...]:
    """The names, the most common first, decided by volume and place where the name leaves two organs."""
    rois = []
    for tally in tallies.values():
        name = min(tally.spellings, key=lambda s: (-tally.spellings[s], s)) if tally.spellings else ""
        if name:
            rois.append(
                RoiCount(
                    name=name,
                    patients=len(tally.patients),
                    structure_sets=tally.structure_sets,
                    found=classify(name),
                    occurrences=tuple(tally.occurrences),
                )
            )
    references = _references(rois)
    decided = [replace(r, found=decide_by_measure(r.found, r.occurrences, references)) for r in rois]
    return tuple(sorted(decided, key=_order))


def _order(roi: RoiCount) -> tuple[int, str]:
    return -roi.patients, roi.name.casefold()


def _references(rois: Sequence[RoiCount]) -> dict[str, dict[str, float]]:
    """{patient: {organ that places are measured from: position towards the head in mm}}."""
    found: dict[str, dict[str, float]] = {}
    for roi in rois:
        if roi.roi is not None and roi.roi in reference_organs():
            for here in roi.occurrences:
                found.setdefault(here.patient, {})[roi.roi] = here.superior_mm
    return found


def told_apart(rois: Sequence[RoiCount]) -> tuple[tuple[RoiCount, ...], tuple[str, ...]]:
    """The names, with those to decide that are an organ by name and only what is left of one by volume; and remarks.

    A name that is the whole organ in some patients and a remainder in others keeps its proposal; those are named.
    """
    volumes: dict[str, list[float]] = {}
    for roi in rois:
        if roi.roi is not None:
            volumes.setdefault(_either_side(roi.roi), []).extend(roi.volumes_cm3)
    result, remarks = [], []
    for roi in rois:
        most = None if roi.roi is None else remainder_cm3(roi.roi, volumes[_either_side(roi.roi)])
        small = [here for here in roi.occurrences if most is not None and here.volume_cm3 <= most]
        if roi.roi is None or most is None or not small:
            result.append(roi)
            continue
        whole = median(v for v in volumes[_either_side(roi.roi)] if v > most)
        what = (
            f"{median(h.volume_cm3 for h in small):.3g} cm3 where {roi.roi} has {whole:.3g} cm3 elsewhere: "
        )
        what += "what is left of it outside a target?"
        if len(small) == len(roi.occurrences):
            asked = NameClass(name=roi.name, kind=Kind.UNKNOWN, rule=what, organs=(roi.roi,))
            result.append(replace(roi, found=asked))
        else:
            patients = ", ".join(dict.fromkeys(here.patient for here in small))
            remarks.append(f"{roi.name} in {patients}: {what}")
            result.append(roi)
    return tuple(result), tuple(remarks)


def _either_side(roi: str) -> str:
    """A name that left and right partners share: their volumes are alike."""
    partner = roi_info(roi).mirror
    return min(roi, partner) if partner else roi


def _patient(patient: PatientFiles) -> str:
    return patient.ct.patient_id or patient.ct.series_instance_uid


def _measured(patient: PatientFiles) -> tuple[list[tuple[str, Occurrence]], list[str]]:
    """(name, occurrence) of every contoured ROI of one patient, and what could not be read."""
    found: list[tuple[str, Occurrence]] = []
    try:
        with patient_boundary(f"measuring the ROIs of patient {_patient(patient)}"):
            ct = read_ct(patient.ct, with_pixels=False)
            for file in patient.structure_sets:
                for roi in drawn_on(load_structure_set(file.path), ct).rois:
                    here = _occurrence(roi, ct, _patient(patient))
                    if here is not None:
                        found.append((roi.original_name, here))
    except UnforeseenError as error:
        return found, [f"patient {_patient(patient)}: not measured: {error.what} {error.found}; {error.fix}"]
    except (InputError, OutputError) as error:
        return found, [f"patient {_patient(patient)}: not measured: {error.what} ({error.where})"]
    return found, []


def _occurrence(roi: RoiContoursRead, ct: CTSeries, patient: str) -> Occurrence | None:
    """Volume and place of a ROI on its CT; None where it has no voxel there."""
    drawn = stack_in_box(contours_on_slices(roi, ct, lambda _: None), ct.grid.shape_kij)
    if drawn is None:
        return None
    box, inside = drawn
    in_rows, in_columns = np.count_nonzero(inside, axis=2), np.count_nonzero(inside, axis=1)
    voxels, cm3 = in_rows.sum(axis=1), ct.grid.voxel_volumes_cm3[box[0]]
    rows = in_rows @ np.arange(box[1].start, box[1].stop)
    columns = in_columns @ np.arange(box[2].start, box[2].stop)
    volume = float(voxels @ cm3)
    steps = rows * ct.grid.step_i_lps[2] + columns * ct.grid.step_j_lps[2]
    moment = float((voxels * ct.grid.positions_lps[box[0], 2] + steps) @ cm3)
    return Occurrence(patient=patient, volume_cm3=volume, superior_mm=moment / volume)
