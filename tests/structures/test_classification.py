"""What ROI names are the names of."""

from __future__ import annotations

import csv
import random
from collections import Counter
from pathlib import Path

import pytest

from contour_ai.structures import Kind, classify
from contour_ai.structures.ignore_patterns import ignore_rules
from contour_ai.structures.measured import Occurrence, decide_by_measure, remainder_cm3
from contour_ai.structures.name_patterns import matches
from contour_ai.structures.other_programs import program_names
from contour_ai.structures.roi_map import RoiMap
from contour_ai.structures.vocabulary import all_aliases, is_paired

EXCERPT = Path(__file__).parents[1] / "data" / "hospital-names-excerpt.csv"
"""Every fourth name of one half of a hospital's head-and-neck names with the number of structure sets that have it
(kildealab/TG263ComplianceTool, MIT)."""


FATES = {"map": 22, "set aside": 327, "decide": 10}
STRUCTURE_SETS = {"map": 3519, "set aside": 4100, "decide": 235}
MAPPED = {
    "Lips": "Lips",
    "Lens_R": "Lens_R",
    "Brainstem": "Brainstem",
    "OpticChiasm": "OpticChiasm",
    "BrachialPlexus_L": "BrachialPlex_L",
    "SubmndSalv_R": "Glnd_Submand_R",
    "Level_V_L": "LN_Neck_V_L",
    "Level_V_R": "LN_Neck_V_R",
    "LN_Neck_IB_L": "LN_Neck_IB_L",
    "OpticNerve R": "OpticNrv_R",
    "Eye R": "Eye_R",
    "OPTIC_NRV_R": "OpticNrv_R",
    "PAROTID_R": "Parotid_R",
    "EYE_L": "Eye_L",
    "TEMP_LOBE_L": "Lobe_Temporal_L",
    "Level_4_R": "LN_Neck_IV_R",
    "Level_Ib_L": "LN_Neck_IB_L",
    "GLND_LACRIMAL_R": "Glnd_Lacrimal_R",
    "LN_Neck_IV_L": "LN_Neck_IV_L",
    "Shoulder_L": "Shoulder_L",
    "PAROTIDS": "Parotids",
    "LN_Rt": "LN_R",
}


def names() -> dict[str, int]:
    with EXCERPT.open(encoding="utf-8", newline="") as file:
        return {row["name"]: int(row["instances"]) for row in csv.DictReader(file)}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("PTV!_6000-05", Kind.TARGET),
        ("M1_CTV_5600", Kind.TARGET),
        ("CTV60 FC", Kind.TARGET),
        ("zPTV7000+PTV6000", Kind.HELPER),
        ("IGTV_MIP", Kind.TARGET),
        ("GTYVn", Kind.TARGET),
        ("Tumorbett", Kind.TARGET),
        ("E-PTV_5400", Kind.HELPER),
        ("z_Ring_6000", Kind.HELPER),
        ("RING 60", Kind.HELPER),
        ("POSTAVOID", Kind.HELPER),
        ("Dose 76[Gy]", Kind.HELPER),
        ("New desnity", Kind.HELPER),
        ("zDensityOverride", Kind.HELPER),
        ("Test 2", Kind.HELPER),
        ("CouchInterior", Kind.SUPPORT),
        ("Tischplatte", Kind.SUPPORT),
        ("BODY + Frame", Kind.SUPPORT),
        ("Prosthesis_Lt", Kind.SUPPORT),
        ("Cavity_Oral-PTV", Kind.PART),
        ("Cavity_Oral-M1PT", Kind.PART),
        ("PATOTID_L_NOS", Kind.PART),
        ("Parotid_L_NOS", Kind.PART),
        ("Lung~_R", Kind.PART),
        ("Bones^RadCalc", Kind.PART),
        ("Lunge links ohne PTV", Kind.PART),
        ("OpticApparatus", Kind.PART),
        ("Mandible OS", Kind.PART),
        ("Lung_opt", Kind.PART),
        ("Stoma", Kind.SUPPORT),
        ("SpinalCord~_PRV5", Kind.MARGIN),
        ("Heart+3mm", Kind.MARGIN),
        ("Skin05", Kind.MARGIN),
        ("Lens_L_PRV3", Kind.MARGIN),
        ("Body_CBCT22Nov16", Kind.OTHER_IMAGE),
        ("bodyCTinit", Kind.OTHER_IMAGE),
        ("Level_I-III_R", Kind.NODES),
        ("LN_Neck_2347AB_L", Kind.NODES),
    ],
)
def test_a_name_that_is_no_organ_is_set_aside(name: str, kind: Kind) -> None:
    found = classify(name)
    assert (found.kind, found.fate) == (kind, "set aside")
    assert found.rule


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Level_IIA_L", "LN_Neck_IIA_L"),
        ("Level 4 right", "LN_Neck_IV_R"),
        ("Puititary", "Pituitary"),
        ("Paroitd_L", "Parotid_L"),
        ("Parotd_R", "Parotid_R"),
        ("Esophagous", "Esophagus"),
        ("Glnd_Thryoid", "Glnd_Thyroid"),
        ("Lens_OD", "Lens_R"),
        ("Opt Nrv L", "OpticNrv_L"),
        ("NervOpt_R", "OpticNrv_R"),
        ("Chiasm_opt", "OpticChiasm"),
        ("Kidneys total", "Kidneys"),
        ("PharCon_Mid", "Musc_Constrict_M"),
        ("SubmndSalv_R", "Glnd_Submand_R"),
        ("TMjoint_L", "Joint_TM_L"),
        ("Ear_Inner_R", "Ear_Internal_R"),
        ("BODY", "Body"),
        ("Bowel_Bag", "Bag_Bowel"),
        ("Lunge bds", "Lungs"),
        ("Zunge", "Tongue"),
        ("ZÄHNE", "Teeth"),
        ("Ringknorpel", "Cricoid"),
        ("rdzeń kręgowy", "SpinalCord"),
        ("nerka P", "Kidney_R"),
        ("ślinianka przyuszna L", "Parotid_L"),
        ("rim direito", "Kidney_R"),
        ("Cabeça femoral E", "Femur_Head_L"),
        ("hip_left", "Bone_Pelvic_L"),
        ("rib_right_11", "Rib11_R"),
        ("vertebra T5", "VB_T05"),
        ("CN 7 L", "CN_VII_L"),
        ("R_Int_Iliac_LN", "LN_Iliac_Int_R"),
        ("Colon_Decending", "Colon_Descending"),
    ],
)
def test_an_organ_is_mapped(name: str, expected: str) -> None:
    found = classify(name)
    assert (found.fate, found.tg263_name) == ("map", expected)


