"""Runs the network, and brings what it says of each ROI to the voxels of the CT."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from contour_ai.box import bounding_box
from contour_ai.bundle import ModelBundle
from contour_ai.bundle.poor_models import POOR_DICE, poor_rois
from contour_ai.dicom.scan_facts import ScanFacts, facts_of_scan
from contour_ai.errors import ConfigError
from contour_ai.pipeline._predict.model import LoadedModel
from contour_ai.pipeline._predict.opening import Opened
from contour_ai.pipeline._predict.options import PredictOptions
from contour_ai.pipeline._predict.stages import StageClock
from contour_ai.pipeline.model_grid import part_places
from contour_ai.pipeline.result import PredictedRoi
from contour_ai.postprocess import apply_rule
from contour_ai.preprocess import SPARSE, Prepared, Resampler, resample_logits_to_ct
from contour_ai.progress import no_progress
from contour_ai.quality.figures import SEEN_SHARE
from contour_ai.quality.flag import EXTERNAL, Flag, ImageEvidence, PatientFlags, RemovedOutside
from contour_ai.quality.flags import find_flags, measured
from contour_ai.quality.own_judging import own_opinions
from contour_ai.quality.part_places import PartPlaces
from contour_ai.quality.suitability import organs_of_other_sex, suitability_flags
from contour_ai.quality.verdict import Opinion
from contour_ai.structures import roi_info

BODY = "Body"
"""Name of the external contour that is added by rule."""


def wanted_rois(
    bundle: ModelBundle, rois: Sequence[str] | None, *, allow_poor: bool = False
) -> tuple[str, ...]:
    """The ROIs to write, in the model's order, with the body by rule where the model has no external contour.

    ROIs that were found with a Dice below 0.5 in validation are left out unless `allow_poor`.

    Raises:
        ConfigError: a ROI that the model does not have, or whose Dice in validation was below 0.5; or all were.
    """
    poor = {} if allow_poor else poor_rois(bundle)
    if poor and (len(poor) == len(bundle.rois) if rois is None else _any_of(poor, rois)):
        requested = poor if rois is None else _any_of(poor, rois)
        raise ConfigError(
            f"ROIs with a Dice below {POOR_DICE:g} in the model's validation are not predicted.",
            where=bundle.name,
            found=", ".join(f"{roi}: Dice {poor[roi]:.3f} in validation" for roi in requested),
            expected=f"a Dice of at least {POOR_DICE:g}",
            fix="leave them out of --rois, or train longer or on more patients; --allow-poor predicts them anyway",
        )
    known = list(bundle.roi_names)
    if not any(roi.interpreted_type == EXTERNAL for roi in bundle.rois):
        known.append(BODY)
    if rois is None:
        return tuple(name for name in known if name not in poor)
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


def _any_of(poor: Iterable[str], rois: Sequence[str]) -> list[str]:
    """Those of the poor ROIs that are asked for."""
    asked = {roi.casefold() for roi in rois}
    return [roi for roi in poor if roi.casefold() in asked]


@dataclass(frozen=True, eq=False, kw_only=True)
class Findings:
    """What there is to say against what was found in a patient."""

    flags: PatientFlags
    opinions: Mapping[str, Opinion]
    """By ROI, where the bundle has a fitted model of its own contours."""


def flags_of(patient: Opened, rois: Sequence[PredictedRoi], bundle: ModelBundle) -> PatientFlags:
    """Quality findings on the contours of a patient."""
    return findings_of(patient, rois, bundle, None).flags


def findings_of(
    patient: Opened,
    rois: Sequence[PredictedRoi],
    bundle: ModelBundle,
    second: Mapping[str, NDArray[np.bool_]] | None,
) -> Findings:
    """Quality findings, and what a fitted model says of every ROI; `second` is what the second reader found."""
    image = ImageEvidence(
        grid=patient.ct.grid,
        body=patient.body,
        hu=patient.prepared.hu,
        model_grid=patient.prepared.grid,
        outside_hu=bundle.preprocess.outside_hu,
        ct_hu=patient.volume.hu,
    )
    evidence = [roi.evidence for roi in rois]
    known = measured(evidence, image)
    opinions = {}
    if bundle.own_contour_model is not None:
        opinions = own_opinions(evidence, image, known, second, bundle.ranges, bundle.own_contour_model)
    flags = find_flags(evidence, image, bundle.ranges, known)
    by_roi = with_sex(flags.rois, facts_of_scan(patient.ct.header))
    flags = replace(flags, image=(*flags.image, *header_flags(patient, bundle)), rois=by_roi)
    return Findings(flags=flags, opinions=opinions)


def with_sex(flags: Mapping[str, tuple[Flag, ...]], facts: ScanFacts) -> dict[str, tuple[Flag, ...]]:
    """Organs of the other sex: a contour is grossly wrong, none is as it should be."""
    found = dict(flags)
    for name, flag in organs_of_other_sex(facts, list(flags)).items():
        nothing = any(one.code in ("empty", "beyond_scan") for one in flags[name])
        found[name] = () if nothing else (flag, *flags[name])
    return found


def header_flags(patient: Opened, bundle: ModelBundle) -> list[Flag]:
    """What of patient and scan, by the header, does not fit what the model was trained on."""
    facts = facts_of_scan(patient.ct.header)
    return suitability_flags(facts, bundle.data.trained_on, bundle.roi_names)


def run_network(
    prepared: Prepared,
    model: LoadedModel,
    options: PredictOptions | None = None,
    clock: StageClock | None = None,
) -> NDArray[np.float32]:
    """Logits (R, k, i, j) on the model's grid."""
    from contour_ai.inference import Predictor

    options = options or PredictOptions()
    clock = clock or StageClock(watcher=no_progress, patient="")
    predictor = Predictor.of(model.bundle, model.network, model.device, model.autocast, tta=options.tta)
    with model.in_use, clock.stage("network") as within:
        return predictor.logits(prepared.hu, within)


