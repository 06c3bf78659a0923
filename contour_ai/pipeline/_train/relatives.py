"""Draws relatives of the training patients into the cache, where a training wants synthetic patients and has no label
maps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from contour_ai.files import atomic_folder
from contour_ai.progress import OnProgress, ProgressEvent
from contour_ai.sample.synthesis.relatives import draw_relative
from contour_ai.settings import to_mapping
from contour_ai.training.cache import Case
from contour_ai.training.synthetic import SyntheticConfig

DRAWING_VERSION = 1
"""Changes whenever the same patient and recipe give another relative."""


def draw_relatives(
    learnt: Mapping[str, Case], wanted: SyntheticConfig, cache: Path, on_progress: OnProgress
) -> list[Case]:
    """`wanted.count` relatives of the training patients, each of them in turn; those that are there are kept.

    Args:
        learnt: {cache entry: patient} of those that are trained on; patients that validate have no relatives.
        wanted: recipe, count and first seed.
        cache: where they are written.
        on_progress: told of every relative.

    Raises:
        OutputError: the cache cannot be written.
    """
    drawn = []
    keys = sorted(learnt)
    for n, seed in enumerate(range(wanted.first_seed, wanted.first_seed + wanted.count)):
        on_progress(ProgressEvent(stage="drawing", done=n, total=wanted.count))
        key = keys[n % len(keys)]
        drawn.append(_relative(key, learnt[key], wanted, seed, cache))
    on_progress(ProgressEvent(stage="drawing", done=wanted.count, total=wanted.count))
    return drawn


def _relative(key: str, case: Case, wanted: SyntheticConfig, seed: int, cache: Path) -> Case:
    folder = cache / _key(key, case, wanted, seed)
    if not (folder / "bits.npy").is_file():
        relative = draw_relative(case.hu, case.bits, len(case.rois), case.spacing_mm_kij, wanted.recipe, seed)
        with atomic_folder(folder, overwrite=True, owned=True, private=True) as temporary:
            np.save(temporary / "hu.npy", relative.hu)
            np.save(temporary / "bits.npy", relative.bits)
    return replace(
        case,
        patient_id=f"{case.patient_id} relative {seed}",
        image=folder / "hu.npy",
        labels=folder / "bits.npy",
        notes=(),
        facts={},
    ).without_empty()


def _key(key: str, case: Case, wanted: SyntheticConfig, seed: int) -> str:
    """Of all that decides what is drawn."""
    parts = [DRAWING_VERSION, key, case.states, case.hu.shape, to_mapping(wanted.recipe), seed]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=list).encode()).hexdigest()[:32]
