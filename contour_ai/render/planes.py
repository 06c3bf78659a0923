"""Cuts through a patient, ready to be drawn, and which of them show most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from contour_ai.grid import Grid
from contour_ai.polygons import Polygon, mask_to_polygons
from contour_ai.volume import Volume

Contours = Mapping[str, Sequence[Polygon]]
"""Polygons of one plane by ROI name: (row, column), voxel centres at integers, holes as polygons of their own."""
SECOND_LETTER = 0.25
"""A direction gets a second letter when it leans that far (a sine) towards another axis, as in DICOM C.7.6.1.1.1."""


@dataclass(frozen=True, eq=False, kw_only=True)
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


@dataclass(frozen=True, kw_only=True)
class View:
    """The part of a plane that is shown: rows `top` to `bottom`, columns `left` to `right`, last ones excluded."""

    top: int
    bottom: int
    left: int
    right: int


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
    return Plane(
        hu=volume.hu[k],
        spacing_mm=grid.spacing_mm[1:],
        letters=letters,
        caption=caption,
        predicted=predicted,
        reference=reference,
    )


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
    heights = grid.slice_offsets_mm[0] + (np.arange(count) + 0.5) * finest - grid.slice_widths_mm[0] / 2
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
        hu=(volume.hu[:, index, :] if across == 1 else volume.hu[:, :, index])[rows],
        spacing_mm=(finest, grid.spacing_mm[along]),
        letters=(
            direction_letters(-step),
            direction_letters(step),
            direction_letters(up * grid.normal),
            direction_letters(-up * grid.normal),
        ),
        caption=f"{name}   {'xyz'[axis]} = {position[axis]:+.1f} mm",
        predicted=outlines(predicted),
        reference=None if reference is None else outlines(reference),
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
        return View(top=0, bottom=mask.shape[0], left=0, right=mask.shape[1])
    more = [int(np.ceil(margin_mm / mm)) for mm in spacing_mm]
    return View(
        top=max(0, int(rows[0]) - more[0]),
        bottom=min(mask.shape[0], int(rows[-1]) + 1 + more[0]),
        left=max(0, int(columns[0]) - more[1]),
        right=min(mask.shape[1], int(columns[-1]) + 1 + more[1]),
    )


def _points_up(grid: Grid) -> bool:
    """Whether ascending slices are drawn upwards in a cut: towards the head, or else to the front or the left."""
    axis = int(np.abs(grid.normal).argmax())
    return bool(grid.normal[axis] * (1, -1, 1)[axis] > 0)


def whole_view(plane: Plane) -> View:
    return View(top=0, bottom=plane.hu.shape[0], left=0, right=plane.hu.shape[1])


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