@pytest.mark.parametrize(
    ("name", "organs"),
    [
        ("OS", {"Eye_L"}),
        ("OD", {"Eye_R"}),
        ("Lens OS", {"Lens_L"}),
        ("Lens_L_OS", {"Lens_L"}),
        ("Liver met", {"Liver"}),
        ("Bladder contrast", {"Bladder"}),
        ("Heart?", {"Heart"}),
        ("SPC", set()),
        ("Auditory", set()),
        ("Opt", {"OpticNrv", "OpticChiasm"}),
        ("Opt_L", {"OpticNrv_L"}),
        ("Thyroid", {"Glnd_Thyroid", "Cartlg_Thyroid"}),
        ("Canal", {"SpinalCanal", "Canal_Anal"}),
        ("Parotid", {"Parotid_L", "Parotid_R"}),
        ("Parotid L R", {"Parotid_L", "Parotid_R"}),
        ("Ipsi_Parot", {"Parotid_L", "Parotid_R"}),
        ("Parotid_R_1", {"Parotid_R"}),
        ("Parotid_L_MR", {"Parotid_L"}),
        ("_Heart", {"Heart"}),
        ("Normal Liver", {"Liver"}),
        ("T1", {"VB_T01"}),
        ("L5", {"VB_L5"}),
        ("Esophagus x", {"Esophagus"}),
        ("vertebral body left", set()),
        ("Illium", set()),
        ("Peritneum", set()),
        ("temp", {"Lobe_Temporal_L"}),
        ("rotundum", set()),
        ("", set()),
        ("耳下腺", set()),
    ],
)
def test_what_may_be_an_organ_is_asked(name: str, organs: set[str]) -> None:
    found = classify(name)
    assert (found.fate, found.tg263_name) == ("decide", None)
    assert organs <= set(found.organs)
    assert all(found.may_be(organ) for organ in organs)


@pytest.mark.parametrize(
    ("name", "standard"),
    [
        ("Cord PRV 5mm", "SpinalCord_PRV05"),
        ("OpticNerve_L PRV", "OpticNrv_PRV_L"),
        ("optic chiasm prv3", "OpticChiasm_PRV3"),
        ("Kidney_L PRV", None),
        ("SpinalCord_PRV500", None),
        ("bolus 5 mm", None),
        ("Bolus_5mm", "Bolus_05mm"),
        ("CTV_High", "CTV_High"),
        ("Lungs-GTV", "Lungs-GTV"),
    ],
)
def test_what_is_set_aside_may_have_a_standard_name(name: str, standard: str | None) -> None:
    assert classify(name).tg263_name == standard


