"""What the header says of patient and scan, and what of it does not fit the training patients."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from contour_ai.dicom.scan_facts import ScanFacts, facts_of_scan
from contour_ai.quality.flag import CODES
from contour_ai.quality.suitability import (
    TrainedOn,
    organs_of_other_sex,
    posture,
    suitability_flags,
    trained_on,
)
from contour_ai.settings import from_mapping, to_mapping


def header(**values: str) -> Dataset:
    data_set = Dataset()
    for keyword, value in values.items():
        setattr(data_set, keyword, value)
    return data_set


MEN = [
    ScanFacts(sex="M", age_years=50.0 + n, position="HFS", contrast=False, kvp=120.0, tilt_degrees=0.0)
    for n in range(21)
]


def test_facts_of_a_header() -> None:
    facts = facts_of_scan(
        header(
            PatientSex="m", PatientAge="006Y", PatientPosition="HFP", ContrastBolusAgent="Iomeprol", KVP="100"
        )
    )
    assert facts == ScanFacts(sex="M", age_years=6.0, position="HFP", contrast=True, kvp=100.0)
    born = facts_of_scan(header(PatientBirthDate="20100301", StudyDate="20160301", ContrastBolusAgent="NONE"))
    assert born.age_years == pytest.approx(6.0, abs=0.01) and born.contrast is False
    assert facts_of_scan(header(PatientAge="018M")).age_years == pytest.approx(1.5, abs=0.01)
    assert facts_of_scan(header(GantryDetectorTilt="-12.5")).tilt_degrees == 12.5
    assert (
        facts_of_scan(header(PatientSex="O", PatientAge="old", PatientBirthDate="19", KVP="0")) == ScanFacts()
    )
    assert facts_of_scan(header(PatientBirthDate="18000101", StudyDate="20200101")).age_years is None


def test_what_training_patients_say_together() -> None:
    known = trained_on(MEN)
    assert known.sex == {"M": 21} and known.position == {"HFS": 21} and known.without_contrast == 21
    assert known.age_years == (51.0, 60.0, 69.0) and known.kvp == (120.0, 120.0, 120.0)
    assert known.in_words() == (
        "By the headers of 21 patients: 21 male; aged 51 to 69 (median 60); PatientPosition HFS in 21; "
        "contrast medium in 0 of 21; 120 to 120 kV."
    )
    assert from_mapping(TrainedOn, to_mapping(known), where="x") == known
    few = trained_on(MEN[:3])
    assert few.age_years is None and few.kvp is None and trained_on([ScanFacts()]).in_words() == ""


def test_each_thing_that_does_not_fit_is_one_sentence() -> None:
    known = trained_on(MEN)
    other = ScanFacts(sex="F", age_years=6.0, position="FFP", contrast=True, kvp=80.0, tilt_degrees=15.0)
    found = {flag.code: flag.reason for flag in suitability_flags(other, known, ["Brainstem"])}
    assert found == {
        "input_sex": "PatientSex is F; all 21 training patients of known sex are male",
        "input_age": "the patient is 6 years old; the training patients were 51 to 69",
        "input_posture": "the patient lies prone (PatientPosition FFP); all 21 training patients lay supine",
        "input_contrast": "scanned with contrast medium; all 21 training patients whose header says it were scanned "
        "without",
        "input_kvp": "scanned at 80 kV, training patients at 120 to 120 kV: HU of bone differ",
        "input_tilt": "the gantry was tilted by 15 degrees; no training patient was scanned so",
    }
    assert set(found) <= set(CODES)
    assert suitability_flags(MEN[3], known, ["Brainstem"]) == []
    assert suitability_flags(ScanFacts(position="FFS", age_years=78.0), known, []) == [], (
        "feet first is supine, too"
    )
    assert suitability_flags(ScanFacts(), known, ["Prostate"]) == []


def test_a_model_that_says_nothing_names_other_organs_and_children() -> None:
    woman, girl = ScanFacts(sex="F"), ScanFacts(sex="F", age_years=0.5)
    (flag,) = suitability_flags(woman, None, ["Bladder", "Prostate", "PenileBulb"])
    assert flag.reason == "PatientSex is F; the model contours organs of men (Prostate, PenileBulb)"
    assert suitability_flags(woman, None, ["Bladder"]) == []
    (flag,) = suitability_flags(ScanFacts(sex="M"), TrainedOn(), ["Uterus"])
    assert flag.reason == "PatientSex is M; the model contours organs of women (Uterus)"
    (flag,) = suitability_flags(girl, None, [])
    assert flag.reason == "the patient is 6 months old, and the model does not say that it knows children"
    young = TrainedOn(patients=20, age_years=(4.0, 9.0, 14.0))
    assert suitability_flags(ScanFacts(age_years=8.0), young, []) == []
    assert suitability_flags(ScanFacts(age_years=40.0), young, [])[0].code == "input_age"


def test_postures() -> None:
    words = {p: posture(p) for p in ("HFS", "FFP", "HFDL", "FFDR", "", "S", "SITTING")}
    assert words == {
        "HFS": "supine",
        "FFP": "prone",
        "HFDL": "on the left side",
        "FFDR": "on the right side",
        "": "",
        "S": "",
        "SITTING": "",
    }


def test_organs_that_the_patient_of_the_header_does_not_have() -> None:
    rois = ["Prostate", "SeminalVes", "Uterus", "Bladder", "Ovary_L"]
    assert list(organs_of_other_sex(ScanFacts(sex="F"), rois)) == ["Prostate", "SeminalVes"]
    assert list(organs_of_other_sex(ScanFacts(sex="M"), rois)) == ["Uterus", "Ovary_L"]
    assert organs_of_other_sex(ScanFacts(), rois) == {}
    flag = organs_of_other_sex(ScanFacts(sex="F"), rois)["Prostate"]
    assert flag.code in CODES and flag.reason == "PatientSex is F, and this is an organ of men"
