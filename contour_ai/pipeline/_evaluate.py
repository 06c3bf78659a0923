"""Compares predicted with reference structure sets, patient by patient, on the CT that both were drawn on."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contour_ai.dicom.archive import COPY, Archive, CTSeriesFiles, scan
from contour_ai.dicom.classify import StructureSetFile
from contour_ai.dicom.ct import CTSeries, read_ct
from contour_ai.dicom.frames import drawn_on
from contour_ai.dicom.notes import prefixed
from contour_ai.dicom.rtstruct_read import StructureSet, iter_masks, load_structure_set
from contour_ai.dicom.scan import PatientFiles, pair, why_not
from contour_ai.dicom.structure_set_choice import ONLY, choose_structure_set
from contour_ai.errors import ConfigError, ContourAIError, InputError
from contour_ai.evaluation.comparison import FigureComparison, compare
from contour_ai.evaluation.metrics import RoiMetrics, Row, roi_metrics
from contour_ai.evaluation.report import RoiSummary, summarise
from contour_ai.evaluation.tolerances import Tolerances, load_tolerances
from contour_ai.faults import patient_boundary
from contour_ai.pipeline.roi_matching import RoiNames, match_in
from contour_ai.pipeline.summary import SUMMARY, Summary, read_summary
from contour_ai.progress import OnProgress, ProgressEvent, no_progress
from contour_ai.structures.roi_map import RoiMap

logger = logging.getLogger(__name__)

MOST_NAMES = 12
"""ROIs that a note lists."""
UID_END = 12
"""Characters of a UID that tell two CT series of one patient apart."""
MOST_THREADS = 4
"""ROIs that are compared at the same time; each holds two masks of the whole CT."""


@dataclass(frozen=True)
class Evaluation:
    """All figures of a comparison; `notes` say what was left out or assumed, `failed` holds each patient's error."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    failed: dict[str, ContourAIError]
    pairs: tuple[EvaluatedPair, ...] = ()
    tolerances: tuple[str, ...] = ()
    """Where the tolerances of the surface DSC come from, in sentences."""

    @property
    def summary(self) -> tuple[RoiSummary, ...]:
        """One summary a ROI."""
        return summarise(self.rows)


@dataclass(frozen=True)
class EvaluatedPair:
    """One patient's CT with the structure set of each side; `rois` are {ROI: its names}."""

    patient: str
    ct: CTSeriesFiles
    predicted: StructureSetFile
    reference: StructureSetFile
    rois: dict[str, RoiNames]


@dataclass(frozen=True)
class Versus:
    """Two predictions of the same patients against one reference."""

    first: Evaluation
    second: Evaluation
    comparison: tuple[FigureComparison, ...]


@dataclass(frozen=True)
class FoundPair:
    """One patient's CT with a structure set on each side."""

    patient: str
    ct: CTSeriesFiles
    predicted: StructureSetFile
    reference: StructureSetFile


def evaluate(
    predicted: str | Path,
    reference: str | Path,
    *,
    ct: str | Path | None = None,
    rois: Sequence[str] | None = None,
    roi_map: RoiMap | None = None,
    tau: float | Tolerances | None = None,
    structure_set: str = ONLY,
    on_progress: OnProgress = no_progress,
) -> Evaluation:
    """Compares two structure sets, or two folders of them paired by the CT series that they were drawn on.

    Args:
        predicted: RTSTRUCT file or folder.
        reference: RTSTRUCT file or folder.
        ct: where the CT lies; by default it is looked for beside the structure sets.
        rois: ROIs to compare; by default every ROI that any prediction names, and those that a `summary.json` beside a
            prediction says the model looked for and did not find.
        roi_map: names that stand for ROIs. Without it a reference ROI of another name is taken where TG-263 knows both
            names as one organ, which is said in the notes.
        tau: tolerance of the surface DSC in mm for every ROI, or tolerances by ROI; by default those that come with the
            package.
        structure_set: which counts where the reference has several of a CT (see `choose_structure_set`).

    Returns:
        Figures of every ROI in `rows`, which `pandas.DataFrame` takes as they are.

    Raises:
        InputError: nothing to compare: no structure set on one side, none of the same CT, or no CT.
    """
    places = Path(predicted), Path(reference), None if ct is None else Path(ct)
    pairs, notes = find_pairs(*places, on_progress, structure_set=structure_set)
    wanted = tuple(rois) if rois else _predicted_rois(pairs, roi_map)
    result = _evaluated(pairs, notes, wanted, roi_map, _tolerances(tau), on_progress)
    return result if rois else _with_others(result)


