"""`contour-ai sample`: the committed patients bit for bit, and others for training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from contour_ai.cli.main import cli
from contour_ai.dicom.ct import read_ct
from contour_ai.dicom.rtstruct_read import read_structures
from contour_ai.dicom.scan import find_patient
from contour_ai.errors import OutputError
from contour_ai.sample.patients import write_phantoms
from contour_ai.sample.phantom import draw_phantom

SAMPLE_DATA = Path(__file__).parents[2] / "sample_data"


def files_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.dcm")}


@pytest.mark.slow
def test_sample_data_comes_out_again_bit_for_bit(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["sample", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    made, committed = files_of(tmp_path / "out"), files_of(SAMPLE_DATA)
    assert made.keys() == committed.keys()
    different = [name for name in made if made[name] != committed[name]]
    assert not different, "run `contour-ai sample sample_data --overwrite` where the change is meant"
    assert sum(map(len, committed.values())) < 6e6


def test_a_written_patient_is_the_drawn_one(tmp_path: Path) -> None:
    (folder,) = write_phantoms(tmp_path, [("pelvis", 30)], missing=0.4)
    drawn = draw_phantom("pelvis", 30, missing=0.4)
    found = find_patient(folder, needs_rtstruct=True)
    ct = read_ct(found.ct)
    assert ct.volume is not None
    np.testing.assert_array_equal(ct.volume.hu, drawn.volume.hu)
    assert ct.grid.matches(drawn.volume.grid, tol_mm=1e-6)
    structures = read_structures(found.structure_sets[0].path, ct)
    assert structures.contoured() == drawn.structures.contoured()
    np.testing.assert_array_equal(structures.bits, drawn.structures.bits)


def test_many_patients_for_training(tmp_path: Path) -> None:
    arguments = ["sample", str(tmp_path), "--region", "pelvis", "--count", "2", "--first-seed", "100"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    assert sorted(p.name for p in tmp_path.iterdir()) == ["phantom-pelvis-100", "phantom-pelvis-101"]
    again = CliRunner().invoke(cli, arguments)
    assert again.exit_code == 2
    assert "exist already" in again.output
    assert "phantom-pelvis-100" in again.output


def test_nothing_is_written_where_one_patient_exists(tmp_path: Path) -> None:
    (tmp_path / "phantom-pelvis-02").mkdir()
    with pytest.raises(OutputError, match="exist already"):
        write_phantoms(tmp_path, [("pelvis", 1), ("pelvis", 2)])
    assert [p.name for p in tmp_path.iterdir()] == ["phantom-pelvis-02"]
