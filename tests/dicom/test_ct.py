"""Reading CT series: every geometry, every form of pixels, and what is refused, with its message."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian
from synthetic import Stack, axial, compress, ct_slice, hu_at, tilted, uid, write_enhanced, write_stack

from contour_ai.dicom.ct import CTSeries, read_ct, refuse_missing_slices
from contour_ai.dicom.slices import missing_slices
from contour_ai.errors import GeometryError, InputError

COS15, SIN15 = float(np.cos(np.radians(15))), float(np.sin(np.radians(15)))


def assert_every_voxel_at_its_place(ct: CTSeries) -> None:
    """The image says for every voxel where it lies; the grid must say the same."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in ct.grid.shape_kij), indexing="ij"), axis=-1)
    np.testing.assert_array_equal(ct.volume.hu, hu_at(ct.grid.index_to_lps(index)))


STACKS = {
    "head first supine": axial(),
    "head first prone": tilted((-1, 0, 0), (0, -1, 0)),
    "feet first supine": tilted((-1, 0, 0), (0, 1, 0)),
    "feet first prone": tilted((1, 0, 0), (0, -1, 0)),
    "decubitus": tilted((0, 1, 0), (-1, 0, 0)),
    "coronal": tilted((1, 0, 0), (0, 0, -1)),
    "sagittal": tilted((0, 1, 0), (0, 0, -1)),
    "non-square pixels": axial(spacing_ij_mm=(1.0, 2.0), shape_ij=(10, 14)),
    "odd matrix": axial(shape_ij=(11, 11)),
    "signed": axial(signed=True, intercept=0.0),
    "unsigned": axial(signed=False, intercept=-2000.0),
    "non-uniform": replace(axial(6), positions_lps=np.array([[0, 0, z] for z in (0.0, 3, 7, 9, 14, 15)])),
    "two zones": replace(
        axial(9), positions_lps=np.array([[0, 0, z] for z in (0.0, 2, 4, 6, 8, 12, 16, 20, 24)])
    ),
    "gantry tilt": replace(
        tilted((1, 0, 0), (0, 1, 0)), positions_lps=np.array([[0.0, 1.0 * k, 4.0 * k] for k in range(6)])
    ),
    "single slice": axial(1),
}


@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS.keys())
def test_every_voxel_is_at_its_place(tmp_path: Path, stack: Stack) -> None:
    write_stack(tmp_path, stack)
    ct = read_ct(tmp_path)
    assert_every_voxel_at_its_place(ct)
    assert ct.volume.hu.dtype == np.int16
    assert ct.sop_instance_uids == tuple(
        uid(stack.series, "slice", k) for k in range(len(stack.positions_lps))
    )
    assert ct.grid.frame_of_reference_uid == uid("frame 1")
    assert ct.grid.spacing_mm[1:] == stack.spacing_ij_mm


def test_oblique_series(tmp_path: Path) -> None:
    stack = tilted((COS15, 0, SIN15), (0, 1, 0))
    write_stack(tmp_path, stack)
    ct = read_ct(tmp_path)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in ct.grid.shape_kij), indexing="ij"), axis=-1)
    written = np.stack([stack.points_lps(k) for k in range(5)])
    np.testing.assert_allclose(ct.grid.index_to_lps(index), written, atol=1e-6)
    np.testing.assert_array_equal(ct.volume.hu, hu_at(written))
    assert ct.grid.is_regular
    assert ct.notes == ()


def test_header_is_that_of_the_first_slice_along_the_normal(tmp_path: Path) -> None:
    write_stack(tmp_path, axial())
    ct = read_ct(tmp_path)
    assert ct.header.InstanceNumber == 1
    assert ct.header.StudyID == "1"
    assert "PixelData" not in ct.header
    assert ct.patient_id == "P1"
    assert ct.series_instance_uid == uid("series A")
    assert [p.name for p in ct.paths] == [f"CT{n:03d}.dcm" for n in (5, 4, 3, 2, 1)]


