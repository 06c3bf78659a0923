"""The signals that ask a program to end: Ctrl-C, SIGTERM, on Windows Ctrl-Break."""

from __future__ import annotations

import signal

INTERRUPTS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)
)
"""Numbers of those that this system has."""


def ignore_interrupts() -> None:
    """For a process that another one ends, and for the end of a program.

    A terminal sends Ctrl-C, a service manager SIGTERM, to every process of a program at once.
    """
    for number in INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)
