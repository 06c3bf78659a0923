"""Deflate and CRC-32 of arrays that are nearly all zeros, as masks are, without going through all the zeros."""

from __future__ import annotations

import zlib
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

FASTEST = 1
"""Compression level: masks shrink a hundredfold at the fastest one already."""

BLOCK_POWER = 14
BLOCK = 1 << BLOCK_POWER
"""Bytes looked at together: a few rows of an image."""

MOST_BLOCKS_POWER = 6
"""Zeros are compressed up to 2**6 blocks (1 MiB) at a time; there a deflate stream is as small as it gets."""

Matrix = tuple[int, ...]
"""32 columns of a linear map on 32 bits."""


def deflated(start: bytes, data: NDArray[np.bool_]) -> tuple[list[bytes], int]:
    """(parts of a raw deflate stream, CRC-32) of the bytes `start` and then those of `data`, a contiguous array."""
    compressor = zlib.compressobj(FASTEST, zlib.DEFLATED, -zlib.MAX_WBITS)
    parts = [compressor.compress(start), compressor.flush(zlib.Z_FULL_FLUSH)]
    crc = zlib.crc32(start)
    flat = data.reshape(-1)
    number = len(flat) // BLOCK
    used: NDArray[np.bool_] = np.any(flat[: number * BLOCK].reshape(number, BLOCK), axis=1)
    runs = [0, *(np.flatnonzero(used[1:] != used[:-1]) + 1).tolist(), number]
    for first, stop in pairwise(runs):
        if stop > first and used[first]:
            piece = flat[first * BLOCK : stop * BLOCK].data
            # After a full flush nothing refers to what was before, so that zeros can come in between.
            parts += [compressor.compress(piece), compressor.flush(zlib.Z_FULL_FLUSH)]
            crc = zlib.crc32(piece, crc)
        else:
            for power in _powers(stop - first):
                parts.append(_deflated_zeros(power))
                crc = _crc_after_zeros(crc, power)
    rest = flat[number * BLOCK :].data
    return [*parts, compressor.compress(rest), compressor.flush()], zlib.crc32(rest, crc)


def _powers(blocks: int) -> list[int]:
    """Powers of two, up to the largest used, that sum to a number of blocks."""
    many, few = divmod(blocks, 1 << MOST_BLOCKS_POWER)
    return [MOST_BLOCKS_POWER] * many + [p for p in range(MOST_BLOCKS_POWER) if few >> p & 1]


@cache
def _deflated_zeros(power: int) -> bytes:
    """2**power blocks of zeros as a piece of a deflate stream that refers to nothing outside."""
    compressor = zlib.compressobj(zlib.Z_BEST_COMPRESSION, zlib.DEFLATED, -zlib.MAX_WBITS)
    return compressor.compress(bytes(BLOCK << power)) + compressor.flush(zlib.Z_FULL_FLUSH)


def _crc_after_zeros(crc: int, power: int) -> int:
    """The CRC-32 when 2**power blocks of zeros follow. But for its inversions it is linear over GF(2)."""
    return ~_applied(_over_zeros(BLOCK_POWER + power), ~crc & 0xFFFFFFFF) & 0xFFFFFFFF


@cache
def _over_zeros(power: int) -> Matrix:
    """What 2**power bytes of zeros do to the register of a CRC-32."""
    if power == 0:
        return tuple(~zlib.crc32(b"\0", ~(1 << n) & 0xFFFFFFFF) & 0xFFFFFFFF for n in range(32))
    half = _over_zeros(power - 1)
    return tuple(_applied(half, column) for column in half)


def _applied(matrix: Matrix, bits: int) -> int:
    result = 0
    for column in matrix:
        if bits & 1:
            result ^= column
        bits >>= 1
    return result
