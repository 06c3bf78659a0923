"""Other people's readers, validators and an archive on our structure sets: the same voxels, no complaint, nothing lost.

Each test is skipped, with the reason, where its tool is not installed (docs/interoperability.md has the results):

- programs on the PATH, or their full path in a variable such as CONTOUR_AI_ORTHANC: ``dciodvfy`` (Debian package
  dicom3tools), ``drtdump`` and ``storescu`` (dcmtk), ``Orthanc`` (orthanc), ``plastimatch`` (PyPI),
- Python packages, each in an environment of its own: CONTOUR_AI_INTEROP is the folder of environments that
  ``tests/interop/install.sh`` makes; one alone can be given as, say, CONTOUR_AI_PYCERR_PYTHON.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray
from shapes import hard_shapes
from synthetic import axial, write_stack

from contour_ai.dicom.check import check_structure_set
from contour_ai.dicom.ct import CTSeries, read_ct
from contour_ai.dicom.rtstruct_header import Provenance
from contour_ai.dicom.rtstruct_read import iter_masks, load_structure_set
from contour_ai.dicom.rtstruct_write import write_structures
from contour_ai.volume import Structures

pytestmark = pytest.mark.interop

SCRIPT = Path(__file__).parents[1] / "interop" / "readers.py"
SHAPES = hard_shapes((10, 40, 36))

Masks = dict[str, NDArray[np.bool_]]


def program(name: str, package: str) -> str:
    """Path of a program; the test is skipped where there is none."""
    variable = f"CONTOUR_AI_{name.upper()}"
    own = Path(os.environ.get("CONTOUR_AI_INTEROP", "nowhere")) / name / "bin" / name
    path = os.environ.get(variable) or (str(own) if own.exists() else shutil.which(name))
    if not path:
        pytest.skip(f"{name} is not on the PATH, and {variable} is not set ({package})")
    return path


def read_by(tool: str, ct: CTSeries, structure_set: Path, folder: Path) -> Masks:
    """What ``tests/interop/readers.py`` reads with a tool in the tool's own Python; skipped where there is none."""
    variable = f"CONTOUR_AI_{tool.upper()}_PYTHON"
    own = Path(os.environ.get("CONTOUR_AI_INTEROP", "nowhere")) / tool / "bin" / "python"
    python = os.environ.get(variable) or (str(own) if own.exists() else None)
    if not python:
        pytest.skip(
            f"no {variable}, and no {tool} in $CONTOUR_AI_INTEROP (tests/interop/install.sh makes it)"
        )
    out = folder / f"{tool}.npz"
    command = [python, str(SCRIPT), tool, str(ct.paths[0].parent), str(structure_set), str(out)]
    environment = os.environ | {"MPLBACKEND": "Agg"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(out) as archive:
        return {name: archive[name] for name in archive.files}


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> CTSeries:
    folder = tmp_path_factory.mktemp("interop") / "ct"
    write_stack(folder, axial(10, shape_ij=(40, 36), spacing_ij_mm=(0.9766, 0.9766)))
    return read_ct(folder, with_pixels=False)


@pytest.fixture(scope="module")
def write(ct: CTSeries) -> Callable[..., Path]:
    def writer(outline: float) -> Path:
        path = ct.paths[0].parents[1] / f"rs{outline}.dcm"
        if not path.exists():
            structures = Structures.from_masks(SHAPES, ct.grid)
            write_structures(path, structures, ct, Provenance(label="Test"), outline=outline)
        return path

    return writer


@pytest.fixture(params=[0.5, 0.4], ids=["outline 0.5", "outline 0.4"])
def written(write: Callable[..., Path], request: pytest.FixtureRequest) -> Path:
    return write(request.param)


def wrong_voxels(read: Masks) -> dict[str, int]:
    """{ROI: voxels that differ} from the masks that were written; some tools write all names in small letters."""
    folded = {name.casefold(): mask for name, mask in read.items()}
    return {name: int((folded[name.casefold()] != mask).sum()) for name, mask in SHAPES.items()}


# -- readers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [[], ["--xor-contours"]], ids=["default", "xor"])
def test_plastimatch_reads_the_same_voxels(
    mode: list[str], ct: CTSeries, written: Path, tmp_path: Path
) -> None:
    plastimatch = program("plastimatch", "pip install plastimatch==1.10.0")
    command = [plastimatch, "convert", "--input", str(written), "--referenced-ct", str(ct.paths[0].parent)]
    command += ["--output-prefix", str(tmp_path / "out"), "--prefix-format", "nrrd", *mode]
    subprocess.run(command, check=True, capture_output=True)
    read = {
        name: sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / f"{name}.nrrd"))) > 0
        for name in SHAPES
    }
    assert wrong_voxels(read) == dict.fromkeys(SHAPES, 0)


