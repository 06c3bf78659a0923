"""The steps of a recipe, carried out on a ROI and said in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from contour_ai.derived import shaping
from contour_ai.derived.margin import Margins, with_margins
from contour_ai.derived.operations import End, Ring
from contour_ai.derived.recipe import Step
from contour_ai.derived.region import Region
from contour_ai.grid import Grid

Grow = Callable[[Region, float], Region]
"""A margin in mm around a ROI, the same in all directions."""


def grown(region: Region, margin_mm: float) -> Region:
    """The ROI with a margin in all directions."""
    return with_margins(region, Margins.all_around(margin_mm)) if margin_mm else region


def applied(region: Region, step: Step, other: Region | None, grow: Grow = grown) -> Region:
    """One step on a ROI; `other` is the union of the step's ROIs, `grow` makes margins around it."""
    if step.margin is not None:
        return with_margins(region, _margins(step.margin))
    if step.ring is not None:
        return _ring(region, step.ring)
    if step.keep_inside is not None and other is not None:
        return shaping.intersection(region, grow(other, -step.keep_inside.gap_mm))
    if step.keep_outside is not None and other is not None:
        return shaping.difference(region, grow(other, step.keep_outside.gap_mm))
    if step.unite is not None:
        return region if other is None else shaping.united([region, other])
    if step.intersect is not None and other is not None:
        return shaping.intersection(region, other)
    if step.subtract is not None and other is not None:
        return shaping.difference(region, other)
    if step.cut is not None and other is not None:
        low, high = shaping.extent_mm(other) or (np.inf, -np.inf)
        return shaping.cut_between(region, low - step.cut.inferior_mm, high + step.cut.superior_mm)
    if step.extent is not None and other is not None:
        return _ended(region, step.extent, other)
    if step.split is not None:
        return shaping.side_of(region, step.split.side, shaping.centre_x_mm(other or region))
    return _reshaped(region, step)


def _ended(region: Region, end: End, other: Region) -> Region:
    """The ROI without what lies beyond a plane; as it is where the other ROI is empty."""
    reached = shaping.extent_mm(other)
    if reached is None:
        return region
    plane = reached[end.at == "upper"] + end.offset_mm
    low, high = (plane, np.inf) if end.end == "lower" else (-np.inf, plane)
    return shaping.cut_between(region, low, high)


def _reshaped(region: Region, step: Step) -> Region:
    """Steps that need no other ROI."""
    if step.hull is not None:
        return shaping.hull(region, step.hull)
    if step.fill_holes:
        return shaping.without_holes(region)
    if step.remove_parts is not None:
        parts = step.remove_parts
        return shaping.without_small_parts(region, below_cm3=parts.below_cm3, keep=parts.keep)
    if step.smooth is not None:
        return shaping.smoothed(region, step.smooth)
    if step.interpolate is not None:
        return shaping.interpolated(region, step.interpolate.largest_gap_mm)[0]
    if step.extend is not None:
        return shaping.extended(region, step.extend.superior_mm, step.extend.inferior_mm)
    raise ValueError(f"no operation {step.operation}")


def _margins(value: float | Margins) -> Margins:
    return value if isinstance(value, Margins) else Margins.all_around(value)


def _ring(region: Region, ring: Ring) -> Region:
    return shaping.difference(grown(region, ring.outer_mm), grown(region, ring.inner_mm))


def margins_along_normal(grid: Grid, margins: Margins) -> tuple[float, float]:
    """Margins in mm towards the first and towards the last slice, for what is said of the scan's ends."""
    if margins.isotropic_mm is not None:
        return margins.isotropic_mm, margins.isotropic_mm
    axis = int(np.abs(grid.normal).argmax())
    plus, minus = (
        (margins.left, margins.right),
        (margins.posterior, margins.anterior),
        (margins.superior, margins.inferior),
    )[axis]
    return (minus, plus) if grid.normal[axis] > 0 else (plus, minus)


def in_words(step: Step, operands: Sequence[str]) -> str:
    """A step as a person would say it, for ROIDescription and reports."""
    rois = " + ".join(operands)
    if isinstance(step.margin, float):
        return f"margin {step.margin:+g} mm"
    if step.margin is not None:
        parts = [
            f"{n} {getattr(step.margin, n):+g}"
            for n in Margins.__dataclass_fields__
            if getattr(step.margin, n)
        ]
        return f"margin {', '.join(parts)} mm"
    if step.ring is not None:
        return f"ring from {step.ring.inner_mm:g} to {step.ring.outer_mm:g} mm"
    for key, apart in (("inside", step.keep_inside), ("outside", step.keep_outside)):
        if apart is not None:
            return f"kept {key} {rois or 'nothing'}" + (f", gap {apart.gap_mm:g} mm" if apart.gap_mm else "")
    if step.cut is not None:
        return f"cut to {rois}, {step.cut.superior_mm:g} mm above, {step.cut.inferior_mm:g} mm below"
    if step.extent is not None:
        end = step.extent
        where = f"{abs(end.offset_mm):g} mm {'below' if end.offset_mm < 0 else 'above'} " * bool(
            end.offset_mm
        )
        return f"{end.end} end at {where}the {end.at} end of {rois}"
    if step.split is not None:
        return f"{step.split.side} side" + (f" of {rois}" if rois else "")
    if step.extend is not None:
        return f"extended {step.extend.superior_mm:g} mm up, {step.extend.inferior_mm:g} mm down"
    simple = {
        "unite": f"with {rois}",
        "intersect": f"within {rois}",
        "subtract": f"without {rois}",
        "hull": f"convex hull ({step.hull})",
        "fill_holes": "holes filled",
        "remove_parts": "small parts removed",
        "smooth": f"smoothed {step.smooth} mm",
        "interpolate": "missing slices interpolated",
    }
    return simple[step.operation]
