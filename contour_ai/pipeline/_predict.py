"""Contours patients: DICOM CT in; structure set, pictures and summary out, as a whole folder or not at all."""

from __future__ import annotations

import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from contour_ai.box import bounding_box
from contour_ai.bundle import ModelBundle
from contour_ai.dicom.ct import CTSeries, read_ct, refuse_missing_slices
from contour_ai.dicom.profile import load_profile
from contour_ai.dicom.rtstruct_header import Provenance
from contour_ai.dicom.rtstruct_read import StructureSet, load_structure_set, read_structures
from contour_ai.dicom.rtstruct_write import (
    RoiContours,
    WrittenStructureSet,
    contours_of_level,
    contours_of_mask,
    write_structure_set,
)
from contour_ai.dicom.scan import PatientFiles, find_patient
from contour_ai.errors import ConfigError, InputError, OutputError
from contour_ai.files import atomic_folder, check_target, safe_name
from contour_ai.pipeline.pictures import Scene, draw_pictures
from contour_ai.pipeline.result import (
    SUMMARY,
    Context,
    PredictedRoi,
    Prediction,
    measure,
    summary,
    summary_text,
)
from contour_ai.postprocess import apply_rule
from contour_ai.preprocess import (
    SPARSE,
    Prepared,
    Resampler,
    body_mask,
    image_channels,
    prepare,
    restore_level,
)
from contour_ai.progress import OnProgress, ProgressEvent, no_progress
from contour_ai.quality.flag import EXTERNAL, ImageEvidence, PatientFlags
from contour_ai.quality.flags import find_flags
from contour_ai.structures import roi_info, tg263_name
from contour_ai.volume import Volume

if TYPE_CHECKING:
    import torch

BODY = "Body"
"""Name of the external contour that is added by rule."""
REPORT = "report.html"
IN_FLIGHT = 3
"""Patients at once, at most: one read, one in the network, one written. Each holds a whole CT in memory."""

SHARES = {
    "finding": 2,
    "reading": 10,
    "body": 5,
    "model": 8,
    "preprocessing": 5,
    "network": 35,
    "restoring": 4,
    "flags": 1,
    "structure set": 10,
    "reference": 5,
    "pictures": 15,
}
"""Stages, and about what share of the time each takes (in all 100), for the progress bar."""


@dataclass(frozen=True)
class PredictOptions:
    """What `predict` can be told besides patient, model and output folder."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    rois: tuple[str, ...] | None = None
    """Only these ROIs of the model (and Body, where it is named); None for all and Body."""
    tta: bool | None = None
    """Average with the left-right mirror: twice the network's time; None for as the model says."""
    profile: str = "generic"
    """Importer's limits: a profile's name, or a YAML file."""
    overlays: bool = True
    """Whether to draw a picture for every slice; the montage is always drawn."""
    report: bool = False
    """Whether to write `report.html`, a viewer of CT and contours in one file."""
    overwrite: bool = False
    """Replace what an earlier prediction of the same patient left."""
    series_uid: str | None = None
    """The CT series to take where the folder has several."""


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A bundle with its network on a device, for several patients."""

    bundle: ModelBundle
    network: Any
    device: torch.device
    autocast: torch.dtype | None

    @property
    def computes_in(self) -> str:
        """The device and its arithmetic, for the summary."""
        return f"{self.device}, {'float32' if self.autocast is None else str(self.autocast).removeprefix('torch.')}"

    @cached_property
    def resampler(self) -> Resampler:
        """What brings CTs to the model's grid and ROIs back: the GPU, where the network runs on one."""
        if self.device.type == "cpu":
            return SPARSE
        from contour_ai.device_resampling import DeviceResampler

        return DeviceResampler(self.device)

    def loaded(self) -> LoadedModel:
        """Itself: it need not be waited for."""
        return self


class LoadingModel:
    """A model that a thread of its own makes ready while the first patient is read: importing torch takes seconds."""

    def __init__(self, bundle: ModelBundle, load: Callable[[], LoadedModel]) -> None:
        self.bundle = bundle
        thread = ThreadPoolExecutor(1)
        self._loaded = thread.submit(load)
        thread.shutdown(wait=False)

    def loaded(self) -> LoadedModel:
        """The model, as soon as it is ready, or the error that it met."""
        return self._loaded.result()


