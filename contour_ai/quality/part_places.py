"""Which of several parts of a prediction lies where the training patients have the organ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from contour_ai.quality.figures import Body, Triple, body_of, offset_mm
from contour_ai.quality.ranges import Ranges

Distance = Callable[[Triple], float]
"""mm from where an organ is expected, of a centre (k, i, j) in voxels."""


@dataclass(frozen=True, eq=False, kw_only=True)
class PartPlaces:
    """Where the organs of one patient are expected: from its other organs, and from the body's axis.

    Nothing is computed before it is asked for: few patients have a ROI of two parts that are alike in size.

    Args:
        logits: (R, k, i, j) on the model's grid, R as in `names`.
        hu: (k, i, j), the prepared image.
        ranges: None says nothing.
    """

    logits: NDArray[np.float32]
    names: Sequence[str]
    hu: NDArray[np.int16]
    spacing_mm: Triple
    outside_hu: int
    ranges: Ranges | None

    def distance(self, roi: str) -> Distance | None:
        """How to tell the distance of a part of this ROI; None where the model does not know its place."""
        known = None if self.ranges is None else self.ranges.rois.get(roi)
        if known is None or (known.place_mm is None and "left_mm" not in known.figures):
            return None
        return lambda centre: self._distance_mm(roi, centre)

    def _distance_mm(self, roi: str, centre: Triple) -> float:
        assert self.ranges is not None
        here = tuple(float(n * mm) for n, mm in zip(centre, self.spacing_mm, strict=True))
        mine = (here[0], here[1], here[2])
        offset = offset_mm(roi, {**self._centres, roi: mine}, self._places)
        figures = self.ranges.rois[roi].figures
        in_body = np.zeros(2)
        if "left_mm" in figures and "posterior_mm" in figures:
            k = int(np.clip(round(centre[0]), 0, len(self._body.middle_mm) - 1))
            usual = np.array([figures["posterior_mm"][1], figures["left_mm"][1]])
            in_body = np.array(mine[1:]) - self._body.middle_mm[k] - usual
        return float(np.linalg.norm(in_body) + (0.0 if offset is None else np.linalg.norm(offset)))

    @cached_property
    def _body(self) -> Body:
        return body_of(self.hu, self.outside_hu, self.spacing_mm)

    @cached_property
    def _places(self) -> Mapping[str, Triple]:
        assert self.ranges is not None
        return {name: roi.place_mm for name, roi in self.ranges.rois.items() if roi.place_mm is not None}

    @cached_property
    def _centres(self) -> dict[str, Triple]:
        """mm, of the largest part of every ROI."""
        found: dict[str, Triple] = {}
        for name, logit in zip(self.names, self.logits, strict=True):
            labels, count = ndimage.label((logit > 0) & self._body.mask)
            if count:
                largest = int(np.bincount(labels.ravel())[1:].argmax()) + 1
                middle = ndimage.center_of_mass(labels == largest)
                k, i, j = (float(n * mm) for n, mm in zip(middle, self.spacing_mm, strict=True))
                found[name] = (k, i, j)
        return found
