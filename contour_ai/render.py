"""Draws predictions over the CT: a picture of panels for every slice, and a montage of the whole patient."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFont

from contour_ai.grid import Grid
from contour_ai.polygons import Polygon, mask_to_polygons
from contour_ai.structures import RoiInfo
from contour_ai.volume import Volume

Contours = Mapping[str, Sequence[Polygon]]
"""Polygons of one plane by ROI name: (row, column), voxel centres at integers, holes as polygons of their own."""

WINDOW_HU = (-160.0, 240.0)
PANEL_PX = 448
TILE_PX = 300
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
NOTE_LINES = 16
"""Lines of notes on a montage, at most: it shows the patient."""
DASH_PX = (6.0, 5.0)
"""Length of dashes and gaps of the ground truth's outline."""
SECOND_LETTER = 0.25
"""A direction gets a second letter when it leans that far (a sine) towards another axis, as in DICOM C.7.6.1.1.1."""


@dataclass(frozen=True, eq=False)
class Plane:
    """One cut through the patient, ready to be drawn.

    Args:
        hu: (rows, columns).
        spacing_mm: distance of rows and of columns.
        letters: orientation at the left, right, upper and lower border of the picture.
        caption: which slice it is and where it lies.
        predicted: contours to show; a ROI without polygons here need not be named.
        reference: the contours of the patient's own structure set; None where there is none.
    """

    hu: NDArray[np.generic]
    spacing_mm: tuple[float, float]
    letters: tuple[str, str, str, str]
    caption: str
    predicted: Contours
    reference: Contours | None = None


@dataclass(frozen=True)
class View:
    """The part of a plane that is shown: rows `top` to `bottom`, columns `left` to `right`, last ones excluded."""

    top: int
    bottom: int
    left: int
    right: int


# -- planes -------------------------------------------------------------------------------------------------


def slice_plane(volume: Volume, k: int, predicted: Contours, reference: Contours | None = None) -> Plane:
    """Slice k as it was acquired."""
    grid = volume.grid
    middle = grid.index_to_lps([k, (grid.shape_kij[1] - 1) / 2, (grid.shape_kij[2] - 1) / 2])
    axis = int(np.abs(grid.normal).argmax())
    caption = f"slice {k + 1} of {grid.shape_kij[0]}   {'xyz'[axis]} = {middle[axis]:+.1f} mm"
    right, down = grid.step_j_lps, grid.step_i_lps
    letters = (
        direction_letters(-right),
        direction_letters(right),
        direction_letters(-down),
        direction_letters(down),
    )
    return Plane(volume.hu[k], grid.spacing_mm[1:], letters, caption, predicted, reference)


def cut_plane(
    volume: Volume,
    across: int,
    index: int,
    predicted: Mapping[str, NDArray[np.bool_]],
    reference: Mapping[str, NDArray[np.bool_]] | None = None,
) -> Plane:
    """A cut at right angles to the slices: along row `index` (`across` 1) or along column `index` (`across` 2).

    Slices are repeated to equal distances of the narrowest, the last slice on top where it lies higher.

    Args:
        predicted, reference: masks (slices, columns or rows) of the cut, by ROI.
    """
    grid = volume.grid
    up = 1 if _points_up(grid) else -1
    finest = max(min(float(grid.slice_widths_mm.min()), grid.spacing_mm[0]), 0.5)
    count = max(1, round(float(grid.slice_widths_mm.sum()) / finest))
    heights = grid.heights_mm[0] + (np.arange(count) + 0.5) * finest - grid.slice_widths_mm[0] / 2
    rows = np.clip(np.rint(grid.height_to_k(heights)), 0, grid.shape_kij[0] - 1).astype(int)[::-up]
    along = 2 if across == 1 else 1
    step = grid.step_j_lps if along == 2 else grid.step_i_lps
    position = grid.index_to_lps([0, index, 0] if across == 1 else [0, 0, index])
    other = grid.step_i_lps if across == 1 else grid.step_j_lps
    axis = int(np.abs(other).argmax())
    name = {0: "sagittal", 1: "coronal", 2: "axial"}[axis]

    def outlines(masks: Mapping[str, NDArray[np.bool_]]) -> Contours:
        return {
            roi: mask_to_polygons(mask[rows], holes="separate") for roi, mask in masks.items() if mask.any()
        }

    return Plane(
        (volume.hu[:, index, :] if across == 1 else volume.hu[:, :, index])[rows],
        (finest, grid.spacing_mm[along]),
        (
            direction_letters(-step),
            direction_letters(step),
            direction_letters(up * grid.normal),
            direction_letters(-up * grid.normal),
        ),
        f"{name}   {'xyz'[axis]} = {position[axis]:+.1f} mm",
        outlines(predicted),
        None if reference is None else outlines(reference),
    )