def load_model(bundle: ModelBundle, device: str = "auto") -> LoadedModel:
    """Builds a bundle's network on a device.

    Raises:
        ConfigError: no such device.
        ModelError: the weights cannot be used.
    """
    from contour_ai.inference import autocast_dtype, choose_device

    chosen = choose_device(device)
    return LoadedModel(bundle, bundle.build_network(chosen), chosen, autocast_dtype(chosen))


def predict(
    patient_dir: Path,
    model: ModelBundle | LoadedModel,
    out_dir: Path,
    options: PredictOptions | None = None,
    on_progress: OnProgress = no_progress,
    *,
    taken: Sequence[str] = (),
) -> Prediction:
    """Contours the one CT series in `patient_dir` and writes `out_dir`/<PatientID>/ as a whole, or nothing.

    Args:
        model: a bundle, or a model that `load_model` made ready for several patients.
        taken: names of folders in `out_dir` that other patients of the same run have; a patient whose ID gives the
            same name gets a longer one.

    Raises:
        InputError: the CT cannot be used.
        ConfigError: a ROI the model does not have, an unknown device or profile.
        OutputError: the patient's folder exists, or cannot be written.
        VerificationError: the structure set did not read back as it was meant; nothing is left.
    """
    options = options or PredictOptions()
    patient_dir, out_dir = Path(patient_dir), Path(out_dir)
    bundle = model.bundle if isinstance(model, LoadedModel) else model
    wanted = _wanted(bundle, options.rois)
    load_profile(options.profile)
    clock = _Clock(on_progress, patient_dir.name)
    coming: LoadedModel | LoadingModel = (
        model
        if isinstance(model, LoadedModel)
        else LoadingModel(model, lambda: load_model(bundle, options.device))
    )
    opened = open_patient(
        patient_dir,
        bundle,
        options,
        clock,
        lambda files: _target(files, out_dir, options, taken),
        lambda: coming.loaded().resampler,
    )
    ready = coming.loaded()
    logits = run_network(opened.prepared, ready, options, clock)
    return _finish(opened, logits, ready, wanted, out_dir, options, taken)


@dataclass(frozen=True)
class Outcome:
    """What became of one patient of several: either the prediction or the error."""

    patient_dir: Path
    prediction: Prediction | None = None
    error: Exception | None = None


def predict_patients(
    patient_dirs: Sequence[Path],
    model: LoadedModel | LoadingModel,
    out_dir: Path,
    options: PredictOptions | None = None,
    on_progress: OnProgress = no_progress,
) -> Iterator[Outcome]:
    """Contours several patients as `predict` does, and gives what became of each, in their order.

    While the network runs on one patient, the next is read and prepared and the one before is written: three threads,
    each with its patients in order, so that files and folder names are those of one patient after the other. A patient
    that fails does not stop the others.

    Args:
        on_progress: called from the threads, for up to `IN_FLIGHT` patients by turns.

    Raises:
        ConfigError: a ROI the model does not have, an unknown profile; no such device, of a model that is loading.
        ModelError: a model that is loading cannot be used.
    """
    options = options or PredictOptions()
    wanted = _wanted(model.bundle, options.rois)
    load_profile(options.profile)
    out_dir = Path(out_dir)
    taken: list[str] = []
    claimed: set[str] = set()

    def opened(patient_dir: Path) -> Opened:
        clock = _Clock(on_progress, patient_dir.name)
        return open_patient(
            patient_dir, model.bundle, options, clock, may_be_written, lambda: model.loaded().resampler
        )

    def may_be_written(files: PatientFiles) -> None:
        # A patient with the name of one before gets a longer one, or not if that one fails: known when its turn comes.
        name = folder_name(files).casefold()
        if name not in claimed:
            claimed.add(name)
            _target(files, out_dir, options, ())

    def contoured(before: Future[Opened]) -> tuple[Opened, NDArray[np.float32]]:
        patient = before.result()
        return patient, run_network(patient.prepared, model.loaded(), options, patient.clock)

    def written(before: Future[tuple[Opened, NDArray[np.float32]]]) -> Prediction:
        patient, logits = before.result()
        prediction = _finish(patient, logits, model.loaded(), wanted, out_dir, options, taken)
        taken.append(prediction.folder.name)
        return prediction

    def outcome(patient_dir: Path, future: Future[Prediction]) -> Outcome:
        try:
            return Outcome(patient_dir, future.result())
        except Exception as error:  # noqa: BLE001 - handed to the caller, who goes on with the others
            model.loaded()  # a model that cannot be loaded is no patient's error
            return Outcome(patient_dir, error=error)

    threads = [ThreadPoolExecutor(1) for _ in range(3)]
    waiting: deque[tuple[Path, Future[Prediction]]] = deque()
    try:
        for patient_dir in map(Path, patient_dirs):
            if len(waiting) >= IN_FLIGHT:
                yield outcome(*waiting.popleft())
            first = threads[0].submit(opened, patient_dir)
            second = threads[1].submit(contoured, first)
            waiting.append((patient_dir, threads[2].submit(written, second)))
        while waiting:
            yield outcome(*waiting.popleft())
    finally:
        for thread in threads:
            thread.shutdown(cancel_futures=True)


