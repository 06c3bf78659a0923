"""Whether the patients of an archive were drawn, as by `contour-ai sample` or `contour-ai synthesize`."""

from __future__ import annotations

from typing import Literal

from contour_ai.dicom.header import read_header
from contour_ai.dicom.values import text
from contour_ai.errors import ContourAIError
from contour_ai.pipeline.archive import PatientSource, Sources
from contour_ai.sample.patients import PHANTOM_STUDY
from contour_ai.sample.synthesis.write import SYNTHETIC_STUDY

Drawn = Literal["", "phantom", "synthetic"]


def drawn_patients(sources: Sources) -> Drawn:
    """`phantom` where one of the patients is a phantom, `synthetic` where all are synthetic, else empty."""
    studies = {_study(patient) for patient in sources.patients}
    if PHANTOM_STUDY in studies:
        return "phantom"
    return "synthetic" if studies == {SYNTHETIC_STUDY} else ""


def drawn_ids(sources: Sources) -> frozenset[str]:
    """IDs of the patients that were drawn."""
    return frozenset(patient.patient_id for patient in sources.patients if _study(patient))


def _study(patient: PatientSource) -> str:
    """What contour-ai calls the study that it drew; empty for any other CT."""
    try:
        header = read_header(patient.files.ct.paths[0], ["Manufacturer", "StudyDescription"])
    except ContourAIError:
        return ""
    known = (PHANTOM_STUDY, SYNTHETIC_STUDY)
    description = text(header, "StudyDescription")
    return description if text(header, "Manufacturer") == "contour-ai" and description in known else ""
