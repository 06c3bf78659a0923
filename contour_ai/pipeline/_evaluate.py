"""Compares predicted with reference structure sets, patient by patient, on the CT that both were drawn on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contour_ai.cores import available_cores
from contour_ai.dicom.archive import CTSeriesFiles
from contour_ai.dicom.classify import StructureSetFile
from contour_ai.dicom.ct import CTSeries, read_ct
from contour_ai.dicom.frames import drawn_on
from contour_ai.dicom.notes import prefixed
from contour_ai.dicom.rtstruct_read import StructureSet, iter_masks, load_structure_set
from contour_ai.dicom.structure_set_choice import ONLY
from contour_ai.errors import ContourAIError
from contour_ai.evaluation.comparison import FigureComparison, compare
from contour_ai.evaluation.metrics import RoiMetrics, Row, roi_metrics
from contour_ai.evaluation.report import RoiSummary, summarise
from contour_ai.evaluation.tolerances import Tolerances, load_tolerances
from contour_ai.faults import patient_boundary
from contour_ai.pipeline.pairing import FoundPair, find_pairs
from contour_ai.pipeline.roi_matching import RoiNames, match_in
from contour_ai.pipeline.summary import Summary, usable_summary
from contour_ai.progress import OnProgress, ProgressEvent, no_progress
from contour_ai.structures.roi_map import RoiMap

MOST_NAMES = 12
"""ROIs that a note lists."""
EVALUATION_THREADS = 4
"""ROIs that are compared at the same time; each holds two masks of the whole CT."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """All figures of a comparison."""

    rows: tuple[Row, ...]
    """One for each ROI of each patient; lengths in mm, volumes in cm3. `pandas.DataFrame(rows)` makes a table."""
    notes: tuple[str, ...]
    """What was left out or assumed, in sentences."""
    failed: dict[str, ContourAIError]
    """{patient: why it could not be compared}."""
    pairs: tuple[EvaluatedPair, ...] = ()
    """The CT and the two structure sets of each patient that was compared."""
    tolerances: tuple[str, ...] = ()
    """Where the tolerances of the surface DSC come from, in sentences."""

    @property
    def summary(self) -> tuple[RoiSummary, ...]:
        """One summary for each ROI: mean, median and quartiles of every figure over the patients."""
        return summarise(self.rows)


@dataclass(frozen=True, kw_only=True)
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


def evaluate(
    predicted: str | Path,
    reference: str | Path,
    *,
    ct: str | Path | None = None,
    rois: Sequence[str] | None = None,
    roi_map: RoiMap | None = None,
    tau: float | Tolerances | None = None,
    structure_set: str = ONLY,
    acquisition: int | None = None,
    on_progress: OnProgress = no_progress,
) -> Evaluation:
    """Compares two structure sets, or two folders of them paired by the CT series that they were drawn on.

    Args:
        predicted: RTSTRUCT file, or a folder with any number of them.
        reference: RTSTRUCT file, or a folder with any number of them.
        ct: where the CT lies; by default it is looked for beside the structure sets.
        rois: ROIs to compare; by default every ROI that any prediction names, and those that a `summary.json` beside a
            prediction says the model looked for and did not find.
        roi_map: names that stand for ROIs. Without it a reference ROI of another name is taken where TG-263 knows both
            names as one organ, which is said in the notes.
        tau: tolerance of the surface DSC in mm for every ROI, or tolerances by ROI; by default those that come with the
            package.
        structure_set: which counts where the reference has several of a CT: newest, approved, only, or a pattern of
            labels such as CLINICAL*.
        acquisition: the AcquisitionNumber to take where several acquisitions overlap in a CT series; None refuses such
            a series.
        on_progress: told after each patient.

    Returns:
        Figures of every ROI in `rows`, which `pandas.DataFrame` takes as they are.

    Raises:
        InputError: nothing to compare: no structure set on one side, none of the same CT, or no CT. Where there is only
            one patient, what is wrong with it; of several it is in `failed`.
        ConfigError: a tolerance below 0.
    """
    places = Path(predicted), Path(reference), None if ct is None else Path(ct)
    pairs, notes = find_pairs(*places, on_progress, structure_set=structure_set, acquisition=acquisition)
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
    acquisition: int | None = None,
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
            acquisition=acquisition,
        )
        for side in (predicted, versus)
    ]
    wanted = tuple(rois) if rois else _predicted_rois([pair for one in found for pair in one.pairs], roi_map)
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
    evaluated: list[EvaluatedPair] = []
    failed: dict[str, ContourAIError] = {}
    for done, found in enumerate(pairs):
        on_progress(
            ProgressEvent(stage="comparing", done=done, total=len(pairs), facts={"patient": found.patient})
        )
        try:
            with patient_boundary(f"comparing patient {found.patient}"):
                compared = _compare(found, wanted, roi_map, tolerances)
        except ContourAIError as error:
            if len(pairs) == 1:
                raise
            failed[found.patient] = error
            continue
        rows += [Row.of(found.patient, m, found.ct.series_instance_uid) for m in compared.metrics]
        evaluated.append(
            EvaluatedPair(
                patient=found.patient,
                ct=found.ct,
                predicted=found.predicted,
                reference=found.reference,
                rois=compared.names,
            )
        )
        notes += [f"{found.patient}: {remark}" for remark in compared.remarks]
    on_progress(ProgressEvent(stage="comparing", done=len(pairs), total=len(pairs)))
    return Evaluation(
        rows=tuple(rows),
        notes=tuple(notes),
        failed=failed,
        pairs=tuple(evaluated),
        tolerances=tolerances.described(wanted),
    )


def _tolerances(tau: float | Tolerances | None) -> Tolerances:
    if isinstance(tau, Tolerances):
        return tau
    built_in = load_tolerances()
    return built_in if tau is None else Tolerances(default_mm=tau, path_mm=built_in.path_mm)


# -- comparing -------------------------------------------------------------------------------------------------


class _Compared(NamedTuple):
    """One patient, compared."""

    metrics: list[RoiMetrics]
    names: dict[str, RoiNames]
    """By ROI."""
    remarks: list[str]
    """Those on the CT first."""


def _compare(
    found: FoundPair, wanted: Sequence[str], roi_map: RoiMap | None, tolerances: Tolerances
) -> _Compared:
    """The figures of every wanted ROI of one patient."""
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
        mask_notes: list[str] = []
        masks = [
            None if name is None else _mask(side, ct, name, mask_notes)
            for name, side in zip(names[roi].sides, sides, strict=True)
        ]
        tau_mm, path_mm = tolerances.of(roi), tolerances.path_mm
        return roi_metrics(
            masks[0], masks[1], ct.grid, roi=roi, tau_mm=tau_mm, path_tau_mm=path_mm
        ), mask_notes

    # Most of the work happens outside the interpreter's lock: threads are enough.
    with ThreadPoolExecutor(min(EVALUATION_THREADS, available_cores())) as pool:
        results = list(pool.map(figures, wanted))
    remarks += [remark for _, mask_notes in results for remark in mask_notes]
    remarks += [_ends_elsewhere(m) for m, _ in results if m.ends_elsewhere]
    return _Compared([m for m, _ in results], names, list(dict.fromkeys(remarks)))


def _ends_elsewhere(m: RoiMetrics) -> str:
    return (
        f"{m.roi} ends elsewhere than the reference ({m.missed_inferior_slices} slices missed towards the feet, "
        f"{m.missed_superior_slices} towards the head, {m.extra_slices} more): DSC {m.dsc:.2f}, {m.dsc_in_common:.2f} "
        "in the slices that both reach"
    )


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
    summary = usable_summary(structure_set.parent)
    return None if summary is None or summary.structure_set.sop_instance_uid != sop_instance_uid else summary
