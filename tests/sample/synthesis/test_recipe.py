"""The recipe: every key explained, unknown keys and values that are not valid refused."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import yaml

from contour_ai.errors import ConfigError
from contour_ai.sample.synthesis.densities import DENSITIES
from contour_ai.sample.synthesis.recipe import SynthesisRecipe, load_recipe, print_recipe
from contour_ai.sample.synthesis.tissues import Tissue
from contour_ai.settings import field_docs, from_mapping


def test_the_printed_recipe_is_the_recipe(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(print_recipe(SynthesisRecipe()), encoding="utf-8")
    assert load_recipe(path) == SynthesisRecipe() == load_recipe(None)


def test_every_key_is_explained() -> None:
    for section in (SynthesisRecipe, *(type(v) for v in vars(SynthesisRecipe()).values() if is_dataclass(v))):
        assert set(field_docs(section)) == {f.name for f in fields(section)}, section


def test_every_tissue_has_a_density() -> None:
    assert set(DENSITIES) == set(Tissue)
    for tissue, density in DENSITIES.items():
        for low, high in (density.plain, density.enhanced or density.plain, density.fine, density.coarse):
            assert low <= high, tissue


def test_a_density_of_the_recipe_comes_before_the_usual_one() -> None:
    recipe = from_mapping(SynthesisRecipe, yaml.safe_load("densities: {prostate: {plain: [100, 101]}}"))
    assert recipe.density(Tissue.PROSTATE).plain == (100.0, 101.0)
    assert recipe.density(Tissue.LIVER) == DENSITIES[Tissue.LIVER]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("organs: {bladder_cm: [1, 2]}", "did you mean 'organs.bladder_cm3'"),
        ("organs: {bladder_cm3: [300, 50]}", "The value of organs.bladder_cm3 is not valid"),
        (
            "implants: {prosthesis_probability: 1.5}",
            "The value of implants.prosthesis_probability is not valid",
        ),
        ("pose: {bend_mm: [[3, 1]]}", "The value of pose.bend_mm is not valid"),
        ("densities: {prostata: {plain: [1, 2]}}", "Unknown tissue in densities"),
        ("rois: [Heart_X]", "The value of rois does not fit"),
        ("view: {pelvis: 0, part: 0, trunk: 0, above: 0}", "The weights of view"),
        ("grid: {slice_mm: []}", "The value of grid.slice_mm or grid.pixel_mm is not valid"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as raised:
        load_recipe(path)
    assert message in str(raised.value)
