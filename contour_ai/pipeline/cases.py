"""From the patients of an archive to training cases: prepared in parallel, cached, and checked."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from contour_ai.bundle.seen_series import slice_digests
from contour_ai.dicom.ct import CTSeries, read_ct, refuse_missing_slices
from contour_ai.dicom.frames import why_not_on_ct
from contour_ai.dicom.notes import OTHER_FRAME, SLICE_GAP, code_of
from contour_ai.dicom.placing import count_contours
from contour_ai.dicom.rtstruct_read import StructureSet, load_structure_set, read_structures
from contour_ai.errors import InputError, UnforeseenError
from contour_ai.faults import patient_boundary
from contour_ai.files import clear_left_behind, private_folder
from contour_ai.pipeline.archive import PatientSource, Sources
from contour_ai.preprocess import PreprocessSettings, body_mask, prepare, resample_structures
from contour_ai.progress import OnProgress, ProgressEvent, no_progress
from contour_ai.structures import roi_info
from contour_ai.training.archive_check import NOT_IN_BODY, ArchiveCheck, ArchiveFinding, check_rois
from contour_ai.training.blank_slices import shown_slices
from contour_ai.training.cache import (
    Case,
    Digests,
    Image,
    case_key,
    content_hash,
    load_case,
    load_image,
    save_case,
    save_image,
)
from contour_ai.training.roi_facts import RoiFacts, measure_roi
from contour_ai.volume import Structures, bits_dtype, roi_voxels, set_roi_voxels

PREPARING_THREADS = 4
"""Patients prepared at once, at most: each holds a whole CT in memory."""

IN_FACTS = (OTHER_FRAME, SLICE_GAP)
"""Kinds of notes on a ROI that its facts hold, and the check of the archive judges."""


@dataclass(frozen=True)
class PreparedCases:
    """The patients of an archive on the model grid."""

    cases: Mapping[str, tuple[str, Case]]
    """{label: (cache key, case)}."""
    left_out: Mapping[str, str]
    """{label: why it cannot be used}."""
    shown: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """{label: first slice and slice after the last that are not blank but around contours}, where others are."""

    def of(self, labels: Collection[str]) -> PreparedCases:
        """Some of the patients."""
        return PreparedCases(
            {label: case for label, case in self.cases.items() if label in labels},
            {label: reason for label, reason in self.left_out.items() if label in labels},
            {label: slices for label, slices in self.shown.items() if label in labels},
        )

    def with_blank_slices(self) -> PreparedCases:
        """The same patients; slices that are blank but around contours are taken for true ones."""
        return replace(self, shown={})


def prepare_cases(
    patients: Sequence[PatientSource],
    rois: tuple[str, ...],
    settings: PreprocessSettings,
    cache: Path,
    on_progress: OnProgress = no_progress,
) -> PreparedCases:
    """Every patient on the model grid, from the cache where it is there already.

    Several are prepared at once. Whatever is finished stays in the cache: an interrupted build goes on.

    Raises:
        InputError: no patient could be prepared.
        OutputError: the cache cannot be written.
    """
    private_folder(cache)
    clear_left_behind(cache)
    digests = Digests(cache)

    def one(patient: PatientSource) -> tuple[tuple[str, Case], tuple[int, int]] | str:
        try:
            with patient_boundary(f"preparing patient {patient.label}"):
                key, case = _prepared(patient, rois, settings, cache, digests)
                organs = _organs(case)
                return (key, case), shown_slices(case.hu, organs, settings.outside_hu, case.spacing_mm_kij)
        except (InputError, UnforeseenError) as error:
            return str(error).replace("\n", ";")

    pool = ThreadPoolExecutor(min(PREPARING_THREADS, os.cpu_count() or 1))
    try:
        waiting = [pool.submit(one, patient) for patient in patients]
        for done, _ in enumerate(as_completed(waiting), start=1):
            on_progress(ProgressEvent("preparing patients", done, len(patients)))
        results = {patient.label: future.result() for patient, future in zip(patients, waiting, strict=True)}
    finally:
        pool.shutdown(cancel_futures=True)
        digests.save()
    found = {label: result for label, result in results.items() if not isinstance(result, str)}
    left_out = {label: result for label, result in results.items() if isinstance(result, str)}
    if not found:
        raise _nothing_left(left_out)
    shown = {label: shown for label, ((_, case), shown) in found.items() if shown != (0, case.hu.shape[0])}
    return PreparedCases({label: case for label, (case, _) in found.items()}, left_out, shown)


def check_cases(
    sources: Sources, prepared: PreparedCases, same: Sequence[Sequence[str]] = ()
) -> ArchiveCheck:
    """All that looks wrong in an archive. What the map accepts is only mentioned.

    Args:
        same: groups of patients with equal images.
    """
    by_label = {source.label: source for source in sources.patients}
    findings = [*sources.findings]
    findings += [
        ArchiveFinding(label, "", "unreadable", reason) for label, reason in prepared.left_out.items()
    ]
    for group in same:
        for label in group:
            others = ", ".join(other for other in group if other != label)
            reason = f"its CT is that of {others}, voxel for voxel; they stay together in every split"
            findings.append(ArchiveFinding(label, "", "same image", reason, left_out=False))
    cases = {label: case for label, (_, case) in prepared.cases.items()}
    for label, case in cases.items():
        findings += [ArchiveFinding(label, "", "note", note, left_out=False) for note in case.notes]
        if label in prepared.shown:
            findings.append(
                ArchiveFinding(label, "", "blank slices", _blank_ends(case, prepared.shown[label]))
            )
        for roi, here in zip(case.rois, case.presence, strict=True):
            if not here and roi in case.facts and case.facts[roi].slices:
                findings.append(
                    ArchiveFinding(
                        label, roi, "empty", "no voxel of it is left in the body on the model's grid"
                    )
                )
    findings += check_rois(
        {label: case.facts for label, case in cases.items()},
        {label: by_label[label].absent for label in cases},
    )
    return ArchiveCheck.of([_accepted(f, by_label) for f in findings])


def checked(sources: Sources, prepared: PreparedCases, check: ArchiveCheck) -> PreparedCases:
    """The patients without blank slices, with ROIs that look wrong counting as not contoured, and those declared absent
    as absent.

    Raises:
        InputError: no patient is left.
    """
    absent = {source.label: source.absent for source in sources.patients}
    cases: dict[str, tuple[str, Case]] = {}
    left_out = dict(prepared.left_out)
    for label, (key, case) in prepared.cases.items():
        if label in prepared.shown:
            case = case.cut(*prepared.shown[label])
        case = _with_states(case, check.rois_left_out(label), absent[label])
        if any(case.states):
            cases[label] = (key, case)
        else:
            left_out[label] = "none of the ROIs to learn is contoured, or none that looks right"
    if not any(any(case.presence) for _, case in cases.values()):
        raise _nothing_left(left_out)
    return PreparedCases(cases, left_out, prepared.shown)


def _organs(case: Case) -> np.ndarray:
    """(k, i, j) of every contoured organ; the body's outline is near everything that is not air."""
    bits = case.bits
    wanted = sum(
        1 << r for r, roi in enumerate(case.rois) if roi_info(roi).interpreted_type not in NOT_IN_BODY
    )
    organs: np.ndarray = (bits & bits.dtype.type(wanted)) != 0
    return organs


