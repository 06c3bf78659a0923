"""DICOM SEG: written on the CT's pixels, read frame by frame, exact on every geometry, and by other programs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from shapes import hard_shapes
from synthetic import (
    Stack,
    axial,
    box_contours,
    tilted,
    uid,
    write_enhanced,
    write_stack,
    write_structure_set,
)

from contour_ai.cli.main import cli
from contour_ai.dicom.ct import CTSeries, read_ct
from contour_ai.dicom.rtstruct_read import iter_masks
from contour_ai.dicom.seg_codes import _table, segment_codes
from contour_ai.dicom.seg_place import masks_on_grid
from contour_ai.dicom.seg_read import is_segmentation, read_segmentation
from contour_ai.dicom.seg_write import Segment, SegmentationOrigin, how_to_install_seg, write_segmentation
from contour_ai.errors import ContourAIError, GeometryError, InputError, OutputError, VerificationError
from contour_ai.grid import Grid
from contour_ai.mask_files import read_masks

WHOLE = (slice(None), slice(None), slice(None))
RED = (255, 0, 0)


def segment(name: str, values: NDArray[np.generic]) -> Segment:
    box = tuple(slice(0, n) for n in values.shape)
    return Segment(name=name, box=box, values=values, color=RED)  # type: ignore[arg-type]


def blob(shape: tuple[int, ...], first: int, last: int) -> NDArray[np.bool_]:
    mask = np.zeros(shape, bool)
    mask[first:last, 2:7, 1:5] = True
    mask[first, 3, 2] = False
    return mask


def read(path: Path, grid: Grid, notes: list[str] | None = None) -> dict[str, NDArray[np.bool_]]:
    return dict(masks_on_grid(read_segmentation(path), grid, path, (notes or []).append))


def ct_of(folder: Path, stack: Stack) -> CTSeries:
    write_stack(folder, stack)
    return read_ct(folder, with_pixels=False)


GEOMETRIES = {
    "axial": axial(6),
    "non-square pixels": axial(6, spacing_ij_mm=(1.5, 0.75)),
    "unequal slices": Stack(np.array([[-20.0, -30.0, z] for z in (0.0, 2.0, 5.0, 6.0, 10.0, 12.0)])),
    "gantry tilt": Stack(np.array([[-20.0, -30.0 + 0.7 * k, 3.0 * k] for k in range(6)])),
    "coronal": tilted((1, 0, 0), (0, 0, -1), 6),
    "oblique": tilted((0.8, 0.6, 0.0), (-0.6, 0.8, 0.0), 6),
}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_masks_read_back_exactly_on_every_geometry(name: str, tmp_path: Path) -> None:
    ct = ct_of(tmp_path / "ct", GEOMETRIES[name])
    shape = ct.grid.shape_kij
    corners = np.zeros(shape, bool)
    corners[0, 0, 0] = corners[-1, -1, -1] = True
    masks = {"Parotid_L": blob(shape, 1, 5), "Overlap": blob(shape, 3, 6), "corners": corners}
    path = tmp_path / "seg.dcm"
    write_segmentation(path, [segment(n, m) for n, m in masks.items()], ct)
    found = read(path, ct.grid)
    assert list(found) == list(masks)
    assert all(np.array_equal(found[n], masks[n]) for n in masks)


def test_enhanced_ct_is_a_source_too(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "ct" / "e.dcm", axial(5), [3, 0, 4, 1, 2])
    ct = read_ct(tmp_path / "ct", with_pixels=False)
    mask = blob(ct.grid.shape_kij, 1, 4)
    write_segmentation(tmp_path / "seg.dcm", [segment("A", mask)], ct)
    assert np.array_equal(read(tmp_path / "seg.dcm", ct.grid)["A"], mask)


def test_hard_shapes_read_back_exactly(tmp_path: Path) -> None:
    shape = (9, 25, 21)  # frames that begin within a byte
    shapes = hard_shapes(shape)
    ct = ct_of(tmp_path / "ct", axial(shape[0], shape_ij=shape[1:]))
    write_segmentation(tmp_path / "seg.dcm", [segment(n, m) for n, m in shapes.items() if m.any()], ct)
    found = read(tmp_path / "seg.dcm", ct.grid)
    assert all(np.array_equal(found[n], m) for n, m in shapes.items() if m.any())


def test_probabilities_are_fractional_and_inside_from_one_half(tmp_path: Path) -> None:
    ct = ct_of(tmp_path / "ct", axial(4))
    values = np.zeros(ct.grid.shape_kij, np.float32)
    values[1, 2, 2:6] = 0.2, 0.498, 0.502, 1.0
    write_segmentation(tmp_path / "seg.dcm", [segment("A", values)], ct)
    data_set = pydicom.dcmread(tmp_path / "seg.dcm")
    assert (data_set.SegmentationType, data_set.SegmentationFractionalType) == ("FRACTIONAL", "PROBABILITY")
    notes: list[str] = []
    found = dict(masks_on_grid(read_segmentation(tmp_path / "seg.dcm"), ct.grid, tmp_path, notes.append))["A"]
    assert np.argwhere(found).tolist() == [[1, 2, 4], [1, 2, 5]]
    assert any("inside from 50% on" in note for note in notes)


def test_codes_sides_and_origin_stand_in_the_file(tmp_path: Path) -> None:
    ct = ct_of(tmp_path / "ct", axial(4))
    mask = blob(ct.grid.shape_kij, 1, 3)
    names = ["Parotid_L", "GTV_1", "zRing", "Brainstem"]
    origin = SegmentationOrigin(label="head & neck", algorithm_name="headneck", algorithm_version="0.5")
    write_segmentation(tmp_path / "seg.dcm", [segment(n, mask) for n in names], ct, origin)
    data_set = pydicom.dcmread(tmp_path / "seg.dcm")
    types = [s.SegmentedPropertyTypeCodeSequence[0] for s in data_set.SegmentSequence]
    assert [t.CodeValue for t in types] == ["45289007", "108369006", "85756007", "119238007"]
    assert types[0].SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    assert "SegmentedPropertyTypeModifierCodeSequence" not in types[3]
    assert [s.SegmentLabel for s in data_set.SegmentSequence] == names
    assert data_set.ContentLabel == "HEAD___NECK" and data_set.FrameOfReferenceUID == uid("frame 1")
    algorithm = data_set.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("headneck", "0.5")


def test_every_line_of_the_table_is_a_code_of_pydicom() -> None:
    for name in _table():
        assert segment_codes(name).type.scheme_designator == "SCT", name
    assert segment_codes("Lung_R").side is not None and segment_codes("Atrium_R").side is None


def coarse(path: Path, spacing_mm: float = 4.0, frame: str = "frame 1") -> None:
    """A SEG on a grid of its own: 3 slices of 6 x 5 pixels, twice as wide as the CT's."""
    positions = np.array([[-19.0, -29.0, -48.5 + 6.0 * k] for k in range(3)])
    pixels = (spacing_mm, spacing_mm)
    own = Stack(positions, shape_ij=(6, 5), spacing_ij_mm=pixels, series="own", frame=frame)
    ct = ct_of(path.with_suffix(".ct"), own)
    mask = np.zeros(ct.grid.shape_kij, bool)
    mask[:, 1:4, 1:4] = True
    write_segmentation(path, [segment("A", mask)], ct)


