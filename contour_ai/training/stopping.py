"""Ctrl-C and SIGTERM during a training: they take effect once a checkpoint is saved."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from contour_ai.interrupts import INTERRUPTS
from contour_ai.training.distributed import is_launched

IMPATIENT = 3
"""This number of requests ends the process immediately, without saving."""
ECHO_S = 2.0
"""A process started by `torchrun` or `srun` receives one Ctrl-C twice: from the terminal and from the launcher. A
signal that follows another within this time is taken for the same request."""


class TrainingStoppedError(KeyboardInterrupt):
    """The training was asked to stop, and can save a checkpoint now."""


class StopRequest:
    """Whether a training was asked to stop.

    Args:
        with_echo: whether requests within `ECHO_S` of each other count as one.
    """

    def __init__(self, *, with_echo: bool = False) -> None:
        self._requests = 0
        self._may_interrupt = False
        self._with_echo = with_echo
        self._last_s = 0.0

    @property
    def requested(self) -> bool:
        """Whether there was at least one request."""
        return self._requests > 0

    def request(self, number: int = 0, frame: FrameType | None = None) -> None:
        """Asks the training to stop; can be used as a signal handler.

        Raises:
            TrainingStoppedError: at once, within `interruptible`.
            KeyboardInterrupt: this is request number `IMPATIENT`.
        """
        now_s = time.monotonic()
        is_echo = self._with_echo and self.requested and now_s - self._last_s < ECHO_S
        self._last_s = now_s
        if is_echo:
            return
        self._requests += 1
        if self._may_interrupt:
            self._may_interrupt = False
            raise TrainingStoppedError
        if self._requests >= IMPATIENT:
            raise KeyboardInterrupt

    @contextmanager
    def interruptible(self, *, allowed: bool = True) -> Iterator[None]:
        """Marks work that may take minutes and changes nothing that is saved: a request ends it at once.

        Args:
            allowed: False where other processes would wait for this one.
        """
        if allowed and self.requested:
            raise TrainingStoppedError
        self._may_interrupt = allowed
        try:
            yield
        finally:
            self._may_interrupt = False


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Within the block, Ctrl-C and SIGTERM (on Windows Ctrl-Break) only ask to stop. Outside the main thread signals
    are handled as before."""
    stop = StopRequest(with_echo=is_launched())
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    # A signal that is ignored stays ignored: nohup ignores some on purpose.
    wanted = [number for number in INTERRUPTS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop.request) for number in wanted}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
