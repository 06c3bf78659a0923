"""Dice against the number of patients: trainings on a quarter, half and all of them, within a time budget."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from contour_ai.bundle import ModelBundle, load_bundle
from contour_ai.csv_files import write_csv
from contour_ai.errors import InputError
from contour_ai.files import atomic_file, private_folder, write_text
from contour_ai.pipeline._train import BUNDLE, CONFIG_FILE, TrainOptions, train
from contour_ai.pipeline.archive import find_sources
from contour_ai.pipeline.splitting import held_out, split_patients
from contour_ai.progress import OnProgress, no_progress
from contour_ai.report.page import asset, escaped_text, fill
from contour_ai.report.svg_chart import ChartLine, line_chart
from contour_ai.report.tables import cell, html_table
from contour_ai.training.config import TrainConfig, load_config

PARTS: Mapping[str, float] = {"all": 1.0, "half": 0.5, "quarter": 0.25}
"""Trainings in the order in which they are done: the first decides voxel size, ROIs and samples of the others."""
PAGE, TABLE = "learning-curve.html", "learning-curve.csv"
CACHE = "cache"
FEWEST_PEOPLE = 8
"""Patients; a quarter of fewer is one."""


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """One ROI in one training.

    Args:
        part: of `PARTS`.
        patients: of the training that have it.
        dice: mean over the validation patients, who are the same in all trainings.
    """

    part: str
    roi: str
    patients: int
    dice: float


@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """What was found, ROI by ROI."""

    folder: Path
    points: tuple[CurvePoint, ...]
    validation_patients: int

    def of(self, roi: str) -> list[CurvePoint]:
        """The points of a ROI, by the number of patients."""
        return sorted(
            (p for p in self.points if p.roi == roi), key=lambda point: (point.patients, point.part)
        )

    @property
    def rois(self) -> tuple[str, ...]:
        """In the order of the model."""
        return tuple(dict.fromkeys(point.roi for point in self.points))

    def gain_of_doubling(self, roi: str) -> float | None:
        """Dice that the step from half of the patients to all of them gave; None where it is not known."""
        by_part = {point.part: point for point in self.of(roi)}
        if not {"half", "all"} <= by_part.keys() or by_part["half"].patients >= by_part["all"].patients:
            return None
        gain = by_part["all"].dice - by_part["half"].dice
        return None if math.isnan(gain) else gain


def learning_curve(
    data_dir: Path,
    out_dir: Path,
    config: TrainConfig,
    options: TrainOptions,
    budget_s: float,
    on_progress: OnProgress = no_progress,
    on_part: Callable[[str], None] = lambda described: None,
) -> LearningCurve:
    """Trains on all, half and a quarter of the patients, each in a third of the time, and compares.

    What is there already is kept: finished trainings as they are, one that was broken off goes on.

    Args:
        options: map and device.
        on_part: told what is done next.

    Raises:
        InputError: too few patients.
        OutputError: `out_dir` cannot be written.
    """
    private_folder(out_dir)
    sources = find_sources(
        data_dir,
        options.roi_map,
        on_progress,
        wanted=config.data.rois,
        min_patients=config.data.min_patients,
        structure_set=config.data.structure_set,
        exclude=config.data.exclude,
    )
    ids = {patient.label: patient.patient_id for patient in sources.patients}
    shared = split_patients(ids, held_out(config.data, sources.patients))
    people = sorted({ids[label] for label in shared.training}, key=_place)
    if len(people) < FEWEST_PEOPLE:
        raise InputError(
            "There are too few patients for a learning curve.",
            where=data_dir,
            found=f"{len(people)} for training",
            expected=f"at least {FEWEST_PEOPLE}",
        )
    validation = tuple(sorted({ids[label] for label in shared.validation}))
    fixed = replace(config, data=replace(config.data, validation_patients=validation))
    bundles: dict[str, ModelBundle] = {}
    for part, share in PARTS.items():
        kept = set(people[: max(round(share * len(people)), 1)])
        described = f"{len(kept)} of {len(people)} training patients, {len(validation)} for validation"
        left_out = {person: f"not in this part ({part})" for person in people if person not in kept}
        settings = replace(fixed, data=replace(fixed.data, exclude={**fixed.data.exclude, **left_out}))
        run_dir = out_dir / part
        if (run_dir / BUNDLE).is_dir():
            on_part(f"{part}: finished already ({described})")
            bundles[part] = load_bundle(run_dir / BUNDLE)
        else:
            on_part(f"{part}: {described}")
            part_options = _options_of_part(options, out_dir, run_dir, budget_s / len(PARTS))
            bundles[part] = train(data_dir, run_dir, settings, part_options, on_progress)
        if part == "all":
            fixed = _as_planned(fixed, load_config(run_dir / CONFIG_FILE))
    points = tuple(
        CurvePoint(
            part=part,
            roi=roi,
            patients=bundle.data.rois[roi].patients if roi in bundle.data.rois else 0,
            dice=bundle.results.dice.get(roi, math.nan),
        )
        for part, bundle in bundles.items()
        for roi in bundle.roi_names
    )
    curve = LearningCurve(folder=out_dir, points=points, validation_patients=len(validation))
    write_curve(curve)
    return curve


def _options_of_part(options: TrainOptions, out_dir: Path, run_dir: Path, budget_s: float) -> TrainOptions:
    """Those of one training, which goes on where it was broken off, within what is left of its time."""
    from contour_ai.training.checkpoint import LAST

    begun = (run_dir / "checkpoints" / LAST).is_file()
    return replace(
        options,
        resume=begun,
        time_budget_s=None if begun else budget_s,
        cache_dir=options.cache_dir or out_dir / CACHE,
    )


def write_curve(curve: LearningCurve) -> None:
    """Writes the table and the page.

    Raises:
        OutputError: the folder cannot be written.
    """
    rows = [[p.roi, p.part, p.patients, "" if math.isnan(p.dice) else f"{p.dice:.4f}"] for p in curve.points]
    write_csv(curve.folder / TABLE, ["roi", "part", "patients", "dice"], rows, overwrite=True)
    charts = [
        line_chart(
            roi,
            [ChartLine(name=roi, points=[(p.patients, p.dice) for p in curve.of(roi)])],
            y_range=(0, 1),
            x_name="patients",
        )
        for roi in curve.rois
    ]
    table = [
        [cell(roi), *(cell(_point(p)) for p in curve.of(roi)), cell(_gain(curve.gain_of_doubling(roi)))]
        for roi in curve.rois
    ]
    head = ["ROI", *(f"{share:g} of the patients" for share in sorted(PARTS.values())), "from half to all"]
    explanation = (
        f"Mean Dice of {curve.validation_patients} validation patients, the same in every training; every training had "
        "the same time. A curve that still rises at its end says that more patients help."
    )
    body = f"<p>{escaped_text(explanation)}</p>{html_table(head, table)}<div class='charts'>{''.join(charts)}</div>"
    text = fill(
        asset("training.html"),
        texts={"title": "Dice against the number of patients", "state": time.strftime("%Y-%m-%d %H:%M")},
        raw={"style": asset("document.css"), "refresh": "", "body": body},
    )
    with atomic_file(curve.folder / PAGE, overwrite=True, private=True) as temporary:
        write_text(temporary, text)


def _as_planned(config: TrainConfig, planned: TrainConfig) -> TrainConfig:
    """The configuration with ROIs, voxel size, network and samples of the training on all patients."""
    return replace(
        config,
        data=replace(config.data, rois=planned.data.rois, flip_pairs=planned.data.flip_pairs, min_patients=1),
        preprocess=planned.preprocess,
        network=planned.network,
        input=planned.input,
    )


def _place(patient_id: str) -> str:
    """An order of patients that has nothing to do with their names, the same whenever it is asked for."""
    return hashlib.sha256(f"contour-ai learning curve {patient_id}".encode()).hexdigest()


def _point(point: CurvePoint) -> str:
    return f"{'–' if math.isnan(point.dice) else f'{point.dice:.3f}'} ({point.patients})"


def _gain(gain: float | None) -> str:
    return "–" if gain is None else f"{gain:+.3f}"


def advice_of(curve: LearningCurve) -> Sequence[str]:
    """A sentence on what doubling the patients gave, the ROI that gained most first."""
    known = {roi: gain for roi in curve.rois if (gain := curve.gain_of_doubling(roi)) is not None}
    ordered = sorted(known.items(), key=lambda item: -item[1])
    return [f"{roi}: {gain:+.3f} from half of the patients to all" for roi, gain in ordered]
