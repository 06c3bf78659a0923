"""Finds, reads and prepares the CT of a patient."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contour_ai.bundle import ModelBundle
from contour_ai.dicom.ct import CTSeries, read_ct, refuse_missing_slices
from contour_ai.dicom.scan import PatientFiles, find_patient
from contour_ai.dicom.structure_set_choice import choose_structure_set
from contour_ai.errors import InputError
from contour_ai.files import content_sha256
from contour_ai.pipeline._predict.options import PredictOptions, poor_note
from contour_ai.pipeline._predict.stages import StageClock
from contour_ai.preprocess import SPARSE, Prepared, Resampler, body_mask, prepare
from contour_ai.progress import no_progress
from contour_ai.volume import Volume


@dataclass(frozen=True, eq=False, kw_only=True)
class Opened:
    """A patient read and on the model's grid, ready for the network."""

    source: Path
    files: PatientFiles
    ct: CTSeries
    volume: Volume
    body: NDArray[np.bool_]
    prepared: Prepared
    clock: StageClock
    images_sha256: str
    """Of the CT's files, whatever their names and order."""


def open_patient(
    patient: Path | PatientFiles,
    bundle: ModelBundle,
    options: PredictOptions | None = None,
    clock: StageClock | None = None,
    check: Callable[[PatientFiles], object] = lambda files: None,
    resampler: Callable[[], Resampler] = lambda: SPARSE,
) -> Opened:
    """Finds, reads and prepares the one CT series of a patient.

    Args:
        patient: a folder, or files that were found before.
        check: told which files were found, before they are read; may refuse them.
        resampler: of the CT to the model's grid, asked for when the CT is read; may be waited for.

    Raises:
        InputError: the CT cannot be used.
    """
    options = options or PredictOptions()
    source = source_folder(patient)
    clock = clock or StageClock(watcher=no_progress, patient=source.name)
    settings = bundle.preprocess
    with clock.stage("finding") as within:
        files = patient
        if not isinstance(files, PatientFiles):
            files = find_patient(files, series_uid=options.series_uid, keep_all=True, on_progress=within)
        files = choose_structure_set(files.structure_sets, options.structure_set).of(files)
        files = replace(files, problems=(*files.problems, *poor_note(bundle, options)))
        check(files)
    with clock.stage("reading") as within:
        ct = read_ct(files.ct, acquisition=options.acquisition, on_progress=within)
        refuse_missing_slices(ct)
        images = content_sha256(files.ct.paths)
    if ct.volume is None:
        raise InputError("The CT was read without pixels.", where=source)
    with clock.stage("body"):
        body = body_mask(ct.volume, settings.body_threshold_hu)
    with clock.stage("model"):
        chosen = resampler()
    with clock.stage("preprocessing"):
        prepared = prepare(ct.volume, settings, body=body, resampler=chosen)
    return Opened(
        source=source,
        files=files,
        ct=ct,
        volume=ct.volume,
        body=body,
        prepared=prepared,
        clock=clock,
        images_sha256=images,
    )


def source_folder(patient: Path | PatientFiles) -> Path:
    """The folder itself, or the one with all slices, which exporters may have spread over several."""
    if isinstance(patient, PatientFiles):
        return Path(os.path.commonpath([path.parent for path in patient.ct.paths]))
    return patient
