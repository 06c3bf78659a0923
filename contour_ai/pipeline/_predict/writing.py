"""Writes what was found into the patient's folder, as a whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contour_ai.bundle.commissioned_record import readable_record_of
from contour_ai.derived.derivation import DerivedRoi
from contour_ai.dicom.ct import CTSeries
from contour_ai.dicom.notes import removed_outside_body
from contour_ai.dicom.rtstruct_write import (
    WrittenStructureSet,
)
from contour_ai.errors import InputError
from contour_ai.files import atomic_folder, private_file, write_text
from contour_ai.grid import Grid
from contour_ai.pipeline._predict.contouring import Findings, findings_of, read_again, restore_rois
from contour_ai.pipeline._predict.model import LoadedModel
from contour_ai.pipeline._predict.opening import Opened
from contour_ai.pipeline._predict.options import PredictOptions, options_record
from contour_ai.pipeline._predict.orientation import orientation_finding
from contour_ai.pipeline._predict.reference import Reference, find_reference
from contour_ai.pipeline._predict.segmentation import write_seg
from contour_ai.pipeline._predict.structure_set import write_prediction
from contour_ai.pipeline._predict.surfaces import write_roi_surfaces
from contour_ai.pipeline._predict.target import folder_name, inputs_of, refuse_strangers
from contour_ai.pipeline.pictures import DrawnPatient, draw_pictures
from contour_ai.pipeline.result import (
    Context,
    InMemory,
    PredictedRoi,
    Prediction,
    measure,
    summary,
)
from contour_ai.pipeline.summary import SUMMARY, SummaryDerived, summary_text
from contour_ai.quality.flag import EXTERNAL, PatientFlags
from contour_ai.quality.judging import judge
from contour_ai.quality.verdict import SEVERITY, PatientVerdict

REPORT = "report.html"
OUTSIDE_SAID_CM3 = 0.1
"""What was removed of a ROI outside the body is said from so much on: less is rounding at the skin."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Judged:
    """What the quality findings of a prediction come to.

    Args:
        withheld: {ROI that is not written: why}.
        is_written: whether there is a structure set.
    """

    flags: PatientFlags
    verdict: PatientVerdict
    withheld: Mapping[str, str]
    is_written: bool


def _judged(
    found: Findings, rois: Sequence[PredictedRoi], region: str, grid: Grid, *, keep_stopped: bool
) -> Judged:
    flags = found.flags
    organs = [roi.info.name for roi in rois if roi.info.interpreted_type != EXTERNAL]
    verdict = judge(
        flags, organs, region, scan_mm=float(np.ptp(grid.slice_offsets_mm)), opinions=found.opinions
    )
    if keep_stopped:
        return Judged(flags=flags, verdict=verdict, withheld={}, is_written=True)
    return Judged(
        flags=flags, verdict=verdict, withheld=verdict.stopped, is_written=verdict.verdict != "stop"
    )


def finish(
    patient: Opened,
    logits: NDArray[np.float32],
    model: LoadedModel,
    wanted: Sequence[str],
    out_dir: Path | None,
    options: PredictOptions,
    taken: Sequence[str],
) -> Prediction:
    """Everything after the network, into the patient's folder, which is there as a whole or not at all.

    Args:
        out_dir: where the patient's folder goes; None writes nothing.
    """
    clock = patient.clock
    with clock.stage("restoring"):
        rois = restore_rois(patient, logits, model.bundle, wanted, model.resampler)
    own = model.bundle.own_contour_model
    second = (
        read_again(patient.prepared, model, clock) if own is not None and own.asks_second_reader else None
    )
    with clock.stage("flags"):
        found = findings_of(patient, rois, model.bundle, second)
    with clock.stage("position"):
        lies = orientation_finding(patient, logits, model, found.flags.rois)
        del logits
        if lies is not None:
            found = replace(found, flags=replace(found.flags, image=(lies, *found.flags.image)))
    with clock.stage("judging"):
        judged = _judged(found, rois, model.bundle.region, patient.ct.grid, keep_stopped=options.keep_stopped)
        rois = [replace(roi, logit=None, left_out=None) for roi in rois]
    if judged.is_written:
        _refuse_nothing_found(rois, patient.ct)
    if out_dir is None:
        reference = _compared(patient, rois)
        return _prediction(patient, rois, judged, model, reference, None)
    folder = out_dir / folder_name(patient.files, taken)
    refuse_strangers(folder, patient.files, options.overwrite)
    inputs = inputs_of(patient.files, patient.source)
    with atomic_folder(folder, overwrite=options.overwrite, inputs=inputs) as temporary:
        prediction = _write_all(patient, rois, judged, model, options, temporary)
    return _moved(prediction, temporary, folder)


