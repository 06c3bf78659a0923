"""Looks through a folder as every command would, and says what is in it, what is wrong and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from contour_ai.dicom.archive import COPY
from contour_ai.dicom.classify import LOCALIZER
from contour_ai.dicom.ct import CTSeries, read_ct, refuse_missing_slices
from contour_ai.dicom.frames import frame_notes, on_several_series
from contour_ai.dicom.joining import how_to_choose
from contour_ai.dicom.other_series import SeveralSeries
from contour_ai.dicom.rtstruct_read import (
    RoiContoursRead,
    contours_on_slices,
    load_structure_set,
)
from contour_ai.dicom.scan import (
    Archive,
    CTSeriesFiles,
    PatientFiles,
    StructureSetFile,
    may_be_chosen,
    pair,
    scan,
    why_not,
)
from contour_ai.errors import ContourAIError
from contour_ai.faults import patient_boundary
from contour_ai.polygons import filled_box
from contour_ai.progress import OnProgress, ProgressEvent, no_progress
from contour_ai.structures import tg263_name


@dataclass(frozen=True)
class Problem:
    """Something that stands in the way, and the way out."""

    what: str
    fix: str = ""


@dataclass(frozen=True, kw_only=True)
class RoiReport:
    """A ROI of a structure set. `slices` and `volume_cm3` are those on the CT; None where it cannot be read."""

    name: str
    tg263_name: str | None
    contours: int
    slices: int | None
    volume_cm3: float | None


@dataclass(frozen=True, kw_only=True)
class StructureSetReport:
    """A structure set that belongs to a CT series.

    Args:
        file: the structure set.
        rois: none where it cannot be read.
        problems: what is wrong with it on this series.
        several_series: how its contours lie on several series of the folder, where they do. Commands refuse it then.
    """

    file: StructureSetFile
    rois: tuple[RoiReport, ...]
    problems: tuple[Problem, ...]
    several_series: SeveralSeries | None = None


@dataclass(frozen=True, kw_only=True)
class SeriesReport:
    """A CT series; `ct` is without its pixels, None where the series cannot be used."""

    files: CTSeriesFiles
    ct: CTSeries | None
    structure_sets: tuple[StructureSetReport, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class Inspection:
    """What lies in a folder; `problems` are those of no single series."""

    archive: Archive
    series: tuple[SeriesReport, ...]
    problems: tuple[Problem, ...]

    @property
    def usable(self) -> bool:
        """Whether at least one CT series can be read."""
        return any(report.ct is not None for report in self.series)

    def all_problems(self) -> Iterator[Problem]:
        """Every problem: the folder's, then those of each series and its structure sets."""
        yield from self.problems
        for report in self.series:
            yield from report.problems
            for structure_set in report.structure_sets:
                yield from structure_set.problems


def inspect(path: Path, on_progress: OnProgress = no_progress) -> Inspection:
    """Scans a folder, reads every CT series with its pixels, and every structure set that belongs to one.

    Raises:
        InputError: the path does not exist.
    """
    archive = scan(path, on_progress)
    patients = pair(archive)
    reports = []
    for done, patient in enumerate(patients, start=1):
        reports.append(_series(patient))
        on_progress(ProgressEvent(stage="reading series", done=done, total=len(patients)))
    return Inspection(archive, tuple(reports), (*_folder_problems(archive), *_on_several_series(reports)))


def roi_on_ct(roi: RoiContoursRead, ct: CTSeries) -> tuple[int, float, list[str]]:
    """Number of slices, volume in cm3 of the voxels inside, and notes, of a ROI brought to a CT's slices."""
    notes: list[str] = []
    polygons = contours_on_slices(roi, ct, notes.append)
    voxel_cm3 = ct.grid.voxel_volumes_cm3
    volume = 0.0
    for k, outlines in polygons.items():
        _, inside = filled_box(outlines, ct.grid.shape_kij[1:])
        volume += float(inside.sum() * voxel_cm3[k])
    return len(polygons), volume, notes


def _series(patient: PatientFiles) -> SeriesReport:
    problems = [Problem(text) for text in patient.problems]
    ct: CTSeries | None = None
    try:
        with patient_boundary(f"inspecting CT series {patient.ct.series_instance_uid}"):
            ct = replace(read_ct(patient.ct), volume=None)
            problems += [Problem(note) for note in ct.notes]
            refuse_missing_slices(ct)
    except ContourAIError as error:
        problem = _problem(error)
        if ct is not None:
            problem = replace(problem, what=f"predict and train cannot use it: {problem.what}")
        problems.append(problem)
    if len(patient.structure_sets) > 1:
        problems.append(
            Problem(
                f"{len(patient.structure_sets)} structure sets belong to this CT series",
                "where a command needs one, choose it with --rtstruct FILE",
            )
        )
    reports = tuple(_structure_set_or_why(file, ct) for file in patient.structure_sets)
    return SeriesReport(files=patient.ct, ct=ct, structure_sets=reports, problems=tuple(problems))


