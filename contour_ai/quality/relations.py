"""How organs lie to each other: least distance, overlap, and their order along the body, against what is usual."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from contour_ai.box import bounding_box
from contour_ai.errors import ConfigError
from contour_ai.quality.figures import Triple

Bool = NDArray[np.bool_]

PARTNERS = 3
"""Of each organ those whose centres lie nearest: relations to others say little more, and take time."""
FEWEST_FOR_RELATIONS = 8
LEAST_RELATION_SPREAD = {"gap_mm": 2.0, "overlap": 0.02, "tops_mm": 5.0, "bottoms_mm": 5.0}
"""No relation is compared more finely. Distances in mm; the overlap as a share of the smaller organ."""
VOXEL_STEP = 2
"""Voxels between those at which distances are measured."""
MOST_ODD = 8.0
SEPARATOR = " / "


@dataclass(frozen=True, kw_only=True)
class Relations:
    """What is usual of pairs of organs: {"A / B": {figure: (median, distance from it to the 95 %)}}."""

    pairs: Mapping[str, Mapping[str, tuple[float, float]]]

    def __post_init__(self) -> None:
        for pair, figures in self.pairs.items():
            if len(pair.split(SEPARATOR)) != 2:
                raise ConfigError(
                    "A key under relations.pairs does not name two ROIs.",
                    found=pair,
                    expected=f"two names with {SEPARATOR!r} between them",
                    fix="get the bundle again, or fit verdicts again: contour-ai models ranges",
                )
            if set(figures) != set(LEAST_RELATION_SPREAD):
                raise ConfigError(
                    "The figures of a pair of ROIs are not those of this version.",
                    where=f"relations.pairs, {pair}",
                    found=", ".join(figures) or "none",
                    expected=", ".join(LEAST_RELATION_SPREAD),
                    fix="get the bundle again, or fit verdicts again: contour-ai models ranges",
                )

    def oddness(self, name: str, masks: Mapping[str, Bool], spacing_mm: Triple) -> float:
        """How far the organ's relation to one of its partners lies from the usual: 1 is the 95 % of good contours."""
        worst = 0.0
        for pair, usual in self.pairs.items():
            a, b = pair.split(SEPARATOR)
            if name not in (a, b) or not all(n in masks and masks[n].any() for n in (a, b)):
                continue
            found = pair_figures(masks[a], masks[b], spacing_mm)
            worst = max(worst, *(abs(found[key] - m) / s for key, (m, s) in usual.items()))
        return min(MOST_ODD, worst)


def pair_figures(a: Bool, b: Bool, spacing_mm: Triple) -> dict[str, float]:
    """The figures of `LEAST_RELATION_SPREAD` of two organs, neither of them empty."""
    box = bounding_box(a | b)
    assert box is not None
    a, b = a[box], b[box]
    both = int((a & b).sum())
    gap = 0.0
    if not both:
        coarse = [mask[::VOXEL_STEP, ::VOXEL_STEP, ::VOXEL_STEP] for mask in (a, b)]
        if all(mask.any() for mask in coarse):
            far = ndimage.distance_transform_edt(~coarse[0], sampling=[VOXEL_STEP * s for s in spacing_mm])
            gap = float(far[coarse[1]].min())
    ends = [np.flatnonzero(mask.any(axis=(1, 2)))[[0, -1]] * spacing_mm[0] for mask in (a, b)]
    return {
        "gap_mm": gap,
        "overlap": both / min(int(a.sum()), int(b.sum())),
        "tops_mm": float(ends[0][1] - ends[1][1]),
        "bottoms_mm": float(ends[0][0] - ends[1][0]),
    }


Measured = Mapping[str, Mapping[str, float]]
"""Of one patient: {"A / B": figures}."""


def near_pairs(patients: Sequence[tuple[Mapping[str, Bool], Triple]]) -> list[str]:
    """Pairs of organs that are neighbours in the contours of patients, given with their spacing."""
    apart: dict[tuple[str, str], list[float]] = {}
    for masks, spacing in patients:
        held = {n: np.array(ndimage.center_of_mass(m)) * spacing for n, m in masks.items() if m.any()}
        for a, b in combinations(sorted(held), 2):
            apart.setdefault((a, b), []).append(float(np.linalg.norm(held[a] - held[b])))
    near = {pair: float(np.median(d)) for pair, d in apart.items() if len(d) >= FEWEST_FOR_RELATIONS}
    chosen = set()
    for name in {n for pair in near for n in pair}:
        mine = sorted((pair for pair in near if name in pair), key=lambda pair: near[pair])
        chosen.update(mine[:PARTNERS])
    return [SEPARATOR.join(pair) for pair in sorted(chosen)]


def measured_pairs(pairs: Sequence[str], masks: Mapping[str, Bool], spacing_mm: Triple) -> Measured:
    """The figures of those pairs of which a patient has both organs."""
    found = {}
    for pair in pairs:
        a, b = pair.split(SEPARATOR)
        if a in masks and b in masks and masks[a].any() and masks[b].any():
            found[pair] = pair_figures(masks[a], masks[b], spacing_mm)
    return found


def usual_relations(patients: Sequence[Measured]) -> Relations | None:
    """What is usual in patients; None where no pair is in enough of them."""
    pairs: dict[str, list[Mapping[str, float]]] = {}
    for measured in patients:
        for pair, figures in measured.items():
            pairs.setdefault(pair, []).append(figures)
    usual = {
        pair: {key: _usual([f[key] for f in found], key) for key in LEAST_RELATION_SPREAD}
        for pair, found in sorted(pairs.items())
        if len(found) >= FEWEST_FOR_RELATIONS - 1  # that many are left where one is judged by the others
    }
    return Relations(pairs=usual) if usual else None


def _usual(values: Sequence[float], key: str) -> tuple[float, float]:
    middle = float(np.median(values))
    spread = float(np.percentile(np.abs(np.asarray(values) - middle), 95))
    return float(f"{middle:.3g}"), float(f"{max(spread, LEAST_RELATION_SPREAD[key]):.3g}")
