"""Masks and level fields to polygons and back, exactly: no voxel centre ever changes side.

Points are (i, j) = (row, column) in slice coordinates, float64, with voxel centres at integers, so that the outermost
voxel edges of an (I, J) slice lie at -0.5 and I - 0.5 (J - 0.5). A polygon's first point is not repeated at its end.

`tracing` and `filling` are inverse to each other for any mask. `overlaps` decides what contours of other programs mean
that overlap each other; `measures` are figures of single polygons.
"""

from contour_ai.polygons.filling import (
    BoxIJ,
    Polygon,
    distinct_polygons,
    fill_polygons,
    filled_box,
    filled_slices,
    polygons_to_mask,
    stack_from_polygons,
    stack_in_box,
)
from contour_ai.polygons.measures import count_self_intersections, polygon_area
from contour_ai.polygons.overlaps import Resolved, resolve_overlaps
from contour_ai.polygons.tracing import (
    CLEARANCE,
    HoleStyle,
    level_to_polygons,
    mask_to_polygons,
    stack_to_polygons,
)

__all__ = [
    "CLEARANCE",
    "BoxIJ",
    "HoleStyle",
    "Polygon",
    "Resolved",
    "count_self_intersections",
    "distinct_polygons",
    "fill_polygons",
    "filled_box",
    "filled_slices",
    "level_to_polygons",
    "mask_to_polygons",
    "polygon_area",
    "polygons_to_mask",
    "resolve_overlaps",
    "stack_from_polygons",
    "stack_in_box",
    "stack_to_polygons",
]
