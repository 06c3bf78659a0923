"""A cohort shared among processes: which patients this one contours, and which of them are done already."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from contour_ai.pipeline.result import SUMMARY
from contour_ai.training.distributed import Place


@dataclass(frozen=True)
class Share:
    """The part of a cohort that one process contours."""

    patient_dirs: tuple[Path, ...]
    done: tuple[Path, ...] = ()
    """Patients of this part that the same model has contoured before."""


def share(
    patient_dirs: Sequence[Path],
    out_dir: Path,
    weights_sha256: str,
    place: Place,
    *,
    series_uid: str | None = None,
    skip_done: bool = False,
) -> Share:
    """Every n-th patient for each of n processes, without talking to the others.

    What is done is taken out of each part only after sharing: the parts are the same whenever a process starts.

    Args:
        patient_dirs: the whole cohort, in the same order in all processes.
        out_dir: where results are, and go.
        weights_sha256: of the model; what another one has contoured is not done.
        place: who this process is.
        series_uid: the CT series asked for; None for the only one.
        skip_done: whether patients that are done are left out.
    """
    mine = place.share([Path(patient_dir) for patient_dir in patient_dirs])
    if not skip_done:
        return Share(tuple(mine))
    known = _contoured(out_dir, weights_sha256, series_uid)
    done = tuple(patient_dir for patient_dir in mine if patient_dir.resolve() in known)
    return Share(tuple(patient_dir for patient_dir in mine if patient_dir not in done), done)


def _contoured(out_dir: Path, weights_sha256: str, series_uid: str | None) -> set[Path]:
    """The folders whose patients a model has contoured, by the summaries of what it wrote; those appear whole."""
    found = set()
    for path in sorted(out_dir.glob(f"*/{SUMMARY}")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            source, series = content["input"]["path"], content["input"]["series_instance_uid"]
            weights = content["model"]["weights_sha256"]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # no summary of ours: the patient is contoured, or its folder refused by name
        if weights == weights_sha256 and series_uid in (None, series):
            found.add(Path(source).resolve())
    return found
