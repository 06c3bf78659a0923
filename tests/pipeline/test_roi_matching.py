"""`predict` and `evaluate` compare a ROI with the same reference contour, or with none."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from contour_ai import PredictOptions, Provenance, Structures, evaluate, predict, read_ct, read_structures
from contour_ai.dicom.rtstruct_write import write_structures
from contour_ai.structures import RoiInfo

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "sample_data" / "phantom-headneck-01"


def test_both_commands_take_the_same_contour(tmp_path: Path) -> None:
    """Two spellings of one organ are ambiguous for both; one spelling, and the outline by its type, for neither."""
    patient = tmp_path / "patient"
    shutil.copytree(SAMPLE / "ct", patient / "ct")
    ct = read_ct(patient / "ct")
    drawn = dict(read_structures(SAMPLE / "RS.dcm", ct).masks())
    own = {
        "Lt Parotid": drawn["Parotid_L"],
        "parotis li": drawn["Parotid_L"] & drawn["Parotid_L"][::-1],
        "parotis re": drawn["Parotid_R"],
        "Hirnstamm": drawn["Brainstem"],
        "Rind": drawn["External"],
    }
    info = {
        name: RoiInfo(name=name, color=(1, 2, 3), interpreted_type="EXTERNAL" if name == "Rind" else "ORGAN")
        for name in own
    }
    write_structures(
        patient / "rs.dcm", Structures.from_masks(own, ct.grid), ct, Provenance(label="own"), roi_info=info
    )

    found = predict(
        patient, "phantom-headneck", tmp_path / "out", PredictOptions(device="cpu", overlays=False)
    )
    assert found.path is not None
    result = evaluate(found.path, patient / "rs.dcm", ct=patient / "ct")
    compared = {row.roi: row.dsc for row in result.rows if row.status == "both"}
    assert "Parotid_L" not in found.dice and {"Parotid_R", "Brainstem"} <= found.dice.keys()
    assert compared == {roi: pytest.approx(value) for roi, value in found.dice.items() if value}
    ambiguous = "Parotid_L was not compared, because Lt Parotid, parotis li could all be it in rs.dcm"
    for notes in (found.notes, result.notes):
        assert any(ambiguous in note for note in notes), notes
        assert any("Rind was taken for" in note for note in notes), notes
        assert any("Hirnstamm was taken for Brainstem" in note for note in notes), notes
