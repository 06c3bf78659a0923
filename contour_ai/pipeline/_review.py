"""`review`: a verdict on the contours of a structure set, whoever drew them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contour_ai import __version__
from contour_ai.box import bounding_box
from contour_ai.bundle import ModelBundle
from contour_ai.dicom.frames import drawn_on
from contour_ai.dicom.notes import prefixed
from contour_ai.dicom.rtstruct_read import StructureSet, iter_masks, load_structure_set
from contour_ai.dicom.scan import PatientFiles, find_patient
from contour_ai.dicom.scan_facts import facts_of_scan
from contour_ai.dicom.structure_set_choice import choose_structure_set
from contour_ai.errors import InputError
from contour_ai.files import atomic_folder, private_file, write_text
from contour_ai.pipeline._predict.contouring import (
    header_flags,
    read_again,
    restore_rois,
    run_network,
)
from contour_ai.pipeline._predict.model import LoadedModel, LoadingModel, bundle_of, load_model
from contour_ai.pipeline._predict.opening import Opened, open_patient
from contour_ai.pipeline._predict.options import PredictOptions
from contour_ai.pipeline._predict.orientation import SUSPICIOUS, orientation_finding
from contour_ai.pipeline._predict.stages import StageClock
from contour_ai.pipeline._predict.target import name_of_folder
from contour_ai.pipeline.model_grid import after_rules
from contour_ai.pipeline.places import without_folders
from contour_ai.pipeline.result import PredictedRoi
from contour_ai.pipeline.review_pictures import ReviewScene, finding_pictures
from contour_ai.pipeline.roi_matching import match_in
from contour_ai.pipeline.summary import summary_text
from contour_ai.preprocess import resample_structures
from contour_ai.preprocess.axes import patient_order
from contour_ai.progress import OnProgress, no_progress
from contour_ai.quality.agreement import ModelGridPatient
from contour_ai.quality.figures import body_of
from contour_ai.quality.flag import EXTERNAL, Evidence, Flag, ImageEvidence
from contour_ai.quality.flags import find_flags
from contour_ai.quality.judging import INFORMATION, MOST_STOPPED_SHARE
from contour_ai.quality.reviewing import Contoured, Judge, duplicates, judge_known, judge_unknown
from contour_ai.quality.suitability import organs_of_other_sex
from contour_ai.quality.verdict import PatientVerdict, RoiVerdict, worst
from contour_ai.quality.verdict_record import summary_flags
from contour_ai.render import CAUTION
from contour_ai.report.review import REVIEW_PAGE, FindingPicture, Pictures, write_review_page
from contour_ai.report.review_record import REVIEW, ReviewedRoi, ReviewRecord
from contour_ai.volume import Structures

Bool = NDArray[np.bool_]
SURE = np.float32(20.0)
"""Logit of a voxel inside a contour: a person does not say how sure they are."""


@dataclass(frozen=True, kw_only=True)
class ReviewOptions:
    """What `review` can be told besides patient, model and output folder."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    rtstruct: Path | None = None
    """The structure set to review, where there are several or it lies elsewhere."""
    structure_set: str = "only"
    """Which of several structure sets is reviewed: newest, approved, only, or a pattern of labels."""
    series_uid: str | None = None
    """SeriesInstanceUID of the CT to take where the folder has several."""
    acquisition: int | None = None
    """The AcquisitionNumber to take where several acquisitions overlap in the series; None refuses such a series."""
    overwrite: bool = False
    """Replace an earlier review of the same patient."""
    taken: tuple[str, ...] = ()
    """Folders that patients before have in the same run: another one with such an ID gets a longer name."""


@dataclass(frozen=True, kw_only=True)
class Review:
    """What `review` found in one patient."""

    patient_id: str
    """PatientID of the CT; "" where it has none."""
    verdict: PatientVerdict
    """On the patient and on every ROI, by its name in the structure set."""
    record: ReviewRecord
    """The content of `review.json`."""
    folder: Path | None = None
    """Where it was written; None where nothing was."""
    notes: tuple[str, ...] = field(default=())
    """What was unusual in CT and structure set, in sentences."""
    worst: Mapping[str, FindingPicture] = field(default_factory=dict)
    """{ROI: the first picture of the patient's page}, for the page of many patients; empty where nothing was
    written."""


