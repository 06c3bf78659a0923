"""What a fitted model says of the contours that its network drew: in `predict`, before they are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from contour_ai.quality.agreement import ModelGridPatient
from contour_ai.quality.contour_verdict import ContourModel
from contour_ai.quality.flag import EXTERNAL, Evidence, ImageEvidence, numbers_text
from contour_ai.quality.flags import Measured
from contour_ai.quality.own_contours import own_figures
from contour_ai.quality.ranges import Ranges
from contour_ai.quality.reviewing import different_slices
from contour_ai.quality.verdict import Opinion

Bool = NDArray[np.bool_]


def own_opinions(
    rois: Sequence[Evidence],
    image: ImageEvidence,
    known: Measured,
    second: Mapping[str, Bool] | None,
    ranges: Ranges | None,
    model: ContourModel,
) -> dict[str, Opinion]:
    """{ROI: what the model says of it}, of the organs that it drew.

    Args:
        known: what `flags.measured` found in the ROIs.
        second: {ROI: what the second reader found, (k, i, j) on the model's grid}; None where there is none.
    """
    scene = ModelGridPatient(hu=image.hu, body=known.body, predicted=known.masks, second=second)
    found = {}
    for roi in rois:
        name = roi.info.name
        if name not in known.masks or roi.logit is None or roi.info.interpreted_type == EXTERNAL:
            continue
        figures = own_figures(name, roi.logit, roi.threshold, scene, known.figures, ranges, model.relations)
        if figures is None:
            continue
        theirs = None if second is None else second.get(name)
        slices = different_slices(known.masks[name], theirs, image)
        where = f", most in {numbers_text(slices, image.grid)}" if slices else ""
        found[name] = Opinion(
            probability=model.probability(name, figures),
            limit=model.limit(name),
            reason=f"{model.reason(name, figures)}{where}",
            slices=slices,
        )
    return found
