"""Deflate of masks: any reader's inflate gives the same bytes, and the CRC is the one of all of them."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contour_ai.deflate import BLOCK, deflated

PLACES = st.lists(st.integers(0, 5 * BLOCK - 1), max_size=6)


def check(start: bytes, data: np.ndarray) -> int:
    parts, crc = deflated(start, data)
    whole = start + data.tobytes()
    stream = b"".join(parts)
    assert zlib.decompress(stream, -zlib.MAX_WBITS) == whole
    assert crc == zlib.crc32(whole)
    return len(stream)


@settings(deadline=None)
@given(st.integers(0, 5 * BLOCK), PLACES, st.binary(max_size=9))
def test_any_array(size: int, places: list[int], start: bytes) -> None:
    data = np.zeros(size, bool)
    data[[p for p in places if p < size]] = True
    check(start, data)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, BLOCK), (150, 256, 256), (7, 511, 513)])
def test_masks(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    data = np.zeros(shape, bool)
    check(b"header", data)
    data[shape[0] // 3 : shape[0] // 2 + 1, ..., 5:300] = True
    assert check(b"header", data) < max(data.size / 200, 100)
    check(b"", rng.random(shape) < 0.01)
