"""Which names stop a training, and what becomes of the others."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from contour_ai.errors import ConfigError
from contour_ai.pipeline.naming import NAMES_FILE, learnable, least_patients, name_rois
from contour_ai.structures.roi_map import RoiMap

ARCHIVE = {
    "Parotid_L": 9,
    "LT PAROTID": 2,
    "Brainstem": 10,
    "Parotid_L_NOS": 4,
    "PTV_7000": 10,
    "z_Ring": 7,
    "Cord PRV5": 5,
    "Ipsi_Parot": 1,
    "Brainstem_1": 2,
    "temp": 1,
    "rotundum": 1,
}


def test_names_are_mapped_set_aside_or_left_to_decide() -> None:
    naming = name_rois(ARCHIVE)
    assert naming.rois == {"Parotid_L": "Parotid_L", "LT PAROTID": "Parotid_L", "Brainstem": "Brainstem"}
    what = {d.name: d.what for d in naming.decisions}
    assert {n for n, w in what.items() if w == "set aside"} == {
        "Parotid_L_NOS",
        "PTV_7000",
        "z_Ring",
        "Cord PRV5",
    }
    assert {n for n, w in what.items() if w == "to decide"} == {
        "Ipsi_Parot",
        "Brainstem_1",
        "temp",
        "rotundum",
    }
    assert naming.described == "3 mapped, 4 set aside, 4 that no ROI to learn hangs on"


def test_only_names_that_may_be_a_roi_to_learn_stop_a_training() -> None:
    naming = name_rois(ARCHIVE)
    naming.refuse_doubts(["SpinalCord"])
    with pytest.raises(ConfigError) as caught:
        naming.refuse_doubts(["Parotid_L", "Brainstem"])
    text = str(caught.value)
    assert "2 ROI names are neither mapped nor ignored, and may be ROIs to learn." in text
    assert "Brainstem_1 (Brainstem? in 2 patients: a copy or revision of an organ)" in text
    assert "Ipsi_Parot (Parotid_L? in 1 patient: named by the side of the tumour)" in text
    assert "where: TG-263 proposals" in text and "--roi-map" in text
    assert "temp" not in text and "rotundum" not in text
    with pytest.raises(ConfigError, match="1 ROI names"):
        naming.refuse_doubts(["Brainstem"])


def test_a_map_decides_and_what_it_does_not_know_stops_only_where_it_matters() -> None:
    roi_map = RoiMap(rois={"Gland": ("gland 1",), "Brainstem": ()}, ignore=("zz", "z_*"), source="map.yaml")
    names = {"gland 1": 3, "ZZ": 2, "z_Ring": 1, "Lt Parotid": 2, "brain stem": 4, "ring 3": 1, "Gland 2": 1}
    naming = name_rois(names, roi_map)
    assert naming.rois == {"gland 1": "Gland"}
    assert {d.name for d in naming.decisions if d.what == "ignored"} == {"ZZ", "z_Ring"}
    naming.refuse_doubts(["Larynx"])
    with pytest.raises(
        ConfigError, match=r"where: map.yaml\n  found: brain stem \(Brainstem\?(.|\n)*reads as"
    ):
        naming.refuse_doubts(["Brainstem"])
    with pytest.raises(ConfigError, match=r"found: Gland 2 \(Gland\?"):
        naming.refuse_doubts(["Gland"])


def test_what_is_asked_for_is_learnt_whatever_it_is() -> None:
    naming = name_rois(ARCHIVE, wanted=["ptv_7000", "SpinalCord_PRV05"])
    assert naming.rois["PTV_7000"] == "ptv_7000"
    assert naming.rois["Cord PRV5"] == "SpinalCord_PRV05"


def test_organs_that_enough_patients_have_are_learnt() -> None:
    counts = {"Brainstem": 40, "Larynx": 1, "PTV": 40, "Body": 40, "SpinalCord_PRV05": 40}
    assert learnable(counts, least_patients(None, 40)) == ("Brainstem",)
    assert learnable(counts, 1) == ("Brainstem", "Larynx")
    assert [least_patients(None, n) for n in (1, 39, 40, 800)] == [1, 1, 2, 40]


def test_every_name_is_listed_in_a_file(tmp_path: Path) -> None:
    name_rois({**ARCHIVE, "=1+1": 1}).save(tmp_path / NAMES_FILE)
    with (tmp_path / NAMES_FILE).open(encoding="utf-8-sig", newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert len(rows) == len(ARCHIVE) + 1
    assert rows["LT PAROTID"] == {
        "name": "LT PAROTID",
        "patients": "2",
        "what": "mapped",
        "roi": "Parotid_L",
        "reason": "an organ",
    }
    assert rows["z_Ring"]["reason"] == "begins with z: not used for dose (TG-263)"
