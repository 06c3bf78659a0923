"""A cohort shared among processes: which patients this one contours, and which of them are predicted already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from contour_ai.dicom.scan import find_patient
from contour_ai.files import Manifest, content_sha256, is_temporary, is_whole
from contour_ai.pipeline._predict import PredictOptions, options_record
from contour_ai.pipeline._predict.surfaces import SURFACES
from contour_ai.pipeline._predict.writing import REPORT
from contour_ai.pipeline.summary import SUMMARY, usable_summary
from contour_ai.training.distributed import Place

if TYPE_CHECKING:
    from contour_ai.bundle import ModelBundle


@dataclass(frozen=True)
class Share:
    """The part of a cohort that one process contours."""

    patient_dirs: tuple[Path, ...]
    done: tuple[Path, ...] = ()
    """Patients of this part that the same model has contoured before."""
    stopped: int = 0
    """Of these, patients whose verdict was `stop`: they have no structure set."""


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

    Done is a patient of whose series and images, as they are now, the same model with the same rules and options has
    made a structure set that is there and as it was written.

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
    results = _results(out_dir, bundle.inference_fingerprint, options_record(options, bundle))
    found = {patient_dir: _done(patient_dir, results, options) for patient_dir in mine if results}
    done = {patient_dir: result for patient_dir, result in found.items() if result is not None}
    return Share(
        tuple(patient_dir for patient_dir in mine if patient_dir not in done),
        tuple(done),
        sum(not result.structure_set for result in done.values()),
    )


@dataclass(frozen=True, kw_only=True)
class _Result:
    """What a summary says of a prediction, made with the model and the options that are asked for now."""

    folder: Path
    series_uid: str
    images_sha256: str
    structure_set: str

    def is_whole(self, options: PredictOptions) -> bool:
        """Whether all files that are asked for are there, the structure set as it was written."""
        manifest = Manifest.load(self.folder)
        if manifest is None:
            return False
        if not self.structure_set:  # the verdict was `stop`: there is nothing else to be had
            return is_whole(self.folder, SUMMARY)
        wanted = [REPORT] if options.report else []
        wanted += [next((n for n in manifest.files if n.startswith("SEG.")), "SEG")] if options.seg else []
        if options.surfaces:
            suffix = f".{options.surfaces}"
            found = [n for n in manifest.files if n.startswith(f"{SURFACES}/") and n.endswith(suffix)]
            wanted += found or [SURFACES]
        return is_whole(self.folder, self.structure_set) and all(is_whole(self.folder, n) for n in wanted)


def _results(out_dir: Path, contouring_sha256: str, options: Mapping[str, object]) -> list[_Result]:
    """The predictions in a folder that were made just so; unfinished ones of a killed run are none."""
    found = []
    series_uid = options["series_uid"]
    for path in sorted(out_dir.glob(f"*/{SUMMARY}")):
        if is_temporary(path.parent.name):
            continue
        summary = usable_summary(path.parent)
        if summary is None or summary.model.contouring_sha256 != contouring_sha256:
            continue  # where it is no summary, the patient is contoured, or its folder refused by name
        if {**summary.options, "series_uid": series_uid} == dict(options):
            found.append(
                _Result(
                    folder=path.parent,
                    series_uid=summary.input.series_instance_uid,
                    images_sha256=summary.input.images_sha256,
                    structure_set=summary.structure_set.file,
                )
            )
    return found


def _done(patient_dir: Path, results: Sequence[_Result], options: PredictOptions) -> _Result | None:
    """The whole prediction of the very images that lie in the folder now; None where there is none."""
    try:
        ct = find_patient(patient_dir, series_uid=options.series_uid).ct
        of_series = [r for r in results if r.series_uid == ct.series_instance_uid]
        images = content_sha256(ct.paths) if of_series else ""
    except Exception:  # noqa: BLE001 - it is said when the patient's turn comes
        return None
    return next((r for r in of_series if r.images_sha256 == images and r.is_whole(options)), None)
