"""Which other CT series of an archive decide whether a structure set is read with a patient's own series.

A structure set whose contours lie on several series is refused (`contour_ai.dicom.other_series`). A cached patient was
read beside the series that were there then.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from contour_ai.dicom.archive import CTSeriesFiles, grouped
from contour_ai.pipeline.archive import PatientSource


class RelevantSeries:
    """The CT series of archives by patient, study and image: each archive is looked through once.

    Args:
        patients: all whose series are asked for.
    """

    def __init__(self, patients: Iterable[PatientSource]) -> None:
        archives = {id(patient.files.ct.siblings): patient.files.ct.siblings for patient in patients}
        series = [one for archive in archives.values() for one in archive]
        self._by_patient = grouped(series, lambda one: [_patient(one)])
        self._by_image = grouped(series, lambda one: filter(None, set(one.sop_instance_uids)))

    def digest(self, patient: PatientSource) -> str:
        """Of the other series of this patient and those with images that its structure sets name; "" without any."""
        own = patient.files.ct
        found = [*self._by_patient.get(_patient(own), ())]
        for structure_set in patient.files.structure_sets:
            for uid in structure_set.referenced_sop_uids:
                found += self._by_image.get(uid, ())
        others = {one.paths: one for one in found if one.paths != own.paths}
        if not others:
            return ""
        content = sorted(
            [one.series_instance_uid, one.slices, sorted(one.sop_instance_uids)] for one in others.values()
        )
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def _patient(series: CTSeriesFiles) -> tuple[str, str]:
    """Whose a series is; without a PatientID, as after anonymisation, the study says it."""
    return (series.patient_id, "") if series.patient_id else ("", series.study_instance_uid)
