"""Figures of a contour against what a network finds in the same CT, whoever drew the contour.

Everything is measured on the model's grid (axes superior, posterior, left; one spacing), so that the figures of a
structure set of any resolution can be compared with those of the patients on whom the limits were found. The network
sees the CT and not the contour: a contour that is shifted, cut or of another organ does not move it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from contour_ai.box import bounding_box, with_margin
from contour_ai.mask_agreement import dice, dice_of_sizes
from contour_ai.quality.figures import HU_COUNTED, Body, Triple, holes_in_slices
from contour_ai.quality.second_opinion import FAR_MM, MOST_TIMES, figures_of_two, missing_beside

Bool = NDArray[np.bool_]
Float = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ContourFigures:
    """How much a contour differs from what the network finds, and how uneven it is: 0 where nothing is odd."""

    disagreement: float
    """1 - Dice with the prediction."""
    disagreement_in_slices: float
    """1 - Dice within the slices that both reach."""
    missing_above: float
    """Share of the prediction above the highest slice of the contour."""
    missing_below: float
    missing_beside: float
    """Share of the prediction beyond the contour's extent to the front, behind, right or left, where it is largest."""
    beyond: float
    """Share of the contour above or below all of the prediction."""
    shift_mm: float
    """Median distance in the slice between the centres of contour and prediction."""
    shift_along_mm: float
    """Distance between the centres along the body."""
    surface95_mm: float
    """95 % of the surfaces lie nearer to each other, in the slices that both reach."""
    volume_ratio: float
    """Absolute logarithm of the ratio of the volumes."""
    density_hu: float
    """Difference between the mean densities."""
    density_spread: float
    """Absolute logarithm of the ratio of the standard deviations of the densities."""
    other_organ: float
    """Dice with the prediction of that other ROI with which it agrees best, less the Dice with its own (0 to 1)."""
    loose_share: float
    """Share of its volume outside the largest part."""
    holes_share: float
    """Volume enclosed within the slices, as a share of its own."""
    roughness: float
    """Logarithm of its surface over that of its smoothed shape."""
    jump: float
    """Largest change of the area from one slice to the next, as a share of the largest area, the ends left out."""
    gaps_share: float
    """Empty slices between its ends, as a share of all."""
    outside_share: float
    """Share outside the body."""

    second_disagreement: float
    """1 - Dice with what the second reader finds. This and the next four are 0 in a model without a second reader."""
    second_volume_ratio: float
    """Absolute logarithm of the ratio of the volumes."""
    second_shift_mm: float
    """Distance between the centres."""
    second_ends_mm: float
    """Distance between the upper, or between the lower ends, whichever is larger."""
    second_slices: float
    """Share of the slices of either in which their Dice is below one half."""
    goes_on_above_mm: float
    """Length above the contour in which both networks see the organ; the model alone where there is no second one."""
    goes_on_below_mm: float
    broad_above: float
    """Area that both see just above the contour's upper end, over the contour's largest area."""
    broad_below: float
    missed_by_both: float
    """Share of what both networks find that the contour leaves out."""
    beside_both: float
    """The same beyond its extent to the front, behind, right or left, where it is largest."""
    beyond_both: float
    """Share of the contour that neither network finds."""

    def vector(self) -> Float:
        """In the order of `FIGURE_NAMES`."""
        return np.array([getattr(self, name) for name in FIGURE_NAMES], np.float64)


FIGURE_NAMES: tuple[str, ...] = tuple(f.name for f in fields(ContourFigures))


@dataclass(frozen=True, eq=False, kw_only=True)
class ModelGridPatient:
    """A patient on the model's grid: `hu` (k, i, j), its body, and what the network found: {ROI: mask}."""

    hu: NDArray[np.int16]
    body: Body
    predicted: Mapping[str, Bool]
    second: Mapping[str, Bool] | None = None
    """What the second reader found; None where there is none."""


def contour_figures(name: str, contour: Bool, scene: ModelGridPatient) -> ContourFigures | None:
    """The figures of the contour of ROI `name`, a mask (k, i, j); None where it is empty."""
    whole = scene.predicted.get(name)
    predicted = np.zeros_like(contour) if whole is None else whole
    second = None if scene.second is None else scene.second.get(name)
    box = bounding_box(contour | predicted if second is None else contour | predicted | second)
    if box is None or not contour.any():
        return None
    grown = with_margin(box, (1, 1, 1), contour.shape)
    mine, theirs = contour[grown], predicted[grown]
    spacing = scene.body.spacing_mm
    agree = dice(mine, theirs, neither=0.0)
    others = [_dice_whole(contour, mask) for other, mask in scene.predicted.items() if other != name]
    ks = np.flatnonzero(mine.any(axis=(1, 2)))
    rows = np.flatnonzero(theirs.any(axis=(1, 2)))
    common = slice(max(ks[0], rows[0]), min(ks[-1], rows[-1]) + 1) if rows.size else slice(0, 0)
    total = max(1, int(theirs.sum()))
    shift, along, surface95 = _distances(mine, theirs, common, spacing)
    mean, spread = _density(mine, theirs, scene.hu[grown])
    return ContourFigures(
        disagreement=1 - agree,
        disagreement_in_slices=1 - dice(mine[common], theirs[common], neither=0.0),
        missing_above=float(theirs[ks[-1] + 1 :].sum() / total),
        missing_below=float(theirs[: ks[0]].sum() / total),
        missing_beside=missing_beside(mine, theirs) / total,
        beyond=_beyond(mine, rows),
        shift_mm=shift,
        shift_along_mm=along,
        surface95_mm=surface95,
        volume_ratio=min(MOST_TIMES, abs(float(np.log(mine.sum() / total)))) if rows.size else MOST_TIMES,
        density_hu=mean,
        density_spread=spread,
        other_organ=max(0.0, max(others, default=0.0) - agree),
        outside_share=float((mine & ~scene.body.mask[grown]).sum() / mine.sum()),
        **shape_figures(mine),
        **figures_of_two(mine, theirs, None if second is None else second[grown], spacing),
    )


