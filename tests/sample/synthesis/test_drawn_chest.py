"""Synthetic chests: sides of lungs and kidneys, what is certainly absent, fluid, tumours, breasts and arms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from drawn_label_map import SPACING, drawn_label_map

from contour_ai.errors import ConfigError
from contour_ai.sample.synthesis.anatomy import Anatomy, anatomy_of
from contour_ai.sample.synthesis.label_maps import LabelMap
from contour_ai.sample.synthesis.patient import SyntheticPatient, draw_patient
from contour_ai.sample.synthesis.pose import mirrored
from contour_ai.sample.synthesis.recipe import (
    BodyConfig,
    ContentConfig,
    GridConfig,
    ImplantConfig,
    OrganConfig,
    PoseConfig,
    SynthesisRecipe,
    ViewConfig,
)
from contour_ai.sample.synthesis.tissues import Tissue

WANTED = ("Lung_L", "Lung_R", "Heart", "Liver", "SpinalCord", "Kidney_L", "Trachea")
RECIPE = SynthesisRecipe(
    grid=GridConfig(pixel_mm=(4.0, 4.0), slice_mm=(3.5,)),
    view=ViewConfig(pelvis=0, part=0, trunk=1, above=0, chest=0, truncation_probability=0),
    pose=PoseConfig(mirror_probability=0.0, scale=(1.0, 1.0), stretch=0.0, rotation_deg=0.0),
    organs=OrganConfig(female_probability=1.0, mass_probability=0, female_mass_probability=0),
    body=BodyConfig(hands_probability=0, arms_probability=0, breasts_probability=0, ascites_probability=0),
    content=ContentConfig(
        venous_contrast_probability=0,
        lung_vessels=(0.0, 0.0),
        lung_tumour_probability=0,
        effusion_probability=0,
    ),
    implants=ImplantConfig(prosthesis_probability=0, skin_markers_probability=0),
    rois=WANTED,
)


def chest_map() -> LabelMap:
    """The pelvis of `drawn_label_map` with a chest on top: lungs, a heart to the left, a liver to the right, ribs."""
    pelvis = drawn_label_map()
    above = np.zeros((60, *pelvis.labels.shape[1:]), np.uint8)
    labels = np.concatenate([pelvis.labels, above])
    names = list(pelvis.names)
    k, i, j = np.meshgrid(
        *(np.arange(n) * mm for n, mm in zip(labels.shape, SPACING, strict=True)), indexing="ij"
    )

    def paint(structure: str, inside: np.ndarray) -> None:
        names.append(structure)
        labels[inside & (labels == 0)] = len(names)

    def ball(centre: tuple[float, float, float], radius: float) -> np.ndarray:
        return (k - centre[0]) ** 2 + (i - centre[1]) ** 2 + (j - centre[2]) ** 2 < radius**2

    paint(
        "vertebrae_T5", (k >= 300) & (np.hypot(i - 165, j - 172.5) < 20) & (np.hypot(i - 165, j - 172.5) > 8)
    )
    paint("spinal_cord", (k >= 230) & (np.hypot(i - 165, j - 172.5) < 8))
    paint("heart", ball((430.0, 95.0, 190.0), 42))
    paint("liver", ball((335.0, 105.0, 115.0), 50))
    paint("lung_lower_lobe_left", ball((430.0, 110.0, 240.0), 62))
    paint("lung_upper_lobe_right", ball((440.0, 110.0, 105.0), 62))
    paint("kidney_left", ball((300.0, 150.0, 225.0), 24))
    paint("rib_left_5", (np.abs(k - 430) < 4) & (np.abs(np.hypot(i - 110, j - 172.5) - 140) < 5) & (i < 200))
    return replace(pelvis, labels=labels, names=tuple(names))


@pytest.fixture(scope="module")
def chest() -> Anatomy:
    return anatomy_of(chest_map())


@pytest.fixture(scope="module")
def patient(chest: Anatomy) -> SyntheticPatient:
    return draw_patient([chest], RECIPE, 3)


def columns(patient: SyntheticPatient, roi: str) -> float:
    """Mean column of a ROI; columns run to the patient's left."""
    return float(np.argwhere(patient.structures.mask(roi))[:, 2].mean())


