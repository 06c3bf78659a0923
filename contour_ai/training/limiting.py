"""What limits each ROI of a training: time, patients, or contours that contradict each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from contour_ai.training.job import Job, Progress
from contour_ai.training.reporting import epochs_of
from contour_ai.training.validation import Score

Limit = Literal["time", "patients", "contours"]
LIMITS: tuple[Limit, ...] = ("time", "patients", "contours")

IN_WORDS: Mapping[Limit, str] = {
    "time": "time",
    "patients": "patients",
    "contours": "contradicting contours",
}

UNLIMITED_DICE = 0.9
"""A ROI as good as this, and as alike between patients, is limited by nothing that can be told here."""
STILL_RISING = 0.01
"""Dice gained in the last third of the training: more steps would give more."""
ENOUGH_PATIENTS = 40
"""With as many, what is different between patients is hardly that too few were shown."""
WIDE_SPREAD = 0.12
"""Standard deviation of Dice between validation patients: two observers of one organ differ by 0.03 to 0.06."""
SEEN_SELDOM_EPOCHS = 10.0
NOT_FOUND = 0.05
"""Below, the network does not find the ROI yet."""


@dataclass(frozen=True, kw_only=True)
class RoiLimit:
    """What limits a ROI.

    Args:
        limit: which of the three.
        reason: figures, in words.
        look_at: validation patients with the lowest Dice, for contours that contradict.
    """

    roi: str
    limit: Limit
    reason: str
    look_at: tuple[str, ...] = ()


def in_sentences(limits: Sequence[RoiLimit]) -> tuple[str, ...]:
    """One sentence for each of the three."""
    found = {limit: [one.reason for one in limits if one.limit == limit] for limit in LIMITS}
    return tuple(
        f"limited by {IN_WORDS[limit]}: {'; '.join(reasons) or 'none'}" for limit, reasons in found.items()
    )


def what_limits(
    scores: Sequence[Score], final: Score, patients: Mapping[str, int], epochs: float
) -> tuple[RoiLimit, ...]:
    """What limits each ROI; good ones are not named.

    A ROI that still gained in the last third, was seen in few epochs or is not found yet is limited by time. One that
    does not gain any more is limited by its patients where these are few, or all alike; where they are many and some
    validation patients are much worse than others, their contours (or images) contradict the others'.

    Args:
        scores: all validations, in the order of steps.
        final: that of the model.
        patients: {ROI: training patients that have it}.
        epochs: how often the training saw each patient.
    """
    found = []
    for roi, dice in final.dice.items():
        values = {
            p: rois[roi] for p, rois in final.patients.items() if roi in rois and math.isfinite(rois[roi])
        }
        if not values or math.isnan(dice):
            continue
        spread = float(np.std(list(values.values()))) if len(values) > 1 else 0.0
        gained, number = gain_of_last_third(scores, roi), patients.get(roi, 0)
        text = f"{roi} {dice:.3f}"
        if dice >= UNLIMITED_DICE and spread < WIDE_SPREAD:
            continue
        if gained > STILL_RISING:
            found.append(RoiLimit(roi=roi, limit="time", reason=f"{text}, +{gained:.3f} in the last third"))
        elif epochs < SEEN_SELDOM_EPOCHS or dice < NOT_FOUND:
            found.append(RoiLimit(roi=roi, limit="time", reason=f"{text} after {epochs:.1f} epochs"))
        elif number < ENOUGH_PATIENTS or spread < WIDE_SPREAD:
            found.append(RoiLimit(roi=roi, limit="patients", reason=f"{text}, {number} patients"))
        else:
            low, high = min(values.values()), max(values.values())
            worst = sorted(values, key=lambda patient: values[patient])[:3]
            reason = f"{text}, {low:.2f} to {high:.2f} between patients"
            found.append(RoiLimit(roi=roi, limit="contours", reason=reason, look_at=tuple(worst)))
    return tuple(found)


def limits_of(job: Job, at: Progress, processes: int = 1) -> tuple[RoiLimit, ...]:
    """What limits each ROI of a training that has ended."""
    patients = {
        roi: sum(case.presence[r] for case in job.own_training) for r, roi in enumerate(job.plan.rois)
    }
    return what_limits(at.scores, at.shipped, patients, epochs_of(job, at, processes))


def gain_of_last_third(scores: Sequence[Score], roi: str) -> float:
    """Best Dice of a ROI in the last third of the steps, less the best before; 0 where it cannot be told."""
    if len(scores) < 3:
        return 0.0
    from_step = scores[-1].step * 2 / 3
    before = [s.dice.get(roi, math.nan) for s in scores if s.step <= from_step]
    late = [s.dice.get(roi, math.nan) for s in scores if s.step > from_step]
    known = [[v for v in side if math.isfinite(v)] for side in (before, late)]
    return max(known[1]) - max(known[0]) if all(known) else 0.0