def test_without_pixels(tmp_path: Path) -> None:
    write_stack(tmp_path, axial())
    ct = read_ct(tmp_path, with_pixels=False)
    assert ct.volume is None
    assert ct.grid.shape_kij == (5, 12, 10)


def test_unusual_stacks_are_noted(tmp_path: Path) -> None:
    write_stack(tmp_path / "a", STACKS["non-uniform"])
    assert read_ct(tmp_path / "a").notes == (
        "the slices are not equally spaced (1 to 5 mm); each is used at its own position",
    )
    write_stack(tmp_path / "b", STACKS["gantry tilt"])
    (note,) = read_ct(tmp_path / "b").notes
    assert note.startswith("the stack is sheared by 14.0 degrees (gantry tilt)")

    def bare(k: int, d: Dataset) -> None:
        d.SOPInstanceUID = d.SOPClassUID = ""
        del d.FrameOfReferenceUID, d.RescaleSlope

    write_stack(tmp_path / "c", axial(), bare)
    assert [n.split(":")[0] for n in read_ct(tmp_path / "c").notes] == [
        "slices without RescaleSlope or RescaleIntercept",
        "slices without SOPInstanceUID",
        "no FrameOfReferenceUID",
    ]


def test_slices_that_share_a_sop_instance_uid_are_noted(tmp_path: Path) -> None:
    write_stack(tmp_path, axial(), lambda k, d: setattr(d, "SOPInstanceUID", "1.2.3"))
    ct = read_ct(tmp_path)
    assert_every_voxel_at_its_place(ct)
    assert ct.notes == ("slices that share a SOPInstanceUID: contours are placed by position alone",)


# -- pixels ----------------------------------------------------------------------------------------------------

SYNTAXES = (
    "JPEGLosslessProcess14",
    "JPEGLosslessProcess14_1",
    "JPEGLSLossless",
    "JPEG2000Lossless",
    "RLELossless",
)


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_compressed_pixels_decode_exactly(tmp_path: Path, syntax: str, signed: bool) -> None:
    stack = axial(3, signed=signed, intercept=-100.0 if signed else -1024.0, shape_ij=(32, 24))
    for path in write_stack(tmp_path, stack):
        size = path.stat().st_size
        compress(path, syntax)
        assert dcmread(path).file_meta.TransferSyntaxUID.is_compressed
        assert path.stat().st_size != size
    ct = read_ct(tmp_path)
    assert_every_voxel_at_its_place(ct)


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
    ids=lambda s: s.name,
)
def test_uncompressed_transfer_syntaxes(tmp_path: Path, syntax: str) -> None:
    stack, little = axial(), syntax != ExplicitVRBigEndian
    for k in range(5):
        d = Dataset(ct_slice(stack, k))
        d.file_meta = FileMetaDataset()
        d.file_meta.TransferSyntaxUID = syntax
        if not little:
            d.PixelData = np.frombuffer(d.PixelData, np.uint16).byteswap().tobytes()
        d.save_as(tmp_path / f"{k}", implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=little)
    assert_every_voxel_at_its_place(read_ct(tmp_path))


def test_rescale_is_that_of_each_slice(tmp_path: Path) -> None:
    def another(k: int, d: Dataset) -> None:
        if k == 2:
            stored = np.frombuffer(d.PixelData, np.uint16)
            d.PixelData = (stored + 76).astype(np.uint16).tobytes()
            d.RescaleIntercept = "-1100"

    write_stack(tmp_path, axial(), another)
    assert_every_voxel_at_its_place(read_ct(tmp_path))


@pytest.mark.parametrize(
    ("slope", "intercept"), [(2.0, -70001.0), (-1.0, 33000.0), (-3.0, 0.0), (1.0, -40000.0)]
)
def test_whole_slopes_and_intercepts_of_any_size(tmp_path: Path, slope: float, intercept: float) -> None:
    def unlike(k: int, d: Dataset) -> None:
        d.RescaleSlope, d.RescaleIntercept = slope, intercept
        stored = np.arange(120).reshape(12, 10) + (np.uint16(35000) if intercept < 0 else 0)
        d.PixelData = stored.astype(np.uint16).tobytes()

    write_stack(tmp_path, axial(), unlike)
    ct = read_ct(tmp_path)
    expected = (np.arange(120).reshape(12, 10) + (35000 if intercept < 0 else 0)) * slope + intercept
    np.testing.assert_array_equal(ct.volume.hu[2], expected)
    assert ct.volume.hu.dtype == (np.int16 if np.abs(expected).max() < 32768 else np.float32)


