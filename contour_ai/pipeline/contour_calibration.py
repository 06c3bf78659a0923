"""Fits what verdicts are made by, on patients held back: of contours that anybody drew, and of the model's own."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from contour_ai.bundle import ModelBundle
from contour_ai.mask_agreement import dice
from contour_ai.pipeline.held_back import picked_cases
from contour_ai.pipeline.model_grid import after_rules
from contour_ai.progress import OnProgress, no_progress
from contour_ai.quality.agreement import ModelGridPatient, contour_figures
from contour_ai.quality.figures import RoiFigures, body_of, roi_figures
from contour_ai.quality.flag import EXTERNAL
from contour_ai.quality.own_contours import own_figures
from contour_ai.quality.relations import Relations, measured_pairs, near_pairs, usual_relations
from contour_ai.quality.spoiling import spoil
from contour_ai.quality.verdict_fit import (
    GOOD,
    POOR,
    USUAL_DICE,
    Sample,
    fit_contour_model,
    fit_own_model,
)
from contour_ai.training.cache import Case
from contour_ai.volume import roi_voxels

if TYPE_CHECKING:
    from torch import nn

    from contour_ai.second_reading import SecondNetwork

Bool = NDArray[np.bool_]


@dataclass(frozen=True, eq=False, kw_only=True)
class Seen:
    """A patient held back, with what the networks find in it.

    Args:
        contours: {ROI: clinical mask (k, i, j)}, of the organs that are contoured.
        logits: {ROI: (logits, logit of the contour)} of the model, with its rules.
        scene: image, body, contours of the model and of the second reader.
        figures: by ROI, of what the model contours.
    """

    patient: str
    contours: Mapping[str, Bool]
    logits: Mapping[str, tuple[NDArray[np.float32], float]]
    scene: ModelGridPatient
    figures: Mapping[str, RoiFigures]


def fitted_contour_models(
    bundle: ModelBundle,
    network: nn.Module,
    held_back: Sequence[Case],
    device: str = "auto",
    on_progress: OnProgress = no_progress,
    *,
    second: SecondNetwork | None = None,
    seconds: float = float("inf"),
) -> ModelBundle:
    """The bundle with `contour_model` and `own_contour_model`, from patients that it was not trained on.

    Where there are too few of them, or of poor contours, a model that the bundle has stays.

    Args:
        network: with the temperatures of the bundle.
        second: the second reader that the bundle describes.
        seconds: after so long no other patient is begun.
    """
    from contour_ai.inference import Predictor, autocast_dtype, choose_device

    chosen = choose_device(device)
    predictor = Predictor.of(bundle, network, chosen, autocast_dtype(chosen))
    samples: list[Sample] = []
    seen: list[Seen] = []
    for case in picked_cases(held_back, "spoiling contours", on_progress, seconds):
        patient = seen_in(case, bundle, predictor.logits(case.hu), second)
        samples += samples_of(patient, seen[-1] if seen else None)
        seen.append(patient)
    own = own_samples(seen, bundle)
    model = fit_own_model([one.sample for one in own.scored])
    if model is not None:
        model = replace(model, relations=own.relations)
    return replace(
        bundle,
        contour_model=fit_contour_model(samples) or bundle.contour_model,
        own_contour_model=model or bundle.own_contour_model,
    )


def seen_in(
    case: Case, bundle: ModelBundle, logits: NDArray[np.float32], second: SecondNetwork | None = None
) -> Seen:
    """A patient with what the networks find in it; `logits` (R, k, i, j) are those of the model."""
    hu, bits = np.asarray(case.hu), np.asarray(case.bits)
    body = body_of(hu, bundle.preprocess.outside_hu, case.spacing_mm_kij)
    ruled = after_rules(bundle, logits, hu, body.mask, case.spacing_mm_kij)
    predicted = {name: (logit > level) & body.mask for name, (logit, level) in ruled.items()}
    organs = {info.name for info in bundle.rois if info.interpreted_type != EXTERNAL}
    contours = {
        roi: roi_voxels(bits, r) for r, roi in enumerate(case.rois) if roi in organs and case.presence[r]
    }
    contours = {roi: mask for roi, mask in contours.items() if mask.any()}
    found = None if second is None else second.masks(hu, case.spacing_mm_kij, body.mask)
    figures = {name: roi_figures(predicted[name], hu, body) for name in organs}
    return Seen(
        figures={name: known for name, known in figures.items() if known is not None},
        patient=case.patient_id,
        contours=contours,
        logits={name: ruled[name] for name in organs},
        scene=ModelGridPatient(hu=hu, body=body, predicted=predicted, second=found),
    )


def samples_of(seen: Seen, other: Seen | None = None) -> Iterator[Sample]:
    """The figures of a patient's contours, as they are and with one fault after the other; `other` is another one."""
    spacing = seen.scene.body.spacing_mm
    others = None if other is None else other.contours
    rng = np.random.default_rng(zlib.crc32(seen.patient.encode()))
    for roi, mask in seen.contours.items():
        spoiled = (
            (one.kind, one.detail, one.mask) for one in spoil(roi, seen.contours, spacing, rng, others)
        )
        for kind, detail, contour in [(GOOD, "", mask), *spoiled]:
            figures = contour_figures(roi, contour, seen.scene)
            if figures is not None:
                yield Sample(patient=seen.patient, roi=roi, kind=kind, detail=detail, figures=figures)


class ScoredSample(NamedTuple):
    """A contour of the model, and its Dice against the clinical one."""

    sample: Sample
    dice: float


class OwnSamples(NamedTuple):
    """The figures of the model's own contours, and what is usual between organs."""

    scored: list[ScoredSample]
    relations: Relations | None


def own_samples(seen: Sequence[Seen], bundle: ModelBundle) -> OwnSamples:
    """The figures of the model's own contours.

    Those with a Dice below 0.75 are poor. What is usual between organs is, for each patient, that of the others.
    """
    pairs = near_pairs([(patient.contours, patient.scene.body.spacing_mm) for patient in seen])
    related = [measured_pairs(pairs, p.contours, p.scene.body.spacing_mm) for p in seen]
    found = []
    for n, patient in enumerate(seen):
        relations = usual_relations([*related[:n], *related[n + 1 :]])
        for roi, contour in patient.contours.items():
            figures = own_figures(
                roi, *patient.logits[roi], patient.scene, patient.figures, bundle.ranges, relations
            )
            if figures is not None:
                agreed = dice(patient.scene.predicted[roi], contour, neither=0.0)
                kind = GOOD if agreed >= USUAL_DICE else POOR
                sample = Sample(patient=patient.patient, roi=roi, kind=kind, detail="", figures=figures)
                found.append(ScoredSample(sample, agreed))
    return OwnSamples(found, usual_relations(related))
