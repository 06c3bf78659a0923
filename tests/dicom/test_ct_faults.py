"""Faults of real CT exports: used with a note where they mean one thing, refused by name where they cannot be true."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from synthetic import Stack, axial, hu_at, uid, write_stack

from contour_ai.cli.main import cli
from contour_ai.dicom.ct import read_ct
from contour_ai.errors import GeometryError, InputError

STACK = axial()
EXPECTED = [hu_at(STACK.points_lps(k)) for k in range(5)]


def raw(d: Dataset, keyword: str, vr: str, value: bytes) -> None:
    """An element with any bytes under any VR."""
    value += b" " * (len(value) % 2)
    d["PixelData"].VR = "OW"
    d[Tag(keyword)] = RawDataElement(
        Tag(keyword), vr, len(value), value, 0, is_implicit_VR=False, is_little_endian=True
    )
    d.set_original_encoding(False, True, d._character_set)


def spoil(keyword: str, vr: str, value: bytes) -> Callable[[int, Dataset], None]:
    return lambda k, d: raw(d, keyword, vr, value)


# -- used with a note --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keyword", "written", "note"),
    [
        (
            "SliceThickness",
            b"3,0",
            "SliceThickness is written '3,0' and is taken for numbers with a decimal comma, 3",
        ),
        ("SliceThickness", b"None", "SliceThickness is 'None', not a number of mm, and is not used"),
        ("SliceThickness", b"-3", "SliceThickness is '-3', not a number of mm, and is not used"),
        ("RescaleIntercept", b"-1024,0", "RescaleIntercept is written '-1024,0'"),
        ("RescaleSlope", b"1,0", "RescaleSlope is written '1,0'"),
        ("PixelSpacing", b"2,0\\2,0", "PixelSpacing is written '2,0"),
        ("InstanceNumber", b"--5", None),
        ("InstanceNumber", b"1.0", None),
        ("InstanceNumber", b"\xb2", None),
        ("AcquisitionNumber", b"one", None),
    ],
)
def test_odd_numbers_are_used_or_left_out_with_a_note(
    tmp_path: Path, keyword: str, written: bytes, note: str | None
) -> None:
    write_stack(tmp_path, STACK, spoil(keyword, "DS", written))
    ct = read_ct(tmp_path)
    assert ct.volume is not None and np.array_equal(ct.volume.hu, EXPECTED)
    if note is None:
        assert ct.notes == ()
    else:
        (found,) = ct.notes
        assert found.startswith("5 slice(s): ") and note in found


def test_numbers_under_another_vr_are_read(tmp_path: Path) -> None:
    def edit(k: int, d: Dataset) -> None:
        raw(d, "Rows", "LO", b"12")
        raw(d, "SliceThickness", "FD", np.float64(3).tobytes())
        raw(d, "RescaleIntercept", "LO", b"-1024")
        raw(d, "PixelSpacing", "FL", np.float32([2, 2]).tobytes())

    write_stack(tmp_path, STACK, edit)
    ct = read_ct(tmp_path)
    assert ct.volume is not None and np.array_equal(ct.volume.hu, EXPECTED) and ct.notes == ()


@pytest.mark.parametrize("digits", [0.0, 0.004, 0.04])
def test_a_slice_exported_twice_with_other_digits_is_used_once(tmp_path: Path, digits: float) -> None:
    write_stack(tmp_path, STACK)

    def again(k: int, d: Dataset) -> None:
        d.SOPInstanceUID = uid("again", k)
        x, y, z = STACK.positions_lps[k]
        d.ImagePositionPatient = [x, y, z + digits]

    write_stack(tmp_path, STACK, again, stem="again")
    ct = read_ct(tmp_path)
    assert ct.grid.shape_kij[0] == 5
    assert all("twice" in note for note in ct.notes) and len(ct.notes) == 4
    assert "2 more slices are there twice" in ct.notes[-1]


def test_other_images_at_nearly_one_place_are_refused(tmp_path: Path) -> None:
    write_stack(tmp_path, STACK)
    shifted = Stack(STACK.positions_lps + np.array([0, 0, 0.04]))

    def other(k: int, d: Dataset) -> None:
        d.SOPInstanceUID = uid("other", k)
        d.PixelData = (np.frombuffer(d.PixelData, np.uint16) + 9).tobytes()

    write_stack(tmp_path, shifted, other, stem="other")
    with pytest.raises(GeometryError, match="Different images lie at the same place"):
        read_ct(tmp_path)


def test_fewer_slices_than_the_files_promise_are_noted(tmp_path: Path) -> None:
    paths = write_stack(tmp_path, STACK, lambda k, d: setattr(d, "ImagesInAcquisition", 5))
    assert read_ct(tmp_path).notes == ()
    paths[-1].unlink()
    (note,) = read_ct(tmp_path).notes
    assert note.startswith("4 of 5 slices of the acquisition are here (ImagesInAcquisition)")


# -- refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keyword", "vr", "value", "message"),
    [
        ("PixelSpacing", "DS", b"100000\\100000", "a pixel size"),
        ("PixelSpacing", "DS", b"0.000001\\0.000001", "a pixel size"),
        ("PixelSpacing", "DS", b"30\\30", "a pixel size"),
        ("PixelSpacing", "DS", b"-2\\2", "a pixel size"),
        ("PixelSpacing", "DS", b"nan\\2", "no usable PixelSpacing"),
        ("PixelSpacing", "DS", b"2", "no usable PixelSpacing"),
        ("Rows", "US", b"\xff\xff", "an image size"),
        ("Columns", "US", b"\0\0", "an image size"),
        ("RescaleSlope", "DS", b"inf", "no usable RescaleSlope"),
        ("RescaleSlope", "DS", b"nan", "no usable RescaleSlope"),
        ("RescaleSlope", "DS", b"0", "a RescaleSlope"),
        ("RescaleSlope", "DS", b"1e30", "a RescaleSlope"),
        ("RescaleIntercept", "DS", b"-1,024", "no usable RescaleIntercept"),
        ("RescaleIntercept", "DS", b"1e300", "a RescaleIntercept"),
        ("ImagePositionPatient", "DS", b"0\\0\\1e308", "a position"),
        ("ImagePositionPatient", "DS", b"0\\0\\inf", "no usable ImagePositionPatient"),
        ("ImageOrientationPatient", "DS", b"1e300\\0\\0\\0\\1\\0", "no unit vectors"),
        ("NumberOfFrames", "IS", b"2000000000", "cut short"),
        ("NumberOfFrames", "IS", b"-7", "damaged"),
        ("NumberOfFrames", "IS", b"many", "damaged"),
        ("BitsAllocated", "US", b"\xff\xff", "cut short"),
        ("SOPInstanceUID", "UI", b"1.2.\xe9\xff", "damaged"),
        ("FrameOfReferenceUID", "UI", b"1.2.\xe9\xff", "damaged"),
        ("StudyInstanceUID", "UI", b"1.2\\1.3", "damaged"),
    ],
)
def test_what_no_ct_can_have_is_refused_before_memory_is_taken(
    tmp_path: Path, keyword: str, vr: str, value: bytes, message: str
) -> None:
    write_stack(tmp_path / "ct", STACK, spoil(keyword, vr, value))
    tracemalloc.start()
    with pytest.raises(InputError, match=message):
        read_ct(tmp_path / "ct")
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
    np.savez(tmp_path / "m.npz", A=np.ones((5, 12, 10), bool))
    for command in (
        ["inspect", tmp_path / "ct"],
        ["to-rtstruct", tmp_path / "ct", tmp_path / "m.npz", "--out", tmp_path / "rs.dcm"],
    ):
        result = CliRunner().invoke(cli, list(map(str, command)), prog_name="contour-ai")
        assert result.exit_code == 3, result.output
    assert not (tmp_path / "rs.dcm").exists()


def test_a_deflated_file_that_would_fill_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deflate(k: int, d: Dataset) -> None:
        d.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
        d.PatientComments = "a" * 500_000

    write_stack(tmp_path, STACK, deflate)
    assert read_ct(tmp_path).volume is not None
    monkeypatch.setattr("contour_ai.dicom.header.MOST_INFLATED_BYTES", 100_000)
    with pytest.raises(InputError, match="There is no CT series here") as caught:
        read_ct(tmp_path)
    assert "it is deflated and holds more than" in str(caught.value)


# -- padding -----------------------------------------------------------------------------------------------------


def padded(
    folder: Path, value: int, *, signed: bool, vr: str, intercept: float = -1024.0, limit: int | None = None
):
    """Slices with padding in a frame two pixels wide, and the same value in one pixel within; read as HU."""
    stack = axial(shape_ij=(12, 10), signed=signed, intercept=intercept)
    written = np.int16(np.uint16(value % 65536).astype(np.int16)) if signed else np.uint16(value % 65536)

    def edit(k: int, d: Dataset) -> None:
        stored = np.full((12, 10), 40 - int(intercept), np.int16 if signed else np.uint16)
        stored[:2] = stored[-2:] = stored[:, :2] = stored[:, -2:] = written
        stored[6, 5] = written
        d.PixelData = stored.tobytes()
        form = "<i2" if vr == "SS" else "<u2"
        raw(d, "PixelPaddingValue", vr, np.array(value % 65536, "<u2").view(form).tobytes())
        if limit is not None:
            raw(d, "PixelPaddingRangeLimit", vr, np.array(limit % 65536, "<u2").view(form).tobytes())

    write_stack(folder, stack, edit)
    return read_ct(folder)


@pytest.mark.parametrize(
    ("value", "signed", "vr"),
    [(65535, False, "US"), (65535, False, "SS"), (30000, True, "SS"), (30000, True, "US"), (-1, True, "US")],
)
def test_padding_at_the_edge_is_air_whatever_its_vr(
    tmp_path: Path, value: int, signed: bool, vr: str
) -> None:
    ct = padded(tmp_path, value, signed=signed, vr=vr, intercept=0.0 if value < 0 else -1024.0)
    assert ct.volume is not None and ct.volume.hu[0, 5, 4] == 40
    edge = np.ones((12, 10), bool)
    edge[2:-2, 2:-2] = False
    assert (ct.volume.hu[:, edge] == -1000).all()
    assert (ct.volume.hu[:, 6, 5] != -1000).all()  # the same value within the body is a density
    assert ct.notes == (
        f"padding (PixelPaddingValue {value}) connected to the edge of the image was read as air, on 5 slice(s)",
    )


def test_a_padding_of_water_within_the_body_stays_water(tmp_path: Path) -> None:
    ct = padded(tmp_path, 0, signed=True, vr="US", intercept=0.0)
    assert ct.volume is not None and ct.volume.hu.dtype == np.int16
    assert (ct.volume.hu[:, 0] == -1000).all() and (ct.volume.hu[:, 6, 5] == 0).all()


def test_a_range_of_padding_is_air(tmp_path: Path) -> None:
    ct = padded(tmp_path, 65000, signed=False, vr="US", limit=65535)
    assert ct.volume is not None and (ct.volume.hu[:, 0] == -1000).all()
    assert "PixelPaddingValue 65000 to 65535" in ct.notes[0]


def test_padding_that_is_air_already_is_left_as_stored_without_a_note(tmp_path: Path) -> None:
    ct = padded(tmp_path, -2000, signed=True, vr="SS", intercept=0.0)
    assert ct.volume is not None and (ct.volume.hu[:, 0] == -2000).all() and ct.notes == ()


@pytest.mark.parametrize("vr", ["LE", "\x53\x02"])
def test_a_vr_that_does_not_exist_is_no_crash(tmp_path: Path, vr: str) -> None:
    """One flipped byte in an element that plays no part in where a slice lies."""
    write_stack(tmp_path / "ct", STACK, lambda k, d: setattr(d, "PatientPosition", "HFS"))
    for path in (tmp_path / "ct").iterdir():
        data = path.read_bytes()
        for element in (b"\x10\x00\x20\x00LO", b"\x18\x00\x00\x51CS"):
            assert data.count(element) == 1
            data = data.replace(element, element[:4] + vr.encode("latin-1"))
        path.write_bytes(data)
    np.savez(tmp_path / "m.npz", A=np.ones((5, 12, 10), bool))
    for command in (
        ["inspect", tmp_path / "ct"],
        ["to-rtstruct", tmp_path / "ct", tmp_path / "m.npz", "--out", tmp_path / "rs.dcm"],
    ):
        result = CliRunner().invoke(cli, list(map(str, command)), prog_name="contour-ai")
        assert result.exit_code in (0, 3), result.output
