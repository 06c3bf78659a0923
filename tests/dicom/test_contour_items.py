"""Contours from the bytes of a file: what pydicom and float would make of them, only faster."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydicom.dataset import FileDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from synthetic import axial, box_contours, structure_set, uid

from contour_ai.dicom.contour_items import numbers_of, raw_contours, uid_in
from contour_ai.dicom.rtstruct_read import load_structure_set

STACK = axial(8)
DECIMALS = st.decimals(-(10**6), 10**6, allow_nan=False, allow_infinity=False, places=6).map(str)


@settings(max_examples=50)
@given(
    st.lists(
        st.lists(DECIMALS | st.from_regex(r"-?[0-9]{1,6}\.?", fullmatch=True), min_size=3, max_size=9).map(
            lambda texts: texts[: len(texts) // 3 * 3]
        ),
        max_size=4,
    )
)
def test_plain_decimals_are_what_float_makes_of_them(contours: list[list[str]]) -> None:
    found = numbers_of(["\\".join(texts).encode() for texts in contours])
    assert [v.values.tolist() for v in found] == [list(map(float, texts)) for texts in contours]
    assert not any(v.wrong or v.repair for v in found)


@given(st.lists(st.text("01289.-+e \\_n,", max_size=8).map(str.encode), max_size=3))
@example([b"."])
@example([b".-7", b"1.5"])
@example([b"--1"])
@example([b"1\\-", b"2"])
@example([b"1\\2\\3_0"])
@example([b"1\\2\\nan"])
def test_what_is_read_of_anything_else_is_what_float_makes_of_it(texts: list[bytes]) -> None:
    for text, found in zip(texts, numbers_of(texts), strict=True):
        if found.wrong:
            assert not len(found.values)
        else:
            plain = text.strip(b"\\ ").replace(b",", b".")
            assert found.values.tolist() == ([float(t) for t in plain.split(b"\\")] if plain else [])


@pytest.mark.parametrize(
    ("text", "values", "repair"),
    [
        (b"1\\2\\3\\", [1, 2, 3], "without the backslash at its end"),
        (b"1\\2\\3\\\\ ", [1, 2, 3], "without the backslash at its end"),
        (b"1,5\\-2,25\\3", [1.5, -2.25, 3], "with decimal commas for points"),
        (b"1,5\\2\\3\\", [1.5, 2, 3], "without the backslash at its end and with decimal commas for points"),
        (b"-3_1\\2\\3", [-31, 2, 3], "without the underscores between digits"),
        (b"1.5e+1\\-2E0\\+3", [15, -2, 3], ""),
        (b" 1 \\\r\n2\\3.", [1, 2, 3], ""),
    ],
)
def test_numbers_that_can_only_mean_one_thing_are_read(text: bytes, values: list[float], repair: str) -> None:
    (found,) = numbers_of([text])
    assert (found.values.tolist(), found.repair, found.wrong) == (values, repair, "")


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (b"1\\2\\3_", "'3_' is no number"),
        (b"1\\2\\_3", "'_3' is no number"),
        (b"1\\2\\nan", "'nan' is no number"),
        (b"1\\\\3", "a number is missing"),
        (b"1,5\\2.5\\3", "'1,5' is no number"),
        (b"1,234.5\\2\\3", "'1,234.5' is no number"),
        (b"1,2,3\\2\\3", "'1,2,3' is no number"),
        (b"1\\2\\3\\4\\5", "5 numbers, which is not a multiple of 3"),
        (b"\\1\\2", "2 numbers, which is not a multiple of 3"),
        (b"1\\2\\1e400", "a coordinate is not a finite number"),
        (b"1\\2\\-1e308", "a coordinate is -1e+308 mm"),
    ],
)
def test_other_numbers_are_named(text: bytes, wrong: str) -> None:
    (found,) = numbers_of([text])
    assert (found.wrong, len(found.values)) == (wrong, 0)


def undefined_sequences(data_set: FileDataset) -> None:
    for roi in data_set.ROIContourSequence:
        roi["ContourSequence"].is_undefined_length = True


def undefined_items(data_set: FileDataset) -> None:
    for roi in data_set.ROIContourSequence:
        for contour in roi.ContourSequence:
            contour.is_undefined_length_sequence_item = True


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("edit", [lambda d: None, undefined_sequences, undefined_items])
def test_every_encoding_of_sequences(
    syntax: str, edit: Callable[[FileDataset], None], tmp_path: Path
) -> None:
    rois = {"A": box_contours(STACK, [2, 5]), "B": box_contours(STACK, [3], half_mm=7.125)}
    data_set = structure_set(STACK, rois)
    for n, contour in enumerate(data_set.ROIContourSequence[0].ContourSequence):
        image = pydicom.Dataset()
        image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = "1.2.3", uid("slice", n)
        contour.ContourImageSequence = [image]
    edit(data_set)
    data_set.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(tmp_path / "rs.dcm", data_set, enforce_file_format=True)
    read = load_structure_set(tmp_path / "rs.dcm")
    assert read.notes == ()
    for roi, contours in zip(read.rois, rois.values(), strict=True):
        for found, points in zip(roi.contours, contours, strict=True):
            assert np.allclose(found.points_lps, points, atol=1e-9)
            assert found.geometric_type == "CLOSED_PLANAR"
    assert [c.image_uid for c in read.rois[0].contours] == [uid("slice", 0), uid("slice", 1)]
    assert read.rois[1].contours[0].image_uid == ""


def test_bytes_that_are_no_sequence_are_left_to_pydicom(tmp_path: Path) -> None:
    structure_set(STACK, {"A": box_contours(STACK, [2])}).save_as(tmp_path / "rs.dcm")
    sequence = pydicom.dcmread(tmp_path / "rs.dcm").ROIContourSequence[0].get_item("ContourSequence")
    assert raw_contours(sequence) is not None
    for value in (sequence.value[:-1], sequence.value + b"\0", b"\1" * len(sequence.value), None):
        assert raw_contours(sequence._replace(value=value)) is None
    assert uid_in(b"\x08\x00\x55\x11UI\x04\x00no\0\0") is None
