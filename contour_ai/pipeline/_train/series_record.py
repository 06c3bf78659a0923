"""Which CT series a training has seen, for its bundle; kept in the run folder for a training that is resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from contour_ai.bundle import ModelBundle
from contour_ai.bundle.seen_series import SeenSeries
from contour_ai.errors import ConfigError
from contour_ai.files import atomic_file, update_manifest, write_text
from contour_ai.pipeline.archive import Sources
from contour_ai.pipeline.series_content import content_of_case
from contour_ai.progress import OnProgress, ProgressEvent
from contour_ai.settings import from_mapping, to_mapping

if TYPE_CHECKING:
    from contour_ai.training.job import Job

SERIES_FILE = "training-series.json"


def seen_series(
    job: Job, sources: Sources, init: ModelBundle | None, on_progress: OnProgress
) -> tuple[SeenSeries, ...]:
    """The series of a training, those of the model that it began with among them.

    Raises:
        ConfigError: the run to resume has a list that cannot be read.
        OutputError: the run folder cannot be written.
    """
    path = job.run_dir / SERIES_FILE
    if job.resume and path.is_file():
        return _read(path)
    files = {patient.label: patient.files.ct for patient in sources.patients}
    sides = (job.own_training, job.validation)
    cases = {case.patient_id: case for side in sides for case in side}
    contents = {}
    for done, (label, case) in enumerate(cases.items()):
        on_progress(ProgressEvent(stage="recording the series", done=done, total=len(cases)))
        contents[label] = content_of_case(case, files[label])
    on_progress(ProgressEvent(stage="recording the series", done=len(cases), total=len(cases)))
    training, held_back = ([contents[case.patient_id] for case in side] for side in sides)
    seen = (SeenSeries.of(training, held_back), *(() if init is None else init.data.seen_series))
    with atomic_file(path, overwrite=True, private=True) as temporary:
        write_text(temporary, json.dumps(to_mapping(seen), indent=1) + "\n")
    update_manifest(job.run_dir, SERIES_FILE, make="results")
    return seen


def _read(path: Path) -> tuple[SeenSeries, ...]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            "The list of the training's series cannot be read.", where=path, found=error
        ) from error
    if not isinstance(content, list):
        raise ConfigError(
            "The list of the training's series is no list.", where=path, found=type(content).__name__
        )
    return tuple(from_mapping(SeenSeries, one, where=path) for one in content)
