"""Matches the ROIs of structure sets as they were read: what `predict`, `evaluate` and the reports ask."""

from __future__ import annotations

from dataclasses import dataclass

from contour_ai.dicom.rtstruct_read import StructureSet
from contour_ai.structures.matching import EXTERNAL, Candidate, Match, match_roi
from contour_ai.structures.roi_map import RoiMap


@dataclass(frozen=True)
class RoiNames:
    """What a ROI is called on both sides of a comparison; None where it is not there."""

    predicted: str | None
    reference: str | None

    @property
    def sides(self) -> tuple[str | None, str | None]:
        """Both, the prediction's first."""
        return self.predicted, self.reference


def match_in(
    roi: str, structure_set: StructureSet, roi_map: RoiMap | None = None, *, external: bool | None = None
) -> Match:
    """The ROI of a structure set that stands for `roi`, as `match_roi` decides."""
    candidates = [
        Candidate(
            r.name,
            contoured=bool(r.contours),
            external=r.interpreted_type == EXTERNAL and bool(r.contours),
        )
        for r in structure_set.rois
    ]
    return match_roi(roi, candidates, roi_map, external=external)
