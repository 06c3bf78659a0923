"""`contour-ai monitor`: edits of folders and of a node's storage, dose, export, page."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from synthetic import Stack, axial, box_contours, structure_set, uid, write_stack

from contour_ai.cli.main import cli
from contour_ai.grid import Grid
from contour_ai.monitoring.dose import read_dose, roi_dose
from contour_ai.monitoring.export import is_test_patient
from contour_ai.monitoring.measure import measure_edits
from contour_ai.monitoring.pairs import pairs_of_folders, pseudonym


def patient(root: Path, number: int, *, half_mm: float = 4.0, reviewer: str = "House^G") -> Stack:
    """A CT with an approved set, and an AI's set whose square of ROI A has another size; B is as approved."""
    stack = axial(
        4, patient_id=f"P{number:02d}", series=f"s{number}", study=f"st{number}", frame=f"f{number}"
    )
    write_stack(root / "approved" / f"P{number}" / "ct", stack)
    b = box_contours(stack, [1], 2.0)
    approved = structure_set(stack, {"A": box_contours(stack, [1, 2]), "B": b, "Added": b}, label="approved")
    approved.ApprovalStatus, approved.ReviewerName = "APPROVED", reviewer
    approved.ReviewDate = f"202601{number % 28 + 1:02d}"
    approved.save_as(root / "approved" / f"P{number}" / "rs.dcm", enforce_file_format=True)
    ai = structure_set(stack, {"A": box_contours(stack, [1, 2], half_mm), "B": b, "Removed": b}, label="ai")
    ai.SoftwareVersions = ["contour-ai 0.2.0", "head 1.0"]
    (root / "ai").mkdir(exist_ok=True)
    ai.save_as(root / "ai" / f"P{number}.dcm", enforce_file_format=True)
    return stack


