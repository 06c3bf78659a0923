"""Several acquisitions in one CT series: refused where they overlap, one scan where they follow each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from pydicom.dataset import Dataset
from synthetic import Stack, axial, box_contours, hu_at, uid, write_stack, write_structure_set

from contour_ai.cli.main import cli
from contour_ai.dicom.ct import read_ct
from contour_ai.errors import GeometryError, InputError

SLICES, SPACING_MM = 6, 3.0

Mark = Callable[[int, int, Dataset], None]
"""Marks slice k of pass n."""


def write_passes(folder: Path, offset_mm: float, mark: Mark, passes: int = 2) -> None:
    """Several passes of one series, each `offset_mm` above the one before."""
    for n in range(passes):
        positions = axial(SLICES, SPACING_MM).positions_lps + np.array([0, 0, n * offset_mm])

        def edit(k: int, d: Dataset, n: int = n) -> None:
            d.SOPInstanceUID = uid("pass", n, k)
            d.file_meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID
            d.InstanceNumber = n * SLICES + k + 1
            d.PixelData = (np.frombuffer(d.PixelData, np.uint16) + n).tobytes()
            mark(n, k, d)

        write_stack(folder, Stack(positions), edit, stem=f"pass{n}-")


def by_number(n: int, k: int, d: Dataset) -> None:
    d.AcquisitionNumber = n + 1


def by_time(n: int, k: int, d: Dataset) -> None:
    d.AcquisitionTime = f"10{30 * n:02d}00"


def by_temporal_position(n: int, k: int, d: Dataset) -> None:
    d.AcquisitionNumber = 1
    d.TemporalPositionIdentifier = n + 1


def by_rotation(n: int, k: int, d: Dataset) -> None:
    """As scanners write it: two slices a rotation, each rotation with its own number and time."""
    rotation = n * SLICES // 2 + k // 2
    d.AcquisitionNumber = 7
    d.AcquisitionTime = f"1000{rotation:02d}.5"


def by_slice_time(n: int, k: int, d: Dataset) -> None:
    d.AcquisitionTime = f"1000{n * SLICES + k:02d}.125"


MARKS = (by_number, by_time, by_temporal_position, by_rotation, by_slice_time)


@pytest.mark.parametrize("offset_mm", [0.0, 1.0, 1.5, 10.5, 12.0])
@pytest.mark.parametrize("mark", MARKS)
def test_acquisitions_that_overlap_are_refused_and_each_can_be_chosen(
    tmp_path: Path, offset_mm: float, mark: Mark
) -> None:
    write_passes(tmp_path, offset_mm, mark)
    with pytest.raises(GeometryError, match="2 acquisitions lie in this CT series") as caught:
        read_ct(tmp_path)
    assert f"6 slices, {-50 + offset_mm:g} to {-35 + offset_mm:g} mm" in str(caught.value)
    assert "choose one with --acquisition N" in str(caught.value)
    for number in (1, 2):
        assert f"--acquisition {number}: " in str(caught.value)
        ct = read_ct(tmp_path, acquisition=number)
        assert ct.volume is not None
        stack = axial(SLICES, SPACING_MM)
        below = np.array([0, 0, (number - 1) * offset_mm])
        assert np.allclose(ct.grid.positions_lps, stack.positions_lps + below)
        expected = [hu_at(stack.points_lps(k) + below) + number - 1 for k in range(SLICES)]
        assert np.array_equal(ct.volume.hu, expected)
        (note,) = (text for text in ct.notes if "was chosen" in text)
        assert note.startswith(f"acquisition {number} of 2 was chosen") and "6 slices of the others" in note
    with pytest.raises(InputError, match="There is no such acquisition"):
        read_ct(tmp_path, acquisition=3)


@pytest.mark.parametrize("mark", MARKS)
def test_acquisitions_that_follow_each_other_are_one_scan(tmp_path: Path, mark: Mark) -> None:
    write_passes(tmp_path, SLICES * SPACING_MM, mark)
    ct = read_ct(tmp_path)
    assert ct.grid.shape_kij[0] == 2 * SLICES and ct.notes == ()


def test_one_of_two_acquisitions_that_follow_each_other_can_be_chosen(tmp_path: Path) -> None:
    write_passes(tmp_path, SLICES * SPACING_MM, lambda n, k, d: setattr(d, "AcquisitionNumber", 3 + 4 * n))
    assert read_ct(tmp_path, acquisition=7).grid.shape_kij[0] == SLICES
    with pytest.raises(InputError, match="There is no such acquisition") as caught:
        read_ct(tmp_path, acquisition=1)
    assert "--acquisition 3: AcquisitionNumber 3, 6 slices" in str(caught.value)


@pytest.mark.parametrize("times", ["own", "rotation", "random", "missing"])
def test_an_ordinary_scan_is_one_acquisition_whatever_its_times(tmp_path: Path, times: str) -> None:
    order = np.random.default_rng(0).permutation(24)

    def edit(k: int, d: Dataset) -> None:
        d.AcquisitionNumber = k // 4 if times == "rotation" else 1
        seconds = {"own": k, "rotation": k // 4, "random": int(order[k]), "missing": 0}[times]
        d.AcquisitionTime = "" if times == "missing" else f"1000{seconds:02d}"

    write_stack(tmp_path, axial(24, 2.5), edit)
    assert read_ct(tmp_path).grid.shape_kij[0] == 24


def test_commands_take_an_acquisition(tmp_path: Path) -> None:
    write_passes(tmp_path, 1.5, by_number)
    above = Stack(axial(SLICES, SPACING_MM).positions_lps + np.array([0, 0, 1.5]))
    path = write_structure_set(tmp_path / "rs.dcm", above, {"Bladder": box_contours(above, [1, 2])})
    out = tmp_path / "out.npz"
    refused = CliRunner().invoke(cli, ["to-masks", str(tmp_path), "--out", str(out)])
    assert refused.exit_code == 3 and not out.exists()
    taken = CliRunner().invoke(cli, ["to-masks", str(tmp_path), "--out", str(out), "--acquisition", "2"])
    assert taken.exit_code == 0, taken.output
    with np.load(out) as masks:
        assert np.flatnonzero(masks["Bladder"].any(axis=(1, 2))).tolist() == [1, 2]
    back = ["to-rtstruct", str(tmp_path), str(out), "--out", str(tmp_path / "new.dcm"), "--acquisition", "2"]
    assert CliRunner().invoke(cli, back).exit_code == 0
    for command in ("check", "to-seg", "predict"):
        assert "--acquisition N" in CliRunner().invoke(cli, [command, "--help"]).output
    assert path.exists()
