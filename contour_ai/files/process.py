"""Which process made something, and whether that process still runs."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

PROCESS_DIGITS = 6
"""Hexadecimal digits of the hashes of a host and of a start time: they stand in file names."""

HIDDEN = "?"
"""The start time of a process that runs, and of which this user may know no more."""


@dataclass(frozen=True, order=True)
class ProcessId:
    """A process, told apart from later ones that get the same number."""

    host: str
    """Hash of the computer's name and, on Linux, of the PID namespace: containers count for themselves."""
    pid: int
    start: str
    """Hash of when it started."""

    @property
    def is_of_this_host(self) -> bool:
        """Whether its number means anything here."""
        return self.host == _host()

    @property
    def is_running(self) -> bool:
        """Whether it runs; True also for a process of another host, of which nothing is known here."""
        return not self.is_of_this_host or _start(self.pid) in (self.start, HIDDEN)


def this_process() -> ProcessId:
    """This process."""
    return _identity(os.getpid())


@lru_cache(maxsize=1)
def _identity(pid: int) -> ProcessId:
    return ProcessId(_host(), pid, _start(pid) or "0" * PROCESS_DIGITS)


@lru_cache(maxsize=1)
def _host() -> str:
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = ""
    return _hashed(f"{platform.node()}\0{namespace}")


def _start(pid: int) -> str | None:
    """What tells a running process from others that had its number; None where it does not run."""
    if os.name == "nt":
        return _start_on_windows(pid)
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            # The name in parentheses may hold spaces and parentheses itself.
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            return HIDDEN if _answers(pid) else None
        state, started = fields[0], fields[19]
        return None if state in "ZX" else _hashed(f"{_boot()}\0{started}")
    return _start_by_ps(pid) if _answers(pid) else None


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


@lru_cache(maxsize=1)
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _start_by_ps(pid: int) -> str:
    """macOS and BSD: the start time as `ps` prints it."""
    try:
        found = subprocess.run(
            ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return _hashed("")
    return _hashed(found.stdout.strip())


def _start_on_windows(pid: int) -> str | None:
    import ctypes
    from ctypes import wintypes

    query_limited_information, still_active = 0x1000, 259
    kernel: Any = getattr(ctypes, "WinDLL")("kernel32", use_last_error=True)  # noqa: B009 - not there elsewhere
    kernel.OpenProcess.restype = wintypes.HANDLE
    handle = kernel.OpenProcess(query_limited_information, False, pid)
    if not handle:
        access_denied = 5
        error = getattr(ctypes, "get_last_error")()  # noqa: B009
        return HIDDEN if error == access_denied else None
    try:
        status = wintypes.DWORD()
        times = [wintypes.FILETIME() for _ in range(4)]
        kernel.GetExitCodeProcess(wintypes.HANDLE(handle), ctypes.byref(status))
        kernel.GetProcessTimes(wintypes.HANDLE(handle), *map(ctypes.byref, times))
    finally:
        kernel.CloseHandle(wintypes.HANDLE(handle))
    if status.value != still_active:
        return None
    return _hashed(f"{times[0].dwHighDateTime}\0{times[0].dwLowDateTime}")


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:PROCESS_DIGITS]