def folder_name(files: PatientFiles, taken: Sequence[str] = ()) -> str:
    """The patient's ID as a folder name; with a hash of ID and series where another patient has that name."""
    patient_id = files.ct.patient_id
    name = safe_name(patient_id, fallback="unknown_patient")
    if name.casefold() not in {t.casefold() for t in taken}:
        return name
    digest = hashlib.sha256(f"{patient_id}\0{files.ct.series_instance_uid}".encode()).hexdigest()
    return f"{name}-{digest[:8]}"


def _target(files: PatientFiles, out_dir: Path, options: PredictOptions, taken: Sequence[str]) -> Path:
    """The patient's folder, which can be written.

    Raises:
        OutputError: it exists, holds something else, or cannot be written.
    """
    folder = out_dir / folder_name(files, taken)
    _refuse_strangers(folder, files, options.overwrite)
    check_target(folder, overwrite=options.overwrite)
    return folder


def _wanted(bundle: ModelBundle, rois: Sequence[str] | None) -> tuple[str, ...]:
    """The ROIs to write, in the model's order, with the body by rule where the model has no external contour."""
    known = list(bundle.roi_names)
    if not any(roi.interpreted_type == EXTERNAL for roi in bundle.rois):
        known.append(BODY)
    if rois is None:
        return tuple(known)
    by_folded = {name.casefold(): name for name in known}
    unknown = [name for name in rois if name.casefold() not in by_folded]
    if unknown or not rois:
        raise ConfigError(
            "The model does not have these ROIs.",
            where=bundle.name,
            found=", ".join(unknown) or "no ROI named",
            expected=", ".join(known),
        )
    asked = {by_folded[name.casefold()] for name in rois}
    return tuple(name for name in known if name in asked)


def _refuse_strangers(folder: Path, files: PatientFiles, overwrite: bool) -> None:
    """Overwriting is for an earlier prediction of the same patient, never for anything else of that name."""
    if not overwrite or not folder.exists():
        return
    if any(folder.resolve() in path.resolve().parents for path in files.ct.paths):
        raise OutputError(
            "The CT itself lies in the folder that is to be overwritten.",
            where=folder,
            fix="choose another --out",
        )
    try:
        owner = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))["patient_id"]
    except (OSError, ValueError, KeyError, TypeError):
        owner = None
    if owner != files.ct.patient_id:
        raise OutputError(
            "The folder to be overwritten is not an earlier prediction of this patient.",
            where=folder,
            found="no readable summary.json" if owner is None else f"a prediction of patient {owner!r}",
            expected=f"one of patient {files.ct.patient_id!r}",
            fix="move it away, or choose another --out",
        )


# -- stages -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Opened:
    """A patient read and on the model's grid, ready for the network."""

    source: Path
    files: PatientFiles
    ct: CTSeries
    volume: Volume
    body: NDArray[np.bool_]
    prepared: Prepared
    clock: _Clock


def open_patient(
    patient_dir: Path,
    bundle: ModelBundle,
    options: PredictOptions | None = None,
    clock: _Clock | None = None,
    check: Callable[[PatientFiles], object] = lambda files: None,
    resampler: Callable[[], Resampler] = lambda: SPARSE,
) -> Opened:
    """Finds, reads and prepares the one CT series in `patient_dir`.

    Args:
        check: told which files were found, before they are read; may refuse them.
        resampler: of the CT to the model's grid, asked for when the CT is read; may be waited for.

    Raises:
        InputError: the CT cannot be used.
    """
    options = options or PredictOptions()
    clock = clock or _Clock(no_progress, patient_dir.name)
    settings = bundle.preprocess
    with clock.stage("finding") as within:
        files = find_patient(patient_dir, series_uid=options.series_uid, on_progress=within)
        check(files)
    with clock.stage("reading") as within:
        ct = read_ct(files.ct, on_progress=within)
        refuse_missing_slices(ct)
    if ct.volume is None:
        raise InputError("The CT was read without pixels.", where=patient_dir)
    with clock.stage("body"):
        body = body_mask(ct.volume, settings.body_threshold_hu)
    with clock.stage("model"):
        chosen = resampler()
    with clock.stage("preprocessing"):
        prepared = prepare(ct.volume, settings, body=body, resampler=chosen)
    return Opened(patient_dir, files, ct, ct.volume, body, prepared, clock)


