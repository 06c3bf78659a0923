"""What volume and place say of a name: which of two organs it is, and whether it is only what is left of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from statistics import median

from contour_ai.structures.name_class import Kind, NameClass
from contour_ai.structures.plausible import plausible_volume_cm3
from contour_ai.structures.roi_record import read_table

STEADY_ORGANS = (
    "Parotid",
    "Glnd_Submand",
    "Glnd_Thyroid",
    "Cavity_Oral",
    "Bone_Mandible",
    "Lips",
    "Brain",
    "Brainstem",
    "Eye",
    "Lung",
    "Heart",
    "Kidney",
    "Liver",
    "Prostate",
    "Femur_Head",
)
"""Organs that are contoured whole and whose size varies little; bladders fill, cords end where a scan
does, and a larynx had 0.5 to 76 cm3 in the 81 patients of OpenKBP."""

WIDEST_STEP = 4.0
"""Two groups of volumes are apart where the step between them, as a factor, is at least this. In 163 patients of
OpenKBP the volumes of a parotid, in order, rise by at most 1.75 from one to the next, those of a larynx by 2."""

WIDEST_STEP_OF_MANY = 3.0
MANY = 8
"""From so many volumes on a smaller step is enough."""

LARGEST_REMAINDER = 0.3
"""What a target leaves of an organ is smaller than this part of the whole."""


@dataclass(frozen=True, kw_only=True)
class Occurrence:
    """A ROI as one patient has it.

    Args:
        patient: the patient's ID.
        volume_cm3: of the voxels inside.
        superior_mm: position of its centre along the axis from feet to head.
    """

    patient: str
    volume_cm3: float
    superior_mm: float


def decide_by_measure(
    found: NameClass, occurrences: Sequence[Occurrence], references: Mapping[str, Mapping[str, float]]
) -> NameClass:
    """The class of a name that may be several organs, decided where volume and place leave one.

    Args:
        found: what the name says.
        occurrences: where the name is contoured.
        references: {patient: {organ: position of its centre towards the head in mm}}.
    """
    if found.kind is not Kind.UNKNOWN or len(found.organs) < 2 or not occurrences or not found.may_be_whole:
        return found
    left = [organ for organ in found.organs if all(_fits(organ, here) for here in occurrences)]
    placed = [organ for organ in left if _placed(organ, left, occurrences, references)]
    by_place = bool(placed) and len(placed) < len(left)
    chosen = placed if by_place else left
    certain = len(chosen) == 1 and (by_place or all(map(plausible_volume_cm3, found.organs)))
    if not certain:
        return found
    size = median(here.volume_cm3 for here in occurrences)
    rule = f"decided by {'volume and place' if by_place else 'volume'}: {size:.3g} cm3"
    return replace(found, kind=Kind.ORGAN, tg263_name=chosen[0], organs=(chosen[0],), rule=rule)


def remainder_cm3(organ: str, volumes_cm3: Sequence[float]) -> float | None:
    """The largest volume that is only what a target has left of an organ; None where all are alike.

    Args:
        organ: its standard name.
        volumes_cm3: of the patients of an archive; those of the other side may be among them.
    """
    if not organ.startswith(STEADY_ORGANS) or len(volumes_cm3) < 2:
        return None
    ordered = sorted(v for v in volumes_cm3 if v > 0)
    steps = [(high / low, n) for n, (low, high) in enumerate(pairwise(ordered), start=1)]
    if not steps:
        return None
    step, first_whole = max(steps)
    small, whole = ordered[:first_whole], ordered[first_whole:]
    apart = step >= (WIDEST_STEP if len(ordered) < MANY else WIDEST_STEP_OF_MANY)
    if not apart or len(small) > len(whole) or median(small) > LARGEST_REMAINDER * median(whole):
        return None
    return small[-1]


def _fits(organ: str, here: Occurrence) -> bool:
    bounds = plausible_volume_cm3(organ)
    return bounds is None or bounds[0] <= here.volume_cm3 <= bounds[1]


def _placed(
    organ: str,
    rivals: Sequence[str],
    occurrences: Sequence[Occurrence],
    references: Mapping[str, Mapping[str, float]],
) -> bool:
    """Whether the organ lies where it should in every patient, and one of them shows a reference for all rivals."""
    seen = False
    for here in occurrences:
        for reference, ranges in _places():
            known = references.get(here.patient, {}).get(reference)
            if known is None or not all(rival in ranges for rival in rivals):
                continue
            seen = True
            low, high = ranges[organ]
            if not low <= here.superior_mm - known <= high:
                return False
    return seen


@cache
def _places() -> tuple[tuple[str, Mapping[str, tuple[float, float]]], ...]:
    """(reference organ, {organ: range of distances})."""
    rows: list[dict[str, object]] = read_table("places.yaml")  # type: ignore[assignment]
    return tuple((str(row["reference"]), row["superior_mm"]) for row in rows)  # type: ignore[misc]


def reference_organs() -> frozenset[str]:
    """Organs whose position `decide_by_measure` asks for."""
    return frozenset(reference for reference, _ in _places())
