"""Contours as bytes: what pydicom writes for the same values, and coordinates that stay where they are."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_sequence_item

from contour_ai.dicom.contour_data import CoordinateText, image_item, roi_contour_item
from contour_ai.grid import Grid

GRID = Grid.axial((3, 20, 30), (3.0, 0.9766, 0.9766), (-14.5, -9.25, 7.123456789))
TRIANGLE = np.array([[2.5, 3.0], [4.0, 5.5], [7.25, 1.0]])


def reference(frame: bool) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    item.ReferencedSOPInstanceUID = "1.2.3.45"
    if frame:
        item.ReferencedFrameNumber = 12
    return item


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("frame", [True, False])
def test_the_bytes_are_those_of_pydicom(explicit: bool, frame: bool) -> None:
    contours = CoordinateText(GRID, None)({1: [TRIANGLE, TRIANGLE + 1], 2: [TRIANGLE]})
    images = [b"", image_item(reference(frame), explicit=explicit), b""]
    expected = Dataset()
    expected.ROIDisplayColor = [1, 22, 255]
    expected.ContourSequence = []
    for number, (k, data, points) in enumerate(contours, start=1):
        item = Dataset()
        if k == 1:
            item.ContourImageSequence = [reference(frame)]
        item.ContourGeometricType, item.NumberOfContourPoints = "CLOSED_PLANAR", points
        item.ContourNumber, item.ContourData = number, data.decode().split("\\")
        expected.ContourSequence.append(item)
    expected.ReferencedROINumber = 7
    file = DicomBytesIO()
    file.is_little_endian, file.is_implicit_VR = True, not explicit
    write_sequence_item(file, expected, ["iso8859"])
    assert roi_contour_item(7, (1, 22, 255), contours, images, explicit=explicit) == file.getvalue()


def test_coordinates_have_the_decimals_they_need_and_the_plane_all_of_its_own() -> None:
    ((k, data, points),) = CoordinateText(GRID, None)({1: [TRIANGLE]})
    assert (k, points) == (1, 3)
    # x = -14.5 + 0.9766 j, y = -9.25 + 0.9766 i, z = 7.123457 + 3
    assert data == b"-11.57\\-6.81\\10.123457\\-9.13\\-5.34\\10.123457\\-13.52\\-2.17\\10.123457"
    ((_, finer, _),) = CoordinateText(GRID, 4)({1: [TRIANGLE]})
    assert finer.split(b"\\")[0] == b"-11.5702"


def test_rounding_does_not_leave_the_image() -> None:
    edge = np.array([[-0.5, -0.5], [-0.5, 29.5], [19.5, 29.5], [19.5, -0.5]])
    ((_, data, _),) = CoordinateText(GRID, None)({0: [edge]})
    points = np.array(data.split(b"\\"), float).reshape(-1, 3)
    index = GRID.lps_to_index(points)[:, 1:]
    assert index.min() >= -0.5
    assert (index.max(axis=0) <= (19.5, 29.5)).all()
    assert np.abs(index - edge).max() < 0.012
    assert CoordinateText(GRID, None)({0: []}) == []
