"""How much of a training is done: in steps, or in time where there is a budget."""

from __future__ import annotations

import time

FINISH_S = 5.0
"""Time kept from a budget for writing the bundle."""


class Clock:
    """Measures time in this process, and how much of the training is done.

    Args:
        steps: of the whole training, where there is no budget.
        left_s: seconds until the end, from now on; None to go by steps.
        step: steps done so far.
        elapsed_s: seconds that earlier processes worked on this training.
        done: how much of it was done when this process began, 0 to 1.
        validation_steps: how many steps a validation is taken to last as long as, until one was seen.
    """

    def __init__(
        self,
        steps: int,
        left_s: float | None,
        *,
        step: int = 0,
        elapsed_s: float = 0.0,
        done: float = 0.0,
        validation_steps: float = 10.0,
    ) -> None:
        self.steps, self.step = steps, step
        self._budget_s, self._before_s = left_s, elapsed_s
        self._first_done = self._most_done = done
        self._validation_steps = validation_steps
        self._began = self._last = time.monotonic()
        self._first_step = step
        self._training_s = 0.0
        self._validation_s: float | None = None

    def tick(self) -> None:
        """After every step."""
        self.step += 1
        now = time.monotonic()
        self._training_s += now - self._last
        self._last = now

    def paused(self) -> None:
        """After something else that is no step."""
        self._last = time.monotonic()

    def validated(self) -> None:
        """After every validation."""
        now = time.monotonic()
        self._validation_s = now - self._last
        self._last = now

    @property
    def elapsed_s(self) -> float:
        """Since the training began, until the last step or validation; pauses between processes left out."""
        return self._before_s + self._last - self._began

    @property
    def done(self) -> float:
        """0 to 1. With a budget it rises from where the last process stopped to 1 in the time that is left."""
        if self._budget_s is None:
            return min(self.step / self.steps, 1.0)
        validation_s = self._validation_steps * self.seconds_per_step
        if self._validation_s is not None:
            validation_s = 1.2 * self._validation_s
        # The step in which the time is up is finished.
        finish_s = self.seconds_per_step + validation_s + FINISH_S
        spent = (self._last - self._began) / max(self._budget_s - finish_s, 1e-9)
        done = self._first_done + (1 - self._first_done) * min(spent, 1.0)
        self._most_done = max(done, self._most_done)  # a slow validation must not turn the schedule back
        return self._most_done

    @property
    def seconds_per_step(self) -> float:
        """Since this process began, validation left out."""
        return self._training_s / max(self.step - self._first_step, 1)

    @property
    def budget_left_s(self) -> float | None:
        """What is left of the budget; None where there is none."""
        return None if self._budget_s is None else max(self._budget_s - (self._last - self._began), 0.0)

    @property
    def left_s(self) -> float:
        """Until the last step, validation left out."""
        left = self.budget_left_s
        return (self.steps - self.step) * self.seconds_per_step if left is None else left