def _finish(
    patient: Opened,
    logits: NDArray[np.float32],
    model: LoadedModel,
    wanted: Sequence[str],
    out_dir: Path,
    options: PredictOptions,
    taken: Sequence[str],
) -> Prediction:
    """Everything after the network, into the patient's folder, which is there as a whole or not at all."""
    clock = patient.clock
    with clock.stage("restoring"):
        rois = restore_rois(patient, logits, model.bundle, wanted, model.resampler)
        del logits
    with clock.stage("flags"):
        flags = flags_of(patient, rois, model.bundle)
        rois = [replace(roi, logit=None, left_out=None) for roi in rois]
    folder = out_dir / folder_name(patient.files, taken)
    _refuse_strangers(folder, patient.files, options.overwrite)
    with atomic_folder(folder, overwrite=options.overwrite) as temporary:
        prediction = _write_all(patient, rois, flags, model, options, temporary)
    return _moved(prediction, temporary, folder)


def flags_of(patient: Opened, rois: Sequence[PredictedRoi], bundle: ModelBundle) -> PatientFlags:
    """Reasons to look twice at what was found in a patient."""
    image = ImageEvidence(
        patient.ct.grid,
        patient.body,
        patient.prepared.hu,
        patient.prepared.grid,
        bundle.preprocess.outside_hu,
        patient.volume.hu,
    )
    return find_flags([roi.evidence for roi in rois], image, bundle.ranges)


def _write_all(
    patient: Opened,
    rois: Sequence[PredictedRoi],
    flags: PatientFlags,
    model: LoadedModel,
    options: PredictOptions,
    folder: Path,
) -> Prediction:
    """Structure set, pictures and summary, into `folder`."""
    files, ct, bundle, clock = patient.files, patient.ct, model.bundle, patient.clock
    with clock.stage("structure set"):
        written = _write(rois, flags, ct, bundle, options, folder)
    with clock.stage("reference"):
        reference, reference_path, notes = _reference(files, ct, rois)
    results = tuple(
        measure(
            r,
            ct,
            (reference or {}).get(r.info.name),
            written.names.get(r.info.name, ""),
            flags.rois[r.info.name],
        )
        for r in rois
    )
    with clock.stage("pictures") as within:
        overlays = draw_pictures(
            Scene(patient.volume, patient.body, rois, reference),
            folder,
            overlays=options.overlays,
            title=f"{ct.patient_id or 'unknown patient'}   {bundle.name} {bundle.version}",
            notes=_flags_in_words(flags),
            on_progress=within,
        )
    montage = folder / "montage.png"
    prediction = Prediction(
        ct.patient_id,
        folder,
        written.path,
        montage if montage.exists() else None,
        tuple(overlays),
        results,
        clock.finished(),
        flags.image,
        (*files.problems, *ct.notes, *written.notes, *notes),
        reference_path,
        f"{bundle.name} {bundle.version}",
    )
    context = Context(ct, patient.source, bundle, model.computes_in, asked_for(options, bundle), _software())
    content = summary(prediction, written.sop_instance_uid, context)
    (folder / SUMMARY).write_text(summary_text(content), encoding="utf-8", newline="\n")
    if options.report:
        from contour_ai.pipeline.report import report_of_prediction  # and scipy.spatial, a fifth of a second

        report_of_prediction(folder / REPORT, ct, written.path, reference_path, content)
    return prediction


