"""Recipes: what they mean, what they refuse, and what is said of what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from solids import axial_grid, ball

from contour_ai.derived import steps
from contour_ai.derived.derivation import DerivedRoi, SourceRois, derive_rois
from contour_ai.derived.recipe import explained, load_recipe, recipe_names
from contour_ai.derived.region import Region
from contour_ai.derived.shaping import extent_mm
from contour_ai.errors import ConfigError, InputError

GRID = axial_grid(5.0, (2.0, 2.0))


def sources(withheld: dict[str, str] | None = None, **extra: Region) -> SourceRois:
    regions = {
        "Body": ball(GRID, (0, 0, 0), 45),
        "PTV_60": ball(GRID, (8, 0, 0), 14),
        "PTV_50": ball(GRID, (12, 0, 0), 14),
        "spinal cord": ball(GRID, (-15, 10, 0), 8),
        "Parotid_L": ball(GRID, (20, -15, 0), 9),
        "Parotid_R": ball(GRID, (-20, -15, 0), 9),
        **extra,
    }
    return SourceRois.of_regions(GRID, regions, withheld)


def derived(
    structures: list[dict[str, Any]], of: SourceRois | None = None, **keys: object
) -> tuple[dict[str, DerivedRoi], list[str]]:
    notes: list[str] = []
    rois = derive_rois(load_recipe({"structures": structures, **keys}), of or sources(), notes.append)
    return {r.info.name: r for r in rois}, notes


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_that_come_along_work_and_say_what_is_missing(name: str) -> None:
    notes: list[str] = []
    rois = {r.info.name: r for r in derive_rois(load_recipe(name), sources(), notes.append)}
    assert rois["zRing_PTV"].info.interpreted_type == "CONTROL"
    assert any("is skipped: there is no ROI" in note for note in notes)


def test_recipe_names() -> None:
    assert recipe_names() == ("breast", "headneck", "pelvis", "thorax")


def test_a_margin_names_itself_as_tg263_does() -> None:
    rois, notes = derived([{"each": ["SpinalCord", "Parotid_*"], "steps": [{"margin": 5}]}])
    assert list(rois) == ["SpinalCord_PRV05", "Parotid_PRV05_L", "Parotid_PRV05_R"]
    assert "SpinalCord is taken from ROI spinal cord" in notes
    assert rois["SpinalCord_PRV05"].description == "spinal cord; margin +5 mm"
    assert rois["SpinalCord_PRV05"].sources == ("spinal cord",)


def test_structures_may_use_others_in_any_order_and_intermediate_ones_are_not_written() -> None:
    rois, _ = derived(
        [
            {"name": "Ring", "of": "All", "steps": [{"ring": {"inner_mm": 3, "outer_mm": 10}}]},
            {"name": "All", "of": "PTV_*", "write": False},
        ]
    )
    assert list(rois) == ["Ring"] and rois["Ring"].sources == ("PTV_60", "PTV_50")


def test_patterns_mean_the_structure_sets_own_rois() -> None:
    rois, _ = derived([{"name": "PTV_all", "of": "PTV*"}, {"name": "PTV_again", "of": "PTV*"}])
    assert rois["PTV_again"].description == "PTV_60 + PTV_50"


def test_a_structure_may_replace_the_roi_it_is_made_of() -> None:
    rois, notes = derived(
        [
            {"name": "Body", "of": "Body", "steps": [{"margin": -5}]},
            {"name": "Inner", "of": "Body", "steps": [{"margin": -5}]},
        ],
        keep=["*"],
    )
    assert "ROI Body of the structure set is not kept: the recipe makes one of that name" in notes
    assert list(rois)[-2:] == ["Body", "Inner"] and "Parotid_L" in rois
    assert rois["Inner"].region.volume_cm3 < rois["Body"].region.volume_cm3


def test_a_department_sets_where_a_roi_ends() -> None:
    end = {"end": "lower", "rois": "Parotid_L", "at": "lower", "offset_mm": 3}
    upper = {"end": "upper", "rois": "Parotid_L", "at": "upper", "offset_mm": -4}
    rois, _ = derived([{"name": "Cut", "of": "PTV_60", "steps": [{"extent": end}, {"extent": upper}]}])
    plain, parotid = extent_mm(ball(GRID, (8, 0, 0), 14)), extent_mm(ball(GRID, (20, -15, 0), 9))
    low, high = extent_mm(rois["Cut"].region) or (0.0, 0.0)
    assert plain is not None and parotid is not None
    widest = float(GRID.slice_widths_mm.max())
    assert low == pytest.approx(parotid[0] + 3, abs=widest) and low > plain[0]
    assert high == pytest.approx(parotid[1] - 4, abs=widest) and high < plain[1]
    assert "lower end at 3 mm above the lower end of Parotid_L" in rois["Cut"].description
    assert "upper end at 4 mm below the upper end of Parotid_L" in rois["Cut"].description
    rois, notes = derived([{"name": "Cut", "of": "PTV_60", "steps": [{"extent": {**end, "rois": "Larynx"}}]}])
    assert not rois and any("Larynx" in note for note in notes)


def test_circles_are_refused() -> None:
    with pytest.raises(ConfigError, match="need each other in a circle") as caught:
        derived([{"name": "A", "of": "B"}, {"name": "B", "of": "C"}, {"name": "C", "of": "A"}])
    assert caught.value.found == "A needs B needs C needs A"


def test_two_structures_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="same name"):
        derived([{"name": "A", "of": "Body"}, {"name": "a", "of": "PTV_60"}])


def test_what_is_missing_is_skipped_with_a_note_or_refused_where_required() -> None:
    entry = {"name": "X", "of": "Heart", "steps": [{"margin": 5}]}
    rois, notes = derived([entry, {"name": "Y", "of": "Body"}])
    assert list(rois) == ["Y"] and notes == ["X is skipped: there is no ROI Heart with contours"]
    with pytest.raises(InputError, match="requires X, which cannot be made"):
        derived([{**entry, "required": True}])


def test_a_step_without_its_roi_is_left_out_or_stops_the_structure() -> None:
    rois, notes = derived(
        [
            {"name": "A", "of": "Body", "steps": [{"subtract": "Heart", "optional": True}]},
            {"name": "B", "of": "Body", "steps": [{"keep_inside": {"rois": "Heart"}}]},
            {"name": "C", "of": "Body", "steps": [{"subtract": "Heart*"}]},
            {"name": "D", "of": "Body", "steps": [{"unite": "Heart", "optional": True}]},
        ]
    )
    assert list(rois) == ["A", "D"] and rois["A"].description == rois["D"].description == "Body"
    assert "C is skipped: there is no ROI Heart* with contours" in notes
    assert "A: there is no ROI Heart with contours; the step is left out" in notes
    assert "B is skipped: there is no ROI Heart with contours" in notes


def test_an_empty_result_is_said_or_refused() -> None:
    entry = {"name": "X", "of": "Parotid_L", "steps": [{"margin": -20}]}
    _, notes = derived([entry, {"name": "Y", "of": "Body"}])
    assert "X is skipped: nothing is left of it (Parotid_L; margin -20 mm (nothing left))" in notes
    with pytest.raises(InputError, match="requires X"):
        derived([{**entry, "required": True}])


def test_nothing_is_derived_from_a_roi_that_is_withheld() -> None:
    of = sources({"Parotid_L": "its verdict is stop"})
    rois, notes = derived(
        [
            {"each": "Parotid_*", "steps": [{"margin": 3}]},
            {"name": "Both", "of": "Parotid_*"},
            {"name": "Only", "of": "Parotid_L"},
        ],
        of,
        keep=["Parotid_L"],
    )
    assert list(rois) == ["Parotid_PRV03_R", "Both"] and rois["Both"].sources == ("Parotid_R",)
    assert "ROI Parotid_L: nothing is derived from it, its verdict is stop" in notes
    assert "Only is skipped: Parotid_L: its verdict is stop" in notes
    assert "ROI Parotid_L is not kept: its verdict is stop" in notes


def test_the_body_is_the_external_contour_whatever_its_name() -> None:
    of = SourceRois.of_regions(GRID, {"External": ball(GRID, (0, 0, 0), 45)})
    rois, notes = derived([{"name": "Shrunk", "of": "Body", "steps": [{"margin": -5}]}], of)
    assert rois["Shrunk"].sources == ("External",)
    assert notes == ["Body is taken from the external contour External"]


def test_a_name_that_may_mean_two_rois_is_none_of_them() -> None:
    _, notes = derived(
        [{"name": "X", "of": "SpinalCord"}, {"name": "Y", "of": "Body"}],
        sources(Cord=ball(GRID, (0, 0, 0), 8)),
    )
    assert any(note.startswith("SpinalCord may be any of") for note in notes)


def test_a_margin_beyond_the_scan_and_slices_without_contour_are_said() -> None:
    tall = Region({k: p for k, p in ball(GRID, (0, 0, 40), 20).slices.items() if k != 16}, GRID)
    _, notes = derived([{"name": "X", "of": "Tall", "steps": [{"margin": 10}]}], sources(Tall=tall))
    assert any("X: the scan ends at slice 20" in n and "cut off there" in n for n in notes)
    for margin, said in (({"left": 9}, False), ({"superior": -3}, True), ({"inferior": 3}, False)):
        _, more = derived([{"name": "X", "of": "Tall", "steps": [{"margin": margin}]}], sources(Tall=tall))
        assert any("is not shrunk there" in n for n in more) == said
        assert not any("is cut off there" in n for n in more)
    assert any(n.startswith("X: 1 slice(s) within the ROI have no contour") for n in notes)


def test_the_margin_of_a_roi_that_many_keep_away_from_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    real = steps.with_margins
    monkeypatch.setattr(steps, "with_margins", lambda r, m: made.append(m.isotropic_mm) or real(r, m))
    entry = {"name": "{roi}_in", "each": "P*", "steps": [{"keep_inside": {"rois": "Body", "gap_mm": 4}}]}
    rois, _ = derived([entry])
    assert len(rois) == 4 and made == [-4.0]


def test_type_and_colour_are_the_recipes() -> None:
    rois, _ = derived([{"name": "X", "of": "Body", "type": "CONTROL", "color": "#0102ff"}])
    assert rois["X"].info.interpreted_type == "CONTROL" and rois["X"].info.color == (1, 2, 255)


@pytest.mark.parametrize(
    ("structure", "message"),
    [
        ({"name": "A", "of": "B", "stepz": []}, "did you mean 'structures\\[0\\].steps'"),
        ({"name": "A", "of": "B", "steps": [{"margins": 5}]}, "Unknown key"),
        ({"name": "A", "of": "B", "steps": [{"margin": 5, "smooth": 2}]}, "exactly one operation"),
        ({"name": "A", "of": "B", "steps": [{}]}, "exactly one operation"),
        ({"name": "A"}, "needs either `of` or `each`"),
        ({"name": "A", "of": "B", "each": "C"}, "needs either `of` or `each`"),
        ({"name": "A", "each": ["B", "C"]}, "need {roi} in their name"),
        ({"of": "B", "steps": [{"smooth": 2}]}, "needs a name"),
        ({"of": "B", "steps": [{"margin": 2.5}]}, "no whole number of millimetres"),
        ({"name": "A", "of": "B", "type": "ORGANN"}, "Unknown RT ROI interpreted type"),
        ({"name": "A", "of": "B", "color": "red"}, "#rrggbb"),
        ({"name": "A", "of": "B", "steps": [{"ring": {"inner_mm": 5, "outer_mm": 3}}]}, "end farther out"),
        ({"name": "A", "of": "B", "steps": [{"margin": 900}]}, "out of range"),
        ({"name": "A\\B", "of": "Body"}, "cannot have this name"),
        ({"name": "A", "of": "B", "steps": [{"hull": "cube"}]}, "does not fit"),
    ],
)
def test_what_a_recipe_cannot_mean_is_refused(structure: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        derived([structure])


def test_the_explanation_is_a_recipe_and_names_every_key() -> None:
    text = explained()
    assert len(load_recipe(yaml.safe_load(text)).structures) == 4
    for key in ("keep_outside", "gap_mm", "below_cm3", "superior", "required", "largest_gap_mm", "each"):
        assert f"{key}:" in text


def test_an_unknown_recipe_names_those_that_come_along() -> None:
    with pytest.raises(ConfigError, match="No such recipe") as caught:
        load_recipe("hedaneck")
    assert "headneck" in str(caught.value.expected)


def test_a_recipe_that_does_not_fit_says_what_would(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    for text, message in (
        ("structures: [{name: A, of: B, steps: [{margin: 5 mm}]}]", "a number, or a mapping of left, right"),
        ("- name: A", "description, keep, structures$"),
        ("{structures: [{name: A, of: B}], sha256: x}", "Unknown key 'sha256'"),
        ("structures: [{name: A, of: B, each: C}]", "recipe.yaml, A"),
    ):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match=message):
            load_recipe(file)


def test_a_pattern_that_means_results_of_the_recipe_is_told_from_one_that_means_nothing() -> None:
    grid = axial_grid()
    sources = SourceRois.of_regions(grid, {"GTV_1": ball(grid, (0, 0, 0), 10)})
    recipe = load_recipe(
        {
            "structures": [
                {"each": "GTV*", "name": "{roi}_m", "steps": [{"margin": 4}]},
                {"name": "P", "of": "*_m"},
            ]
        }
    )
    notes: list[str] = []
    derive_rois(recipe, sources, notes.append)
    assert any("patterns mean the structure set's ROIs; name GTV_1_m" in note for note in notes)
