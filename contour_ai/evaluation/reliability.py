"""Whether a probability means what it says: counts of logits by truth, the temperature that mends them, the error left.

Guo et al., On Calibration of Modern Neural Networks (ICML 2017): one temperature divides the logits, which moves no
contour at one half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]

LIMIT = 20.0
"""Logits beyond count as this: a probability of 2e-9."""
LOGIT_STEP = 0.05
"""Width of a bin of logits."""
BINS = round(2 * LIMIT / LOGIT_STEP)
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.2, 8.0
"""Temperatures that are looked for."""
UNSURE = 0.01
"""Reliability is of voxels with a probability between this and its complement: the sure background is without end."""
ROWS = 10
"""Lines of a table of reliability."""


@dataclass(frozen=True, eq=False)
class LogitCounts:
    """How many voxels had a logit, outside and inside the truth."""

    counts: Counts = field(default_factory=lambda: np.zeros((2, BINS), np.int64))
    """(2, `BINS`): outside, inside."""

    @classmethod
    def of(cls, logits: NDArray[np.float32], truth: NDArray[np.bool_]) -> LogitCounts:
        """Counts of one ROI in one patient: arrays of the same shape."""
        inside = histogram(logits[truth])
        return cls(np.stack([histogram(logits) - inside, inside]))

    def __add__(self, other: LogitCounts) -> LogitCounts:
        return LogitCounts(self.counts + other.counts)

    def cost(self, temperature: float) -> float:
        """Cross-entropy, summed over the voxels, of logits divided by `temperature`."""
        scaled = _middles() / temperature
        outside, inside = self.counts
        return float(outside @ np.logaddexp(0, scaled) + inside @ np.logaddexp(0, -scaled))

    def temperature(self) -> float:
        """What the logits are best divided by: above 1 for a network that is too sure of itself."""
        from scipy.optimize import minimize_scalar  # takes a fifth of a second to import

        found = minimize_scalar(
            lambda log_t: self.cost(float(np.exp(log_t))),
            bounds=(np.log(LOWEST_TEMPERATURE), np.log(HIGHEST_TEMPERATURE)),
            method="bounded",
        )
        return float(np.exp(found.x))

    def reliability(self, temperature: float = 1.0) -> list[tuple[float, float, int]]:
        """(mean probability, share that is inside, voxels) of `ROWS` equal ranges of probability, empty ones left out.

        Voxels surer than `UNSURE` are left out.
        """
        probability, total, inside = self._unsure(temperature)
        row = np.minimum((probability * ROWS).astype(int), ROWS - 1)
        found = []
        for n in range(ROWS):
            here = row == n
            voxels = int(total[here].sum())
            if voxels:
                mean = float(probability[here] @ total[here]) / voxels
                found.append((mean, float(inside[here].sum()) / voxels, voxels))
        return found

    def error(self, temperature: float = 1.0) -> float:
        """Expected calibration error of the rows of `reliability`; 0 where there are none."""
        rows = self.reliability(temperature)
        voxels = sum(n for _, _, n in rows)
        return sum(n * abs(predicted - true) for predicted, true, n in rows) / voxels if voxels else 0.0

    def _unsure(self, temperature: float) -> tuple[NDArray[np.float64], Counts, Counts]:
        probability = 1 / (1 + np.exp(-_middles() / temperature))
        here = (probability > UNSURE) & (probability < 1 - UNSURE)
        return probability[here], self.counts.sum(0)[here], self.counts[1][here]


def histogram(logits: NDArray[np.float32]) -> Counts:
    """(`BINS`,) voxels by their logit."""
    place = ((np.clip(logits, -LIMIT, LIMIT) + LIMIT) / LOGIT_STEP).astype(np.int64)
    counts: Counts = np.bincount(np.minimum(place, BINS - 1).ravel(), minlength=BINS)
    return counts


def expected_dice_logit(
    counts: Counts, lowest: float = -LIMIT, highest: float = LIMIT, temperature: float = 1.0
) -> float:
    """The logit above which voxels are best taken for the ROI: where the Dice to be expected is highest.

    If the probabilities are right and voxels err independently, taking n voxels whose probabilities sum to s gives
    2s / (n + sum of all probabilities), and the best threshold is half of the best value (Lipton et al., ECML 2014;
    Nordström et al., NeurIPS 2022). A ROI that is hard to see is drawn smaller than it is at a probability of one half.

    Args:
        counts: `histogram` of one ROI in one patient.
        lowest, highest: bounds of the logit once it is divided by the temperature.
        temperature: what the logits are to be divided by.

    Returns:
        The threshold of the logits as they are, not divided.
    """
    edges = np.round(np.arange(BINS) * LOGIT_STEP - LIMIT, 6)
    probability = 1 / (1 + np.exp(-_middles() / temperature))
    taken = np.cumsum(counts[::-1])[::-1]  # voxels from this edge on
    sums = np.cumsum((probability * counts)[::-1])[::-1]
    expected = 2 * sums / np.maximum(taken + sums[0], 1e-12)
    # From the top, so that of equal ones the highest is found.
    allowed = np.flatnonzero((edges >= lowest * temperature) & (edges <= highest * temperature))[::-1]
    return float(edges[allowed[np.argmax(expected[allowed])]]) if len(allowed) else highest * temperature


def left_out_errors(patients: Sequence[LogitCounts]) -> tuple[float, float]:
    """Expected calibration errors without and with a temperature that never saw the patient it is applied to.

    Pooled over the patients' voxels; a single patient has no others to learn from, and keeps its error.
    """
    whole = sum(patients, LogitCounts())
    rows = np.zeros((ROWS, 3))
    for counts in patients:
        others = LogitCounts(whole.counts - counts.counts)
        rows += _rows_of(counts, others.temperature() if len(patients) > 1 else 1.0)
    voxels = float(rows[:, 2].sum())
    after = float(np.abs(rows[:, 0] - rows[:, 1]).sum()) / voxels if voxels else 0.0
    return whole.error(), after


def _rows_of(counts: LogitCounts, temperature: float) -> NDArray[np.float64]:
    """(`ROWS`, 3): sums of probability, of truth and of voxels, by range of probability."""
    rows: NDArray[np.float64] = np.zeros((ROWS, 3))
    for predicted, true, voxels in counts.reliability(temperature):
        rows[min(int(predicted * ROWS), ROWS - 1)] += (predicted * voxels, true * voxels, voxels)
    return rows


def _middles() -> NDArray[np.float64]:
    return np.asarray((np.arange(BINS) + 0.5) * LOGIT_STEP - LIMIT, np.float64)
