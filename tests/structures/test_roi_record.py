"""The TG-263 table: colours, types, partners."""

from __future__ import annotations

import re

import pytest

from contour_ai.errors import ConfigError
from contour_ai.structures import INTERPRETED_TYPES, RoiInfo, roi_info, tg263_table


def test_table_is_consistent() -> None:
    table = tg263_table()
    assert len(table) > 790
    colors = [info.color for info in table.values()]
    assert len(set(colors)) == len(colors)
    for name, info in table.items():
        assert info.name == name
        assert len(name) <= 16, "TG-263 names fit systems that allow 16 characters"
        assert info.interpreted_type in INTERPRETED_TYPES
        if info.mirror:
            assert table[info.mirror].mirror == name
            assert re.sub("_[LR]", "_", name) == re.sub("_[LR]", "_", info.mirror)


def test_colors_are_visible_on_a_grey_ct() -> None:
    for info in tg263_table().values():
        red, green, blue = info.color
        assert 0.3 * red + 0.59 * green + 0.11 * blue > 60, info


@pytest.mark.parametrize(
    ("name", "interpreted_type"),
    [
        ("External", "EXTERNAL"),
        ("BODY", "EXTERNAL"),
        ("PTV_7000", "PTV"),
        ("zPTV opt", "PTV"),
        ("CTVn left", "CTV"),
        ("ITV", "CTV"),
        ("GTV-1", "GTV"),
        ("IGTV", "GTV"),
        ("Bolus 5mm", "BOLUS"),
        ("Couch surface", "SUPPORT"),
        ("Parotid_L", "ORGAN"),
        ("Liver", "ORGAN"),
        ("something else", "ORGAN"),
    ],
)
def test_interpreted_type(name: str, interpreted_type: str) -> None:
    assert roi_info(name).interpreted_type == interpreted_type


def test_known_name_keeps_its_spelling_and_gets_the_table_color() -> None:
    assert roi_info("Parotid_L").mirror == "Parotid_R"
    assert roi_info("PAROTID_L") == RoiInfo(
        name="PAROTID_L", color=roi_info("Parotid_L").color, interpreted_type="ORGAN", mirror="PAROTID_R"
    )
    assert roi_info("Ventricle_L").mirror is None


def test_unknown_name_has_a_stable_color() -> None:
    assert roi_info("Foo bar").color == roi_info(" foo BAR ").color == (234, 26, 50)
    assert roi_info("Foo_L").mirror == "Foo_R"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", (1, 2, 3)), "1-1024 characters"),
        ((" a", (1, 2, 3)), "1-1024 characters"),
        (("a" * 1025, (1, 2, 3)), "1-1024 characters"),
        (("a", (1, 2, 300)), "three numbers from 0 to 255"),
        (("a", (1, 2)), "three numbers from 0 to 255"),
        (("a", (1, 2, 3), "KIDNEY"), "Unknown RT ROI interpreted type"),
    ],
)
def test_wrong_values_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RoiInfo(**dict(zip(("name", "color", "interpreted_type"), arguments, strict=False)))
