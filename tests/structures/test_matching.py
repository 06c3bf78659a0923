"""Which ROI of a structure set stands for a ROI."""

from __future__ import annotations

import pytest

from contour_ai.structures.matching import Candidate, Match, match_roi
from contour_ai.structures.roi_map import RoiMap


def of(*names: str) -> list[Candidate]:
    return [Candidate(name) for name in names]


def test_the_own_name_comes_first_whatever_its_case() -> None:
    assert match_roi("SpinalCord", of("Spinal Cord", "spinalcord ")) == Match("spinalcord ")


def test_a_synonym_is_taken_and_said() -> None:
    assert match_roi("SpinalCord", of("Spinal Cord")) == Match(
        "Spinal Cord", "Spinal Cord was taken for SpinalCord"
    )
    assert match_roi("Parotid_L", of("parotis li")) == Match(
        "parotis li", "parotis li was taken for Parotid_L"
    )
    assert match_roi("SpinalCord", of("Lung_L")) == Match(None)


def test_several_synonyms_are_none() -> None:
    found = match_roi("Parotid_L", of("Lt Parotid", "parotis li"))
    assert found == Match(None, "Parotid_L was not compared, because Lt Parotid, parotis li could all be it")


def test_what_has_no_contours_stands_back() -> None:
    empty, drawn = Candidate("Lt Parotid", contoured=False), Candidate("parotis li")
    assert match_roi("Parotid_L", [empty, drawn]).name == "parotis li"
    assert match_roi("Parotid_L", [Candidate("Parotid_L", contoured=False), drawn]).name == "parotis li"
    assert match_roi("Parotid_L", [Candidate("parotid_l", contoured=False)]).name == "parotid_l"
    assert match_roi("Parotid_L", [empty]).name == "Lt Parotid"


def test_a_map_decides_alone() -> None:
    names = RoiMap(rois={"SpinalCord": ("myelon 3",)})
    assert match_roi("SpinalCord", of("Spinal Cord", "Myelon 3"), names).name == "Myelon 3"
    assert match_roi("SpinalCord", of("Spinal Cord"), names) == Match(None)


@pytest.mark.parametrize("roi", ["Body", "External"])
def test_the_outline_of_the_patient_is_known_by_its_type(roi: str) -> None:
    skin = Candidate("Skinrind", external=True)
    assert match_roi(roi, [*of("Brainstem"), skin]) == Match("Skinrind", f"Skinrind was taken for {roi}")
    assert match_roi(roi, [skin, Candidate("Outline", external=True)]).name is None
    assert match_roi("Brainstem", [skin]) == Match(None)
    assert match_roi("Contour of all", [skin], external=True).name == "Skinrind"
    assert match_roi(roi, of("Brainstem")) == Match(None)
