"""Aliases to TG-263 names, and left/right partners."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contour_ai.structures import flip_pairs, split_side, tg263_name, tg263_table
from contour_ai.structures.vocabulary import all_aliases, is_paired


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("LT PAROTID", "Parotid_L"),
        ("parotis li", "Parotid_L"),
        ("Parotis re.", "Parotid_R"),
        ("Glnd_Parotid_L", "Parotid_L"),
        ("ParotidRt", "Parotid_R"),
        ("lparotid", "Parotid_L"),
        ("PAROTIDR", "Parotid_R"),
        ("Parotide D", "Parotid_R"),
        ("parotide G", "Parotid_L"),
        ("Polmone sx", "Lung_L"),
        ("RIÑÓN DER", "Kidney_R"),
        ("Oog li", "Eye_L"),
        ("FemoralHead_L", "Femur_Head_L"),
        ("Femur_Head_R", "Femur_Head_R"),
        ("FEMUR HEAD RT", "Femur_Head_R"),
        ("Hüftkopf links", "Femur_Head_L"),
        ("Hueftkopf_re", "Femur_Head_R"),
        ("tête fémorale gauche", "Femur_Head_L"),
        ("Rectum", "Rectum"),
        ("REKTUM", "Rectum"),
        ("Bladder", "Bladder"),
        ("Blase", "Bladder"),
        ("vessie", "Bladder"),
        ("Prostate", "Prostate"),
        ("prostata", "Prostate"),
        ("spinal cord", "SpinalCord"),
        ("Spinal_Cord", "SpinalCord"),
        ("SPINALCORD", "SpinalCord"),
        ("Rückenmark", "SpinalCord"),
        ("Mandible", "Bone_Mandible"),
        ("Oesophagus", "Esophagus"),
        ("brain stem", "Brainstem"),
        ("BODY", "Body"),
        ("outer contour", "External"),
        ("SV", "SeminalVes"),
        ("seminal vesicle left", "SeminalVes_L"),
        ("both lungs", "Lungs"),
        ("Left Ventricle", "Ventricle_L"),
        ("n. opticus re", "OpticNrv_R"),
        ("Cord PRV 5mm", "SpinalCord_PRV05"),
        ("SpinalCord_PRV05", "SpinalCord_PRV05"),
        ("parotid_l prv3", "Parotid_PRV03_L"),
        ("Gl_Submand_L", "Glnd_Submand_L"),
        ("Ohrspeicheldrüse links", "Parotid_L"),
        ("oorspeekselklier rechts", "Parotid_R"),
        ("glándula parótida derecha", "Parotid_R"),
        ("œsophage", "Esophagus"),
        ("Pharynxkonstriktoren", "Musc_Constrict"),
        ("slokdarm", "Esophagus"),
        ("testa femorale dx", "Femur_Head_R"),
        ("onderkaak", "Bone_Mandible"),
    ],
)
def test_alias_gives_its_tg263_name(name: str, expected: str) -> None:
    assert tg263_name(name) == expected


@pytest.mark.parametrize(
    "name",
    [
        "Parotid",  # which side?
        "Lung",
        "Parotid L R",
        "Brainstem L",  # has no sides
        "contralateral parotid",
        "Bereich der Lunge",  # "der" is right in Spanish only
        "Parotid D",  # "D" is right in French, Italian and Spanish only
        "1,SUV_primair",
        "Parotid_L_1",
        "Kidney_L PRV",
        "SpinalCord_PRV500",
        "PTV 70",
        "",
        "   ",
        "耳下腺",
    ],
)
def test_no_proposal_is_better_than_a_guess(name: str) -> None:
    assert tg263_name(name) is None


def test_every_tg263_name_is_its_own_proposal_in_any_case() -> None:
    for name in tg263_table():
        assert tg263_name(name) == name
        assert tg263_name(f" {name.upper()} ") == (name if name != "Spc" else None)
        assert tg263_name(name.replace("_", " ")) == name


def test_every_alias_means_its_structure() -> None:
    table = tg263_table()
    for name, _, alias in all_aliases():
        assert tg263_name(alias) == (name if name in table else None), alias
        if is_paired(name):
            assert tg263_name(f"{alias} left") == f"{name}_L", alias
            assert tg263_name(f"Right_{alias}") == f"{name}_R", alias


@given(st.text())
def test_any_text_has_a_proposal_from_the_table_or_none(name: str) -> None:
    proposal = tg263_name(name)
    assert proposal is None or re.sub(r"_PRV[0-9]{1,2}(?=$|_)", "", proposal) in tg263_table()


WORDS = [
    "parotid",
    "gland",
    "lung",
    "kidney",
    "Femoral",
    "head",
    "eye",
    "Brainstem",
    "nerve",
    "optic",
    "1",
    "PRV",
    "5",
]


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=4), st.integers(0, 4), st.sampled_from("_ -."))
def test_the_other_side_is_the_mirror(words: list[str], place: int, separator: str) -> None:
    left, right = (
        tg263_name(separator.join([*words[:place], side, *words[place:]])) for side in ("Left", "Right")
    )
    if left is None:
        assert right is None
    elif left.endswith("_L"):
        assert right == re.sub(r"_L$", "_R", left)


def test_split_side() -> None:
    assert split_side("Parotis li") == (("parotis",), "L")
    assert split_side("Femur_Head_R") == (("femur", "head"), "R")
    assert split_side("Brainstem") == (("brainstem",), None)
    assert split_side("L and R Eye") == (("l", "and", "r", "eye"), None)


def test_flip_pairs_finds_partners_in_any_language_and_order() -> None:
    names = ["Parotid_R", "Brainstem", "Parotid_L", "Auge li", "Auge re", "LT lung", "Lung_R"]
    assert flip_pairs(names) == ((2, 0), (3, 4), (5, 6))


def test_flip_pairs_leaves_single_sides_and_heart_chambers_alone() -> None:
    assert flip_pairs(["Parotid_L", "Lung_R"]) == ()
    assert flip_pairs(["Ventricle_L", "Ventricle_R", "Lung_LUL", "Lung_RUL"]) == ()
