"""Profiles of importing systems, and the names they lead to."""

from __future__ import annotations

from pathlib import Path

import pytest

from contour_ai.dicom.profile import Profile, load_profile, profile_names
from contour_ai.dicom.roi_names import written_names
from contour_ai.errors import ConfigError

ECLIPSE = load_profile("eclipse")


def test_profiles_that_come_along() -> None:
    assert profile_names() == ("eclipse", "generic")
    assert load_profile("generic").roi_name_characters == 64
    assert ECLIPSE.roi_name_characters == 16
    assert load_profile(ECLIPSE) is ECLIPSE


def test_a_profile_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "house.yaml"
    path.write_text("roi_name_characters: 20\nholes: separate\n", encoding="utf-8")
    profile = load_profile(path)
    assert (profile.name, profile.roi_name_characters, profile.holes) == ("house", 20, "separate")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("roi_name_caracters: 20", "did you mean 'roi_name_characters'"),
        ("roi_name_characters: 100", r"roi_name_characters is out of range(.|\n)*4 to 64"),
        ("holes: none", "keyhole, separate"),
        ("outline: 2", "outline is out of range"),
        ("roi_name_pattern: '['", "no regular expression"),
        ("a: [", "not valid YAML"),
    ],
)
def test_profiles_that_cannot_be_used(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        load_profile(path)


def test_unknown_profiles_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"No such profile(.|\n)*eclipse, generic"):
        load_profile("monaco")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (["Brain", "Parotid_L"], ["Brain", "Parotid_L"]),
        (["Lung_Lobe_Upper_L", "Lung_Lobe_Upper_R"], ["Lung_Lobe_Uppe_L", "Lung_Lobe_Uppe_R"]),
        (["Glnd_Submandibular_Left", "Glnd_Submandibular_Right"], ["Glnd_Subman_Left", "Glnd_Subma_Right"]),
        (["PTV_Nodes_Optimised_7000", "PTV_Nodes_Optimised_5600"], ["PTV_Nodes_O_7000", "PTV_Nodes_O_5600"]),
        (["Bowel_Small_Extended_A", "Bowel_Small_Extended_B"], ["Bowel_Small_Exte", "Bowel_Small_Ex~2"]),
        (["brain", "Brain"], ["brain", "Brain~2"]),
        (["Bowel_Small_Extended", "Bowel_Small_Exte"], ["Bowel_Small_Ex~2", "Bowel_Small_Exte"]),
        (["Prostata ü", "1;2:SUV"], ["Prostata u", "1_2_SUV"]),
        ([" ", "A\\B"], ["ROI", "A_B"]),
    ],
)
def test_names_are_short_and_unique_and_keep_their_side(asked: list[str], expected: list[str]) -> None:
    names = written_names(asked, ECLIPSE)
    assert list(names) == asked
    assert [n[: ECLIPSE.roi_name_characters] for n in names.values()] == list(names.values())
    assert len({n.casefold() for n in names.values()}) == len(asked)
    assert list(names.values()) == expected


def test_many_names_that_shorten_to_the_same() -> None:
    asked = [
        f"A_very_long_name_of_a_structure_{chr(97 + n)}{chr(97 + m)}x_L" for n in range(6) for m in range(20)
    ]
    names = written_names(asked, Profile(roi_name_characters=8))
    assert len({n.casefold() for n in names.values()}) == 120
    assert all(len(n) <= 8 and n.endswith("_L") for n in names.values())
