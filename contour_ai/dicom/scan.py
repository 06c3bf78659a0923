"""Pairs CT series and structure sets by UID, never by folder or file name, and finds the one that is meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from contour_ai.dicom.archive import Archive, BesideSeries, CTSeriesFiles, grouped, scan
from contour_ai.dicom.classify import OtherFile, SkippedFile, StructureSetFile
from contour_ai.dicom.file_index import FileIndex
from contour_ai.dicom.joining import how_to_choose
from contour_ai.errors import InputError, listed
from contour_ai.progress import OnProgress, no_progress

__all__ = [
    "Archive",
    "CTSeriesFiles",
    "OtherFile",
    "PatientFiles",
    "SkippedFile",
    "StructureSetFile",
    "find_patient",
    "find_patients",
    "may_be_chosen",
    "pair",
    "scan",
    "why_not",
]


@dataclass(frozen=True)
class PatientFiles:
    """A CT series and the structure sets drawn on it; `problems` are sentences for the user."""

    ct: CTSeriesFiles
    structure_sets: tuple[StructureSetFile, ...] = ()
    problems: tuple[str, ...] = ()


def pair(archive: Archive) -> tuple[PatientFiles, ...]:
    """Every CT series with the structure sets that belong to it.

    A structure set belongs to the series that it names; where it names none, to the series with the SOP instances that
    it names; else to the only series with its frame of reference; else, where it refers to nothing at all, to
    the only CT series of its study. It never belongs to another patient's.
    """
    series = archive.ct_series
    of_patient = grouped(range(len(series)), lambda n: [series[n].patient_id])
    belonging: dict[int, list[StructureSetFile]] = {n: [] for n in range(len(series))}
    for structure_set in archive.structure_sets:
        who = structure_set.patient_id
        numbers = sorted([*of_patient.get(who, ()), *of_patient.get("", ())]) if who else range(len(series))
        for n in _matches(structure_set, [series[n] for n in numbers]):
            belonging[numbers[n]].append(structure_set)
    return tuple(
        PatientFiles(ct, tuple(belonging[n]), _lost_images(belonging[n], ct)) for n, ct in enumerate(series)
    )


def find_patients(
    path: Path | Sequence[Path],
    on_progress: OnProgress = no_progress,
    *,
    index: FileIndex | None = None,
    acquisition: int | None = None,
) -> list[PatientFiles]:
    """The CT series of an archive with their structure sets, sorted by patient ID; what is ambiguous is in `problems`.

    Args:
        index: what is known of files from earlier (see `scan`).
        acquisition: which is read where several overlap in a series.

    Raises:
        InputError: there is no CT series at all.
    """
    archive = scan(path, on_progress, index=index)
    if not archive.ct_series:
        raise _no_ct(path, archive)
    patients, pairs, beside = [], pair(archive), BesideSeries(archive)
    used = {id(structure_set) for patient in pairs for structure_set in patient.structure_sets}
    strays = grouped((s for s in archive.structure_sets if id(s) not in used), lambda s: [s.patient_id])
    for patient in pairs:
        problems = list(patient.problems)
        if len(patient.structure_sets) > 1:
            listing = "; ".join(str(s) for s in patient.structure_sets)
            problems.append(
                f"{len(patient.structure_sets)} structure sets belong to this CT series: {listing}"
            )
        problems += [
            reason
            for structure_set in strays.get(patient.ct.patient_id, ())
            if (reason := why_not(structure_set, patient.ct))
        ]
        problems += beside.of(patient.ct).not_used(patient.ct)
        ct = replace(patient.ct, acquisition=acquisition)
        patients.append(replace(patient, ct=ct, problems=tuple(problems)))
    return patients


def find_patient(
    path: Path | Sequence[Path],
    *,
    series_uid: str | None = None,
    rtstruct: Path | None = None,
    needs_rtstruct: bool = False,
    keep_all: bool = False,
    on_progress: OnProgress = no_progress,
) -> PatientFiles:
    """The one CT series in a folder, with the one structure set that belongs to it, if there is one.

    Args:
        path: folder or files.
        series_uid: SeriesInstanceUID of the CT to take where there are several.
        rtstruct: the structure set to take; it may lie elsewhere, and chooses its CT series where there are several.
        needs_rtstruct: refuse where there is no structure set, or more than one. Otherwise several are as none, which
            is said in `problems`.
        keep_all: give all structure sets that belong to the CT, for `choose_structure_set` to choose among.

    Raises:
        InputError: there is no CT series or more than one to choose from; the structure set asked for is missing,
            ambiguous or of another patient or series.
    """
    archive = scan(path, on_progress)
    chosen = None if rtstruct is None else _the_structure_set(rtstruct)
    ct = _choose_ct(path, archive, series_uid, chosen)
    unused = tuple(archive.not_used(ct))
    if chosen is not None:
        return _with(_explicit_pair(ct, chosen), unused)
    belonging = tuple(s for s in archive.structure_sets if ct in _matched_series(s, archive))
    if len(belonging) == 1 or (belonging and keep_all):
        return _with(PatientFiles(ct, belonging, _lost_images(belonging, ct)), unused)
    if not belonging and not needs_rtstruct:
        strays = [s for s in archive.structure_sets if not _matched_series(s, archive)]
        _refuse_strangers(path, ct, strays)
        return PatientFiles(ct, (), (*(f"not used: {why_not(s, ct) or s}" for s in strays), *unused))
    if len(belonging) > 1:
        listing = "; ".join(str(s) for s in belonging)
        if not needs_rtstruct:
            several = f"{len(belonging)} structure sets belong to this CT; none was used: {listing}"
            return PatientFiles(ct, (), (several, *_lost_images(belonging, ct), *unused))
        raise InputError(
            "Several structure sets belong to this CT series.",
            where=_place(path),
            found=listing,
            fix="choose one with --rtstruct FILE",
        )
    reasons = [why_not(s, ct) for s in archive.structure_sets]
    raise InputError(
        "No structure set belongs to this CT series.",
        where=_place(path),
        found=listed(r for r in reasons if r) or str(archive),
        expected=f"an RTSTRUCT that refers to CT series {ct.series_instance_uid}",
        fix="put the RTSTRUCT drawn on this CT into the folder, or name it with --rtstruct FILE",
    )


def ct_to_check_against(path: Path, rtstruct: Path, *, series_uid: str | None = None) -> CTSeriesFiles:
    """The CT series in a folder that a structure set is checked against; it need not belong to it.

    The one asked for, the only one, or the only one of several that the structure set refers to.

    Raises:
        InputError: there is no CT series, or more than one to choose from.
    """
    structure_sets = scan(rtstruct).structure_sets
    return _choose_ct(path, scan(path), series_uid, structure_sets[0] if len(structure_sets) == 1 else None)


def _refuse_strangers(
    path: Path | Sequence[Path], ct: CTSeriesFiles, strays: Sequence[StructureSetFile]
) -> None:
    """Raises InputError where a structure set without a CT is of another patient: files were mixed up."""
    strangers = [s for s in strays if not _same_patient(s, ct)]
    if strangers:
        raise InputError(
            "Files of different patients lie here.",
            where=_place(path),
            found=listed(why_not(s, ct) or str(s) for s in strangers),
            expected=f"files of patient {ct.patient_id} only",
            fix="take away what does not belong to this patient"
            + (
                "; where the patient IDs are wrong, correct them, or name the structure set with --rtstruct FILE "
                "(to-masks): it refers to the series, images and frame of reference of this CT"
                if any(_same_scan(s, ct) for s in strangers)
                else ""
            ),
        )


def why_not(structure_set: StructureSetFile, ct: CTSeriesFiles) -> str | None:
    """A sentence that says why a structure set is not taken for one of this CT series; None where it is."""
    if _matches(structure_set, [ct]):
        return None
    where = f"{structure_set.path}"
    if not _same_patient(structure_set, ct):
        return f"{where} is of patient {structure_set.patient_id}, the CT of patient {ct.patient_id}"
    frames, study = structure_set.frame_of_reference_uids, structure_set.study_instance_uid
    if structure_set.referenced_series_uids:
        same = "the same" if ct.frame_of_reference_uid in frames else "another"
        return (
            f"{where} was drawn on CT series {', '.join(structure_set.referenced_series_uids)}, not on "
            f"{ct.series_instance_uid} ({same} frame of reference)"
        )
    if frames:
        return f"{where} has frame of reference {', '.join(frames)}, the CT {ct.frame_of_reference_uid or 'none'}"
    return f"{where} refers to no CT, and is of study {study}, the CT of {ct.study_instance_uid}"


def _matches(structure_set: StructureSetFile, series: Sequence[CTSeriesFiles]) -> list[int]:
    """Numbers of the series that a structure set belongs to (see `pair`)."""
    same = [n for n, ct in enumerate(series) if _same_patient(structure_set, ct)]
    named = set(structure_set.referenced_series_uids)
    if by_series := [n for n in same if series[n].series_instance_uid in named]:
        return by_series
    sops = set(structure_set.referenced_sop_uids)
    if by_sop := [n for n in same if sops.intersection(filter(None, series[n].sop_instance_uids))]:
        return by_sop
    if named:  # drawn on a series that is not here: equal frames of reference would not make it this one's
        return []
    frames = structure_set.frame_of_reference_uids
    study = structure_set.study_instance_uid
    if frames and any(series[n].frame_of_reference_uid for n in same):
        last = [n for n in same if series[n].frame_of_reference_uid in frames]
    else:
        last = [n for n in same if study and series[n].study_instance_uid == study]
    return last if len(last) == 1 else []


def _matched_series(structure_set: StructureSetFile, archive: Archive) -> list[CTSeriesFiles]:
    return [archive.ct_series[n] for n in _matches(structure_set, archive.ct_series)]


def _same_patient(structure_set: StructureSetFile, ct: CTSeriesFiles) -> bool:
    """Whether the patient IDs agree; an empty one (anonymised) agrees with any."""
    return not structure_set.patient_id or not ct.patient_id or structure_set.patient_id == ct.patient_id


def _choose_ct(
    path: Path | Sequence[Path], archive: Archive, series_uid: str | None, chosen: StructureSetFile | None
) -> CTSeriesFiles:
    if not archive.ct_series:
        raise _no_ct(path, archive)
    candidates = list(archive.ct_series)
    if series_uid is not None:
        candidates = [ct for ct in candidates if ct.series_instance_uid == series_uid]
        if not candidates:
            raise InputError(
                "There is no CT series with this UID.",
                where=_place(path),
                found=listed(archive.ct_series),
                expected=series_uid,
            )
    if len(candidates) > 1 and chosen is not None:
        matched = [candidates[n] for n in _matches(chosen, candidates)]
        candidates = matched or [ct for ct in candidates if _same_scan(chosen, ct)] or candidates
    if len(candidates) == 1:
        return candidates[0]
    if len({ct.series_instance_uid for ct in candidates}) == 1:
        raise _one_uid_for_several(path, candidates)
    patients = {ct.patient_id for ct in candidates}
    raise InputError(
        f"There are {len(candidates)} CT series here"
        + (f", of {len(patients)} patients" if len(patients) > 1 else "")
        + "; which one is meant?",
        where=_place(path),
        found=listed(candidates),
        expected="one CT series",
        fix=how_to_choose(
            candidates, f"{_place(path)}/*" if len(patients) > 1 and isinstance(path, Path) else ""
        ),
    )


def _explicit_pair(ct: CTSeriesFiles, chosen: StructureSetFile) -> PatientFiles:
    """The pair that the user asked for: refused only where it cannot be right."""
    reason = why_not(chosen, ct)
    if reason is None:
        return PatientFiles(ct, (chosen,))
    if not may_be_chosen(chosen, ct):
        raise InputError(
            "This structure set does not belong to this CT series.",
            where=chosen.path,
            found=reason,
            fix="give the CT series that it was drawn on, or the structure set drawn on this CT",
        )
    return PatientFiles(
        ct, (chosen,), (f"{reason}; used because it was asked for", *_lost_images([chosen], ct))
    )


def may_be_chosen(structure_set: StructureSetFile, ct: CTSeriesFiles) -> bool:
    """Whether --rtstruct takes a structure set that does not belong to this CT series by itself."""
    frames, own = structure_set.frame_of_reference_uids, ct.frame_of_reference_uid
    if not _same_patient(structure_set, ct):
        return _same_scan(structure_set, ct)
    return not frames or not own or own in frames


def _same_scan(structure_set: StructureSetFile, ct: CTSeriesFiles) -> bool:
    """Whether series, images and frame of reference agree, so that another patient ID can only be a wrong one."""
    images = set(structure_set.referenced_sop_uids)
    return (
        ct.series_instance_uid in structure_set.referenced_series_uids
        and bool(images.intersection(filter(None, ct.sop_instance_uids)))
        and ct.frame_of_reference_uid in structure_set.frame_of_reference_uids
    )


def _with(files: PatientFiles, problems: tuple[str, ...]) -> PatientFiles:
    return replace(files, problems=(*files.problems, *problems))


def _lost_images(structure_sets: Sequence[StructureSetFile], ct: CTSeriesFiles) -> tuple[str, ...]:
    """Images of this series that a structure set refers to and that are not here: slices lost at an end show no gap."""
    problems = []
    for one in structure_sets:
        if one.referenced_series_uids != (ct.series_instance_uid,):
            continue
        images = set(one.referenced_sop_uids)
        lost = images.difference(ct.sop_instance_uids)
        for sibling in ct.siblings:
            if not lost:  # an archive has many series; they are looked through only for what is missing
                break
            lost.difference_update(sibling.sop_instance_uids)
        if 0 < len(lost) < len(images):
            problems.append(
                f"{len(lost)} of the {len(images)} images that {one.path.name} refers to are not here; slices of the "
                "CT may be missing"
            )
    return tuple(problems)


def _one_uid_for_several(path: Path | Sequence[Path], candidates: Sequence[CTSeriesFiles]) -> InputError:
    """The error for slices that share their series' UID, but not the patient ID or the study's UID."""
    patients = sorted({ct.patient_id for ct in candidates})
    several = (
        f"{len(patients)} patient IDs ({', '.join(p or 'none' for p in patients[:4])})"
        if len(patients) > 1
        else f"{len({ct.study_instance_uid for ct in candidates})} StudyInstanceUIDs"
    )
    return InputError(
        f"The slices of one CT series have {several}; it is not known whether they are one scan of one patient.",
        where=_place(path),
        found="; ".join(f"{ct}, such as {ct.paths[0].name}" for ct in candidates[:4]),
        expected="one patient ID and one study in all files of a series",
        fix="where they are one scan of one patient, export it again with one PatientID and one StudyInstanceUID; "
        "else leave the files of one of them in the folder",
    )


def _the_structure_set(path: Path) -> StructureSetFile:
    found = scan(path)
    if len(found.structure_sets) != 1:
        reasons = "; ".join(f"{s.path}: {s.reason}" for s in found.skipped)
        is_segmentation = path.is_file() and "Segmentation" in str(found)
        raise InputError(
            "This is not one RTSTRUCT file.",
            where=path,
            found=reasons or found,
            expected="an RTSTRUCT file",
            fix="make one of the segmentation: contour-ai to-rtstruct CT_DIR SEG --out RS.dcm"
            if is_segmentation
            else "",
        )
    return found.structure_sets[0]


def _no_ct(path: Path | Sequence[Path], archive: Archive) -> InputError:
    return InputError(
        "There is no CT series here.",
        where=_place(path),
        found="; ".join([str(archive), *map(str, archive.damaged[:3])]),
        expected="the DICOM files of one CT series",
        fix="; ".join(
            [
                *(archive.ways_out or ["give the folder that holds the CT slices"]),
                "contour-ai inspect PATH shows what is in a folder",
            ]
        ),
    )


def _place(path: Path | Sequence[Path]) -> str:
    if isinstance(path, Path):
        return str(path)
    return str(path[0]) if len(path) == 1 else f"{path[0]} and {len(path) - 1} more" if path else "no path"