def run_network(
    prepared: Prepared, model: LoadedModel, options: PredictOptions | None = None, clock: _Clock | None = None
) -> NDArray[np.float32]:
    """Logits (R, k, i, j) on the model's grid."""
    import torch

    from contour_ai.inference import predict_logits

    options = options or PredictOptions()
    clock = clock or _Clock(no_progress, "")
    bundle = model.bundle
    with clock.stage("network") as within:
        logits = predict_logits(
            model.network,
            torch.from_numpy(image_channels(prepared.hu, bundle.preprocess)),
            window_kij=bundle.inference.window_kij,
            overlap=bundle.inference.overlap,
            max_voxels=bundle.inference.max_voxels,
            device=model.device,
            autocast=model.autocast,
            mirror_channels=bundle.mirror_channels if bundle.averages_mirror(options.tta) else None,
            on_progress=within,
        )
    array: NDArray[np.float32] = logits.numpy()
    return array


def restore_rois(
    patient: Opened,
    logits: NDArray[np.float32],
    bundle: ModelBundle,
    wanted: Sequence[str],
    resampler: Resampler = SPARSE,
) -> list[PredictedRoi]:
    """The ROIs asked for on the CT's grid, from the logits (R, k, i, j) on the model's."""
    return [_restored(name, patient, logits, bundle, resampler) for name in wanted]


def _restored(
    name: str, patient: Opened, logits: NDArray[np.float32], bundle: ModelBundle, resampler: Resampler
) -> PredictedRoi:
    """One ROI on the CT's grid: its channel cleaned by the model's rules, or the body by rule."""
    body, grid = patient.body, patient.prepared.grid
    if name not in bundle.roi_names:
        return _of_mask(name, body)
    channel = bundle.roi_names.index(name)
    rule = bundle.postprocess_of(name)
    voxel_cm3 = float(np.prod(grid.spacing_mm)) / 1000
    said = logits[channel]
    logit, threshold = apply_rule(said, rule, voxel_cm3, patient.prepared.body)
    restored = restore_level(logit, grid, patient.ct.grid, threshold=threshold, resampler=resampler)
    found = PredictedRoi(bundle.rois[channel], logit=logit, threshold=threshold)
    if logit is not said:
        sure = said > max(threshold, rule.threshold_logit)
        found = replace(found, left_out=sure & (logit <= threshold) & patient.prepared.body)
    if restored is None:
        return found
    box, level = restored
    # What lies outside the body the network never saw: no contour leaves it.
    outside = ~body[box]
    level[outside] = -np.abs(level[outside])
    inside = level > 0
    return replace(found, box=box, inside=inside, level=level) if inside.any() else found


def _of_mask(name: str, mask: NDArray[np.bool_]) -> PredictedRoi:
    box = bounding_box(mask)
    return PredictedRoi(roi_info(name)) if box is None else PredictedRoi(roi_info(name), box, mask[box])


def _write(
    rois: Sequence[PredictedRoi],
    flags: PatientFlags,
    ct: CTSeries,
    bundle: ModelBundle,
    options: PredictOptions,
    folder: Path,
) -> WrittenStructureSet:
    """The structure set RS.<SOPInstanceUID>.dcm, verified; empty ROIs are left out."""
    profile = load_profile(options.profile)
    found = {r.info.name: r for r in rois if r.box is not None}
    if not found:
        raise InputError(
            "The model found nothing in this CT.",
            where=ct.paths[0].parent,
            expected=", ".join(r.info.name for r in rois),
            fix="check that the scan shows the region the model was trained on: `contour-ai models show`",
        )

    def contours() -> Iterator[RoiContours]:
        for roi in found.values():
            assert roi.box is not None and roi.inside is not None
            description = _described(flags, roi.info.name)
            if roi.level is None:
                yield contours_of_mask(
                    roi.info,
                    roi.inside,
                    box=roi.box,
                    outline=profile.outline,
                    holes=profile.holes,
                    description=description,
                )
            else:
                yield contours_of_level(
                    roi.info, roi.level, roi.box, holes=profile.holes, description=description
                )

    def expected(name: str) -> tuple[tuple[slice, slice, slice], NDArray[np.bool_]]:
        roi = found[name]
        assert roi.box is not None and roi.inside is not None
        return roi.box, roi.inside

    provenance = Provenance(
        label=bundle.name,
        series_description=f"contour-ai {bundle.name}: needs review",
        description=f"Automatic contours of {bundle.name} {bundle.version}. Needs review before use.",
        model=bundle.name,
        model_version=bundle.version,
        weights_sha256=bundle.weights_sha256,
    )
    written = write_structure_set(
        folder / "RS.dcm", contours(), ct, provenance, profile=profile, verify=expected
    )
    final = written.path.with_name(f"RS.{written.sop_instance_uid}.dcm")
    return replace(written, path=written.path.rename(final))


