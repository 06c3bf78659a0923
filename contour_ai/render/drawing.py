"""The parts of a picture: tissue, contours, names, letters, legend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFont

from contour_ai.polygons import Polygon
from contour_ai.render.planes import Contours, Plane, View
from contour_ai.structures import RoiInfo

WINDOW_HU = (-160.0, 240.0)
LARGEST_ZOOM = 12.0
"""Screen pixels a millimetre at most, so that a tiny object still looks tiny."""
CAUTION = "not for clinical use without review"
BACKGROUND = (18, 18, 20)
TEXT = (235, 235, 235)
FAINT = (150, 150, 155)
FILL_OPACITY = 90
"""Of 255: tissue stays visible through a filled ROI."""
OPACITY_OF = [0] + [FILL_OPACITY] * 255
"""Of a pixel that is 0 outside."""
LETTER = (255, 255, 160)
NAME_GAP_PX = 3
FARTHEST_LINES = 9
"""How many lines of text a name may be moved away from its contour."""
DASH_PX = (6.0, 5.0)
"""Length of dashes and gaps of the ground truth's outline."""


def panel_size(plane: Plane, view: View, longest_px: int) -> tuple[int, int]:
    """(width, height) in screen pixels, true to the millimetres of both axes."""
    height_mm = (view.bottom - view.top) * plane.spacing_mm[0]
    width_mm = (view.right - view.left) * plane.spacing_mm[1]
    scale = min(longest_px / max(height_mm, width_mm), LARGEST_ZOOM)
    return max(1, round(width_mm * scale)), max(1, round(height_mm * scale))


def tissue(plane: Plane, view: View, size: tuple[int, int]) -> Image.Image:
    low, high = WINDOW_HU
    part = plane.hu[view.top : view.bottom, view.left : view.right].astype(np.float32)
    grey = ((part - low) * (255 / (high - low))).clip(0, 255).astype(np.uint8)
    return Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC).convert("RGB")


def _to_screen(polygon: Polygon, view: View, size: tuple[int, int]) -> NDArray[np.float64]:
    """(N, 2) x and y in screen pixels, pixel centres at integers as ImageDraw has them."""
    y = (polygon[:, 0] + 0.5 - view.top) * (size[1] / (view.bottom - view.top)) - 0.5
    x = (polygon[:, 1] + 0.5 - view.left) * (size[0] / (view.right - view.left)) - 0.5
    return np.stack([x, y], axis=1)


def with_rois(base: Image.Image, contours: Contours, rois: Sequence[RoiInfo], view: View) -> Image.Image:
    """The tissue with ROIs filled and outlined; the body is outlined only."""
    panel = base.copy()
    for roi in rois:
        polygons = contours.get(roi.name, ())
        if polygons and roi.interpreted_type != "EXTERNAL":
            panel.paste(roi.color, (0, 0), _inside(polygons, view, panel.size))
    draw_outlines(panel, contours, rois, view)
    return panel


def _inside(polygons: Sequence[Polygon], view: View, size: tuple[int, int]) -> Image.Image:
    """A mask of `FILL_OPACITY` inside the polygons, even-odd."""
    if len(polygons) == 1:
        return _polygon_mask(polygons[0], view, Image.new("L", size), FILL_OPACITY)
    mask = Image.new("1", size)
    for polygon in polygons:
        mask = ImageChops.logical_xor(mask, _polygon_mask(polygon, view, Image.new("1", size), 1))
    return mask.convert("L").point(OPACITY_OF)


def _polygon_mask(polygon: Polygon, view: View, mask: Image.Image, value: int) -> Image.Image:
    points = _to_screen(polygon, view, mask.size)
    ImageDraw.Draw(mask).polygon(points.ravel().tolist(), fill=value)
    return mask


def draw_outlines(
    panel: Image.Image, contours: Contours, rois: Sequence[RoiInfo], view: View, *, dashed: bool = False
) -> None:
    """Draws outlines in the ROIs' colours; dashed ones lighter, so that they are seen on a solid one."""
    draw = ImageDraw.Draw(panel)
    for roi in rois:
        light = (int((c + 2 * 255) / 3) for c in roi.color)
        color = tuple(light) if dashed else roi.color
        width = 1 if dashed or roi.interpreted_type == "EXTERNAL" else 2
        for polygon in contours.get(roi.name, ()):
            points = _to_screen(polygon, view, panel.size)
            closed = np.concatenate([points, points[:1]])
            for line in _dashes(closed) if dashed else [closed]:
                draw.line(
                    line.ravel().tolist(), fill=color, width=width, joint="curve" if width > 1 else None
                )


