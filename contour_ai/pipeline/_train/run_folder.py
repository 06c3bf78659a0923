"""What a run folder says about itself, and what is told to people before the first step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from contour_ai.errors import OutputError
from contour_ai.files import atomic_file, is_whole, update_manifest, write_text
from contour_ai.pipeline._train.options import CHECK_FILE, CONFIG_FILE, MAP_FILE
from contour_ai.pipeline.splits_file import SPLITS_FILE, Splits, write_splits
from contour_ai.structures.roi_map import RoiMap
from contour_ai.training.config import print_config
from contour_ai.training.overlap import described

if TYPE_CHECKING:
    from contour_ai.training.job import Job


OWN_FILES = (CONFIG_FILE, MAP_FILE, SPLITS_FILE)


def write_run_folder(run_dir: Path, job: Job, left_out: Mapping[str, str], roi_map: RoiMap | None) -> None:
    """What a run folder says about itself."""
    with atomic_file(run_dir / CONFIG_FILE, overwrite=True, private=True) as path:
        write_text(path, print_config(job.config))
    if roi_map is not None:
        roi_map.save(run_dir / MAP_FILE, overwrite=True)
    splits = Splits(
        training=tuple(case.patient_id for case in job.training),
        validation=tuple(case.patient_id for case in job.validation),
        left_out=left_out,
        rois_left_out=_rois_left_out(job),
    )
    write_splits(run_dir / SPLITS_FILE, splits)
    written = [name for name in OWN_FILES if (run_dir / name).is_file()]
    update_manifest(run_dir, *written, make="results")


def refuse_strange_files(run_dir: Path, names: Sequence[str] = OWN_FILES) -> None:
    """A new training writes over what an earlier one left that was broken off, and over nothing else.

    Raises:
        OutputError: a file that it would write is there, and was not written by a training or was changed since.
    """
    for name in names:
        if (run_dir / name).exists() and not is_whole(run_dir, name):
            raise OutputError(
                "A file in the folder of the run would be replaced, and contour-ai did not write it.",
                where=run_dir / name,
                fix="give another --out, or move the file (a configuration may lie anywhere: --config FILE)",
            )


def _rois_left_out(job: Job) -> dict[str, tuple[str, ...]]:
    """{patient: ROIs that are contoured, but do not count, for the reasons in archive-check.csv}."""
    found = {}
    for case in {case.patient_id: case for case in [*job.training, *job.validation]}.values():
        states = zip(case.rois, case.presence, strict=True)
        rois = tuple(roi for roi, here in states if not here and roi in case.facts)
        if rois:
            found[case.patient_id] = rois
    return found


def patients_cut_where_blank(job: Job) -> int:
    """In how many patients slices that are blank but around contours were cut off."""
    return len({case.patient_id for case in [*job.training, *job.validation] if case.is_cut})


def _steps(job: Job) -> str:
    """The number of steps, and how often each patient is seen."""
    samples = job.config.run.steps * job.plan.batch_size
    epochs = samples / max(len(job.own_training) + job.synthetic, 1)
    return f"{job.config.run.steps} ({epochs:.1f} epochs)"


def plan_facts(
    job: Job, rois_left_out: Mapping[str, str], left_out: Mapping[str, str], time_budget_s: float | None
) -> dict[str, str]:
    """What will be done, for people."""
    config = job.config
    both = [c.patient_id for c in job.validation] == [c.patient_id for c in job.own_training]
    facts = {
        "patients": f"{len(job.own_training)} for training"
        + (f" and {job.synthetic} synthetic ones" if job.synthetic else "")
        + f", {len(job.validation)} for validation"
        + (" (the same: there is only one)" if both else "")
        + ("" if config.data.fold is None else " (part {} of {})".format(*config.data.fold)),
        **job.plan.facts(),
        "steps": _steps(job) if time_budget_s is None else "as many as fit the time",
        "optimiser": f"{config.optimiser.name}, learning rate {config.optimiser.learning_rate:g}, "
        f"{config.schedule.name}",
        "device": str(job.device),
    }
    if job.exclusive is not None:
        facts["never overlapping"] = described(job.exclusive, job.plan.rois)
    if left_out:
        facts["patients left out"] = "; ".join(f"{label}: {reason}" for label, reason in left_out.items())
    blank = patients_cut_where_blank(job)
    if blank:
        facts["blank slices"] = f"cut off in {blank} patients (which: {CHECK_FILE})"
    wrong = _rois_left_out(job)
    if wrong:
        listing = "; ".join(f"{label}: {', '.join(rois)}" for label, rois in wrong.items())
        facts["contours left out"] = f"{listing} (why: {CHECK_FILE})"
    if rois_left_out:
        facts["ROIs left out"] = "; ".join(f"{roi}: {reason}" for roi, reason in rois_left_out.items())
    return facts
