"""One ROI of one patient: what became of the AI's contour before it was approved."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class ApprovedPair:
    """A CT with the AI's structure set and the approved one.

    Args:
        patient: label of the patient.
        series_uid: of the CT.
        ct: its files.
        ai, approved: structure sets.
        date: of approval, YYYY-MM-DD; empty where unknown.
        model: name and version; empty where unknown.
        scanner: manufacturer, model and station; empty where unknown.
        reviewer: pseudonym of who approved; empty where unknown.
        verdicts: {ROI of the AI: its verdict}.
        dose: an RTDOSE of the patient; None where there is none.
        ratings: {ROI of the AI: what somebody said on the node's page had to be changed}.
    """

    patient: str
    series_uid: str
    ct: tuple[Path, ...]
    ai: Path
    approved: Path
    date: str
    model: str
    scanner: str
    reviewer: str
    verdicts: dict[str, str]
    dose: Path | None = None
    ratings: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Edit:
    """What was edited at one ROI. Distances in mm, volumes as a ratio AI / approved, doses in Gy (AI - approved).

    Args:
        status: `compared`, `removed` (in the AI's set only) or `added` (approved, but not by the AI).
        untouched: whether both have the same voxels.
        edited_slices: slices whose voxels differ.
        slices: slices in which either has voxels.
        verdict: what the AI said of it; empty where it said nothing.
        rating: none, minor, major or not usable, as somebody said on the node's page; empty where nobody did.
    """

    patient: str
    series_uid: str
    date: str
    roi: str
    model: str
    scanner: str
    reviewer: str
    verdict: str
    status: str
    untouched: bool
    dsc: float
    surface_dsc: float
    tau_mm: float
    hd95_mm: float
    added_path_mm: float
    volume_ratio: float
    edited_slices: int
    slices: int
    dose_mean_gy: float | None = None
    dose_003cc_gy: float | None = None
    dose_95_gy: float | None = None
    rating: str = ""

    @property
    def month(self) -> str:
        """YYYY-MM; empty where the date is unknown."""
        return self.date[:7]


COLUMNS = tuple(one.name for one in fields(Edit))
"""Of the CSV."""
COMPARED, REMOVED, ADDED = "compared", "removed", "added"
