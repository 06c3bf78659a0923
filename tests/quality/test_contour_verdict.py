"""Figures of contours against a prediction, spoiled contours, and the model that makes verdicts of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from contour_ai.errors import ConfigError
from contour_ai.quality.agreement import (
    FAR_MM,
    FIGURE_NAMES,
    ContourFigures,
    ModelGridPatient,
    contour_figures,
)
from contour_ai.quality.contour_verdict import PHRASES, POOLED, ContourModel, phrase
from contour_ai.quality.figures import body_of
from contour_ai.quality.own_contours import OWN_FIGURE_NAMES
from contour_ai.quality.spoiling import grown, laid_on, shifted, spoil
from contour_ai.quality.verdict_fit import GOOD, Sample, cross_fitted_alarms, fit_contour_model
from contour_ai.settings import from_mapping, to_mapping

Bool = NDArray[np.bool_]
SPACING = (2.5, 3.0, 3.0)
SHAPE = (30, 36, 44)
OUTSIDE = -1024


def ball(centre: tuple[float, float, float], radius_mm: float, wobble: float = 0.0) -> Bool:
    k, i, j = np.indices(SHAPE)
    distance = np.sqrt(sum(((n - c) * mm) ** 2 for n, c, mm in zip((k, i, j), centre, SPACING, strict=True)))
    return np.asarray(distance <= radius_mm + wobble * np.sin(k), bool)


def scene(**predicted: Bool) -> ModelGridPatient:
    hu = np.full(SHAPE, OUTSIDE, np.int16)
    hu[:, 3:-3, 3:-3] = 20
    for mask in predicted.values():
        hu[mask] = 60
    return ModelGridPatient(hu=hu, body=body_of(hu, OUTSIDE, SPACING), predicted=predicted)


LEFT, RIGHT = ball((15, 18, 32), 13.0), ball((15, 18, 12), 13.0)


def test_the_very_prediction_has_no_odd_figure() -> None:
    found = contour_figures("Parotid_L", LEFT, scene(Parotid_L=LEFT, Parotid_R=RIGHT))
    assert found is not None
    uneven = {"roughness", "jump"}  # a ball of voxels has steps
    assert {name for name in FIGURE_NAMES if getattr(found, name) > 1e-9} <= uneven
    assert contour_figures("Parotid_L", np.zeros(SHAPE, bool), scene(Parotid_L=LEFT)) is None


def test_figures_name_what_was_done() -> None:
    patient = scene(Parotid_L=LEFT, Parotid_R=RIGHT)

    def figures(mask: Bool, name: str = "Parotid_L") -> ContourFigures:
        found = contour_figures(name, mask, patient)
        assert found is not None
        return found

    moved = figures(shifted(LEFT, 2, 9.0, SPACING))
    assert moved.shift_mm == pytest.approx(9.0) and moved.shift_along_mm == pytest.approx(0.0)
    assert moved.missing_beside > 0.2 and moved.surface95_mm >= 6.0
    along = figures(shifted(LEFT, 0, -10.0, SPACING))
    assert along.shift_along_mm == pytest.approx(10.0) and along.missing_above > 0.1
    swapped = figures(RIGHT)
    assert swapped.other_organ == pytest.approx(1.0) and swapped.disagreement == 1.0
    cut = LEFT.copy()
    cut[:13] = False
    assert figures(cut).missing_below == pytest.approx(LEFT[:13].sum() / LEFT.sum())
    hole = LEFT & ~ball((15, 18, 32), 4.0)
    assert figures(hole).holes_share == pytest.approx((LEFT.sum() - hole.sum()) / hole.sum())
    gap = LEFT.copy()
    gap[15] = False
    rows = int(LEFT.any(axis=(1, 2)).sum())
    assert figures(gap).gaps_share == pytest.approx(1 / rows) and figures(gap).loose_share > 0.3
    nothing = contour_figures("Larynx", LEFT, patient)
    assert nothing is not None and nothing.surface95_mm == FAR_MM and nothing.beyond == 1.0
    out = LEFT.copy()
    out[15, 0:2, 32] = True
    assert figures(out).outside_share == pytest.approx(2 / out.sum())


def test_spoiled_contours_are_what_they_say() -> None:
    contours = {"Parotid_L": LEFT, "Parotid_R": RIGHT}
    found = list(spoil("Parotid_L", contours, SPACING, np.random.default_rng(0)))
    kinds = {one.kind for one in found}
    assert {"shifted 10 mm", "cut by a third", "speckled", "another organ", "a slice missing"} <= kinds
    by = {(one.kind, one.detail): one.mask for one in found}
    assert np.array_equal(by["another organ", "Parotid_R"], RIGHT)
    up = by["shifted 10 mm", "above"]
    assert np.array_equal(up[4:], LEFT[:-4]) and up.sum() == LEFT.sum()
    assert all(one.mask.any() and not np.array_equal(one.mask, LEFT) for one in found)
    assert (by["grown by 4 mm", ""] & LEFT).sum() == LEFT.sum(), "nothing is lost by growing"
    smaller = grown(LEFT, -4.0, SPACING)
    assert smaller.sum() < LEFT.sum() and not (smaller & ~LEFT).any()


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    """Twelve patients with two organs, drawn a little differently from what the network finds."""
    rng = np.random.default_rng(1)
    found = []
    for n in range(12):
        jitter = rng.normal(0, 0.5, 3)
        centres = {"Parotid_L": np.array((15, 18, 32)), "Parotid_R": np.array((15, 18, 12))}
        contours = {name: ball(tuple(c + jitter), 13.0, rng.normal(0, 1.0)) for name, c in centres.items()}
        patient = scene(**{name: ball(tuple(c), 13.0) for name, c in centres.items()})
        for name, mask in contours.items():
            spoiled = [(s.kind, s.detail, s.mask) for s in spoil(name, contours, SPACING, rng)]
            for kind, detail, contour in [(GOOD, "", mask), *spoiled]:
                figures = contour_figures(name, contour, patient)
                assert figures is not None
                found.append(Sample(patient=str(n), roi=name, kind=kind, detail=detail, figures=figures))
    return found


def test_a_fitted_model_finds_faults_and_leaves_good_contours_alone(samples: list[Sample]) -> None:
    model = fit_contour_model(samples)
    assert model is not None and model.patients == 12
    alarms = cross_fitted_alarms(samples)
    large = [a for s, a in zip(samples, alarms, strict=True) if s.kind in ("shifted 20 mm", "another organ")]
    good = [a for s, a in zip(samples, alarms, strict=True) if s.kind == GOOD]
    assert np.mean(large) == 1.0 and np.mean(good) <= 0.25
    figures = samples[0].figures
    assert model.probability("Parotid_L", figures) < model.limit("Parotid_L")
    swapped = next(s for s in samples if s.kind == "another organ")
    assert model.probability(swapped.roi, swapped.figures) > 0.9
    assert model.reason(swapped.roi, swapped.figures).count(";") == 2
    assert from_mapping(ContourModel, to_mapping(model)) == model
    assert fit_contour_model([s for s in samples if int(s.patient) < 3]) is None, "too few patients"


def test_a_worse_figure_never_makes_a_contour_better(samples: list[Sample]) -> None:
    model = fit_contour_model(samples)
    assert model is not None
    figures = samples[0].figures
    before = model.probability("Parotid_L", figures)
    for name in FIGURE_NAMES:
        worse = replace(figures, **{name: getattr(figures, name) + 0.5})
        assert model.probability("Parotid_L", worse) >= before, name


def test_wrong_models_are_refused() -> None:
    usual = {POOLED: {"disagreement": (0.1, 0.05)}}
    good = {"patients": 9, "false_alarm": 0.05, "intercept": -3.0, "limits": {POOLED: 0.5}}
    with pytest.raises(ConfigError, match="figures that this version does not measure"):
        ContourModel(weights={"nonsense": 1.0}, usual=usual, **good)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="positive spread"):
        ContourModel(weights={"disagreement": 1.0}, usual={POOLED: {"disagreement": (0.1, 0.0)}}, **good)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="weights of 0 or more"):
        ContourModel(weights={"disagreement": -1.0}, usual=usual, **good)  # type: ignore[arg-type]
    assert set(PHRASES) == set(FIGURE_NAMES) | set(OWN_FIGURE_NAMES)
    assert phrase("missing_above", 0.31) == "the model goes on above with 31% of its volume"


def test_another_patients_contour_is_laid_on_by_the_middle() -> None:
    small = np.zeros((10, 12, 14), bool)
    small[4:6, 5:7, 6:8] = True
    laid = laid_on(small, SHAPE)
    assert laid.sum() == small.sum()
    assert np.allclose(np.argwhere(laid).mean(axis=0) - np.argwhere(small).mean(axis=0), (10, 12, 15))
    assert laid_on(laid, small.shape).sum() == small.sum()
    spoiled = list(
        spoil("Parotid_L", {"Parotid_L": LEFT}, SPACING, np.random.default_rng(0), {"Parotid_L": small})
    )
    assert [s.mask.sum() for s in spoiled if s.kind == "another patient's"] == [small.sum()]
