"""Profiles of importing systems, and the names they lead to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contour_ai.dicom.profile import Profile, load_profile, profile_names
from contour_ai.dicom.roi_names import written_names
from contour_ai.errors import ConfigError
from contour_ai.structures.roi_record import tg263_table

ECLIPSE = load_profile("eclipse")


def test_profiles_that_come_along() -> None:
    assert profile_names() == ("eclipse", "generic", "research", "tg263")
    assert {name: load_profile(name).roi_name_characters for name in profile_names()} == {
        "eclipse": 16,
        "generic": 64,
        "research": 64,
        "tg263": 16,
    }
    assert load_profile("research").outline == 0.4
    assert all(load_profile(name).description for name in profile_names())
    assert load_profile(ECLIPSE) is ECLIPSE


def test_a_profile_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "department.yaml"
    path.write_text("roi_name_characters: 20\nholes: separate\n", encoding="utf-8")
    profile = load_profile(path)
    assert (profile.name, profile.roi_name_characters, profile.holes) == ("department", 20, "separate")


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
    with pytest.raises(ConfigError, match=r"No such profile(.|\n)*eclipse, generic, research, tg263"):
        load_profile("monaco")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (["Brain", "Parotid_L"], ["Brain", "Parotid_L"]),
        (["Lung_Lobe_Upper_L", "Lung_Lobe_Upper_R"], ["Lung_Lobe_Uppe_L", "Lung_Lobe_Uppe_R"]),
        (["Glnd_Submandibular_Left", "Glnd_Submandibular_Right"], ["Glnd_Subman_Left", "Glnd_Subma_Right"]),
        (["PTV_Nodes_Optimised_7000", "PTV_Nodes_Optimised_5600"], ["PTV_Nodes_O_7000", "PTV_Nodes_O_5600"]),
        (["Bowel_Small_Extended_A", "Bowel_Small_Extended_B"], ["Bowel_Small_Ex_A", "Bowel_Small_Ex_B"]),
        (
            ["Submandibular_Gland_L_PRV05", "Submandibular_Gland_R_PRV05", "Submandibular_Gland_R_PRV03"],
            ["Submandi_L_PRV05", "Submandi_R_PRV05", "Submandi_R_PRV03"],
        ),
        (["Chiasm_and_Optic_Nerves_PRV"], ["Chiasm_and_O_PRV"]),
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


@pytest.mark.parametrize("profile", ["eclipse", "tg263"])
def test_no_name_of_tg263_is_changed(profile: str) -> None:
    names = list(tg263_table())
    assert written_names(names, load_profile(profile)) == {name: name for name in names}


SIDES = st.sampled_from(["_L", "_R", " left", " right", "_L_PRV05", "_R_PRV05", "-li", "-re"])


@given(
    stems=st.lists(st.text(st.characters(codec="utf-8"), max_size=40), min_size=1, max_size=6),
    sides=st.lists(SIDES, min_size=1, max_size=4, unique=True),
    longest=st.integers(12, 64),
)
def test_whatever_is_asked_names_fit_are_unique_and_keep_their_side(
    stems: list[str], sides: list[str], longest: int
) -> None:
    profile = Profile(roi_name_characters=longest, roi_name_pattern="[A-Za-z0-9_ -]")
    asked = list(dict.fromkeys(f"O{stem}{side}" for stem in stems for side in sides))
    names = written_names(asked, profile)
    assert list(names) == asked
    assert len({name.casefold() for name in names.values()}) == len(asked)
    for before, after in names.items():
        assert 1 <= len(after) <= longest and after == after.strip()
        assert re.fullmatch("[A-Za-z0-9_ -]+", after)
        side = next(side for side in sorted(sides, key=len, reverse=True) if before.endswith(side))
        assert after.endswith(side)


def test_many_names_that_shorten_to_the_same() -> None:
    asked = [
        f"A_very_long_name_of_a_structure_{chr(97 + n)}{chr(97 + m)}x_L" for n in range(6) for m in range(20)
    ]
    names = written_names(asked, Profile(roi_name_characters=8))
    assert len({n.casefold() for n in names.values()}) == 120
    assert all(len(n) <= 8 and n.endswith("_L") for n in names.values())


@pytest.mark.parametrize(
    ("pattern", "written"),
    [("[A-Za-z0-9-]", "Parotid-L"), ("[A-Za-z0-9]", "ParotidL"), ("[A-Z0-9 ]", "P       L")],
)
def test_a_profile_without_underscores_gets_names_that_it_allows(pattern: str, written: str) -> None:
    profile = Profile(roi_name_pattern=pattern)
    names = written_names(["Parotid_L", "Kidney/R"], profile)
    assert names["Parotid_L"] == written
    assert all(re.fullmatch(pattern, c) for name in names.values() for c in name)


@pytest.mark.parametrize("pattern", ["[a-z]", "", "[A-Za-z]", "[A-Za-z0-9]{2}"])
def test_a_pattern_that_leaves_nothing_to_write_with_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match="nothing to write names with"):
        Profile(roi_name_pattern=pattern)
