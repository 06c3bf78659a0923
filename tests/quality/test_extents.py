"""How far organs go: fitted on patients made by hand, in words, and what ends elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from contour_ai.errors import ConfigError
from contour_ai.quality.extents import EndExtent, PatientEnds, RoiExtent, fitted_extents, other_ends
from contour_ai.settings import from_mapping, to_mapping


def patients(count: int = 20) -> list[PatientEnds]:
    """A cord to the lower end of the scan in three of four, else 40 mm below the larynx, and up to the brainstem."""
    dice = np.random.default_rng(1)
    found = []
    for n in range(count):
        larynx = 100.0 + dice.uniform(-30, 30)
        stem = larynx + 90.0 + dice.uniform(-25, 25)
        low = 0.0 if n % 4 else larynx - 40.0 + dice.uniform(-2, 2)
        cord = (low, stem + dice.uniform(-3, 3))
        rois = {"SpinalCord": cord, "Brainstem": (stem, stem + 50), "Larynx": (larynx, larynx + 40)}
        found.append(PatientEnds(body=(0.0, 300.0), rois=rois))
    return found


@pytest.fixture(scope="module")
def cord() -> RoiExtent:
    return fitted_extents(patients(60))["SpinalCord"]


def test_each_end_is_measured_from_the_end_it_follows_most_closely(cord: RoiExtent) -> None:
    assert cord.lower.at_scan_end == 0.75 and cord.lower.patients == 60
    assert (cord.lower.roi, cord.lower.at) == ("Larynx", "lower")
    assert cord.lower.offset_mm is not None and cord.lower.offset_mm[1] == pytest.approx(-40, abs=1.5)
    assert (cord.upper.roi, cord.upper.at) == ("Brainstem", "lower")
    assert cord.upper.offset_mm is not None and cord.upper.offset_mm[2] == pytest.approx(8, abs=2)
    words = cord.lower.in_words("lower")
    assert words.startswith(
        "to the lower end of the scan in 75% of the patients, else 40 mm below the lower end of"
    )
    assert from_mapping(RoiExtent, to_mapping(cord), where="x") == cord
    assert not fitted_extents(patients(7)), "too few"


def test_what_ends_elsewhere_is_said_and_what_the_scan_cuts_is_not(cord: RoiExtent) -> None:
    usual = {"Brainstem": (190.0, 240.0), "Larynx": (100.0, 140.0)}

    def ends(low: float, high: float, rois: dict[str, tuple[float, float]] = usual) -> list[str]:
        patient = PatientEnds(body=(0.0, 300.0), rois={**rois, "SpinalCord": (low, high)})
        return [end.reason for end in other_ends("SpinalCord", cord, patient)]

    assert ends(60, 190) == [] and ends(2, 191) == []
    (reason,) = ends(88, 190)
    assert reason.startswith(
        "ends elsewhere: its lower end lies 12 mm below the lower end of Larynx, usual 48"
    )
    (reason,) = ends(0, 215)
    assert reason.startswith(
        "ends elsewhere: its upper end lies 25 mm above the lower end of Brainstem, usual "
    )
    assert ends(88, 190, {"Brainstem": (190.0, 240.0)}) == [], "without a larynx nothing is said"
    assert ends(88, 190, {**usual, "Larynx": (3.0, 40.0)}) == [], "a larynx that the scan cuts says nothing"
    always = RoiExtent(lower=EndExtent(patients=50, at_scan_end=0.98), upper=cord.upper)
    patient = PatientEnds(body=(0.0, 300.0), rois={**usual, "SpinalCord": (60.0, 190.0)})
    (end,) = other_ends("SpinalCord", always, patient)
    where = "60 mm above the lower end of the scan"
    assert end.reason == f"ends elsewhere: {where}, to which the contours of 98% of the training patients go"


def test_impossible_extents_are_refused() -> None:
    with pytest.raises(ConfigError, match="An extent in the reference ranges is not valid"):
        EndExtent(patients=9, roi="Larynx")
    with pytest.raises(ConfigError, match="An extent in the reference ranges is not valid"):
        EndExtent(patients=9, at_scan_end=1.2)