def _blank_ends(case: Case, shown: tuple[int, int]) -> str:
    """Which ends of a scan are blank, for people; k grows towards the head."""
    low_mm, high_mm = (
        shown[0] * case.spacing_mm_kij[0],
        (case.hu.shape[0] - shown[1]) * case.spacing_mm_kij[0],
    )
    ends = [f"the {end} {mm:.0f} mm" for end, mm in (("lowest", low_mm), ("highest", high_mm)) if mm]
    return (
        f"{' and '.join(ends)} of the image are blank but around contours; cut off, as data.blank_slices says"
    )


def _with_states(case: Case, wrong: Collection[str], absent: Collection[str]) -> Case:
    presence = tuple(here and roi not in wrong for roi, here in zip(case.rois, case.presence, strict=True))
    surely = tuple(
        roi
        for roi, here in zip(case.rois, presence, strict=True)
        if roi in absent and not here and roi not in wrong
    )
    return replace(case, presence=presence, absent=surely)


def _accepted(finding: ArchiveFinding, sources: Mapping[str, PatientSource]) -> ArchiveFinding:
    source = sources.get(finding.patient)
    if source is None or finding.roi not in source.accepted or not finding.left_out:
        return finding
    return replace(finding, left_out=False, reason=f"{finding.reason}; accepted in the ROI map")


def _nothing_left(left_out: Mapping[str, str]) -> InputError:
    reasons = "; ".join(f"{label}: {reason}" for label, reason in left_out.items())
    return InputError("No patient can be used for training.", found=reasons)


# -- one patient ------------------------------------------------------------------------------------------