def review(
    patient: str | Path,
    model: str | Path | ModelBundle | LoadedModel | LoadingModel | None = None,
    out_dir: str | Path | None = None,
    options: ReviewOptions | None = None,
    on_progress: OnProgress = no_progress,
) -> Review:
    """Judges the contours of a patient's structure set, and changes none.

    Args:
        patient: folder with the CT, and with the structure set unless the options name one.
        model: name or folder of a model, a bundle, or a loaded one for several patients; None for the default model.
        out_dir: `review.json` and `review.html` go to `out_dir`/<PatientID>/; None writes nothing.
        options: device, which structure set and so on; None for the defaults.
        on_progress: told how far each stage has come.

    Returns:
        The verdict on the patient and on every ROI, with its findings.

    Raises:
        InputError: the CT cannot be used, or there is no structure set of it, or several to choose from.
        ModelError: there is no such model, or it cannot be used.
        OutputError: the patient's folder exists, or cannot be written.
    """
    options, patient = options or ReviewOptions(), Path(patient)
    ready = model if isinstance(model, (LoadedModel, LoadingModel)) else None
    if ready is None:
        assert not isinstance(model, (LoadedModel, LoadingModel))
        bundle = bundle_of(model)
        ready = LoadingModel(bundle, lambda: load_model(bundle, options.device))
    files = files_to_review(patient, options)
    clock = StageClock(watcher=on_progress, patient=patient.name)
    told = PredictOptions(series_uid=options.series_uid, acquisition=options.acquisition)
    opened = open_patient(files, ready.bundle, told, clock, resampler=lambda: ready.loaded().resampler)
    notes: list[str] = [*files.problems, *opened.ct.notes]
    structure_set = drawn_on(load_structure_set(files.structure_sets[0].path), opened.ct)
    notes += [prefixed(note, structure_set.path.name) for note in structure_set.notes]
    rois = [
        Contoured(roi.name, mask, roi.interpreted_type)
        for roi, (_, mask) in zip(
            structure_set.rois, iter_masks(structure_set, opened.ct, on_note=notes.append), strict=True
        )
    ]
    if not rois:
        raise InputError("The structure set has no ROI.", where=structure_set.path)
    known = known_names(structure_set, ready.bundle, notes)
    verdict, logits = _judge(opened, rois, known, ready, clock)
    record = _record(opened, structure_set, rois, known, verdict, ready.bundle, notes)
    folder, pictures = None, {}
    if out_dir is not None:
        predicted: Mapping[str, PredictedRoi] = {}
        if logits is not None:
            found = restore_rois(opened, logits, ready.bundle, list(known.values()), ready.loaded().resampler)
            predicted = dict(zip(known, found, strict=True))
        scene = ReviewScene(
            volume=opened.volume,
            contours={roi.name: roi.mask for roi in rois},
            predicted=predicted,
            known=known,
        )
        pictures = finding_pictures(scene, verdict)
        folder = _write(record, pictures, Path(out_dir), patient, options)
    return Review(
        patient_id=opened.ct.patient_id,
        verdict=verdict,
        record=record,
        folder=folder,
        notes=tuple(notes),
        worst={name: pictures[name] for name in list(pictures)[:1]},
    )


def files_to_review(patient: Path, options: ReviewOptions) -> PatientFiles:
    """The CT of a patient and the one structure set to review.

    Raises:
        InputError: there is none, or there are several to choose from.
    """
    files = find_patient(patient, series_uid=options.series_uid, rtstruct=options.rtstruct, keep_all=True)
    if len(files.structure_sets) > 1:
        choice = choose_structure_set(files.structure_sets, options.structure_set)
        if len(choice.taken) != 1:
            raise InputError(
                "There are several structure sets of this CT; which one is to be reviewed?",
                where=patient,
                found=choice.reason or "; ".join(map(str, files.structure_sets)),
                fix="choose with --structure-set newest, approved or 'LABEL*', or name one with --rtstruct FILE",
            )
        files = choice.of(files)
    if not files.structure_sets:
        raise InputError(
            "There is no structure set to review.",
            where=patient,
            found="; ".join(files.problems) or "a CT alone",
            expected="an RTSTRUCT drawn on this CT",
            fix="put it into the folder, or name it with --rtstruct FILE",
        )
    return files


