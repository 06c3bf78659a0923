"""Writes what was found into the patient's folder, as a whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contour_ai.derived.derivation import DerivedRoi
from contour_ai.dicom.ct import CTSeries
from contour_ai.dicom.rtstruct_write import (
    WrittenStructureSet,
)
from contour_ai.errors import InputError
from contour_ai.files import atomic_folder, private_file, write_text
from contour_ai.pipeline._predict.contouring import flags_of, restore_rois
from contour_ai.pipeline._predict.model import LoadedModel
from contour_ai.pipeline._predict.opening import Opened
from contour_ai.pipeline._predict.options import PredictOptions, options_record
from contour_ai.pipeline._predict.reference import Reference, find_reference
from contour_ai.pipeline._predict.segmentation import write_seg
from contour_ai.pipeline._predict.structure_set import write_prediction
from contour_ai.pipeline._predict.surfaces import write_roi_surfaces
from contour_ai.pipeline._predict.target import folder_name, inputs_of, refuse_strangers
from contour_ai.pipeline.pictures import Scene, draw_pictures
from contour_ai.pipeline.result import (
    Context,
    InMemory,
    PredictedRoi,
    Prediction,
    measure,
    summary,
)
from contour_ai.pipeline.summary import SUMMARY, SummaryDerived, summary_text
from contour_ai.quality.flag import PatientFlags

REPORT = "report.html"


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
        del logits
    with clock.stage("flags"):
        flags = flags_of(patient, rois, model.bundle)
        rois = [replace(roi, logit=None, left_out=None) for roi in rois]
    _refuse_nothing_found(rois, patient.ct)
    if out_dir is None:
        reference = _compared(patient, rois)
        return _prediction(patient, rois, flags, model, reference, None)
    folder = out_dir / folder_name(patient.files, taken)
    refuse_strangers(folder, patient.files, options.overwrite)
    inputs = inputs_of(patient.files, patient.source)
    with atomic_folder(folder, overwrite=options.overwrite, inputs=inputs) as temporary:
        prediction = _write_all(patient, rois, flags, model, options, temporary)
    return _moved(prediction, temporary, folder)


def _write_all(
    patient: Opened,
    rois: Sequence[PredictedRoi],
    flags: PatientFlags,
    model: LoadedModel,
    options: PredictOptions,
    folder: Path,
) -> Prediction:
    """Structure set, pictures and summary, into `folder`."""
    ct, bundle, clock = patient.ct, model.bundle, patient.clock
    with clock.stage("structure set"):
        output = write_prediction(rois, flags, ct, bundle, options, folder)
        written = output.structure_set
        if options.seg is not None:
            write_seg(rois, written.names, ct, bundle, folder, fractional=options.seg == "fractional")
        if options.surfaces is not None:
            write_roi_surfaces(rois, written.names, ct, folder, options.surfaces)
    reference = _compared(patient, rois)
    with clock.stage("pictures") as within:
        overlays = draw_pictures(
            Scene(patient.volume, patient.body, rois, reference.masks or None),
            folder,
            overlays=options.overlays,
            title=f"{ct.patient_id or 'unknown patient'}   {bundle.name} {bundle.version}",
            notes=_flags_in_words(flags),
            on_progress=within,
        )
    montage = folder / "montage.png"
    prediction = replace(
        _prediction(patient, rois, flags, model, reference, written),
        folder=folder,
        montage=montage if montage.exists() else None,
        overlays=tuple(overlays),
    )
    context = Context(
        ct,
        patient.source,
        bundle,
        model.computes_in,
        options_record(options, bundle),
        _software(),
        patient.images_sha256,
    )
    content = summary(prediction, written, context)
    if options.derive is not None or options.template is not None:
        content = replace(
            content,
            derived=derived_record(output.derived, written.names),
            missing_of_template=tuple(output.missing),
        )
    write_text(private_file(folder / SUMMARY), summary_text(content.to_json()))
    if options.report:
        from contour_ai.pipeline.report import report_of_prediction  # and scipy.spatial, a fifth of a second

        report_of_prediction(folder / REPORT, ct, written.path, reference.path, content.to_json())
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
    flags: PatientFlags,
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
                flags.rois[roi.info.name],
            )
            for roi in rois
        ),
        path=None if written is None else written.path,
        timings_s=patient.clock.finished(),
        flags=flags.image,
        notes=(
            *patient.files.problems,
            *ct.notes,
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


def _flags_in_words(flags: PatientFlags) -> list[str]:
    """All flags as lines for the montage: those of the image first."""
    lines = [f"image: {flag.reason}" for flag in flags.image]
    return lines + [f"{roi}: {flag.reason}" for roi, found in flags.rois.items() for flag in found]


def _software() -> dict[str, str]:
    import pydicom
    import torch

    return {"torch": torch.__version__, "numpy": np.__version__, "pydicom": pydicom.__version__}