@pytest.mark.parametrize("tool", ["dcmrtstruct2nii", "pyradplan"])
def test_readers_by_voxel_centres_read_the_same_voxels(
    tool: str, ct: CTSeries, written: Path, tmp_path: Path
) -> None:
    assert wrong_voxels(read_by(tool, ct, written, tmp_path)) == dict.fromkeys(SHAPES, 0)


def test_pycerr_reads_the_same_voxels(ct: CTSeries, written: Path, tmp_path: Path) -> None:
    wrong = wrong_voxels(read_by("pycerr", ct, written, tmp_path))
    # Of pure noise pyCERR 2.5.1 loses a few islands within holes within holes, which all other readers find.
    assert wrong.pop("Noise") < 0.05 * SHAPES["Noise"].sum()
    assert wrong == dict.fromkeys(wrong, 0)


def test_dicomrttool_reads_the_same_voxels_of_the_narrow_outline(
    ct: CTSeries, write: Callable[..., Path], tmp_path: Path
) -> None:
    assert wrong_voxels(read_by("dicomrttool", ct, write(0.4), tmp_path)) == dict.fromkeys(SHAPES, 0)


def test_opentps_reads_the_organs_of_a_sample_patient(tmp_path: Path) -> None:
    """It fills on a grid of 1 mm, boundary included, and resamples that: on small pixels shapes come out larger."""
    patient = Path(__file__).parents[2] / "sample_data" / "phantom-headneck-01"
    ct = read_ct(patient / "ct", with_pixels=False)
    read = read_by("opentps", ct, patient / "RS.dcm", tmp_path)
    expected = dict(iter_masks(patient / "RS.dcm", ct))
    assert set(read) == set(expected)
    for name, mask in expected.items():
        assert 2 * (read[name] & mask).sum() / (read[name].sum() + mask.sum()) > 0.995, name


def test_dicompyler_finds_the_volumes_of_the_polygons(
    ct: CTSeries, write: Callable[..., Path], tmp_path: Path
) -> None:
    """It counts the first and the last slice of a ROI by half."""
    path = write(0.5)
    read = read_by("dicompyler", ct, path, tmp_path)
    for roi in load_structure_set(path).rois:
        if roi.name not in ("Sphere", "Annulus", "Border", "Line_2"):
            continue
        area_mm2: dict[float, float] = {}
        for contour in roi.contours:
            (x, y, z), (x1, y1, _) = contour.points_lps.T, np.roll(contour.points_lps, -1, axis=0).T
            area_mm2[z[0]] = area_mm2.get(z[0], 0.0) + abs(float((x * y1 - x1 * y).sum())) / 2
        ends = area_mm2[min(area_mm2)] + area_mm2[max(area_mm2)]
        expected = (sum(area_mm2.values()) - ends / 2) * 3.0 / 1000
        assert float(read[roi.name]) == pytest.approx(expected, rel=5e-3), roi.name


# -- validators --------------------------------------------------------------------------------------------------


def test_dciodvfy_has_no_errors(written: Path) -> None:
    dciodvfy = program("dciodvfy", "apt install dicom3tools")
    result = subprocess.run([dciodvfy, "-new", str(written)], check=False, capture_output=True, text=True)
    lines = (result.stdout + result.stderr).splitlines()
    assert "RTStructureSet" in lines
    assert [line for line in lines if line.startswith(("Error", "Warning"))] == []


def test_drtdump_reads_it(written: Path) -> None:
    drtdump = program("drtdump", "apt install dcmtk")
    result = subprocess.run([drtdump, str(written)], check=True, capture_output=True, text=True)
    assert result.stdout.startswith("RT Structure Set object")
    assert not [line for line in result.stderr.splitlines() if line.startswith(("E:", "F:", "W:"))]


def test_dicom_validator_finds_nothing(ct: CTSeries, written: Path, tmp_path: Path) -> None:
    assert read_by("dicom_validator", ct, written, tmp_path)["findings"].tolist() == []


