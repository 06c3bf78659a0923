"""Figures of a contour that the model itself drew: what there is to doubt it by, as its own network agrees with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from contour_ai.box import bounding_box
from contour_ai.mask_agreement import dice_of_sizes
from contour_ai.quality.agreement import ModelGridPatient, shape_figures
from contour_ai.quality.confidence import uncertain_surface_share
from contour_ai.quality.figures import RoiFigures
from contour_ai.quality.ranges import Ranges, RoiRanges, centres_of, compared_of, places_of
from contour_ai.quality.relations import Relations
from contour_ai.quality.second_opinion import figures_of_second

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]

MOST_ODD = 8.0
SIZES = frozenset({"volume_cm3", "length_mm"})
DENSITIES = frozenset({"mean_hu", "sd_hu"})


@dataclass(frozen=True, kw_only=True)
class OwnFigures:
    """0 where there is nothing to doubt; a figure of ranges is 1 at the limit of the training patients."""

    expected_error: float
    """1 - the Dice to be expected if the network's probabilities are true."""
    flat_share: float
    """Share of the surface where the boundary is uncertain; named as its key in model.yaml."""
    second_disagreement: float
    second_volume_ratio: float
    second_shift_mm: float
    second_ends_mm: float
    second_slices: float
    loose_share: float
    holes_share: float
    roughness: float
    jump: float
    odd_size: float
    """Volume or length, as the distance from the median over that of the limit."""
    odd_density: float
    odd_place: float
    """Against the body and the other organs, and how its ends are cut."""
    odd_relation: float
    """Least distance, overlap or order to its neighbours."""

    def vector(self) -> NDArray[np.float64]:
        """In the order of `OWN_FIGURE_NAMES`."""
        return np.array([getattr(self, name) for name in OWN_FIGURE_NAMES], np.float64)


OWN_FIGURE_NAMES: tuple[str, ...] = tuple(f.name for f in fields(OwnFigures))


def own_figures(
    name: str,
    logit: Float32,
    threshold: float,
    scene: ModelGridPatient,
    known: Mapping[str, RoiFigures],
    ranges: Ranges | None,
    relations: Relations | None,
) -> OwnFigures | None:
    """The figures of ROI `name`; None where it is empty.

    Args:
        logit: (k, i, j), with the bundle's temperature.
        threshold: logit of the contour.
        scene: `predicted` holds the contours of the model, `second` what the second reader found.
        known: figures of every ROI that is not empty.
        ranges: of the training patients.
        relations: of the organs to each other.
    """
    mask = scene.predicted[name]
    box = bounding_box(mask)
    if box is None:
        return None
    second = None if scene.second is None else scene.second.get(name)
    shown = mask if second is None else mask | second
    whole = bounding_box(shown)
    assert whole is not None
    spacing = scene.body.spacing_mm
    shape = shape_figures(mask[box])
    usual = None if ranges is None else ranges.rois.get(name)
    values = compared_of(name, known[name], centres_of(known), places_of(ranges)) if name in known else {}
    odd = _oddness(values, usual)
    return OwnFigures(
        expected_error=1 - _expected_dice(logit, mask, scene.body.mask),
        flat_share=uncertain_surface_share(logit, mask, scene.body, threshold) or 0.0,
        **figures_of_second(mask[whole], None if second is None else second[whole], spacing),
        **{key: shape[key] for key in ("loose_share", "holes_share", "roughness", "jump")},
        **odd,
        odd_relation=0.0 if relations is None else relations.oddness(name, scene.predicted, spacing),
    )


def _expected_dice(logit: Float32, mask: Bool, body: Bool) -> float:
    """2 sum(p m) / (sum(m) + sum(p)), over the body."""
    near = body & (logit > -6)  # the rest adds up to less than 0.3 %
    probability = 1 / (1 + np.exp(-logit[near].astype(np.float64)))
    inside = mask[near]
    sizes = float(probability[inside].sum()), float(inside.sum()), float(probability.sum())
    return dice_of_sizes(*sizes, neither=0.0)


def _oddness(values: Mapping[str, float], usual: RoiRanges | None) -> dict[str, float]:
    found = {"odd_size": 0.0, "odd_density": 0.0, "odd_place": 0.0}
    if usual is None:
        return found
    for key, value in values.items():
        if key not in usual.figures:
            continue
        low, middle, high = usual.figures[key]
        limit = high - middle if value > middle else middle - low
        odd = min(MOST_ODD, abs(value - middle) / max(limit, 1e-6))
        kind = "odd_size" if key in SIZES else "odd_density" if key in DENSITIES else "odd_place"
        found[kind] = max(found[kind], odd)
    return found
