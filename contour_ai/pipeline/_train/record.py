"""What a model was made from: the description of the bundle that a training ends with."""

from __future__ import annotations

import math
import platform
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from contour_ai import __version__
from contour_ai.bundle import DataRecord, MadeFrom, ModelBundle, ResultsRecord, TrainingRecord
from contour_ai.pipeline._train.drawn_sources import Drawn
from contour_ai.pipeline._train.run_folder import patients_cut_where_blank
from contour_ai.pipeline.archive import spread
from contour_ai.pipeline.pseudonym_file import pseudonyms
from contour_ai.structures import roi_info
from contour_ai.structures.colors import told_apart
from contour_ai.volume import CONTOURED

if TYPE_CHECKING:
    from contour_ai.training.cache import Case
    from contour_ai.training.job import Job, Progress


def rois_of_drawings(cases: Sequence[Case], drawn_ids: Collection[str]) -> tuple[str, ...]:
    """ROIs that are contoured in drawn patients and in no real one."""
    contoured: dict[bool, set[str]] = {True: set(), False: set()}
    for case in cases:
        found = (roi for roi, state in zip(case.rois, case.states, strict=True) if state == CONTOURED)
        contoured[case.patient_id in drawn_ids].update(found)
    rois = dict.fromkeys(roi for case in cases for roi in case.rois)
    return tuple(roi for roi in rois if roi in contoured[True] - contoured[False])


def describe_model(
    job: Job,
    progress: Progress,
    facts: Mapping[str, str],
    processes: int,
    drawn: Drawn = "",
    drawn_ids: Collection[str] = frozenset(),
) -> ModelBundle:
    """The bundle's description, without its weights.

    Args:
        drawn: what the patients of the archive are, where they are none.
        drawn_ids: IDs of those that were drawn.
    """
    import torch

    config, plan = job.config, job.plan
    best = progress.shipped
    validated = ResultsRecord(
        what="Dice on whole validation patients, on the model's grid",
        patients=len(job.validation),
        mean_dice=round(best.mean, 4),
        dice=_rounded(best.dice),
        surface_dice=_rounded(best.surface_dice),
        hd95_mm=_rounded(best.hd95_mm),
        accuracies=_rounded(best.accuracies),
        worst=tuple(
            _worst(best.patients, {} if config.data.public else pseudonyms(job.run_dir, best.patients))
        ),
    )
    return ModelBundle(
        folder=Path(),
        name=config.model.name,
        version=config.model.version,
        kind=config.model.kind if drawn != "phantom" else "phantom",
        description=config.model.description,
        notes=config.model.notes,
        rois=told_apart([roi_info(roi) for roi in plan.rois]),
        preprocess=plan.settings,
        network=plan.network,
        inference=job.inference,
        data=DataRecord(
            patients=len({c.patient_id for c in [*job.own_training, *job.validation]}),
            training_patients=len(job.own_training),
            synthetic_patients=job.synthetic,
            relatives=job.synthetic > 0 and not (config.data.synthetic and config.data.synthetic.label_maps),
            saw_no_patient=bool(drawn),
            rois_of_drawings=() if drawn else rois_of_drawings(job.own_training, drawn_ids),
            patients_cut_where_blank=patients_cut_where_blank(job),
            rois=spread(job.own_training, plan.rois),
            flip_pairs=tuple(plan.flip_pairs),
        ),
        training=TrainingRecord(
            steps=progress.step,
            best_step=progress.best_step,
            weights="the mean of those of the best and the last step" if progress.mean else "",
            hours=round(progress.elapsed_s / 3600, 3),
            sample_kij=plan.patch_kij,
            samples_a_step=plan.batch_size * processes,
            processes=processes,
            optimiser=facts["optimiser"],
            device=_device_name(job),
            mirrored_samples=config.augmentation.flip,
            pseudo_labels=_pseudo_labels_text(job, progress),
            started_from=progress.started_from,
        ),
        results=validated,
        provenance=MadeFrom(
            made_with=f"contour-ai {__version__}, torch {torch.__version__}, Python {platform.python_version()}",
            date=datetime.now(timezone.utc).date().isoformat(),
            seed=config.run.seed,
            commands=tuple(config.model.commands),
            data_and_settings_sha256=job.fingerprint,
        ),
    )


def _pseudo_labels_text(job: Job, progress: Progress) -> str:
    """Which ROIs have pseudo-labels, in words; empty where none has."""
    if not progress.pseudo_label_step:
        return ""
    rois = ", ".join(f"{roi} in {number}" for roi, number in progress.pseudo_labels.items()) or "nothing"
    weight = job.config.loss.pseudo_label_weight
    return f"{rois} training patients, after step {progress.pseudo_label_step}, with weight {weight:g}"


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    """Without those that are no number."""
    return {name: round(value, 4) for name, value in values.items() if math.isfinite(value)}


def _worst(
    patients: Mapping[str, Mapping[str, float]], names: Mapping[str, str], number: int = 3
) -> list[str]:
    """The ROIs found worst, by patient, under the name that stands for it where `names` has one."""
    scored = sorted((dice, roi, label) for label, rois in patients.items() for roi, dice in rois.items())
    return [f"{names.get(label, label)}: {roi} {dice:.3f}" for dice, roi, label in scored[:number]]


def _device_name(job: Job) -> str:
    import torch

    if job.device.type == "cuda":
        return torch.cuda.get_device_name(job.device)
    return f"CPU, {torch.get_num_threads()} threads"
