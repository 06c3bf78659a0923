"""The patient's folder: its name, and whether it may be written."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from contour_ai.dicom.scan import PatientFiles
from contour_ai.errors import OutputError
from contour_ai.files import check_target, safe_name
from contour_ai.pipeline._predict.options import PredictOptions
from contour_ai.pipeline.summary import usable_summary


def folder_name(files: PatientFiles, taken: Sequence[str] = ()) -> str:
    """The patient's ID as a folder name; with a hash of ID and series where another patient has that name."""
    return name_of_folder(files.ct.patient_id, files.ct.series_instance_uid, taken)


def name_of_folder(patient_id: str, series_instance_uid: str, taken: Sequence[str] = ()) -> str:
    """As `folder_name`, of a patient by ID and series."""
    name = safe_name(patient_id, fallback="unknown_patient")
    if name.casefold() not in {t.casefold() for t in taken}:
        return name
    digest = hashlib.sha256(f"{patient_id}\0{series_instance_uid}".encode()).hexdigest()
    return f"{name}-{digest[:8]}"


def target_folder(
    source: Path, files: PatientFiles, out_dir: Path, options: PredictOptions, taken: Sequence[str]
) -> Path:
    """The patient's folder, which can be written.

    Raises:
        OutputError: it exists, holds something else, or cannot be written.
    """
    folder = out_dir / folder_name(files, taken)
    refuse_strangers(folder, files, options.overwrite)
    check_target(folder, overwrite=options.overwrite, inputs=inputs_of(files, source))
    return folder


def inputs_of(files: PatientFiles, source: Path) -> list[Path]:
    """What is read of a patient, and never replaced."""
    return [source, *files.ct.paths, *(one.path for one in files.structure_sets)]


def refuse_strangers(folder: Path, files: PatientFiles, overwrite: bool) -> None:
    """Overwriting is for an earlier prediction of the same patient, never for anything else of that name."""
    if not overwrite or not folder.exists():
        return
    if any(folder.resolve() in path.resolve().parents for path in files.ct.paths):
        raise OutputError(
            "The CT itself lies in the folder that is to be overwritten.",
            where=folder,
            fix="choose another --out",
        )
    summary = usable_summary(folder)
    owner = None if summary is None else summary.patient_id
    if owner != files.ct.patient_id:
        raise OutputError(
            "The folder to be overwritten is not an earlier prediction of this patient.",
            where=folder,
            found="no readable summary.json" if owner is None else f"a prediction of patient {owner!r}",
            expected=f"one of patient {files.ct.patient_id!r}",
            fix="move it away, or choose another --out",
        )
