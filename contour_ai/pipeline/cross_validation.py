"""Cross-validation: the trainings that held out one part of the patients each, put together into a model's card."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from contour_ai.bundle import (
    CrossValidatedRoi,
    CrossValidationRecord,
    ModelBundle,
    TrainingRecord,
    read_description,
    update_bundle,
)
from contour_ai.csv_files import original
from contour_ai.errors import ConfigError, ModelError
from contour_ai.pipeline._train import BUNDLE, CONFIG_FILE
from contour_ai.pipeline.card import model_card
from contour_ai.pipeline.pseudonym_file import pseudonyms
from contour_ai.settings import to_mapping
from contour_ai.training.config import TrainConfig, load_config
from contour_ai.training.validation import VALIDATION_FILE
from contour_ai.training.validation_figures import worst_cases

WORST = 3
"""Patients named for each ROI."""


OF_MACHINE = ("checkpoint_minutes", "threads", "compile")
"""Keys of `run` that may differ between the parts."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A training that held out part `number` of `parts` of the patients."""

    run_dir: Path
    number: int
    parts: int
    config: TrainConfig
    training: TrainingRecord
    """What its bundle says about it."""
    rois: tuple[str, ...]
    patients: Mapping[str, Mapping[str, float]]
    """{held-out patient: {contoured ROI: Dice}}, on the model's grid, without rules chosen on these patients."""


def cross_validated(bundle: ModelBundle, run_dirs: Sequence[Path]) -> ModelBundle:
    """Writes what a cross-validation found into a model's description and card; its weights stay.

    Args:
        run_dirs: the run folders of `train --fold 1/n` to `n/n`, in any order, finished.

    Raises:
        ModelError: one of them is not a finished training.
        ConfigError: they are not the n parts of one cross-validation, or have other ROIs than the model.
        OutputError: the bundle cannot be written.
    """
    parts = sorted((_part(run_dir) for run_dir in run_dirs), key=lambda part: part.number)
    _refuse_unlike(bundle, parts)
    found = _summary(bundle.roi_names, parts)
    bundle = replace(bundle, results=replace(bundle.results, cross_validation=found))
    return update_bundle(bundle, model_card=model_card(bundle))


def _part(run_dir: Path) -> Part:
    scores = run_dir / VALIDATION_FILE
    if not (scores.is_file() and (run_dir / BUNDLE).is_dir()):
        raise ModelError(
            "This is not the folder of a finished training.",
            where=run_dir,
            expected=f"{VALIDATION_FILE} and {BUNDLE}",
            fix="let it finish: contour-ai train --resume",
        )
    config, bundle = load_config(run_dir / CONFIG_FILE), read_description(run_dir / BUNDLE)
    if config.data.fold is None:
        raise ConfigError(
            "This training is no part of a cross-validation.",
            where=run_dir / CONFIG_FILE,
            fix="train with --fold 1/5 to --fold 5/5",
        )
    patients: dict[str, dict[str, float]] = {}
    with scores.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            patients.setdefault(original(row["patient"]), {})[original(row["roi"])] = float(row["dice"])
    number, parts = config.data.fold
    return Part(
        run_dir=run_dir,
        number=number,
        parts=parts,
        config=config,
        training=bundle.training,
        rois=bundle.roi_names,
        patients=patients,
    )


def _refuse_unlike(bundle: ModelBundle, parts: Sequence[Part]) -> None:
    numbers = [part.number for part in parts]
    first = parts[0]
    if numbers != list(range(1, first.parts + 1)) or any(part.parts != first.parts for part in parts):
        raise ConfigError(
            "A cross-validation has every part once.",
            found=", ".join(f"{part.number}/{part.parts}" for part in parts),
            expected=", ".join(f"{n}/{first.parts}" for n in range(1, first.parts + 1)),
        )
    for part in parts:
        if set(part.rois) != set(bundle.roi_names):
            raise ConfigError(
                f"This training has other ROIs than {bundle.name}.",
                where=part.run_dir,
                found=", ".join(part.rois),
                expected=", ".join(bundle.roi_names),
            )
        if _recipe(part) != _recipe(first):
            raise ConfigError(
                "The parts of a cross-validation are trained alike.",
                where=part.run_dir / CONFIG_FILE,
                found=", ".join(_differences(_recipe(part), _recipe(first))),
                expected=f"as in {first.run_dir / CONFIG_FILE}",
            )
    ids = [patient for part in parts for patient in part.patients]
    twice = sorted({patient for patient in ids if ids.count(patient) > 1})
    if twice:
        raise ConfigError(
            "Patients are in several parts of the cross-validation.",
            found=", ".join(twice[:5]),
            fix="train all parts on the same archive",
        )


def _recipe(part: Part) -> dict[str, object]:
    """What the parts have in common: all but the part, the model's name, and what only the machine minds."""
    mapping = to_mapping(replace(part.config, data=replace(part.config.data, fold=None)))
    del mapping["model"]
    for key in OF_MACHINE:
        del mapping["run"][key]
    return mapping


def _differences(one: Mapping[str, object], other: Mapping[str, object], path: str = "") -> list[str]:
    found = []
    for key, value in one.items():
        name = f"{path}{key}"
        theirs = other.get(key)
        if isinstance(value, Mapping) and isinstance(theirs, Mapping):
            found += _differences(value, theirs, f"{name}.")
        elif value != theirs:
            found.append(f"{name}: {value}")
    return found


def _summary(rois: Sequence[str], parts: Sequence[Part]) -> CrossValidationRecord:
    """What the parts found, together."""
    patients = {patient: scores for part in parts for patient, scores in part.patients.items()}
    names: dict[str, str] = {}
    for part in parts:
        if not part.config.data.public:
            names |= pseudonyms(part.run_dir, part.patients)
    table = {}
    for roi in rois:
        of_roi = {patient: {roi: scores[roi]} for patient, scores in patients.items() if roi in scores}
        values = [scores[roi] for scores in of_roi.values()]
        if values:
            low, middle, high = (round(float(v), 4) for v in np.percentile(values, (5, 50, 95)))
            table[roi] = CrossValidatedRoi(
                patients=len(values),
                mean=round(float(np.mean(values)), 4),
                percentiles=(low, middle, high),
                worst=tuple(
                    f"{names.get(patient, patient)} {dice:.3f}"
                    for patient, _, dice in worst_cases(of_roi, WORST)
                ),
            )
    means = [_mean_over_rois(rois, part.patients) for part in parts]
    return CrossValidationRecord(
        parts=len(parts),
        patients=len(patients),
        steps=tuple(part.training.steps for part in parts),
        mean_dice=round(float(np.mean([found.mean for found in table.values()])), 4),
        mean_dice_of_parts=tuple(round(mean, 4) for mean in means),
        dice=table,
    )


def _mean_over_rois(rois: Sequence[str], patients: Mapping[str, Mapping[str, float]]) -> float:
    """The mean over ROIs of their means over patients, as in a training's validation."""
    means = []
    for roi in rois:
        values = [scores[roi] for scores in patients.values() if roi in scores]
        if values:
            means.append(float(np.mean(values)))
    return float(np.mean(means)) if means else math.nan