def _reference(
    files: PatientFiles, ct: CTSeries, rois: Sequence[PredictedRoi]
) -> tuple[dict[str, NDArray[np.bool_]] | None, Path | None, list[str]]:
    """The patient's own contours of the predicted ROIs, where there is one structure set with any of them."""
    if len(files.structure_sets) != 1:
        return None, None, []
    path = files.structure_sets[0].path
    notes: list[str] = []
    structure_set = load_structure_set(path)
    partners = _partners(structure_set, rois)
    if not partners:
        return None, None, [f"{path} has none of the model's ROIs: nothing to compare with"]
    structures = read_structures(structure_set, ct, names=list(partners.values()), on_note=notes.append)
    contoured = set(structures.contoured())
    masks = {ours: structures.mask(theirs) for ours, theirs in partners.items() if theirs in contoured}
    return (masks, path, notes) if masks else (None, None, notes)


def _partners(structure_set: StructureSet, rois: Sequence[PredictedRoi]) -> dict[str, str]:
    """{predicted ROI: its name in the file}: the same name, or else the same TG-263 name or the external contour."""
    exact = {name.casefold(): name for name in reversed(structure_set.names)}
    by_tg263 = {tg: name for name in reversed(structure_set.names) if (tg := tg263_name(name))}
    external = [r.name for r in structure_set.rois if r.interpreted_type == EXTERNAL and r.contours]
    partners: dict[str, str] = {}
    for roi in rois:
        name = roi.info.name
        found = exact.get(name.casefold()) or by_tg263.get(tg263_name(name) or name)
        if found is None and roi.info.interpreted_type == EXTERNAL and len(external) == 1:
            found = external[0]
        if found is not None:
            partners[name] = found
    return partners


# -- bookkeeping --------------------------------------------------------------------------------------------


@dataclass
class _Clock:
    """Seconds of every stage; whoever watches sees one bar a patient, with the stage beside it."""

    watcher: OnProgress
    patient: str
    started: float = field(default_factory=time.perf_counter)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[OnProgress]:
        """Times a stage; yields the callback for what it is made of."""
        begun, before = time.perf_counter(), sum(SHARES[done] for done in self.seconds)

        part = 0.0

        def within(event: ProgressEvent) -> None:
            nonlocal part  # a stage may be made of several counts; the bar never goes back
            part = max(part, min(event.done / event.total, 1.0) if event.total else 0.0)
            self.watcher(ProgressEvent(self.patient, before + part * SHARES[name], 100, {"now": name}))

        within(ProgressEvent(name, 0, 1))
        yield within
        self.seconds[name] = time.perf_counter() - begun
        within(ProgressEvent(name, 1, 1))

    def finished(self) -> dict[str, float]:
        """{stage: seconds}, with their total."""
        return {**self.seconds, "total": time.perf_counter() - self.started}


def _moved(prediction: Prediction, temporary: Path, folder: Path) -> Prediction:
    """The same prediction with the paths it has after the folder was moved into place."""

    def at(path: Path) -> Path:
        return folder / path.relative_to(temporary)

    return replace(
        prediction,
        folder=folder,
        structure_set=at(prediction.structure_set),
        montage=None if prediction.montage is None else at(prediction.montage),
        overlays=tuple(at(p) for p in prediction.overlays),
    )


def _described(flags: PatientFlags, roi: str) -> str:
    """A ROI's flags for its ROIDescription, which holds 1024 characters."""
    return "; ".join(flag.reason for flag in flags.rois[roi])


def _flags_in_words(flags: PatientFlags) -> list[str]:
    """All flags as lines for the montage: those of the image first."""
    lines = [f"image: {flag.reason}" for flag in flags.image]
    return lines + [f"{roi}: {flag.reason}" for roi, found in flags.rois.items() for flag in found]


def asked_for(options: PredictOptions, bundle: ModelBundle) -> Mapping[str, Any]:
    """The options that decide what is contoured and under which names, as `summary.json` has them."""
    return {
        "rois": None if options.rois is None else list(options.rois),
        "tta": bundle.averages_mirror(options.tta),
        "profile": str(options.profile),
        "series_uid": options.series_uid,
    }


def _software() -> dict[str, str]:
    import pydicom
    import torch

    return {"torch": torch.__version__, "numpy": np.__version__, "pydicom": pydicom.__version__}