def test_fractional_slope_gives_float32(tmp_path: Path) -> None:
    write_stack(tmp_path, axial(slope=0.5))
    ct = read_ct(tmp_path)
    assert ct.volume.hu.dtype == np.float32
    assert_every_voxel_at_its_place(ct)


def test_values_too_large_for_int16_give_float32(tmp_path: Path) -> None:
    write_stack(tmp_path, axial(intercept=-1024.0), lambda k, d: setattr(d, "RescaleIntercept", "40000"))
    ct = read_ct(tmp_path)
    assert ct.volume.hu.dtype == np.float32
    assert ct.volume.hu[0, 0, 0] == hu_at(ct.grid.index_to_lps((0, 0, 0))) + 41024


def test_bits_beside_the_stored_ones_are_removed_and_the_sign_extended(tmp_path: Path) -> None:
    def twelve_bits(k: int, d: Dataset) -> None:
        stored = np.frombuffer(d.PixelData, np.int16)
        assert np.abs(stored).max() < 2048
        d.PixelData = ((stored & 0x0FFF) | 0x5000).astype(np.uint16).tobytes()
        d.BitsStored, d.HighBit = 12, 11

    write_stack(tmp_path, axial(signed=True, intercept=0.0), twelve_bits)
    assert_every_voxel_at_its_place(read_ct(tmp_path))


def test_enhanced_multi_frame(tmp_path: Path) -> None:
    stack = axial(4)
    write_enhanced(tmp_path / "enhanced", stack, [2, 0, 3, 1])
    ct = read_ct(tmp_path)
    assert_every_voxel_at_its_place(ct)
    assert ct.frame_numbers == (2, 4, 1, 3)
    assert len(set(ct.sop_instance_uids)) == 1


def test_multi_frame_without_positions_is_refused(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "enhanced.dcm", axial(4), range(4))
    d = dcmread(path)
    del d.PerFrameFunctionalGroupsSequence
    d.save_as(path)
    with pytest.raises(InputError, match="does not say where each of its frames lies") as caught:
        read_ct(tmp_path)
    assert "0 frame positions for 4 frames" in str(caught.value)


# -- dirty files -----------------------------------------------------------------------------------------------


def test_files_without_suffix_preamble_and_meta(tmp_path: Path) -> None:
    for n, path in enumerate(write_stack(tmp_path, axial())):
        d = dcmread(path)
        path.unlink()
        plain = Dataset({tag: d[tag] for tag in d.keys()})  # noqa: SIM118 - a data set, not a dict
        plain.save_as(tmp_path / f"IM{n}", implicit_vr=n % 2 == 0, little_endian=True)
    assert_every_voxel_at_its_place(read_ct(tmp_path))


def test_empty_patient_position_and_no_study_id(tmp_path: Path) -> None:
    def bare(k: int, d: Dataset) -> None:
        d.PatientPosition = ""
        del d.StudyID, d.ImageType, d.SliceThickness

    write_stack(tmp_path, axial(), bare)
    assert_every_voxel_at_its_place(read_ct(tmp_path))


def test_truncated_pixels_are_refused(tmp_path: Path) -> None:
    path = write_stack(tmp_path, axial())[2]
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match="cut short: it has too few pixels") as caught:
        read_ct(tmp_path)
    text = str(caught.value)
    assert str(path) in text
    assert "found: 230 bytes of pixels" in text
    assert "expected: 240" in text
    assert "export this file again" in text