def write_dose(path: Path, stack: Stack) -> None:
    """A dose of 1 Gy per mm along x, from -20 mm on."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.2"
    meta.MediaStorageSOPInstanceUID = uid(path.name)
    d = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    d.SOPClassUID, d.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    d.Modality, d.PatientID, d.StudyInstanceUID = "RTDOSE", stack.patient_id, uid(stack.study)
    d.SeriesInstanceUID, d.DoseUnits, d.DoseSummationType = uid(path.name, "series"), "GY", "PLAN"
    d.ImagePositionPatient, d.ImageOrientationPatient = [-20, -40, -60], [1, 0, 0, 0, 1, 0]
    d.PixelSpacing, d.GridFrameOffsetVector = [5, 5], [0, 10, 20, 30]
    d.Rows, d.Columns, d.NumberOfFrames = 12, 10, 4
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.BitsAllocated = d.BitsStored = 32
    d.HighBit, d.PixelRepresentation, d.DoseGridScaling = 31, 0, 0.001
    gray = np.broadcast_to(np.arange(10) * 5.0, (4, 12, 10))
    d.PixelData = (gray * 1000).astype(np.uint32).tobytes()
    d.save_as(path, enforce_file_format=True)


def test_edits_of_two_folders(tmp_path: Path) -> None:
    stack = patient(tmp_path, 1, half_mm=6.0)
    write_dose(tmp_path / "approved" / "P1" / "dose.dcm", stack)
    pairs, notes = pairs_of_folders(tmp_path / "ai", tmp_path / "approved")
    edits, unread = measure_edits(pairs)
    assert notes == [] and unread == []
    found = {e.roi: e for e in edits}
    assert {n: e.status for n, e in found.items()} == {
        "A": "compared",
        "B": "compared",
        "Removed": "removed",
        "Added": "added",
    }
    a, b = found["A"], found["B"]
    assert b.untouched and b.dsc == 1 and b.edited_slices == 0
    assert not a.untouched and a.dsc == pytest.approx(2 * 16 / (16 + 36)) and a.edited_slices == 2
    assert a.volume_ratio == pytest.approx(36 / 16) and a.added_path_mm > 0
    assert (a.date, a.model, a.reviewer) == ("2026-01-02", "head 1.0", pseudonym("House^G"))
    # The AI's square reaches 2 mm farther along x, where the dose rises by 1 Gy per mm.
    assert a.dose_mean_gy == pytest.approx(0.0, abs=1e-6)
    assert a.dose_003cc_gy == pytest.approx(2.0, abs=0.01)


def test_dose_of_a_mask_is_read_from_its_grid(tmp_path: Path) -> None:
    stack = axial(4)
    write_dose(tmp_path / "dose.dcm", stack)
    grid = Grid.axial((4, 12, 10), (3.0, 2.0, 2.0), (-20.0, -30.0, -50.0))
    mask = np.zeros(grid.shape_kij, bool)
    mask[1:3, 2:6, 3:7] = True
    found = roi_dose(mask, grid, read_dose(tmp_path / "dose.dcm"))
    assert found is not None
    assert found.mean_gy == pytest.approx(9.0) and found.d003cc_gy == pytest.approx(12.0)
    assert found.d95_gy == pytest.approx(6.0)
    assert roi_dose(np.zeros_like(mask), grid, read_dose(tmp_path / "dose.dcm")) is None


def test_the_command_writes_page_csv_and_archive_and_tells_a_drift(tmp_path: Path) -> None:
    for number in range(1, 25):
        patient(tmp_path, number, half_mm=4.0 if number < 18 else 6.0, reviewer="<b>Cut^throat")
    out = tmp_path / "out"
    done = CliRunner().invoke(
        cli,
        ["monitor", str(tmp_path / "ai"), str(tmp_path / "approved"), "--out", str(out), "--baseline", "12",
         "--export-worst", "3"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "alarm: A" in done.output and "24 patients" in done.output
    page = (out / "monitor.html").read_text(encoding="utf-8")
    assert "<svg" in page and "Approved unchanged" in page and "Cut" not in page and "http" not in page
    with (out / "edits.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24 * 4 and {r["status"] for r in rows} == {"compared", "removed", "added"}
    train = sorted(p.name for p in (out / "archive" / "train").iterdir())
    test = sorted(p.name[5:] for p in (out / "archive" / "test").iterdir())
    assert len(train) == 3 and all(int(n[-2:]) >= 18 for n in train)
    assert test == [f"P{n:02d}" for n in range(1, 25) if is_test_patient(f"P{n:02d}")]
    assert pydicom.dcmread(next((out / "archive" / "train").glob("*/RS.dcm"))).ApprovalStatus == "APPROVED"


def test_wrong_places_are_refused(tmp_path: Path) -> None:
    one = CliRunner().invoke(cli, ["monitor", str(tmp_path), "--out", str(tmp_path / "out")])
    assert one.exit_code == 2 and "two folders" in one.output
    (tmp_path / "a").mkdir()
    two = CliRunner().invoke(
        cli, ["monitor", str(tmp_path / "a"), str(tmp_path / "a"), "--out", str(tmp_path / "out")]
    )
    assert two.exit_code == 3


def test_a_new_model_is_set_against_the_one_in_use_on_the_test_patients_alone(tmp_path: Path) -> None:
    tested = [n for n in range(1, 40) if is_test_patient(f"P{n:02d}")][:6]
    others = [n for n in range(1, 40) if not is_test_patient(f"P{n:02d}")][:2]
    new = tmp_path / "new"
    new.mkdir()
    for number in (*tested, *others):
        stack = patient(tmp_path, number, half_mm=6.0)
        b = box_contours(stack, [1], 2.0)
        drawn = structure_set(stack, {"A": box_contours(stack, [1, 2]), "B": b}, label="new")
        drawn.SoftwareVersions = ["contour-ai 0.2.0", "head 1.1"]
        if number != tested[0]:
            drawn.save_as(new / f"P{number}.dcm", enforce_file_format=True)
    out = tmp_path / "out"
    done = CliRunner().invoke(
        cli,
        ["monitor", str(tmp_path / "ai"), str(tmp_path / "approved"), "--out", str(out), "--new-model", str(new)],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "head 1.1 against head 1.0, in use, on 5 test patients" in done.output
    assert "no test patient" in done.output and "without contours of the new model" in done.output
    with (out / "new-model.csv").open(encoding="utf-8", newline="") as file:
        rows = {(r["roi"], r["figure"]): r for r in csv.DictReader(file)}
    a, b = rows["A", "dsc"], rows["B", "dsc"]
    assert (a["patients"], a["new_better"], a["old_better"]) == ("5", "5", "0")
    assert float(a["new_median"]) == 1 and float(a["old_median"]) == pytest.approx(2 * 16 / (16 + 36))
    assert float(a["median_difference"]) == pytest.approx(1 - 32 / 52)
    assert b["equal"] == "5" and ("Added", "dsc") not in rows
    page = (out / "monitor.html").read_text(encoding="utf-8")
    assert "New model against the one in use" in page and "which favours it" in page
    nobody = tmp_path / "nobody"
    nobody.mkdir()
    refused = CliRunner().invoke(
        cli,
        ["monitor", str(tmp_path / "ai"), str(tmp_path / "approved"), "--out", str(tmp_path / "o2"),
         "--new-model", str(nobody)],
    )  # fmt: skip
    assert refused.exit_code == 3 and "--export-worst" in refused.output
