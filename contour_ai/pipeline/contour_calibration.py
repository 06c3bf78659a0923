"""Fits what `review` judges contours by, on patients held back from the training and faults in their contours."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from contour_ai.bundle import ModelBundle
from contour_ai.pipeline.held_back import picked_cases
from contour_ai.postprocess import apply_rule
from contour_ai.progress import OnProgress, no_progress
from contour_ai.quality.agreement import ModelGridPatient, contour_figures
from contour_ai.quality.contour_verdict import ContourModel
from contour_ai.quality.figures import body_of
from contour_ai.quality.flag import EXTERNAL
from contour_ai.quality.spoiling import spoil
from contour_ai.quality.verdict_fit import GOOD, Sample, fit_contour_model
from contour_ai.training.cache import Case
from contour_ai.volume import roi_voxels

if TYPE_CHECKING:
    from torch import nn


def fitted_contour_model(
    bundle: ModelBundle,
    network: nn.Module,
    held_back: Sequence[Case],
    device: str = "auto",
    on_progress: OnProgress = no_progress,
    *,
    seconds: float = float("inf"),
) -> ContourModel | None:
    """What makes verdicts of contours, from patients that the network was not trained on; None where they are too few.

    Args:
        network: with the temperatures of the bundle.
        seconds: after so long no other patient is begun.
    """
    from contour_ai.inference import Predictor, autocast_dtype, choose_device

    chosen = choose_device(device)
    predictor = Predictor.of(bundle, network, chosen, autocast_dtype(chosen))
    samples: list[Sample] = []
    for case in picked_cases(held_back, "spoiling contours", on_progress, seconds):
        logits = predictor.logits(case.hu)
        samples += samples_of(case, predicted_masks(bundle, logits, case), bundle)
    return fit_contour_model(samples)


def predicted_masks(
    bundle: ModelBundle, logits: NDArray[np.float32], case: Case
) -> dict[str, NDArray[np.bool_]]:
    """{ROI: what the network finds, (k, i, j)}, with the bundle's rules."""
    body = body_of(np.asarray(case.hu), bundle.preprocess.outside_hu, case.spacing_mm_kij).mask
    voxel_cm3 = float(np.prod(case.spacing_mm_kij)) / 1000
    found = {}
    for said, name in zip(logits, bundle.roi_names, strict=True):
        logit, threshold = apply_rule(said, bundle.postprocess_of(name), voxel_cm3, body)
        found[name] = (logit > threshold) & body
    return found


def samples_of(case: Case, predicted: dict[str, NDArray[np.bool_]], bundle: ModelBundle) -> Iterator[Sample]:
    """The figures of a patient's contours, as they are and with one fault after the other."""
    hu, bits = np.asarray(case.hu), np.asarray(case.bits)
    scene = ModelGridPatient(hu, body_of(hu, bundle.preprocess.outside_hu, case.spacing_mm_kij), predicted)
    organs = {info.name for info in bundle.rois if info.interpreted_type != EXTERNAL}
    contours = {
        roi: roi_voxels(bits, r) for r, roi in enumerate(case.rois) if roi in organs and case.presence[r]
    }
    contours = {roi: mask for roi, mask in contours.items() if mask.any()}
    rng = np.random.default_rng(zlib.crc32(case.patient_id.encode()))
    for roi, mask in contours.items():
        spoiled = ((one.kind, one.detail, one.mask) for one in spoil(roi, contours, case.spacing_mm_kij, rng))
        for kind, detail, contour in [(GOOD, "", mask), *spoiled]:
            figures = contour_figures(roi, contour, scene)
            if figures is not None:
                yield Sample(patient=case.patient_id, roi=roi, kind=kind, detail=detail, figures=figures)
