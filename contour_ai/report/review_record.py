"""`review.json`: the verdict on a patient's contours, as one typed record that is written and read.

Its JSON schema is `docs/review.schema.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from contour_ai.quality.verdict import RoiVerdict
from contour_ai.quality.verdict_record import JudgedRoi, SummaryFlag, summary_flags
from contour_ai.settings import read_record, to_mapping

REVIEW = "review.json"


@dataclass(frozen=True, kw_only=True)
class ReviewedRoi(JudgedRoi):
    """The verdict on one ROI of a structure set."""

    judged_by: str = "model"
    """`geometry` where no model knows the ROI: `clear` then says only that its geometry is not odd."""
    known_as: str | None = None
    """The model's name for it; null where the model does not know it."""
    probability: float | None = None
    """Probability, 0 to 1, that it needs correction; null where the model cannot say."""

    @classmethod
    def of(
        cls, verdict: RoiVerdict, known_as: str | None, volume_cm3: float, slices: tuple[int, int] | None
    ) -> ReviewedRoi:
        """From the verdict and what was measured."""
        return cls(
            verdict=verdict.verdict,
            findings=summary_flags(verdict.findings),
            judged_by=verdict.judged_by,
            known_as=known_as,
            probability=None if verdict.probability is None else round(verdict.probability, 4),
            volume_cm3=round(volume_cm3, 3),
            slices_from_1=slices,
        )


@dataclass(frozen=True, kw_only=True)
class ReviewRecord:
    """What `review` found in one patient; keys of `rois` are the names in the structure set."""

    verdict: str
    """On the patient: `clear`, `look` or `stop`."""
    findings: tuple[SummaryFlag, ...] = ()
    """On the patient as a whole, the most important first."""
    rois: Mapping[str, ReviewedRoi] = field(default_factory=dict)
    """{ROI name in the structure set: its verdict}."""
    caution: str = ""
    """A sentence to be shown to every reader."""
    contour_ai: str = ""
    """Version of contour-ai."""
    created: str = ""
    """Date and time, UTC, ISO 8601."""
    patient_id: str = ""
    """PatientID of the CT."""
    series_instance_uid: str = ""
    """SeriesInstanceUID of the CT."""
    structure_set: str = ""
    """File name of the structure set."""
    sop_instance_uid: str = ""
    """SOPInstanceUID of the structure set."""
    model: str = ""
    """Name and version."""
    limits: str = ""
    """`calibrated` where the model brings its own numbers for contours, else `general`."""
    not_in_file: tuple[str, ...] = ()
    """ROIs of the model that the structure set does not have."""
    notes: tuple[str, ...] = ()
    """What was unusual in CT and structure set, in sentences."""

    def to_json(self) -> dict[str, object]:
        """As plain values, in the order of the keys."""
        content: dict[str, object] = to_mapping(self)
        return content


def read_review(path: Path) -> ReviewRecord:
    """A `review.json`, of this version or an earlier one.

    Raises:
        ConfigError: it cannot be read, is no review, or has keys that this version does not know.
    """
    return read_record(ReviewRecord, path, "The review of a structure set")
