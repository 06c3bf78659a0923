"""`summary.json`: what a prediction found and how, as one typed record that is written and read.

Its JSON schema is `docs/summary.schema.json`. Keys stay from version to version; new ones come beside them.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from contour_ai.errors import ConfigError
from contour_ai.quality.verdict_record import JudgedRoi, SummaryFlag
from contour_ai.settings import parse_record, read_record, to_mapping

logger = logging.getLogger(__name__)

SUMMARY = "summary.json"
"""Stands beside the structure set."""
WHAT = "The summary of a prediction"


@dataclass(frozen=True, kw_only=True)
class SummaryRoi(JudgedRoi):
    """One ROI of the model; where its verdict is `stop`, it is not in the structure set."""

    name_in_file: str | None
    """In the structure set; null where the model found nothing."""
    type: str = ""
    """RTROIInterpretedType."""
    centroid_lps_mm: tuple[float, float, float] | None = None
    """Centre of gravity in DICOM patient coordinates, mm: x to the left, y to the back, z to the head; null where
    empty."""
    mean_hu: float | None = None
    """Mean of the voxels inside, each limited to -1000 to 1500 HU; null where empty."""
    contour_at_probability: float | None = None
    """Probability, 0 to 1, at which the contour runs; null where empty or drawn by rule."""
    flags: tuple[SummaryFlag, ...] = ()
    """Quality findings on the ROI, before the verdict weighs them."""


@dataclass(frozen=True, kw_only=True)
class SummaryDerived:
    """A structure that a recipe made of others."""

    name_in_file: str
    """ROI name in the structure set."""
    volume_cm3: float
    """Volume, cm3."""
    slices: tuple[int, int] | None
    """First and last slice, counted from 1 along the slice normal; null where empty."""
    description: str
    """ROIs and steps that it was made by, in words."""
    sources: tuple[str, ...]
    """ROIs of the structure set that it was made of."""


@dataclass(frozen=True, kw_only=True)
class SummaryInput:
    """The CT that was contoured."""

    path: str = ""
    """Name of the patient's folder."""
    series_instance_uid: str = ""
    """SeriesInstanceUID of the CT."""
    images_sha256: str = ""
    """SHA-256 of the CT's files, whatever their names and order."""
    slices_rows_columns: tuple[int, int, int] | None = None
    """Voxels of the CT along (k, i, j): slices, rows, columns."""
    spacing_mm: tuple[float, float, float] | None = None
    """Voxel size of the CT in mm along (k, i, j): slice distance (its median), row distance, column distance."""
    structure_set: str | None = None
    """The patient's own, which the prediction was compared with."""
    notes: tuple[str, ...] = ()
    """What was unusual in the input, in sentences."""


@dataclass(frozen=True, kw_only=True)
class SummaryCommissioned:
    """Who has commissioned the model on this machine, when, and on what."""

    signed_by: str = ""
    """Who has signed the commissioning."""
    date: str = ""
    """Date and time of the signature, ISO 8601."""
    patients: int = 0
    """Patients that it was commissioned on."""
    limits: tuple[str, ...] = ()
    """Limits that were kept, in words."""


@dataclass(frozen=True, kw_only=True)
class SummaryModel:
    """The model, so that a contour can be traced years later."""

    name: str = ""
    """The model's name."""
    version: str = ""
    """The model's version."""
    kind: str = ""
    """`research`, or `phantom` for a model that must never contour a patient."""
    folder: str = ""
    """Name of the bundle's folder."""
    weights_sha256: str = ""
    """SHA-256 of the weights file."""
    contouring_sha256: str = ""
    """SHA-256 of all that decides a contour: weights, preprocessing, rules."""
    ensemble_of: tuple[str, ...] = ()
    """Name, version and SHA-256 of the weights of the models that are averaged; empty for a single model."""
    commissioned: SummaryCommissioned | None = None
    """null where this machine has no record of it for these weights and rules."""


