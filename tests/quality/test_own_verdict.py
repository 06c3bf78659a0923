"""Contours that the model itself drew: figures, relations between organs, the fitted model, verdicts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_contour_verdict import LEFT, RIGHT, SHAPE, SPACING, ball, scene

from contour_ai.errors import ConfigError
from contour_ai.quality.agreement import contour_figures
from contour_ai.quality.contour_verdict import POOLED, ContourModel
from contour_ai.quality.flag import PatientFlags, make_flag
from contour_ai.quality.judging import judge, judge_roi
from contour_ai.quality.own_contours import OWN_FIGURE_NAMES, OwnFigures, own_figures
from contour_ai.quality.relations import Relations, measured_pairs, near_pairs, pair_figures, usual_relations
from contour_ai.quality.verdict import Opinion
from contour_ai.quality.verdict_fit import GOOD, POOR, Sample, fit_own_model
from contour_ai.settings import from_mapping, to_mapping


def test_figures_of_two_readers() -> None:
    both = replace(scene(Parotid_L=LEFT, Parotid_R=RIGHT), second={"Parotid_L": LEFT})
    same = contour_figures("Parotid_L", LEFT, both)
    assert same is not None
    assert same.second_disagreement == same.missed_by_both == same.beyond_both == same.second_ends_mm == 0
    cut = LEFT.copy()
    cut[15:] = False
    found = contour_figures("Parotid_L", cut, both)
    assert found is not None
    rows = np.flatnonzero(LEFT.any(axis=(1, 2)))
    assert found.second_ends_mm == pytest.approx((rows[-1] - 14) * SPACING[0])
    assert found.missed_by_both == pytest.approx(LEFT[15:].sum() / LEFT.sum())
    assert found.goes_on_above_mm > 8 and found.broad_above > 0.8
    assert found.goes_on_below_mm == 0 and found.broad_below == 0
    # Where the second reader ends with the contour, it is not both of them that go on.
    agrees = replace(both, second={"Parotid_L": cut})
    other = contour_figures("Parotid_L", cut, agrees)
    assert other is not None and other.goes_on_above_mm == other.broad_above == other.missed_by_both == 0
    # Without a second reader the model stands for both, and nothing is said of a second one.
    alone = contour_figures("Parotid_L", cut, scene(Parotid_L=LEFT, Parotid_R=RIGHT))
    assert (
        alone is not None
        and alone.second_disagreement == 0
        and alone.goes_on_above_mm == found.goes_on_above_mm
    )


def test_relations_of_two_organs() -> None:
    above = ball((24, 18, 32), 6.0)
    found = pair_figures(LEFT, above, SPACING)
    tops = (np.flatnonzero(LEFT.any(axis=(1, 2)))[-1] - np.flatnonzero(above.any(axis=(1, 2)))[-1]) * 2.5
    assert (found["tops_mm"] == tops and found["overlap"] == 0) or found["overlap"] > 0
    assert pair_figures(LEFT, LEFT, SPACING)["overlap"] == 1.0
    apart = pair_figures(LEFT, RIGHT, SPACING)["gap_mm"]
    assert apart == pytest.approx(20 * 3.0 - 2 * 13.0, abs=8.0)


def test_an_organ_that_lies_oddly_to_its_neighbour() -> None:
    patients = [
        ({"Parotid_L": ball((15, 18, 32), 12.0 + n % 3), "Parotid_R": RIGHT}, SPACING) for n in range(10)
    ]
    pairs = near_pairs(patients)
    assert pairs == ["Parotid_L / Parotid_R"]
    usual = usual_relations([measured_pairs(pairs, masks, spacing) for masks, spacing in patients])
    assert usual is not None and from_mapping(Relations, to_mapping(usual)) == usual
    masks = dict(patients[0][0])
    assert usual.oddness("Parotid_L", masks, SPACING) <= 1.5
    masks["Parotid_L"] = np.roll(masks["Parotid_L"], -6, axis=0)
    assert usual.oddness("Parotid_L", masks, SPACING) > 2 and usual.oddness("Parotid_R", masks, SPACING) > 2
    assert usual.oddness("Larynx", masks, SPACING) == 0
    assert usual_relations([measured_pairs(pairs, *patient) for patient in patients[:3]]) is None
    with pytest.raises(ConfigError, match="does not name two ROIs"):
        Relations(pairs={"Parotid_L": {}})


def test_figures_of_the_models_own_contours() -> None:
    patient = replace(scene(Parotid_L=LEFT, Parotid_R=RIGHT), second={"Parotid_L": LEFT, "Parotid_R": LEFT})
    sure = np.where(LEFT, 8.0, -8.0).astype(np.float32)
    found = own_figures("Parotid_L", sure, 0.0, patient, {}, None, None)
    assert found is not None and found.expected_error < 0.01 and found.second_disagreement == 0
    unsure = own_figures("Parotid_L", sure / 10, 0.0, patient, {}, None, None)
    assert unsure is not None and unsure.expected_error > 0.2 and unsure.flat_share == 1.0
    other = own_figures(
        "Parotid_R", np.where(RIGHT, 8.0, -8.0).astype(np.float32), 0.0, patient, {}, None, None
    )
    assert (
        other is not None
        and other.second_disagreement == 1.0
        and other.second_shift_mm == pytest.approx(60.0)
    )
    assert own_figures("Larynx", sure, 0.0, scene(Larynx=np.zeros(SHAPE, bool)), {}, None, None) is None


def own(error: float) -> OwnFigures:
    return OwnFigures(
        **dict.fromkeys(OWN_FIGURE_NAMES, 0.0) | {"expected_error": error, "second_disagreement": error}
    )


def test_a_model_of_own_contours_is_fitted_where_enough_are_poor() -> None:
    rng = np.random.default_rng(3)
    samples = []
    for n in range(40):
        poor = n % 4 == 0
        figures = own(float(rng.normal(0.5 if poor else 0.15, 0.03)))
        kind = POOR if poor else GOOD
        samples.append(Sample(patient=str(n), roi="Larynx", kind=kind, detail="", figures=figures))
    model = fit_own_model(samples)
    assert model is not None and model.false_alarm == 0.08
    assert (
        model.probability("Larynx", own(0.5)) > model.limit("Larynx") > model.probability("Larynx", own(0.12))
    )
    assert from_mapping(ContourModel, to_mapping(model)) == model
    assert fit_own_model([s for s in samples if s.kind == GOOD]) is None


def test_an_opinion_weighs_findings_that_are_not_gross() -> None:
    unusual = make_flag("mean_hu", "30 HU, usual 35 to 60 HU", 30.0, 35.0, 60.0, "HU")
    gross = make_flag("volume", "900 cm3, usual 20 to 40 cm3", 900.0, 20.0, 40.0, "cm3")
    good, poor = (Opinion(probability=p, limit=0.4, reason="why", slices=(3,)) for p in (0.1, 0.7))
    assert judge_roi([unusual]).verdict == "look"
    cleared = judge_roi([unusual], good)
    assert cleared.verdict == "clear" and cleared.probability == 0.1 and not cleared.findings
    doubted = judge_roi([unusual], poor)
    assert doubted.verdict == "look" and [f.code for f in doubted.findings] == ["needs_correction"]
    assert doubted.findings[0].high == 0.4 and doubted.findings[0].slices == (3,)
    assert judge_roi([unusual, gross], good).verdict == "stop"
    assert judge_roi([make_flag("empty", "nothing", 0.0, None, None)], good).verdict == "look"
    patient = judge(PatientFlags(rois={"A": (unusual,), "B": (unusual,)}), ["A", "B"], opinions={"A": good})
    assert {name: roi.verdict for name, roi in patient.rois.items()} == {"A": "clear", "B": "look"}


def test_a_bundle_with_verdicts_of_a_second_reader_needs_one() -> None:
    from contour_ai.bundle import load_bundle

    model = ContourModel(
        patients=9,
        false_alarm=0.05,
        intercept=-3.0,
        weights={"second_disagreement": 1.0},
        usual={POOLED: {"second_disagreement": (0.1, 0.05)}},
        limits={POOLED: 0.5},
    )
    bundle = replace(load_bundle("phantom-headneck"), second_reader=None)
    with pytest.raises(ConfigError, match="Verdicts need the second reader"):
        replace(bundle, contour_model=model)
