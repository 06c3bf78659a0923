"""How much memory a training uses, and that what it frees stays at hand."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
"""Parameters of glibc's `mallopt` (malloc.h)."""
_KEPT = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 1 << 27))
_AS_USUAL = ((_MMAP_MAX, 1 << 16), (_TRIM_THRESHOLD, 1 << 17), (_TOP_PAD, 0))


@contextmanager
def freed_memory_kept(device: torch.device) -> Iterator[bool]:
    """Within the block the process keeps the memory that tensors on the CPU free, for those that follow.

    glibc hands large blocks back to the system and asks for them anew, whose pages the system then has to clear: at
    every layer of every step. Yields whether anything was changed: nothing is for a GPU, where the C library is
    another one, and where the user set one of glibc's own variables.
    """
    libc = _glibc() if device.type == "cpu" else None
    if libc is None:
        yield False
        return
    try:
        for parameter, value in _KEPT:
            libc.mallopt(parameter, value)
        yield True
    finally:
        for parameter, value in _AS_USUAL:
            libc.mallopt(parameter, value)
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    chosen = any(name.startswith("MALLOC_") for name in os.environ) or "GLIBC_TUNABLES" in os.environ
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc" or chosen:
        return None
    return ctypes.CDLL(None)


def used_bytes(device: torch.device) -> int | None:
    """Peak memory allocated on a GPU, or the memory the process holds now; None where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    statm = Path("/proc/self/statm")
    if statm.is_file():
        import resource

        return int(statm.read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    if sys.platform == "darwin":
        import resource

        return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return None


def free_bytes(device: torch.device) -> int | None:
    """Memory that a training may take: free on a GPU, available on the machine; None where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None
