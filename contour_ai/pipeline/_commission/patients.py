"""The patients that a model is commissioned with: those with the department's contours, never seen in training."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from contour_ai.bundle import ModelBundle
from contour_ai.bundle.seen_series import Role, role_in
from contour_ai.dicom.scan import PatientFiles, find_patients
from contour_ai.dicom.structure_set_choice import choose_structure_set
from contour_ai.errors import InputError, listed
from contour_ai.pipeline._commission.options import CommissionOptions
from contour_ai.pipeline.pairing import labels_of
from contour_ai.pipeline.series_content import content_of_files
from contour_ai.progress import OnProgress, ProgressEvent


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """Who is contoured, and who is not.

    Args:
        patients: {what it is called: patient with the structure set that counts}.
        notes: sentences on the others, the most important first.
        trained_on: {patient that the model has seen, and that is measured all the same: as what}.
    """

    patients: Mapping[str, PatientFiles]
    notes: Sequence[str] = ()
    trained_on: Mapping[str, Role] = field(default_factory=dict)


IN_WORDS: Mapping[Role, str] = {
    "training": "the model was trained on it",
    "held back": "it was held back in the training, and the model's weights and rules were chosen on it",
}


def find_cohort(
    data_dir: Path,
    bundle: ModelBundle,
    options: CommissionOptions,
    on_progress: OnProgress,
    only: Collection[str] | None = None,
) -> Cohort:
    """The patients with the department's contours, without those that the model has seen.

    Args:
        only: SeriesInstanceUIDs of those to look at; None for all.

    Raises:
        InputError: there is none.
    """
    found, notes = _with_contours(data_dir, options, on_progress)
    if only is not None:
        found = {label: files for label, files in found.items() if files.ct.series_instance_uid in only}
        if not found:
            raise InputError(
                "None of the patients of the run to repeat is here.",
                where=data_dir,
                expected="the CT series and structure sets that it was made with",
            )
    if not bundle.data.seen_series:
        note = (
            f"It is not recorded which patients {bundle.name} was trained on: it was made before contour-ai 0.2. Make "
            "sure that none of these is among them; such patients make it look better than it is."
        )
        return Cohort(patients=found, notes=[note, *notes])
    seen = _seen(found, bundle, on_progress)
    sentences = [f"{label}: {IN_WORDS[role]}" for label, role in seen.items()]
    if options.keep_trained_on:
        if seen:
            loud = (
                f"{len(seen)} of {len(found)} patients were seen in the training and are measured all the same: the "
                "figures are better than those of new patients, and are no reason to use the model."
            )
            notes = [loud, *sentences, *notes]
        return Cohort(patients=found, notes=notes, trained_on=seen)
    patients = {label: files for label, files in found.items() if label not in seen}
    if not patients:
        raise InputError(
            "The model has seen every patient in its training: there is none to commission it with.",
            where=data_dir,
            found=listed([*sentences, *notes]),
            expected="patients that it was never trained on",
            fix="give other patients; --keep-trained-on measures these all the same, and says so",
        )
    return Cohort(patients=patients, notes=[*(f"{s}; left out" for s in sentences), *notes])


def _seen(
    patients: Mapping[str, PatientFiles], bundle: ModelBundle, on_progress: OnProgress
) -> dict[str, Role]:
    """{patient: what it was in the training}, of those that the model has seen."""
    seen: dict[str, Role] = {}
    for done, (label, files) in enumerate(patients.items()):
        on_progress(ProgressEvent(stage="comparing with the training", done=done, total=len(patients)))
        role = role_in(bundle.data.seen_series, content_of_files(files.ct))
        if role is not None:
            seen[label] = role
    on_progress(ProgressEvent(stage="comparing with the training", done=len(patients), total=len(patients)))
    return seen


def _with_contours(
    data_dir: Path, options: CommissionOptions, on_progress: OnProgress
) -> tuple[dict[str, PatientFiles], list[str]]:
    """{what it is called: patient with the structure set that counts}, and sentences on what else there was."""
    found = find_patients(data_dir, on_progress, acquisition=options.acquisition)
    labels = labels_of([files.ct for files in found])
    usable, notes = [], []
    for files in found:
        label = labels[files.ct.series_instance_uid]
        chosen = choose_structure_set(files.structure_sets, options.structure_set)
        if chosen.taken:
            usable.append(chosen.of(files))
            notes += [f"{label}: {chosen.reason}"] if chosen.reason else []
        else:
            notes.append(
                f"{label}: left out, {chosen.reason or f'{len(files.structure_sets)} structure sets'}"
            )
    if not usable:
        raise InputError(
            "There is no patient to commission with.",
            where=data_dir,
            found=listed(notes),
            expected="a CT series and one structure set with the department's own contours, for every patient",
        )
    return {labels[files.ct.series_instance_uid]: files for files in usable}, notes