def _write_all(
    patient: Opened,
    rois: Sequence[PredictedRoi],
    judged: Judged,
    model: LoadedModel,
    options: PredictOptions,
    folder: Path,
) -> Prediction:
    """Structure set, pictures and summary, into `folder`; no structure set of a patient whose verdict is `stop`."""
    ct, bundle, clock = patient.ct, model.bundle, patient.clock
    commissioned = readable_record_of(bundle)
    with clock.stage("structure set"):
        output = None
        if judged.is_written:
            output = write_prediction(
                rois,
                judged.flags,
                ct,
                bundle,
                options,
                folder,
                withheld=judged.withheld,
                commissioned=commissioned,
            )
        written = None if output is None else output.structure_set
        if options.seg is not None and written is not None:
            write_seg(rois, written.names, ct, bundle, folder, fractional=options.seg == "fractional")
        if options.surfaces is not None and written is not None:
            write_roi_surfaces(rois, written.names, ct, folder, options.surfaces)
    reference = _compared(patient, rois)
    with clock.stage("pictures") as within:
        overlays = draw_pictures(
            DrawnPatient(
                volume=patient.volume, body=patient.body, predicted=rois, reference=reference.masks or None
            ),
            folder,
            overlays=options.overlays,
            title=f"{ct.patient_id or 'unknown patient'}   {bundle.name} {bundle.version}",
            notes=_in_words(judged),
            on_progress=within,
        )
    montage = folder / "montage.png"
    prediction = replace(
        _prediction(patient, rois, judged, model, reference, written),
        folder=folder,
        montage=montage if montage.exists() else None,
        overlays=tuple(overlays),
    )
    context = Context(
        ct=ct,
        source=patient.source,
        bundle=bundle,
        device=model.computes_in,
        options=options_record(options, bundle),
        software=_software(),
        images_sha256=patient.images_sha256,
        commissioned=commissioned,
    )
    content = summary(prediction, written, context)
    if output is not None and (options.derive is not None or options.template is not None):
        content = replace(
            content,
            derived=derived_record(output.derived, output.structure_set.names),
            missing_of_template=tuple(output.missing),
        )
    write_text(private_file(folder / SUMMARY), summary_text(content.to_json()))
    if options.report is True or (options.report == "stopped" and written is None):
        # With scipy.spatial, which takes a fifth of a second.
        from contour_ai.pipeline.report import report_of_prediction, report_of_stopped

        if written is None:
            report_of_stopped(folder / REPORT, ct, rois, content)
        else:
            report_of_prediction(folder / REPORT, ct, written.path, reference.path, content)
    return prediction


def derived_record(rois: Sequence[DerivedRoi], names: Mapping[str, str]) -> dict[str, SummaryDerived]:
    """What a recipe made, for the summary."""
    record = {}
    for roi in rois:
        span = roi.region.slice_range
        record[roi.info.name] = SummaryDerived(
            name_in_file=names.get(roi.info.name, ""),
            volume_cm3=round(roi.region.volume_cm3, 3),
            slices=None if span is None else (span[0] + 1, span[1] + 1),
            description=roi.description,
            sources=tuple(roi.sources),
        )
    return record


def _compared(patient: Opened, rois: Sequence[PredictedRoi]) -> Reference:
    with patient.clock.stage("reference"):
        return find_reference(patient.files, patient.ct, rois)


def _prediction(
    patient: Opened,
    rois: Sequence[PredictedRoi],
    judged: Judged,
    model: LoadedModel,
    reference: Reference,
    written: WrittenStructureSet | None,
) -> Prediction:
    """The figures of every ROI, and what there is in memory."""
    ct, names = patient.ct, {} if written is None else written.names
    return Prediction(
        patient_id=ct.patient_id,
        model=f"{model.bundle.name} {model.bundle.version}",
        rois=tuple(
            measure(
                roi,
                ct,
                reference.masks.get(roi.info.name),
                names.get(roi.info.name, ""),
                judged.flags.rois[roi.info.name],
                judged.verdict.rois[roi.info.name],
            )
            for roi in rois
        ),
        path=None if written is None else written.path,
        timings_s=patient.clock.finished(),
        flags=judged.flags.image,
        verdict=judged.verdict.verdict,
        findings=judged.verdict.findings,
        notes=(
            *patient.files.problems,
            *ct.notes,
            *(
                removed_outside_body(roi.info.name, roi.outside.volume_cm3)
                for roi in rois
                if roi.outside.volume_cm3 >= OUTSIDE_SAID_CM3
            ),
            *(() if written is None else written.notes),
            *reference.notes,
        ),
        reference=reference.path,
        in_memory=InMemory(ct, tuple(replace(roi, level=None) for roi in rois)),
    )


def _refuse_nothing_found(rois: Sequence[PredictedRoi], ct: CTSeries) -> None:
    if any(roi.box is not None for roi in rois):
        return
    raise InputError(
        "The model found nothing in this CT.",
        where=ct.paths[0].parent,
        expected=", ".join(roi.info.name for roi in rois),
        fix="check that the scan shows the region the model was trained on: `contour-ai models show`",
    )


def _moved(prediction: Prediction, temporary: Path, folder: Path) -> Prediction:
    """The same prediction with the paths it has after the folder was moved into place."""

    def at(path: Path) -> Path:
        return folder / path.relative_to(temporary)

    return replace(
        prediction,
        folder=folder,
        path=None if prediction.path is None else at(prediction.path),
        montage=None if prediction.montage is None else at(prediction.montage),
        overlays=tuple(at(p) for p in prediction.overlays),
    )


def _in_words(judged: Judged) -> list[str]:
    """Lines for the montage: the verdict on the patient, then on every ROI that is not clear, the worst first."""
    verdict = judged.verdict
    lines = [f"verdict {verdict.verdict}", *(f"patient: {flag.reason}" for flag in verdict.findings)]
    rois = sorted(verdict.rois.items(), key=lambda item: -SEVERITY[item[1].verdict])
    return lines + [f"{name}, {roi.verdict}: {flag.reason}" for name, roi in rois for flag in roi.findings]


def _software() -> dict[str, str]:
    import pydicom
    import torch

    return {"torch": torch.__version__, "numpy": np.__version__, "pydicom": pydicom.__version__}
