"""`derive` from a patient's folder to a verified structure set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import yaml
from click.testing import CliRunner
from synthetic import axial, write_stack

import contour_ai
from contour_ai.cli.main import cli
from contour_ai.dicom.check import check_structure_set
from contour_ai.dicom.ct import CTSeries, read_ct
from contour_ai.dicom.rtstruct_header import Provenance
from contour_ai.dicom.rtstruct_read import read_structures
from contour_ai.dicom.rtstruct_write import write_structures
from contour_ai.pipeline._derive import DeriveOptions, derive
from contour_ai.volume import Structures

RECIPE = {
    "structures": [
        {"each": ["SpinalCord"], "steps": [{"margin": 5}]},
        {"name": "Copy", "of": "Body"},
        {"name": "Shell", "of": "Body", "steps": [{"ring": {"inner_mm": -6, "outer_mm": 0}}]},
        {"name": "X", "of": "Heart"},
    ]
}


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("patient")
    write_stack(folder / "ct", axial(9, shape_ij=(40, 44)))
    ct = read_ct(folder / "ct", with_pixels=False)
    k, i, j = np.mgrid[:9, :40, :44]
    masks = {
        "Body": np.hypot(i - 20, j - 22) < 17,
        "Myelon": (np.hypot(i - 26, j - 22) < 4) & (k > 1) & (k < 7),
    }
    write_structures(
        folder / "RS.dcm", Structures.from_masks(masks, ct.grid), ct, Provenance(label="by hand")
    )
    return folder


@pytest.fixture
def ct(patient: Path) -> CTSeries:
    return read_ct(patient / "ct", with_pixels=False)


def test_a_recipe_becomes_a_structure_set(patient: Path, ct: CTSeries, tmp_path: Path) -> None:
    result = contour_ai.derive(patient, RECIPE, tmp_path / "out.dcm")
    assert set(result.names) == {"SpinalCord_PRV05", "Copy", "Shell"}
    assert "SpinalCord is taken from ROI Myelon" in result.notes
    assert "X is skipped: there is no ROI Heart with contours" in result.notes
    structures = read_structures(result.path, ct)
    body = read_structures(patient / "RS.dcm", ct).mask("Body")
    assert np.array_equal(structures.mask("Copy"), body)
    assert not (structures.mask("Shell") & ~body).any()
    for roi in result.rois:
        box, inside = roi.region.filled
        assert np.array_equal(structures.mask(roi.info.name)[box], inside)
    assert not [f for f in check_structure_set(result.path, ct) if f.severity == "error"]
    dataset = pydicom.dcmread(result.path)
    assert "Derived from structure set by hand" in dataset.StructureSetDescription
    assert dataset.ApprovalStatus == "UNAPPROVED"
    roi = dataset.StructureSetROISequence[0]
    assert roi.ROIDescription.startswith("derived: Myelon; margin +5 mm; a recipe given from Python")
    assert roi.ROIGenerationAlgorithm == "SEMIAUTOMATIC"


def test_the_command_with_a_template_and_into(patient: Path, ct: CTSeries, tmp_path: Path) -> None:
    recipe, template = tmp_path / "recipe.yaml", tmp_path / "template.csv"
    recipe.write_text(yaml.safe_dump(RECIPE), encoding="utf-8")
    template.write_text(
        "name,type,color\nCordPRV,AVOIDANCE,#ff8800\nLens_L,ORGAN,\nBody,,\n", encoding="utf-8"
    )
    more = ["--into", str(patient / "RS.dcm"), "--template", str(template)]
    out = tmp_path / "out.dcm"
    done = CliRunner().invoke(
        cli, ["derive", str(patient), "--recipe", str(recipe), "--out", str(out), *more]
    )
    assert done.exit_code == 0, done.output
    assert "3 ROIs, 2 created empty" in done.stdout
    assert "created empty, as the template requires them: CordPRV, Lens_L" in done.stderr
    dataset = pydicom.dcmread(out)
    names = [r.ROIName for r in dataset.StructureSetROISequence]
    assert names == ["Body", "Myelon", "CordPRV", "Lens_L", "SpinalCord_PRV05", "Copy", "Shell"]
    assert dataset.RTROIObservationsSequence[2].RTROIInterpretedType == "AVOIDANCE"
    assert list(dataset.ROIContourSequence[2].ROIDisplayColor) == [255, 136, 0]
    again = CliRunner().invoke(
        cli, ["derive", str(patient), "--recipe", str(recipe), "--out", str(out), *more]
    )
    assert again.exit_code == 2 and "exists" in again.stderr


def test_required_structures_and_wrong_recipes_have_their_exit_status(patient: Path, tmp_path: Path) -> None:
    def run(content: object) -> tuple[int, str]:
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(yaml.safe_dump(content), encoding="utf-8")
        out = str(tmp_path / "out.dcm")
        done = CliRunner().invoke(cli, ["derive", str(patient), "--recipe", str(recipe), "--out", out])
        assert not Path(out).exists()
        return done.exit_code, done.stderr

    assert run({"structures": [{"name": "X", "of": "Heart", "required": True}]})[0] == 3
    status, said = run({"structures": [{"name": "X", "of": "Heart"}]})
    assert status == 3 and "gives no structure for this patient" in said
    status, said = run({"structures": [{"name": "X", "of": "Body", "step": []}]})
    assert status == 4 and "did you mean 'structures[0].steps'?" in said


def test_print_recipe_needs_nothing_else() -> None:
    done = CliRunner().invoke(cli, ["derive", "--print-recipe"])
    assert done.exit_code == 0 and "keep_inside" in done.output


def test_contours_through_voxel_centres_are_copied_with_their_voxels(
    patient: Path, ct: CTSeries, tmp_path: Path
) -> None:
    """Another system's contour on voxel centres: its copy has the same voxels."""
    dataset = pydicom.dcmread(patient / "RS.dcm")
    contour = dataset.ROIContourSequence[0].ContourSequence[3]
    corners = ct.grid.index_to_lps([[3, 5, 5], [3, 5, 31], [3, 22, 38], [3, 30, 5]])
    contour.ContourData = [f"{v:.4f}" for v in corners.reshape(-1)]
    contour.NumberOfContourPoints = 4
    source = tmp_path / "RS.dcm"
    dataset.save_as(source)
    options = DeriveOptions(rtstruct=source)
    result = derive(patient, {"structures": [{"name": "Copy", "of": "Body"}]}, tmp_path / "out.dcm", options)
    copied, wanted = read_structures(result.path, ct).mask("Copy"), read_structures(source, ct).mask("Body")
    assert np.array_equal(copied, wanted)
