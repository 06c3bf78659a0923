"""Verdicts from quality findings: gross ones stop a ROI, most ROIs a patient."""

from __future__ import annotations

import pytest

from contour_ai.dicom.scan_facts import ScanFacts
from contour_ai.pipeline._predict.contouring import with_sex
from contour_ai.quality.flag import Flag, PatientFlags
from contour_ai.quality.judging import is_gross, judge, judge_roi
from contour_ai.quality.ranges import ROI_FIGURES
from contour_ai.quality.wording import range_reason

VOLUME = Flag(
    code="volume",
    reason="the volume is 30 cm3, usual 5 to 10 cm3",
    value=30.0,
    low=5.0,
    high=10.0,
    unit="cm3",
)
LENGTH = Flag(
    code="length",
    reason="the extent along the body is 20 mm, usual 30 to 87 mm",
    value=20.0,
    low=30.0,
    high=87.0,
    unit="mm",
)
EMPTY = Flag(code="empty", reason="the model found nothing", value=0.0, low=None, high=None, unit="cm3")
CUT = Flag(
    code="touches_scan_end", reason="reaches the last slice", value=1.0, low=None, high=0.0, unit="cm2"
)


@pytest.mark.parametrize(
    ("flag", "gross"),
    [
        (VOLUME, True),
        (Flag(code="volume", reason="", value=19.0, low=5.0, high=10.0, unit="cm3"), False),
        (Flag(code="volume", reason="", value=1.0, low=5.0, high=10.0, unit="cm3"), True),
        (Flag(code="volume", reason="", value=1.0, low=None, high=10.0, unit="cm3"), False),
        (Flag(code="wrong_side", reason="", value=1.0, low=None, high=0.05), True),
        (Flag(code="wrong_side", reason="", value=0.4, low=None, high=0.05), False),
        (Flag(code="wrong_side", reason="", value=-60.0, low=0.0, high=None, unit="mm"), True),
        (Flag(code="wrong_side", reason="", value=-3.0, low=0.0, high=None, unit="mm"), False),
        (Flag(code="position_to_rois", reason="", value=-137.0, low=-10.0, high=8.0, unit="mm"), True),
        (Flag(code="position_to_rois", reason="", value=-20.0, low=-10.0, high=8.0, unit="mm"), False),
        (Flag(code="position_in_body", reason="", value=104.0, low=-21.0, high=40.0, unit="mm"), True),
        (Flag(code="position_in_body", reason="", value=900.0, low=100.0, high=300.0, unit="cm2"), False),
        (Flag(code="mean_hu", reason="", value=220.0, low=-36.0, high=49.0, unit="HU"), True),
        (Flag(code="mean_hu", reason="", value=60.0, low=-36.0, high=49.0, unit="HU"), False),
        (LENGTH, False),
        (EMPTY, False),
    ],
)
def test_gross_findings(flag: Flag, gross: bool) -> None:
    assert is_gross(flag) is gross


def test_the_gross_finding_comes_first() -> None:
    assert judge_roi([]).verdict == "clear"
    assert judge_roi([LENGTH]).verdict == "look"
    roi = judge_roi([CUT, LENGTH, VOLUME])
    assert roi.verdict == "stop" and roi.reason == VOLUME.reason
    assert [flag.code for flag in roi.findings] == ["volume", "touches_scan_end", "length"]


def test_one_stopped_roi_makes_a_patient_look() -> None:
    names = ["A", "B", "C"]
    found = judge(PatientFlags((), {"A": (VOLUME,), "B": (), "C": ()}), names)
    assert found.verdict == "look" and found.stopped == {"A": VOLUME.reason}
    assert judge(PatientFlags((), dict.fromkeys(names, ())), names).verdict == "clear"


def test_a_patient_of_another_region_stops_and_says_so_in_one_line() -> None:
    names = ["A", "B", "C"]
    flags = {"A": (VOLUME,), "B": (EMPTY,), "C": (), "Body": ()}
    found = judge(PatientFlags((), flags), names, "head")
    assert found.verdict == "stop"
    assert found.findings[0].reason == (
        "no head in this scan: 2 of 3 ROIs empty or absurd (B not found; A absurd)"
    )
    assert found.rois["C"].verdict == "clear"


