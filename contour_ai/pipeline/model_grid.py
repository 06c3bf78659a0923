"""What a model contours on its own grid: the network's logits after the rules of the bundle, ROI by ROI."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from contour_ai.bundle import ModelBundle
from contour_ai.postprocess import apply_rule
from contour_ai.quality.figures import Triple
from contour_ai.quality.part_places import PartPlaces

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]


def part_places(
    bundle: ModelBundle, logits: Float32, hu: NDArray[np.generic], spacing_mm: Triple
) -> PartPlaces:
    """Where the organs of a patient are expected, to choose between parts that are alike in size.

    Args:
        logits: (R, k, i, j), the bundle's ROIs in their order.
        hu: (k, i, j), the prepared image.
        spacing_mm: of both.
    """
    return PartPlaces(
        logits=logits,
        names=bundle.roi_names,
        hu=np.asarray(hu),
        spacing_mm=spacing_mm,
        outside_hu=bundle.preprocess.outside_hu,
        ranges=bundle.ranges,
    )


def after_rules(
    bundle: ModelBundle, logits: Float32, hu: NDArray[np.generic], body: Bool, spacing_mm: Triple
) -> dict[str, tuple[Float32, float]]:
    """{ROI: (its logits (k, i, j) after its rule, logit of its contour)}; the arguments are those of `part_places`."""
    places = part_places(bundle, logits, hu, spacing_mm)
    voxel_cm3 = float(np.prod(spacing_mm)) / 1000
    return {
        name: apply_rule(raw_logits, bundle.postprocess_of(name), voxel_cm3, body, places.distance(name))
        for raw_logits, name in zip(logits, bundle.roi_names, strict=True)
    }
