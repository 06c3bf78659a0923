"""From the patients of an archive to training cases: prepared in parallel, cached, and checked."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from contour_ai.cores import available_cores
from contour_ai.errors import InputError, UnforeseenError, listed
from contour_ai.faults import patient_boundary
from contour_ai.files import clear_left_behind, private_folder
from contour_ai.pipeline.archive import PatientSource, Sources
from contour_ai.pipeline.prepared_case import PatientCache, PreparedCase, one_case
from contour_ai.pipeline.relevant_series import RelevantSeries
from contour_ai.preprocess import PreprocessSettings
from contour_ai.progress import OnProgress, ProgressEvent, no_progress
from contour_ai.structures import roi_info
from contour_ai.training.archive_check import NOT_IN_BODY, ArchiveCheck, ArchiveFinding, check_rois
from contour_ai.training.blank_slices import shown_slices
from contour_ai.training.cache import Case, Digests

logger = logging.getLogger(__name__)

PREPARING_THREADS = 4
"""Patients prepared at once, at most: each holds a whole CT in memory."""


@dataclass(frozen=True)
class PreparedCases:
    """The patients of an archive on the model grid."""

    prepared: Mapping[str, PreparedCase]
    """By label."""
    left_out: Mapping[str, str]
    """{label: why it cannot be used}."""
    shown: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """{label: first slice and slice after the last that are not blank but around contours}, where others are."""

    def of(self, labels: Collection[str]) -> PreparedCases:
        """Some of the patients."""
        return PreparedCases(
            {label: one for label, one in self.prepared.items() if label in labels},
            {label: reason for label, reason in self.left_out.items() if label in labels},
            {label: slices for label, slices in self.shown.items() if label in labels},
        )

    @property
    def cases(self) -> dict[str, Case]:
        """By label."""
        return {label: one.case for label, one in self.prepared.items()}

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
    known = PatientCache(folder=cache, digests=Digests(cache), beside=RelevantSeries(patients))

    def one(patient: PatientSource) -> tuple[PreparedCase, tuple[int, int]] | str:
        try:
            with patient_boundary(f"preparing patient {patient.label}"):
                prepared = one_case(patient, rois, settings, known)
                organs, case = _organs(prepared.case), prepared.case
                return prepared, shown_slices(case.hu, organs, settings.outside_hu, case.spacing_mm_kij)
        except (InputError, UnforeseenError) as error:
            return str(error).replace("\n", ";")

    pool = ThreadPoolExecutor(min(PREPARING_THREADS, available_cores()))
    try:
        waiting = [pool.submit(one, patient) for patient in patients]
        for done, _ in enumerate(as_completed(waiting), start=1):
            on_progress(ProgressEvent(stage="preparing patients", done=done, total=len(patients)))
        results = {patient.label: future.result() for patient, future in zip(patients, waiting, strict=True)}
    finally:
        pool.shutdown(cancel_futures=True)
        known.digests.save()
    if known.renewed:
        logger.warning(
            "%d cached patient(s) were read again: contours may lie on other CT series beside theirs, which was not "
            "looked at before: %s",
            len(known.renewed),
            listed(sorted(known.renewed)),
        )
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
        ArchiveFinding(patient=label, roi="", kind="unreadable", reason=reason)
        for label, reason in prepared.left_out.items()
    ]
    for group in same:
        for label in group:
            others = ", ".join(other for other in group if other != label)
            reason = f"its CT is that of {others}, voxel for voxel; they stay together in every split"
            findings.append(
                ArchiveFinding(patient=label, roi="", kind="same image", reason=reason, left_out=False)
            )
    cases = prepared.cases
    for label, case in cases.items():
        findings += [
            ArchiveFinding(patient=label, roi="", kind="note", reason=note, left_out=False)
            for note in case.notes
        ]
        if label in prepared.shown:
            findings.append(
                ArchiveFinding(
                    patient=label,
                    roi="",
                    kind="blank slices",
                    reason=_blank_ends(case, prepared.shown[label]),
                )
            )
        for roi, here in zip(case.rois, case.presence, strict=True):
            if not here and roi in case.facts and case.facts[roi].slices:
                findings.append(
                    ArchiveFinding(
                        patient=label,
                        roi=roi,
                        kind="empty",
                        reason="no voxel of it is left in the body on the model's grid",
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
    cases: dict[str, PreparedCase] = {}
    left_out = dict(prepared.left_out)
    for label, (key, case) in prepared.prepared.items():
        if label in prepared.shown:
            case = case.cut(*prepared.shown[label])
        case = _with_states(case, check.rois_left_out(label), absent[label])
        if any(case.states):
            cases[label] = PreparedCase(key, case)
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
