"""Series that a model was trained on are known again by UID, and by their slices after another export."""

from __future__ import annotations

import numpy as np

from contour_ai.bundle.seen_series import SeenSeries, SeriesContent, role_in, slice_digests


def scan(seed: int, slices: int = 20) -> np.ndarray:
    """A noisy cylinder in air; the outer slices are air alone."""
    rng = np.random.default_rng(seed)
    hu = np.full((slices, 40, 40), -1000, np.int16)
    hu[2:-2, 8:32, 8:32] = rng.normal(40, 60, (slices - 4, 24, 24)).astype(np.int16)
    return hu


def content(uid: str, hu: np.ndarray) -> SeriesContent:
    return SeriesContent(uid=uid, slices=slice_digests(hu))


def test_slices_without_a_patient_do_not_count() -> None:
    assert len(slice_digests(scan(1))) == 16
    drawn = np.where(np.arange(40)[None, None, :] > 20, 40, -1000) * np.ones((5, 40, 1), np.int16)
    assert slice_digests(drawn) == (), "drawn without noise: another patient's would be equal"
    assert slice_digests(scan(1).astype(np.float32)) == slice_digests(scan(1)), "by value, not by type"


def test_a_series_is_known_by_uid_or_by_slices() -> None:
    seen = SeenSeries.of([content("1.2", scan(1)), content("1.3", scan(2))], [content("1.4", scan(3))])
    assert seen.role_of(content("1.2", scan(9))) == "training", "the UID alone"
    assert seen.role_of(content("9.9", scan(2))) == "training", "exported under a new UID"
    assert seen.role_of(content("9.9", scan(3))) == "held back"
    assert seen.role_of(content("9.9", scan(4))) is None
    assert seen.role_of(content("", scan(4))) is None
    assert seen.role_of(SeriesContent(uid="1.4")) == "held back"


def test_an_export_of_some_of_the_slices_is_known() -> None:
    hu = scan(1, 80)
    seen = SeenSeries.of([content("1.2", hu)])
    known = [seen.role_of(content("9", hu[first : first + 60])) for first in (0, 10, 20)]
    assert known == ["training"] * 3
    one_slice = np.concatenate([scan(5, 80)[:40], hu[40:41], scan(5, 80)[41:]])
    assert seen.role_of(content("9", one_slice)) is None, "a single equal slice proves nothing"


def test_nothing_can_be_read_without_the_series() -> None:
    of = [SeenSeries.of([content("1.2.840.99", scan(1))]) for _ in range(2)]
    assert of[0].salt != of[1].salt and of[0].training != of[1].training
    assert "1.2.840" not in str(of)
    assert SeenSeries.of([content("1.2", scan(1))], salt="ab") == SeenSeries.of(
        [content("1.2", scan(1))], salt="ab"
    )


def test_of_several_trainings_the_closest_counts() -> None:
    first = SeenSeries.of([content("1", scan(1))], [content("2", scan(2))])
    second = SeenSeries.of([content("2", scan(2))])
    assert role_in((first, second), content("2", scan(2))) == "training"
    assert role_in((first,), content("2", scan(2))) == "held back"
    assert role_in((), content("2", scan(2))) is None


def test_a_series_on_both_sides_trained() -> None:
    seen = SeenSeries.of([content("1", scan(1))], [content("1", scan(1))], salt="ab")
    assert seen.held_back == ()