def test_a_segmentation_on_its_own_grid_is_resampled_with_a_note(tmp_path: Path) -> None:
    ct = ct_of(tmp_path / "ct", axial(6))
    coarse(tmp_path / "seg.dcm")
    notes: list[str] = []
    found = dict(masks_on_grid(read_segmentation(tmp_path / "seg.dcm"), ct.grid, tmp_path, notes.append))["A"]
    assert int(found.sum()) == 6 * 6 * 6
    assert any("was resampled" in note for note in notes)


def test_another_frame_of_reference_is_refused(tmp_path: Path) -> None:
    ct = ct_of(tmp_path / "ct", axial(6))
    coarse(tmp_path / "seg.dcm", frame="frame of an MR")
    with pytest.raises(InputError, match="another frame of reference"):
        read(tmp_path / "seg.dcm", ct.grid)


def edited(path: Path, tmp_path: Path, edit: object) -> Path:
    data_set = pydicom.dcmread(path)
    edit(data_set)  # type: ignore[operator]
    target = tmp_path / "edited.dcm"
    data_set.save_as(target)
    return target


def no_places(d: pydicom.Dataset) -> None:
    for group in d.PerFrameFunctionalGroupsSequence:
        del group.PlanePositionSequence


def same_labels(d: pydicom.Dataset) -> None:
    d.SegmentSequence[1].SegmentLabel = d.SegmentSequence[0].SegmentLabel


