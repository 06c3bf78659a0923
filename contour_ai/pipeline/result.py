"""What a prediction found: figures and flags of every ROI, and the summary that is written beside the structure set."""

from __future__ import annotations

import math
import platform
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contour_ai import __version__
from contour_ai.box import Box
from contour_ai.bundle import ModelBundle
from contour_ai.bundle.commissioned_record import CommissionedRecord
from contour_ai.dicom.ct import CTSeries
from contour_ai.dicom.rtstruct_write import WrittenStructureSet
from contour_ai.errors import NoImageError
from contour_ai.mask_agreement import dice_of_sizes
from contour_ai.pipeline.places import without_folders
from contour_ai.pipeline.summary import (
    Summary,
    SummaryCommissioned,
    SummaryFile,
    SummaryInput,
    SummaryModel,
    SummaryRoi,
    SummaryScores,
)
from contour_ai.quality.figures import ct_figures
from contour_ai.quality.flag import EXTERNAL, NOTHING_OUTSIDE, Evidence, Flag, RemovedOutside
from contour_ai.quality.verdict import RoiVerdict, Verdict
from contour_ai.quality.verdict_record import summary_flags
from contour_ai.render import CAUTION
from contour_ai.structures import RoiInfo


@dataclass(frozen=True, eq=False, kw_only=True)
class PredictedRoi:
    """One ROI on the CT's grid.

    Args:
        info: name, colour, type.
        box: where `inside` lies on the CT's grid; None where the ROI is empty.
        inside: mask (k, i, j) in the box.
        level: the field whose zero level is the contour, in the same box; None where the mask is all there is.
        logit: (k, i, j) on the model's grid, what the model's rules refuse pushed below `threshold`; None for a ROI by
            rule, and once the flags are found.
        threshold: the logit of its surface.
        left_out: (k, i, j) on the model's grid, of what the network was sure of and a rule refused; None for nothing,
            and once the flags are found.
        outside: what of the contour lay outside the body and was removed.
    """

    info: RoiInfo
    box: Box | None = None
    inside: NDArray[np.bool_] | None = None
    level: NDArray[np.float32] | None = None
    logit: NDArray[np.float32] | None = None
    threshold: float = 0.0
    left_out: NDArray[np.bool_] | None = None
    outside: RemovedOutside = NOTHING_OUTSIDE

    @property
    def evidence(self) -> Evidence:
        """What the flags are found from."""
        return Evidence(
            info=self.info,
            box=self.box,
            inside=self.inside,
            logit=self.logit,
            threshold=self.threshold,
            left_out=self.left_out,
            outside=self.outside,
        )


@dataclass(frozen=True, kw_only=True)
class RoiResult:
    """Figures of one predicted ROI.

    Args:
        name: the model's name for it.
        interpreted_type: RTROIInterpretedType, as ORGAN.
        written_name: its name in the structure set, "" where it is empty or nothing was written.
        volume_cm3: of the voxels inside.
        slice_numbers: first and last slice with a contour, counted from 1 along the slice normal; None where empty.
        centroid_lps_mm: centre of gravity in patient coordinates; None where empty.
        mean_hu: of the voxels inside, those beyond -1000 and 1500 HU counted as these, so that one implant does not
            decide; None where empty.
        dice: against the patient's own structure set; None where that has no such ROI.
        flags: quality findings.
        probability: at which the contour runs; None where empty, or drawn by rule.
        verdict: None where it was not judged. A ROI that is `stop` is neither written nor in `Prediction.masks`.
        findings: why, the most important first.
    """

    name: str
    interpreted_type: str
    written_name: str = ""
    volume_cm3: float = 0.0
    slice_numbers: tuple[int, int] | None = None
    centroid_lps_mm: tuple[float, float, float] | None = None
    mean_hu: float | None = None
    dice: float | None = None
    flags: tuple[Flag, ...] = ()
    probability: float | None = None
    verdict: Verdict | None = None
    findings: tuple[Flag, ...] = ()


