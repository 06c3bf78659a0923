"""Writes `progress.html` of a run folder, after every validation and at the end."""

from __future__ import annotations

import time
from pathlib import Path

from contour_ai.files import safe_name
from contour_ai.report.training_page import TrainingPage, WorstCase, write_training_page
from contour_ai.training.clock import Clock
from contour_ai.training.job import Job, Progress
from contour_ai.training.reporting import duration, epochs_of
from contour_ai.training.validation import WORST
from contour_ai.training.validation_figures import worst_cases

PAGE = "progress.html"


def write_progress_page(
    job: Job, at: Progress, processes: int, clock: Clock | None = None, advice: tuple[str, ...] = ()
) -> None:
    """Writes the page of a training that has validated once or more.

    Args:
        processes: that train together.
        clock: of the training at work; None where it has ended.
        advice: what limits the ROIs, at the end.

    Raises:
        OutputError: it cannot be written.
    """
    last = at.scores[-1]
    facts = {
        "step": str(at.step),
        "epoch": f"{epochs_of(job, at, processes):.1f}",
        "time so far": duration(at.elapsed_s),
        "best Dice": f"{at.best:.3f} after step {at.best_step}",
        "last Dice": f"{last.mean:.3f} after step {last.step}",
        "loss": f"{at.loss:.4f}",
        "patients": f"{len(job.training)} for training, {len(job.validation)} for validation",
        "written": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    if clock is not None:
        facts = {"time left": duration(clock.left_s), **facts}
    named = {roi: sum(case.presence[r] for case in job.own_training) for r, roi in enumerate(job.plan.rois)}
    page = TrainingPage(
        name=f"{job.config.model.name} {job.config.model.version}",
        finished=clock is None,
        facts=facts,
        loss=[(s.step, s.loss) for s in at.scores],
        mean_dice=[(s.step, s.mean) for s in at.scores],
        dice={roi: [(s.step, s.dice[roi]) for s in at.scores if roi in s.dice] for roi in job.plan.rois},
        patients=named,
        worst=_worst(job.run_dir / "worst", at),
        advice=advice,
    )
    write_training_page(job.run_dir / PAGE, page)


def _worst(folder: Path, at: Progress) -> list[WorstCase]:
    """The worst patients of the last validation, with the pictures that were drawn of them."""
    found = []
    for place, (patient, roi, dice) in enumerate(worst_cases(at.scores[-1].patients, WORST), start=1):
        picture = folder / f"{safe_name(f'{place}_{patient}_{roi}_{dice:.3f}')}.png"
        found.append(
            WorstCase(patient=patient, roi=roi, dice=dice, picture=picture if picture.is_file() else None)
        )
    return found
