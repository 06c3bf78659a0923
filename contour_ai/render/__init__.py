"""Draws predictions over the CT: a picture of panels for every slice, and a montage of the whole patient."""

from contour_ai.render.drawing import CAUTION
from contour_ai.render.pictures import montage, overlay_panels
from contour_ai.render.planes import (
    Contours,
    Plane,
    View,
    cut_plane,
    direction_letters,
    informative_slices,
    slice_plane,
    view_of,
)

__all__ = [
    "CAUTION",
    "Contours",
    "Plane",
    "View",
    "cut_plane",
    "direction_letters",
    "informative_slices",
    "montage",
    "overlay_panels",
    "slice_plane",
    "view_of",
]
