"""Resampling on a GPU: the same weights as on the CPU, multiplied where the network runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from contour_ai.preprocess.resampler import Float32, Resampler, Sparse

logger = logging.getLogger(__name__)

SLICES_AT_ONCE = 16
"""Slices of a CT on their way to the device."""


class DeviceResampler(Resampler):
    """On a torch device, in fp32: products of dense matrices, which a GPU has for nothing.

    Where its memory is not enough, beside other programs, the CPU does it.

    Args:
        device: where to.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def to_model(
        self,
        slice_of: Callable[[int], Float32],
        numbers: Sequence[int],
        planes: Sequence[tuple[Sparse, Sparse]],
        along: Sparse,
    ) -> Float32:
        """As `Resampler` says; the CT goes to the device a few slices at a time."""
        try:
            return self._to_model(slice_of, numbers, planes, along)
        except torch.OutOfMemoryError:
            self._tell()
        return super().to_model(slice_of, numbers, planes, along)

    def to_ct(self, field: Float32, along: Sparse, planes: Sequence[tuple[Sparse, Sparse]]) -> Float32:
        """As `Resampler` says."""
        try:
            rows, columns = self._dense(planes)
            stack = _along(self._there(along.toarray()), self._there(field))
            return _both_ways(rows, columns, stack).cpu().numpy()
        except torch.OutOfMemoryError:
            self._tell()
        return super().to_ct(field, along, planes)

    def _to_model(
        self,
        slice_of: Callable[[int], Float32],
        numbers: Sequence[int],
        planes: Sequence[tuple[Sparse, Sparse]],
        along: Sparse,
    ) -> Float32:
        rows, columns = self._dense(planes)
        parts = []
        for first in range(0, len(numbers), SLICES_AT_ONCE):
            here = slice(first, first + SLICES_AT_ONCE)
            images = self._there(np.stack([slice_of(k) for k in numbers[here]]))  # (n, row, column)
            mine = here if len(planes) > 1 else slice(None)
            parts.append(_both_ways(rows[mine], columns[mine], images))
        return _along(self._there(along.toarray()), torch.cat(parts)).cpu().numpy()

    def _tell(self) -> None:
        logger.warning("The memory of %s is not enough to resample there: the CPU does it.", self.device)

    def _dense(self, planes: Sequence[tuple[Sparse, Sparse]]) -> tuple[Tensor, Tensor]:
        """(slices or 1, targets, samples) of rows and of columns."""
        rows, columns = (self._there(np.stack([pair[n].toarray() for pair in planes])) for n in (0, 1))
        return rows, columns

    def _there(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(self.device)


def _both_ways(rows: Tensor, columns: Tensor, images: Tensor) -> Tensor:
    return rows @ images @ columns.transpose(1, 2)


def _along(weights: Tensor, stack: Tensor) -> Tensor:
    return torch.tensordot(weights, stack, dims=1)
