"""Writing a volume as a CT series: what is in the files, and that it reads back as the same voxels and places."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest

from contour_ai.dicom.ct_write import PatientIdentity, write_ct
from contour_ai.errors import InputError, OutputError
from contour_ai.grid import Grid
from contour_ai.volume import Volume

PATIENT = PatientIdentity(patient_id="id-1", patient_name="Ärztin^Änne", study_date="20260102", sex="F")

TYPE_1 = [
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "FrameOfReferenceUID",
    "ImageType",
    "PixelSpacing",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "RescaleIntercept",
    "RescaleSlope",
    "PixelData",
    "PatientPosition",
]
TYPE_2 = [
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
    "SeriesNumber",
    "PositionReferenceIndicator",
    "Manufacturer",
    "SliceThickness",
    "KVP",
    "AcquisitionNumber",
    "InstanceNumber",
]


def volume(grid: Grid, seed: int = 0) -> Volume:
    hu = np.random.RandomState(seed).randint(-1024, 3000, grid.shape_kij).astype(np.int16)
    return Volume(hu, grid)


def oblique(shape: tuple[int, int, int] = (4, 5, 7)) -> Grid:
    """No axis along the patient's, awkward numbers, unequal slice distances."""
    angle = 0.3
    row = np.array([np.cos(angle), np.sin(angle), 0])
    column = np.array([-np.sin(angle) * np.cos(0.2), np.cos(angle) * np.cos(0.2), np.sin(0.2)])
    normal = np.cross(row, column)
    heights = np.array([0, 1 / 3, 4.1, 9.7])[:, None]
    positions = np.array([-123.456789012345, 1e-7, 987.654321098765]) + heights * normal
    return Grid(shape_kij=shape, positions_lps=positions, step_i_lps=column * 0.9765625, step_j_lps=row * 1.1)


def test_every_required_attribute_is_there(tmp_path: Path) -> None:
    write_ct(tmp_path / "ct", volume(Grid.axial((3, 4, 5), (2.5, 1, 1))), PATIENT, uid_seed="a")
    files = sorted((tmp_path / "ct").iterdir())
    assert len(files) == 3
    for n, path in enumerate(files, start=1):
        data_set = pydicom.dcmread(path)
        for keyword in TYPE_1:
            assert data_set.get(keyword) not in (None, ""), keyword
        for keyword in TYPE_2:
            assert keyword in data_set, keyword
        assert data_set.InstanceNumber == n
        assert data_set.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
        assert (data_set.Rows, data_set.Columns) == (4, 5)
        assert str(data_set.PatientName) == "Ärztin^Änne"
        for element in data_set:
            if element.VR == "DS" and element.value is not None:
                values = element.value if element.VM > 1 else [element.value]
                assert all(len(str(value)) <= 16 for value in values), element


@pytest.mark.parametrize(
    "grid",
    [Grid.axial((3, 4, 5), (2.5, 0.7, 1.3), (-10.1, 5.25, -300.7)), oblique()],
    ids=["axial", "oblique"],
)
def test_reads_back_as_the_same_voxels_at_the_same_places(tmp_path: Path, grid: Grid) -> None:
    written = volume(grid)
    series = write_ct(tmp_path / "ct", written, PATIENT, uid_seed="a")
    assert series.volume is not None
    np.testing.assert_array_equal(series.volume.hu, written.hu)
    assert series.grid.largest_distance_mm(grid) < 1e-9
    assert series.patient_id == "id-1"


def test_the_same_input_gives_the_same_bytes_and_another_seed_other_uids(tmp_path: Path) -> None:
    image = volume(oblique())
    for name, seed in (("a", "x"), ("b", "x"), ("c", "y")):
        write_ct(tmp_path / name, image, PATIENT, uid_seed=seed)
    a, b, c = ([p.read_bytes() for p in sorted((tmp_path / n).iterdir())] for n in "abc")
    assert a == b
    assert a != c
    uids = {pydicom.dcmread(p).SOPInstanceUID for n in "ac" for p in (tmp_path / n).iterdir()}
    assert len(uids) == 8


def test_extreme_values_fit_or_are_refused(tmp_path: Path) -> None:
    grid = Grid.axial((1, 1, 3), (1, 1, 1))
    for name, values in (("usual", [-1024, 0, 31743]), ("low", [-32768, 0, 31743]), ("high", [0, 0, 32767])):
        image = Volume(np.array(values, np.int32).reshape(1, 1, 3), grid)
        series = write_ct(tmp_path / name, image, PATIENT, uid_seed=name)
        assert series.volume is not None
        np.testing.assert_array_equal(series.volume.hu.ravel(), values)
    with pytest.raises(InputError, match="do not fit a 16-bit CT"):
        write_ct(tmp_path / "x", Volume(np.array([[[-32768, 0, 40000]]]), grid), PATIENT, uid_seed="x")
    with pytest.raises(InputError, match="whole numbers of HU"):
        write_ct(tmp_path / "x", Volume(np.array([[[0.5, 0, 1]]]), grid), PATIENT, uid_seed="x")
    assert not (tmp_path / "x").exists()


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "ct").mkdir()
    with pytest.raises(OutputError, match="exists already"):
        write_ct(tmp_path / "ct", volume(oblique()), PATIENT, uid_seed="a")
    assert list((tmp_path / "ct").iterdir()) == []


@pytest.mark.interop
@pytest.mark.parametrize("body_part", ["", "PELVIS"])
def test_dciodvfy_has_no_errors(tmp_path: Path, body_part: str) -> None:
    dciodvfy = shutil.which("dciodvfy")
    if dciodvfy is None:
        pytest.skip("dciodvfy is not installed (apt install dicom3tools)")
    write_ct(tmp_path / "ct", volume(oblique()), PATIENT, uid_seed="a", body_part=body_part)
    path = tmp_path / "ct" / "CT.0001.dcm"
    result = subprocess.run([dciodvfy, "-new", str(path)], check=False, capture_output=True, text=True)
    assert "Error" not in result.stdout + result.stderr
