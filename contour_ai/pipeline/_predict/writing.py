"""Writes what was found into the patient's folder, as a whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contour_ai.box import Box
from contour_ai.bundle import ModelBundle
from contour_ai.dicom.ct import CTSeries
from contour_ai.dicom.profile import load_profile
from contour_ai.dicom.rtstruct_header import Provenance
from contour_ai.dicom.rtstruct_write import (
    RoiContours,
    WrittenStructureSet,
    contours_of_level,
    contours_of_mask,
    write_structure_set,
)
from contour_ai.errors import InputError
from contour_ai.files import atomic_folder, private_file, write_text
from contour_ai.pipeline._predict.contouring import flags_of, restore_rois
from contour_ai.pipeline._predict.model import LoadedModel
from contour_ai.pipeline._predict.opening import Opened
from contour_ai.pipeline._predict.options import PredictOptions, options_record
from contour_ai.pipeline._predict.reference import Reference, find_reference
from contour_ai.pipeline._predict.segmentation import write_seg
from contour_ai.pipeline._predict.target import folder_name, inputs_of, refuse_strangers
from contour_ai.pipeline.pictures import Scene, draw_pictures
from contour_ai.pipeline.result import (
    SUMMARY,
    Context,
    InMemory,
    PredictedRoi,
    Prediction,
    measure,
    summary,
    summary_text,
)
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
        written = _write(rois, flags, ct, bundle, options, folder)
        if options.seg is not None:
            write_seg(rois, written.names, ct, bundle, folder, fractional=options.seg == "fractional")
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
    write_text(private_file(folder / SUMMARY), summary_text(content))
    if options.report:
        from contour_ai.pipeline.report import report_of_prediction  # and scipy.spatial, a fifth of a second

        report_of_prediction(folder / REPORT, ct, written.path, reference.path, content)
    return prediction


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


def _write(
    rois: Sequence[PredictedRoi],
    flags: PatientFlags,
    ct: CTSeries,
    bundle: ModelBundle,
    options: PredictOptions,
    folder: Path,
) -> WrittenStructureSet:
    """The structure set RS.<SOPInstanceUID>.dcm, verified; empty ROIs are left out."""
    profile = load_profile(options.profile)
    found = {r.info.name: r for r in rois if r.box is not None}

    def contours() -> Iterator[RoiContours]:
        for roi in found.values():
            assert roi.box is not None and roi.inside is not None
            description = _described(flags, roi.info.name)
            if roi.level is None:
                yield contours_of_mask(
                    roi.info,
                    roi.inside,
                    box=roi.box,
                    outline=profile.outline,
                    holes=profile.holes,
                    description=description,
                )
            else:
                yield contours_of_level(
                    roi.info, roi.level, roi.box, holes=profile.holes, description=description
                )

    def expected(name: str) -> tuple[Box, NDArray[np.bool_]]:
        roi = found[name]
        assert roi.box is not None and roi.inside is not None
        return roi.box, roi.inside

    provenance = Provenance(
        label=bundle.name,
        series_description=f"contour-ai {bundle.name}: needs review",
        description=f"Automatic contours of {bundle.name} {bundle.version}. Needs review before use.",
        model=bundle.name,
        model_version=bundle.version,
        weights_sha256=bundle.weights_sha256,
        uids_from=options.uids_from,
    )
    written = write_structure_set(
        folder / "RS.dcm", contours(), ct, provenance, profile=profile, verify=expected
    )
    final = written.path.with_name(f"RS.{written.sop_instance_uid}.dcm")
    return replace(written, path=written.path.rename(final))


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


def _described(flags: PatientFlags, roi: str) -> str:
    """A ROI's flags for its ROIDescription, which holds 1024 characters."""
    return "; ".join(flag.reason for flag in flags.rois[roi])


def _flags_in_words(flags: PatientFlags) -> list[str]:
    """All flags as lines for the montage: those of the image first."""
    lines = [f"image: {flag.reason}" for flag in flags.image]
    return lines + [f"{roi}: {flag.reason}" for roi, found in flags.rois.items() for flag in found]


def _software() -> dict[str, str]:
    import pydicom
    import torch

    return {"torch": torch.__version__, "numpy": np.__version__, "pydicom": pydicom.__version__}