def far_apart(d: pydicom.Dataset) -> None:
    place = d.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0]
    place.ImagePositionPatient = [1e30, *place.ImagePositionPatient[1:]]


def cut_pixels(d: pydicom.Dataset) -> None:
    d.PixelData = d.PixelData[: len(d.PixelData) // 2]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (no_places, "where it lies"),
        (same_labels, "same label"),
        (cut_pixels, "damaged"),
        (far_apart, "too far apart"),
    ],
)
def test_what_cannot_be_used_is_refused(edit: object, message: str, tmp_path: Path) -> None:
    ct = ct_of(tmp_path / "ct", axial(4))
    masks = [segment(n, blob(ct.grid.shape_kij, 1, 3)) for n in "AB"]
    write_segmentation(tmp_path / "seg.dcm", masks, ct)
    with pytest.raises(ContourAIError, match=message):
        read(edited(tmp_path / "seg.dcm", tmp_path, edit), ct.grid)


def test_uneven_frames_that_are_on_no_slice_of_the_ct_are_refused(tmp_path: Path) -> None:
    ct = ct_of(tmp_path / "ct", axial(6))
    own = Stack(np.array([[-20.0, -30.0, z] for z in (-49.0, -45.5, -43.1)]), series="own")
    path = tmp_path / "seg.dcm"
    other = ct_of(tmp_path / "own", own)
    write_segmentation(path, [segment("A", blob(other.grid.shape_kij, 0, 3))], other)
    with pytest.raises(GeometryError, match="not evenly spaced"):
        read(path, ct.grid)


def test_empty_masks_existing_files_and_damage_are_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ct = ct_of(tmp_path / "ct", axial(4))
    empty = np.zeros(ct.grid.shape_kij, bool)
    with pytest.raises(InputError, match="All ROIs are empty"):
        write_segmentation(tmp_path / "seg.dcm", [segment("A", empty)], ct)
    with pytest.raises(InputError, match="no ROI"):
        write_segmentation(tmp_path / "seg.dcm", [], ct)
    mask = blob(ct.grid.shape_kij, 1, 3)
    write_segmentation(tmp_path / "seg.dcm", [segment("A", mask)], ct)
    with pytest.raises(OutputError, match="exists already"):
        write_segmentation(tmp_path / "seg.dcm", [segment("A", mask)], ct)
    monkeypatch.setattr("contour_ai.dicom.seg_place._exact", lambda segment, grid: empty)
    with pytest.raises(VerificationError, match="did not read back"):
        write_segmentation(tmp_path / "bad.dcm", [segment("A", mask)], ct)
    assert not (tmp_path / "bad.dcm").exists()
    assert is_segmentation(tmp_path / "seg.dcm") and not is_segmentation(ct.paths[0])


