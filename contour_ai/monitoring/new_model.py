"""A new model against the one in use, on the test patients, with the approved contours as the reference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from contour_ai.dicom.ct import CTSeries, read_ct
from contour_ai.dicom.frames import drawn_on
from contour_ai.dicom.rtstruct_read import StructureSet, load_structure_set
from contour_ai.dicom.scan import scan
from contour_ai.errors import ContourAIError, InputError, listed
from contour_ai.evaluation.comparison import FigureComparison, compare
from contour_ai.evaluation.metrics import Row, roi_metrics
from contour_ai.evaluation.tolerances import Tolerances, load_tolerances
from contour_ai.faults import patient_boundary
from contour_ai.monitoring.export import is_test_patient
from contour_ai.monitoring.measure import mask_of
from contour_ai.monitoring.pairs import model_of
from contour_ai.monitoring.records import ApprovedPair


@dataclass(frozen=True, kw_only=True)
class OldAgainstNew:
    """Two models on the same test patients.

    Args:
        old, new: names and versions of the models, of several all of them.
        patients: compared.
        unchanged: ROIs of the model in use that were approved as they were, of `rois`.
        comparison: new minus old.
        notes: on patients that were left out.
    """

    old: str
    new: str
    patients: int
    unchanged: int
    rois: int
    comparison: tuple[FigureComparison, ...]
    notes: tuple[str, ...]


def compare_models(pairs: Sequence[ApprovedPair], new_dir: Path) -> OldAgainstNew:
    """The contours in `new_dir` and those in use, each against the approved ones of the test patients.

    Args:
        new_dir: predictions of the new model; others than test patients may have taught it, and are left out.

    Raises:
        InputError: there are no contours of a test patient in it.
    """
    drawn = {uid: s.path for s in scan(new_dir).structure_sets for uid in s.referenced_series_uids}
    notes, old_rows, new_rows, models = [], [], [], (set[str](), set[str]())
    patients = unchanged = 0
    tolerances = load_tolerances()
    for pair in pairs:
        path = drawn.pop(pair.series_uid, None)
        if not is_test_patient(pair.patient):
            if path is not None:
                notes.append(f"{pair.patient} is no test patient: the new model may have learnt from it")
            continue
        if path is None:
            notes.append(f"{pair.patient}: a test patient without contours of the new model")
            continue
        try:
            with patient_boundary(f"comparing the models on {pair.patient}"):
                old, new = _rows(pair, path, tolerances)
        except ContourAIError as error:
            notes.append(f"{pair.patient}: not compared: {error}")
            continue
        patients += 1
        unchanged += sum(row.dsc == 1.0 for row in old)
        old_rows += old
        new_rows += new
        models[0].add(pair.model)
        models[1].add(model_of(path))
    if drawn:
        notes.append(f"{len(drawn)} structure sets of the new model belong to no patient here")
    if not patients:
        raise InputError(
            "There are no contours of the new model for a test patient.",
            where=new_dir,
            found=listed(notes) or "no structure sets",
            fix="export the test patients with --export-worst, and run `contour-ai predict` on archive/test",
        )
    return OldAgainstNew(
        old=_listed(models[0]),
        new=_listed(models[1]),
        patients=patients,
        unchanged=unchanged,
        rois=len(old_rows),
        comparison=compare(new_rows, old_rows),
        notes=tuple(notes),
    )


COLUMNS = (
    "new_model",
    "old_model",
    "roi",
    "figure",
    "patients",
    "new_median",
    "old_median",
    "median_difference",
    "new_better",
    "old_better",
    "equal",
    "p",
    "p_holm",
)
"""Of the CSV."""


def csv_rows(versus: OldAgainstNew) -> list[list[object]]:
    """One row for each ROI and figure, under `COLUMNS`."""
    return [
        [versus.new, versus.old, *(f"{v:.6g}" if isinstance(v, float) else v for v in asdict(c).values())]
        for c in versus.comparison
    ]


def _listed(models: set[str]) -> str:
    return ", ".join(sorted(model or "unknown model" for model in models))


def _rows(pair: ApprovedPair, new: Path, tolerances: Tolerances) -> tuple[list[Row], list[Row]]:
    """Figures of the ROIs that were approved and that one of the models has: of the model in use, of the new one."""
    ct = read_ct(list(pair.ct), with_pixels=False)
    approved, old, fresh = (drawn_on(load_structure_set(path), ct) for path in (pair.approved, pair.ai, new))
    known = {name.casefold() for one in (old, fresh) for name in one.names}
    rois = [name for name in approved.names if name.casefold() in known]
    first, second = (list(_scored(pair, one, approved, rois, ct, tolerances)) for one in (old, fresh))
    return first, second


def _scored(
    pair: ApprovedPair,
    drawn: StructureSet,
    approved: StructureSet,
    rois: Sequence[str],
    ct: CTSeries,
    tolerances: Tolerances,
) -> Iterator[Row]:
    names = {name.casefold(): name for name in drawn.names}
    for roi in rois:
        mine = mask_of(drawn, names.get(roi.casefold()), ct)
        figures = roi_metrics(mine, mask_of(approved, roi, ct), ct.grid, roi=roi, tau_mm=tolerances.of(roi))
        yield Row.of(pair.patient, figures, pair.series_uid)
