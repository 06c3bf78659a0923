"""What becomes of a ROI's logits before they are drawn: where its contour runs, and which of its parts stay."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from contour_ai.bundle import RoiPostprocess
from contour_ai.evaluation.reliability import expected_dice_logit, histogram
from contour_ai.quality.part_places import Distance

LOWEST_PROBABILITY = 0.2
"""`RoiPostprocess.expected_dice` draws no contour at a lower one: below, a network knows too little to say how much."""
ALIKE_IN_SIZE = 0.5
"""Of the largest part's volume: where another part is at least so large, the place says which of them is the organ."""
LOWEST_LOGIT = RoiPostprocess(threshold=LOWEST_PROBABILITY).threshold_logit


def apply_rule(
    logit: NDArray[np.float32],
    rule: RoiPostprocess,
    voxel_cm3: float,
    body: NDArray[np.bool_] | None = None,
    distance_mm: Distance | None = None,
) -> tuple[NDArray[np.float32], float]:
    """A ROI's logits with the parts that `rule` refuses pushed below its contour, and the logit of that contour.

    Args:
        logit: (k, i, j), divided by the temperature.
        body: (k, i, j), where the ROI can be; None for anywhere. Only the choice of the contour looks at it.
        distance_mm: of a part's centre from where the organ is expected, for parts that are alike in size.

    Returns:
        The logits, the same array where nothing is refused, and where to draw the contour.
    """
    level = contour_logit(logit, rule, body)
    return keep_components(logit, rule, voxel_cm3, level, distance_mm), level


def contour_logit(
    logit: NDArray[np.float32], rule: RoiPostprocess, body: NDArray[np.bool_] | None = None
) -> float:
    """Where `apply_rule` has the contour run; arguments as there."""
    if not rule.expected_dice:
        return rule.threshold_logit
    counts = histogram(logit if body is None else logit[body])
    return expected_dice_logit(counts, LOWEST_LOGIT, rule.threshold_logit)


def keep_components(
    logit: NDArray[np.float32],
    rule: RoiPostprocess,
    voxel_cm3: float,
    level: float | None = None,
    distance_mm: Distance | None = None,
) -> NDArray[np.float32]:
    """A ROI's logits with the parts that `rule` refuses pushed below `level`; the same array where none is.

    Parts are connected over faces. Refused voxels are mirrored at the level, so that the surface of what stays
    does not move.

    Args:
        level: logit of the contour; None for the rule's threshold. Parts that nowhere reach the rule's threshold are
            refused.
        distance_mm: of a part's centre (k, i, j) from where the organ is expected: of parts of which the smallest has
            at least `ALIKE_IN_SIZE` of the largest, the nearest stays. None keeps the largest.
    """
    threshold = np.float32(rule.threshold_logit if level is None else level)
    sure = np.float32(rule.threshold_logit)
    if not rule.largest_component and rule.min_volume_cm3 <= 0 and threshold >= sure:
        return logit
    inside = logit > threshold
    labels, count = ndimage.label(inside)
    if count == 0:
        return logit
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    if threshold < sure:
        reached = np.bincount(labels[logit > sure], minlength=count + 1) > 0
        sizes[~reached] = 0
    kept = (sizes > 0) & (sizes * voxel_cm3 >= rule.min_volume_cm3)
    if rule.largest_component:
        kept &= np.arange(count + 1) == _chosen(labels, sizes, distance_mm)
    refused = inside & ~kept[labels]
    return np.where(refused, 2 * threshold - logit, logit) if refused.any() else logit


def _chosen(labels: NDArray[np.int32], sizes: NDArray[np.intp], distance_mm: Distance | None) -> int:
    """The part that stays: the largest, or the one at the organ's place among those that are alike in size."""
    largest = int(sizes.argmax())
    rivals = np.flatnonzero(sizes >= ALIKE_IN_SIZE * sizes[largest])
    if distance_mm is None or sizes[largest] == 0 or len(rivals) < 2:
        return largest
    centres = ndimage.center_of_mass(labels > 0, labels, rivals)
    return int(min(zip(rivals, centres, strict=True), key=lambda part: distance_mm(part[1]))[0])
