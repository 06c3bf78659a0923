"""The check of an archive finds what is wrong, says why, and leaves the rest in peace."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from contour_ai.structures import tg263_table
from contour_ai.structures.plausible import plausible_volume_cm3
from contour_ai.training.archive_check import ArchiveCheck, ArchiveFinding, check_rois
from contour_ai.training.roi_facts import RoiFacts

Archive = dict[str, dict[str, RoiFacts]]


def facts(volume_cm3: float = 25.0, slices: int = 20, left_mm: float = 0.0, **changes: object) -> RoiFacts:
    length_mm = 2.5 * slices
    plain = RoiFacts(
        contours=slices,
        unused_contours=0,
        volume_cm3=volume_cm3,
        slices=slices,
        missing_slices=0,
        length_mm=length_mm,
        scan_share=0.2,
        cut=False,
        outside_share=0.0,
        left_mm=left_mm,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def archive(number: int = 40) -> Archive:
    """Patients whose organs differ as people do."""
    rng = np.random.default_rng(3)
    size = rng.normal(1, 0.08, (number, 3)).clip(0.84, 1.16) ** 3
    return {
        f"P{n}": {
            "Brainstem": facts(25 * a),
            "Parotid_L": facts(26 * b, left_mm=58.0),
            "Parotid_R": facts(26 * c, left_mm=-58.0),
        }
        for n, (a, b, c) in enumerate(size)
    }


def found(patients: Archive, absent: dict[str, frozenset[str]] | None = None) -> ArchiveCheck:
    return ArchiveCheck.of(check_rois(patients, absent or {}))


def test_an_archive_without_faults_has_none() -> None:
    assert found(archive()).left_out == ()
    equal = {f"P{n}": {"Brainstem": facts()} for n in range(20)}
    assert found(equal).findings == ()


@pytest.mark.parametrize(
    ("roi", "wrong", "kind", "reason"),
    [
        (
            "Brainstem",
            facts(60.0),
            "volume",
            r"60 cm3, in most patients 2\d\.?\d? cm3 \(\d+\.\d standard deviations",
        ),
        ("Brainstem", facts(8.0), "volume", "8 cm3, in most patients"),
        ("Brainstem", facts(1359.0), "volume", "1.36e\\+03 cm3; the whole organ has 5 to 60 cm3"),
        ("Brainstem", facts(25.0, slices=5), "cross-section", "its mean cross-section is 20 cm2"),
        ("Brainstem", facts(6.0, slices=1), "one slice", "on one slice, in most patients on 20"),
        ("Brainstem", RoiFacts(), "empty", "no closed contour"),
        ("Brainstem", RoiFacts(contours=3), "empty", "hold no voxel"),
        ("Brainstem", RoiFacts(contours=3, unused_contours=3), "mismatch", "3 of 3 contours lie on no slice"),
        (
            "Brainstem",
            facts(slices=15, missing_slices=5, length_mm=50.0),
            "slice gap",
            "5 slices within it have",
        ),
        ("Brainstem", facts(outside_share=0.3), "outside the body", "30 % of it lies outside the body"),
    ],
)
def test_one_wrong_roi_is_found_and_left_out(roi: str, wrong: RoiFacts, kind: str, reason: str) -> None:
    patients = archive()
    patients["P7"][roi] = wrong
    check = found(patients)
    assert {(f.patient, f.roi) for f in check.left_out} == {("P7", roi)}
    assert check.rois_left_out("P7") == {roi} and check.rois_left_out("P8") == frozenset()
    matching = [f for f in check.left_out if f.kind == kind]
    assert matching
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError("; ".join(f.reason for f in matching))


def test_small_faults_are_only_mentioned() -> None:
    patients = archive()
    patients["P1"]["Brainstem"] = facts(slices=19, missing_slices=1)
    patients["P2"]["Brainstem"] = facts(outside_share=0.07)
    patients["P3"]["Brainstem"] = facts(unused_contours=1)
    check = found(patients)
    assert check.left_out == ()
    assert {(f.patient, f.kind) for f in check.findings} >= {
        ("P1", "slice gap"),
        ("P2", "outside the body"),
        ("P3", "mismatch"),
    }


def test_an_organ_cut_by_the_scan_may_be_small() -> None:
    patients = archive()
    patients["P1"]["Brainstem"] = facts(4.0, slices=4, cut=True)
    assert found(patients).left_out == ()
    patients["P1"]["Brainstem"] = facts(4.0, slices=4)
    assert found(patients).rois_left_out("P1") == {"Brainstem"}


def test_swapped_sides_by_the_pair_and_by_the_body() -> None:
    patients = archive(3)
    left, right = patients["P0"]["Parotid_L"], patients["P0"]["Parotid_R"]
    patients["P0"] |= {"Parotid_L": right, "Parotid_R": left}
    del patients["P1"]["Parotid_L"]
    patients["P1"]["Parotid_R"] = replace(right, left_mm=40.0)
    # Lying far to one side of the table is no fault as long as the pair is right.
    patients["P2"]["Parotid_L"] = replace(left, left_mm=90.0)
    patients["P2"]["Parotid_R"] = replace(right, left_mm=20.0)
    check = found(patients)
    assert check.rois_left_out("P0") == {"Parotid_L", "Parotid_R"}
    assert check.rois_left_out("P1") == {"Parotid_R"}
    assert check.rois_left_out("P2") == frozenset()
    reasons = {f.patient: f.reason for f in check.left_out}
    assert reasons["P0"] == "Parotid_L lies 116 mm to the right of Parotid_R: they are swapped"
    assert reasons["P1"] == "its centre lies 40 mm to the left of the middle of the body"


def test_sides_of_names_that_are_no_sides_are_left_alone() -> None:
    assert found({"P": {"Ventricle_L": facts(left_mm=-20.0)}}).findings == ()


def test_contoured_though_declared_absent() -> None:
    check = found({"P": {"Brainstem": facts(), "Parotid_L": RoiFacts()}}, {"P": frozenset({"Brainstem"})})
    assert [(f.roi, f.kind) for f in check.left_out] == [("Brainstem", "absent"), ("Parotid_L", "empty")]
    assert "declared absent, but contoured (25.0 cm3)" in check.left_out[0].reason


def test_many_wrong_ones_do_not_hide_each_other() -> None:
    patients = archive()
    for n in range(4):
        patients[f"P{n}"]["Brainstem"] = facts(58.0)
    assert {f.patient for f in found(patients).left_out} == {"P0", "P1", "P2", "P3"}


def test_saved_as_a_table(tmp_path: Path) -> None:
    check = ArchiveCheck.of(
        [
            ArchiveFinding(patient="P1", roi="", kind="note", reason='a "note", with commas', left_out=False),
            ArchiveFinding(patient="P2", roi="Brainstem", kind="volume", reason="60 cm3"),
        ]
    )
    check.save(tmp_path / "check.csv")
    with (tmp_path / "check.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {
        "patient": "P2",
        "roi": "Brainstem",
        "what": "volume",
        "left_out": "yes",
        "reason": "60 cm3",
    }
    assert rows[1]["reason"] == 'a "note", with commas' and rows[1]["left_out"] == "no"


def test_plausible_volumes_are_of_structures_that_exist() -> None:
    assert plausible_volume_cm3("Parotid_R") == plausible_volume_cm3("Parotid_L")
    assert plausible_volume_cm3("Parotid") is None and plausible_volume_cm3("ring 3") is None
    assert plausible_volume_cm3("Lungs") is not None
    known = [name for name in tg263_table() if plausible_volume_cm3(name)]
    assert len(known) > 40


def test_what_a_target_left_of_an_organ_is_left_out() -> None:
    patients = archive(4)
    patients["P2"]["Parotid_L"] = facts(3.0, left_mm=58.0)
    (finding,) = found(patients).left_out
    assert (finding.patient, finding.roi, finding.kind) == ("P2", "Parotid_L", "volume")
    assert re.fullmatch(
        r"3 cm3 where others have 2\d(\.\d)? cm3: what is left of it outside a target\?", finding.reason
    )
    patients["P2"]["Parotid_L"] = facts(3.0, left_mm=58.0, cut=True)
    assert found(patients).left_out == (), "the scan ends there"