def with_(recipe: SynthesisRecipe, section: str, **changes: object) -> SynthesisRecipe:
    return replace(recipe, **{section: replace(getattr(recipe, section), **changes)})


def test_organs_of_the_chest_lie_on_their_sides(patient: SyntheticPatient) -> None:
    middle = columns(patient, "SpinalCord")
    assert columns(patient, "Lung_L") > middle + 10 > middle - 10 > columns(patient, "Lung_R")
    assert columns(patient, "Kidney_L") > middle and columns(patient, "Liver") < middle
    hu = patient.volume.hu[patient.structures.mask("Lung_L")]
    assert -950 < np.median(hu) < -550


def test_what_the_map_lacks_is_neither_contoured_nor_absent(patient: SyntheticPatient) -> None:
    assert "Trachea" not in patient.structures.contoured()
    assert patient.absent == ()


def test_what_lies_beyond_the_scan_is_absent(chest: Anatomy) -> None:
    pelvis = with_(RECIPE, "view", pelvis=1, trunk=0, above_heads_mm=(90.0, 100.0))
    shown = draw_patient([chest], pelvis, 3)
    assert {"Lung_L", "Lung_R", "Heart"} <= set(shown.absent)
    assert "Trachea" not in shown.absent


def test_a_mirror_keeps_names_to_the_side(chest: Anatomy) -> None:
    turned = mirrored(chest)
    for left, right in ((Tissue.LUNG_LEFT, Tissue.LUNG_RIGHT), (Tissue.KIDNEY_LEFT, Tissue.KIDNEY_RIGHT)):
        np.testing.assert_array_equal(turned.codes == right, (chest.codes == left)[:, :, ::-1])


def test_a_scan_of_the_chest_shows_no_femoral_heads(chest: Anatomy) -> None:
    recipe = with_(RECIPE, "view", trunk=0, chest=1)
    recipe = replace(recipe, rois=("Femur_Head_L", "Femur_Head_R", "Lung_L"))
    for seed in range(3):
        assert {"Femur_Head_L", "Femur_Head_R"} <= set(draw_patient([chest], recipe, seed).absent)


def test_fluid_takes_the_lungs_place_at_the_back(chest: Anatomy, patient: SyntheticPatient) -> None:
    wet = draw_patient([chest], with_(RECIPE, "content", effusion_probability=1.0), 3)
    for roi in ("Lung_L", "Lung_R"):
        dry, left = (np.argwhere(p.structures.mask(roi)) for p in (patient, wet))
        assert 0.3 * len(dry) < len(left) < 0.97 * len(dry)
        assert left[:, 1].max() < dry[:, 1].max()


def test_a_tumour_of_the_lung_is_dense_and_counts_as_lung(chest: Anatomy, patient: SyntheticPatient) -> None:
    ill = draw_patient([chest], with_(RECIPE, "content", lung_tumour_probability=1.0), 5)
    well = draw_patient([chest], RECIPE, 5)

    def dense(p: SyntheticPatient) -> int:
        lungs = p.structures.mask("Lung_L") | p.structures.mask("Lung_R")
        return int(np.count_nonzero(p.volume.hu[lungs] > -100))

    assert dense(ill) > dense(well) + 5


def test_breasts_and_arms_make_the_body_larger(chest: Anatomy, patient: SyntheticPatient) -> None:
    def body_cm3(recipe: SynthesisRecipe) -> float:
        drawn = draw_patient([chest], recipe, 3)
        return (
            float(np.count_nonzero(drawn.structures.mask("External")) * np.prod(drawn.volume.grid.spacing_mm))
            / 1e3
        )

    plain = body_cm3(RECIPE)
    assert body_cm3(with_(RECIPE, "body", breasts_probability=1.0)) > plain + 100
    assert body_cm3(with_(RECIPE, "body", arms_probability=1.0)) > plain + 500


def test_an_unknown_organ_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="Lung_X"):
        SynthesisRecipe(rois=("Lung_X",))
