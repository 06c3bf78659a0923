"""The pictures of a prediction: an overlay for every slice with a contour, and one montage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contour_ai.cores import available_cores
from contour_ai.files import private_file, private_folder
from contour_ai.pipeline.result import PredictedRoi
from contour_ai.polygons import Polygon, stack_to_polygons
from contour_ai.progress import OnProgress, ProgressEvent, no_progress
from contour_ai.quality.flag import EXTERNAL
from contour_ai.render import (
    Plane,
    View,
    cut_plane,
    informative_slices,
    montage,
    overlay_panels,
    slice_plane,
    view_of,
)
from contour_ai.structures import RoiInfo
from contour_ai.volume import Volume

Stack = Mapping[int, Sequence[Polygon]]

MONTAGE_SLICES = 12
PNG_COMPRESSION = 1
"""Of 9: noise does not compress, and a higher level takes longer than the drawing."""
PICTURE_THREADS = 8


@dataclass(frozen=True, eq=False, kw_only=True)
class DrawnPatient:
    """Everything that is drawn: CT, body, prediction, and the patient's own structures where there are any."""

    volume: Volume
    body: NDArray[np.bool_]
    predicted: Sequence[PredictedRoi]
    reference: Mapping[str, NDArray[np.bool_]] | None

    @property
    def infos(self) -> tuple[RoiInfo, ...]:
        """What the legend names."""
        return tuple(roi.info for roi in self.predicted)


def draw_pictures(
    scene: DrawnPatient,
    folder: Path,
    *,
    overlays: bool = True,
    title: str = "",
    notes: Sequence[str] = (),
    on_progress: OnProgress = no_progress,
) -> list[Path]:
    """Writes `montage.png` and `overlays/slice_NNN.png` (numbers from 1) below `folder`; returns the overlays."""
    predicted = {roi.info.name: roi_polygons(roi) for roi in scene.predicted}
    reference = None
    if scene.reference is not None:
        reference = {
            name: stack_to_polygons(mask, holes="separate") for name, mask in scene.reference.items()
        }
    view = view_of(np.logical_or.reduce(scene.body, axis=0), scene.volume.grid.spacing_mm[1:])

    def plane(k: int) -> Plane:
        return slice_plane(
            scene.volume, k, _at(predicted, k), None if reference is None else _at(reference, k)
        )

    organs, external = _areas(scene)
    chosen = informative_slices(organs or external, MONTAGE_SLICES)
    tiles = [(plane(k), view) for k in chosen] + _cuts(scene, view)
    if tiles:
        montage(tiles, scene.infos, title=title, notes=notes).save(
            private_file(folder / "montage.png"), compress_level=PNG_COMPRESSION
        )
    if not overlays:
        return []
    return _draw_overlays(
        scene, plane, view, _slices_to_draw(organs | external), folder / "overlays", on_progress
    )


def _draw_overlays(
    scene: DrawnPatient,
    plane: Callable[[int], Plane],
    view: View,
    slices: Sequence[int],
    folder: Path,
    on_progress: OnProgress,
) -> list[Path]:
    private_folder(folder)
    digits = max(3, len(str(scene.volume.grid.shape_kij[0])))
    paths = [folder / f"slice_{k + 1:0{digits}d}.png" for k in slices]

    def draw(k: int, path: Path) -> None:
        overlay_panels(plane(k), scene.infos, view=view).save(
            private_file(path), compress_level=PNG_COMPRESSION
        )

    # Resizing and compressing happen outside the interpreter's lock: threads are enough.
    with ThreadPoolExecutor(min(PICTURE_THREADS, available_cores())) as pool:
        for done, _ in enumerate(pool.map(draw, slices, paths), start=1):
            on_progress(ProgressEvent(stage="overlays", done=done, total=len(slices)))
    return paths


def roi_polygons(roi: PredictedRoi) -> Stack:
    """{slice: contours in (row, column)} of a predicted ROI, holes as contours of their own."""
    if roi.box is None or roi.inside is None:
        return {}
    field = roi.inside if roi.level is None else roi.level
    starts = roi.box[0].start, (roi.box[1].start, roi.box[2].start)
    return {
        k + starts[0]: [polygon + starts[1] for polygon in polygons]
        for k, polygons in stack_to_polygons(field, holes="separate").items()
    }


def _at(stacks: Mapping[str, Stack], k: int) -> dict[str, Sequence[Polygon]]:
    return {name: stack[k] for name, stack in stacks.items() if k in stack}


def _areas(scene: DrawnPatient) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
    """(K,) area in each slice, predicted or contoured, of the organs that are there, and of the external contour."""
    areas: dict[str, NDArray[np.float64]] = {}
    external: dict[str, NDArray[np.float64]] = {}
    for roi in scene.predicted:
        area = np.zeros(scene.volume.grid.shape_kij[0])
        if roi.box is not None and roi.inside is not None:
            area[roi.box[0]] = roi.inside.sum(axis=(1, 2))
        if scene.reference is not None and roi.info.name in scene.reference:
            area = np.maximum(area, scene.reference[roi.info.name].sum(axis=(1, 2)))
        (external if roi.info.interpreted_type == EXTERNAL else areas)[roi.info.name] = area
    return {name: area for name, area in areas.items() if area.any()}, external


def _slices_to_draw(areas: Mapping[str, NDArray[np.float64]]) -> list[int]:
    return [int(k) for k in np.flatnonzero(sum(areas.values(), start=np.zeros(1)))]


def _cuts(scene: DrawnPatient, view: View) -> list[tuple[Plane, View]]:
    """Two cuts at right angles to the slices, through the middle of all organs found."""
    boxes = [r.box for r in scene.predicted if r.box is not None and r.info.interpreted_type != EXTERNAL]
    if not boxes or scene.volume.grid.shape_kij[0] < 2:
        return []
    cuts = []
    for across in (1, 2):
        index = round(float(np.mean([(box[across].start + box[across].stop - 1) / 2 for box in boxes])))
        predicted = {roi.info.name: _cut_mask(roi, across, index, scene) for roi in scene.predicted}
        reference = None
        if scene.reference is not None:
            reference = {name: np.take(mask, index, across) for name, mask in scene.reference.items()}
        plane = cut_plane(scene.volume, across, index, predicted, reference)
        left, right = (view.left, view.right) if across == 1 else (view.top, view.bottom)
        cuts.append((plane, View(top=0, bottom=plane.hu.shape[0], left=left, right=right)))
    return cuts


def _cut_mask(roi: PredictedRoi, across: int, index: int, scene: DrawnPatient) -> NDArray[np.bool_]:
    shape = scene.volume.grid.shape_kij
    along = 2 if across == 1 else 1
    mask = np.zeros((shape[0], shape[along]), bool)
    if (
        roi.box is not None
        and roi.inside is not None
        and roi.box[across].start <= index < roi.box[across].stop
    ):
        mask[roi.box[0], roi.box[along]] = roi.inside.take(index - roi.box[across].start, across)
    return mask
