"""Whole pictures: the panels of one slice, and a montage of the patient."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from contour_ai.render.drawing import (
    BACKGROUND,
    FAINT,
    TEXT,
    draw_letters,
    draw_names,
    draw_outlines,
    legend_of,
    panel_size,
    text_font,
    tissue,
    with_rois,
)
from contour_ai.render.planes import Plane, View, whole_view
from contour_ai.structures import RoiInfo

PANEL_PX = 448
TILE_PX = 300
NOTE_LINES = 16
"""Lines of notes on a montage, at most: it shows the patient."""


def overlay_panels(
    plane: Plane, rois: Sequence[RoiInfo], *, view: View | None = None, panel_px: int = PANEL_PX
) -> Image.Image:
    """CT | ground truth | prediction | contour overlay, side by side; three panels where there is no ground truth.

    Args:
        rois: what the legend names, in its order; contours of others are not drawn.
        view: the part to show; the whole plane by default.
        panel_px: longest side of a panel.
    """
    view = view or whole_view(plane)
    size = panel_size(plane, view, panel_px)
    base = tissue(plane, view, size)
    panels = [(base, "CT")]
    if plane.reference is not None:
        panels.append((with_rois(base, plane.reference, rois, view), "ground truth"))
    panels.append((with_rois(base, plane.predicted, rois, view), "prediction"))
    overlay = base.copy()
    draw_outlines(overlay, plane.predicted, rois, view)
    if plane.reference is not None:
        draw_outlines(overlay, plane.reference, rois, view, dashed=True)
        panels.append((overlay, "contours (ground truth dashed)"))
    else:
        panels.append((overlay, "contours"))
    draw_names(overlay, plane.predicted, rois, view)
    gap, top = 4, 24
    width = len(panels) * (size[0] + gap) - gap
    legend = legend_of(tuple(rois), width)
    picture = Image.new("RGB", (width, top + size[1] + legend.height), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    for n, (panel, title) in enumerate(panels):
        draw_letters(panel, plane.letters)
        left = n * (size[0] + gap)
        picture.paste(panel, (left, top))
        draw.text((left + 6, 4), title, TEXT, text_font(13))
    draw.text((size[0] - 6, 4), plane.caption, TEXT, text_font(13), anchor="ra")
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
    legend = legend_of(tuple(rois), width)
    notes = _lines(notes, width - 16)
    top = 10 + 22 * bool(title) + 18 * len(notes)
    picture = Image.new("RGB", (width, top + sum(heights) + legend.height), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    if title:
        draw.text((8, 6), title, TEXT, text_font(16))
    for n, note in enumerate(notes):
        draw.text((8, 8 + 22 * bool(title) + 18 * n), note, (255, 196, 90), text_font(12))
    y = top
    for row, height in zip(rows, heights, strict=True):
        for n, tile in enumerate(row):
            picture.paste(tile, (n * tile_px + (tile_px - tile.width) // 2, y + (height - tile.height) // 2))
        y += height
    picture.paste(legend, (0, y))
    return picture


def _lines(notes: Sequence[str], width_px: int) -> list[str]:
    """The notes broken into lines that fit, and how many are left out."""
    font = text_font(12)
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
    size = panel_size(plane, view, tile_px - 4)
    base = tissue(plane, view, size)
    draw_outlines(base, plane.predicted, rois, view)
    if plane.reference is not None:
        draw_outlines(base, plane.reference, rois, view, dashed=True)
    draw_names(base, plane.predicted, rois, view, 10)
    draw_letters(base, plane.letters, 11)
    tile = Image.new("RGB", (tile_px - 4, size[1] + 20), BACKGROUND)
    tile.paste(base, ((tile.width - size[0]) // 2, 16))
    ImageDraw.Draw(tile).text((tile.width / 2, 1), plane.caption, FAINT, text_font(11), anchor="ma")
    return tile
