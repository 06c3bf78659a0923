"""Contours one patient, or several with one read while another is in the network and a third is written."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contour_ai.bundle import ModelBundle
from contour_ai.dicom.scan import PatientFiles
from contour_ai.errors import ContourAIError
from contour_ai.faults import as_known
from contour_ai.pipeline._predict.contouring import run_network, wanted_rois
from contour_ai.pipeline._predict.model import LoadedModel, LoadingModel, bundle_of, load_model
from contour_ai.pipeline._predict.opening import Opened, open_patient, source_folder
from contour_ai.pipeline._predict.options import PredictOptions
from contour_ai.pipeline._predict.stages import StageClock
from contour_ai.pipeline._predict.structure_set import check_output
from contour_ai.pipeline._predict.target import folder_name, target_folder
from contour_ai.pipeline._predict.writing import finish
from contour_ai.pipeline.result import Prediction
from contour_ai.progress import OnProgress, no_progress

IN_FLIGHT = 3
"""Patients at once, at most: one read, one in the network, one written. Each holds a whole CT in memory."""


def predict(
    patient: str | Path | PatientFiles,
    model: str | Path | ModelBundle | LoadedModel | None = None,
    out_dir: str | Path | None = None,
    options: PredictOptions | None = None,
    on_progress: OnProgress = no_progress,
    *,
    taken: Sequence[str] = (),
    begun: Begun | None = None,
) -> Prediction:
    """Contours the CT series of one patient.

    Args:
        patient: a folder with one CT series, or files that were found before.
        model: name or folder of a model, a bundle, or what `load_model` made ready for several patients; None for the
            default model.
        out_dir: `out_dir`/<PatientID>/ is written as a whole, or not at all: structure set, pictures, summary. None
            writes nothing: masks, figures and findings are in what is returned.
        options: device, ROIs, importer's profile and so on; None for the defaults.
        on_progress: told how far each stage has come.
        taken: names of folders in `out_dir` that other patients of the same run have; a patient whose ID gives the
            same name gets a longer one.
        begun: what `begin` made of the same patient with the same model and options; for a program that reads patients
            ahead, as the node does.

    Returns:
        Masks (k, i, j) on the CT's grid, figures, verdicts and notes; where `out_dir` is given, the paths of the files.

    Raises:
        InputError: the CT cannot be used, or the model found nothing in it.
        ModelError: there is no such model, or it cannot be used.
        ConfigError: a ROI the model does not have, an unknown device or profile.
        OutputError: the patient's folder exists, or cannot be written.
        VerificationError: the structure set did not read back as it was meant; nothing is left.
    """
    options = options or PredictOptions()
    patient = patient if isinstance(patient, PatientFiles) else Path(patient)
    out = None if out_dir is None else Path(out_dir)
    ready = model if isinstance(model, LoadedModel) else None
    bundle = model.bundle if isinstance(model, LoadedModel) else bundle_of(model)
    wanted = wanted_rois(bundle, options.rois, allow_poor=options.allow_poor)
    check_output(options)
    clock = StageClock(watcher=on_progress, patient=source_folder(patient).name)
    coming = ready or LoadingModel(bundle, lambda: load_model(bundle, options.device))

    def may_be_written(files: PatientFiles) -> None:
        if out is not None:
            target_folder(source_folder(patient), files, out, options, taken)

    if begun is not None:
        begun.opened.clock.go_on()
        may_be_written(begun.opened.files)
        return finish(begun.opened, begun.logits, coming.loaded(), wanted, out, options, taken)
    opened = open_patient(patient, bundle, options, clock, may_be_written, lambda: coming.loaded().resampler)
    ready = coming.loaded()
    logits = run_network(opened.prepared, ready, options, clock)
    return finish(opened, logits, ready, wanted, out, options, taken)


@dataclass(frozen=True, eq=False, kw_only=True)
class Begun:
    """A patient whose network has run, and of whom nothing is written yet.

    Args:
        logits: (R, k, i, j) on the model's grid.
    """

    opened: Opened
    logits: NDArray[np.float32]


def begin(patient: Path, model: LoadedModel, options: PredictOptions) -> Begun:
    """The part of `predict` that needs neither output folder nor names: reads the CT and runs the network.

    For a caller who knows the patient before the result is asked for. The time between is none of the patient's.

    Raises:
        InputError: the CT cannot be used.
    """
    clock = StageClock(watcher=no_progress, patient=patient.name)
    opened = open_patient(patient, model.bundle, options, clock, resampler=lambda: model.resampler)
    logits = run_network(opened.prepared, model, options, clock)
    clock.pause()
    return Begun(opened=opened, logits=logits)


@dataclass(frozen=True)
class Outcome:
    """What became of one patient of several: either the prediction or the error."""

    patient_dir: Path
    prediction: Prediction | None = None
    error: ContourAIError | None = None


def predict_patients(
    patient_dirs: Sequence[Path],
    model: LoadedModel | LoadingModel,
    out_dir: Path,
    options: PredictOptions | None = None,
    on_progress: OnProgress = no_progress,
) -> Iterator[Outcome]:
    """Contours several patients as `predict` does, and gives what became of each, in their order.

    While the network runs on one patient, the next is read and prepared and the one before is written: three threads,
    each with its patients in order, so that files and folder names are those of one patient after the other. A patient
    that fails does not stop the others.

    Args:
        on_progress: called from the threads, for up to `IN_FLIGHT` patients by turns.

    Raises:
        ConfigError: a ROI the model does not have, an unknown profile; no such device, of a model that is loading.
        ModelError: a model that is loading cannot be used.
    """
    options = options or PredictOptions()
    wanted = wanted_rois(model.bundle, options.rois, allow_poor=options.allow_poor)
    check_output(options)
    out_dir = Path(out_dir)
    taken: list[str] = []
    claimed: set[str] = set()

    def opened(patient_dir: Path) -> Opened:
        clock = StageClock(watcher=on_progress, patient=patient_dir.name)
        return open_patient(
            patient_dir,
            model.bundle,
            options,
            clock,
            lambda files: may_be_written(patient_dir, files),
            lambda: model.loaded().resampler,
        )

    def may_be_written(source: Path, files: PatientFiles) -> None:
        # A patient with the name of one before gets a longer one, or not if that one fails: known when its turn comes.
        name = folder_name(files).casefold()
        if name not in claimed:
            claimed.add(name)
            target_folder(source, files, out_dir, options, ())

    def contoured(before: Future[Opened]) -> tuple[Opened, NDArray[np.float32]]:
        patient = before.result()
        return patient, run_network(patient.prepared, model.loaded(), options, patient.clock)

    def written(before: Future[tuple[Opened, NDArray[np.float32]]]) -> Prediction:
        patient, logits = before.result()
        prediction = finish(patient, logits, model.loaded(), wanted, out_dir, options, taken)
        assert prediction.folder is not None
        taken.append(prediction.folder.name)
        return prediction.without_image()  # several wait for their turn: each would hold a whole CT

    def outcome(patient_dir: Path, future: Future[Prediction]) -> Outcome:
        try:
            return Outcome(patient_dir, future.result())
        except Exception as error:  # noqa: BLE001 - handed to the caller, who goes on with the others
            model.loaded()  # a model that cannot be loaded is no patient's error
            return Outcome(patient_dir, error=as_known(error, f"predicting {patient_dir}"))

    threads = [ThreadPoolExecutor(1) for _ in range(3)]
    waiting: deque[tuple[Path, Future[Prediction]]] = deque()
    try:
        for patient_dir in map(Path, patient_dirs):
            if len(waiting) >= IN_FLIGHT:
                yield outcome(*waiting.popleft())
            first = threads[0].submit(opened, patient_dir)
            second = threads[1].submit(contoured, first)
            waiting.append((patient_dir, threads[2].submit(written, second)))
        while waiting:
            yield outcome(*waiting.popleft())
    finally:
        for thread in threads:
            thread.shutdown(cancel_futures=True)
