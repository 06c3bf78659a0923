"""Copies patients without their identity: read, cleaned, written, proved, and only then moved into place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from contour_ai.anonymisation.data_set import Cleaner
from contour_ai.anonymisation.identity import Identity
from contour_ai.anonymisation.key import Key, read_key, write_key
from contour_ai.anonymisation.options import Keep
from contour_ai.anonymisation.proof import CopiedFile, prove
from contour_ai.dicom.archive import Archive, scan
from contour_ai.dicom.header import UNREADABLE, damaged, read_data_set, read_header
from contour_ai.dicom.structure_set_choice import choose_structure_set
from contour_ai.dicom.values import text
from contour_ai.errors import ContourAIError, InputError, OutputError
from contour_ai.faults import patient_boundary
from contour_ai.files import atomic_folder
from contour_ai.progress import OnProgress, ProgressEvent, no_progress

SEGMENTATION = "Segmentation"
"""The kind that `scan` gives to DICOM SEG files."""


@dataclass(frozen=True, kw_only=True)
class AnonymiseOptions:
    """What `anonymise_patients` can be told besides input and output.

    Args:
        key_path: the key file; read where it exists, so that the same patient gets the same pseudonym.
        keep: options of PS3.15 beyond the Basic Profile.
        structure_set: which is copied where a CT has several (see `choose_structure_set`); None for all.
        prefix: how new pseudonyms begin; a key file that exists has its own.
        overwrite: replace earlier copies.
    """

    key_path: Path
    keep: frozenset[Keep] = frozenset()
    structure_set: str | None = None
    prefix: str = "ANON"
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class AnonymisedPatient:
    """A copy that was proved.

    Args:
        folder: where it lies; its name is the pseudonym.
        ct_files, structure_sets, segmentations: number of files.
        rois_compared: ROIs that were compared with the original's, voxel by voxel.
        notes: what a reader should know, in sentences.
    """

    folder: Path
    ct_files: int
    structure_sets: int
    segmentations: int
    rois_compared: int
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Anonymised:
    """What became of all patients.

    Args:
        copies: the patients that were copied.
        not_copied: sentences on files that were not.
        failed: {PatientID: why there is no copy}.
    """

    copies: tuple[AnonymisedPatient, ...]
    not_copied: tuple[str, ...] = ()
    failed: Mapping[str, ContourAIError] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Patient:
    """The files of one patient, by what they are."""

    name: str
    ct: tuple[tuple[Path, ...], ...]
    structure_sets: tuple[Path, ...]
    segmentations: tuple[Path, ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        return (*(path for series in self.ct for path in series), *self.structure_sets, *self.segmentations)


def anonymise_patients(
    paths: Sequence[Path],
    out_dir: Path,
    options: AnonymiseOptions,
    on_progress: OnProgress = no_progress,
) -> Anonymised:
    """Copies every CT, RTSTRUCT and SEG below `paths` to `out_dir`/<pseudonym>/, without identity.

    A patient that cannot be copied does not end the run: of several, the others are copied, and it is in `failed`.

    Raises:
        InputError: nothing to copy.
        OutputError: the key would lie with the copies.
        ContourAIError: the only patient cannot be copied: burned-in annotation, a file that cannot be read, a folder
            that exists, or a copy that differs from its original or still names the patient, and is not left behind.
    """
    out_dir = Path(out_dir)
    if out_dir.resolve() in options.key_path.resolve().parents:
        raise OutputError(
            "The key file must not lie with the copies: who gets them would get the names, too.",
            where=options.key_path,
            fix="name a file in another folder with --key",
        )
    archive, not_chosen = _with_chosen(scan(list(paths), on_progress), options.structure_set)
    patients = _patients(archive)
    if not patients:
        raise InputError(
            "There is nothing to anonymise here.", found=str(archive), expected="CT, RTSTRUCT or SEG"
        )
    key = read_key(options.key_path) if options.key_path.exists() else Key(prefix=options.prefix)
    copies: list[AnonymisedPatient] = []
    failed: dict[str, ContourAIError] = {}
    for patient in patients:
        try:
            with patient_boundary(f"anonymising patient {patient.name}"):
                copies.append(_anonymise(patient, out_dir, key, options, on_progress))
        except ContourAIError as error:
            if len(patients) == 1:
                raise
            failed[patient.name] = error
    return Anonymised(copies=tuple(copies), not_copied=(*not_chosen, *_not_copied(archive)), failed=failed)


def _with_chosen(archive: Archive, structure_set: str | None) -> tuple[Archive, list[str]]:
    """The archive with the structure sets that are copied, and sentences on those that are not.

    They are chosen for each CT series; one that refers to no series of the archive is copied.
    """
    if structure_set is None:
        return archive, []
    left_out: dict[Path, str] = {}
    for series in archive.ct_series:
        sets = [
            one for one in archive.structure_sets if series.series_instance_uid in one.referenced_series_uids
        ]
        if sets:
            choice = choose_structure_set(sets, structure_set)
            taken = {one.path for one in choice.taken}
            left_out |= {one.path: choice.reason for one in sets if one.path not in taken}
    kept = tuple(one for one in archive.structure_sets if one.path not in left_out)
    sentences = [f"not copied: {path} ({reason})" for path, reason in sorted(left_out.items())]
    return replace(archive, structure_sets=kept), sentences


def _patients(archive: Archive) -> list[_Patient]:
    """Every patient with a CT, RTSTRUCT or SEG, by ID; files without one belong to the patient of their series."""
    ct: dict[str, list[tuple[Path, ...]]] = {}
    structure_sets: dict[str, list[Path]] = {}
    segmentations: dict[str, list[Path]] = {}
    for series in archive.ct_series:
        ct.setdefault(series.patient_id or f"study {series.study_instance_uid}", []).append(series.paths)
    for one in archive.structure_sets:
        name = one.patient_id or f"study {one.study_instance_uid}"
        structure_sets.setdefault(name, []).append(one.path)
    for other in archive.others:
        if other.kind == SEGMENTATION:
            segmentations.setdefault(other.patient_id or f"series {other.series_instance_uid}", []).append(
                other.path
            )
    return [
        _Patient(
            name=name,
            ct=tuple(ct.get(name, ())),
            structure_sets=tuple(structure_sets.get(name, ())),
            segmentations=tuple(segmentations.get(name, ())),
        )
        for name in sorted({*ct, *structure_sets, *segmentations})
    ]


def _not_copied(archive: Archive) -> list[str]:
    """Sentences on files that are not copied: only what is understood can be cleaned."""
    others = [f"not copied: {o.path} ({o.kind})" for o in archive.others if o.kind != SEGMENTATION]
    return others + [f"not copied: {s.path} ({s.reason})" for s in archive.skipped]


def _anonymise(
    patient: _Patient, out_dir: Path, key: Key, options: AnonymiseOptions, on_progress: OnProgress
) -> AnonymisedPatient:
    identity = _identity(patient.paths)
    if not patient.name.startswith(("study ", "series ")):
        identity.learn_word(patient.name)
    pseudonym = key.pseudonym(patient.name)
    cleaner = Cleaner.of(key, identity, pseudonym, options.keep)
    folder = out_dir / pseudonym.name
    with atomic_folder(
        folder, overwrite=options.overwrite, inputs=patient.paths, record="patients"
    ) as temporary:
        copied = list(_copy(patient, cleaner, temporary, on_progress))
        proof = prove(copied, identity, on_progress)
        write_key(options.key_path, key)
    notes = list(proof.notes)
    if _shows_a_head(patient):
        notes.append("the CT may show a face, which a 3-D picture makes recognisable; it was not removed")
    return AnonymisedPatient(
        folder=folder,
        ct_files=sum(map(len, patient.ct)),
        structure_sets=len(patient.structure_sets),
        segmentations=len(patient.segmentations),
        rois_compared=proof.rois_compared,
        notes=tuple(notes),
    )


def _identity(paths: Iterable[Path]) -> Identity:
    """What all files of a patient say of the person.

    Raises:
        InputError: names are burned into the pixels, or a file cannot be read.
    """
    identity = Identity()
    for path in paths:
        header = read_header(path)
        if text(header, "BurnedInAnnotation").upper() == "YES":
            raise InputError(
                "This image has text burned into its pixels, which cannot be taken out.",
                where=path,
                found="BurnedInAnnotation YES",
                fix="leave this series out, or remove the text in the image first",
            )
        try:
            identity.learn(header)
        except UNREADABLE as error:
            raise damaged(path, error) from error
    return identity


def _copy(patient: _Patient, cleaner: Cleaner, folder: Path, on_progress: OnProgress) -> Iterable[CopiedFile]:
    """Writes the cleaned copies under new names; the old ones may name the patient."""
    targets: list[tuple[Path, Path]] = []
    for number, series in enumerate(patient.ct, start=1):
        place = folder / (f"CT{number}" if len(patient.ct) > 1 else "CT")
        targets += [(path, place / f"CT.{n:04d}.dcm") for n, path in enumerate(series, start=1)]
    targets += [(p, folder / f"RS.{n}.dcm") for n, p in enumerate(patient.structure_sets, start=1)]
    targets += [(p, folder / f"SEG.{n}.dcm") for n, p in enumerate(patient.segmentations, start=1)]
    for done, (source, target) in enumerate(targets, start=1):
        data_set = read_data_set(source)
        try:
            _complete_meta(data_set)
            cleaner.clean(data_set)
            target.parent.mkdir(exist_ok=True)
            data_set.save_as(target, enforce_file_format=True)
        except UNREADABLE as error:
            raise damaged(source, error) from error
        on_progress(ProgressEvent(stage="copying", done=done, total=len(targets)))
        yield CopiedFile(source, target)


def _complete_meta(data_set: FileDataset) -> None:
    """Gives a file without meta information the transfer syntax in which it was read."""
    if getattr(data_set, "file_meta", None) is None:
        data_set.file_meta = FileMetaDataset()
    if "TransferSyntaxUID" not in data_set.file_meta:
        implicit, little = data_set.original_encoding
        explicit = ExplicitVRLittleEndian if little is not False else ExplicitVRBigEndian
        data_set.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    data_set.file_meta.MediaStorageSOPClassUID = data_set.SOPClassUID


def _shows_a_head(patient: _Patient) -> bool:
    """Whether a CT is of the head by its BodyPartExamined, or does not say of what it is."""
    parts = {text(read_header(s[0], ["BodyPartExamined"]), "BodyPartExamined").upper() for s in patient.ct}
    return any(
        not part or "HEAD" in part or "BRAIN" in part or "NECK" in part or "SKULL" in part for part in parts
    )
