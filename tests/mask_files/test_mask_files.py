"""Masks in npz, NIfTI and NRRD files: exact on the CT's own voxels, resampled or refused elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from shapes import hard_shapes

from contour_ai.errors import GeometryError, InputError, OutputError
from contour_ai.grid import Grid
from contour_ai.mask_files import read_masks, save_masks

GRID = Grid.axial((8, 24, 20), (3.0, 1.2, 0.8), (-10.5, -20.25, 33.1))
C, S = float(np.cos(0.3)), float(np.sin(0.3))
OBLIQUE = Grid(
    shape_kij=(8, 24, 20),
    positions_lps=np.arange(8)[:, None] * np.array([0, -2 * S, 2 * C]) + 5,
    step_i_lps=[0, C, S],
    step_j_lps=[1, 0, 0],
)
SHAPES = hard_shapes(GRID.shape_kij)


def image_of(mask: np.ndarray, grid: Grid = GRID) -> sitk.Image:
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    columns = grid.affine[:3, [2, 1, 0]]
    lengths = np.linalg.norm(columns, axis=0)
    image.SetSpacing(lengths.tolist())
    image.SetDirection((columns / lengths).ravel().tolist())
    image.SetOrigin(grid.affine[:3, 3].tolist())
    return image


def read(path: Path, grid: Grid = GRID) -> tuple[dict[str, np.ndarray], list[str]]:
    notes: list[str] = []
    return dict(read_masks(path, grid, on_note=notes.append)), notes


@pytest.mark.parametrize("grid", [GRID, OBLIQUE], ids=["axial", "oblique"])
@pytest.mark.parametrize(("file_format", "name"), [("npz", "m.npz"), ("nifti", "m"), ("nrrd", "m")])
def test_no_voxel_changes(file_format, name, grid, tmp_path):
    files = save_masks(tmp_path / name, SHAPES.items(), grid, format=file_format)
    assert list(files) == list(SHAPES)
    assert all(f.exists() for f in files.values())
    back, notes = read(tmp_path / name, grid)
    assert list(back) == list(SHAPES)
    assert notes == []
    for roi, mask in SHAPES.items():
        assert back[roi].dtype == bool
        assert np.array_equal(back[roi], mask), roi


def test_npz_files_are_plain_numpy_and_the_same_bytes_again(tmp_path):
    for name in ("a.npz", "b.npz"):
        save_masks(tmp_path / name, SHAPES.items(), GRID)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz") as arrays:
        assert np.array_equal(arrays["Sphere"], SHAPES["Sphere"])


def test_names_that_no_file_can_have_come_back(tmp_path):
    masks = {
        "1,SUV_primair": SHAPES["One"],
        "a/b": SHAPES["Pair"],
        "A/B": SHAPES["Two"],
        "膀胱": SHAPES["Line_1"],
    }
    for file_format, name in (("nifti", "m"), ("npz", "m.npz")):
        save_masks(tmp_path / name, masks.items(), GRID, format=file_format)
        back, _ = read(tmp_path / name)
        assert list(back) == list(masks)
        assert np.array_equal(back["A/B"], masks["A/B"])


def test_an_image_with_its_axes_in_another_order(tmp_path):
    image = sitk.Flip(sitk.PermuteAxes(image_of(SHAPES["Corner"]), [2, 0, 1]), [True, False, True])
    sitk.WriteImage(image, str(tmp_path / "Corner.nii.gz"))
    back, notes = read(tmp_path / "Corner.nii.gz")
    assert notes == []
    assert np.array_equal(back["Corner"], SHAPES["Corner"])


def test_an_image_of_a_part_of_the_ct(tmp_path):
    mask = np.zeros(GRID.shape_kij, bool)
    mask[2:5, 6:10, 8:12] = True
    sitk.WriteImage(image_of(mask)[7:15, 5:12, 1:6], str(tmp_path / "A.nrrd"))
    back, notes = read(tmp_path / "A.nrrd")
    assert np.array_equal(back["A"], mask)
    assert notes == []


def test_a_single_slice_has_no_spacing(tmp_path):
    one = Grid.axial((1, 24, 20), (2.0, 1.2, 0.8), (-10.5, -20.25, 33.1))
    sitk.WriteImage(image_of(SHAPES["Line_2"][3:4]), str(tmp_path / "A.nrrd"))
    back, notes = read(tmp_path / "A.nrrd", one)
    assert np.array_equal(back["A"], SHAPES["Line_2"][3:4])
    assert notes == []


def test_another_grid_is_resampled_and_told(tmp_path):
    fine = Grid.axial((16, 48, 40), (1.5, 0.6, 0.4), (-10.5, -20.25, 33.1))
    k, i, j = np.ogrid[:16, :48, :40]
    ball = ((k - 8) * 1.5) ** 2 + ((i - 24) * 0.6) ** 2 + ((j - 20) * 0.4) ** 2 < 36
    sitk.WriteImage(image_of(ball, fine), str(tmp_path / "Ball.nii.gz"))
    back, notes = read(tmp_path / "Ball.nii.gz")
    assert back["Ball"].sum() * np.prod(GRID.spacing_mm) == pytest.approx(
        ball.sum() * np.prod(fine.spacing_mm), rel=0.1
    )
    assert len(notes) == 1
    assert (
        "is on another grid than the CT ((1.5, 0.6, 0.4) instead of (3.0, 1.2, 0.8) mm) and was resampled"
        in notes[0]
    )


def test_sheared_and_uneven_stacks(tmp_path):
    positions = np.array([[0, 0, z] for z in (0, 1.0, 2.5, 5, 6, 9, 11, 12)], float)
    uneven = Grid(
        shape_kij=GRID.shape_kij, positions_lps=positions, step_i_lps=[0, 1.2, 0], step_j_lps=[0.8, 0, 0]
    )
    with pytest.raises(
        GeometryError, match=r"nifti files cannot hold(.|\n)*unequal slice spacing(.|\n)*use --format npz"
    ):
        save_masks(tmp_path / "m", SHAPES.items(), uneven, format="nifti")
    save_masks(tmp_path / "m.npz", SHAPES.items(), uneven)
    assert np.array_equal(read(tmp_path / "m.npz", uneven)[0]["Noise"], SHAPES["Noise"])
    regular = Grid.axial((25, 24, 20), (0.5, 1.2, 0.8))
    mask = np.zeros(regular.shape_kij, bool)
    mask[8:20, 5:15, 5:15] = True  # z from 4 to 9.5 mm
    sitk.WriteImage(image_of(mask, regular), str(tmp_path / "A.nrrd"))
    back, notes = read(tmp_path / "A.nrrd", uneven)
    assert np.flatnonzero(back["A"].any(axis=(1, 2))).tolist() == [3, 4, 5]
    assert "was resampled" in notes[0]


def test_masks_of_another_patients_space_are_refused(tmp_path):
    far = Grid.axial((8, 24, 20), (3.0, 1.2, 0.8), (400, -20.25, 33.1))
    sitk.WriteImage(image_of(SHAPES["Sphere"], far), str(tmp_path / "Sphere.nrrd"))
    with pytest.raises(GeometryError, match=r"belongs to another patient(.|\n)*100 % of it outside"):
        read(tmp_path / "Sphere.nrrd")


def test_a_mask_that_leaves_the_ct_a_little_is_cut_and_told(tmp_path):
    moved = Grid.axial((8, 24, 20), (3.0, 1.2, 0.8), (-10.5, -20.25 + 5 * 1.2, 33.1))
    sitk.WriteImage(image_of(SHAPES["Everything"], moved), str(tmp_path / "A.nrrd"))
    back, notes = read(tmp_path / "A.nrrd")
    assert back["A"].sum() == 8 * 19 * 20
    assert notes[0].endswith("A: 800 of 3840 voxels lie outside the CT and are left out")


LABELS = np.zeros(GRID.shape_kij, np.uint8)
LABELS[2:4, 5:9, 5:9] = 1
LABELS[5:7, 5:9, 5:9] = 4


@pytest.mark.parametrize(
    ("file", "names"),
    [
        ("seg.names.yaml", {1: "Bladder", 4: "Rectum"}),
        ("seg.json", {"Bladder": 1, "Rectum": 4}),
        ("names.json", {"0": "background", "1": "Bladder", "4": "Rectum", "9": "Brain"}),
        ("names.yaml", {"seg.nii.gz": {1: "Bladder", 4: "Rectum"}}),
    ],
)
def test_several_labels_with_a_file_of_names(file, names, tmp_path):
    sitk.WriteImage(image_of(LABELS), str(tmp_path / "seg.nii.gz"))
    (tmp_path / file).write_text(json.dumps(names), encoding="utf-8")
    back, notes = read(tmp_path / "seg.nii.gz")
    assert list(back)[:2] == ["Bladder", "Rectum"]
    assert np.array_equal(back["Rectum"], LABELS == 4)
    assert notes == []


def write(content: object, name: str) -> Callable[[Path], Path]:
    def writer(folder: Path) -> Path:
        path = folder / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, sitk.Image):
            sitk.WriteImage(content, str(path))
        elif isinstance(content, dict):
            np.savez(path, **content)
        return path

    return writer


@pytest.mark.parametrize(
    ("maker", "message"),
    [
        (write(None, "missing.npz"), "no such file"),
        (write(b"PK no zip", "a.npz"), r"npz file cannot be read"),
        (write({}, "a.npz"), "no masks here"),
        (
            write({"A": np.zeros((2, 3, 4), bool)}, "a.npz"),
            r"another shape(.|\n)*\(2, 3, 4\)(.|\n)*\(8, 24, 20\)",
        ),
        (write({"A": LABELS}, "a.npz"), r"boolean or 0 and 1(.|\n)*values from 0 to 4"),
        (write({"A": np.full((8, 24, 20), "x")}, "a.npz"), "boolean or 0 and 1"),
        (write(b"no image", "a.nrrd"), "mask file cannot be read"),
        (write(b"text", "a.txt"), "no mask file"),
        (write(image_of(LABELS), "seg.nii.gz"), r"several labels(.|\n)*labels 1, 4(.|\n)*seg\.names\.yaml"),
        (write(sitk.Image([20, 24], sitk.sitkUInt8), "flat.nrrd"), r"one volume(.|\n)*2 dimensions"),
    ],
)
def test_files_that_cannot_be_used(maker, message, tmp_path):
    with pytest.raises(InputError, match=message):
        read(maker(tmp_path))


def test_labels_without_a_name_and_names_given_twice(tmp_path):
    sitk.WriteImage(image_of(LABELS), str(tmp_path / "seg.nii.gz"))
    (tmp_path / "names.yaml").write_text("1: Bladder\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"labels without a name(.|\n)*\[4\]"):
        read(tmp_path)
    (tmp_path / "names.yaml").write_text("1: Bladder\n4: Bladder\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"same ROI name(.|\n)*Bladder"):
        read(tmp_path)
    (tmp_path / "names.yaml").write_text("- 1\n", encoding="utf-8")
    with pytest.raises(InputError, match="must map labels"):
        read(tmp_path)


def test_an_empty_folder_and_an_existing_output(tmp_path):
    with pytest.raises(InputError, match="no masks here"):
        read(tmp_path)
    save_masks(tmp_path / "m.npz", SHAPES.items(), GRID)
    with pytest.raises(OutputError, match="exists already"):
        save_masks(tmp_path / "m.npz", SHAPES.items(), GRID)
    save_masks(tmp_path / "m.npz", [("One", SHAPES["One"])], GRID, overwrite=True)
    assert list(read(tmp_path / "m.npz")[0]) == ["One"]