def read_again(
    prepared: Prepared, model: LoadedModel, clock: StageClock | None = None
) -> Mapping[str, NDArray[np.bool_]] | None:
    """{ROI: what the second reader finds, (k, i, j) on the model's grid}; None where the model has none."""
    if model.second is None:
        return None
    clock = clock or StageClock(watcher=no_progress, patient="")
    with clock.stage("second reader"):
        return model.second.masks(prepared.hu, prepared.grid.spacing_mm, prepared.body)


def restore_rois(
    patient: Opened,
    logits: NDArray[np.float32],
    bundle: ModelBundle,
    wanted: Sequence[str],
    resampler: Resampler = SPARSE,
) -> list[PredictedRoi]:
    """The ROIs asked for on the CT's grid, from the logits (R, k, i, j) on the model's."""
    places = part_places(bundle, logits, patient.prepared.hu, patient.prepared.grid.spacing_mm)
    area = np.count_nonzero(patient.body, axis=(1, 2))
    shown = area >= SEEN_SHARE * area.max(initial=0)
    return [_restored(name, patient, places, bundle, resampler, shown) for name in wanted]


def _restored(
    name: str,
    patient: Opened,
    places: PartPlaces,
    bundle: ModelBundle,
    resampler: Resampler,
    shown: NDArray[np.bool_],
) -> PredictedRoi:
    """One ROI on the CT's grid: its channel cleaned by the model's rules, or the body by rule.

    Args:
        shown: (K,) whether a slice shows the body: what is removed of a ROI in others, beyond the body's end, is not
            said.
    """
    body, grid = patient.body, patient.prepared.grid
    if name not in bundle.roi_names:
        return _of_mask(name, body)
    channel = bundle.roi_names.index(name)
    rule = bundle.postprocess_of(name)
    voxel_cm3 = float(np.prod(grid.spacing_mm)) / 1000
    raw_logits = places.logits[channel]
    logit, threshold = apply_rule(raw_logits, rule, voxel_cm3, patient.prepared.body, places.distance(name))
    restored = resample_logits_to_ct(logit, grid, patient.ct.grid, threshold=threshold, resampler=resampler)
    found = PredictedRoi(info=bundle.rois[channel], logit=logit, threshold=threshold)
    if logit is not raw_logits:
        sure = raw_logits > max(threshold, rule.threshold_logit)
        found = replace(found, left_out=sure & (logit <= threshold) & patient.prepared.body)
    if restored is None:
        return found
    box, level = restored
    # What lies outside the body the network never saw: no contour leaves it.
    outside = ~body[box]
    beyond = outside & (level > 0) & shown[box[0], None, None]
    level[outside] = -np.abs(level[outside])
    inside = level > 0
    removed = RemovedOutside.of(beyond, box, patient.ct.grid)
    found = replace(found, outside=removed)
    return replace(found, box=box, inside=inside, level=level) if inside.any() else found


def _of_mask(name: str, mask: NDArray[np.bool_]) -> PredictedRoi:
    box = bounding_box(mask)
    return (
        PredictedRoi(info=roi_info(name))
        if box is None
        else PredictedRoi(info=roi_info(name), box=box, inside=mask[box])
    )
