"""Figures of a contour against two networks: the model's and its second reader, and what both of them say."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from contour_ai.mask_agreement import dice
from contour_ai.quality.figures import Triple

Bool = NDArray[np.bool_]
Float = NDArray[np.float64]

FAR_MM = 60.0
"""Distances beyond count as this."""
MOST_TIMES = 4.0
"""Ratios beyond e to this power count as this."""
GOES_ON_SHARE = 0.15
"""Of the contour's largest area: where both networks see so much in a slice beyond its end, the organ goes on."""
BEYOND_END_MM = 6.0
"""Just beyond an end of the contour."""


def figures_of_two(mine: Bool, first: Bool, second: Bool | None, spacing: Triple) -> dict[str, float]:
    """The figures by name, of a contour, what the model and what the second reader find, in a common box (k, i, j).

    Args:
        mine: the contour, not empty.
        second: None where there is no second reader: the model stands for both then, and its own figures are 0.
    """
    both = first if second is None else first & second
    found = figures_of_second(mine, second, spacing)
    found |= _ends(mine, first, first if second is None else second, spacing)
    total = max(1, int(both.sum()))
    either = first if second is None else first | second
    found["missed_by_both"] = float((both & ~mine).sum() / total)
    found["beside_both"] = missing_beside(mine, both) / total
    found["beyond_both"] = float((mine & ~either).sum() / mine.sum())
    return found


def missing_beside(mine: Bool, theirs: Bool) -> int:
    """Voxels of `theirs` in front of, behind, right or left of all of `mine`, where they are most."""
    most = 0
    for axis in (1, 2):
        across = tuple({0, 1, 2} - {axis})
        held = np.flatnonzero(mine.any(axis=across))
        counts = theirs.sum(axis=across)
        most = max(most, int(counts[: held[0]].sum()), int(counts[held[-1] + 1 :].sum()))
    return most


def figures_of_second(mine: Bool, second: Bool | None, spacing: Triple) -> dict[str, float]:
    """The figures of a contour against the second reader's, whose names begin with `second_`; 0 where there is none."""
    names = (
        "second_disagreement",
        "second_volume_ratio",
        "second_shift_mm",
        "second_ends_mm",
        "second_slices",
    )
    if second is None:
        return dict.fromkeys(names, 0.0)
    if not second.any():
        return dict(zip(names, (1.0, MOST_TIMES, FAR_MM, FAR_MM, 1.0), strict=True))
    ratio = abs(float(np.log(mine.sum() / second.sum())))
    apart = np.subtract(ndimage.center_of_mass(mine), ndimage.center_of_mass(second)) * spacing
    ours, theirs = (np.flatnonzero(mask.any(axis=(1, 2))) for mask in (mine, second))
    ends = max(abs(int(ours[0]) - int(theirs[0])), abs(int(ours[-1]) - int(theirs[-1]))) * spacing[0]
    areas = mine.sum(axis=(1, 2)) + second.sum(axis=(1, 2))
    common = 2 * (mine & second).sum(axis=(1, 2))
    poor = common[areas > 0] < 0.5 * areas[areas > 0]
    values = (
        1 - dice(mine, second, neither=0.0),
        min(MOST_TIMES, ratio),
        min(FAR_MM, float(np.linalg.norm(apart))),
        min(FAR_MM, ends),
        float(poor.mean()),
    )
    return dict(zip(names, values, strict=True))


def _ends(mine: Bool, first: Bool, second: Bool, spacing: Triple) -> dict[str, float]:
    """How far, and how broadly, both networks see the organ beyond each end of the contour."""
    areas = mine.sum(axis=(1, 2)).astype(np.float64)
    seen = np.minimum(first.sum(axis=(1, 2)), second.sum(axis=(1, 2))) / areas.max()
    ks = np.flatnonzero(areas)
    near = max(1, round(BEYOND_END_MM / spacing[0]))
    found = {}
    for where, beyond in (("above", seen[ks[-1] + 1 :]), ("below", seen[: ks[0]][::-1])):
        goes_on = beyond >= GOES_ON_SHARE
        found[f"goes_on_{where}_mm"] = min(FAR_MM, float(goes_on.sum()) * spacing[0])
        broad = float(beyond[:near].sum() / near) if beyond.size else 0.0
        found[f"broad_{where}"] = min(2.0, broad)
    return found
