"""Surfaces: closed, outward, the volume of the voxels, every voxel centre on its side."""

from __future__ import annotations

import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from contour_ai.grid import Grid
from contour_ai.structures import RoiInfo
from contour_ai.surfaces import Mesh, mesh_of_field, mesh_of_mask, reduced_mesh, write_surfaces
from contour_ai.surfaces.files import ply_bytes, stl_bytes

GRID = Grid.axial((24, 40, 44), (3, 1.5, 1.5), (-30, -20, 100))
UNEVEN = Grid(
    shape_kij=GRID.shape_kij,
    positions_lps=np.array([[50.0, -30, -h] for h in np.cumsum([0, *[2] * 9, *[5] * 14])]),
    step_i_lps=(0, 1, 0),
    step_j_lps=(-1.5, 0, 0),
)
"""From head to feet, with unequal slices."""


def ball(radius_mm: float, grid: Grid = GRID) -> NDArray[np.floating]:
    """Positive inside a ball around the middle of the grid: mm to its surface."""
    points = grid.index_to_lps(np.moveaxis(np.indices(grid.shape_kij), 0, -1))
    middle = grid.index_to_lps((np.array(grid.shape_kij) - 1) / 2)
    return radius_mm - np.linalg.norm(points - middle, axis=-1)


def voxels_cm3(mask: NDArray[np.bool_], grid: Grid) -> float:
    return float(np.count_nonzero(mask, axis=(1, 2)) @ grid.voxel_volumes_cm3)


def shape(kind: str, grid: Grid) -> NDArray[np.bool_]:
    mask = np.zeros(grid.shape_kij, bool)
    if kind == "ball":
        return ball(14, grid) > 0
    if kind == "shell with a hole":
        mask = (ball(14, grid) > 0) & (ball(8, grid) < 0)
        mask[:, 19:21, :] &= False
    elif kind == "voxel":
        mask[5, 6, 7] = True
    elif kind == "line and block":
        mask[12, 20, 3:40] = True
        mask[8:16, 10:30, 10:20] = True
    elif kind == "whole scan":
        mask[:] = True
    elif kind == "one slice":
        mask[0, 5:20, 5:30] = True
    elif kind == "two corners":
        mask[3:5, 3:5, 3:5] = mask[5:7, 5:7, 5:7] = True
    return mask


KINDS = ("ball", "shell with a hole", "voxel", "line and block", "whole scan", "one slice", "two corners")


def is_closed(mesh: Mesh) -> bool:
    """Whether every edge is passed once in each direction."""
    edges = Counter((int(a), int(b)) for n in range(3) for a, b in mesh.faces[:, [n, (n + 1) % 3]])
    return all(edges[b, a] == count for (a, b), count in edges.items())


@pytest.mark.parametrize("grid", [GRID, UNEVEN], ids=["even", "uneven"])
@pytest.mark.parametrize("kind", KINDS)
def test_volume_is_that_of_the_voxels(kind: str, grid: Grid) -> None:
    mask = shape(kind, grid)
    mesh = mesh_of_mask(mask, grid)
    assert mesh.volume_cm3 == pytest.approx(voxels_cm3(mask, grid), rel=0.01)
    assert is_closed(mesh)


@pytest.mark.parametrize("kind", KINDS)
def test_no_voxel_centre_changes_sides(kind: str) -> None:
    """Along every row, the surface is crossed between a centre inside and the one outside beside it."""
    mask = shape(kind, GRID)
    mesh = mesh_of_mask(mask, GRID)
    index = GRID.lps_to_index(mesh.vertices_lps)
    off = np.abs(index - np.rint(index)) > 1e-6
    assert (off.sum(axis=1) <= 1).all(), "every vertex lies on a line between two neighbouring centres"
    low, high = np.floor(index + 1e-6).astype(int), np.ceil(index - 1e-6).astype(int)
    padded = np.pad(mask, 2)
    inside = [padded[tuple((n + 2).T)] for n in (low, high)]
    assert (inside[0] != inside[1]).all()


def test_a_field_gives_a_smooth_ball() -> None:
    level = ball(15)
    box = (slice(2, 22), slice(5, 35), slice(4, 42))
    mesh = mesh_of_field(level[box], GRID, box)
    assert mesh.volume_cm3 == pytest.approx(voxels_cm3(level > 0, GRID), rel=0.01)
    middle = GRID.index_to_lps((np.array(GRID.shape_kij) - 1) / 2)
    radii = np.linalg.norm(mesh.vertices_lps - middle, axis=1)
    assert np.abs(radii - 15).max() < 0.4, "a field says where between the voxels the surface is"


def test_a_field_that_reaches_the_end_of_its_box_is_closed_there() -> None:
    level = np.full((4, 6, 6), 3.0, np.float32)
    box = (slice(0, 4), slice(10, 16), slice(10, 16))
    mesh = mesh_of_field(level, GRID, box)
    assert mesh.volume_cm3 == pytest.approx(4 * 36 * 3 * 2.25 / 1000, rel=0.01)
    assert is_closed(mesh)