def evaluate_versus(
    predicted: str | Path,
    versus: str | Path,
    reference: str | Path,
    *,
    ct: str | Path | None = None,
    rois: Sequence[str] | None = None,
    roi_map: RoiMap | None = None,
    tau: float | Tolerances | None = None,
    structure_set: str = ONLY,
    on_progress: OnProgress = no_progress,
) -> Versus:
    """Compares two predictions (of two models, or by two observers) with one reference, and with each other.

    Both are scored for every ROI that either of them names. Arguments and errors as in `evaluate`.
    """
    found = [
        find_pairs(
            Path(side),
            Path(reference),
            None if ct is None else Path(ct),
            on_progress,
            structure_set=structure_set,
        )
        for side in (predicted, versus)
    ]
    wanted = tuple(rois) if rois else _predicted_rois([p for pairs, _ in found for p in pairs], roi_map)
    first, second = (
        _evaluated(pairs, notes, wanted, roi_map, _tolerances(tau), on_progress) for pairs, notes in found
    )
    return Versus(first if rois else _with_others(first), second, compare(first.rows, second.rows))


def _evaluated(
    pairs: Sequence[FoundPair],
    notes: list[str],
    wanted: Sequence[str],
    roi_map: RoiMap | None,
    tolerances: Tolerances,
    on_progress: OnProgress,
) -> Evaluation:
    """The figures of every pair; one that cannot be compared is listed, unless it is the only one."""
    rows: list[Row] = []
    compared: list[EvaluatedPair] = []
    failed: dict[str, ContourAIError] = {}
    for done, found in enumerate(pairs):
        on_progress(ProgressEvent("comparing", done, len(pairs), {"patient": found.patient}))
        try:
            with patient_boundary(f"comparing patient {found.patient}"):
                metrics, names, remarks = _compare(found, wanted, roi_map, tolerances)
        except ContourAIError as error:
            if len(pairs) == 1:
                raise
            failed[found.patient] = error
            continue
        rows += [Row.of(found.patient, m, found.ct.series_instance_uid) for m in metrics]
        compared.append(EvaluatedPair(found.patient, found.ct, found.predicted, found.reference, names))
        notes += [f"{found.patient}: {remark}" for remark in remarks]
    on_progress(ProgressEvent("comparing", len(pairs), len(pairs)))
    return Evaluation(tuple(rows), tuple(notes), failed, tuple(compared), tolerances.described(wanted))


def _tolerances(tau: float | Tolerances | None) -> Tolerances:
    if isinstance(tau, Tolerances):
        return tau
    built_in = load_tolerances()
    return built_in if tau is None else Tolerances(default_mm=tau, path_mm=built_in.path_mm)


# -- finding what belongs together -----------------------------------------------------------------------------


def find_pairs(
    predicted: Path,
    reference: Path,
    ct: Path | None = None,
    on_progress: OnProgress = no_progress,
    *,
    structure_set: str = ONLY,
) -> tuple[list[FoundPair], list[str]]:
    """Structure sets of both sides that were drawn on the same CT, and sentences on the others.

    Args:
        structure_set: which counts where the reference has several of a CT; one that is given as a file counts whoever
            wrote it.

    Raises:
        InputError: as `evaluate`.
    """
    archive = scan(_places(predicted, reference, ct), on_progress)
    sides = {
        "PREDICTED": _side(archive, predicted, reference),
        "REFERENCE": _side(archive, reference, predicted),
    }
    for (side, found), path in zip(sides.items(), (predicted, reference), strict=True):
        if not found:
            raise InputError(f"There is no structure set in {side}.", where=path, found=archive)
    twice = [s.path for s in sides["PREDICTED"] if s in sides["REFERENCE"]]
    if twice:
        raise InputError(
            "A structure set is on both sides of the comparison.", where=twice[0], fix="keep the two apart"
        )
    if not archive.ct_series:
        raise InputError(
            "The CT that these structure sets were drawn on is not here.",
            where=reference,
            expected=f"CT series {', '.join(sides['REFERENCE'][0].referenced_series_uids) or 'of the patient'}",
            fix="give the folder that holds it with --ct DIR",
        )
    archive = replace(archive, structure_sets=(*sides["PREDICTED"], *sides["REFERENCE"]))
    how = None if reference.is_file() else structure_set
    pairs, notes = _pairs(pair(archive), sides["PREDICTED"], sides["REFERENCE"], how)
    if not pairs:
        raise _nothing_to_compare(archive, sides["PREDICTED"], sides["REFERENCE"], notes)
    return pairs, notes