def _dice_whole(a: Bool, b: Bool) -> float:
    box = bounding_box(a)
    if box is None:
        return 0.0
    both, mine = int((a[box] & b[box]).sum()), int(a[box].sum())
    return dice_of_sizes(both, mine, int(b.sum()), neither=0.0)


def _beyond(mine: Bool, rows: NDArray[np.intp]) -> float:
    if not rows.size:
        return 1.0
    return float((mine[: rows[0]].sum() + mine[rows[-1] + 1 :].sum()) / mine.sum())


def _distances(mine: Bool, theirs: Bool, common: slice, spacing: Triple) -> tuple[float, float, float]:
    """(in the slice, along the body, 95 % of the surfaces) in mm; `FAR_MM` where there is nothing to compare."""
    if not theirs.any():
        return FAR_MM, FAR_MM, FAR_MM
    centre_of = ndimage.center_of_mass
    along = min(FAR_MM, abs(centre_of(mine)[0] - centre_of(theirs)[0]) * spacing[0])
    a, b = mine[common], theirs[common]
    both = np.flatnonzero(a.any(axis=(1, 2)) & b.any(axis=(1, 2)))
    if not both.size:
        return FAR_MM, along, FAR_MM
    apart = [np.subtract(centre_of(a[k]), centre_of(b[k])) * spacing[1:] for k in both]
    shift = float(np.linalg.norm(np.median(apart, axis=0)))
    edges = [m & ~ndimage.binary_erosion(m, _IN_SLICE) for m in (a, b)]
    to_mine, to_theirs = (ndimage.distance_transform_edt(~edge, sampling=spacing) for edge in edges)
    far = max(np.percentile(to_theirs[edges[0]], 95), np.percentile(to_mine[edges[1]], 95))
    return min(FAR_MM, shift), along, min(FAR_MM, float(far))


_IN_SLICE = ndimage.generate_binary_structure(3, 1) & (np.arange(3) == 1)[:, None, None]
"""Neighbours over an edge within the slice."""


def _density(mine: Bool, theirs: Bool, hu: NDArray[np.int16]) -> tuple[float, float]:
    ours = np.clip(hu[mine], *HU_COUNTED).astype(np.float64)
    if not theirs.any():
        return 0.0, 0.0
    others = np.clip(hu[theirs], *HU_COUNTED).astype(np.float64)
    spread = abs(float(np.log((ours.std() + 5) / (others.std() + 5))))
    return abs(float(ours.mean() - others.mean())), min(MOST_TIMES, spread)


def shape_figures(mine: Bool) -> dict[str, float]:
    """How uneven a contour is in itself: figures that need no other, of a mask that is not empty."""
    ks = np.flatnonzero(mine.any(axis=(1, 2)))
    labels, count = ndimage.label(mine, np.ones((3, 3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    volume = int(mine.sum())
    areas = mine.sum(axis=(1, 2))[ks[0] : ks[-1] + 1].astype(float)
    inner = areas[areas > 0]
    smooth = (
        ndimage.uniform_filter(np.pad(mine, ((0, 0), (2, 2), (2, 2))).astype(np.float32), (1, 3, 3)) > 0.5
    )
    return {
        "loose_share": 1 - float(sizes.max()) / volume,
        "holes_share": sum(holes_in_slices(mine).values()) / volume,
        "roughness": max(0.0, float(np.log((_edge(mine) + 1) / (_edge(smooth) + 1)))),
        "jump": float(np.abs(np.diff(inner[1:-1])).max() / inner.max()) if inner.size > 3 else 0.0,
        "gaps_share": float((areas == 0).sum() / areas.size),
    }


def _edge(mask: Bool) -> int:
    """Faces between inside and outside within the slices."""
    return sum(int(np.count_nonzero(np.diff(mask.astype(np.int8), axis=axis))) for axis in (1, 2))


def worst_first(names: Sequence[str], contributions: Float) -> list[str]:
    """The names by what they contribute, the most first; what contributes nothing is left out."""
    order = np.argsort(-contributions, kind="stable")
    return [names[n] for n in order if contributions[n] > 0]
