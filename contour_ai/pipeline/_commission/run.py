"""A department's own acceptance run: contours its patients, compares with its contours, checks its limits."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

from pydicom.dataset import Dataset

from contour_ai import __version__
from contour_ai.bundle import ModelBundle
from contour_ai.dicom.header import read_header
from contour_ai.dicom.scan import PatientFiles
from contour_ai.dicom.values import text
from contour_ai.errors import ContourAIError, InputError, UnforeseenError, listed
from contour_ai.evaluation.limits import Check, Limits, check_limits, load_limits
from contour_ai.evaluation.report import write_report
from contour_ai.faults import patient_boundary
from contour_ai.files import atomic_folder
from contour_ai.pipeline._commission.constancy import ContouredSeries, compare_with, read_earlier_run
from contour_ai.pipeline._commission.dossier import write_dossier
from contour_ai.pipeline._commission.options import (
    PREDICTIONS,
    RECORD,
    REPORT,
    Commissioning,
    CommissionOptions,
)
from contour_ai.pipeline._commission.patients import find_cohort
from contour_ai.pipeline._commission.record import environment, write_record
from contour_ai.pipeline._commission.strata import Strata, groups_of_ct, load_strata
from contour_ai.pipeline._evaluate import Evaluation, evaluate
from contour_ai.pipeline._predict import LoadedModel, PredictOptions, bundle_of, load_model, predict
from contour_ai.pipeline.installation_test import self_test
from contour_ai.pipeline.places import without_folders, without_paths
from contour_ai.pipeline.report import COHORT, PATIENTS, reports_of_evaluation
from contour_ai.pipeline.result import Prediction
from contour_ai.progress import OnProgress, ProgressEvent, no_progress
from contour_ai.report.commissioning import (
    CommissionedPatient,
    CommissioningPage,
    write_commissioning_report,
)
from contour_ai.settings import to_mapping, to_yaml
from contour_ai.text_files import read_text_file


@dataclass(frozen=True, kw_only=True)
class _Tried:
    """A patient: what was predicted, or why not."""

    name: str
    files: PatientFiles
    prediction: Prediction | None
    problem: str = ""
    spacing_text: str = ""
    """Slices and voxel size in words."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """{stratum: group}, as far as the CT tells."""


def commission(
    data_dir: str | Path,
    model: str | Path | ModelBundle,
    limits: Limits | str | Path,
    out_dir: str | Path,
    options: CommissionOptions | None = None,
    on_progress: OnProgress = no_progress,
    *,
    limits_text: str = "",
) -> Commissioning:
    """Predicts, evaluates and checks, and writes `out_dir` as a whole: report, record, tables, predictions, pages.

    Args:
        data_dir: patients with a CT and a structure set each; those with none or several are listed and left out.
        model: name or folder of a model, or a bundle.
        limits: what a department accepts, or its YAML file.
        out_dir: the folder to write; it must not exist, unless `options.overwrite` is set.
        options: device, tolerances, map of names and so on; None for the defaults.
        on_progress: told how far each stage has come.
        limits_text: the file of limits, to be shown in the report; what is in the file where `limits` names one.

    Returns:
        Every check and whether all passed.

    Raises:
        InputError: no patient with a CT and one structure set, or not one that could be compared.
        ConfigError: the file of limits cannot be used.
        ModelError: the model cannot be used.
        OutputError: `out_dir` exists and must not be replaced, or cannot be written.
    """
    options = options or CommissionOptions()
    data_dir, out_dir = Path(data_dir), Path(out_dir)
    if not isinstance(limits, Limits):
        path = Path(limits)
        limits = load_limits(path)
        limits_text = limits_text or read_text_file(path)
    limits_text = limits_text or to_yaml(_without_none(to_mapping(limits)))
    earlier = None if options.repeat is None else read_earlier_run(options.repeat)
    told = None if options.strata is None else load_strata(options.strata)
    bundle = bundle_of(model)
    started = datetime.now(timezone.utc)
    only = None if earlier is None else earlier.patients.keys()
    cohort = find_cohort(data_dir, bundle, options, on_progress, only)
    patients, notes = cohort.patients, list(cohort.notes)
    if bundle.data.saw_no_patient and bundle.kind != "phantom":
        notes.insert(0, f"{bundle.name} was never trained on a patient: what it learnt from was drawn.")
    if bundle.kind == "phantom":
        notes.insert(
            0, f"{bundle.name} is a phantom model: whatever this report says, it is never for a patient."
        )
    checks = self_test()
    loaded = load_model(bundle, options.device)
    inputs = [data_dir, *([] if bundle.folder == Path() else [bundle.folder]), *options.inputs]
    inputs += [] if earlier is None else [earlier.folder]
    with atomic_folder(out_dir, overwrite=options.overwrite, inputs=inputs, private=True) as folder:
        tried = _predict(patients, loaded, folder / PREDICTIONS, options, on_progress)
        result = _evaluate(folder / PREDICTIONS, data_dir, tried, loaded, limits, options, on_progress)
        title = f"Commissioning of {bundle.name} {bundle.version}"
        pages = reports_of_evaluation(folder, result, title=title, on_progress=on_progress)
        # The cohort's page, where there is one, comes first.
        of_patients = zip(result.pairs, pages[-len(result.pairs) :], strict=True)
        links = {pair.patient: f"{PATIENTS}/{path.name}" for pair, path in of_patients}
        machine = environment(loaded, data_dir, options)
        page = CommissioningPage(
            title=title,
            subtitle=f"{data_dir.resolve().name} · {started:%Y-%m-%d %H:%M} UTC · contour-ai {__version__}",
            run=_run_checks(tried, result),
            limits=check_limits(result.rows, limits),
            self_test=checks,
            rows=result.rows,
            patients=[_shown(t, result, links) for t in tried],
            limits_text=limits_text,
            environment=machine,
            notes=[*notes, *result.notes, *(f"Tolerance of {t}" for t in result.tolerances)],
            not_judged=[roi for roi in bundle.roi_names if roi not in limits.rois],
            cohort=COHORT if (folder / COHORT).exists() else "",
            constancy=None if earlier is None else compare_with(earlier, _by_series(tried), machine),
        )
        page = without_paths(without_folders(page, [data_dir, out_dir, folder]))
        page = replace(page, limits_text=limits_text)  # word for word
        write_report(folder, result.rows, result.notes, (), result.tolerances)
        write_commissioning_report(folder / REPORT, page)
        write_record(folder / RECORD, page, started, options)
        if options.dossier:
            write_dossier(folder, bundle, page, _strata(tried, told))
    return Commissioning(out_dir, page, cohort.trained_on)


def _without_none(value: object) -> object:
    """Limits as a person writes them."""
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value


def _strata(tried: Sequence[_Tried], told: Strata | None) -> Strata:
    """The groups of all patients, as their CTs and a person's table say."""
    groups: dict[str, dict[str, str]] = {}
    for one in tried:
        for stratum, group in one.groups.items():
            groups.setdefault(stratum, {})[one.name] = group
    measured = Strata(groups=groups)
    return measured if told is None else told.over(measured)


