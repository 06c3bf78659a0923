"""Other people's readers and validators on our structure sets: the same voxels, no complaint.

Each test is skipped, with the reason, where its tool is not installed:

- ``dciodvfy`` (Debian package dicom3tools) and ``drtdump`` (dcmtk) on the PATH,
- ``plastimatch`` on the PATH, or its full path in CONTOUR_AI_PLASTIMATCH (PyPI: plastimatch==1.10.0, any environment),
- dcmrtstruct2nii: a Python that has it in CONTOUR_AI_DCMRTSTRUCT2NII_PYTHON (PyPI: dcmrtstruct2nii==5, pydicom<3),
- pyCERR: a Python that has it in CONTOUR_AI_PYCERR_PYTHON (PyPI: pycerr).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from shapes import hard_shapes
from synthetic import axial, write_stack

from contour_ai.dicom.ct import CTSeries, read_ct
from contour_ai.dicom.rtstruct_header import Provenance
from contour_ai.dicom.rtstruct_write import write_structures
from contour_ai.volume import Structures

pytestmark = pytest.mark.interop

SHAPES = hard_shapes((10, 40, 36))


def tool(name: str, variable: str, package: str) -> str:
    path = os.environ.get(variable) or shutil.which(name)
    if not path:
        pytest.skip(f"{name} is not on the PATH and {variable} is not set ({package})")
    return path


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> CTSeries:
    folder = tmp_path_factory.mktemp("interop") / "ct"
    write_stack(folder, axial(10, shape_ij=(40, 36), spacing_ij_mm=(0.9766, 0.9766)))
    return read_ct(folder, with_pixels=False)


@pytest.fixture(scope="module", params=[0.5, 0.4], ids=["outline 0.5", "outline 0.4"])
def written(ct: CTSeries, request: pytest.FixtureRequest) -> Path:
    path = ct.paths[0].parents[1] / f"rs{request.param}.dcm"
    structures = Structures.from_masks(SHAPES, ct.grid)
    return write_structures(path, structures, ct, Provenance("Test"), outline=request.param).path


def wrong_voxels(folder: Path, prefix: str, suffix: str) -> dict[str, int]:
    """{ROI: voxels that differ} of masks that another reader wrote, one file a ROI."""
    wrong = {}
    for name, mask in SHAPES.items():
        read = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{prefix}{name}{suffix}"))) > 0
        wrong[name] = int((read != mask).sum())
    return wrong


@pytest.mark.parametrize("mode", [[], ["--xor-contours"]], ids=["default", "xor"])
def test_plastimatch_reads_the_same_voxels(
    mode: list[str], ct: CTSeries, written: Path, tmp_path: Path
) -> None:
    plastimatch = tool("plastimatch", "CONTOUR_AI_PLASTIMATCH", "pip install plastimatch==1.10.0")
    command = [plastimatch, "convert", "--input", str(written), "--referenced-ct", str(ct.paths[0].parent)]
    command += ["--output-prefix", str(tmp_path / "out"), "--prefix-format", "nrrd", *mode]
    subprocess.run(command, check=True, capture_output=True)
    assert wrong_voxels(tmp_path / "out", "", ".nrrd") == dict.fromkeys(SHAPES, 0)


def test_dcmrtstruct2nii_reads_the_same_voxels(ct: CTSeries, written: Path, tmp_path: Path) -> None:
    python = tool(
        "python-dcmrtstruct2nii",
        "CONTOUR_AI_DCMRTSTRUCT2NII_PYTHON",
        "pip install dcmrtstruct2nii==5 'pydicom<3'",
    )
    code = (
        "import sys; from dcmrtstruct2nii import dcmrtstruct2nii; "
        "dcmrtstruct2nii(*sys.argv[1:], convert_original_dicom=False)"
    )
    arguments = [str(written), str(ct.paths[0].parent), str(tmp_path / "out")]
    subprocess.run([python, "-c", code, *arguments], check=True, capture_output=True)
    assert wrong_voxels(tmp_path / "out", "mask_", ".nii.gz") == dict.fromkeys(SHAPES, 0)


PYCERR = """
import sys
import numpy as np
from cerr import plan_container as pc
from cerr.contour import rasterseg
plan = pc.loadDcmDir(sys.argv[1])
z = [float(s.imagePositionPatient[2]) for s in plan.scan[0].scanInfo]
masks = {}
for n, structure in enumerate(plan.structure):
    mask = np.moveaxis(np.asarray(rasterseg.getStrMask(n, plan)), 2, 0) > 0
    masks[structure.structureName] = mask if z[0] < z[-1] else mask[::-1]
np.savez(sys.argv[2], **masks)
"""


def test_pycerr_reads_the_same_voxels(ct: CTSeries, written: Path, tmp_path: Path) -> None:
    python = tool("python-pycerr", "CONTOUR_AI_PYCERR_PYTHON", "pip install pycerr")
    shutil.copytree(ct.paths[0].parent, tmp_path / "both")
    shutil.copy(written, tmp_path / "both" / "rs.dcm")
    command = [python, "-c", PYCERR, str(tmp_path / "both"), str(tmp_path / "out.npz")]
    subprocess.run(command, check=True, capture_output=True)
    with np.load(tmp_path / "out.npz") as masks:
        wrong = {name: int((masks[name] != mask).sum()) for name, mask in SHAPES.items()}
    # Of pure noise pyCERR 2.5.1 loses a few islands within holes within holes, which all other readers find.
    assert wrong.pop("Noise") < 0.05 * SHAPES["Noise"].sum()
    assert wrong == dict.fromkeys(wrong, 0)


def test_dciodvfy_has_no_errors(written: Path) -> None:
    dciodvfy = tool("dciodvfy", "CONTOUR_AI_DCIODVFY", "apt install dicom3tools")
    result = subprocess.run([dciodvfy, "-new", str(written)], check=False, capture_output=True, text=True)
    assert [line for line in (result.stdout + result.stderr).splitlines() if "Error" in line] == []


def test_drtdump_reads_it(written: Path) -> None:
    drtdump = tool("drtdump", "CONTOUR_AI_DRTDUMP", "apt install dcmtk")
    result = subprocess.run([drtdump, str(written)], check=True, capture_output=True, text=True)
    assert result.stdout.startswith("RT Structure Set object")
    assert not [line for line in result.stderr.splitlines() if line.startswith(("E:", "F:"))]


def test_pydicom_reads_and_writes_it_strictly(written: Path, tmp_path: Path) -> None:
    import pydicom
    from pydicom import config

    modes = config.settings.reading_validation_mode, config.settings.writing_validation_mode
    try:
        config.settings.reading_validation_mode = config.settings.writing_validation_mode = config.RAISE
        dataset = pydicom.dcmread(written)
        for _ in dataset.iterall():
            pass
        dataset.save_as(tmp_path / "again.dcm", enforce_file_format=True)
    finally:
        config.settings.reading_validation_mode, config.settings.writing_validation_mode = modes
