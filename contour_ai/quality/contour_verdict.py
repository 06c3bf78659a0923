"""The probability that a contour needs correction, from its figures against the network's own contour.

Every figure counts by how far it lies beyond what good contours of the ROI show (`excess`); a logistic regression adds
them up, and a limit of each ROI makes `look` of the probability. All numbers stand in the bundle (`ContourModel`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from contour_ai.errors import ConfigError
from contour_ai.quality.agreement import ContourFigures, worst_first
from contour_ai.quality.own_contours import OwnFigures
from contour_ai.quality.relations import Relations

Float = NDArray[np.float64]

Figures = ContourFigures | OwnFigures
"""What contours are judged by: of anybody's, or of the model's own."""

POOLED = "*"
"""Stands for every ROI that too few patients had to have numbers of its own."""
MOST_EXCESS = 8.0
"""More does not count: one figure of a grossly wrong contour must not hide what the others say."""

PHRASES: Mapping[str, str] = {
    "disagreement": "Dice {rest:.2f} with the model's own contour",
    "disagreement_in_slices": "Dice {rest:.2f} within the slices that both reach",
    "missing_above": "the model goes on above with {value:.0%} of its volume",
    "missing_below": "the model goes on below with {value:.0%} of its volume",
    "missing_beside": "the model goes on beside it with {value:.0%} of its volume",
    "beyond": "{value:.0%} of it lies above or below all that the model finds",
    "shift_mm": "{value:.1f} mm from the model's centre in the slice",
    "shift_along_mm": "{value:.0f} mm from the model's centre along the body",
    "surface95_mm": "surfaces up to {value:.0f} mm apart (95 %)",
    "volume_ratio": "a volume that differs from the model's by a factor of {factor:.1f}",
    "density_hu": "a mean density {value:.0f} HU from the model's",
    "density_spread": "a spread of density that differs by a factor of {factor:.1f}",
    "other_organ": "more like what the model finds for another organ",
    "loose_share": "{value:.0%} of it in separate parts",
    "holes_share": "holes of {value:.0%} of its volume",
    "roughness": "a ragged outline",
    "jump": "an area that jumps from one slice to the next",
    "gaps_share": "{value:.0%} of its slices without a contour",
    "outside_share": "{value:.0%} of it outside the body",
    "second_disagreement": "Dice {rest:.2f} with the second reader",
    "second_volume_ratio": "a volume that differs from the second reader's by a factor of {factor:.1f}",
    "second_shift_mm": "{value:.0f} mm from the second reader's centre",
    "second_ends_mm": "an end {value:.0f} mm from the second reader's",
    "second_slices": "little overlap with the second reader in {value:.0%} of the slices",
    "goes_on_above_mm": "the organ goes on {value:.0f} mm above it",
    "goes_on_below_mm": "the organ goes on {value:.0f} mm below it",
    "broad_above": "the organ is still {value:.0%} as broad just above it",
    "broad_below": "the organ is still {value:.0%} as broad just below it",
    "missed_by_both": "{value:.0%} of what both networks find is left out",
    "beside_both": "both networks go on beside it with {value:.0%} of the volume",
    "expected_error": "the network's own probabilities give a Dice of {rest:.2f}",
    "flat_share": "the boundary is uncertain on {value:.0%} of the surface",
    "odd_size": "a size at {value:.1f} times the usual distance from the median",
    "odd_density": "a density at {value:.1f} times the usual distance from the median",
    "odd_place": "a position at {value:.1f} times the usual distance from the median",
    "odd_relation": "a relation to its neighbours at {value:.1f} times the usual distance from the median",
    "beyond_both": "{value:.0%} of it lies where neither network finds the organ",
}


@dataclass(frozen=True, kw_only=True)
class ContourModel:
    """What makes a verdict of a contour's figures, fitted on good contours and on contours with known faults."""

    patients: int
    false_alarm: float
    """Share of good contours that the limits call `look`."""
    intercept: float
    weights: Mapping[str, float]
    """By figure of `ContourFigures` or `OwnFigures`; none is negative: a finding never makes a contour better."""
    usual: Mapping[str, Mapping[str, tuple[float, float]]]
    """By ROI and figure: the median of good contours, and the distance from it to their 95th percentile."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """By ROI: the probability above which the contour is worth a look."""
    relations: Relations | None = None
    """What is usual between organs, where `odd_relation` is one of the figures."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.weights) - set(PHRASES))
        if unknown:
            raise ConfigError(
                "A contour model has weights for figures that this version does not measure.",
                found=", ".join(unknown),
                expected=", ".join(PHRASES),
                fix="use the version of contour-ai that made it, or fit verdicts again: contour-ai models ranges",
            )
        if POOLED not in self.usual or POOLED not in self.limits:
            raise ConfigError(
                "A contour model lacks the entry for all other ROIs.",
                found=f"usual: {', '.join(self.usual) or 'none'}; limits: {', '.join(self.limits) or 'none'}",
                expected=f"{POOLED!r} in both",
                fix="get the bundle again, or fit verdicts again: contour-ai models ranges",
            )
        for roi, figures in self.usual.items():
            if set(figures) != set(self.weights) or any(spread <= 0 for _, spread in figures.values()):
                raise ConfigError(
                    "Every figure with a weight needs its usual value and a positive spread.",
                    where=roi,
                    found=", ".join(figures),
                    expected=", ".join(self.weights),
                )
        if min(self.weights.values(), default=0.0) < 0 or not 0 < self.false_alarm < 1:
            raise ConfigError(
                "A number of a contour model is out of range.",
                found=f"lowest weight {min(self.weights.values(), default=0.0)}, false_alarm {self.false_alarm}",
                expected="weights of 0 or more, false_alarm between 0 and 1",
                fix="get the bundle again, or fit verdicts again: contour-ai models ranges",
            )

    @property
    def asks_second_reader(self) -> bool:
        """Whether a figure of the second reader counts."""
        return any(name.startswith("second_") or name.endswith("_both") for name in self.weights)

    def contributions(self, roi: str, figures: Figures) -> dict[str, float]:
        """{figure: what it adds to the logit of the probability}."""
        usual = self.usual.get(roi, self.usual[POOLED])
        return {
            name: weight * float(excess(np.array(getattr(figures, name)), *usual[name]))
            for name, weight in self.weights.items()
        }

    def probability(self, roi: str, figures: Figures) -> float:
        """That the contour needs correction, were every second contour wrong."""
        logit = self.intercept + sum(self.contributions(roi, figures).values())
        return float(1 / (1 + np.exp(-logit)))

    def limit(self, roi: str) -> float:
        """Above which a contour of this ROI is worth a look."""
        return self.limits.get(roi, self.limits[POOLED])

    def reason(self, roi: str, figures: Figures, most: int = 3) -> str:
        """What speaks most against the contour, in words."""
        parts = self.contributions(roi, figures)
        names = worst_first(list(parts), np.array(list(parts.values())))[:most]
        return "; ".join(phrase(name, getattr(figures, name)) for name in names)


def excess(values: Float, median: float, spread: float) -> Float:
    """ln(1 + x) of x = (value - median) / spread, where x is clipped to 0 to `MOST_EXCESS`.

    `spread` is the distance from the median of good contours to their 95th percentile: a figure at the median counts 0,
    one at the 95th percentile ln 2 = 0.69.
    """
    beyond = np.clip((values - median) / spread, 0.0, MOST_EXCESS)
    return np.log1p(beyond)


def phrase(name: str, value: float) -> str:
    """A figure in words."""
    return PHRASES[name].format(value=value, rest=1 - value, factor=float(np.exp(value)))
