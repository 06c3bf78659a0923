"""``contour-ai inspect`` and ``contour-ai rois``: what they print, write and exit with."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pydicom.uid import RTDoseStorage
from synthetic import axial, box_contours, uid, write_other, write_stack, write_structure_set

from contour_ai.cli.main import cli
from contour_ai.structures.roi_map import RoiMap


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments], prog_name="contour-ai")


def patient(folder: Path, number: int = 1, names: tuple[str, ...] = ("Blase", "parotis li")) -> None:
    stack = axial(series=f"series {number}", study=f"s{number}", frame=f"f{number}", patient_id=f"P{number}")
    write_stack(folder / f"{number}", stack)
    rois = {name: box_contours(stack, range(1, 1 + n)) for n, name in enumerate(names, start=1)}
    write_structure_set(folder / f"{number}" / "rs.dcm", stack, rois)


def test_inspect_shows_series_structure_sets_and_rois(tmp_path: Path) -> None:
    patient(tmp_path)
    write_other(tmp_path / "dose", "RTDOSE", RTDoseStorage, axial())
    result = run("inspect", tmp_path)
    assert result.exit_code == 0
    text = result.stdout
    assert text.splitlines()[0].endswith(": 1 CT series, 1 RTSTRUCT")
    assert "not used: 1 RT Dose" in text
    assert f"CT series {uid('series 1')}" in text
    assert 'patient P1, "series 1", 5 slices' in text
    assert "12 x 10 pixels of 2 x 2 mm, slices 3 mm apart, axial, HFS" in text
    rows = [line.split() for line in text.splitlines()]
    # 8 x 8 mm squares around a voxel corner hold 4 x 4 voxels of 2 x 2 x 3 mm
    assert ["Blase", "Bladder", "1", "1", "0.19"] in rows
    assert ["parotis", "li", "Parotid_L", "2", "2", "0.38"] in rows
    assert "not used: 1 RT Dose" in text
    assert "no problems" in text


def test_inspect_names_problems_and_the_way_out(tmp_path: Path) -> None:
    patient(tmp_path, 1)
    stack = axial(12, series="gap", study="s9", frame="f9", patient_id="P9")
    write_stack(tmp_path / "gap", stack)[4].unlink()
    lost = axial(series="not here", patient_id="P1", frame="f0")
    write_structure_set(tmp_path / "lost.dcm", lost, {"Liver": box_contours(lost, [1])})
    (tmp_path / "empty.dcm").touch()
    result = run("inspect", tmp_path)
    assert result.exit_code == 0, "problems, but one series can be used"
    text = result.stdout
    assert "predict and train cannot use it: 1 slice(s) of this CT series are missing" in text
    assert "what to do: export or copy the whole series again" in text
    assert f"was drawn on CT series {uid('not here')}" in text
    assert f"{tmp_path / 'empty.dcm'}: This file is empty (0 bytes)." in text


def test_inspect_of_nothing_usable_exits_with_3(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    result = run("inspect", tmp_path)
    assert result.exit_code == 3
    assert result.stdout.splitlines()[0].endswith(": 0 CT series, 0 RTSTRUCT")
    assert "not used: 1 other file(s)" in result.stdout
    assert "Nothing here can be used: there is no CT series that can be read." in result.stderr


def test_inspect_of_a_missing_path_exits_with_3(tmp_path: Path) -> None:
    result = run("inspect", tmp_path / "none")
    assert result.exit_code == 3
    assert "No such file or folder" in result.stderr


def test_inspect_of_a_series_that_cannot_be_used_exits_with_3(tmp_path: Path) -> None:
    paths = write_stack(tmp_path, axial())
    paths[1].write_bytes(paths[1].read_bytes()[:-100])
    result = run("inspect", tmp_path)
    assert result.exit_code == 3
    assert "cut short: it has too few pixels" in result.stdout
    assert "what to do: see the problems above" in result.stderr


@pytest.mark.parametrize("options", [(), ("--no-volumes",)])
def test_rois_counts_names_and_proposes(tmp_path: Path, options: tuple[str, ...]) -> None:
    patient(tmp_path, 1, ("Blase", "parotis li", "zHelp"))
    patient(tmp_path, 2, ("BLASE", "LT PAROTID", "Lung"))
    patient(tmp_path, 3, ("Blase",))
    write_stack(tmp_path / "4", axial(series="bare", patient_id="P4"))
    result = run("rois", tmp_path, *options)
    assert result.exit_code == 0, result.stderr
    rows = [line.split() for line in result.stdout.splitlines()]
    volumes = ["0.2", "0.2", "-", "0.2"] if not options else ["-"]
    assert ["Blase", "3", "Bladder", *volumes] in rows
    assert any(row[:4] == ["LT", "PAROTID", "1", "Parotid_L"] for row in rows)
    assert any(row[:2] == ["Lung", "1"] for row in rows), "the side is not guessed"
    assert "may be Lung_L or Lung_R or Lungs" in result.stdout
    assert "begins with z: not used for dose (TG-263)" in result.stdout
    assert result.stdout.splitlines()[-1] == "5 names: 3 mapped, 1 set aside, 1 to decide"
    assert "without a structure set: P4" in result.stdout


def test_rois_writes_a_map_to_edit(tmp_path: Path) -> None:
    patient(tmp_path / "data", 1, ("Blase", "parotis li", "z_Help", "z_Ring"))
    patient(tmp_path / "data", 2, ("BLASE", "LT PAROTID", "Lung"))
    path = tmp_path / "roi-map.yaml"
    result = run("rois", tmp_path / "data", "--out", path)
    assert result.exit_code == 0, result.stderr
    roi_map = RoiMap.load(path)
    assert roi_map.rois == {"Bladder": ("BLASE",), "Parotid_L": ("LT PAROTID", "parotis li")}
    text = path.read_text(encoding="utf-8")
    assert "- BLASE  # 2 of 2 patients, median 0.2 cm3" in text
    assert roi_map.ignore == ("z_*",)
    assert "- z_*  # 2 names, 2 structure sets" in text
    assert "#  - Lung  # 1 of 2 patients; may be Lung_L or Lung_R or Lungs" in text
    assert "1 name to decide: map or ignore them in" in result.stderr
    assert result.stdout.splitlines()[-1] == "6 names: 3 mapped, 2 set aside, 1 to decide"

    caught = run("rois", tmp_path / "data", "--roi-map", path)
    rows = [line.split() for line in caught.stdout.splitlines()]
    assert ["ignored", "z_*", "2", "2", "z_Help,", "z_Ring"] in rows
    assert ["Bladder", "BLASE", "1", "2"] in rows
    assert caught.stdout.splitlines()[-1] == "6 names: 3 mapped, 2 set aside, 1 to decide"

    again = run("rois", tmp_path / "data", "--out", path)
    assert again.exit_code == 2
    assert "exists already" in again.stderr
    assert run("rois", tmp_path / "data", "--out", path, "--overwrite").exit_code == 0


def test_rois_without_structure_sets_is_refused(tmp_path: Path) -> None:
    write_stack(tmp_path, axial())
    result = run("rois", tmp_path)
    assert result.exit_code == 3
    assert "No CT series in this archive has a structure set" in result.stderr
    assert "1 CT series without a structure set" in result.stderr


def test_rois_names_what_it_could_not_measure(tmp_path: Path) -> None:
    patient(tmp_path, 1)
    patient(tmp_path, 2)
    cut = tmp_path / "2" / "CT003.dcm"
    cut.write_bytes(cut.read_bytes()[:-100])
    result = run("rois", tmp_path)
    assert result.exit_code == 0
    assert "patient P2: not measured: This CT file is cut short" in result.stderr


def test_rois_tells_a_remainder_from_the_organ_by_volume(tmp_path: Path) -> None:
    for number, slices in (("1", (10, 9)), ("2", (9, 10)), ("3", (1, 1))):
        stack = axial(
            12, series=f"s{number}", study=f"t{number}", frame=f"f{number}", patient_id=f"P{number}"
        )
        write_stack(tmp_path / number, stack)
        names = ("Parotid_L", "Parotid_R" if number != "3" else "parotis re")
        rois = {name: box_contours(stack, range(n)) for name, n in zip(names, slices, strict=True)}
        write_structure_set(tmp_path / number / "rs.dcm", stack, rois)
    result = run("rois", tmp_path)
    assert result.exit_code == 0, result.stderr
    text = " ".join(result.stdout.split())
    remainder = "0.192 cm3 where {} has 1.82 cm3 elsewhere: what is left of it outside a target?"
    assert f"told apart by volume: Parotid_L in P3: {remainder.format('Parotid_L')}" in text
    assert f"parotis re 1 0.2 {remainder.format('Parotid_R')}" in text
    assert result.stdout.splitlines()[-1] == "3 names: 2 mapped, 0 set aside, 1 to decide"


def test_rois_of_a_list_of_names(tmp_path: Path) -> None:
    path = tmp_path / "names.csv"
    path.write_text("name,instances\nParotid_L,785\nPTV70,3\nPTV60,4\nThyroid,2\n", encoding="utf-8")
    result = run("rois", path, "--out", tmp_path / "map.yaml")
    assert result.exit_code == 0, result.stderr
    assert "a PTV" in result.stdout and "may be Glnd_Thyroid or Cartlg_Thyroid" in result.stdout
    assert result.stdout.splitlines()[-1] == "4 names: 1 mapped, 2 set aside, 1 to decide"
    assert "- '*PTV*'  # 2 names, 7 structure sets" in (tmp_path / "map.yaml").read_text(encoding="utf-8")


def test_rois_decides_by_volume_and_place(tmp_path: Path) -> None:
    for number, slices in (("1", range(2, 10)), ("2", range(3, 11))):
        stack = axial(
            40, series=f"s{number}", study=f"t{number}", frame=f"f{number}", patient_id=f"P{number}"
        )
        write_stack(tmp_path / number, stack)
        rois = {"Thyroid": box_contours(stack, slices, 9), "Larynx": box_contours(stack, range(24, 36), 9)}
        write_structure_set(tmp_path / number / "rs.dcm", stack, rois)
    result = run("rois", tmp_path)
    assert result.exit_code == 0, result.stderr
    row = next(line.split() for line in result.stdout.splitlines() if line.startswith("Thyroid"))
    assert row[:3] == ["Thyroid", "2", "Glnd_Thyroid"]
    assert "decided by volume and place: 7.78 cm3" in result.stdout
    assert result.stdout.splitlines()[-1] == "2 names: 2 mapped, 0 set aside, 0 to decide"
    named = run("rois", tmp_path, "--no-volumes")
    assert named.stdout.splitlines()[-1] == "2 names: 1 mapped, 0 set aside, 1 to decide"
