"""The prediction as surfaces, a file for every ROI of its structure set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from contour_ai.dicom.ct import CTSeries
from contour_ai.files import private_folder
from contour_ai.pipeline.result import PredictedRoi
from contour_ai.structures import RoiInfo
from contour_ai.surfaces import Mesh, SurfaceFiles, SurfaceFormat, mesh_of_field, mesh_of_mask, write_surfaces

SURFACES = "surfaces"


def write_roi_surfaces(
    rois: Sequence[PredictedRoi],
    names: Mapping[str, str],
    ct: CTSeries,
    folder: Path,
    format: SurfaceFormat,
) -> SurfaceFiles:
    """Writes surfaces/ with the ROIs that the structure set has, under their names there.

    Args:
        names: name of each ROI in the structure set, by the model's name.
    """
    return write_surfaces(private_folder(folder / SURFACES), _surfaces(rois, names, ct), format)


def _surfaces(
    rois: Sequence[PredictedRoi], names: Mapping[str, str], ct: CTSeries
) -> Iterator[tuple[RoiInfo, Mesh]]:
    for roi in rois:
        if roi.box is None or roi.inside is None or roi.info.name not in names:
            continue
        if roi.level is None:
            mesh = mesh_of_mask(roi.inside, ct.grid, box=roi.box)
        else:
            mesh = mesh_of_field(roi.level, ct.grid, roi.box)
        yield replace(roi.info, name=names[roi.info.name]), mesh
