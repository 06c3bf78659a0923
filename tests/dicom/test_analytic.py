"""Shapes known by formula, drawn as contours: the voxels whose centres lie in them, and their volume."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from synthetic import axial, write_stack, write_structure_set

from contour_ai.dicom.ct import CTSeries, read_ct
from contour_ai.dicom.rtstruct_header import Provenance
from contour_ai.dicom.rtstruct_read import iter_masks
from contour_ai.dicom.rtstruct_write import contours_of_level, contours_of_mask
from contour_ai.dicom.rtstruct_write import write_structure_set as write_contours
from contour_ai.polygons import polygon_area
from contour_ai.structures import roi_info

STACK = axial(37, spacing_mm=2.5, shape_ij=(87, 89), spacing_ij_mm=(1.0, 1.0))
CENTRE_KIJ = np.array((18.27, 43.03, 44.31))
POINTS = 360

SPHERES = [(10.0, 1674, 0), (40.0, 107_232, 7)]
"""Radius in mm; voxels whose centres lie in the sphere; at most so many of them lie between its circle and the polygon
of 360 points inside it."""


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> CTSeries:
    folder = tmp_path_factory.mktemp("ct")
    write_stack(folder, STACK)
    return read_ct(folder, with_pixels=False)


def distance_mm(ct: CTSeries) -> np.ndarray:
    """Of every voxel centre from the centre of the spheres."""
    k, i, j = np.ogrid[tuple(slice(n) for n in ct.grid.shape_kij)]
    return np.sqrt((2.5 * (k - CENTRE_KIJ[0])) ** 2 + (i - CENTRE_KIJ[1]) ** 2 + (j - CENTRE_KIJ[2]) ** 2)


def circles(ct: CTSeries, radius_mm: float) -> list[np.ndarray]:
    """The circle of a sphere in every slice, as (N, 3) LPS points."""
    angle = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
    contours = []
    for k in range(ct.grid.shape_kij[0]):
        squared = radius_mm**2 - (2.5 * (k - CENTRE_KIJ[0])) ** 2
        if squared > 0:
            around = np.sqrt(squared) * np.stack([np.sin(angle), np.cos(angle)], axis=1)
            contours.append(
                ct.grid.index_to_lps(np.column_stack([np.full(POINTS, k), CENTRE_KIJ[1:] + around]))
            )
    return contours


@pytest.mark.parametrize(("radius_mm", "voxels", "most_wrong"), SPHERES)
def test_circles_are_read_as_the_voxel_centres_in_them(
    radius_mm: float, voxels: int, most_wrong: int, ct: CTSeries, tmp_path: Path
) -> None:
    inside = distance_mm(ct) < radius_mm
    assert inside.sum() == voxels
    write_structure_set(tmp_path / "rs.dcm", STACK, {"Sphere": circles(ct, radius_mm)})
    ((_, read),) = iter_masks(tmp_path / "rs.dcm", ct)
    assert (read != inside).sum() <= most_wrong
    assert not (read & ~inside).any(), "the polygon lies within the circle"


@pytest.mark.parametrize(("radius_mm", "voxels", "_"), SPHERES)
@pytest.mark.parametrize("field", ["mask", "level"])
def test_spheres_are_written_and_read_without_a_wrong_voxel(
    field: str, radius_mm: float, voxels: int, _: int, ct: CTSeries, tmp_path: Path
) -> None:
    level = (radius_mm - distance_mm(ct)).astype(np.float32)
    everywhere = tuple(slice(0, n) for n in ct.grid.shape_kij)
    roi = (
        contours_of_mask(roi_info("Sphere"), level > 0)
        if field == "mask"
        else contours_of_level(roi_info("Sphere"), level, everywhere)  # type: ignore[arg-type]
    )
    write_contours(tmp_path / "rs.dcm", [roi], ct, Provenance(label="Test"))
    ((_, read),) = iter_masks(tmp_path / "rs.dcm", ct)
    assert read.sum() == voxels
    assert np.array_equal(read, distance_mm(ct) < radius_mm)
    volume_mm3 = 2.5 * sum(polygon_area(p) for polygons in roi.slices.values() for p in polygons)
    assert volume_mm3 == pytest.approx(4 / 3 * np.pi * radius_mm**3, rel=0.02 if radius_mm < 20 else 0.002)
