"""Facts of a ROI are those of the patient, whatever way it was scanned."""

from __future__ import annotations

import numpy as np
import pytest

from contour_ai.box import bounding_box
from contour_ai.grid import Grid
from contour_ai.training.roi_facts import BodySlices, RoiFacts, measure_roi

SHAPE = (10, 20, 24)
BOX = (slice(3, 7), slice(8, 12), slice(15, 19))


def patient() -> tuple[np.ndarray, np.ndarray]:
    """(body, ROI on the larger j): 2 mm pixels, 5 mm slices; slices 0 and 9 show no patient."""
    body, roi = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    body[1:9, 2:18, 2:22] = True
    roi[BOX] = True
    return body, roi


def measured(roi: np.ndarray, body: np.ndarray, grid: Grid, **more: object) -> RoiFacts:
    box = bounding_box(roi)
    return measure_roi(None if box is None else (box, roi[box]), BodySlices.of(body, grid), **more)  # type: ignore[arg-type]


def test_by_hand() -> None:
    body, roi = patient()
    hu = np.where(roi, 50, 0)
    facts = measured(roi, body, Grid.axial(SHAPE, (5.0, 2.0, 2.0)), hu=hu, contours=4, unused_contours=1)
    assert (facts.extent_mm, facts.mean_hu) == (pytest.approx(20), 50)
    assert (facts.contours, facts.unused_contours, facts.slices, facts.missing_slices) == (4, 1, 4, 0)
    assert facts.volume_cm3 == pytest.approx(4 * 4 * 4 * 20 / 1000)
    assert facts.length_mm == pytest.approx(20) and facts.area_cm2 == pytest.approx(16 * 4 / 100)
    assert facts.scan_share == pytest.approx(0.5) and not facts.cut and facts.outside_share == 0
    assert facts.left_mm == pytest.approx(2 * (16.5 - 11.5))
    assert RoiFacts.from_mapping(vars(facts)) == facts


def test_gaps_ends_and_what_is_outside() -> None:
    body, roi = patient()
    roi[4] = False
    roi[8, 8, 22] = True  # the last slice that shows the patient, and outside of it
    facts = measured(roi, body, Grid.axial(SHAPE, (5.0, 2.0, 2.0)))
    assert (facts.slices, facts.missing_slices, facts.cut) == (4, 2, True)
    assert facts.outside_share == pytest.approx(1 / 49)
    assert measured(np.zeros(SHAPE, bool), body, Grid.axial(SHAPE, (5.0, 2.0, 2.0)), contours=2) == RoiFacts(
        contours=2
    )


@pytest.mark.parametrize(
    ("step_k", "step_i", "step_j"),
    [
        ((0, 0, 5), (0, 2, 0), (2, 0, 0)),  # head first, supine
        ((0, 0, 5), (0, -2, 0), (-2, 0, 0)),  # head first, prone: columns run to the right
        ((0, 0, -5), (0, 2, 0), (-2, 0, 0)),  # feet first, supine
    ],
)
def test_left_is_the_patients(
    step_k: tuple[int, ...], step_i: tuple[int, ...], step_j: tuple[int, ...]
) -> None:
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = step_k, step_i, step_j
    body, roi = patient()
    if step_j[0] < 0:
        roi = roi[:, :, ::-1]
    facts = measured(roi, body, Grid.from_affine(SHAPE, affine))
    assert facts.left_mm == pytest.approx(10)
