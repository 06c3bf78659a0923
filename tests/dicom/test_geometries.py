"""Contours and masks on every geometry, judged by arithmetic that is not the package's own.

Contours to read are circles, the sections of balls by the slice planes; their masks are the voxels whose centre is
nearer to the ball's than its radius. Contours that were written are filled by a ray count in this file.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner
from geometries import GEOMETRIES
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from shapes import hard_shapes
from synthetic import Stack, axial, structure_set, uid, write_stack

from contour_ai.cli.main import cli
from contour_ai.dicom.ct import read_ct
from contour_ai.dicom.rtstruct_read import load_structure_set, read_structures

POINTS = 1000
Mask = NDArray[np.bool_]


def normal(stack: Stack) -> NDArray[np.float64]:
    return np.cross(stack.row, stack.column)


def balls(stack: Stack) -> dict[str, tuple[NDArray[np.float64], float]]:
    """{name: (centre in LPS mm, radius in mm)}: two, on no plane of symmetry, one cut off by the end of the scan."""
    rows, columns = stack.shape_ij
    down, across = stack.spacing_ij_mm
    size = min(rows * down, columns * across)
    middle = stack.points_lps(5)[0, 0]

    def at(i: float, j: float, off: float) -> NDArray[np.float64]:
        return (
            middle
            + i * rows * down * np.array(stack.column)
            + j * columns * across * np.array(stack.row)
            + off * normal(stack)
        )

    return {"Large": (at(0.43, 0.52, 1.13), 0.3017 * size), "Small": (at(0.2, 0.71, -14.3), 0.1531 * size)}


def sections(stack: Stack, centre: NDArray[np.float64], radius: float) -> dict[int, NDArray[np.float64]]:
    """{slice: circle in LPS mm} where a ball meets the slice planes."""
    angle = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)[:, None]
    circles = {}
    for k, position in enumerate(stack.positions_lps):
        off = float((centre - position) @ normal(stack))
        if abs(off) < radius:
            r = np.sqrt(radius**2 - off**2)
            around = np.cos(angle) * np.array(stack.row) + np.sin(angle) * np.array(stack.column)
            circles[k] = centre - off * normal(stack) + r * around
    return circles


def inside(stack: Stack, centre: NDArray[np.float64], radius: float) -> Mask:
    """(k, i, j) voxels whose centre lies in a ball; none lies where its polygon and the ball may disagree."""
    distances = np.stack(
        [np.linalg.norm(stack.points_lps(k) - centre, axis=-1) for k in range(len(stack.positions_lps))]
    )
    assert np.abs(distances - radius).min() > 1e-5 * radius
    return distances < radius


def rays(stack: Stack, k: int, contours: list[NDArray[np.float64]]) -> Mask:
    """(i, j) voxels of a slice whose centre an odd number of contours goes around: edges crossed on the way right."""
    odd = np.zeros(stack.shape_ij, bool)
    columns = np.arange(stack.shape_ij[1])
    for contour in contours:
        offset = contour - stack.positions_lps[k]
        v = offset @ np.array(stack.column) / stack.spacing_ij_mm[0]
        u = offset @ np.array(stack.row) / stack.spacing_ij_mm[1]
        v_last, u_last = np.roll(v, 1), np.roll(u, 1)
        for i in range(stack.shape_ij[0]):
            e = (v > i) != (v_last > i)
            at = u_last[e] + (i - v_last[e]) / (v[e] - v_last[e]) * (u[e] - u_last[e])
            odd[i] ^= (columns < at[:, None]).sum(axis=0) % 2 == 1
    return odd


def image_of(k: int, stack: Stack) -> pydicom.Sequence:
    item = Dataset()
    item.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    item.ReferencedSOPInstanceUID = uid(stack.series, "slice", k)
    return pydicom.Sequence([item])


def patient(folder: Path, stack: Stack, images: str = "none") -> Path:
    """The CT and a structure set with the sections of the balls; `images` that they refer to: none, right, wrong."""
    write_stack(folder, stack)
    found = {name: sections(stack, *ball) for name, ball in balls(stack).items()}
    data_set = structure_set(stack, {name: list(circles.values()) for name, circles in found.items()})
    for item, circles in zip(data_set.ROIContourSequence, found.values(), strict=True):
        for contour, k in zip(item.ContourSequence, circles, strict=True):
            if images != "none":
                other = (k + 4) % len(stack.positions_lps)
                contour.ContourImageSequence = image_of(k if images == "right" else other, stack)
    data_set.save_as(folder / "rs.dcm", enforce_file_format=True)
    return folder


def masks_of(path: Path) -> dict[str, Mask]:
    with np.load(path) as archive:
        return {name: archive[name] for name in archive.files}


def run(*arguments: object) -> str:
    result = CliRunner().invoke(cli, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result.stderr


@pytest.mark.parametrize("name", GEOMETRIES)
def test_voxels_lie_where_they_were_worked_out_by_hand(name: str, tmp_path: Path) -> None:
    geometry = GEOMETRIES[name]
    write_stack(tmp_path, geometry.stack)
    grid = read_ct(tmp_path, with_pixels=False).grid
    np.testing.assert_allclose(grid.index_to_lps(geometry.voxel_kij), geometry.place_lps, atol=1e-6)
    np.testing.assert_allclose(grid.lps_to_index(geometry.place_lps), geometry.voxel_kij, atol=1e-6)


@pytest.mark.parametrize("images", ["none", "right", "wrong"])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_analytic_contours_give_exactly_the_voxels_inside(name: str, images: str, tmp_path: Path) -> None:
    stack = GEOMETRIES[name].stack
    ct = read_ct(patient(tmp_path, stack, images), with_pixels=False)
    notes: list[str] = []
    structures = read_structures(tmp_path / "rs.dcm", ct, on_note=notes.append)
    for roi, ball in balls(stack).items():
        expected = inside(stack, *ball)
        assert expected.sum() > 50
        assert int((structures.mask(roi) != expected).sum()) == 0, roi
    if images != "wrong":
        assert notes == []
    else:
        assert len(notes) == 2
        assert all("to another image than the one on whose plane" in n for n in notes)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_masks_come_back_from_the_commands(name: str, tmp_path: Path) -> None:
    stack = GEOMETRIES[name].stack
    patient(tmp_path / "in", stack)
    run("to-masks", tmp_path / "in", "--out", tmp_path / "read.npz")
    read = masks_of(tmp_path / "read.npz")
    assert all(np.array_equal(read[roi], inside(stack, *ball)) for roi, ball in balls(stack).items())

    shapes = hard_shapes((len(stack.positions_lps), *stack.shape_ij))
    np.savez(tmp_path / "masks.npz", **read, **shapes)
    (tmp_path / "in" / "rs.dcm").unlink()
    run("to-rtstruct", tmp_path / "in", tmp_path / "masks.npz", "--out", tmp_path / "in" / "new.dcm")
    run("check", tmp_path / "in" / "new.dcm", "--ct", tmp_path / "in")
    run("to-masks", tmp_path / "in", "--out", tmp_path / "back.npz")
    back = masks_of(tmp_path / "back.npz")
    for roi, mask in (read | shapes).items():
        assert int((back[roi] != mask).sum()) == 0, roi

    slice_of = {uid(stack.series, "slice", k): k for k in range(len(stack.positions_lps))}
    for roi in load_structure_set(tmp_path / "in" / "new.dcm").rois:
        drawn: dict[int, list[NDArray[np.float64]]] = {}
        for contour in roi.contours:
            k = slice_of[contour.image_uid]
            drawn.setdefault(k, []).append(contour.points_lps)
            off = (contour.points_lps - stack.positions_lps[k]) @ normal(stack)
            assert np.abs(off).max() < 0.01, "on the plane of the slice it names"
        for k, mask in enumerate((read | shapes)[roi.name]):
            wrong = int((rays(stack, k, drawn.get(k, [])) != mask).sum())
            assert wrong == 0, f"{roi.name}, slice {k}"


def test_what_is_unusual_is_said(tmp_path: Path) -> None:
    for name, text in {
        "unequal spacing": "the slices are not equally spaced (1.1 to 5 mm); each is used at its own position",
        "two missing slices": "2 slice(s) are missing: 2 between CT008.dcm (instance 3, ",
        "gantry tilt of 15 degrees": "the stack is sheared by 15.0 degrees (gantry tilt); each slice is used",
    }.items():
        patient(tmp_path / name, GEOMETRIES[name].stack)
        said = run("to-masks", tmp_path / name, "--out", tmp_path / f"{name}.npz")
        assert text in " ".join(said.split())


def test_formats_that_need_an_affine_are_refused_by_geometry(tmp_path: Path) -> None:
    for name, text in {
        "two missing slices": "unequal slice spacing",
        "gantry tilt of 15 degrees": "sheared slices (gantry tilt)",
    }.items():
        patient(tmp_path / name, GEOMETRIES[name].stack)
        result = CliRunner().invoke(cli, ["to-masks", str(tmp_path / name), "--out", str(tmp_path / "out")])
        assert result.exit_code == 3
        assert text in result.output
        assert "use --format npz" in result.output


def test_contours_on_missing_slices_are_named_and_not_moved(tmp_path: Path) -> None:
    whole = axial(12, shape_ij=(30, 26))
    patient(tmp_path, whole)
    for k in (5, 6):
        (tmp_path / f"CT{12 - k:03d}.dcm").unlink()
    ct = read_ct(tmp_path, with_pixels=False)
    notes: list[str] = []
    structures = read_structures(tmp_path / "rs.dcm", ct, on_note=notes.append)
    kept = replace(whole, positions_lps=np.delete(whole.positions_lps, [5, 6], axis=0))
    for roi, ball in balls(whole).items():
        assert np.array_equal(structures.mask(roi), inside(kept, *ball))
    assert len(notes) == 1
    assert "ROI Large: 2 contours lie on no slice and are not used" in notes[0]
    assert "3.00 mm from the nearest slice" in notes[0]