def _places(predicted: Path, reference: Path, ct: Path | None) -> list[Path]:
    """The folders to look through. Results below a folder of patients are looked into only as a place of their own."""
    places = [path.resolve() for path in (predicted, reference)]
    places += [ct.resolve()] if ct is not None else [p.parent for p in places if p.is_file()]
    return list(dict.fromkeys(places))


def _side(archive: Archive, place: Path, other: Path) -> list[StructureSetFile]:
    """The structure sets on one side of the comparison, also one that is a copy of one on the other side.

    Where the other side lies within this one, as predictions below their patients do, its files are its own.
    """
    within = other.resolve() != place.resolve() and other.resolve().is_relative_to(place.resolve())

    def mine(path: Path) -> bool:
        return _lies_in(path, place) and not (within and _lies_in(path, other))

    found = [s for s in archive.structure_sets if mine(s.path)]
    copies = [o.path for o in archive.others if o.kind == COPY and mine(o.path)]
    known = {s.sop_instance_uid for s in found}
    restored = scan(copies).structure_sets if copies else ()
    return found + [s for s in restored if s.sop_instance_uid not in known]


def _lies_in(path: Path, place: Path) -> bool:
    """Whether a file that was found belongs to one side: by the way it was found, or by where it really is."""
    place = place.resolve()
    return path.absolute().is_relative_to(place) or path.resolve().is_relative_to(place)


def _pairs(
    patients: Sequence[PatientFiles],
    predicted: Sequence[StructureSetFile],
    reference: Sequence[StructureSetFile],
    structure_set: str | None,
) -> tuple[list[FoundPair], list[str]]:
    """One pair a CT series with one structure set on each side; and sentences on the others."""
    pairs, notes = [], []
    labels = labels_of([patient.ct for patient in patients])
    for patient in patients:
        mine = [s for s in patient.structure_sets if s in predicted]
        theirs = [s for s in patient.structure_sets if s in reference]
        name = labels[patient.ct.series_instance_uid]
        if structure_set is not None and theirs:
            chosen = choose_structure_set(theirs, structure_set)
            if not chosen.taken:
                count = f"{len(theirs)} structure sets could be its" if len(theirs) > 1 else "no"
                notes.append(f"{name}: not compared, {count} reference: {chosen.reason}")
                continue
            theirs = list(chosen.taken)
            notes += [f"{name}: reference: {chosen.reason}"] if chosen.reason else []
        if len(mine) == 1 and len(theirs) == 1:
            pairs.append(FoundPair(name, patient.ct, mine[0], theirs[0]))
            continue
        for found, side in ((mine, "prediction"), (theirs, "reference")):
            if len(found) > 1:
                listing = "; ".join(map(str, found))
                notes.append(
                    f"{name}: not compared, {len(found)} structure sets could be its {side}: {listing}"
                )
            elif not found and (mine or theirs):
                notes.append(f"{name}: not compared, no {side}")
    known = [s for patient in patients for s in patient.structure_sets]
    notes += [
        f"{s.path}: not compared, the CT it was drawn on is not here"
        for s in (*predicted, *reference)
        if s not in known
    ]
    return sorted(pairs, key=lambda p: (p.patient, p.ct.series_instance_uid)), notes


def labels_of(series: Sequence[CTSeriesFiles]) -> dict[str, str]:
    """{SeriesInstanceUID: what the patient is called}: the patient's ID, with the series where there are several."""
    names = {ct.series_instance_uid: ct.patient_id or ct.series_instance_uid for ct in series}
    counts = Counter(names.values())
    return {
        uid: name if counts[name] == 1 else f"{name} (CT ...{uid[-UID_END:]})" for uid, name in names.items()
    }


def _nothing_to_compare(
    archive: Archive,
    predicted: Sequence[StructureSetFile],
    reference: Sequence[StructureSetFile],
    notes: Sequence[str],
) -> InputError:
    reasons = list(notes)
    if len(archive.ct_series) == 1:
        reasons += [r for s in (*predicted, *reference) if (r := why_not(s, archive.ct_series[0]))]
    return InputError(
        "No prediction and reference were drawn on the same CT.",
        found="; ".join(reasons),
        expected="one structure set on each side for a CT series",
        fix="give the CT with --ct DIR, and one structure set a patient on each side",
    )


