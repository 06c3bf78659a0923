"""The first bytes of a file are read at once; where they end changes nothing of what is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian
from synthetic import axial, write_stack

from contour_ai.dicom import header
from contour_ai.dicom.ct import read_ct
from contour_ai.errors import InputError


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    """A slice with a private element before its pixels, as long as the header of some scanners."""
    path = write_stack(tmp_path / "ct", axial(1))[0]
    data_set = dcmread(path)
    block = data_set.private_block(0x0043, "SCANNER", create=True)
    block.add_new(0x01, "OB", bytes(range(256)) * 2)
    data_set.save_as(path)
    return path


@pytest.mark.parametrize("deflated", [False, True])
def test_wherever_the_first_bytes_end_the_file_is_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch, deflated: bool
) -> None:
    data_set = dcmread(path)
    if deflated:
        data_set.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        data_set.save_as(path)
    whole, size = dcmread(path), path.stat().st_size
    without_pixels = dcmread(path, stop_before_pixels=True)
    # An odd step: ends within tags, lengths, values, the pixels and behind the file.
    for length in [*range(132, min(size, 2500), 7), size - 1, size, size + 1, 1 << 20]:
        monkeypatch.setattr(header, "START_BYTES", length)
        found, behind = header.read_start(path)
        assert found == without_pixels, length
        assert header.read_data_set(path) == whole, length
        uid, behind_uid = header.read_start(path, ("SOPInstanceUID",))
        assert uid.SOPInstanceUID == whole.SOPInstanceUID
        assert (behind, behind_uid) == (0, 0) if deflated else behind_uid > behind >= len(whole.PixelData)


def test_a_slice_with_a_long_header_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = read_ct([path]).hu
    monkeypatch.setattr(header, "START_BYTES", 150)
    np.testing.assert_array_equal(read_ct([path]).hu, usual)


def test_a_file_that_ends_within_its_first_bytes_is_damaged(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = path.read_bytes()
    for length in (140, 400, 900, len(content) - 10):
        path.write_bytes(content[:length])
        for start in (132, 300, 1 << 15):
            monkeypatch.setattr(header, "START_BYTES", start)
            with pytest.raises(InputError):
                read_ct([path])
