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


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.lists(DECIMALS | st.from_regex(r"-?[0-9]{1,15}\.?", fullmatch=True), min_size=1, max_size=9),
        max_size=4,
    )
)
def test_plain_decimals_are_what_float_makes_of_them(contours: list[list[str]]) -> None:
    found = numbers_of(["\\".join(texts).encode() for texts in contours])
    assert [v.tolist() for v in found] == [list(map(float, texts)) for texts in contours]


@settings(deadline=None)
@given(st.lists(st.text("01289.-+e \\", max_size=8).map(str.encode), max_size=3))
@example([b"."])
@example([b".-7", b"1.5"])
@example([b"--1"])
@example([b"1\\-", b"2"])
def test_anything_else_is_what_float_makes_of_it_too(texts: list[bytes]) -> None:
    for text, found in zip(texts, numbers_of(texts), strict=True):
        try:
            expected = [float(t) for t in text.split(b"\\")] if text else []
        except ValueError as error:
            assert str(found) == str(error)
        else:
            assert found.tolist() == expected


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
