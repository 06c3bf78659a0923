"""Reports to look at, gathered from CT, structure sets, figures, and the summary that lies beside a prediction."""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from contour_ai import __version__
from contour_ai.dicom.ct import CTSeries, read_ct
from contour_ai.dicom.frames import drawn_on
from contour_ai.dicom.rtstruct_read import StructureSet, contours_on_slices, iter_masks, load_structure_set
from contour_ai.errors import InputError, UnforeseenError
from contour_ai.evaluation.comparison import FigureComparison
from contour_ai.evaluation.metrics import RoiMetrics, roi_metrics
from contour_ai.evaluation.tolerances import Tolerances, load_tolerances
from contour_ai.faults import patient_boundary
from contour_ai.files import private_file, private_folder, safe_name, write_text
from contour_ai.pipeline._evaluate import EvaluatedPair, Evaluation, summary_beside
from contour_ai.pipeline.pictures import roi_polygons
from contour_ai.pipeline.places import without_paths
from contour_ai.pipeline.result import PredictedRoi
from contour_ai.pipeline.roi_matching import RoiNames, match_in
from contour_ai.pipeline.summary import Summary, SummaryRoi
from contour_ai.progress import OnProgress, ProgressEvent, no_progress
from contour_ai.quality.verdict_record import SummaryFlag
from contour_ai.report.cohort import CohortPage, write_cohort_report
from contour_ai.report.page import escaped_text
from contour_ai.report.patient import PatientPage, ShownFlag, ShownRoi, Slices, write_patient_report
from contour_ai.settings import to_mapping
from contour_ai.structures import RoiInfo, roi_info
from contour_ai.surfaces import Mesh, reduced_mesh

logger = logging.getLogger(__name__)
COHORT = "cohort.html"
PATIENTS = "patients"
NOT_WRITTEN = "No structure set was written: the verdict is stop. The contours show the reason."
GRAVE_FIRST = {"stop": 0, "look": 1, "clear": 2}

Names = Mapping[str, RoiNames]


def report_of_prediction(
    path: Path, ct: CTSeries, predicted: Path, reference: Path | None, summary: Summary
) -> None:
    """Writes the report of what `predict` made: the contours as they stand in its structure set.

    Args:
        ct: with pixels.
        predicted: the structure set that was written.
        reference: the patient's own structure set, where there is one.
        summary: what `summary.json` says.
    """
    theirs_read = None if reference is None else drawn_on(load_structure_set(reference), ct)
    sides = (load_structure_set(predicted), theirs_read)
    names = {
        roi: RoiNames(found.name_in_file, None if theirs_read is None else match_in(roi, theirs_read).name)
        for roi, found in summary.rois.items()
    }
    metrics = {
        roi: _metrics(roi, both, sides, ct, load_tolerances())
        for roi, both in names.items()
        if both.reference is not None
    }
    volumes = {roi: found.volume_cm3 for roi, found in summary.rois.items()}
    notes = _tolerance_notes(load_tolerances().described(metrics))
    _write(path, ct, sides, names, metrics, summary, volumes, notes)


def report_of_stopped(path: Path, ct: CTSeries, predicted: Sequence[PredictedRoi], summary: Summary) -> None:
    """Writes the report of a patient of whom no structure set was written: what was found, and why it was stopped.

    Args:
        ct: with pixels.
        predicted: what the model found.
        summary: what `summary.json` says.
    """
    rois = [
        ShownRoi(
            info=roi.info,
            predicted=roi_polygons(roi),
            volume_cm3=summary.rois[roi.info.name].volume_cm3,
            surface=None if roi.inside is None else reduced_mesh(roi.inside, ct.grid, box=roi.box),
            verdict=summary.rois[roi.info.name].verdict,
        )
        for roi in predicted
    ]
    _write_page(path, ct, rois, (None, None), summary, [NOT_WRITTEN])