def test_truncated_pixels_are_noticed_without_reading_them(tmp_path: Path) -> None:
    path = write_stack(tmp_path, axial())[2]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="cut short: it has too few pixels") as caught:
        read_ct(tmp_path, with_pixels=False)
    assert str(path) in str(caught.value)


def test_truncated_compressed_pixels_are_refused(tmp_path: Path) -> None:
    path = write_stack(tmp_path, axial(3, shape_ij=(32, 24)))[1]
    compress(path, "JPEGLSLossless")
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(InputError, match=r"cut short before their end|damaged|cannot be decoded") as caught:
        read_ct(tmp_path)
    assert str(path) in str(caught.value)


def test_truncated_header_is_refused(tmp_path: Path) -> None:
    path = write_stack(tmp_path, axial())[2]
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"\x20\x00\x32\x00DS") + 20])
    with pytest.raises(InputError) as caught:
        read_ct(tmp_path)
    assert str(path) in str(caught.value)
    assert "ImagePositionPatient" in str(caught.value) or "damaged" in str(caught.value)


def test_missing_pixels_are_refused(tmp_path: Path) -> None:
    write_stack(tmp_path, axial(), lambda k, d: d.pop("PixelData") if k == 1 else None)
    with pytest.raises(InputError, match=r"too few pixels(.|\n)*at most 0 bytes"):
        read_ct(tmp_path)


def test_slice_without_position_is_refused(tmp_path: Path) -> None:
    paths = write_stack(tmp_path, axial(), lambda k, d: d.pop("ImagePositionPatient") if k == 1 else None)
    with pytest.raises(InputError, match="no usable ImagePositionPatient") as caught:
        read_ct(tmp_path)
    assert str(paths[1]) in str(caught.value)


def test_color_pictures_are_refused(tmp_path: Path) -> None:
    def colored(k: int, d: Dataset) -> None:
        d.SamplesPerPixel = 3

    write_stack(tmp_path, axial(), colored)
    with pytest.raises(InputError, match="no CT image that can be read") as caught:
        read_ct(tmp_path)
    assert "3 samples a pixel" in str(caught.value)


# -- one stack -------------------------------------------------------------------------------------------------


def test_slice_that_is_there_twice_is_used_once(tmp_path: Path) -> None:
    paths = write_stack(tmp_path, axial())
    (tmp_path / "copy of CT003.dcm").write_bytes(paths[2].read_bytes())
    ct = read_ct(tmp_path)
    assert_every_voxel_at_its_place(ct)
    assert len(ct.notes) == 1
    assert "shows the same slice as CT003.dcm and was left out" in ct.notes[0]


def test_series_that_is_there_twice_is_used_once(tmp_path: Path) -> None:
    write_stack(tmp_path / "one", axial())
    write_stack(tmp_path / "two", axial())
    ct = read_ct(tmp_path)
    assert_every_voxel_at_its_place(ct)
    assert len(ct.notes) == 4
    assert ct.notes[3] == "2 more slices are there twice and were used once"


def test_two_images_at_one_place_are_refused(tmp_path: Path) -> None:
    stack = axial()
    write_stack(tmp_path, stack)
    d = ct_slice(stack, 2)
    d.SOPInstanceUID = uid("another")
    d.PixelData = bytes(len(d.PixelData))
    d.save_as(tmp_path / "phase 2.dcm", enforce_file_format=True)
    with pytest.raises(GeometryError, match="Different images lie at the same place") as caught:
        read_ct(tmp_path)
    text = str(caught.value)
    assert "CT003.dcm" in text and "phase 2.dcm" in text
    assert "one acquisition" in text


def without(folder: Path, stack: Stack, *missing: int) -> CTSeries:
    for k, path in enumerate(write_stack(folder, stack)):
        if k in missing:
            path.unlink()
    return read_ct(folder)