def direction_letters(direction_lps: NDArray[np.float64]) -> str:
    """Where a direction points in the patient: L or R, P or A, S or I, the strongest first, two where it is oblique."""
    unit = direction_lps / np.linalg.norm(direction_lps)
    names = [pair[0] if part > 0 else pair[1] for part, pair in zip(unit, ("LR", "PA", "SI"), strict=True)]
    order = np.argsort(-np.abs(unit), kind="stable")
    strong = [names[a] for n, a in enumerate(order) if n == 0 or (n == 1 and abs(unit[a]) > SECOND_LETTER)]
    return "".join(strong)


def view_of(mask: NDArray[np.bool_], spacing_mm: tuple[float, float], margin_mm: float = 8.0) -> View:
    """The part of a plane with every True pixel of `mask` (rows, columns) and a margin; all where there is none."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return View(0, mask.shape[0], 0, mask.shape[1])
    more = [int(np.ceil(margin_mm / mm)) for mm in spacing_mm]
    return View(
        max(0, int(rows[0]) - more[0]),
        min(mask.shape[0], int(rows[-1]) + 1 + more[0]),
        max(0, int(columns[0]) - more[1]),
        min(mask.shape[1], int(columns[-1]) + 1 + more[1]),
    )


def _points_up(grid: Grid) -> bool:
    """Whether ascending slices are drawn upwards in a cut: towards the head, or else to the front or the left."""
    axis = int(np.abs(grid.normal).argmax())
    return bool(grid.normal[axis] * (1, -1, 1)[axis] > 0)


# -- pictures -----------------------------------------------------------------------------------------------


def overlay_panels(
    plane: Plane, rois: Sequence[RoiInfo], *, view: View | None = None, panel_px: int = PANEL_PX
) -> Image.Image:
    """CT | ground truth | prediction | contour overlay, side by side; three panels where there is no ground truth.

    Args:
        rois: what the legend names, in its order; contours of others are not drawn.
        view: the part to show; the whole plane by default.
        panel_px: longest side of a panel.
    """
    view = view or _whole(plane)
    size = _panel_size(plane, view, panel_px)
    base = _tissue(plane, view, size)
    panels = [(base, "CT")]
    if plane.reference is not None:
        panels.append((_painted(base, plane.reference, rois, view), "ground truth"))
    panels.append((_painted(base, plane.predicted, rois, view), "prediction"))
    overlay = base.copy()
    _outline(overlay, plane.predicted, rois, view)
    if plane.reference is not None:
        _outline(overlay, plane.reference, rois, view, dashed=True)
        panels.append((overlay, "contours (ground truth dashed)"))
    else:
        panels.append((overlay, "contours"))
    gap, top = 4, 24
    width = len(panels) * (size[0] + gap) - gap
    legend = _legend(tuple(rois), width)
    picture = Image.new("RGB", (width, top + size[1] + legend.height), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    for n, (panel, title) in enumerate(panels):
        _letter(panel, plane.letters)
        left = n * (size[0] + gap)
        picture.paste(panel, (left, top))
        draw.text((left + 6, 4), title, TEXT, _font(13))
    draw.text((size[0] - 6, 4), plane.caption, TEXT, _font(13), anchor="ra")
    picture.paste(legend, (0, top + size[1]))
    return picture


def montage(
    planes: Sequence[tuple[Plane, View]],
    rois: Sequence[RoiInfo],
    *,
    title: str = "",
    notes: Sequence[str] = (),
    columns: int = 4,
    tile_px: int = TILE_PX,
) -> Image.Image:
    """Contour overlays of several planes as tiles, with title, notes and legend.

    Args:
        planes: what to show, from the upper left.
        title: first line.
        notes: further lines, what to look at; long ones are broken, and so many are shown as `NOTE_LINES` hold.
    """
    columns = max(1, min(columns, len(planes)))
    tiles = [_tile(plane, view, rois, tile_px) for plane, view in planes]
    rows = [tiles[n : n + columns] for n in range(0, len(tiles), columns)]
    heights = [max(t.height for t in row) for row in rows]
    width = columns * tile_px
    legend = _legend(tuple(rois), width)
    notes = _lines(notes, width - 16)
    top = 10 + 22 * bool(title) + 18 * len(notes)
    picture = Image.new("RGB", (width, top + sum(heights) + legend.height), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    if title:
        draw.text((8, 6), title, TEXT, _font(16))
    for n, note in enumerate(notes):
        draw.text((8, 8 + 22 * bool(title) + 18 * n), note, (255, 196, 90), _font(12))
    y = top
    for row, height in zip(rows, heights, strict=True):
        for n, tile in enumerate(row):
            picture.paste(tile, (n * tile_px + (tile_px - tile.width) // 2, y + (height - tile.height) // 2))
        y += height
    picture.paste(legend, (0, y))
    return picture


def _lines(notes: Sequence[str], width_px: int) -> list[str]:
    """The notes broken into lines that fit, and how many are left out."""
    font = _font(12)
    lines: list[str] = []
    for done, note in enumerate(notes):
        broken = [""]
        for word in note.split():
            longer = f"{broken[-1]} {word}".strip()
            if broken[-1] and font.getlength(longer) > width_px:
                broken.append(f"    {word}")
            else:
                broken[-1] = longer
        if len(lines) + len(broken) > NOTE_LINES:
            return [*lines, f"... and {len(notes) - done} more in summary.json"]
        lines += broken
    return lines


def _tile(plane: Plane, view: View, rois: Sequence[RoiInfo], tile_px: int) -> Image.Image:
    size = _panel_size(plane, view, tile_px - 4)
    tissue = _tissue(plane, view, size)
    _outline(tissue, plane.predicted, rois, view)
    if plane.reference is not None:
        _outline(tissue, plane.reference, rois, view, dashed=True)
    _letter(tissue, plane.letters, 11)
    tile = Image.new("RGB", (tile_px - 4, size[1] + 20), BACKGROUND)
    tile.paste(tissue, ((tile.width - size[0]) // 2, 16))
    ImageDraw.Draw(tile).text((tile.width / 2, 1), plane.caption, FAINT, _font(11), anchor="ma")
    return tile


# -- parts of a picture -------------------------------------------------------------------------------------


def _whole(plane: Plane) -> View:
    return View(0, plane.hu.shape[0], 0, plane.hu.shape[1])


def _panel_size(plane: Plane, view: View, longest_px: int) -> tuple[int, int]:
    """(width, height) in screen pixels, true to the millimetres of both axes."""
    height_mm = (view.bottom - view.top) * plane.spacing_mm[0]
    width_mm = (view.right - view.left) * plane.spacing_mm[1]
    scale = min(longest_px / max(height_mm, width_mm), LARGEST_ZOOM)
    return max(1, round(width_mm * scale)), max(1, round(height_mm * scale))


def _tissue(plane: Plane, view: View, size: tuple[int, int]) -> Image.Image:
    low, high = WINDOW_HU
    part = plane.hu[view.top : view.bottom, view.left : view.right].astype(np.float32)
    grey = ((part - low) * (255 / (high - low))).clip(0, 255).astype(np.uint8)
    return Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC).convert("RGB")


def _to_screen(polygon: Polygon, view: View, size: tuple[int, int]) -> NDArray[np.float64]:
    """(N, 2) x and y in screen pixels, pixel centres at integers as ImageDraw has them."""
    y = (polygon[:, 0] + 0.5 - view.top) * (size[1] / (view.bottom - view.top)) - 0.5
    x = (polygon[:, 1] + 0.5 - view.left) * (size[0] / (view.right - view.left)) - 0.5
    return np.stack([x, y], axis=1)


def _painted(base: Image.Image, contours: Contours, rois: Sequence[RoiInfo], view: View) -> Image.Image:
    """The tissue with ROIs filled and outlined; the body is outlined only."""
    panel = base.copy()
    for roi in rois:
        polygons = contours.get(roi.name, ())
        if polygons and roi.interpreted_type != "EXTERNAL":
            panel.paste(roi.color, (0, 0), _inside(polygons, view, panel.size))
    _outline(panel, contours, rois, view)
    return panel


def _inside(polygons: Sequence[Polygon], view: View, size: tuple[int, int]) -> Image.Image:
    """A mask of `FILL_OPACITY` inside the polygons, even-odd."""
    if len(polygons) == 1:
        return _filled(polygons[0], view, Image.new("L", size), FILL_OPACITY)
    mask = Image.new("1", size)
    for polygon in polygons:
        mask = ImageChops.logical_xor(mask, _filled(polygon, view, Image.new("1", size), 1))
    return mask.convert("L").point(OPACITY_OF)


def _filled(polygon: Polygon, view: View, mask: Image.Image, value: int) -> Image.Image:
    points = _to_screen(polygon, view, mask.size)
    ImageDraw.Draw(mask).polygon(points.ravel().tolist(), fill=value)
    return mask


def _outline(
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


def _letter(panel: Image.Image, letters: tuple[str, str, str, str], size_px: int = 14) -> None:
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


@dataclass(frozen=True, eq=False)
class _Stamp:
    """A letter drawn once, for every panel of every slice."""

    left: int
    top: int
    letter: Image.Image
    edged: Image.Image


@cache
def _stamp(text: str, size_px: int, anchor: str) -> _Stamp:
    font = _font(size_px)
    left, top, right, bottom = font.getbbox(text, anchor=anchor, stroke_width=1)
    left, top = math.floor(left), math.floor(top)
    size = max(1, math.ceil(right) - left), max(1, math.ceil(bottom) - top)

    def drawn(edge: int) -> Image.Image:
        mask = Image.new("L", size)
        ImageDraw.Draw(mask).text((-left, -top), text, 255, font, anchor, stroke_width=1, stroke_fill=edge)
        return mask

    return _Stamp(left, top, drawn(0), drawn(255))


@cache
def _legend(rois: tuple[RoiInfo, ...], width: int) -> Image.Image:
    """Colour and name of every ROI in as many lines as they need, and the caution."""
    font, line_px = _font(12), 20
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
def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)


# -- which slices -------------------------------------------------------------------------------------------


def informative_slices(areas: Mapping[str, NDArray[np.float64]], count: int = 12) -> list[int]:
    """Slices that show a patient best: the largest cut of every ROI, then the middles of the widest gaps.

    Args:
        areas: (K,) area of every ROI in each slice.
        count: how many, at most; fewer where fewer have contours.
    """
    if not areas:
        return []
    occupied = np.flatnonzero(np.sum([a > 0 for a in areas.values()], axis=0))
    if occupied.size <= count:
        return [int(k) for k in occupied]
    by_size = sorted((float(a.sum()), int(a.argmax())) for a in areas.values() if a.any())
    chosen = {int(occupied[0]), int(occupied[-1])}
    for _, k in by_size:
        if len(chosen) < count and min(abs(k - c) for c in chosen) > occupied.size // (3 * count):
            chosen.add(k)
    while len(chosen) < count:
        _, middle = max((b - a, (a + b) // 2) for a, b in pairwise(sorted(chosen)))
        nearest = int(occupied[np.abs(occupied - middle).argmin()])
        if nearest in chosen:
            break
        chosen.add(nearest)
    return sorted(chosen)