def reports_of_evaluation(
    folder: Path,
    evaluation: Evaluation,
    *,
    title: str = "Evaluation",
    versus: Evaluation | None = None,
    comparison: Sequence[FigureComparison] = (),
    labels: tuple[str, ...] = ("prediction",),
    on_progress: OnProgress = no_progress,
) -> tuple[Path, ...]:
    """Writes `patients/<PatientID>.html` for every patient and, of several, `cohort.html` with links to them.

    Args:
        folder: exists already.
        versus: figures of another prediction of the same patients; the patients' pages show the first.

    Returns:
        What was written, the cohort's page first.
    """
    links: dict[str, str] = {}
    taken: set[str] = set()
    paths = []
    private_folder(folder / PATIENTS)
    for done, pair in enumerate(evaluation.pairs):
        on_progress(
            ProgressEvent(
                stage="reports", done=done, total=len(evaluation.pairs), facts={"patient": pair.patient}
            )
        )
        name = _page_name(pair, taken)
        taken.add(name.casefold())
        path = folder / PATIENTS / name
        metrics = {row.roi: row.metrics for row in evaluation.rows if row.patient == pair.patient}
        mine = f"{pair.patient}: "
        notes = [n.removeprefix(mine) for n in evaluation.notes if n.startswith(mine)]
        try:
            with patient_boundary(f"writing the page of patient {pair.patient}"):
                every = without_paths([*notes, *_tolerance_notes(evaluation.tolerances)])
                report_of_pair(path, pair, metrics, every)
        except (InputError, UnforeseenError) as error:
            logger.warning("no page of patient %s: %s", pair.patient, error)
            write_text(
                private_file(path),
                f"<!doctype html><title>No page</title><pre>{escaped_text(without_paths(str(error)))}</pre>\n",
            )
        links.setdefault(pair.patient, f"{PATIENTS}/{name}")
        paths.append(path)
    on_progress(ProgressEvent(stage="reports", done=len(evaluation.pairs), total=len(evaluation.pairs)))
    if len(paths) < 2:
        return tuple(paths)
    failures = [f"{patient}: {error}" for patient, error in evaluation.failed.items()]
    page = CohortPage(
        title=title,
        subtitle=f"{len(evaluation.pairs)} patients · contour-ai {__version__}",
        rows=evaluation.rows,
        versus=() if versus is None else versus.rows,
        labels=labels,
        comparison=comparison,
        links=links,
        notes=without_paths([*evaluation.notes, *failures, *_tolerance_notes(evaluation.tolerances)]),
    )
    write_cohort_report(folder / COHORT, page)
    return (folder / COHORT, *paths)


def report_of_pair(
    path: Path, pair: EvaluatedPair, metrics: Mapping[str, RoiMetrics], notes: Sequence[str]
) -> None:
    """Writes the report of one evaluated patient, with flags and provenance where its prediction has a summary."""
    ct = read_ct(pair.ct)
    sides = (load_structure_set(pair.predicted.path), load_structure_set(pair.reference.path))
    found = summary_beside(pair.predicted.path, sides[0].sop_instance_uid)
    _write(path, ct, sides, pair.rois, metrics, found, {}, notes)


# -- gathering -------------------------------------------------------------------------------------------------


def _write(
    path: Path,
    ct: CTSeries,
    sides: tuple[StructureSet, StructureSet | None],
    names: Names,
    metrics: Mapping[str, RoiMetrics],
    summary: Summary | None,
    volumes: Mapping[str, float],
    notes: Sequence[str],
) -> None:
    rois = []
    for roi, both in names.items():
        contours = [_slices(side, name, ct) for side, name in zip(sides, both.sides, strict=True)]
        volume = volumes.get(roi, metrics[roi].predicted_cm3 if roi in metrics else None)
        info = _info(roi, both.predicted, sides[0])
        surface = _surface(sides[0], both.predicted, ct)
        judged = None if summary is None else summary.rois.get(roi)
        rois.append(
            ShownRoi(
                info=info,
                predicted=contours[0],
                reference=contours[1],
                metrics=metrics.get(roi),
                volume_cm3=volume,
                surface=surface,
                verdict="" if judged is None else judged.verdict,
            )
        )
    _write_page(path, ct, rois, sides, summary, notes)


def _write_page(
    path: Path,
    ct: CTSeries,
    rois: Sequence[ShownRoi],
    sides: tuple[StructureSet | None, StructureSet | None],
    summary: Summary | None,
    notes: Sequence[str],
) -> None:
    if ct.volume is None:
        raise InputError("A report needs the CT's pixels.", where=ct.paths[0].parent)
    spacing = " x ".join(f"{mm:.3g}" for mm in ct.grid.spacing_mm)
    model = "" if summary is None else f"{summary.model.name} {summary.model.version}".strip()
    page = PatientPage(
        title=ct.patient_id or "unknown patient",
        subtitle=" · ".join(filter(None, [model, f"{ct.grid.shape_kij[0]} slices, {spacing} mm"])),
        volume=ct.volume,
        rois=rois,
        flags=None if summary is None else shown_flags(summary),
        provenance=_provenance(ct, sides, summary),
        verdict="" if summary is None else summary.verdict,
        notes=[*_noted_before(summary, notes), *_about_flags(summary), *notes],
    )
    write_patient_report(path, page)


def _metrics(
    roi: str,
    names: RoiNames,
    sides: tuple[StructureSet, StructureSet | None],
    ct: CTSeries,
    tolerances: Tolerances,
) -> RoiMetrics:
    masks = [
        None if side is None or name is None else next(iter_masks(side, ct, [name], on_note=_ignored))[1]
        for side, name in zip(sides, names.sides, strict=True)
    ]
    return roi_metrics(
        masks[0],
        masks[1],
        ct.grid,
        roi=roi,
        tau_mm=tolerances.of(roi),
        path_tau_mm=tolerances.path_mm,
    )


