"""Which structure set of a CT is taken, and what is said of the others."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic import axial, box_contours, structure_set, uid, write_stack

from contour_ai.dicom.scan import find_patients
from contour_ai.dicom.structure_set_choice import StructureSetChoice, checked_rule, choose_structure_set
from contour_ai.errors import ConfigError

STACK = axial()


def write_set(folder: Path, label: str, date: str = "20260102", **elements: str | list[str]) -> None:
    data_set = structure_set(STACK, {"Bladder": box_contours(STACK, [1])}, label=label)
    data_set.StructureSetDate = date
    data_set.SOPInstanceUID = data_set.file_meta.MediaStorageSOPInstanceUID = uid(label, date, *elements)
    for keyword, value in elements.items():
        setattr(data_set, keyword, value)
    data_set.save_as(folder / f"{label} {date}.dcm", enforce_file_format=True)


def chosen(folder: Path, how: str) -> StructureSetChoice:
    (patient,) = find_patients(folder)
    return choose_structure_set(patient.structure_sets, how)


def taken(folder: Path, how: str) -> list[str]:
    return [f"{s.label} {s.created[:8]}" for s in chosen(folder, how).taken]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_stack(tmp_path / "ct", STACK)
    return tmp_path


def test_newest_approved_only_and_by_label(folder: Path) -> None:
    write_set(folder, "CLINICAL", "20260101", ApprovalStatus="APPROVED")
    assert taken(folder, "only") == taken(folder, "newest") == ["CLINICAL 20260101"]
    assert chosen(folder, "only").reason == ""
    write_set(folder, "CLINICAL", "20260103")
    write_set(folder, "STUDENT", "20260105")
    assert taken(folder, "newest") == ["STUDENT 20260105"]
    assert taken(folder, "approved") == ["CLINICAL 20260101"]
    assert taken(folder, "clin*") == ["CLINICAL 20260103"]
    assert taken(folder, "PLAN*") == taken(folder, "only") == []
    assert len(chosen(folder, "merge").taken) == 3
    reason = chosen(folder, "approved").reason
    assert reason.startswith('taken: "CLINICAL" (20260101 030405, approved; CLINICAL 20260101.dcm)')
    assert '"STUDENT" (20260105 030405, not approved; STUDENT 20260105.dcm)' in reason.split("not taken")[1]
    assert "choose with --structure-set" in chosen(folder, "only").reason
    assert "none is labelled PLAN*" in chosen(folder, "PLAN*").reason


def test_of_one_date_the_approved_one_and_otherwise_none(folder: Path) -> None:
    write_set(folder, "A")
    write_set(folder, "B")
    assert taken(folder, "newest") == []
    assert "2 are of the same date and time" in chosen(folder, "newest").reason
    write_set(folder, "C", ApprovalStatus="APPROVED")
    assert taken(folder, "newest") == ["C 20260102"]


def test_own_unapproved_and_rejected_contours_are_never_taken(folder: Path) -> None:
    own = {"Manufacturer": "contour-ai", "ManufacturerModelName": "contour-ai"}
    write_set(folder, "AI", "20260401", **own, ApprovalStatus="UNAPPROVED")
    for how in ("newest", "only", "AI", "merge", "approved"):
        assert taken(folder, how) == []
        assert "unapproved contours of contour-ai" in chosen(folder, how).reason
    write_set(folder, "CLINICAL", "20260101")
    write_set(folder, "WRONG", "20260501", ApprovalStatus="REJECTED")
    assert taken(folder, "only") == taken(folder, "newest") == taken(folder, "merge") == ["CLINICAL 20260101"]
    write_set(folder, "AI", "20260402", **own, ApprovalStatus="APPROVED")
    assert taken(folder, "newest") == ["AI 20260402"]


def test_phantoms_count_where_no_other_program_drew(folder: Path) -> None:
    own = {"Manufacturer": "contour-ai", "SoftwareVersions": "contour-ai 0.1.0"}
    write_set(folder, "PHANTOM", "20260401", **own, ApprovalStatus="UNAPPROVED")
    assert taken(folder, "only") == ["PHANTOM 20260401"]
    model = ["contour-ai 0.1.0", "model 1.0"]
    write_set(folder, "AI", "20260501", Manufacturer="contour-ai", SoftwareVersions=model)
    assert taken(folder, "newest") == ["PHANTOM 20260401"]
    write_set(folder, "CLINICAL", "20260101")
    assert taken(folder, "newest") == ["CLINICAL 20260101"]


def test_what_is_no_rule_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"found: merge(.|\n)*merge is for training"):
        checked_rule("merge")
    with pytest.raises(ConfigError, match="no way to choose"):
        checked_rule(" ", merge=True)
