"""Ctrl-C and SIGTERM during a training: held back until it has saved itself."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from contour_ai.training.distributed import is_launched

IMPATIENT = 3
"""So many requests end the process wherever it is, unsaved."""
ECHO_S = 2.0
"""Where `torchrun` or `srun` started the process, one Ctrl-C reaches it from the terminal and once more from them; what
follows a request so soon is the same one."""


class TrainingStoppedError(KeyboardInterrupt):
    """The training was asked to stop, at a moment at which it can be saved."""


class StopRequest:
    """Whether a training was asked to stop.

    Args:
        with_echo: whether requests that follow each other within `ECHO_S` are one.
    """

    def __init__(self, *, with_echo: bool = False) -> None:
        self._requests = 0
        self._may_interrupt = False
        self._with_echo = with_echo
        self._last_s = 0.0

    @property
    def requested(self) -> bool:
        """Whether it was, once or more."""
        return self._requests > 0

    def request(self, number: int = 0, frame: FrameType | None = None) -> None:
        """Asks the training to stop; also a signal handler.

        Raises:
            TrainingStoppedError: at once, within `interruptible`.
            KeyboardInterrupt: it was asked several times and does not stop.
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
        """A part of the work, minutes long perhaps, that changes nothing which is saved: a request ends it at once.

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
    """Within the block, Ctrl-C and SIGTERM (on Windows Ctrl-Break) only ask to stop. Elsewhere than in the main thread
    they are left alone."""
    stop = StopRequest(with_echo=is_launched())
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = [getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGBREAK")]
    # An ignored signal stays ignored: nohup means it.
    wanted = [n for n in numbers if n is not None and signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop.request) for number in wanted}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
