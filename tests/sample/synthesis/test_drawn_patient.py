"""Synthetic patients: the same for the same seed, with the anatomy and the densities that the recipe asks for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from drawn_label_map import drawn_label_map

from contour_ai.errors import InputError
from contour_ai.sample.synthesis.anatomy import HEAD_RADIUS_MM, Anatomy, anatomy_of
from contour_ai.sample.synthesis.patient import OUTLINE, SyntheticPatient, draw_patient
from contour_ai.sample.synthesis.recipe import (
    ROIS,
    ContentConfig,
    GridConfig,
    ImplantConfig,
    OrganConfig,
    ScannerConfig,
    SynthesisRecipe,
    ViewConfig,
)

PLAIN = SynthesisRecipe(
    grid=GridConfig(pixel_mm=(4.0, 4.4), slice_mm=(3.5,)),
    view=ViewConfig(pelvis=1, part=0, trunk=0, above=0, truncation_probability=0),
    organs=OrganConfig(
        female_probability=0,
        prostatectomy_probability=0,
        bladder_empty_probability=0,
        bladder_cm3=(200.0, 200.0),
        prostate_cm3=(45.0, 45.0),
        median_lobe_probability=0,
        mass_probability=0,
        bone_lesion_probability=0,
    ),
    content=ContentConfig(
        venous_contrast_probability=0, bladder_contrast_probability=0, catheter_probability=0
    ),
    implants=ImplantConfig(
        seeds_probability=0, brachytherapy_probability=0, prosthesis_probability=0, skin_markers_probability=0
    ),
    scanner=ScannerConfig(noise_hu=(4.0, 6.0), streak_noise_hu=(0.0, 0.0), couch_probability=0),
)
"""A man with nothing out of the ordinary."""


@pytest.fixture(scope="module")
def anatomy() -> Anatomy:
    return anatomy_of(drawn_label_map())


@pytest.fixture(scope="module")
def patient(anatomy: Anatomy) -> SyntheticPatient:
    return draw_patient([anatomy], PLAIN, 3)


def volume_cm3(patient: SyntheticPatient, roi: str) -> float:
    return (
        float(np.count_nonzero(patient.structures.mask(roi)) * np.prod(patient.volume.grid.spacing_mm)) / 1000
    )


def test_a_seed_gives_the_same_patient_and_another_another(
    anatomy: Anatomy, patient: SyntheticPatient
) -> None:
    again = draw_patient([anatomy], PLAIN, 3)
    np.testing.assert_array_equal(again.volume.hu, patient.volume.hu)
    np.testing.assert_array_equal(again.structures.bits, patient.structures.bits)
    np.testing.assert_array_equal(again.volume.grid.affine, patient.volume.grid.affine)
    other = draw_patient([anatomy], PLAIN, 4)
    assert other.volume.hu.shape != patient.volume.hu.shape or (other.volume.hu != patient.volume.hu).any()


def test_all_organs_are_there_with_the_volumes_asked_for(patient: SyntheticPatient) -> None:
    assert patient.structures.contoured() == (OUTLINE, *ROIS)
    assert patient.absent == () and patient.sex == "M"
    assert volume_cm3(patient, "Bladder") == pytest.approx(200, rel=0.15)
    assert volume_cm3(patient, "Prostate") == pytest.approx(45, rel=0.25)
    assert volume_cm3(patient, "External") > 5000


def test_densities_are_those_of_the_tissues(patient: SyntheticPatient) -> None:
    hu = patient.volume.hu
    assert -40 < np.median(hu[patient.structures.mask("Bladder")]) < 60
    assert 0 < np.median(hu[patient.structures.mask("Prostate")]) < 90
    assert np.median(hu[patient.structures.mask("Femur_Head_L")]) > 100
    assert np.median(hu[~patient.structures.mask(OUTLINE)]) < -950
    body = hu[patient.structures.mask(OUTLINE)]
    assert 0.05 < np.mean((body > -160) & (body < -40)) < 0.7  # fat, which no label map has


def test_a_head_lies_within_its_radius_on_its_side(patient: SyntheticPatient) -> None:
    mm = np.array(patient.volume.grid.spacing_mm)
    centres = {}
    for roi in ("Femur_Head_L", "Femur_Head_R"):
        points = np.argwhere(patient.structures.mask(roi)) * mm
        centres[roi] = points.mean(axis=0)
        assert np.ptp(points, axis=0).max() <= 2 * HEAD_RADIUS_MM + mm.max()
    assert centres["Femur_Head_L"][2] > centres["Femur_Head_R"][2] + 100


def test_organs_do_not_overlap(patient: SyntheticPatient) -> None:
    together = np.zeros(patient.volume.hu.shape, int)
    for roi in ROIS:
        together += patient.structures.mask(roi)
    assert together.max() == 1


def test_a_woman_has_no_prostate(anatomy: Anatomy) -> None:
    woman = draw_patient([anatomy], replace(PLAIN, organs=replace(PLAIN.organs, female_probability=1)), 3)
    assert woman.sex == "F"
    assert set(woman.absent) == {"Prostate", "SeminalVes"}
    assert {"Bladder", "Rectum", "Femur_Head_L"} <= set(woman.structures.contoured())


def test_above_the_pelvis_nothing_is_there(anatomy: Anatomy) -> None:
    above = draw_patient([anatomy], replace(PLAIN, view=replace(PLAIN.view, pelvis=0, above=1)), 12)
    assert set(above.absent) | set(above.structures.contoured()) <= {OUTLINE, *ROIS}
    assert {"Prostate", "Femur_Head_L", "Femur_Head_R"} <= set(above.absent)
    assert above.structures.contoured()[0] == OUTLINE


def test_a_prosthesis_is_metal_and_no_head(anatomy: Anatomy) -> None:
    implants = replace(PLAIN.implants, prosthesis_probability=1, both_hips_probability=0)
    patient = draw_patient([anatomy], replace(PLAIN, implants=implants), 5)
    heads = {"Femur_Head_L", "Femur_Head_R"}
    assert len(heads & set(patient.absent)) == 1
    assert len(heads & set(patient.structures.contoured())) == 1
    assert np.count_nonzero(patient.volume.hu > 2000) > 50


def test_what_the_recipe_leaves_out_is_not_written(anatomy: Anatomy) -> None:
    patient = draw_patient([anatomy], replace(PLAIN, rois=("Bladder",)), 3)
    assert patient.structures.contoured() == (OUTLINE, "Bladder")


def test_thick_slices_are_averages(anatomy: Anatomy) -> None:
    thick = replace(PLAIN, grid=replace(PLAIN.grid, slice_mm=(7.0,)))
    patient = draw_patient([anatomy], thick, 3)
    assert patient.volume.grid.spacing_mm[0] == pytest.approx(7.0)
    assert volume_cm3(patient, "Bladder") == pytest.approx(200, rel=0.2)


@pytest.mark.parametrize("seed", range(20, 26))
def test_whatever_is_drawn_is_whole(anatomy: Anatomy, seed: int) -> None:
    recipe = SynthesisRecipe(grid=GridConfig(pixel_mm=(4.8, 5.2), slice_mm=(3.5, 5.0)))
    patient = draw_patient([anatomy], recipe, seed)
    assert patient.volume.hu.dtype == np.int16
    assert patient.structures.grid == patient.volume.grid
    for roi in ROIS:
        assert (roi in patient.absent) + (roi in patient.structures.contoured()) <= 1


def test_no_map_or_a_negative_seed_is_refused(anatomy: Anatomy) -> None:
    with pytest.raises(InputError, match="needs a label map and a seed"):
        draw_patient([], PLAIN, 1)
    with pytest.raises(InputError, match="seed -1"):
        draw_patient([anatomy], PLAIN, -1)
