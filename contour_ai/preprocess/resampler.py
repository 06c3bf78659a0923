"""Carries out a separable resampling: one sparse weight matrix for each axis, applied slice by slice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Float32 = NDArray[np.float32]
Sparse: TypeAlias = sparse.csr_array


class Resampler:
    """Carries out what the weights say; `planes` has (rows, columns) for every slice, or once where all are alike.

    On the CPU: each target takes from a few samples, so sparse is 20 times faster than dense, and wakes no BLAS
    threads.
    """

    def to_model(
        self,
        slice_of: Callable[[int], Float32],
        numbers: Sequence[int],
        planes: Sequence[tuple[Sparse, Sparse]],
        along: Sparse,
    ) -> Float32:
        """(k, i, j) from slices, each resampled within its plane, then along the stack."""
        rows, columns = planes[0]
        stack = np.empty((len(numbers), rows.shape[0], columns.shape[0]), np.float32)
        for n, k in enumerate(numbers):
            stack[n] = _both_ways(*planes[n % len(planes)], slice_of(k))
        result: Float32 = (along @ stack.reshape(len(stack), -1)).reshape(-1, *stack.shape[1:])
        return result

    def to_ct(
        self,
        field: Float32,
        along: Sparse,
        planes: Sequence[tuple[Sparse, Sparse]],
    ) -> Float32:
        """(slice, row, column) from a (k, i, j) field, resampled along the stack, then within each plane."""
        stack = (along @ field.reshape(len(field), -1)).reshape(-1, *field.shape[1:])
        rows, columns = planes[0]
        level = np.empty((len(stack), rows.shape[0], columns.shape[0]), np.float32)
        for n, image in enumerate(stack):
            level[n] = _both_ways(*planes[n % len(planes)], image)
        return level


SPARSE = Resampler()


def _both_ways(rows: Sparse, columns: Sparse, image: Float32) -> Float32:
    """rows @ image @ columns.T"""
    across: Float32 = columns @ np.ascontiguousarray((rows @ image).T)
    return across.T
