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
    """The model's name for it."""
    probability: float | None = None
    """That it needs correction."""

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
    findings: tuple[SummaryFlag, ...] = ()
    """On the patient as a whole."""
    rois: Mapping[str, ReviewedRoi] = field(default_factory=dict)
    caution: str = ""
    contour_ai: str = ""
    created: str = ""
    patient_id: str = ""
    series_instance_uid: str = ""
    structure_set: str = ""
    """File name."""
    sop_instance_uid: str = ""
    model: str = ""
    """Name and version."""
    limits: str = ""
    """`calibrated` where the model brings its own numbers for contours, else `general`."""
    not_in_file: tuple[str, ...] = ()
    """ROIs of the model that the structure set does not have."""
    notes: tuple[str, ...] = ()

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
