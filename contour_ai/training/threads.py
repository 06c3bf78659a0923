"""Chooses how many threads a training uses on a CPU: where other work runs, one is often faster than all."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

WAIT_POLICY = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0", "GOMP_SPINCOUNT": "0"}
"""Threads that wait sleep instead of turning in circles: on a busy machine these take the time of those that work."""

STEPS_EACH = 3
"""Steps that each number of threads is measured with; the first of them does not count."""
LOOK_AGAIN_S = 300.0
"""Time after which the others are measured again."""
CLEARLY = 0.9
"""Another number of threads is taken where its steps last at most this part of the present one's."""


def let_waiting_threads_sleep() -> bool:
    """Sets the wait policy of the OpenMP libraries, which read it when torch is imported; what the user set stays.

    Returns:
        Whether it can still have an effect.
    """
    if "torch" in sys.modules:
        return False
    for name, value in WAIT_POLICY.items():
        os.environ.setdefault(name, value)
    return True


class ThreadChoice:
    """Measures steps with several numbers of threads and keeps the fastest, again from time to time.

    Args:
        numbers: to choose among, the one to begin with first; a single one is kept without measuring.
        use: sets the number of threads.
    """

    def __init__(self, numbers: Sequence[int], use: Callable[[int], object]) -> None:
        self.numbers = tuple(dict.fromkeys(numbers))
        self.now = self.numbers[0]
        self.seconds: dict[int, float] = {}
        self._use = use
        self._waiting = list(self.numbers) if len(self.numbers) > 1 else []
        self._times: list[float] = []
        self._since_s = 0.0

    def stepped(self, seconds: float) -> None:
        """After every step: measures, or goes on with what is fastest."""
        if not self._waiting:
            self._since_s += seconds
            if len(self.numbers) > 1 and self._since_s > LOOK_AGAIN_S:
                self._waiting = [self.now, *(n for n in self.numbers if n != self.now)]
                self._times = []
            return
        self._times.append(seconds)
        if len(self._times) < STEPS_EACH:
            return
        self.seconds[self._waiting.pop(0)] = min(self._times[1:])
        self._times = []
        self._set(self._waiting[0] if self._waiting else self._fastest())

    def _fastest(self) -> int:
        self._since_s = 0.0
        kept = self.numbers[0]
        other = min(self.numbers, key=lambda n: self.seconds[n])
        return other if self.seconds[other] < CLEARLY * self.seconds[kept] else kept

    def _set(self, number: int) -> None:
        if number != self.now:
            self.now = number
            self._use(number)
