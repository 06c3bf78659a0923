"""Contours that overlap: copies count once, holes are holes, overlaps in part are one area; a mask's own stay exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from shapes import hard_shapes

from contour_ai.polygons import (
    Polygon,
    level_to_polygons,
    mask_to_polygons,
    polygons_to_mask,
    resolve_overlaps,
)

SHAPE = (64, 64)


def circle(
    radius: float = 16.0, at: tuple[float, float] = (30.2, 31.1), n: int = 60, turn: float = 0.0
) -> Polygon:
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False) + turn
    return np.stack([at[0] + radius * np.cos(angle), at[1] + radius * np.sin(angle)], axis=1)


def box(top: int, bottom: int, left: int, right: int) -> Polygon:
    """Around rows top to bottom - 1 and columns left to right - 1."""
    return np.array([[top, left], [top, right], [bottom, right], [bottom, left]], dtype=np.float64) - 0.5


def keyhole(radius: float, hole: float, *, channel: float = 0.0, n: int = 60) -> Polygon:
    """A ring as one polygon, joined by a channel at an angle."""
    outer, inner = circle(radius, n=n, turn=channel), circle(hole, n=n, turn=channel)
    return np.concatenate([outer, outer[:1], inner[:1], inner[:0:-1], inner[:1]])


def settled(*polygons: Polygon, even_odd: bool = False) -> tuple[int, tuple[int, int, int]]:
    """Voxels of the area that the polygons mean, and (copies, joined, poking)."""
    found = resolve_overlaps({3: polygons}, SHAPE, even_odd=(3,) if even_odd else ())[3]
    voxels = int(polygons_to_mask(found.polygons, SHAPE).sum())
    return voxels, (found.copies, found.joined, found.poking)


def size(*polygons: Polygon) -> int:
    return int(polygons_to_mask(polygons, SHAPE).sum())


C = circle()
COPIES = {
    "equal": C,
    "reversed from another point": np.roll(C, 7, axis=0)[::-1],
    "rounded": np.round(C, 1),
    "closed": np.vstack([C, C[:1]]),
    "every second point": C[::2],
    "a point more": np.vstack([C[:1], (C[:1] + C[1:2]) / 2, C[1:]]),
    "resampled": circle(n=73, turn=0.03),
    "moved by 0.2 voxels": C + 0.2,
    "moved along the rows": C + np.array([0, 0.35]),
}


@pytest.mark.parametrize("name", COPIES)
def test_copies_count_once(name: str) -> None:
    assert settled(C, COPIES[name]) == (size(C), (1, 0, 0))
    assert settled(C, C, COPIES[name]) == (size(C), (2, 0, 0))
    hole = circle(7)
    hole_too = np.round(hole, 1) if name == "rounded" else hole[::-1]
    assert settled(C, hole, COPIES[name], hole_too) == (size(C, hole), (2, 0, 0))


@pytest.mark.parametrize("turn", [0.0, 1.3])
def test_a_copy_of_a_keyhole_may_have_its_channel_elsewhere(turn: float) -> None:
    ring = keyhole(16, 8)
    copy = np.round(keyhole(16, 8, channel=turn, n=60), 2)
    assert settled(ring, copy) == (size(ring), (1, 0, 0))


@pytest.mark.parametrize("radius", [15.0, 14.0, 3.0])
def test_rings_and_holes_stay(radius: float) -> None:
    hole = circle(radius)
    assert settled(C, hole) == (size(C) - size(hole), (0, 0, 0))
    assert settled(hole, C) == (size(C) - size(hole), (0, 0, 0))


def test_islands_in_holes_stay() -> None:
    rings = [circle(r) for r in (20, 14, 8, 4)]
    assert settled(*rings) == (size(rings[0]) - size(rings[1]) + size(rings[2]) - size(rings[3]), (0, 0, 0))


@pytest.mark.parametrize(
    ("polygons", "voxels", "counts"),
    [
        ([box(10, 20, 10, 20), box(15, 25, 15, 25)], 175, (0, 2, 0)),
        ([box(10, 20, 10, 20), box(10, 20, 15, 25)], 150, (0, 2, 0)),
        ([box(10, 20, 10, 20), box(15, 25, 15, 25), box(18, 28, 5, 17)], 271, (0, 3, 0)),
        ([box(10, 20, 10, 20), box(15, 25, 15, 25), box(40, 50, 40, 50)], 275, (0, 2, 0)),
        ([box(10, 20, 10, 20), box(10, 20, 20, 30)], 200, (0, 0, 0)),  # side by side
        ([box(10, 20, 10, 20), box(20, 30, 20, 30)], 200, (0, 0, 0)),  # a corner in common
        ([box(10, 30, 10, 30), box(10, 15, 12, 20)], 360, (0, 0, 0)),  # a hole along the outline
        ([box(10, 30, 10, 30), box(21, 31, 12, 22)], 310, (0, 0, 1)),  # pokes out by a tenth
        ([box(10, 30, 10, 30), box(22, 32, 12, 22)], 420, (0, 2, 0)),  # by a fifth: no hole
        ([box(10, 30, 10, 30), box(10, 30, 20, 40), box(15, 20, 22, 27)], 575, (0, 2, 0)),  # a hole in both
        (
            [box(10, 30, 10, 30), box(12, 28, 12, 28), box(26, 34, 14, 18)],
            168,
            (0, 3, 0),
        ),  # a stroke across a ring
    ],
)
def test_overlaps(polygons: list[Polygon], voxels: int, counts: tuple[int, int, int]) -> None:
    assert settled(*polygons) == (voxels, counts)
    assert settled(*polygons[::-1]) == (voxels, counts)


@pytest.mark.parametrize("mm", [1.0, 2.0, 4.0])
def test_a_copy_moved_too_far_to_be_one_leaves_no_crescents(mm: float) -> None:
    voxels, counts = settled(C, C + mm)
    assert voxels == int((polygons_to_mask([C], SHAPE) | polygons_to_mask([C + mm], SHAPE)).sum())
    assert counts == (0, 2, 0)


def test_xor_contours_are_filled_even_odd() -> None:
    pair = [box(10, 20, 10, 20), box(15, 25, 15, 25)]
    assert settled(*pair, even_odd=True) == (150, (0, 0, 0))
    assert settled(*pair, pair[0], even_odd=True) == (150, (1, 0, 0))


def test_only_what_overlaps_gets_a_new_outline() -> None:
    far = circle(5, (52, 52))
    found = resolve_overlaps({0: [box(10, 20, 10, 20), far, box(15, 25, 15, 25)]}, SHAPE)[0]
    assert len(found.polygons) == 2
    assert found.polygons[0] is far


def test_polygons_without_a_voxel_change_nothing() -> None:
    assert settled(C, circle(0.2, (40.5, 40.5)), np.empty((0, 2)), C[:2])[0] == size(C)
    assert settled(C, circle(5, (-20, -20)), circle(5, (-21, -20))) == (size(C), (0, 0, 0))


def test_slices_have_nothing_to_do_with_each_other() -> None:
    pair = [box(10, 20, 10, 20), box(15, 25, 15, 25)]
    slices = {0: pair, 1: [C, np.round(C, 1)], 2: pair[:1], 5: [pair[1], circle(3, (50, 50))], 6: pair, 7: []}
    found = resolve_overlaps(slices, SHAPE, even_odd={6})
    assert {k: (r.copies, r.joined, len(r.polygons)) for k, r in found.items()} == {
        0: (0, 2, 1), 1: (1, 0, 1), 2: (0, 0, 1), 5: (0, 0, 2), 6: (0, 0, 2), 7: (0, 0, 0),
    }  # fmt: skip


def unchanged(polygons: list[Polygon], shape: tuple[int, int]) -> bool:
    found = resolve_overlaps({0: polygons}, shape)[0]
    counts = found.copies, found.joined, found.poking
    return counts == (0, 0, 0) and all(a is b for a, b in zip(found.polygons, polygons, strict=True))


@settings(max_examples=150)
@given(
    arrays(np.bool_, st.tuples(st.integers(1, 14), st.integers(1, 14))),
    st.sampled_from([0.05, 0.4, 0.5, 0.95]),
)
def test_polygons_of_any_mask_stay_as_they_are(mask: np.ndarray, outline: float) -> None:
    for holes in ("keyhole", "separate"):
        assert unchanged(mask_to_polygons(mask, outline=outline, holes=holes), mask.shape)


@settings(max_examples=100)
@given(
    arrays(np.float32, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.floats(-3, 3, width=32))
)
def test_polygons_of_any_level_field_stay_as_they_are(level: np.ndarray) -> None:
    for holes in ("keyhole", "separate"):
        assert unchanged(level_to_polygons(level, holes=holes), level.shape)


def test_hard_shapes_and_noise_stay_as_they_are() -> None:
    for mask in hard_shapes((8, 40, 40)).values():
        assert all(unchanged(mask_to_polygons(m, holes="separate"), m.shape) for m in mask)
    noise = np.random.default_rng(7).random((96, 96)) < 0.55
    assert unchanged(mask_to_polygons(noise, holes="separate"), noise.shape)
