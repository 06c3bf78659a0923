"""A department's own acceptance run: contours its patients, compares with its contours, checks its limits."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from contour_ai import __version__
from contour_ai.bundle import ModelBundle
from contour_ai.dicom.header import read_header
from contour_ai.dicom.scan import PatientFiles, find_patients
from contour_ai.dicom.structure_set_choice import ONLY, choose_structure_set
from contour_ai.dicom.values import text
from contour_ai.errors import ContourAIError, InputError
from contour_ai.evaluation.limits import Check, Limits, check_limits, load_limits
from contour_ai.evaluation.report import plain, write_report
from contour_ai.evaluation.tolerances import Tolerances
from contour_ai.faults import patient_boundary
from contour_ai.files import atomic_folder, write_text
from contour_ai.pipeline._evaluate import Evaluation, evaluate
from contour_ai.pipeline._predict import LoadedModel, PredictOptions, bundle_of, load_model, predict
from contour_ai.pipeline.installation_test import self_test
from contour_ai.pipeline.pairing import labels_of
from contour_ai.pipeline.places import without_folders, without_paths
from contour_ai.pipeline.report import COHORT, PATIENTS, reports_of_evaluation
from contour_ai.pipeline.result import Prediction
from contour_ai.progress import OnProgress, ProgressEvent, no_progress
from contour_ai.report.commissioning import (
    CommissionedPatient,
    CommissioningPage,
    write_commissioning_report,
)
from contour_ai.structures.roi_map import RoiMap

REPORT = "commissioning.html"
RECORD = "commissioning.json"
PREDICTIONS = "predictions"

PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "pydicom",
    "rt-utils",
    "scikit-image",
    "pillow",
    "safetensors",
)
"""Those that a contour or a figure depends on."""


@dataclass(frozen=True)
class CommissionOptions:
    """What `commission` can be told besides data, model, limits and output folder."""

    device: str = "auto"
    tta: bool | None = None
    """Average with the left-right mirror; None for as the model says."""
    structure_set: str = ONLY
    """Which counts where a CT has several (see `choose_structure_set`)."""
    roi_map: RoiMap | None = None
    """Names in the department's structure sets that stand for the model's ROIs."""
    tau: float | Tolerances | None = None
    """Tolerance of the surface DSC, as in `evaluate`."""
    overwrite: bool = False
    """Replace an earlier report, if nobody has changed or added anything in its folder."""
    inputs: tuple[Path, ...] = ()
    """Files besides the data and the model that were read, which are never replaced."""


@dataclass(frozen=True)
class Commissioning:
    """What came out; the page holds every check."""

    folder: Path
    page: CommissioningPage

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return self.page.passed


@dataclass(frozen=True)
class _Tried:
    """A patient: what was predicted, or why not."""

    name: str
    files: PatientFiles
    prediction: Prediction | None
    problem: str = ""
    spacing_text: str = ""
    """Slices and voxel size in words."""


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
        limits_text: the file of limits, to be shown in the report; what is in the file where `limits` names one.

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
        limits_text = limits_text or path.read_text(encoding="utf-8")
    bundle = bundle_of(model)
    started = datetime.now(timezone.utc)
    patients, notes = _with_contours(data_dir, options.structure_set, on_progress)
    if bundle.data.saw_no_patient and bundle.kind != "phantom":
        notes.insert(0, f"{bundle.name} was never trained on a patient: what it learnt from was drawn.")
    if bundle.kind == "phantom":
        notes.insert(
            0, f"{bundle.name} is a phantom model: whatever this report says, it is never for a patient."
        )
    checks = self_test()
    loaded = load_model(bundle, options.device)
    inputs = [data_dir, *([] if bundle.folder == Path() else [bundle.folder]), *options.inputs]
    with atomic_folder(out_dir, overwrite=options.overwrite, inputs=inputs, private=True) as folder:
        tried = _predict(patients, loaded, folder / PREDICTIONS, options, on_progress)
        result = _evaluate(folder / PREDICTIONS, data_dir, tried, loaded, limits, options, on_progress)
        title = f"Commissioning of {bundle.name} {bundle.version}"
        pages = reports_of_evaluation(folder, result, title=title, on_progress=on_progress)
        # The cohort's page, where there is one, comes first.
        of_patients = zip(result.pairs, pages[-len(result.pairs) :], strict=True)
        links = {pair.patient: f"{PATIENTS}/{path.name}" for pair, path in of_patients}
        page = CommissioningPage(
            title=title,
            subtitle=f"{data_dir.resolve().name} · {started:%Y-%m-%d %H:%M} UTC · contour-ai {__version__}",
            run=_run_checks(tried, result),
            limits=check_limits(result.rows, limits),
            self_test=checks,
            rows=result.rows,
            patients=[_shown(t, result, links) for t in tried],
            limits_text=limits_text,
            environment=environment(loaded, data_dir, options),
            notes=[*notes, *result.notes, *(f"Tolerance of {t}" for t in result.tolerances)],
            not_judged=[roi for roi in bundle.roi_names if roi not in limits.rois],
            cohort=COHORT if (folder / COHORT).exists() else "",
        )
        page = without_paths(without_folders(page, [data_dir, out_dir, folder]))
        page = replace(page, limits_text=limits_text)  # word for word
        write_report(folder, result.rows, result.notes, (), result.tolerances)
        write_commissioning_report(folder / REPORT, page)
        _write_record(folder / RECORD, page, started)
    return Commissioning(out_dir, page)


def _with_contours(
    data_dir: Path, structure_set: str, on_progress: OnProgress
) -> tuple[dict[str, PatientFiles], list[str]]:
    """{what it is called: patient with the structure set that counts}, and sentences on what else there was."""
    found = find_patients(data_dir, on_progress)
    labels = labels_of([files.ct for files in found])
    usable, notes = [], []
    for files in found:
        label = labels[files.ct.series_instance_uid]
        chosen = choose_structure_set(files.structure_sets, structure_set)
        if chosen.taken:
            usable.append(chosen.of(files))
            notes += [f"{label}: {chosen.reason}"] if chosen.reason else []
        else:
            notes.append(
                f"{label}: left out, {chosen.reason or f'{len(files.structure_sets)} structure sets'}"
            )
    if not usable:
        raise InputError(
            "There is no patient to commission with.",
            where=data_dir,
            found="; ".join(notes),
            expected="a CT series and one structure set with the department's own contours, for every patient",
        )
    return {labels[files.ct.series_instance_uid]: files for files in usable}, notes


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
        on_progress(ProgressEvent("contouring", done, len(patients), {"patient": name}))
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
            tried.append(_Tried(name, files, None, str(error)))
            continue
        assert found.folder is not None
        taken.append(found.folder.name)
        grid = found.ct.grid
        spacing = f"{grid.shape_kij[0]} slices, {' x '.join(f'{mm:.3g}' for mm in grid.spacing_mm)} mm"
        tried.append(_Tried(name, files, found.without_image(), spacing_text=spacing))
    on_progress(ProgressEvent("contouring", len(patients), len(patients)))
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
            found="; ".join(f"{t.name}: {t.problem}" for t in tried),
        )
    rois = dict.fromkeys([*model.bundle.roi_names, *limits.rois])
    return evaluate(
        predictions,
        data_dir,
        rois=list(rois),
        roi_map=options.roi_map,
        tau=options.tau,
        structure_set=options.structure_set,
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
        Check("all", f"{count} patients contoured", str(whole), not troubles, troubles),
        Check(
            "all",
            f"{count - len(lost)} patients compared",
            str(len(compared)),
            not missing,
            "; ".join(missing),
        ),
    ]


def _shown(tried: _Tried, result: Evaluation, links: Mapping[str, str]) -> CommissionedPatient:
    found = tried.prediction
    shown = CommissionedPatient(
        tried.name,
        "",
        (),
        0.0,
        tried.problem,
        _ct_in_words(tried),
        tried.files.ct.series_instance_uid,
        tried.files.structure_sets[0].sop_instance_uid,
    )
    if found is None:
        return shown
    flags = [flag.reason for flag in found.flags]
    flags += [f"{roi.name}: {flag.reason}" for roi in found.rois for flag in roi.flags]
    error = result.failed.get(tried.name)
    return replace(
        shown,
        link=links.get(tried.name, ""),
        flags=flags,
        seconds=found.timings_s["total"],
        problem="" if error is None else str(error),
    )


def _ct_in_words(tried: _Tried) -> str:
    """Voxels, position and scanner: what a model may do well on one of, and not on another."""
    header = read_header(tried.files.ct.paths[0])
    words = [tried.spacing_text]
    kilovolts = text(header, "KVP")
    scanner = [text(header, name) for name in ("Manufacturer", "ManufacturerModelName", "ConvolutionKernel")]
    scanner.insert(2, f"{kilovolts} kV" if kilovolts else "")
    words += [text(header, "PatientPosition"), " ".join(filter(None, scanner))]
    return ", ".join(filter(None, words))


def _write_record(path: Path, page: CommissioningPage, started: datetime) -> None:
    """The same as the report, for programs."""
    content = {
        "passed": page.passed,
        "not_judged": list(page.not_judged),
        "title": page.title,
        "started": started.isoformat(timespec="seconds"),
        **{
            name: [asdict(check) for check in checks]
            for name, checks in (("run", page.run), ("limits", page.limits), ("self_test", page.self_test))
        },
        "patients": [asdict(patient) for patient in page.patients],
        "environment": page.environment,
        "limits_file": page.limits_text,
        "notes": list(page.notes),
    }
    text = json.dumps(plain(content), indent=1, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def environment(
    model: LoadedModel, data_dir: Path, options: CommissionOptions
) -> Mapping[str, Mapping[str, str]]:
    """Model, machine and software, so that a later run can tell what changed."""
    bundle = model.bundle
    return {
        "Model": {
            "name": bundle.name,
            "version": bundle.version,
            "kind": bundle.kind,
            "weights SHA-256": bundle.weights_sha256,
        },
        "Machine": {
            "system": platform.platform(),
            "processor": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
            "computes on": model.computes_in + _gpu_name(model),
        },
        "Software": {
            "contour-ai": __version__,
            "Python": platform.python_version(),
            **{name: _version(name) for name in PACKAGES},
        },
        "Options": {
            "data": data_dir.resolve().name,
            "device": options.device,
            "tta": str(bundle.uses_mirror_tta(options.tta)),
            "tau": _tau_in_words(options.tau),
            "ROI map": "none" if options.roi_map is None else "given",
        },
    }


def _tau_in_words(tau: float | Tolerances | None) -> str:
    if isinstance(tau, float | int):
        return f"{tau:g} mm for every ROI"
    return "by ROI, built in (see the notes)" if tau is None else "by ROI, from a file (see the notes)"


def _gpu_name(model: LoadedModel) -> str:
    if model.device.type != "cuda":
        return ""
    import torch

    return f" ({torch.cuda.get_device_name(model.device)})"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed as a package"