@pytest.mark.parametrize(
    "name",
    [
        *(
            "cochlear",
            "SCAPULAR",
            "orbital",
            "tibial",
            "maxillar",
            "patellar",
            "retinal",
            "corneal",
            "mammar",
        ),
        *("tonsillar", "clavicular", "testicular", "carinal"),
    ],
)
def test_adjectives_have_no_side_and_are_no_typing_errors(name: str) -> None:
    found = classify(name)
    assert found.fate == "decide" or found.tg263_name == "Cochlea"


def test_a_side_written_onto_other_words_is_read() -> None:
    found = {
        n: classify(n).tg263_name for n in ("lungr", "lcochlea", "parotidl", "CochleaR", "cochlea_r", "eyel")
    }
    assert list(found.values()) == ["Lung_R", "Cochlea_L", "Parotid_L", "Cochlea_R", "Cochlea_R", "Eye_L"]
    assert classify("L cochlear").tg263_name == "Cochlea_L"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("2mm + 61mm", Kind.HELPER),
        ("54 + 1", Kind.HELPER),
        ("10 mm", Kind.HELPER),
        ("not to be used 2", Kind.HELPER),
        ("Niere li nicht verwenden", Kind.HELPER),
        ("CE vol - do not plan", Kind.HELPER),
        ("Eye Block", Kind.HELPER),
        ("outer LT", Kind.HELPER),
        ("NTO", Kind.HELPER),
        ("Dosisring", Kind.HELPER),
        ("User Origin", Kind.HELPER),
        ("ICRU pt", Kind.HELPER),
        ("AVG CT", Kind.OTHER_IMAGE),
        ("Calypso beacons", Kind.SUPPORT),
        ("Lt THR", Kind.SUPPORT),
        ("GVT T", Kind.TARGET),
        ("L submandibular in 54", Kind.PART),
        ("Air in rectum", Kind.PART),
        ("L neck II-IV", Kind.NODES),
        ("left VII, Ib, V & IV", Kind.NODES),
        ("Lymphknoten", Kind.NODES),
        ("Aires ganglionnaires", Kind.NODES),
        ("Linfonodi", Kind.NODES),
        ("Ganglios", Kind.NODES),
        ("Węzły chłonne", Kind.NODES),
    ],
)
def test_what_other_departments_set_aside(name: str, kind: Kind) -> None:
    found = classify(name)
    assert (found.kind, found.fate) == (kind, "set aside")


@pytest.mark.parametrize("name", ["Lung in", "Heart_in", "BRAINSTEM_old", "Cord b", "L parotid PS", "VI"])
def test_what_may_be_an_organ_all_the_same_is_asked(name: str) -> None:
    assert classify(name).fate == "decide"


def test_a_hospitals_names_are_nearly_all_decided() -> None:
    counts = names()
    found = {name: classify(name) for name in counts}
    fates = Counter(c.fate for c in found.values())
    sets: Counter[str] = Counter()
    for name, number in counts.items():
        sets[found[name].fate] += number
    assert fates == FATES
    assert sets == STRUCTURE_SETS
    assert fates["decide"] <= 0.04 * len(counts)
    assert {n for n, c in found.items() if c.fate == "map"} == set(MAPPED)
    assert {n: found[n].tg263_name for n in MAPPED} == MAPPED


def test_ignore_patterns_catch_what_is_set_aside_and_nothing_else() -> None:
    found = [classify(name) for name in names()]
    aside = [c for c in found if c.fate == "set aside"]
    kept = [c.name for c in found if c.fate != "set aside"]
    rules = ignore_rules(aside, [*kept, "Parotid_L"])
    assert sorted(name for rule in rules for name in rule.names) == sorted(c.name for c in aside)
    assert len(rules) < len(aside) / 5
    assert rules[0].text == "z_*" and len(rules[0].names) > 100
    applied = RoiMap(rois={"Parotid_L": ()}, ignore=tuple(rule.text for rule in rules)).apply(
        c.name for c in found
    )
    assert set(applied.ignored) == {c.name for c in aside}
    assert set(applied.unmapped) == set(kept) - {"Parotid_L"}


def test_a_pattern_that_would_catch_an_organ_is_not_written() -> None:
    aside = [classify(name) for name in ("Ring_1", "Ring_2", "Who? *")]
    rules = ignore_rules([*aside[:2], classify("*Ring?*")], ["Ringknorpel"])
    assert [rule.text for rule in rules] == ["Ring_1", "Ring_2", r"re:^\*Ring\?\*$"][::1] or all(
        not matches(rule.text, "Ringknorpel") for rule in rules
    )
    assert all(not matches(rule.text, "Ringknorpel") for rule in rules)


