"""Verdicts from quality findings: gross ones stop a ROI, most ROIs a patient."""

from __future__ import annotations

import pytest

from contour_ai.quality.flag import Flag, PatientFlags
from contour_ai.quality.judging import is_gross, judge, judge_roi
from contour_ai.quality.ranges import ROI_FIGURES
from contour_ai.quality.wording import range_reason

VOLUME = Flag("volume", "the volume is 30 cm3, usual 5 to 10 cm3", 30.0, 5.0, 10.0, "cm3")
LENGTH = Flag("length", "the extent along the body is 20 mm, usual 30 to 87 mm", 20.0, 30.0, 87.0, "mm")
EMPTY = Flag("empty", "the model found nothing", 0.0, None, None, "cm3")
CUT = Flag("touches_scan_end", "reaches the last slice", 1.0, None, 0.0, "cm2")


@pytest.mark.parametrize(
    ("flag", "gross"),
    [
        (VOLUME, True),
        (Flag("volume", "", 19.0, 5.0, 10.0, "cm3"), False),
        (Flag("volume", "", 1.0, 5.0, 10.0, "cm3"), True),
        (Flag("volume", "", 1.0, None, 10.0, "cm3"), False),
        (Flag("wrong_side", "", 1.0, None, 0.05), True),
        (Flag("wrong_side", "", 0.4, None, 0.05), False),
        (Flag("wrong_side", "", -60.0, 0.0, None, "mm"), True),
        (Flag("wrong_side", "", -3.0, 0.0, None, "mm"), False),
        (Flag("position_to_rois", "", -137.0, -10.0, 8.0, "mm"), True),
        (Flag("position_to_rois", "", -20.0, -10.0, 8.0, "mm"), False),
        (Flag("position_in_body", "", 104.0, -21.0, 40.0, "mm"), True),
        (Flag("position_in_body", "", 900.0, 100.0, 300.0, "cm2"), False),
        (Flag("mean_hu", "", 220.0, -36.0, 49.0, "HU"), True),
        (Flag("mean_hu", "", 60.0, -36.0, 49.0, "HU"), False),
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


def test_half_of_the_rois_are_enough_in_a_long_scan_of_another_body_only() -> None:
    wide = Flag("input_body_size", "", 800.0, 135.0, 475.0, "cm2")
    flags = PatientFlags((wide,), {"A": (EMPTY,), "B": (EMPTY,), "C": (EMPTY,), "D": (), "E": ()})
    names = ["A", "B", "C", "D", "E"]
    assert judge(flags, names, scan_mm=400.0).verdict == "stop"
    assert judge(flags, names, scan_mm=80.0).verdict == "look", "the scan of a neck"
    assert judge(PatientFlags((), flags.rois), names, scan_mm=400.0).verdict == "look"


def test_findings_of_the_image_make_a_patient_look() -> None:
    metal = Flag("input_metal", "more metal", 20.0, 0.0, 10.0, "cm3")
    assert judge(PatientFlags((metal,), {"A": ()}), ["A"]).verdict == "look"
    missing = Flag("input_missing_anatomy", "", 0.4, None, 0.333)
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
