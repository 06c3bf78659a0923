"""A cohort shared among processes: which patients this one contours, and which of them are done already."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contour_ai.pipeline._predict import PredictOptions, options_record
from contour_ai.pipeline.result import SUMMARY
from contour_ai.training.distributed import Place

if TYPE_CHECKING:
    from contour_ai.bundle import ModelBundle


@dataclass(frozen=True)
class Share:
    """The part of a cohort that one process contours."""

    patient_dirs: tuple[Path, ...]
    done: tuple[Path, ...] = ()
    """Patients of this part that the same model has contoured before."""


def share(
    patient_dirs: Sequence[Path],
    out_dir: Path,
    bundle: ModelBundle,
    options: PredictOptions,
    place: Place,
    *,
    skip_done: bool = False,
) -> Share:
    """Every n-th patient for each of n processes, without talking to the others.

    What is done is taken out of each part only after sharing: the parts are the same whenever a process starts.

    Args:
        patient_dirs: the whole cohort, in the same order in all processes.
        out_dir: where results are, and go.
        bundle: the model; what another one has contoured, or the same with other rules, is not done.
        options: what is asked for; what was asked for otherwise (other ROIs, say) is not done.
        place: who this process is.
        skip_done: whether patients that are done are left out.
    """
    mine = place.share([Path(patient_dir) for patient_dir in patient_dirs])
    if not skip_done:
        return Share(tuple(mine))
    known = _contoured(out_dir, bundle.contouring_sha256, options_record(options, bundle))
    done = tuple(patient_dir for patient_dir in mine if patient_dir.resolve() in known)
    return Share(tuple(patient_dir for patient_dir in mine if patient_dir not in done), done)


def _contoured(out_dir: Path, contouring_sha256: str, options: Mapping[str, Any]) -> set[Path]:
    """The folders whose patients were contoured just so, by the summaries of what was written; those appear whole."""
    found = set()
    series_uid = options["series_uid"]
    for path in sorted(out_dir.glob(f"*/{SUMMARY}")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            source, series = content["input"]["path"], content["input"]["series_instance_uid"]
            how = content["model"]["contouring_sha256"], {**content["options"], "series_uid": series_uid}
        except (OSError, ValueError, KeyError, TypeError):
            continue  # no summary of ours: the patient is contoured, or its folder refused by name
        if how == (contouring_sha256, dict(options)) and series_uid in (None, series):
            found.add(Path(source).resolve())
    return found