@dataclass(frozen=True, eq=False)
class InMemory:
    """The CT of a prediction, and the ROIs on its grid."""

    ct: CTSeries
    rois: tuple[PredictedRoi, ...]


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What `predict` found in one patient: in memory, and in a folder where one was given."""

    patient_id: str
    """PatientID of the CT; "" where it has none."""
    model: str
    """Name and version."""
    rois: tuple[RoiResult, ...]
    """One for each ROI asked for, in the model's order; those that the model did not find, too."""
    path: Path | None = None
    """The structure set; None where none was written."""
    folder: Path | None = None
    """What was written about the patient; None where nothing was."""
    montage: Path | None = None
    """The picture of several slices on one page; None where nothing was written."""
    overlays: tuple[Path, ...] = ()
    """One picture for each slice, in the order of the slices; empty where none were drawn."""
    timings_s: Mapping[str, float] = field(default_factory=dict)
    """{stage: seconds} (finding, reading, preprocessing, network and so on) in the order in which they ran, and
    `total`."""
    flags: tuple[Flag, ...] = ()
    """Quality findings on the image, which concern all ROIs: one unlike those of the training."""
    notes: tuple[str, ...] = ()
    """What was unusual in the input and the output, in sentences."""
    reference: Path | None = None
    """The structure set beside the CT that `dice` compares with."""
    verdict: Verdict | None = None
    """On the patient; None where it was not judged. No structure set is written of one that is `stop`."""
    findings: tuple[Flag, ...] = ()
    """Why, as far as it concerns the patient as a whole, the most important first."""
    in_memory: InMemory | None = field(default=None, repr=False, compare=False)
    """What `ct` and `masks` are made from; None after `without_image`."""

    @property
    def ct(self) -> CTSeries:
        """The CT that was contoured, with `grid` and `hu`.

        Raises:
            NoImageError: the prediction was kept without its image (`without_image`).
        """
        return self._held.ct

    @cached_property
    def masks(self) -> dict[str, NDArray[np.bool_]]:
        """{ROI: mask (k, i, j) on the CT's grid}, k ascending along the slice normal.

        ROIs that were not found, and those whose verdict is `stop`, are left out.

        Raises:
            NoImageError: the prediction was kept without its image (`without_image`).
        """
        found = {}
        stopped = {roi.name for roi in self.rois if roi.verdict == "stop"}
        for roi in self._held.rois:
            if roi.box is None or roi.inside is None or roi.info.name in stopped:
                continue
            mask = np.zeros(self.ct.grid.shape_kij, bool)
            mask[roi.box] = roi.inside
            found[roi.info.name] = mask
        return found

    @property
    def dice(self) -> dict[str, float]:
        """{ROI: Dice coefficient, 0 to 1, against the patient's own structure set}, of the ROIs that it has."""
        return {roi.name: roi.dice for roi in self.rois if roi.dice is not None}

    @property
    def mean_dice(self) -> float | None:
        """Mean over the ROIs that have a Dice, the body's outline left out; None where there is none."""
        return mean_dice(self.rois)

    def without_image(self) -> Prediction:
        """The same without `ct` and `masks`, which hold the memory of a whole CT."""
        return replace(self, in_memory=None)

    @property
    def _held(self) -> InMemory:
        if self.in_memory is None:
            raise NoImageError(
                "This prediction was kept without its image: it has no ct and no masks.",
                where=f"patient {self.patient_id}",
                fix="read them before `without_image`, or from the files in `folder`; or predict the patient again",
            )
        return self.in_memory


def mean_dice(rois: tuple[RoiResult, ...]) -> float | None:
    """Mean Dice of the organs; None where there is nothing to compare with."""
    scores = [r.dice for r in rois if r.dice is not None and r.interpreted_type != EXTERNAL]
    return statistics.fmean(scores) if scores else None


# -- figures ------------------------------------------------------------------------------------------------


def measure(
    roi: PredictedRoi,
    ct: CTSeries,
    reference: NDArray[np.bool_] | None,
    written_name: str,
    flags: tuple[Flag, ...] = (),
    verdict: RoiVerdict | None = None,
) -> RoiResult:
    """Volume, position and, where there is a reference mask, Dice of one ROI; flags and verdict are taken along."""
    result = _measured(roi, ct, reference, written_name, flags)
    return result if verdict is None else replace(result, verdict=verdict.verdict, findings=verdict.findings)


def _measured(
    roi: PredictedRoi,
    ct: CTSeries,
    reference: NDArray[np.bool_] | None,
    written_name: str,
    flags: tuple[Flag, ...],
) -> RoiResult:
    name, kind = roi.info.name, roi.info.interpreted_type
    hu = None if ct.volume is None else ct.volume.hu
    figures = None
    if roi.box is not None and roi.inside is not None:
        figures = ct_figures(roi.inside, roi.box, ct.grid, hu)
    if roi.box is None or roi.inside is None or figures is None:
        dice = None if reference is None or not reference.any() else 0.0
        return RoiResult(name=name, interpreted_type=kind, written_name=written_name, dice=dice, flags=flags)
    occupied = np.flatnonzero(roi.inside.any(axis=(1, 2))) + roi.box[0].start
    return RoiResult(
        name=name,
        interpreted_type=kind,
        written_name=written_name,
        volume_cm3=figures.volume_cm3,
        slice_numbers=(int(occupied[0]) + 1, int(occupied[-1]) + 1),
        centroid_lps_mm=figures.centre_lps,
        mean_hu=figures.mean_hu,
        dice=None if reference is None else dice_in_box(roi.inside, roi.box, reference),
        flags=flags,
        probability=None if roi.level is None else 1 / (1 + math.exp(-roi.threshold)),
    )