def test_a_mask_in_its_box_lies_where_it_lay() -> None:
    mask = shape("ball", GRID)
    box = (slice(1, 24), slice(3, 40), slice(2, 44))
    assert np.allclose(
        mesh_of_mask(mask, GRID).vertices_lps, mesh_of_mask(mask[box], GRID, box=box).vertices_lps
    )


def test_a_reduced_surface_is_small_and_has_the_volume() -> None:
    fine = Grid.axial((60, 120, 120), (1, 0.8, 0.8))
    for radius, squares in ((25, 600), (10, 2400)):
        mask = ball(radius, fine) > 0
        mesh = reduced_mesh(mask, fine, squares=squares)
        assert 200 < len(mesh.faces) < 3 * squares
        assert mesh.volume_cm3 == pytest.approx(voxels_cm3(mask, fine), rel=0.01)
        middle = fine.index_to_lps((np.array(fine.shape_kij) - 1) / 2)
        assert np.linalg.norm(mesh.vertices_lps - middle, axis=1) == pytest.approx(radius, rel=0.12)
    thread = np.zeros(fine.shape_kij, bool)
    thread[:, 60, 60] = True
    assert reduced_mesh(thread, fine, squares=20).volume_cm3 == pytest.approx(
        voxels_cm3(thread, fine), rel=0.01
    )


def test_nothing_has_no_surface() -> None:
    empty = np.zeros(GRID.shape_kij, bool)
    assert len(mesh_of_mask(empty, GRID).faces) == len(reduced_mesh(empty, GRID).faces) == 0
    assert len(mesh_of_field(np.full((2, 2, 2), -1.0), GRID, (slice(0, 2),) * 3).faces) == 0


def test_stl_holds_every_triangle_with_its_normal() -> None:
    mesh = mesh_of_mask(shape("ball", GRID), GRID)
    content = stl_bytes(mesh, RoiInfo(name="solid Ünder", color=(10, 200, 30)))
    assert not content.startswith(b"solid")
    assert content[:10] == b"COLOR=" + bytes((10, 200, 30, 255))
    (count,) = struct.unpack_from("<I", content, 80)
    assert (count, len(content)) == (len(mesh.faces), 84 + 50 * len(mesh.faces))
    numbers = np.frombuffer(content[84:], np.dtype([("n", "<f4", 3), ("v", "<f4", (3, 3)), ("a", "<u2")]))
    middle = GRID.index_to_lps((np.array(GRID.shape_kij) - 1) / 2)
    outwards = np.einsum("ij,ij->i", numbers["n"], numbers["v"].mean(axis=1) - middle)
    assert (outwards > 0).mean() > 0.99
    corners = numbers["v"].astype(float) - middle
    volume = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6000
    assert volume == pytest.approx(mesh.volume_cm3, rel=1e-4)


def test_ply_is_read_by_its_own_header() -> None:
    mesh = mesh_of_mask(shape("voxel", GRID), GRID)
    header, _, body = ply_bytes(mesh, RoiInfo(name="A\nelement vertex 9", color=(1, 2, 3))).partition(
        b"end_header\n"
    )
    lines = header.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    assert [line for line in lines if line.startswith("element")] == [
        f"element vertex {len(mesh.vertices_lps)}",
        f"element face {len(mesh.faces)}",
    ]
    vertex = np.frombuffer(body, np.dtype([("p", "<f4", 3), ("c", "u1", 3)]), len(mesh.vertices_lps))
    assert np.allclose(vertex["p"], mesh.vertices_lps, atol=1e-4) and (vertex["c"] == (1, 2, 3)).all()
    rest = body[15 * len(vertex) :]
    face = np.frombuffer(rest, np.dtype([("n", "u1"), ("v", "<i4", 3)]))
    assert (face["n"] == 3).all() and (face["v"] == mesh.faces).all()


def test_a_file_for_every_roi_whatever_its_name(tmp_path: Path) -> None:
    mesh = mesh_of_mask(shape("voxel", GRID), GRID)
    nothing = mesh_of_mask(np.zeros(GRID.shape_kij, bool), GRID)
    infos = [RoiInfo(name=name, color=(1, 2, 3)) for name in ("Cord", "CORD", "a/b", "Empty")]
    written = write_surfaces(tmp_path, zip(infos, (mesh, mesh, mesh, nothing), strict=True), "stl")
    assert list(written.paths) == ["Cord", "CORD", "a/b"] and written.empty == ("Empty",)
    assert len({path.name.casefold() for path in written.paths.values()}) == 3
    assert all(path.parent == tmp_path and path.exists() for path in written.paths.values())
    assert written.volumes_cm3["Cord"] == pytest.approx(3 * 2.25 / 1000, rel=0.01)