@dataclass(frozen=True, kw_only=True)
class SummaryFile:
    """The structure set that was written."""

    file: str = ""
    """Its file name, beside the summary."""
    sop_instance_uid: str = ""
    """Its SOPInstanceUID."""


@dataclass(frozen=True, kw_only=True)
class SummaryScores:
    """Agreement with the patient's own structure set."""

    dice: Mapping[str, float] = field(default_factory=dict)
    """{ROI: Dice coefficient, 0 to 1}, of the ROIs that the patient's own structure set has."""
    mean_dice_of_organs: float | None = None
    """Mean of these without the outline of the body; null where there is none."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a prediction found in one patient: millimetres, cubic centimetres and seconds."""

    caution: str = ""
    """A sentence to be shown to every reader: the contours need review."""
    contour_ai: str = ""
    """Version of contour-ai."""
    created: str = ""
    """Date and time, UTC, ISO 8601."""
    patient_id: str = ""
    """PatientID of the CT."""
    input: SummaryInput = field(default_factory=SummaryInput)
    """The CT that was contoured."""
    model: SummaryModel = field(default_factory=SummaryModel)
    """The model that contoured it."""
    software: Mapping[str, str] = field(default_factory=dict)
    """{package: version}, with Python and the operating system."""
    device: str = ""
    """Where the network ran, and its arithmetic."""
    options: Mapping[str, object] = field(default_factory=dict)
    """Options that decide what is contoured, and under which names."""
    structure_set: SummaryFile = field(default_factory=SummaryFile)
    """With empty names where the verdict is `stop` and none was written."""
    verdict: str = ""
    """On the patient: `clear`, `look` or `stop`. "" in summaries of version 0.1."""
    findings: tuple[SummaryFlag, ...] = ()
    """Why, as far as it concerns the patient as a whole, the most important first."""
    flags: tuple[SummaryFlag, ...] = ()
    """Quality findings on the image, which concern all ROIs."""
    compared_with_training_patients: int = 0
    """Training patients behind the reference ranges; 0 where the model has none."""
    rois: Mapping[str, SummaryRoi] = field(default_factory=dict)
    """{the model's name of the ROI: what was found}."""
    scores: SummaryScores | None = None
    """null where the patient has no structure set to compare with."""
    timings_s: Mapping[str, float] = field(default_factory=dict)
    """{stage: seconds}, in the order in which they ran, and `total`, from start to end without waiting."""
    derived: Mapping[str, SummaryDerived] | None = None
    """What a recipe made; not there where none was given."""
    missing_of_template: tuple[str, ...] | None = None
    """ROIs of the template that the model does not have; not there where none was given."""

    def to_json(self) -> dict[str, object]:
        """As plain values, in the order of the keys; what was not asked for has no key."""
        content: dict[str, object] = to_mapping(self)
        for key in ("derived", "missing_of_template"):
            if content[key] is None:
                del content[key]
        return content


def summary_text(content: Mapping[str, object]) -> str:
    """A summary as JSON, a key a line and lists of numbers on one line."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    # A line break stands between brackets and numbers only: inside strings JSON writes it as \\n.
    return re.sub(r"\[\n([-+.,\seE0-9]+)\n\s*\]", lambda m: f"[{' '.join(m[1].split())}]", text) + "\n"


def read_summary(path: Path) -> Summary:
    """A `summary.json`, of this version or an earlier one.

    Raises:
        ConfigError: it cannot be read, is no summary, or has keys that this version does not know.
    """
    return read_record(Summary, path, WHAT)


def parse_summary(text: str) -> Summary:
    """The text of a `summary.json`; errors as in `read_summary`."""
    return parse_record(Summary, text, WHAT)


def usable_summary(folder: Path) -> Summary | None:
    """The `summary.json` in a folder, where there is one; one that cannot be used is logged."""
    path = folder / SUMMARY
    if not path.is_file():
        return None
    try:
        return read_summary(path)
    except ConfigError as error:
        logger.warning("Not used: %s", error)
        return None
