"""The patients' voxels on the training device: all of them stay there where they fit; where not, they are streamed."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from contour_ai.training.cache import Case

DEVICE_SHARE = 0.4
"""The data set stays on the GPU where it takes at most this share of the free memory."""

SIGNED = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""torch shifts these; the sign bit of the wider ones is bit 15, 31 or 63, which `& 1` after a shift gets right."""

Voxels = tuple[Tensor, Tensor]
"""HU and bits, (k, i, j) each."""


class PatientsOnDevice:
    """Gives the voxels of any patient as tensors on the device.

    On the CPU they are the memory-mapped files themselves. On a GPU they are copied once and stay, or, where they do
    not fit, a thread reads the patients of the next step into pinned memory while the GPU works on this one.

    Args:
        cases: the patients.
        device: where they are wanted.
        stay: whether they stay on the device; None to let the free memory decide.
    """

    def __init__(self, cases: Sequence[Case], device: torch.device, *, stay: bool | None = None) -> None:
        self._cases, self._device = cases, device
        stays = fits_on(cases, device) if stay is None else stay
        self._staying = [_on(_mapped(case), device) for case in cases] if stays else None
        self._coming: dict[int, Future[Voxels]] = {}
        streams = self._staying is None and (device.type == "cuda" or stay is False)
        self._reader = ThreadPoolExecutor(1, "patients") if streams else None

    @property
    def stay(self) -> bool:
        """Whether all patients are kept on the device."""
        return self._staying is not None

    def __getitem__(self, index: int) -> Voxels:
        if self._staying is not None:
            return self._staying[index]
        coming = self._coming.pop(index, None)
        return _on(_mapped(self._cases[index]) if coming is None else coming.result(), self._device)

    def expect(self, indices: Iterable[int]) -> None:
        """Says which patients come next; those that were expected and not taken are let go."""
        if self._reader is None:
            return
        wanted = set(indices)
        for index in self._coming.keys() - wanted:
            self._coming.pop(index).cancel()
        for index in wanted - self._coming.keys():
            self._coming[index] = self._reader.submit(_read, self._cases[index], self._device.type == "cuda")

    def leave(self) -> None:
        """Frees the device: from now on the patients are streamed."""
        self._staying = None
        if self._device.type != "cuda":
            return
        torch.cuda.empty_cache()  # what torch keeps for itself does not count as free (`fits_on`)
        if self._reader is None:
            self._reader = ThreadPoolExecutor(1, "patients")


def fits_on(cases: Sequence[Case], device: torch.device) -> bool:
    """Whether all patients may stay in the memory of `device`; on the CPU they stay memory-mapped instead."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return sum(case.hu.nbytes + case.bits.nbytes for case in cases) <= DEVICE_SHARE * free


def as_tensor(array: np.ndarray, dtype: torch.dtype) -> Tensor:
    """The array's bytes as a tensor of `dtype`, without a copy."""
    signed = array.view(np.dtype(str(dtype).removeprefix("torch.")))
    with warnings.catch_warnings():
        # A memory-mapped array is read-only; so is every use of the tensor.
        warnings.filterwarnings("ignore", message=".*not writable.*")
        return torch.from_numpy(signed)


def _mapped(case: Case) -> Voxels:
    hu, bits = case.hu, case.bits
    return as_tensor(hu, torch.int16), as_tensor(bits, SIGNED[bits.dtype.itemsize])


def _read(case: Case, pinned: bool) -> Voxels:
    """Read whole into memory that a GPU can fetch from by itself."""
    hu, bits = (torch.empty(x.shape, dtype=x.dtype, pin_memory=pinned).copy_(x) for x in _mapped(case))
    return hu, bits


def _on(voxels: Voxels, device: torch.device) -> Voxels:
    hu, bits = (x.to(device, non_blocking=True) for x in voxels)
    return hu, bits
