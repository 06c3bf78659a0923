"""Which ROI of a structure set stands for a ROI: one answer, for prediction, evaluation and reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from contour_ai.structures.names import tg263_name
from contour_ai.structures.roi_map import RoiMap
from contour_ai.structures.roi_record import roi_info

EXTERNAL = "EXTERNAL"
"""RTROIInterpretedType of the outline of the patient."""

OUTLINES = ("Body", "External")
"""TG-263 has two names for the outline of the patient; with and without what lies on the skin."""


@dataclass(frozen=True)
class Candidate:
    """A ROI of a structure set, as far as matching looks at it."""

    name: str
    contoured: bool = True
    external: bool = False
    """Whether its RTROIInterpretedType is EXTERNAL."""


@dataclass(frozen=True)
class Match:
    """What stands for a ROI: the name in the structure set (None for nothing), and a remark where that needs one."""

    name: str | None
    remark: str = ""


def match_roi(
    roi: str, candidates: Sequence[Candidate], roi_map: RoiMap | None = None, *, external: bool | None = None
) -> Match:
    """The one ROI of a structure set that stands for `roi`.

    First the ROI's own name, whatever its case. Then what the map says or, without a map, what TG-263 knows as the
    same organ; for the outline of the patient also the one ROI of type EXTERNAL. Where several could be it, those
    without contours are set aside; where several are left, none is taken, which the remark says.

    Args:
        external: whether the ROI is the outline of the patient; None for what its name says.
    """
    own = [c for c in candidates if c.name.strip().casefold() == roi.strip().casefold()]
    others = _others(roi, candidates, roi_map)
    if not others and (roi_info(roi).interpreted_type == EXTERNAL if external is None else external):
        others = [c for c in candidates if c.external]
    contoured = [c for c in others if c.contoured]
    if own and (any(c.contoured for c in own) or not contoured):
        return Match(next((c for c in own if c.contoured), own[0]).name)
    left = list(dict.fromkeys(c.name for c in contoured or others))
    if len(left) > 1:
        return Match(None, f"{roi} was not compared, because {', '.join(left)} could all be it")
    return Match(left[0], f"{left[0]} was taken for {roi}") if left else Match(None)


def _others(roi: str, candidates: Sequence[Candidate], roi_map: RoiMap | None) -> list[Candidate]:
    """The ROIs of other names that could be it."""
    if roi_map is not None:
        known = roi_map.apply(c.name for c in candidates).rois
        return [c for c in candidates if known.get(c.name) == roi]
    organ = tg263_name(roi)
    same = OUTLINES if organ in OUTLINES else (organ,)
    return [c for c in candidates if organ is not None and tg263_name(c.name) in same]
