"""Colours that go together can be told apart, also by those who do not see red and green as others do."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from skimage.color import deltaE_ciede2000, rgb2lab

from contour_ai.structures import RoiInfo, roi_info
from contour_ai.structures.colors import told_apart

# Machado, Oliveira, Fernandes 2009, severity 1.0, on linear sRGB.
VISIONS = {
    "usual": np.eye(3),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
}

REGIONS = {
    "head and neck": (
        "Body Brain Brainstem SpinalCord Parotid_L Parotid_R Glnd_Submand_L Glnd_Submand_R Bone_Mandible Larynx "
        "Esophagus Cavity_Oral OpticChiasm OpticNrv_L OpticNrv_R Eye_L Eye_R Lens_L Lens_R Cochlea_L Cochlea_R "
        "Pituitary Glnd_Thyroid Lips"
    ),
    "thorax": "Body SpinalCord Esophagus Heart Lung_L Lung_R Trachea Liver A_Aorta BrachialPlex_L BrachialPlex_R "
    "Breast_L Breast_R Stomach",
    "abdomen": "Body SpinalCord A_Aorta Liver Kidney_L Kidney_R Stomach Duodenum Bowel_Small Bowel_Large Bowel "
    "Pancreas Spleen Gallbladder Lung_L Lung_R Esophagus",
    "pelvis": "Body Prostate SeminalVes Bladder Rectum Femur_Head_L Femur_Head_R PenileBulb Bowel Bowel_Small "
    "Bowel_Large Colon_Sigmoid CaudaEquina Uterus Vagina Bag_Bowel",
}
USUAL_MODELS = {
    "head and neck": "Body Brainstem SpinalCord Parotid_L Parotid_R Bone_Mandible Larynx Esophagus",
    "thorax": "Body SpinalCord Esophagus Heart Lung_L Lung_R Trachea",
    "abdomen": "Body Liver Kidney_L Kidney_R Stomach SpinalCord Spleen",
    "pelvis": "Body Prostate Bladder Rectum Femur_Head_L Femur_Head_R SeminalVes",
}
NEIGHBOURS = """Brain-Brainstem Brainstem-SpinalCord Glnd_Submand_L-Parotid_L Bone_Mandible-Cavity_Oral
Bone_Mandible-Parotid_L Bone_Mandible-Parotid_R Larynx-Glnd_Thyroid Larynx-Esophagus OpticChiasm-OpticNrv_L
Eye_L-Lens_L Eye_R-Lens_R Heart-Esophagus Heart-Lung_L Esophagus-Trachea Liver-Kidney_R
Liver-Stomach Kidney_L-Spleen Bladder-Prostate Prostate-Rectum Prostate-SeminalVes SeminalVes-Rectum
Bladder-Uterus Uterus-Rectum Bowel-Bladder Bowel_Small-Bowel_Large Kidney_L-Kidney_R Lung_L-Lung_R
Parotid_L-Parotid_R Femur_Head_L-Femur_Head_R Eye_L-Eye_R Breast_L-Breast_R"""


def seen_lab(color: tuple[int, int, int], vision: str) -> NDArray[np.float64]:
    """CIELAB of a colour as someone with that vision sees it."""
    rgb = np.array(color) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    mixed = (VISIONS[vision] @ linear).clip(0, 1)
    again = np.where(mixed <= 0.0031308, mixed * 12.92, 1.055 * mixed ** (1 / 2.4) - 0.055)
    return rgb2lab(again[None, None])[0, 0]


def distances(names: list[str], vision: str) -> dict[tuple[str, str], float]:
    """CIEDE2000 of every pair."""
    labs = {name: seen_lab(roi_info(name).color, vision) for name in names}
    return {(a, b): float(deltaE_ciede2000(labs[a], labs[b])) for a, b in combinations(names, 2)}


def test_the_simulation_is_right() -> None:
    """Red and green of one lightness come together; blue and yellow stay apart."""
    apart = float(deltaE_ciede2000(seen_lab((200, 60, 60), "usual"), seen_lab((110, 120, 20), "usual")))
    together = float(
        deltaE_ciede2000(seen_lab((200, 60, 60), "deuteranopia"), seen_lab((110, 120, 20), "deuteranopia"))
    )
    assert together < 0.4 * apart
    for vision in VISIONS:
        assert deltaE_ciede2000(seen_lab((0, 80, 255), vision), seen_lab((255, 230, 0), vision)) > 50


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("region", REGIONS)
def test_rois_of_a_region(region: str, vision: str) -> None:
    found = distances(REGIONS[region].split(), vision)
    pair = min(found, key=lambda p: found[p])
    assert found[pair] >= 7, (pair, found[pair])
    usual = distances(USUAL_MODELS[region].split(), vision)
    pair = min(usual, key=lambda p: usual[p])
    assert usual[pair] >= 14, (pair, usual[pair])


@pytest.mark.parametrize("vision", VISIONS)
def test_neighbours_and_partners(vision: str) -> None:
    for pair in NEIGHBOURS.split():
        a, b = pair.split("-")
        assert distances([a, b], vision)[a, b] >= 16, (a, b)


def test_shipped_models_have_the_colours_of_the_table() -> None:
    found = sorted((Path(__file__).parents[2] / "models").glob("*/model.yaml"))
    assert len(found) >= 3
    for path in found:
        rois = yaml.safe_load(path.read_text("utf-8"))["rois"]
        for roi, info in zip(rois, told_apart([roi_info(roi["name"]) for roi in rois]), strict=True):
            assert tuple(roi["color"]) == info.color, (path.parent.name, roi["name"])


def apart(infos: tuple[RoiInfo, ...]) -> float:
    """The least distance of any two, to anyone."""
    return min(
        float(deltaE_ciede2000(seen_lab(a.color, vision), seen_lab(b.color, vision)))
        for vision in VISIONS
        for a, b in combinations(infos, 2)
    )


def test_a_model_of_any_rois_gets_colours_that_can_be_told_apart() -> None:
    names = [f"Unusual_{n}" for n in range(10)] + ["SpinalCord", "SpinalCord_PRV05", "Esophagus_Upper"]
    infos = tuple(roi_info(name) for name in names)
    assert apart(infos) < 7, "hashes alone do not do"
    changed = told_apart(infos)
    assert apart(changed) >= 7
    assert [info.name for info in changed] == names and changed[0] == infos[0]
    assert told_apart(infos) == changed
    assert told_apart(()) == ()


@pytest.mark.parametrize("region", REGIONS)
def test_the_tables_colours_stay(region: str) -> None:
    infos = tuple(roi_info(name) for name in REGIONS[region].split())
    assert told_apart(infos) == infos


def test_more_rois_than_colours_are_no_fault() -> None:
    infos = tuple(RoiInfo(name=f"R{n}", color=(250, 10, 10)) for n in range(60))
    assert len({info.color for info in told_apart(infos)}) > 25
