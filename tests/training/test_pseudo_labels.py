"""What the network fills in, and what it must not touch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from training_cases import ROIS, ball, case

from contour_ai.training.cache import Case
from contour_ai.training.pseudo_labels import draw_pseudo_labels, load_pseudo_labels, pseudo_label_counts
from contour_ai.volume import ABSENT, CONTOURED, PSEUDO_LABEL, UNKNOWN

LACKING = (True, False, True)


def logits_of(masks: dict[int, np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    logits = np.full((len(ROIS), *shape), -3.0, np.float32)
    for r, mask in masks.items():
        logits[r][mask] = 3.0
    return logits


def archive() -> list[Case]:
    """Six patients with all ROIs, then one without the second."""
    return [*(case(n) for n in range(6)), case(6, presence=LACKING)]


def right_ball(radius: float = 2.6) -> np.ndarray:
    """Where the second ROI of the last patient is."""
    full = case(6)
    return ball(full.hu.shape, tuple(np.argwhere(full.bits & 2).mean(0)), radius)  # type: ignore[arg-type]


def test_a_roi_that_is_lacking_is_drawn_and_the_rest_stays(tmp_path: Path) -> None:
    cases = archive()
    mask = right_ball()
    asked: list[str] = []

    def predict(one: Case) -> np.ndarray:
        asked.append(one.patient_id)
        return logits_of({0: ~mask, 1: mask}, one.hu.shape)

    done = draw_pseudo_labels(cases, predict, None, tmp_path / "filled")
    assert asked == ["patient-6"]  # the others lack nothing
    assert done[:6] == cases[:6]
    assert done[6].states == (CONTOURED, PSEUDO_LABEL, CONTOURED) and done[6].presence == LACKING
    np.testing.assert_array_equal((done[6].bits & 2) != 0, mask)
    np.testing.assert_array_equal(done[6].bits & 5, cases[6].bits & 5)
    assert pseudo_label_counts(done) == {ROIS[1]: 1}
    again = load_pseudo_labels(cases, tmp_path / "filled")
    assert [c.states for c in again] == [c.states for c in done]
    np.testing.assert_array_equal(again[6].bits, done[6].bits)


@pytest.mark.parametrize("radius", [0.5, 5.0])
def test_an_unusual_volume_is_not_taken(tmp_path: Path, radius: float) -> None:
    cases = archive()
    mask = right_ball(radius)
    done = draw_pseudo_labels(
        cases, lambda one: logits_of({1: mask}, one.hu.shape), None, tmp_path / "filled"
    )
    assert done == cases and done[6].states == (CONTOURED, UNKNOWN, CONTOURED)


def test_a_patient_whose_blank_slices_are_cut_off_keeps_its_shape(tmp_path: Path) -> None:
    cases = archive()
    np.save(tmp_path / "hu.npy", cases[6].hu)
    np.save(tmp_path / "bits.npy", cases[6].bits)
    cases[6] = replace(cases[6], image=tmp_path / "hu.npy", labels=tmp_path / "bits.npy").cut(1, 15)
    mask = right_ball()[1:15]
    done = draw_pseudo_labels(
        cases, lambda one: logits_of({1: mask}, one.hu.shape), None, tmp_path / "filled"
    )[6]
    assert done.hu.shape == done.bits.shape == mask.shape and done.states[1] == PSEUDO_LABEL
    np.testing.assert_array_equal((done.bits & 2) != 0, mask)
    np.testing.assert_array_equal(done.hu, case(6).hu[1:15])


def test_absent_rois_and_those_that_few_have_stay(tmp_path: Path) -> None:
    mask = right_ball()

    def predict(one: Case) -> np.ndarray:
        return logits_of({1: mask}, one.hu.shape)

    gone = [*archive()[:6], replace(archive()[6], absent=(ROIS[1],))]
    done = draw_pseudo_labels(gone, predict, None, tmp_path / "gone")
    assert done[6].states == (CONTOURED, ABSENT, CONTOURED) and not (done[6].bits & 2).any()
    few = archive()[2:]
    assert draw_pseudo_labels(few, predict, None, tmp_path / "few")[-1].states[1] == UNKNOWN


def test_nothing_is_drawn_into_an_organ_that_never_overlaps(tmp_path: Path) -> None:
    cases = archive()
    mask = right_ball(3.0)
    brain = np.zeros_like(mask)
    brain[:, :, : int(np.argwhere(mask)[:, 2].mean())] = True
    bits = np.where(brain, cases[6].bits | 4, cases[6].bits).astype(np.uint8)
    cases[6] = replace(cases[6], labels=bits)
    exclusive = np.zeros((3, 3), bool)
    exclusive[1, 2] = exclusive[2, 1] = True
    predict = lambda one: logits_of({1: mask}, one.hu.shape)  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "contour_ai.training.pseudo_labels._plausible_cm3", lambda cases: {ROIS[1]: (0.01, 10**6)}
        )
        free = draw_pseudo_labels(cases, predict, None, tmp_path / "free")[6].bits
        kept = draw_pseudo_labels(cases, predict, exclusive, tmp_path / "kept")[6].bits
    np.testing.assert_array_equal((free & 2) != 0, mask)
    np.testing.assert_array_equal((kept & 2) != 0, mask & ~brain)
