"""Draws the synthetic patients of a training into its folder, and puts them beside those of the archive."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from contour_ai.errors import InputError
from contour_ai.pipeline.archive import Sources, find_sources
from contour_ai.progress import OnProgress
from contour_ai.sample.synthesis.label_maps import read_label_maps
from contour_ai.sample.synthesis.write import MAP_FILE, patient_name, write_synthetic_patients
from contour_ai.structures.roi_map import RoiMap
from contour_ai.training.config import TrainConfig
from contour_ai.training.synthetic import SyntheticConfig

SYNTHETIC_FOLDER = "synthetic"


def with_synthetic(sources: Sources, config: TrainConfig, run_dir: Path, on_progress: OnProgress) -> Sources:
    """The patients of the archive, and behind them the synthetic ones that the configuration wants from label maps.

    Synthetic patients have no other ROIs than the archive or, where they are named, data.rois. What is drawn already
    is not drawn again, nor are its label maps needed then.

    Raises:
        InputError: label maps that cannot be used, or a patient of the archive with the name of a synthetic one.
        OutputError: the folder of the run holds synthetic patients of another recipe.
    """
    wanted = config.data.synthetic
    if wanted is None or not wanted.label_maps:
        return sources
    folder = run_dir / SYNTHETIC_FOLDER
    if not _is_drawn(folder, wanted):
        write_synthetic_patients(
            read_label_maps(Path(wanted.label_maps)),
            folder,
            wanted.recipe,
            count=wanted.count,
            first_seed=wanted.first_seed,
            on_progress=on_progress,
        )
    drawn = find_sources(folder, RoiMap.load(folder / MAP_FILE), on_progress)
    labels = {patient.label for patient in sources.patients}
    twice = sorted(patient.label for patient in drawn.patients if patient.label in labels)
    if twice:
        raise InputError(
            "Patients of the archive are named as synthetic ones are.",
            found=", ".join(twice),
            fix="train on the archive without them, or choose another data.synthetic.first_seed",
        )
    learnt = sources.counts() if config.data.rois is None else config.data.rois
    patients = [
        replace(
            patient,
            synthetic=True,
            rois={roi: name for roi, name in patient.rois.items() if roi in learnt},
            absent=frozenset(roi for roi in patient.absent if roi in learnt),
        )
        for patient in drawn.patients
    ]
    return replace(sources, patients=(*sources.patients, *patients))


def _is_drawn(folder: Path, wanted: SyntheticConfig) -> bool:
    seeds = range(wanted.first_seed, wanted.first_seed + wanted.count)
    return (folder / MAP_FILE).is_file() and all((folder / patient_name(seed)).is_dir() for seed in seeds)