def test_all_names_of_totalsegmentator_have_one_that_fits_16_characters() -> None:
    ours = program_names()
    others = (
        "heart_",
        "face",
        "pulmonary_artery",
        "coronary",
        "internal_",
        "digastric",
        "platysma",
        "fibula",
    )
    version_2 = [n for n in ours if not n.startswith(others) and not n.endswith("_lobe")]
    found = [ours[n] for n in version_2]
    assert len(version_2) == 117
    assert len(set(found)) == len(set(version_2))
    assert all(len(name) <= 16 for name in found)
    assert all(classify(name).fate == "map" and classify(name).tg263_name == ours[name] for name in version_2)


def test_names_of_totalsegmentators_first_version_and_of_its_subtasks_have_one() -> None:
    for theirs, name in (
        ("heart_myocardium", "Myocardium"),
        ("heart_atrium_left", "Atrium_L"),
        ("pulmonary_artery", "A_Pulmonary"),
        ("internal_jugular_vein_right", "V_Jugular_Int_R"),
        ("coronary_arteries", "A_Coronary"),
        ("digastric_left", "Musc_Digastric_L"),
        ("frontal_lobe", "Lobe_Frontal"),
        ("eye_lens_left", "Lens_L"),
        ("parotid_gland_right", "Parotid_R"),
    ):
        assert classify(theirs).tg263_name == name


def here(volume_cm3: float, superior_mm: float = 0.0, patient: str = "P") -> Occurrence:
    return Occurrence(patient=patient, volume_cm3=volume_cm3, superior_mm=superior_mm)


def test_volume_and_place_tell_the_thyroid_gland_from_its_cartilage() -> None:
    thyroid = classify("Thyroid")
    larynx = {"P": {"Larynx": -20.0}}
    gland = decide_by_measure(thyroid, [here(17, -55)], larynx)
    assert (gland.fate, gland.tg263_name) == ("map", "Glnd_Thyroid")
    assert gland.rule == "decided by volume and place: 17 cm3"
    cartilage = decide_by_measure(thyroid, [here(17, -22)], larynx)
    assert cartilage.tg263_name == "Cartlg_Thyroid"
    assert decide_by_measure(thyroid, [here(17, -55)], {}) == thyroid, "no larynx to measure from"
    assert decide_by_measure(thyroid, [here(17, -35)], larynx) == thyroid, "between the two"
    mixed = [here(17, -55), here(17, -22, "Q")]
    assert decide_by_measure(thyroid, mixed, {**larynx, "Q": {"Larynx": -20.0}}) == thyroid
    assert decide_by_measure(thyroid, [here(120, -20)], {}).tg263_name == "Glnd_Thyroid", "by volume alone"


def test_sides_are_never_decided_by_measure() -> None:
    parotid = classify("Parotid")
    assert decide_by_measure(parotid, [here(26)], {}) == parotid
    copied = classify("Parotid_R_1")
    assert decide_by_measure(copied, [here(26)], {}) == copied


@pytest.mark.parametrize(
    ("organ", "volumes", "expected"),
    [
        ("Parotid_L", [26, 24, 3, 31], 3),
        ("Parotid_L", [26, 3], 3),
        ("Parotid_L", [26, 24, 12, 31], None),
        ("Parotid_L", [3, 2.5, 26], None),
        ("Parotid_L", [26], None),
        ("Parotid_L", [26, 24, 22, 28, 31, 35, 7, 6, 24], 7),
        ("Bladder", [60, 400, 380], None),
        ("Larynx", [60, 4, 50], None),
    ],
)
def test_what_a_target_left_of_an_organ_is_told_by_volume(
    organ: str, volumes: list[float], expected: float | None
) -> None:
    assert remainder_cm3(organ, volumes) == expected


@pytest.mark.parametrize(
    "name", ["Level V" + "a" * 90 + "x", "vert" * 30 + "x", "a " * 60, "x" * 100_000, "\x00\u202e~^"]
)
def test_hostile_names_are_no_organs(name: str) -> None:
    assert classify(name).fate != "map"


def test_a_name_that_was_corrected_says_so() -> None:
    assert classify("Paroitd_L").corrected and classify("Fegatto").corrected
    assert not classify("Parotis li").corrected


def test_a_wrong_letter_never_makes_another_organ_or_side() -> None:
    dice = random.Random(263)
    aliases = [(name, text) for name, _, text in all_aliases() if len(text) > 3]
    for name, text in dice.sample(aliases, 120):
        place, letter = dice.randrange(1, len(text)), dice.choice("abcdefghijklmnopqrstuvwxyz")
        for wrong in (
            text[:place] + letter + text[place:],
            text[:place] + text[place + 1 :],
            text[: place - 1] + text[place] + text[place - 1] + text[place + 1 :],
        ):
            found = classify(f"{wrong} left" if is_paired(name) else wrong)
            if found.corrected and found.tg263_name is not None:
                right = (f"{name}_L", name) if is_paired(name) else (name,)
                assert found.tg263_name in right, wrong
