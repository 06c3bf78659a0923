"""``contour-ai to-masks``, ``to-rtstruct`` and ``check``: what they print, write and exit with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner, Result
from shapes import hard_shapes
from synthetic import axial, box_contours, write_stack, write_structure_set

from contour_ai.cli.main import cli

STACK = axial(8, shape_ij=(24, 20))
SHAPES = hard_shapes((8, 24, 20))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments], prog_name="contour-ai")


@pytest.fixture
def patient(tmp_path: Path) -> Path:
    write_stack(tmp_path / "p" / "ct", STACK)
    rois = {"Blase": box_contours(STACK, [2, 3]), "Left, lung": box_contours(STACK, [5])}
    write_structure_set(tmp_path / "p" / "rs.dcm", STACK, rois)
    np.savez(tmp_path / "m.npz", **SHAPES)
    return tmp_path / "p"


def test_masks_to_a_structure_set_and_back(patient: Path, tmp_path: Path) -> None:
    there = run("to-rtstruct", patient / "ct", tmp_path / "m.npz", "--out", tmp_path / "rs.dcm")
    assert there.exit_code == 0, there.output
    assert f"Sphere: {SHAPES['Sphere'].sum()} voxels" in there.stdout
    assert f"{len(SHAPES)} ROIs in {tmp_path / 'rs.dcm'}, read back without a wrong voxel" in there.stdout
    back = run("to-masks", patient, "--rtstruct", tmp_path / "rs.dcm", "--out", tmp_path / "back.npz")
    assert back.exit_code == 0, back.output
    assert f"{len(SHAPES)} masks (8, 24, 20) in {tmp_path / 'back.npz'}" in back.stdout
    with np.load(tmp_path / "back.npz") as arrays:
        assert {n: int((arrays[n] != SHAPES[n]).sum()) for n in SHAPES} == dict.fromkeys(SHAPES, 0)


def test_images_in_folders(patient: Path, tmp_path: Path) -> None:
    for file_format in ("nifti", "nrrd"):
        folder = tmp_path / file_format
        assert run("to-masks", patient, "--out", folder, "--format", file_format).exit_code == 0
        result = run("to-rtstruct", patient / "ct", folder, "--out", tmp_path / f"{file_format}.dcm")
        assert result.exit_code == 0, result.output
        assert "Left, lung: 16 voxels" in result.stdout


def test_some_rois_and_other_names(patient: Path, tmp_path: Path) -> None:
    result = run("to-masks", patient, "--out", tmp_path / "a.npz", "--rois", "Left, lung")
    assert result.stdout.splitlines()[0] == "Left, lung: 16 voxels"
    (tmp_path / "map.yaml").write_text("rois:\n  Bladder: [blase]\n", encoding="utf-8")
    result = run("to-masks", patient, "--out", tmp_path / "b.npz", "--roi-map", tmp_path / "map.yaml")
    assert result.stdout.splitlines()[0] == "Bladder: 32 voxels"
    assert "ROI Left, lung is not in the map and is left out" in result.stderr


def test_profile_outline_and_label(patient: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "long.npz", Lung_Lobe_Upper_L=SHAPES["Two"], Lung_Lobe_Upper_R=SHAPES["Annulus"])
    options = ["--profile", "eclipse", "--outline", "0.4", "--label", "Test", "--algorithm", "MANUAL"]
    result = run("to-rtstruct", patient / "ct", tmp_path / "long.npz", "--out", tmp_path / "rs.dcm", *options)
    assert result.exit_code == 0, result.output
    assert "ROI Lung_Lobe_Upper_R is written as Lung_Lobe_Uppe_R" in result.stderr
    dataset = pydicom.dcmread(tmp_path / "rs.dcm")
    assert dataset.StructureSetLabel == "Test"
    assert dataset.StructureSetROISequence[0].ROIGenerationAlgorithm == "MANUAL"
    assert run("check", tmp_path / "rs.dcm", "--ct", patient / "ct", "--profile", "eclipse").exit_code == 0


def test_check_prints_findings_and_exits_with_3_for_known_refusals(patient: Path, tmp_path: Path) -> None:
    result = run("check", patient / "rs.dcm")
    assert result.exit_code == 0
    assert "breaks the standard: AccessionNumber: is missing (PS3.3 C.7.2.1, type 2" in result.stdout
    assert "references to images and slices were not checked" in result.stderr
    assert "0 known to be refused, " in result.stdout
    strict = run("check", patient / "rs.dcm", "--strict")
    assert strict.exit_code == 3
    assert "This structure set breaks the standard." in strict.stderr
    data_set = pydicom.dcmread(patient / "rs.dcm")
    del data_set.SeriesInstanceUID
    data_set.save_as(tmp_path / "bad.dcm")
    refused = run("check", tmp_path / "bad.dcm")
    assert refused.exit_code == 3
    expected = "known to be refused by Orthanc (tried with Orthanc 1.10.1: not stored): SeriesInstanceUID: is missing"
    assert expected in " ".join(refused.stdout.split())
    assert "This structure set is known to be refused." in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["to-masks", "{p}", "--out", "{p}/x.npz", "--rois", "Leber"], 3, "no such ROI"),
        (["to-masks", "{p}", "--out", "{p}/rs.dcm", "--format", "npz"], 2, "ends in .npz"),
        (["to-masks", "{p}/ct", "--out", "{p}/x.npz"], 3, "No structure set"),
        (["to-masks", "{p}", "--out", "{p}/ct", "--format", "nifti"], 2, "exists already"),
        (["to-masks", "{p}/nothing", "--out", "{p}/x.npz"], 2, "does not exist"),
        (["to-rtstruct", "{p}/ct", "{p}/rs.dcm", "--out", "{p}/x.dcm"], 3, "no mask file"),
        (["to-rtstruct", "{p}/ct", "{p}/../m.npz", "--out", "{p}/rs.dcm"], 2, "exists already"),
        (
            ["to-rtstruct", "{p}/ct", "{p}/../m.npz", "--out", "{p}/x.dcm", "--profile", "x"],
            4,
            "No such profile",
        ),
        (["to-rtstruct", "{p}/ct", "{p}/../m.npz", "--out", "{p}/x.dcm", "--outline", "2"], 3, "The outline"),
        (["check", "{p}/ct/CT001.dcm"], 3, "no structure set"),
    ],
)
def test_refusals(arguments: list[str], status: int, message: str, patient: Path) -> None:
    before = sorted(patient.rglob("*"))
    result = run(*(a.format(p=patient) for a in arguments))
    assert result.exit_code == status, result.output
    assert message in result.stderr
    assert sorted(patient.rglob("*")) == before, "nothing half-written"


def test_masks_into_a_copy_of_a_structure_set_under_a_template(patient: Path, tmp_path: Path) -> None:
    template = tmp_path / "t.csv"
    template.write_text("name,aliases\nKugel,Sphere\nLens_L,\n", encoding="utf-8")
    np.savez(tmp_path / "one.npz", Sphere=SHAPES["Sphere"])
    result = run(
        "to-rtstruct", patient / "ct", tmp_path / "one.npz", "--out", tmp_path / "out.dcm",
        "--into", patient / "rs.dcm", "--template", template,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert f"Kugel: {SHAPES['Sphere'].sum()} voxels\nLens_L: 0 voxels" in result.stdout
    dataset = pydicom.dcmread(tmp_path / "out.dcm")
    names = [r.ROIName for r in dataset.StructureSetROISequence]
    assert names == ["Blase", "Left, lung", "Kugel", "Lens_L"]
    before = pydicom.dcmread(patient / "rs.dcm")
    for n in (0, 1):
        assert dataset.ROIContourSequence[n] == before.ROIContourSequence[n]


def test_names_of_other_programs_become_those_of_tg263(patient: Path, tmp_path: Path) -> None:
    mask = np.zeros((8, 24, 20), bool)
    mask[2:4, 5:9, 5:9] = True
    names = ("hip_left", "iliac_vena_right", "GTVp", "z_Ring", "Parotid")
    np.savez(tmp_path / "ts.npz", **dict.fromkeys(names, mask))
    out = tmp_path / "ts.dcm"
    result = run("to-rtstruct", patient / "ct", tmp_path / "ts.npz", "--out", out, "--tg263")
    assert result.exit_code == 0, result.output
    assert "Bone_Pelvic_L: 32 voxels, was hip_left" in result.stdout
    written = [r.ROIName for r in pydicom.dcmread(out).StructureSetROISequence]
    assert sorted(written) == ["Bone_Pelvic_L", "GTVp", "Parotid", "V_Iliac_R", "z_Ring"]
    assert "z_Ring keeps its name: TG-263 has none that is certain (begins with z" in result.stderr
    assert "Parotid keeps its name: TG-263 has none that is certain (may be Parotid_L or" in result.stderr

    np.savez(tmp_path / "two.npz", **dict.fromkeys(("kidney_left", "Kidney L"), mask))
    refused = run(
        "to-rtstruct", patient / "ct", tmp_path / "two.npz", "--out", tmp_path / "two.dcm", "--tg263"
    )
    assert refused.exit_code == 3
    assert "found: kidney_left and Kidney L, both Kidney_L" in refused.stderr
    assert not (tmp_path / "two.dcm").exists()


def test_a_map_renames_masks(patient: Path, tmp_path: Path) -> None:
    mask = np.zeros((8, 24, 20), bool)
    mask[2:4, 5:9, 5:9] = True
    np.savez(tmp_path / "m.npz", **dict.fromkeys(("gland 1", "tmp_a", "liver", "brain stem"), mask))
    (tmp_path / "map.yaml").write_text(
        "rois:\n  Parotid_L: ['gland*']\nignore: ['tmp_*']\n", encoding="utf-8"
    )
    options = ("--roi-map", tmp_path / "map.yaml")
    only = run("to-rtstruct", patient / "ct", tmp_path / "m.npz", "--out", tmp_path / "a.dcm", *options)
    assert only.stdout.splitlines()[0] == "Parotid_L: 32 voxels, was gland 1"
    assert "1 ROIs in" in only.stdout
    assert "tmp_a is left out, as the ROI map says" in only.stderr
    assert "ROI liver is not in the map and is left out" in only.stderr
    both = run(
        "to-rtstruct", patient / "ct", tmp_path / "m.npz", "--out", tmp_path / "b.dcm", *options, "--tg263"
    )
    assert "Liver: 32 voxels, was liver" in both.stdout and "Brainstem: 32 voxels" in both.stdout


@pytest.mark.parametrize("file_format", ["stl", "ply"])
def test_structure_set_to_surfaces(patient: Path, tmp_path: Path, file_format: str) -> None:
    folder = tmp_path / "surfaces"
    result = run("to-masks", patient, "--out", folder, "--format", file_format)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0].startswith("Blase: 32 voxels, surface of ")
    assert result.stdout.splitlines()[-1] == f"2 surfaces in {folder}"
    files = sorted(path.name for path in folder.glob(f"*.{file_format}"))
    assert files == [f"Blase.{file_format}", f"Left_lung.{file_format}"]
    again = run("to-masks", patient, "--out", folder, "--format", file_format)
    assert again.exit_code != 0 and "exists" in again.stderr
    assert run("to-masks", patient, "--out", folder, "--format", file_format, "--overwrite").exit_code == 0
