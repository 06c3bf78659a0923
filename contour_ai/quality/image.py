"""Quality findings on the image as a whole: one unlike those of the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from contour_ai.quality.figures import Body, image_figures
from contour_ai.quality.flag import Flag, ImageEvidence, make_flag, numbers_text
from contour_ai.quality.outliers import excess
from contour_ai.quality.ranges import IMAGE_FIGURES, Ranges, grid_figures, image_values
from contour_ai.quality.wording import at_most, range_reason

BODY_CUT_SHARE = 0.1
"""Of the slices: shoulders are often cut in a few."""
MISSING_SHARE = 1 / 3
"""Of the ROIs."""


def image_flags(
    image: ImageEvidence,
    body: Body,
    found: Mapping[str, tuple[Flag, ...]],
    organs: Sequence[str],
    ranges: Ranges | None,
) -> list[Flag]:
    """Reasons to doubt the whole prediction: an image unlike those of the training."""
    flags = []
    if ranges is not None:
        values = {**grid_figures(image.grid), **image_values(image_figures(image.hu, body))}
        voxel_mm = image.model_grid.spacing_mm
        for name, value in values.items():
            if name not in ranges.image:
                continue
            figure, (low, middle, high) = IMAGE_FIGURES[name], ranges.image[name]
            if name == "slice_mm":
                high = max(high, voxel_mm[0] * 1.2)
            elif name == "pixel_mm":
                high = max(high, max(voxel_mm[1:]) * 1.2)
            limits = (low if figure.low else None, high if figure.high else None)
            if excess(value, (low, min(middle, high), high), limits) > 0:
                reason = f"unlike the training images: {range_reason(figure, value, (low, high))}"
                flags.append(make_flag(figure.code, reason, value, *limits, figure.unit))
    flags += _body_cut(image)
    names = [name for name in found if name in organs]
    missing = [n for n in names if any(f.code in ("empty", "touches_scan_end") for f in found[n])]
    if len(names) > 1 and len(missing) > MISSING_SHARE * len(names):
        reason = (
            f"{len(missing)} of {len(names)} ROIs are empty or cut by the scan's end: {', '.join(missing)}"
        )
        limit = round(MISSING_SHARE, 3)
        flags.append(make_flag("input_missing_anatomy", reason, len(missing) / len(names), None, limit))
    return flags


def _body_cut(image: ImageEvidence) -> list[Flag]:
    if image.body is None:
        return []
    body = image.body
    cut = (body[:, [0, -1]].any(axis=(1, 2))) | (body[:, :, [0, -1]].any(axis=(1, 2)))
    slices = np.flatnonzero(cut) + 1
    share = slices.size / max(1, int(body.any(axis=(1, 2)).sum()))
    if share <= BODY_CUT_SHARE:
        return []
    reason = (
        f"the border of the image cuts the body in {share:.0%} of the slices, {numbers_text(slices, image.grid)}; "
        f"usual {at_most(BODY_CUT_SHARE, '%')}"
    )
    return [make_flag("input_body_cut", reason, share, None, BODY_CUT_SHARE, "", slices)]
