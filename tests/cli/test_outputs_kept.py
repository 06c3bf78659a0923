"""What --overwrite must not take, command by command; and that unfinished files are no input."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from synthetic import axial, box_contours, write_stack, write_structure_set

from contour_ai.cli.main import cli
from contour_ai.files.temporary import temporary_name

STACK = axial(6, shape_ij=(24, 20))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments], prog_name="contour-ai")


def contents(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def patient(tmp_path: Path) -> Path:
    """CT and structure set, and beside them a prediction."""
    write_stack(tmp_path / "p" / "ct", STACK)
    write_structure_set(tmp_path / "p" / "rs.dcm", STACK, {"Bladder": box_contours(STACK, [2, 3])})
    (tmp_path / "ai").mkdir()
    write_structure_set(
        tmp_path / "ai" / "RS.1.dcm", STACK, {"Bladder": box_contours(STACK, [2, 3, 4])}, label="AI"
    )
    return tmp_path / "p"


def test_masks_never_replace_the_patient(patient: Path, tmp_path: Path) -> None:
    before = contents(patient)
    for out, relation in ((patient, "is"), (tmp_path, "holds"), (patient / "ct", "lies in")):
        result = run("to-masks", patient, "--out", out, "--overwrite")
        assert result.exit_code == 2, result.output
        assert f"replaced {relation} an input" in result.stderr and "choose another --out" in result.stderr
    assert contents(patient) == before
    assert run("to-masks", patient, "--out", patient / "masks").exit_code == 0  # a new one may lie there
    again = run("to-masks", patient, "--out", tmp_path / "masks")
    assert again.exit_code == 0, again.output
    assert run("to-masks", patient, "--out", tmp_path / "masks", "--overwrite").exit_code == 0


def test_an_archive_of_masks_replaces_only_such_an_archive(patient: Path, tmp_path: Path) -> None:
    other = tmp_path / "thesis.npz"
    other.write_bytes(b"not what the name says")
    result = run("to-masks", patient, "--out", other, "--overwrite")
    assert result.exit_code == 2 and "of another kind" in result.stderr, result.output
    assert other.read_bytes() == b"not what the name says"
    assert run("to-masks", patient, "--out", tmp_path / "m.npz").exit_code == 0
    assert run("to-masks", patient, "--out", tmp_path / "m.npz", "--overwrite").exit_code == 0


def test_a_structure_set_replaces_only_a_structure_set(patient: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", Bladder=np.ones((6, 24, 20), bool))
    before = contents(patient)
    slice_path = sorted((patient / "ct").iterdir())[0]
    result = run("to-rtstruct", patient / "ct", tmp_path / "m.npz", "--out", slice_path, "--overwrite")
    assert result.exit_code == 2 and "is an input" in result.stderr, result.output
    copy = shutil.copy(slice_path, tmp_path / "other-ct.dcm")
    result = run("to-rtstruct", patient / "ct", tmp_path / "m.npz", "--out", copy, "--overwrite")
    assert result.exit_code == 2 and "same kind (RTSTRUCT)" in result.stderr, result.output
    assert contents(patient) == before
    mine = tmp_path / "mine.dcm"
    assert run("to-rtstruct", patient / "ct", tmp_path / "m.npz", "--out", mine).exit_code == 0
    assert run("to-rtstruct", patient / "ct", tmp_path / "m.npz", "--out", mine, "--overwrite").exit_code == 0


def test_tables_never_replace_what_they_compare(patient: Path, tmp_path: Path) -> None:
    before = contents(tmp_path)
    for out in (patient, patient / "ct", tmp_path / "ai", tmp_path):
        result = run("evaluate", tmp_path / "ai", patient, "--out", out, "--overwrite")
        assert result.exit_code == 2 and "an input" in result.stderr, result.output
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "letter.odt").write_bytes(b"dear colleague")
    result = run("evaluate", tmp_path / "ai", patient, "--out", documents, "--overwrite")
    assert result.exit_code == 2 and "letter.odt: not listed" in result.stderr, result.output
    shutil.rmtree(documents)
    assert contents(tmp_path) == before
    for _ in range(2):
        result = run("evaluate", tmp_path / "ai", patient, "--out", tmp_path / "scores", "--overwrite")
        assert result.exit_code == 0, result.output


def test_unfinished_files_are_no_input(patient: Path, tmp_path: Path) -> None:
    shutil.move(tmp_path / "ai" / "RS.1.dcm", tmp_path / "ai" / temporary_name(".dcm"))
    result = run("evaluate", tmp_path / "ai", patient)
    assert result.exit_code == 3 and "no structure set in PREDICTED" in result.stderr, result.output
    left = tmp_path / temporary_name()
    shutil.move(patient / "ct", left)
    (patient / temporary_name()).mkdir()
    result = run("inspect", patient)
    assert result.exit_code == 3 and "0 CT series, 1 RTSTRUCT" in result.stdout
    result = run("inspect", left)
    assert result.exit_code == 3 and "an unfinished file or folder of a run" in result.stderr


def test_results_below_a_patient_are_named_and_not_looked_into(patient: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", Bladder=np.ones((6, 24, 20), bool))
    assert run("evaluate", tmp_path / "ai", patient, "--out", patient / "scores").exit_code == 0
    shutil.copy(tmp_path / "ai" / "RS.1.dcm", patient / "scores")
    result = run("inspect", patient)
    assert result.exit_code == 0, result.output
    assert "not used: 1 folder(s) of results of contour-ai, not looked into" in result.stdout
    assert "0 CT series, 1 RTSTRUCT" in run("inspect", patient / "scores").stdout