def test_a_label_map_is_read(tmp_path: Path) -> None:
    import highdicom
    from highdicom.seg import Segmentation

    from contour_ai.dicom import seg_write

    ct = ct_of(tmp_path / "ct", axial(4))
    labels = np.zeros(ct.grid.shape_kij, np.uint8)
    labels[1, 2:5, 2:5], labels[2, 3, 3] = 1, 2
    both = [segment(n, labels == v) for v, n in ((1, "A"), (2, "B"))]
    origin = SegmentationOrigin()
    data_set = Segmentation(
        source_images=[seg_write._source(p) for p in ct.paths],
        pixel_array=labels,
        segmentation_type="LABELMAP",
        segment_descriptions=[seg_write._description(n, s, origin) for n, s in enumerate(both, 1)],
        series_instance_uid=highdicom.UID(),
        series_number=1,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="x",
        manufacturer_model_name="x",
        software_versions="1",
        device_serial_number="0",
    )
    data_set.save_as(tmp_path / "seg.dcm")
    found = read(tmp_path / "seg.dcm", ct.grid)
    assert {n: int(m.sum()) for n, m in found.items()} == {"A": 9, "B": 1}
    assert np.array_equal(found["A"], labels == 1)


@pytest.mark.interop
def test_dcmqi_reads_the_same_voxels(tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    reader = shutil.which("segimage2itkimage", path=str(Path(sys.executable).parent)) or shutil.which(
        "segimage2itkimage"
    )
    if reader is None:
        pytest.skip("dcmqi is not installed")
    ct = ct_of(tmp_path / "ct", axial(6))
    masks = {"Parotid_L": blob(ct.grid.shape_kij, 1, 5), "Brainstem": blob(ct.grid.shape_kij, 3, 6)}
    write_segmentation(tmp_path / "seg.dcm", [segment(n, m) for n, m in masks.items()], ct)
    out = tmp_path / "itk"
    out.mkdir()
    command = [reader, "--inputDICOM", tmp_path / "seg.dcm", "--outputDirectory", out, "-t", "nrrd"]
    subprocess.run([str(c) for c in command], check=True, capture_output=True)
    for number, mask in enumerate(masks.values(), start=1):
        image = sitk.ReadImage(str(out / f"{number}.nrrd"))
        inside = np.argwhere(sitk.GetArrayFromImage(image) > 0)[:, ::-1]
        points = [image.TransformIndexToPhysicalPoint([int(v) for v in index]) for index in inside]
        found = np.rint(ct.grid.lps_to_index(points)).astype(int)
        assert sorted(map(tuple, found.tolist())) == sorted(map(tuple, np.argwhere(mask).tolist()))


def test_the_commands_write_and_read_segmentations(tmp_path: Path) -> None:
    stack = axial(6)
    write_stack(tmp_path / "p" / "ct", stack)
    rois = {"Brainstem": box_contours(stack, [1, 2, 3]), "Parotid_L": box_contours(stack, [2], 2.0)}
    write_structure_set(tmp_path / "p" / "rs.dcm", stack, rois)
    first, second = tmp_path / "first.dcm", tmp_path / "second.dcm"
    done = CliRunner().invoke(cli, ["to-seg", str(tmp_path / "p"), "--out", str(first)])
    assert done.exit_code == 0, done.output
    assert "2 segments in" in done.output and "Brainstem:" in done.output
    done = CliRunner().invoke(cli, ["to-masks", str(tmp_path / "p"), "--out", str(second)])
    assert done.exit_code == 0, done.output
    grid = read_ct(tmp_path / "p" / "ct", with_pixels=False).grid
    expected = dict(read_masks(first, grid))
    assert int(expected["Brainstem"].sum()) == 3 * 16
    assert all(np.array_equal(expected[n], m) for n, m in read_masks(second, grid))
    done = CliRunner().invoke(
        cli, ["to-rtstruct", str(tmp_path / "p" / "ct"), str(first), "--out", str(tmp_path / "back.dcm")]
    )
    assert done.exit_code == 0, done.output
    masks = dict(iter_masks(tmp_path / "back.dcm", read_ct(tmp_path / "p" / "ct", with_pixels=False)))
    assert all(np.array_equal(expected[n], m) for n, m in masks.items()) and len(masks) == 2
    done = CliRunner().invoke(
        cli, ["to-seg", str(tmp_path / "p"), "--rois", "Liver", "--out", str(tmp_path / "none.dcm")]
    )
    assert done.exit_code == 3 and "Liver" in done.output


def test_names_that_a_segment_label_cannot_hold_are_written_otherwise_and_said(tmp_path: Path) -> None:
    ct = ct_of(tmp_path / "ct", axial(6))
    names = ["Heart ", "脊髄", "a\\b", "L" * 64 + "1", "L" * 64 + "2"]
    masks = {name: blob(ct.grid.shape_kij, n, n + 1) for n, name in enumerate(names)}
    np.savez(tmp_path / "masks.npz", **masks)
    out = tmp_path / "seg.dcm"
    done = CliRunner().invoke(
        cli, ["to-seg", str(tmp_path / "ct"), str(tmp_path / "masks.npz"), "--out", str(out)]
    )
    assert done.exit_code == 0, done.output
    assert "Heart: 19 voxels\n" in done.output and "a_b: 19 voxels, was a\\b" in done.output
    found = read(out, ct.grid)
    assert list(found)[:3] == ["Heart", "脊髄", "a_b"] and all(len(n) <= 64 for n in found)
    assert all(np.array_equal(a, b) for a, b in zip(found.values(), masks.values(), strict=True))


@pytest.mark.parametrize("command", ["to-rtstruct", "to-seg"])
def test_names_of_masks_come_without_spaces_at_their_ends_and_are_never_blank(
    command: str, tmp_path: Path
) -> None:
    ct = ct_of(tmp_path / "ct", axial(6))
    mask = blob(ct.grid.shape_kij, 1, 3)

    def run(*names: str) -> Result:
        np.savez(tmp_path / "masks.npz", **dict.fromkeys(names, mask))
        arguments = [command, str(tmp_path / "ct"), str(tmp_path / "masks.npz"), "--overwrite"]
        return CliRunner().invoke(cli, [*arguments, "--out", str(tmp_path / "out.dcm")])

    assert "Heart: " in run("Heart ").output
    assert run("L" * 70, "L" * 71).exit_code == 0
    for names, message in (((" ",), "has no name"), (("Heart", "Heart "), "same ROI name")):
        done = run(*names)
        assert done.exit_code == 3 and message in done.output


def test_to_masks_says_how_a_segmentation_becomes_contours(tmp_path: Path) -> None:
    ct = ct_of(tmp_path / "p" / "ct", axial(6))
    out = tmp_path / "seg.dcm"
    write_segmentation(out, [segment("A", blob(ct.grid.shape_kij, 1, 3))], ct)
    arguments = ["to-masks", str(tmp_path / "p"), "--rtstruct", str(out), "--out", str(tmp_path / "m.npz")]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 3 and "to-rtstruct" in done.output


def test_to_masks_replaces_a_segmentation_by_a_segmentation_and_nothing_else(tmp_path: Path) -> None:
    stack = axial(6)
    write_stack(tmp_path / "p" / "ct", stack)
    contours = write_structure_set(tmp_path / "p" / "rs.dcm", stack, {"A": box_contours(stack, [1, 2])})
    before = contours.read_bytes()

    def to_masks(target: Path) -> Result:
        arguments = ["to-masks", str(tmp_path / "p"), "--format", "seg", "--out", str(target), "--overwrite"]
        return CliRunner().invoke(cli, arguments)

    for _ in range(2):
        done = to_masks(tmp_path / "seg.dcm")
        assert done.exit_code == 0, done.output
    refused = to_masks(contours)
    assert refused.exit_code == 2 and "of another kind" in refused.output
    assert contours.read_bytes() == before


def test_without_highdicom_the_command_that_installs_it_fits_the_python(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 14, 0))
    assert '--no-deps "highdicom' in how_to_install_seg() and "pyjpegls" in how_to_install_seg()
    monkeypatch.setattr(sys, "version_info", (3, 13, 9))
    assert "contour-ai[seg]" in how_to_install_seg()
