"""OpenKBP's layout to DICOM, on a small patient in that layout: places, names, values, and wrong inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from contour_ai.cli.main import cli
from contour_ai.dicom.ct import read_ct
from contour_ai.dicom.rtstruct_read import read_structures
from contour_ai.errors import InputError, VerificationError
from contour_ai.files import MANIFEST
from contour_ai.sample import openkbp
from contour_ai.sample.openkbp import convert_patient, find_openkbp_patients, import_openkbp, read_openkbp

SPACING = (3.9, 4.1, 2.5)
"""Row, column, slice."""


def flat(rows: slice, columns: slice, slices: slice) -> np.ndarray:
    index = np.arange(128**3).reshape(128, 128, 128)
    return index[rows, columns, slices].ravel()


BODY = flat(slice(40, 90), slice(30, 100), slice(20, 110))
ORGANS = {
    "Brainstem": flat(slice(60, 66), slice(60, 66), slice(30, 40)),
    "LeftParotid": flat(slice(60, 64), slice(85, 90), slice(45, 52)),
    "RightParotid": flat(slice(60, 64), slice(40, 44), slice(45, 52)),
    "Mandible": flat(slice(45, 46), slice(50, 80), slice(60, 61)),
}


def write_layout(folder: Path) -> Path:
    folder.mkdir(parents=True)
    values = 1024.0 + BODY % 97
    lines = "".join(f"{i},{v}\n" for i, v in zip(BODY, values, strict=True))
    (folder / "ct.csv").write_text(",data\n" + lines, encoding="utf-8")
    for organ, index in ORGANS.items():
        (folder / f"{organ}.csv").write_text(",data\n" + "".join(f"{i},\n" for i in index), encoding="utf-8")
    (folder / "Larynx.csv").write_text(",data\n", encoding="utf-8")
    (folder / "PTV70.csv").write_text(",data\n5,\n", encoding="utf-8")
    (folder / "voxel_dimensions.csv").write_text("".join(f"{s:.18e}\n" for s in SPACING), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("openkbp")
    write_layout(root / "provided-data" / "train-pats" / "pt_7")
    return root


@pytest.fixture(scope="module")
def pt_7(source: Path) -> Path:
    return source / "provided-data" / "train-pats" / "pt_7"


@pytest.fixture(scope="module")
def converted(pt_7: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert_patient(pt_7, tmp_path_factory.mktemp("dicom"))


def test_places_names_and_values(converted: Path) -> None:
    ct = read_ct(converted / "ct")
    assert ct.volume is not None
    assert ct.grid.shape_kij == (128, 128, 128)
    assert ct.grid.spacing_mm == pytest.approx((2.5, 3.9, 4.1))
    np.testing.assert_allclose(ct.grid.normal, [0, 0, 1])
    assert ct.header.PatientPosition == "HFS"
    structures = read_structures(converted / "RS.dcm", ct)
    assert set(structures.contoured()) == {"Brainstem", "Parotid_L", "Parotid_R", "Bone_Mandible"}
    for organ, roi in openkbp.ROI_FILES.items():
        if organ in ORGANS:
            assert structures.mask(roi).sum() == len(ORGANS[organ])

    def centre(roi: str) -> np.ndarray:
        return ct.grid.index_to_lps(np.argwhere(structures.mask(roi))).mean(axis=0)

    assert centre("Parotid_L")[0] > centre("Parotid_R")[0], "columns run from the patient's right to left"
    assert centre("Brainstem")[2] > centre("Parotid_L")[2], "slices run from head to foot"
    assert centre("Bone_Mandible")[1] < centre("Brainstem")[1], "rows run from front to back"
    # First body voxel of the CSV: row 40, column 30, slice 20.
    assert ct.volume.hu[127 - 20, 40, 30] == BODY[0] % 97
    assert ct.volume.hu[0, 0, 0] == -1024
    assert (ct.volume.hu > -1024).sum() == len(BODY)


@pytest.mark.parametrize(
    "below", ["", "provided-data", "provided-data/train-pats", "provided-data/train-pats/pt_7"]
)
def test_any_folder_of_the_dataset_will_do(source: Path, below: str) -> None:
    assert list(find_openkbp_patients(source / below)) == ["pt_7"]


def test_command_imports_then_skips(source: Path, tmp_path: Path) -> None:
    arguments = ["import-openkbp", str(source), str(tmp_path / "out"), "--patients", "pt_7"]
    first = CliRunner().invoke(cli, arguments)
    assert first.exit_code == 0, first.output
    assert "1 patients imported" in first.output
    assert "0 wrong voxels" in first.output
    assert sorted(p.name for p in (tmp_path / "out" / "pt_7").iterdir()) == [MANIFEST, "RS.dcm", "ct"]
    second = CliRunner().invoke(cli, arguments)
    assert second.exit_code == 0
    assert "0 patients imported" in second.output
    assert "1 were there already" in second.output


def test_a_patient_that_fails_does_not_stop_the_others(source: Path, tmp_path: Path) -> None:
    broken = tmp_path / "data" / "pt_8"
    broken.mkdir(parents=True)
    (broken / "ct.csv").write_text(",data\n1,nonsense\n", encoding="utf-8")
    report = import_openkbp(tmp_path / "data", tmp_path / "out", workers=1)
    assert report.imported == ()
    assert isinstance(report.failed["pt_8"], InputError)
    assert "not a file of the OpenKBP layout" in str(report.failed["pt_8"])
    assert not (tmp_path / "out" / "pt_8").exists()


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("ct.csv", ",data\n1,5000000\n", "CT values must be HU"),
        ("ct.csv", ",data\n9999999,5\n", "each index once"),
        ("ct.csv", ",data\n4,5\n4,6\n", "each index once"),
        ("ct.csv", ",data\n4;5\n", "index,value"),
        ("voxel_dimensions.csv", "1\n2\n", "three numbers"),
        ("voxel_dimensions.csv", "1\n2\n-3\n", "three positive numbers"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, file: str, text: str, message: str) -> None:
    folder = tmp_path / "pt_1"
    folder.mkdir()
    (folder / "ct.csv").write_text(",data\n1,1024\n", encoding="utf-8")
    (folder / "voxel_dimensions.csv").write_text("1\n1\n1\n", encoding="utf-8")
    (folder / file).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        read_openkbp(folder)
    assert str(folder / file) in str(caught.value)


def test_no_patients_and_unknown_patients(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No OpenKBP patients here"):
        find_openkbp_patients(tmp_path)
    with pytest.raises(InputError, match="No such OpenKBP patients") as caught:
        import_openkbp(source, tmp_path, patients=["pt_7", "pt_99"])
    assert caught.value.found == "pt_99"


def test_a_flip_on_the_way_out_is_found(pt_7: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openkbp, "_upright", lambda array: np.ascontiguousarray(np.moveaxis(array, 2, 0)))
    with pytest.raises(VerificationError, match="does not read back as the same voxels"):
        convert_patient(pt_7, tmp_path)
    assert list(tmp_path.iterdir()) == []
