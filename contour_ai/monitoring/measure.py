"""From pairs of structure sets to what was edited at each ROI."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contour_ai.dicom.ct import CTSeries, read_ct
from contour_ai.dicom.frames import drawn_on
from contour_ai.dicom.rtstruct_read import StructureSet, iter_masks, load_structure_set
from contour_ai.errors import ContourAIError
from contour_ai.evaluation.metrics import roi_metrics
from contour_ai.evaluation.tolerances import Tolerances, load_tolerances
from contour_ai.faults import patient_boundary
from contour_ai.monitoring.dose import Dose, read_dose, roi_dose
from contour_ai.monitoring.records import ADDED, COMPARED, REMOVED, ApprovedPair, Edit
from contour_ai.progress import OnProgress, ProgressEvent, no_progress

Mask = NDArray[np.bool_]
NAN = float("nan")


def measure_edits(
    pairs: Sequence[ApprovedPair], on_progress: OnProgress = no_progress
) -> tuple[list[Edit], list[str]]:
    """The edits of every ROI of every patient, in the order of their dates, and sentences on what could not be read."""
    edits: list[Edit] = []
    notes: list[str] = []
    tolerances = load_tolerances()
    for done, pair in enumerate(pairs, start=1):
        try:
            with patient_boundary(f"comparing {pair.patient}"):
                edits += _of_patient(pair, tolerances)
        except ContourAIError as error:
            notes.append(f"{pair.patient}: not compared: {error}")
        on_progress(
            ProgressEvent(stage="comparing", done=done, total=len(pairs), facts={"patient": pair.patient})
        )
    return sorted(edits, key=lambda e: (e.date, e.patient, e.series_uid, e.roi)), notes


def _of_patient(pair: ApprovedPair, tolerances: Tolerances) -> Iterator[Edit]:
    ct = read_ct(list(pair.ct), with_pixels=False)
    ai, approved = (drawn_on(load_structure_set(path), ct) for path in (pair.ai, pair.approved))
    dose = None if pair.dose is None else read_dose(pair.dose)
    theirs = {name.casefold(): name for name in approved.names}
    for name in ai.names:
        other = theirs.pop(name.casefold(), None)
        yield _edit(pair, name, mask_of(ai, name, ct), mask_of(approved, other, ct), ct, tolerances, dose)
    for name in theirs.values():
        yield _edit(pair, name, None, mask_of(approved, name, ct), ct, tolerances, dose)


def mask_of(structure_set: StructureSet, name: str | None, ct: CTSeries) -> Mask | None:
    """The voxels of a ROI; None where there is none of it."""
    if name is None:
        return None
    ((_, mask),) = iter_masks(structure_set, ct, [name], on_note=lambda note: None)
    return mask if mask.any() else None


def _edit(
    pair: ApprovedPair,
    roi: str,
    ai: Mask | None,
    approved: Mask | None,
    ct: CTSeries,
    tolerances: Tolerances,
    dose: Dose | None,
) -> Edit:
    tau = tolerances.of(roi)
    status = COMPARED if ai is not None and approved is not None else REMOVED if ai is not None else ADDED
    figures = roi_metrics(ai, approved, ct.grid, roi=roi, tau_mm=tau)
    first, second = (np.zeros(ct.grid.shape_kij, bool) if m is None else m for m in (ai, approved))
    differs = (first != second).any(axis=(1, 2))
    change = _dose_change(ai, approved, ct, dose)
    return Edit(
        patient=pair.patient,
        series_uid=pair.series_uid,
        date=pair.date,
        roi=roi,
        model=pair.model,
        scanner=pair.scanner,
        reviewer=pair.reviewer,
        verdict=pair.verdicts.get(roi, ""),
        status=status,
        untouched=status == COMPARED and not differs.any(),
        dsc=figures.dsc,
        surface_dsc=figures.surface_dsc,
        tau_mm=tau,
        hd95_mm=figures.hd95_mm,
        added_path_mm=figures.added_path_mm,
        volume_ratio=figures.volume_ratio,
        edited_slices=int(differs.sum()),
        slices=int((first | second).any(axis=(1, 2)).sum()),
        dose_mean_gy=change.mean_gy,
        dose_003cc_gy=change.d003cc_gy,
        dose_95_gy=change.d95_gy,
        rating=pair.ratings.get(roi, ""),
    )


class _DoseChange(NamedTuple):
    """AI minus approved."""

    mean_gy: float | None = None
    d003cc_gy: float | None = None
    d95_gy: float | None = None


def _dose_change(ai: Mask | None, approved: Mask | None, ct: CTSeries, dose: Dose | None) -> _DoseChange:
    """AI minus approved; None where there is no dose, or not both contours."""
    if dose is None or ai is None or approved is None:
        return _DoseChange()
    first, second = roi_dose(ai, ct.grid, dose), roi_dose(approved, ct.grid, dose)
    assert first is not None and second is not None
    return _DoseChange(
        first.mean_gy - second.mean_gy, first.d003cc_gy - second.d003cc_gy, first.d95_gy - second.d95_gy
    )
