"""The report of one patient: a viewer of CT and contours, flags first, metrics and provenance, in one HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contour_ai.evaluation.metrics import DEFINITIONS, RoiMetrics
from contour_ai.files import atomic_file, write_text
from contour_ai.grid import Grid
from contour_ai.polygons import Polygon
from contour_ai.render import CAUTION, direction_letters
from contour_ai.report.figures import cells, shown, table_head, without_reference
from contour_ai.report.packing import BUDGET_BYTES, PackedVolume, pack_contours, pack_surface, pack_volume
from contour_ai.report.page import asset, embedded_json, fill, script
from contour_ai.structures import RoiInfo
from contour_ai.surfaces import Mesh
from contour_ai.volume import Volume

BODY_HU = -300.0
"""What is denser counts as patient or couch when the views choose what to show at first."""
VIEW_MARGIN_MM = 12.0
SCRIPTS = (
    "viewer_unpacking.js",
    "viewer_view.js",
    "viewer_contours.js",
    "viewer_surfaces.js",
    "viewer_paper.js",
    "viewer.js",
)
"""The viewer's parts, in the order in which they are put into the page."""

Slices = Mapping[int, Sequence[Polygon]]
"""Polygons in (row, column) by slice number from 0."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ShownRoi:
    """One ROI: contours of the prediction and of the reference (None where a side has no such ROI), and its figures.

    Args:
        surface: of the prediction, in few triangles, for the picture in three dimensions.
        verdict: `clear`, `look` or `stop`; "" where nobody judged it.
    """

    info: RoiInfo
    predicted: Slices | None
    reference: Slices | None = None
    metrics: RoiMetrics | None = None
    volume_cm3: float | None = None
    surface: Mesh | None = None
    verdict: str = ""


@dataclass(frozen=True, kw_only=True)
class ShownFlag:
    """A quality finding: `roi` is empty where it concerns the whole scan; `slices` count from 0."""

    roi: str
    code: str
    reason: str
    figure: str = ""
    slices: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class PatientPage:
    """What the report of one patient shows.

    Args:
        flags: None where nobody looked for any, which the page says.
        provenance: {heading: {name: value}}.
        labels: what the two sides are called.
        verdict: on the patient, `clear`, `look` or `stop`; "" where nobody judged it.
    """

    title: str
    subtitle: str
    volume: Volume
    rois: Sequence[ShownRoi]
    flags: Sequence[ShownFlag] | None = ()
    provenance: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    labels: tuple[str, str] = ("prediction", "reference")
    verdict: str = ""


def write_patient_report(
    path: Path, page: PatientPage, *, budget_bytes: int = BUDGET_BYTES, overwrite: bool = False
) -> None:
    """Writes the page; it needs a browser from 2023 or later and nothing else.

    Args:
        budget_bytes: of the packed CT, as in `pack_volume`.

    Raises:
        OutputError: the file exists or cannot be written.
    """
    packed = pack_volume(page.volume.hu, budget_bytes)
    content = _content(page, packed)
    text = fill(
        asset("viewer.html"),
        texts={"title": f"{page.title} – contour-ai", "caution": CAUTION},
        raw={
            "style": asset("viewer.css"),
            "script": script(*SCRIPTS),
            "data": embedded_json(content),
            "ct": packed.to_base64(),
        },
    )
    with atomic_file(path, overwrite=overwrite, private=True) as temporary:
        write_text(temporary, text)


def _content(page: PatientPage, packed: PackedVolume) -> dict[str, object]:
    grid = page.volume.grid
    scored = [roi.metrics for roi in page.rois if roi.metrics is not None]
    return {
        "title": page.title,
        "subtitle": page.subtitle,
        "labels": list(page.labels),
        "figure": "DSC" if scored else "cm³",
        "shape": list(grid.shape_kij),
        "spacing": list(grid.spacing_mm),
        "edges": slice_edges_mm(grid).round(3).tolist(),
        "up": points_up(grid),
        "views": _views(page.volume, page.rois),
        "ct": packed.to_json(),
        "rois": [_roi(roi, bool(scored)) for roi in page.rois],
        "flags": [
            {
                "roi": flag.roi,
                "code": flag.code,
                "reason": flag.reason,
                "figure": flag.figure,
                "slices": [int(k) for k in flag.slices if 0 <= k < grid.shape_kij[0]],
            }
            for flag in page.flags or ()
        ],
        "verdict": page.verdict,
        "flagsKnown": page.flags is not None,
        "metrics": _table(page.rois, scored),
        "definitions": DEFINITIONS if scored else {"volume": DEFINITIONS["volume"]},
        "notes": [*page.notes, *_display_notes(grid, packed)],
        "provenance": {heading: dict(entries) for heading, entries in page.provenance.items()},
    }


def _roi(roi: ShownRoi, scored: bool) -> dict[str, object]:
    figure = shown(roi.metrics.dsc if roi.metrics else None, 3) if scored else shown(roi.volume_cm3, 1)
    return {
        "name": roi.info.name,
        "color": "#{:02x}{:02x}{:02x}".format(*roi.info.color),
        "figure": figure,
        "verdict": roi.verdict,
        "external": roi.info.interpreted_type == "EXTERNAL",
        "surface": None if roi.surface is None else pack_surface(roi.surface),
        "predicted": None if roi.predicted is None else pack_contours(roi.predicted),
        "reference": None if roi.reference is None else pack_contours(roi.reference),
    }


def _table(rois: Sequence[ShownRoi], scored: Sequence[RoiMetrics]) -> dict[str, object]:
    if scored:
        rows = [cells(r.metrics) if r.metrics else without_reference(r.info.name, r.volume_cm3) for r in rois]
        return {"columns": table_head(), "rows": rows}
    columns = [{"label": "ROI"}, {"label": "volume cm³"}, {"label": "slices"}]
    rows = [[roi.info.name, shown(roi.volume_cm3, 1), str(len(roi.predicted or ()))] for roi in rois]
    return {"columns": columns, "rows": rows}


def _display_notes(grid: Grid, packed: PackedVolume) -> list[str]:
    """What the pictures cannot show exactly."""
    notes = [
        f"The CT is shown to ± {packed.step_hu / 2:g} HU in soft tissue and more coarsely in lung and bone"
        + (f", with {packed.binning} x {packed.binning} pixels averaged" if packed.binning > 1 else "")
        + "; contours and figures are of the CT as it is."
    ]
    if grid.is_sheared:
        notes.append("The stack is sheared (gantry tilt): the two cuts show its slices as if they were not.")
    return notes


# -- geometry ------------------------------------------------------------------------------------------------


def slice_edges_mm(grid: Grid) -> NDArray[np.float64]:
    """(K + 1,) mm from the first edge: slices meet half-way, the outer ones are as wide beyond as within."""
    heights = grid.slice_offsets_mm
    if len(heights) == 1:
        return np.array([0.0, grid.spacing_mm[0]])
    middles = (heights[1:] + heights[:-1]) / 2
    first, last = 2 * heights[0] - middles[0], 2 * heights[-1] - middles[-1]
    edges = np.concatenate([[first], middles, [last]])
    return edges - edges[0]


def points_up(grid: Grid) -> bool:
    """Whether ascending slices are drawn upwards in a cut: towards the head, or else to the front or the left."""
    axis = int(np.abs(grid.normal).argmax())
    return bool(grid.normal[axis] * (1, -1, 1)[axis] > 0)


def _views(volume: Volume, rois: Sequence[ShownRoi]) -> list[dict[str, object]]:
    """The slices, and the cuts along a row and a column: names, letters, positions, and what is shown at first."""
    grid = volume.grid
    directions = {"k": grid.normal, "i": grid.step_i_lps, "j": grid.step_j_lps}
    up = grid.normal if points_up(grid) else -grid.normal
    right_and_down = {
        "k": (grid.step_j_lps, grid.step_i_lps),
        "i": (grid.step_j_lps, -up),
        "j": (grid.step_i_lps, -up),
    }
    start = _start(grid, rois)
    boxes = _boxes_mm(volume)
    views: list[dict[str, object]] = []
    for n, (axis, direction) in enumerate(directions.items()):
        main = int(np.abs(direction).argmax())
        right, down = right_and_down[axis]
        views.append(
            {
                "axis": axis,
                "name": ("sagittal", "coronal", "axial")[main],
                "letters": [direction_letters(d) for d in (-right, right, -down, down)],
                "start": start[n],
                "box": boxes[axis],
                "positions": {"letter": "xyz"[main], **_positions(grid, n, main)},
            }
        )
    return views


def _positions(grid: Grid, axis: int, main: int) -> dict[str, object]:
    """Where slices, rows or columns lie along the patient's axis `main`, in mm."""
    _, rows, columns = grid.shape_kij
    middle = [grid.shape_kij[0] // 2, (rows - 1) / 2, (columns - 1) / 2]
    if axis == 0:
        index = np.array([[k, middle[1], middle[2]] for k in range(grid.shape_kij[0])])
        return {"values": grid.index_to_lps(index)[:, main].round(2).tolist()}
    step = float((grid.step_i_lps, grid.step_j_lps)[axis - 1][main])
    middle[axis] = 0
    return {"start": float(grid.index_to_lps(middle)[main]), "step": step}


def _start(grid: Grid, rois: Sequence[ShownRoi]) -> tuple[int, int, int]:
    """The voxel that is shown at first: the middle of the contoured organs, or of the scan."""
    points = [
        (k, *polygon.mean(axis=0))
        for roi in rois
        if roi.info.interpreted_type != "EXTERNAL"
        for k, polygons in (roi.predicted or roi.reference or {}).items()
        for polygon in polygons
    ]
    middle = np.mean(points, axis=0) if points else (np.array(grid.shape_kij) - 1) / 2
    k, i, j = (int(n) for n in np.clip(np.rint(middle), 0, np.array(grid.shape_kij) - 1))
    return k, i, j


def _boxes_mm(volume: Volume) -> dict[str, list[float]]:
    """{view: [left, top, right, bottom]} around what is denser than air, in mm of the view."""
    grid = volume.grid
    _, rows, columns = grid.shape_kij
    _, di, dj = grid.spacing_mm
    dense = np.zeros((rows, columns), bool)
    for plane in volume.hu:
        dense |= plane > BODY_HU
    left, right = _extent(np.asarray(dense.any(axis=0)), dj)
    top, bottom = _extent(np.asarray(dense.any(axis=1)), di)
    height = float(slice_edges_mm(grid)[-1])
    return {
        "k": [left, top, right, bottom],
        "i": [left, 0.0, right, height],
        "j": [top, 0.0, bottom, height],
    }


def _extent(occupied: NDArray[np.bool_], step_mm: float) -> tuple[float, float]:
    found = np.flatnonzero(occupied)
    if not found.size:
        return 0.0, len(occupied) * step_mm
    low, high = found[0] * step_mm - VIEW_MARGIN_MM, (found[-1] + 1) * step_mm + VIEW_MARGIN_MM
    return max(0.0, float(low)), min(len(occupied) * step_mm, float(high))