def _by_series(tried: Sequence[_Tried]) -> dict[str, ContouredSeries]:
    """{SeriesInstanceUID: what became of it}."""
    return {
        t.files.ct.series_instance_uid: ContouredSeries(
            t.files.ct,
            None if t.prediction is None else t.prediction.path,
            t.problem,
        )
        for t in tried
    }


def _predict(
    patients: Mapping[str, PatientFiles],
    model: LoadedModel,
    folder: Path,
    options: CommissionOptions,
    on_progress: OnProgress,
) -> list[_Tried]:
    """All patients, one after the other; one that fails does not stop the others."""
    tried: list[_Tried] = []
    taken: list[str] = []
    folder.mkdir()
    for done, (name, files) in enumerate(patients.items()):
        on_progress(
            ProgressEvent(stage="contouring", done=done, total=len(patients), facts={"patient": name})
        )
        settings = PredictOptions(
            tta=options.tta,
            overlays=False,
            series_uid=files.ct.series_instance_uid,
            allow_poor=True,
            keep_stopped=True,  # what the verdict stops is measured, too, and fails the run
        )
        try:
            with patient_boundary(f"predicting patient {name}"):
                found = predict(files, model, folder, settings, taken=taken)
        except ContourAIError as error:
            tried.append(_Tried(name=name, files=files, prediction=None, problem=str(error)))
            continue
        assert found.folder is not None
        taken.append(found.folder.name)
        grid = found.ct.grid
        spacing = f"{grid.shape_kij[0]} slices, {' x '.join(f'{mm:.3g}' for mm in grid.spacing_mm)} mm"
        groups = groups_of_ct(found.ct)
        tried.append(
            _Tried(
                name=name,
                files=files,
                prediction=found.without_image(),
                spacing_text=spacing,
                groups=groups,
            )
        )
    on_progress(ProgressEvent(stage="contouring", done=len(patients), total=len(patients)))
    return tried