def dice_in_box(inside: NDArray[np.bool_], box: Box, reference: NDArray[np.bool_]) -> float:
    """2 |A and B| / (|A| + |B|) of a mask in its box and one on the whole grid; at least one is not empty."""
    both = int(np.count_nonzero(inside & reference[box]))
    sizes = int(np.count_nonzero(inside)), int(np.count_nonzero(reference))
    return dice_of_sizes(both, *sizes, neither=math.nan)


# -- summary ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class Context:
    """What the summary says besides the ROIs."""

    ct: CTSeries
    source: Path
    bundle: ModelBundle
    device: str
    options: Mapping[str, object]
    software: Mapping[str, str] = field(default_factory=dict)
    images_sha256: str = ""
    """Of the CT's files, whatever their names and order."""
    commissioned: CommissionedRecord | None = None
    """The model's record on this machine."""


def summary(prediction: Prediction, written: WrittenStructureSet | None, context: Context) -> Summary:
    """What `summary.json` says of a prediction; `written` is None where no structure set was."""
    ct, bundle = context.ct, context.bundle
    return Summary(
        caution=CAUTION,
        contour_ai=__version__,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        patient_id=prediction.patient_id,
        input=SummaryInput(
            path=context.source.resolve().name,
            series_instance_uid=ct.series_instance_uid,
            images_sha256=context.images_sha256,
            slices_rows_columns=ct.grid.shape_kij,
            spacing_mm=_rounded(ct.grid.spacing_mm, 4),
            structure_set=None
            if prediction.reference is None
            else _below(prediction.reference, context.source),
            notes=tuple(without_folders(list(prediction.notes), [context.source])),
        ),
        model=SummaryModel(
            name=bundle.name,
            version=bundle.version,
            kind=bundle.kind,
            folder=bundle.folder.name,
            weights_sha256=bundle.weights_sha256,
            contouring_sha256=bundle.inference_fingerprint,
            ensemble_of=bundle.provenance.ensemble_of,
            commissioned=_commissioned(context.commissioned),
        ),
        software={
            "python": platform.python_version(),
            "platform": platform.platform(),
            **context.software,
        },
        device=context.device,
        options=dict(context.options),
        structure_set=SummaryFile()
        if written is None
        else SummaryFile(file=written.path.name, sop_instance_uid=written.sop_instance_uid),
        verdict=prediction.verdict or "",
        findings=summary_flags(prediction.findings),
        flags=summary_flags(prediction.flags),
        compared_with_training_patients=0 if bundle.ranges is None else bundle.ranges.patients,
        rois={roi.name: _roi_summary(roi) for roi in prediction.rois},
        scores=_scores(prediction),
        timings_s={stage: round(seconds, 3) for stage, seconds in prediction.timings_s.items()},
    )


def _commissioned(record: CommissionedRecord | None) -> SummaryCommissioned | None:
    if record is None:
        return None
    return SummaryCommissioned(
        signed_by=record.signed_by, date=record.date, patients=len(record.series), limits=record.limits
    )


def _rounded(values: tuple[float, float, float], decimals: int) -> tuple[float, float, float]:
    a, b, c = (round(value, decimals) for value in values)
    return a, b, c


def _below(path: Path, folder: Path) -> str:
    """A path as seen from the patient's folder; of one elsewhere the file's name."""
    path, folder = path.resolve(), folder.resolve()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else path.name


def _roi_summary(roi: RoiResult) -> SummaryRoi:
    return SummaryRoi(
        name_in_file=roi.written_name or None,
        type=roi.interpreted_type,
        volume_cm3=round(roi.volume_cm3, 3),
        slices_from_1=roi.slice_numbers,
        centroid_lps_mm=None if roi.centroid_lps_mm is None else _rounded(roi.centroid_lps_mm, 2),
        mean_hu=None if roi.mean_hu is None else round(roi.mean_hu, 1),
        contour_at_probability=None if roi.probability is None else round(roi.probability, 3),
        flags=summary_flags(roi.flags),
        verdict=roi.verdict or "",
        findings=summary_flags(roi.findings),
    )


def _scores(prediction: Prediction) -> SummaryScores | None:
    if prediction.reference is None:
        return None
    mean = prediction.mean_dice
    return SummaryScores(
        dice={roi.name: round(roi.dice, 4) for roi in prediction.rois if roi.dice is not None},
        mean_dice_of_organs=None if mean is None else round(mean, 4),
    )