# -- comparing -------------------------------------------------------------------------------------------------


def _compare(
    found: FoundPair, wanted: Sequence[str], roi_map: RoiMap | None, tolerances: Tolerances
) -> tuple[list[RoiMetrics], dict[str, RoiNames], list[str]]:
    """The figures of every wanted ROI of one patient, its names on both sides, and remarks, those on the CT first."""
    ct = read_ct(found.ct, with_pixels=False)
    remarks: list[str] = [f"CT: {note}" for note in ct.notes]
    sides = [drawn_on(load_structure_set(s.path), ct) for s in (found.predicted, found.reference)]
    remarks += [prefixed(note, side.path.name) for side in sides for note in side.notes]
    names: dict[str, RoiNames] = {}
    for roi in wanted:
        both = [match_in(roi, side, roi_map) for side in sides]
        names[roi] = RoiNames(both[0].name, both[1].name)
        remarks += [
            f"{m.remark} in {side.path.name}" for m, side in zip(both, sides, strict=True) if m.remark
        ]

    def figures(roi: str) -> tuple[RoiMetrics, list[str]]:
        said: list[str] = []
        masks = [
            None if name is None else _mask(side, ct, name, said)
            for name, side in zip(names[roi].sides, sides, strict=True)
        ]
        tau_mm, path_mm = tolerances.of(roi), tolerances.path_mm
        return roi_metrics(masks[0], masks[1], ct.grid, roi=roi, tau_mm=tau_mm, path_tau_mm=path_mm), said

    # Most of the work happens outside the interpreter's lock: threads are enough.
    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as pool:
        results = list(pool.map(figures, wanted))
    remarks += [remark for _, said in results for remark in said]
    return [m for m, _ in results], names, list(dict.fromkeys(remarks))


def _mask(structure_set: StructureSet, ct: CTSeries, name: str, remarks: list[str]) -> NDArray[np.bool_]:
    ((_, mask),) = iter_masks(structure_set, ct, [name], on_note=remarks.append)
    return mask


def _predicted_rois(pairs: Sequence[FoundPair], roi_map: RoiMap | None) -> tuple[str, ...]:
    """Every ROI that a prediction names, or was to name: so one that is missing, even in all of them, is counted."""
    names = dict.fromkeys(name for found in pairs for name in found.predicted.roi_names)
    names |= dict.fromkeys(name for found in pairs for name in _not_found(found.predicted))
    mapped = {} if roi_map is None else roi_map.apply(names).rois
    return tuple(dict.fromkeys(mapped.get(name, name) for name in names))


def _not_found(predicted: StructureSetFile) -> list[str]:
    """The ROIs that the model looked for, and that are not in its structure set because it found nothing."""
    summary = summary_beside(predicted.path, predicted.sop_instance_uid)
    return [] if summary is None else [roi for roi, one in summary.rois.items() if one.name_in_file is None]


def _with_others(result: Evaluation) -> Evaluation:
    """The same with a note on the ROIs of the reference that were not compared because no prediction has them."""
    counts: Counter[str] = Counter()
    for found in result.pairs:
        compared = {names.reference for names in found.rois.values()}
        counts.update([name for name in dict.fromkeys(found.reference.roi_names) if name not in compared])
    if not counts:
        return result
    listing = [f"{name} ({count} patient{'s' if count > 1 else ''})" for name, count in counts.most_common()]
    more = f" and {len(listing) - MOST_NAMES} more" if len(listing) > MOST_NAMES else ""
    note = f"in the reference, in no prediction, and not compared: {', '.join(listing[:MOST_NAMES])}{more}"
    return replace(result, notes=(*result.notes, note))


def summary_beside(structure_set: Path, sop_instance_uid: str) -> Summary | None:
    """The `summary.json` beside a structure set, if it is of this structure set; one that cannot be used is logged."""
    path = structure_set.parent / SUMMARY
    if not path.is_file():
        return None
    try:
        summary = read_summary(path)
    except ConfigError as error:
        logger.warning("Not used: %s", error)
        return None
    return summary if summary.structure_set.sop_instance_uid == sop_instance_uid else None
