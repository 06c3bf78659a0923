"""The packed CT: how far off it is at most, how large it gets, and that it unpacks to what went in."""

from __future__ import annotations

import base64
import zlib

import numpy as np
import pytest

from contour_ai.report import packing
from contour_ai.report.packing import (
    STEPS_HU,
    PackedVolume,
    binned,
    level_edges,
    pack_contours,
    pack_volume,
)


def unpack(packed: PackedVolume) -> np.ndarray:
    """HU as the page shows them."""
    k, i, j = packed.shape_kij
    stream = b"".join(zlib.decompress(s) for s in packed.streams)
    differences = np.frombuffer(stream, np.uint8).reshape(packed.shape_kij)
    levels = np.zeros((k, i, j), np.uint8)
    for r in range(i):
        for c in range(j):
            left = levels[:, r, c - 1].astype(int) if c else 0
            upper = levels[:, r - 1, c].astype(int) if r else 0
            levels[:, r, c] = (differences[:, r, c].astype(int) + (left + upper) // 2) % 256
    return np.array(packed.levels_hu)[levels]


def noisy(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).randint(-1100, 3200, shape).astype(np.int16)


def test_soft_tissue_is_shown_within_half_a_level_and_bone_and_lung_within_theirs() -> None:
    hu = noisy((3, 20, 30))
    packed = pack_volume(hu)
    assert (packed.step_hu, packed.binning) == (4, 1)
    error = np.abs(unpack(packed) - hu)
    soft, lung, bone = (hu >= -250) & (hu < 350), (hu >= -950) & (hu < -250), (hu >= 350) & (hu < 1550)
    assert error[soft].max() <= 2
    assert error[lung].max() <= 16
    assert error[bone].max() <= 10
    assert (unpack(packed)[hu < -950] == -1000).all()


@pytest.mark.parametrize("step_hu", STEPS_HU)
def test_levels_fit_a_byte_and_reach_metal(step_hu: float) -> None:
    edges = level_edges(step_hu)
    assert len(edges) + 1 <= 256
    assert (np.diff(edges) > 0).all()
    assert edges[-1] >= 3000


def test_slices_are_grouped_and_floats_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "STREAM_VOXELS", 500)
    hu = np.linspace(-200, 300, 5 * 10 * 20).reshape(5, 10, 20)
    packed = pack_volume(hu)
    assert (packed.group, len(packed.streams)) == (2, 3)
    assert np.abs(unpack(packed) - hu).max() <= 2.5


def test_a_small_budget_gets_wider_levels_and_then_fewer_pixels() -> None:
    hu = np.random.RandomState(1).normal(20, 25, (8, 64, 64)).astype(np.int16)
    full = pack_volume(hu)
    wider = pack_volume(hu, full.size_bytes * 3 // 4)
    assert wider.step_hu > full.step_hu
    assert wider.binning == 1
    assert wider.size_bytes <= full.size_bytes * 3 // 4
    fewer = pack_volume(hu, full.size_bytes // 8)
    assert fewer.binning == 2
    assert fewer.shape_kij == (8, 32, 32)
    least = pack_volume(hu, 1)
    assert (least.binning, least.step_hu) == (8, STEPS_HU[-1])


def test_binned_is_the_mean_and_keeps_the_last_pixels() -> None:
    image = np.arange(2 * 3 * 5, dtype=np.int16).reshape(2, 3, 5)
    small = binned(image, 2)
    assert small.shape == (2, 2, 3)
    assert small[0, 0, 0] == np.mean([0, 1, 5, 6])
    assert small[0, 1, 2] == 14
    assert binned(image, 1) is image


def test_contours_keep_their_points() -> None:
    slices = {
        7: [np.array([[1.0, 2], [3.5, 2.25], [100.0625, 511.4]])],
        2: [np.array([[0.5, 0.5], [9, 0.5], [9, 9]]), np.array([[20, 20], [21, 20], [21.5, 22], [20, 23]])],
        3: [],
    }
    packed = pack_contours(slices)
    assert packed["slices"] == [2, 7]
    assert packed["points"] == [[3, 4], [3]]
    steps = np.frombuffer(zlib.decompress(base64.b64decode(packed["data"])), "<i2").reshape(2, -1).T
    at = 0
    for k, counts in zip(packed["slices"], packed["points"], strict=True):
        for polygon, count in zip(slices[k], counts, strict=True):
            points = steps[at : at + count].cumsum(axis=0) / packed["subpixels"]
            assert np.abs(points - polygon).max() <= 1 / 32
            at += count
    large = pack_contours({0: [np.array([[0, 0], [0, 8000.0], [8000, 0]])]})
    assert large["subpixels"] * 8000 < 32768
    assert pack_contours({})["slices"] == []