def _prepared(
    patient: PatientSource, rois: tuple[str, ...], settings: PreprocessSettings, cache: Path, digests: Digests
) -> tuple[str, Case]:
    """One patient, from the cache or computed.

    Raises:
        InputError: its CT or structure set cannot be used.
    """
    here = {roi: patient.rois[roi] for roi in rois if roi in patient.rois}
    # What merged sets do not hold of these ROIs does not matter.
    used = sorted({patient.drawn_in.get(roi, 0) for roi in here}) or [0]
    paths = [patient.files.structure_sets[n].path for n in used] if patient.files.structure_sets else []
    try:
        image_key = case_key(digests.of_series(patient.files.ct.paths), {"settings": _of_image(settings)})
        drawn = content_hash(paths)
    except OSError as error:
        raise InputError("A file cannot be read.", where=error.filename, found=error.strerror) from error
    what: dict[str, object] = {"image": image_key, "rois": rois, "names": here, "label": patient.label}
    if len(used) > 1:
        what["sets"] = {roi: used.index(patient.drawn_in.get(roi, 0)) for roi in here}
    key = case_key(drawn, what)
    cached = load_case(cache, key)
    if cached is not None:
        return key, cached
    ct, image = _image(patient, settings, cache, image_key)
    named = [{roi: name for roi, name in here.items() if patient.drawn_in.get(roi, 0) == n} for n in used]
    case = _case(patient.label, dict(zip(paths, named, strict=False)), rois, ct, image)
    return key, save_case(cache, key, case, image_key)


def _of_image(settings: PreprocessSettings) -> dict[str, object]:
    """The settings that change what is cached: windows are applied later."""
    return {key: value for key, value in settings.to_dict().items() if key != "windows_hu"}


def _image(
    patient: PatientSource, settings: PreprocessSettings, cache: Path, key: str
) -> tuple[CTSeries, Image]:
    """The CT, and what the cache holds of it."""
    image = load_image(cache, key)
    ct = read_ct(patient.files.ct)  # also where the image is there already: the density of its ROIs is not
    refuse_missing_slices(ct)
    if image is None:
        assert ct.volume is not None
        body = body_mask(ct.volume, settings.body_threshold_hu)
        prepared = prepare(ct.volume, settings, body=body)
        image = save_image(cache, key, prepared, body, slice_digests(ct.volume.hu))
    return ct, image


def _case(
    label: str,
    drawn: Mapping[Path, Mapping[str, str]],
    rois: tuple[str, ...],
    ct: CTSeries,
    image: Image,
) -> Case:
    """The ROIs of a patient on the model grid, and what was measured of them on the CT.

    Args:
        drawn: {structure set: {ROI: its name there}}.
    """
    notes: list[str] = []
    bits = np.zeros(image.grid.shape_kij, bits_dtype(len(rois)))
    presence: dict[str, bool] = {}
    facts: dict[str, RoiFacts] = {}
    for path, names in drawn.items():
        structure_set = load_structure_set(path)
        found = read_structures(structure_set, ct, names=tuple(names.values()), on_note=notes.append)
        named = Structures(found.bits, found.grid, tuple(names), found.presence)
        onto = resample_structures(named, image.grid)
        for r, roi in enumerate(onto.names):
            set_roi_voxels(bits, rois.index(roi), roi_voxels(onto.bits, r))
            presence[roi] = onto.presence[r]
        facts |= {roi: _facts(named.mask(roi), structure_set, name, ct, image) for roi, name in names.items()}
    spacing = tuple(round(mm, 6) for mm in image.grid.spacing_mm)
    case = Case(
        label,
        image.hu,
        bits,
        rois,
        tuple(presence.get(roi, False) for roi in rois),
        (spacing[0], spacing[1], spacing[2]),
        tuple(note for note in notes if code_of(note) not in IN_FACTS),
        facts,
    )
    return case.without_empty()


def _facts(mask: np.ndarray, structure_set: StructureSet, name: str, ct: CTSeries, image: Image) -> RoiFacts:
    found = next((roi for roi in structure_set.rois if roi.name == name), None)
    if found is None:
        return RoiFacts()
    elsewhere = why_not_on_ct(found, ct)
    if elsewhere is not None:
        return RoiFacts(elsewhere=elsewhere)
    counts = count_contours(found, ct)
    return measure_roi(
        mask,
        image.body,
        ct.grid,
        hu=None if ct.volume is None else ct.volume.hu,
        contours=counts.closed,
        unused_contours=counts.unused,
    )