def test_dicom_validator_finds_what_is_missing(
    ct: CTSeries, write: Callable[..., Path], tmp_path: Path
) -> None:
    dataset = pydicom.dcmread(write(0.5))
    del dataset.OperatorsName
    dataset.save_as(tmp_path / "bad.dcm")
    found = read_by("dicom_validator", ct, tmp_path / "bad.dcm", tmp_path)["findings"].tolist()
    assert found == ["rt-series (0008,1070): TagMissing"]


def test_pydicom_reads_and_writes_it_strictly(written: Path, tmp_path: Path) -> None:
    from pydicom import config

    modes = config.settings.reading_validation_mode, config.settings.writing_validation_mode
    try:
        config.settings.reading_validation_mode = config.settings.writing_validation_mode = config.RAISE
        dataset = pydicom.dcmread(written)
        for element in dataset.iterall():
            _ = element.value
        dataset.save_as(tmp_path / "again.dcm", enforce_file_format=True)
    finally:
        config.settings.reading_validation_mode, config.settings.writing_validation_mode = modes
    assert pydicom.dcmread(tmp_path / "again.dcm") == pydicom.dcmread(written)


def test_rt_utils_reads_the_same_voxels_of_the_narrow_outline(tmp_path: Path) -> None:
    """On square images: on others it exchanges rows and columns."""
    from rt_utils import RTStructBuilder

    write_stack(tmp_path / "ct", axial(10, shape_ij=(40, 40), spacing_ij_mm=(0.9766, 0.9766)))
    ct = read_ct(tmp_path / "ct", with_pixels=False)
    shapes = hard_shapes(ct.grid.shape_kij)
    write_structures(
        tmp_path / "rs.dcm", Structures.from_masks(shapes, ct.grid), ct, Provenance(label="Test"), outline=0.4
    )
    loaded = RTStructBuilder.create_from(str(tmp_path / "ct"), str(tmp_path / "rs.dcm"))
    assert loaded.get_roi_names() == list(shapes)
    read = {name: np.moveaxis(loaded.get_roi_mask_by_name(name), 2, 0) for name in shapes}
    assert {name: int((read[name] != mask).sum()) for name, mask in shapes.items()} == dict.fromkeys(
        shapes, 0
    )


def test_check_has_nothing_to_say(ct: CTSeries, written: Path) -> None:
    assert check_structure_set(written, ct) == []


# -- an archive --------------------------------------------------------------------------------------------------


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """(address of its REST interface, DICOM port) of an Orthanc server that lives as long as the test."""
    server = program("Orthanc", "apt install orthanc")
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(int(free.getsockname()[1]))
    settings = {
        "StorageDirectory": str(tmp_path / "store"),
        "IndexDirectory": str(tmp_path / "store"),
        "HttpPort": ports[0],
        "DicomPort": ports[1],
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomCheckCalledAet": False,
        "Plugins": [],
    }
    (tmp_path / "orthanc.json").write_text(json.dumps(settings), encoding="utf-8")
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([server, str(tmp_path / "orthanc.json")], stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{ports[0]}"
        for _ in range(300):
            assert process.poll() is None, (tmp_path / "log").read_text()[-2000:]
            try:
                fetched(f"{address}/system")
                break
            except OSError:
                time.sleep(0.1)
        yield address, ports[1]
    finally:
        process.terminate()
        process.wait(30)


def fetched(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=120) as answer:
        return answer.read()


def test_orthanc_gives_back_what_it_was_sent(
    orthanc: tuple[str, int], ct: CTSeries, write: Callable[..., Path]
) -> None:
    address, port = orthanc
    storescu = program("storescu", "apt install dcmtk")
    sent = {d.SOPInstanceUID: d for d in map(pydicom.dcmread, (*ct.paths, write(0.5)))}
    files = [*map(str, ct.paths), str(write(0.5))]
    subprocess.run([storescu, "127.0.0.1", str(port), *files], check=True, capture_output=True)
    back = {}
    for instance in json.loads(fetched(f"{address}/instances")):
        dataset = pydicom.dcmread(io.BytesIO(fetched(f"{address}/instances/{instance}/file")))
        back[dataset.SOPInstanceUID] = dataset
    assert back == sent
    counts = json.loads(fetched(f"{address}/statistics"))
    assert (counts["CountPatients"], counts["CountStudies"], counts["CountSeries"]) == (1, 1, 2)