def test_what_lies_beyond_a_scan_says_nothing_about_its_region() -> None:
    beyond = Flag(code="beyond_scan", reason="not found", value=0.0, low=None, high=None, unit="cm3")
    names = ["A", "B", "C", "D", "E", "F", "G"]
    found = judge(PatientFlags((), {n: () if n in "ABC" else (beyond,) for n in names}), names, "trunk")
    assert found.verdict == "clear" and found.rois["G"].verdict == "clear"
    assert found.rois["G"].findings == (beyond,)
    # Two ROIs do not say where a scan ends: then what is missing counts.
    few = judge(PatientFlags((), {n: () if n in "AB" else (beyond,) for n in names}), names, "trunk")
    assert few.verdict == "stop" and "5 of 7 ROIs" in few.findings[0].reason
    # Of those that the scan should show most are absurd.
    wrong = {"A": (), "B": (VOLUME,), "C": (EMPTY,), **dict.fromkeys("DEFG", (beyond,))}
    assert judge(PatientFlags((), wrong), names, "trunk").verdict == "stop"


def test_half_of_the_rois_are_enough_in_a_long_scan_of_another_body_only() -> None:
    wide = Flag(code="input_body_size", reason="", value=800.0, low=135.0, high=475.0, unit="cm2")
    flags = PatientFlags((wide,), {"A": (EMPTY,), "B": (EMPTY,), "C": (EMPTY,), "D": (), "E": ()})
    names = ["A", "B", "C", "D", "E"]
    assert judge(flags, names, scan_mm=400.0).verdict == "stop"
    assert judge(flags, names, scan_mm=80.0).verdict == "look", "the scan of a neck"
    assert judge(PatientFlags((), flags.rois), names, scan_mm=400.0).verdict == "look"


def test_findings_of_the_image_make_a_patient_look() -> None:
    metal = Flag(code="input_metal", reason="more metal", value=20.0, low=0.0, high=10.0, unit="cm3")
    assert judge(PatientFlags((metal,), {"A": ()}), ["A"]).verdict == "look"
    missing = Flag(code="input_missing_anatomy", reason="", value=0.4, low=None, high=0.333)
    assert judge(PatientFlags((missing,), {"A": ()}), ["A"]).verdict == "clear"


@pytest.mark.parametrize(
    ("name", "value", "limits", "words"),
    [
        ("length_mm", 19.93, (20.09, 87.0), "is 19.9 mm, usual 20.1 to 87.0 mm"),
        ("volume_cm3", 10.04, (2.0, 10.02), "is 10.04 cm3, usual 2.00 to 10.02 cm3"),
        (
            "left_mm",
            8.83,
            (-9.0, 8.79),
            "lies 8.83 mm left of the body's axis, usual 9.00 mm right of to 8.79",
        ),
        ("bottom_share", 0.612, (0.0, 0.609), "is 61.2%, usual at most 60.9%"),
        ("length_mm", 12.0, (20.0, 87.0), "is 12 mm, usual 20 to 87 mm"),
        ("volume_cm3", 10.0, (10.0, 20.0), "is 10.0 cm3, usual 10.0 to 20.0 cm3"),
    ],
)
def test_a_number_never_reads_like_the_limit_that_it_exceeds(
    name: str, value: float, limits: tuple[float, float], words: str
) -> None:
    assert words in range_reason(ROI_FIGURES[name], value, limits)


def test_an_organ_of_the_other_sex_is_not_written_and_says_nothing_of_the_region() -> None:
    rois = {"Prostate": (), "SeminalVes": (), "PenileBulb": (EMPTY,), "Bladder": (), "Rectum": (LENGTH,)}
    woman = with_sex(rois, ScanFacts(sex="F"))
    found = judge(PatientFlags(rois=woman), list(rois))
    assert list(found.stopped) == ["Prostate", "SeminalVes"] and found.verdict == "look"
    assert found.rois["PenileBulb"].verdict == "clear", "nothing is there, as it should be"
    assert found.rois["Rectum"].findings == (LENGTH,)
    assert with_sex(rois, ScanFacts(sex="M")) == rois == with_sex(rois, ScanFacts())