def test_around_missing_slices_the_others_keep_their_places(tmp_path: Path) -> None:
    ct = without(tmp_path, axial(12), 3, 7, 8)
    assert_every_voxel_at_its_place(ct)
    # z = -50 + 3 k of the whole series
    assert ct.grid.slice_offsets_mm.tolist() == [-50, -47, -44, -38, -35, -32, -23, -20, -17]
    assert [(gap.missing, gap.width_mm) for gap in ct.gaps] == [(1, 6.0), (2, 9.0)]
    (note,) = ct.notes
    assert note.startswith(
        "3 slice(s) are missing: 1 between CT010.dcm (instance 3, position -20, -30, -44 mm) and CT008.dcm (instance 5"
    )
    assert "2 between CT006.dcm (instance 7" in note
    assert note.endswith("9 mm apart, elsewhere 3 mm; the others keep their own positions")


def test_missing_slices_are_refused_where_the_image_must_be_whole(tmp_path: Path) -> None:
    with pytest.raises(GeometryError, match=r"3 slice\(s\) of this CT series are missing") as caught:
        refuse_missing_slices(without(tmp_path, axial(12), 3, 7, 8))
    text = str(caught.value)
    assert "1 between CT010.dcm (instance 3, position -20, -30, -44 mm) and CT008.dcm (instance 5" in text
    assert "9 mm apart" in text
    assert "3 mm between slices" in text
    assert "export or copy the whole series again; to-masks, to-rtstruct and check work" in text


def test_one_thin_slice_missing_is_refused_and_a_whole_series_is_not(tmp_path: Path) -> None:
    refuse_missing_slices(without(tmp_path / "none", axial(5)))
    with pytest.raises(GeometryError, match=r"1 slice\(s\)"):
        refuse_missing_slices(without(tmp_path / "one", axial(12, spacing_mm=1.25), 4))


@pytest.mark.parametrize(
    ("heights", "expected"),
    [
        ([0, 1, 2, 3], {}),
        ([0, 1, 3, 4], {1: 1}),
        ([0, 1, 2, 5, 6], {2: 2}),
        ([0, 3], {}),
        ([0, 3, 9], {1: 1}),
        ([0, 2, 4, 6, 10, 14, 18], {}),  # a coarser part
        ([0, 2, 4, 6, 10, 14, 16], {3: 1, 4: 1}),
        ([0, 2, 3, 7, 8.5], {}),  # simply unequal
        ([0, 3, 7, 9, 14, 15], {}),
        ([0, 0.8, 1.6, 3.2, 4.0], {2: 1}),
        ([0, 2.4, 4.9, 7.3, 12.2, 14.6], {3: 1}),  # positions rounded to 0.1 mm
        ([0], {}),
    ],
)
def test_missing_slices(heights: list[float], expected: dict[int, int]) -> None:
    assert missing_slices(np.array(heights, float)) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Rows": 6, "Columns": 20}, "differ in image size"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, "differ in direction"),
        ({"PixelSpacing": [1, 1]}, "differ in pixel spacing"),
        ({"FrameOfReferenceUID": "1.2.3"}, "differ in frame of reference"),
    ],
)
def test_a_slice_unlike_the_others_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    def spoil(k: int, d: Dataset) -> None:
        if k == 3:
            for name, value in change.items():
                setattr(d, name, value)

    paths = write_stack(tmp_path, axial(), spoil)
    with pytest.raises(GeometryError, match=message) as caught:
        read_ct(tmp_path)
    assert str(paths[3]) in str(caught.value)
    assert "as in the other 4 slices" in str(caught.value)


def test_directions_that_are_no_unit_vectors_are_refused(tmp_path: Path) -> None:
    write_stack(tmp_path, axial(), lambda k, d: setattr(d, "ImageOrientationPatient", [1, 0, 0, 0, 0.5, 0]))
    with pytest.raises(GeometryError, match="no unit vectors at a right angle"):
        read_ct(tmp_path)


def test_progress_counts_files(tmp_path: Path) -> None:
    write_stack(tmp_path, axial())
    events = []
    read_ct(tmp_path, on_progress=events.append)
    assert [(e.stage, e.done, e.total) for e in events if e.done == 5] == [
        ("reading CT headers", 5, 5),
        ("reading CT", 5, 5),
    ]