def _dashes(line: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """The dashes of a line (N, 2), each with the corners it goes round."""
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    dash, gap = DASH_PX
    dashes = []
    for start in np.arange(0.0, along[-1], dash + gap):
        stop = min(start + dash, along[-1])
        inner = (along > start) & (along < stop)
        places = np.concatenate([[start], along[inner], [stop]])
        dashes.append(np.stack([np.interp(places, along, line[:, axis]) for axis in (0, 1)], axis=1))
    return dashes


def draw_letters(panel: Image.Image, letters: tuple[str, str, str, str], size_px: int = 14) -> None:
    """Orientation letters at the middle of each border, dark-edged so that they are read on bone too."""
    width, height = panel.size
    places = (
        (4, height // 2, "lm"),
        (width - 5, height // 2, "rm"),
        (width // 2, 3, "mt"),
        (width // 2, height - 4, "mb"),
    )
    for text, (x, y, anchor) in zip(letters, places, strict=True):
        stamp = _stamp(text, size_px, anchor)
        corner = x + stamp.left, y + stamp.top
        panel.paste((0, 0, 0), corner, stamp.edged)
        panel.paste(LETTER, corner, stamp.letter)


def draw_names(
    panel: Image.Image, contours: Contours, rois: Sequence[RoiInfo], view: View, size_px: int = 12
) -> list[tuple[int, int, int, int]]:
    """Writes every ROI's name beside its contour, in its colour, where it covers no other name.

    Above, below, right or left of the contour, or farther away where these are taken.

    Returns:
        (left, top, right, bottom) of every name, in pixels.
    """
    width, height = panel.size
    half, high = size_px, size_px + 6
    # The places of the orientation letters, above and below.
    letters = [(width // 2 - half, y, width // 2 + half, y + high) for y in (0, height - high)]
    taken: list[tuple[int, int, int, int]] = []
    for roi in rois:
        polygons = contours.get(roi.name, ())
        if not polygons:
            continue
        points = np.concatenate([_to_screen(polygon, view, panel.size) for polygon in polygons])
        stamp = _stamp(roi.name, size_px, "la")
        size = stamp.letter.width, stamp.letter.height
        box = _free_place((points.min(axis=0), points.max(axis=0)), size, panel.size, [*letters, *taken])
        taken.append(box)
        panel.paste((0, 0, 0), box[:2], stamp.edged)
        panel.paste(roi.color, box[:2], stamp.letter)
    return taken


def _free_place(
    around: tuple[NDArray[np.float64], NDArray[np.float64]],
    size: tuple[int, int],
    panel: tuple[int, int],
    taken: Sequence[tuple[int, int, int, int]],
) -> tuple[int, int, int, int]:
    """The first place for a name beside a box that is free, kept on the panel; the first of all where none is."""
    (left, top), (right, bottom) = around
    wide, high = size
    middle, beside = (left + right - wide) / 2, (top + bottom - high) / 2
    places = [
        (middle, top - high - NAME_GAP_PX),
        (middle, bottom + NAME_GAP_PX),
        (right + NAME_GAP_PX, beside),
        (left - wide - NAME_GAP_PX, beside),
    ]
    for away in range(1, FARTHEST_LINES):
        places += [(right + NAME_GAP_PX, beside + sign * away * high) for sign in (-1, 1)]
    boxes = []
    for x, y in places:
        x, y = round(max(0, min(panel[0] - wide, x))), round(max(0, min(panel[1] - high, y)))
        boxes.append((x, y, x + wide, y + high))
    free = (
        b for b in boxes if all(b[0] >= t[2] or b[2] <= t[0] or b[1] >= t[3] or b[3] <= t[1] for t in taken)
    )
    return next(free, boxes[0])


@dataclass(frozen=True, eq=False, kw_only=True)
class _Stamp:
    """A letter drawn once, for every panel of every slice."""

    left: int
    top: int
    letter: Image.Image
    edged: Image.Image


@cache
def _stamp(text: str, size_px: int, anchor: str) -> _Stamp:
    font = text_font(size_px)
    left, top, right, bottom = font.getbbox(text, anchor=anchor, stroke_width=1)
    left, top = math.floor(left), math.floor(top)
    size = max(1, math.ceil(right) - left), max(1, math.ceil(bottom) - top)

    def drawn(edge: int) -> Image.Image:
        mask = Image.new("L", size)
        ImageDraw.Draw(mask).text((-left, -top), text, 255, font, anchor, stroke_width=1, stroke_fill=edge)
        return mask

    return _Stamp(left=left, top=top, letter=drawn(0), edged=drawn(255))


@cache
def legend_of(rois: tuple[RoiInfo, ...], width: int) -> Image.Image:
    """Colour and name of every ROI in as many lines as they need, and the caution."""
    font, line_px = text_font(12), 20
    lengths = [int(font.getlength(roi.name)) + 32 for roi in rois] + [int(font.getlength(CAUTION)) + 12]
    places, x, line = [], 6, 0
    for length in lengths:
        if x + length > width and x > 6:
            x, line = 6, line + 1
        places.append((x, line))
        x += length
    picture = Image.new("RGB", (width, (line + 1) * line_px + 6), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    for roi, (x, line) in zip(rois, places, strict=False):
        y = 4 + line * line_px
        draw.rectangle((x, y + 2, x + 12, y + 13), fill=roi.color)
        draw.text((x + 18, y + 1), roi.name, TEXT, font)
    draw.text((width - 6, 5 + places[-1][1] * line_px), CAUTION, FAINT, font, anchor="ra")
    return picture


@cache
def text_font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)
