"""The list of TG-263: whole, its reverse order names, expansions, misprints."""

from __future__ import annotations

import pytest

from contour_ai.dicom.check_names import standard_name_findings
from contour_ai.dicom.profile import load_profile
from contour_ai.dicom.roi_names import written_names
from contour_ai.structures import roi_info, tg263_name, tg263_table
from contour_ai.structures.tg263 import (
    is_listed_name,
    misprints,
    partner_of,
    prv_name,
    standard_name,
    standard_names,
)


def test_the_list_is_whole() -> None:
    listed = [row for row in standard_names().values() if row.is_listed]
    assert len(listed) == 717
    assert all(row.category and row.reverse and row.region for row in listed)
    assert sum(row.fma is not None for row in listed) > 500
    assert sum(row.is_generic for row in listed) == 16
    parotid = standard_names()["Parotid_L"]
    assert (parotid.fma, parotid.reverse, parotid.category) == (59798, "L_Parotid", "Gland")


def test_reverse_order_names_are_read() -> None:
    for row in standard_names().values():
        if row.reverse and not row.is_generic:
            assert tg263_name(row.reverse) == row.name
            assert is_listed_name(row.reverse)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("brainstem prv05", "Brainstem_PRV05"),
        ("OpticNrv_PRV3_R", "OpticNrv_PRV03_R"),
        ("PRV05_Pituitary", "Pituitary_PRV05"),
        ("OpticChiasm_PRV3", "OpticChiasm_PRV3"),
        ("Bolus 5mm", "Bolus_05mm"),
        ("E-PTV_5400", "E-PTV_5400"),
        ("E-PTV_Ev05_5400", "E-PTV_Ev05_5400"),
        ("Brainstem_PRVxx", None),
        ("Brainstem_PRV5000", None),
    ],
)
def test_generic_rows_are_expanded(name: str, expected: str | None) -> None:
    assert standard_name(name) == expected


def test_misprints_are_read_and_never_written() -> None:
    assert misprints()["Colon_Decending"] == "Colon_Descending"
    assert misprints()["LN_lliac_Int_R"] == "LN_Iliac_Int_R"
    for wrong, right in misprints().items():
        assert wrong not in standard_names() and right in standard_names()
        assert not is_listed_name(wrong)
    assert tg263_name("Colon_Decending") == "Colon_Descending"
    assert tg263_name("Hypothalmus") == "Hypothalamus"
    assert partner_of("LN_Iliac_Int_L") == "LN_Iliac_Int_R"


def test_left_and_right_are_partners_where_they_mirror_each_other() -> None:
    assert partner_of("Kidney_L-GTV") == "Kidney_R-GTV"
    assert partner_of("Nasalconcha_LI") == "Nasalconcha_RI"
    assert partner_of("VB_L") is None, "the lumbar spine"
    assert partner_of("Ventricle_L") is None
    assert roi_info("OpticNrv_PRV_L").mirror == "OpticNrv_PRV_R"


def test_prv_names_have_the_side_last() -> None:
    assert prv_name("OpticNrv_L", 3) == "OpticNrv_PRV03_L"
    assert prv_name("OpticChiasm", 3) == "OpticChiasm_PRV3"
    assert prv_name("VB_L", 5) == "VB_L_PRV05"


def test_sixteen_characters_are_enough_for_every_name_and_its_margin() -> None:
    table = list(tg263_table())
    margins = [prv_name(name, 5) for name in table if roi_info(name).interpreted_type == "ORGAN"]
    names = list(dict.fromkeys([*table, *margins]))
    written = written_names(names, load_profile("tg263"))
    assert all(written[name] == name for name in table)
    assert len({name.casefold() for name in written.values()}) == len(names)
    assert max(map(len, written.values())) == 16


def test_former_names_keep_colour_and_type() -> None:
    assert roi_info("Thymus").color == roi_info("Glnd_Thymus").color
    assert roi_info("Rectum_Wall").color == roi_info("Rectal_Wall").color
    assert tg263_name("Rectum_Wall") == "Rectal_Wall"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Parotid_L", None),
        ("SpinalCord_PRV05", None),
        ("CTVn_5400", None),
        ("PTV!_6000-05", None),
        ("Oral_Cavity", None),
        ("parotid_l", "is no name of TG-263; it would be Parotid_L"),
        ("Colon_Decending", "is a misprint of TG-263's list; it is Colon_Descending"),
        ("OpticTract_L", "is formed as TG-263 forms names, but its list does not have it"),
        ("z_Ring", "is no name of TG-263 (helper structure: begins with z: not used for dose (TG-263))"),
    ],
)
def test_profile_tg263_compares_names_with_the_list(name: str, message: str | None) -> None:
    found = [str(f) for f in standard_name_findings([name], load_profile("tg263"))]
    level = "read differently by different systems"
    assert found == ([] if message is None else [f"{level}: ROI {name!r}, ROIName: {message} [tg263-name]"])
    assert not list(standard_name_findings([name], load_profile("generic")))