def _evaluate(
    predictions: Path,
    data_dir: Path,
    tried: Sequence[_Tried],
    model: LoadedModel,
    limits: Limits,
    options: CommissionOptions,
    on_progress: OnProgress,
) -> Evaluation:
    """The model's ROIs, and those that have limits, against the department's contours."""
    if not any(t.prediction for t in tried):
        raise InputError(
            "No patient could be contoured.",
            where=data_dir,
            found=listed(f"{t.name}: {t.problem}" for t in tried),
        )
    rois = dict.fromkeys([*model.bundle.roi_names, *limits.rois])
    return evaluate(
        predictions,
        data_dir,
        rois=list(rois),
        roi_map=options.roi_map,
        tau=options.tau,
        structure_set=options.structure_set,
        acquisition=options.acquisition,
        on_progress=on_progress,
    )


def _run_checks(tried: Sequence[_Tried], result: Evaluation) -> list[Check]:
    """Whether every patient was contoured and compared."""
    lost = [f"{t.name}: {t.problem}" for t in tried if t.prediction is None]
    compared = {pair.patient for pair in result.pairs}
    missing = [t.name for t in tried if t.prediction is not None and t.name not in compared]
    missing += [f"{patient}: {error}" for patient, error in result.failed.items()]
    stopped = [
        f"{t.name}: the verdict is stop" for t in tried if t.prediction and t.prediction.verdict == "stop"
    ]
    count, whole = len(tried), len(tried) - len(lost) - len(stopped)
    troubles = "; ".join([*lost, *stopped])
    return [
        Check(
            subject="all",
            rule=f"{count} patients contoured",
            found=str(whole),
            passed=not troubles,
            detail=troubles,
        ),
        Check(
            subject="all",
            rule=f"{count - len(lost)} patients compared",
            found=str(len(compared)),
            passed=not missing,
            detail="; ".join(missing),
        ),
    ]


def _shown(tried: _Tried, result: Evaluation, links: Mapping[str, str]) -> CommissionedPatient:
    found = tried.prediction
    shown = CommissionedPatient(
        patient=tried.name,
        link="",
        flags=(),
        seconds=0.0,
        problem=tried.problem,
        ct=_ct_in_words(tried),
        series_uid=tried.files.ct.series_instance_uid,
        structure_set_uid=tried.files.structure_sets[0].sop_instance_uid,
    )
    if found is None:
        return shown
    flags = [flag.reason for flag in found.flags]
    flags += [f"{roi.name}: {flag.reason}" for roi in found.rois for flag in roi.flags]
    error = result.failed.get(tried.name)
    return replace(
        shown,
        link=links.get(tried.name, ""),
        flags=tuple(flags),
        seconds=found.timings_s["total"],
        problem="" if error is None else str(error),
    )


def _ct_in_words(tried: _Tried) -> str:
    """Voxels, position and scanner: what a model may do well on one of, and not on another.

    Nothing of a file that is no longer there or readable: that patient's error says so.
    """
    header = Dataset()
    with contextlib.suppress(InputError, UnforeseenError), patient_boundary(f"describing {tried.name}"):
        header = read_header(tried.files.ct.paths[0])
    words = [tried.spacing_text]
    kilovolts = text(header, "KVP")
    scanner = [text(header, name) for name in ("Manufacturer", "ManufacturerModelName", "ConvolutionKernel")]
    scanner.insert(2, f"{kilovolts} kV" if kilovolts else "")
    words += [text(header, "PatientPosition"), " ".join(filter(None, scanner))]
    return ", ".join(filter(None, words))