def _structure_set_or_why(file: StructureSetFile, ct: CTSeries | None) -> StructureSetReport:
    try:
        with patient_boundary(f"inspecting {file.path}"):
            return _structure_set(file, ct)
    except ContourAIError as error:
        return StructureSetReport(file=file, rois=(), problems=(_problem(error),))


def _structure_set(file: StructureSetFile, ct: CTSeries | None) -> StructureSetReport:
    structure_set = load_structure_set(file.path)
    notes = [*structure_set.notes, *(frame_notes(structure_set, ct) if ct is not None else ())]
    several = None if ct is None else on_several_series(structure_set, ct)
    rois = []
    for roi in structure_set.rois:
        slices, volume_cm3 = None, None
        here = roi if several is None else several.without_elsewhere(roi)
        if ct is not None and roi.contours and not here.contours:
            slices, volume_cm3 = 0, 0.0
        elif ct is not None:
            slices, volume_cm3, more = roi_on_ct(here, ct)
            notes += more
        rois.append(
            RoiReport(
                name=roi.name,
                tg263_name=tg263_name(roi.name),
                contours=len(roi.contours),
                slices=slices,
                volume_cm3=volume_cm3,
            )
        )
    problems = tuple(Problem(f"{file.path.name}: {n}") for n in notes)
    return StructureSetReport(file=file, rois=tuple(rois), problems=problems, several_series=several)


def _on_several_series(reports: Sequence[SeriesReport]) -> list[Problem]:
    """That commands refuse a structure set whose contours lie on several series: once, whichever of them is read."""
    found: dict[Path, SeveralSeries] = {}
    for report in reports:
        for one in report.structure_sets:
            if one.several_series is not None:
                found.setdefault(one.file.path, one.several_series)
    return [_problem(one.refusal(which="")) for one in found.values()]


def _folder_problems(archive: Archive) -> list[Problem]:
    problems = [
        Problem(
            f"{s.path}: {s.reason}",
            s.kind.fix if s.kind.fix else "copy or export it again, or remove it; a slice may be missing",
        )
        for s in archive.damaged
    ]
    problems += [Problem(f"there is no CT: {way}") for way in archive.ways_out]
    series = {ct.series_instance_uid for ct in archive.ct_series} - {""}
    problems += [
        Problem(
            f"{o.path} is of a CT series, but no CT slice ({o.kind})",
            "copy or export it again; a slice may be missing",
        )
        for o in archive.others
        if o.series_instance_uid in series and o.kind not in (LOCALIZER, COPY)
    ]
    problems += [
        Problem(reason, _advice(s, archive.ct_series))
        for s in archive.structure_sets
        if (reason := _why_of_none(s, archive.ct_series))
    ]
    if len({ct.patient_id for ct in archive.ct_series}) == 1 and len(archive.ct_series) > 1:
        problems.append(
            Problem(
                f"{len(archive.ct_series)} CT series of one patient",
                how_to_choose(archive.ct_series),
            )
        )
    return problems


def _advice(structure_set: StructureSetFile, series: Sequence[CTSeriesFiles]) -> str:
    beside = "put the CT series that it was drawn on beside it"
    if any(may_be_chosen(structure_set, ct) for ct in series):
        return f"{beside}, or name it with --rtstruct FILE"
    return beside


def _why_of_none(structure_set: StructureSetFile, series: Sequence[CTSeriesFiles]) -> str | None:
    """Why a structure set belongs to none of the series; None where it belongs to one."""
    alone = Archive(ct_series=tuple(series), structure_sets=(structure_set,), others=(), skipped=())
    if any(p.structure_sets for p in pair(alone)):
        return None
    if not series:
        return f"{structure_set.path}: there is no CT series that it could belong to"
    own = [ct for ct in series if ct.patient_id == structure_set.patient_id] or list(series)
    reasons = [reason for ct in own if (reason := why_not(structure_set, ct))]
    return (
        reasons[0]
        if reasons
        else f"{structure_set.path} does not say to which of {len(own)} CT series it belongs"
    )


def _problem(error: ContourAIError) -> Problem:
    parts = [error.what.rstrip("."), *(f"{n}: {t}" for n, t in _details(error) if t)]
    return Problem("; ".join(parts), error.fix or "")


def _details(error: ContourAIError) -> tuple[tuple[str, str | None], ...]:
    return ("where", error.where), ("found", error.found), ("expected", error.expected)