def known_names(structure_set: StructureSet, bundle: ModelBundle, notes: list[str]) -> dict[str, str]:
    """{name in the structure set: the model's name}, of the organs that the model knows."""
    known: dict[str, str] = {}
    for info in bundle.rois:
        if info.interpreted_type == EXTERNAL:
            continue
        match = match_in(info.name, structure_set)
        if match.remark:
            notes.append(f"{match.remark} in {structure_set.path.name}")
        if match.name is not None:
            known[match.name] = info.name
    return known


def _judge(
    opened: Opened,
    rois: Sequence[Contoured],
    known: Mapping[str, str],
    model: LoadedModel | LoadingModel,
    clock: StageClock,
) -> tuple[PatientVerdict, NDArray[np.float32] | None]:
    """The verdict, and what the network says where it was asked."""
    prepared, bundle = opened.prepared, model.bundle
    outside = bundle.preprocess.outside_hu
    image = ImageEvidence(
        grid=opened.ct.grid,
        body=opened.body,
        hu=prepared.hu,
        model_grid=prepared.grid,
        outside_hu=outside,
        ct_hu=opened.volume.hu,
    )
    verdicts: dict[str, RoiVerdict] = {}
    lies: Flag | None = None
    logits: NDArray[np.float32] | None = None
    if known:
        loaded = model.loaded()
        logits = run_network(prepared, loaded, None, clock)
        scene = scene_of(opened, logits, bundle, read_again(prepared, loaded, clock))
        verdicts = judge_contours(rois, known, Judge(scene, image, bundle.contour_model), bundle)
        doubtful = [name for name in known if verdicts[name].verdict != "clear"]
        if len(doubtful) >= SUSPICIOUS * len(known):
            lies = orientation_finding(opened, logits, loaded)
    order, signs = patient_order(opened.ct.grid)
    columns = opened.body.sum(axis=(0, 1))
    middle = float(columns @ np.arange(len(columns)) / max(1, columns.sum())) if order[2] == 2 else None
    for roi in rois:
        if roi.name not in verdicts:
            verdicts[roi.name] = judge_unknown(roi, image, middle, signs[2] > 0)
    for name, flag in duplicates(rois).items():
        mine = verdicts[name]
        verdicts[name] = replace(mine, verdict=worst([mine.verdict, "look"]), findings=(*mine.findings, flag))
    contoured = [roi.name for roi in rois if roi.mask.any()]
    for name, flag in organs_of_other_sex(facts_of_scan(opened.ct.header), contoured).items():
        mine = verdicts[name]  # a person drew it, who may know better than the header
        verdicts[name] = replace(mine, verdict=worst([mine.verdict, "look"]), findings=(flag, *mine.findings))
    found = _of_patient({roi.name: verdicts[roi.name] for roi in rois}, known)
    unlike = header_flags(opened, bundle) if known else []
    if any(flag.code not in INFORMATION for flag in unlike):
        found = replace(found, verdict=worst([found.verdict, "look"]))
    found = replace(found, findings=(*found.findings, *unlike))
    if lies is not None:
        found = replace(found, verdict="stop", findings=(lies, *found.findings))
    return found, logits


def _of_patient(verdicts: dict[str, RoiVerdict], known: Mapping[str, str]) -> PatientVerdict:
    """`stop` where most of the organs that the model knows are; `look` where any ROI is not clear."""
    stopped = [name for name in known if verdicts[name].verdict == "stop"]
    findings: list[Flag] = []
    verdict = worst(["clear" if v.verdict == "clear" else "look" for v in verdicts.values()])
    if len(stopped) > MOST_STOPPED_SHARE * len(known):
        verdict = "stop"
        reason = (
            f"{len(stopped)} of the {len(known)} organs that the model knows are grossly wrong: "
            f"{', '.join(stopped)}; the contours may belong to another CT"
        )
        findings.append(
            Flag(
                code="other_region",
                reason=reason,
                value=round(len(stopped) / len(known), 4),
                low=None,
                high=MOST_STOPPED_SHARE,
            )
        )
    return PatientVerdict(verdict=verdict, findings=tuple(findings), rois=verdicts)