def _slices(structure_set: StructureSet | None, name: str | None, ct: CTSeries) -> Slices | None:
    if structure_set is None or name is None:
        return None
    roi = structure_set.rois[structure_set.names.index(name)]
    return contours_on_slices(roi, ct, _ignored)


def _surface(structure_set: StructureSet, name: str | None, ct: CTSeries) -> Mesh | None:
    """A small surface of a predicted ROI."""
    if name is None or name not in structure_set.names:
        return None
    _, mask = next(iter_masks(structure_set, ct, [name], on_note=_ignored))
    return reduced_mesh(mask, ct.grid)


def _noted_before(summary: Summary | None, notes: Sequence[str]) -> list[str]:
    """What `predict` remarked, without what the evaluation says of the same CT."""
    return [] if summary is None else [n for n in summary.input.notes if f"CT: {n}" not in notes]


def _about_flags(summary: Summary | None) -> list[str]:
    """What the flags could not look at."""
    if summary is None:
        return ["No summary.json of this prediction lies beside it: flags are not known."]
    if summary.compared_with_training_patients:
        return []
    return ["The model has no reference ranges: volume, density and position were not checked."]


def _tolerance_notes(sentences: Sequence[str]) -> list[str]:
    return [f"Tolerance of {sentence}" for sentence in sentences]


def _ignored(note: str) -> None:
    """For what was said already when the same file was read before."""


def _info(roi: str, name: str | None, structure_set: StructureSet) -> RoiInfo:
    """Colours from the prediction's file, where it has them."""
    info = roi_info(roi)
    color = next((r.color for r in structure_set.rois if r.name == name), None)
    return info if color is None else replace(info, color=color)


def shown_flags(summary: Summary) -> list[ShownFlag]:
    """The flags of a `summary.json`: those of the whole scan first; where it has verdicts, the reasons for these,
    those of the gravest first.
    """

    def shown(judged: Summary | SummaryRoi) -> tuple[SummaryFlag, ...]:
        return judged.findings if summary.verdict else judged.flags

    rois = sorted(summary.rois.items(), key=lambda item: GRAVE_FIRST.get(item[1].verdict, len(GRAVE_FIRST)))
    found = [("", flag) for flag in shown(summary)]
    found += [(name, flag) for name, roi in rois for flag in shown(roi)]
    return [
        ShownFlag(
            roi=roi,
            code=flag.code,
            reason=flag.reason,
            figure=_figure(flag),
            slices=tuple(number - 1 for number in flag.slices_from_1),
        )
        for roi, flag in found
    ]


def _figure(flag: SummaryFlag) -> str:
    """A flag's number with its name, beside its limits, all with their unit."""
    if flag.value is None:
        return ""
    unit = f" {flag.unit}" if flag.unit else ""
    ends = (("at least", flag.low), ("at most", flag.high))
    limits = [f"{words} {number:.4g}{unit}" for words, number in ends if number is not None]
    name = flag.code.replace("_", " ")
    return f"{name} {flag.value:.4g}{unit}".strip() + (f" (usual: {', '.join(limits)})" if limits else "")


def _provenance(
    ct: CTSeries, sides: tuple[StructureSet | None, StructureSet | None], summary: Summary | None
) -> dict[str, dict[str, str]]:
    parts: dict[str, dict[str, str]] = {}
    if summary is not None:
        listed = {
            "Model": to_mapping(summary.model),
            "Software": summary.software,
            "Options": to_mapping(summary.options),
        }
        for heading, values in listed.items():
            if values:
                parts[heading] = {name: str(value) for name, value in values.items()}
        parts["Prediction"] = {"made": summary.created, "device": summary.device}
    parts["Input"] = {
        "folder": ct.paths[0].parent.name,
        "series": ct.series_instance_uid,
        "slices, rows, columns": " x ".join(map(str, ct.grid.shape_kij)),
        "spacing": " x ".join(f"{mm:.4g}" for mm in ct.grid.spacing_mm) + " mm",
    }
    for heading, side in zip(("Predicted structure set", "Reference structure set"), sides, strict=True):
        if side is not None:
            parts[heading] = {"file": side.path.name, "label": side.label, "UID": side.sop_instance_uid}
    parts["Report"] = {"contour-ai": __version__, "Python": platform.python_version()}
    return parts


def _page_name(pair: EvaluatedPair, taken: set[str]) -> str:
    """A file name for a patient's page; with the series where another patient has that name."""
    name = safe_name(pair.patient, fallback="unknown_patient")
    if f"{name}.html".casefold() in taken:
        name = f"{name}-{safe_name(pair.ct.series_instance_uid)[-12:]}"
    return f"{name}.html"