def scene_of(
    opened: Opened,
    logits: NDArray[np.float32],
    bundle: ModelBundle,
    second: Mapping[str, Bool] | None,
) -> ModelGridPatient:
    """A patient on the model's grid with what both networks find; `logits` (R, k, i, j) are the model's."""
    prepared = opened.prepared
    ruled = after_rules(bundle, logits, prepared.hu, prepared.body, prepared.grid.spacing_mm)
    found = {name: (logit > level) & prepared.body for name, (logit, level) in ruled.items()}
    body = body_of(prepared.hu, bundle.preprocess.outside_hu, prepared.grid.spacing_mm)
    return ModelGridPatient(hu=prepared.hu, body=body, predicted=found, second=second)


def judge_contours(
    rois: Sequence[Contoured], known: Mapping[str, str], judge: Judge, bundle: ModelBundle
) -> dict[str, RoiVerdict]:
    """The verdicts on those contours that the model knows, by their names; `known` has the model's."""
    image, infos = judge.image, {info.name: info for info in bundle.rois}
    mine = [roi for roi in rois if roi.name in known]
    on_model: dict[str, Bool] = {}
    evidence = []
    for roi in mine:
        box, name = bounding_box(roi.mask), known[roi.name]
        structures = Structures.from_masks({name: roi.mask}, image.grid)
        on_model[roi.name] = resample_structures(structures, image.model_grid).mask(name)
        logit = np.where(on_model[roi.name], SURE, -SURE)
        evidence.append(
            Evidence(info=infos[name])
            if box is None
            else Evidence(info=infos[name], box=box, inside=roi.mask[box], logit=logit)
        )
    flags = find_flags(evidence, image, bundle.ranges).rois
    ranges = {} if bundle.ranges is None else bundle.ranges.rois
    return {
        roi.name: judge_known(
            roi,
            known[roi.name],
            on_model[roi.name],
            judge,
            ranges.get(known[roi.name]),
            flags[known[roi.name]],
        )
        for roi in mine
    }


def _record(
    opened: Opened,
    structure_set: StructureSet,
    rois: Sequence[Contoured],
    known: Mapping[str, str],
    verdict: PatientVerdict,
    bundle: ModelBundle,
    notes: Sequence[str],
) -> ReviewRecord:
    ct = opened.ct
    reviewed = {}
    for roi in rois:
        held = np.flatnonzero(roi.mask.any(axis=(1, 2)))
        slices = (int(held[0]) + 1, int(held[-1]) + 1) if held.size else None
        volume = float((roi.mask.sum(axis=(1, 2)) * ct.grid.voxel_volumes_cm3).sum())
        reviewed[roi.name] = ReviewedRoi.of(verdict.rois[roi.name], known.get(roi.name), volume, slices)
    organs = [info.name for info in bundle.rois if info.interpreted_type != EXTERNAL]
    return ReviewRecord(
        verdict=verdict.verdict,
        findings=summary_flags(verdict.findings),
        rois=reviewed,
        caution=CAUTION,
        contour_ai=__version__,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        patient_id=ct.patient_id,
        series_instance_uid=ct.series_instance_uid,
        structure_set=structure_set.path.name,
        sop_instance_uid=structure_set.sop_instance_uid,
        model=f"{bundle.name} {bundle.version}",
        limits="general" if bundle.contour_model is None else "calibrated",
        not_in_file=tuple(name for name in organs if name not in known.values()),
        notes=tuple(without_folders(list(notes), [opened.source])),
    )


def _write(
    record: ReviewRecord, pictures: Pictures, out_dir: Path, patient: Path, options: ReviewOptions
) -> Path:
    folder = out_dir / name_of_folder(record.patient_id, record.series_instance_uid, options.taken)
    inputs = [patient] if options.rtstruct is None else [patient, options.rtstruct]
    with atomic_folder(folder, overwrite=options.overwrite, inputs=inputs) as temporary:
        write_text(private_file(temporary / REVIEW), summary_text(record.to_json()))
        page = private_file(temporary / REVIEW_PAGE)
        write_review_page(page, [record], pictures=[pictures])
    return folder
