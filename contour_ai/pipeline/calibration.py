"""Reference ranges of a model: from its training patients, confidence on patients held back, into its bundle."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from contour_ai.bundle import ModelBundle, update_bundle
from contour_ai.dicom.structure_set_choice import NEWEST
from contour_ai.errors import ConfigError
from contour_ai.grid import Grid
from contour_ai.pipeline.archive import Sources, find_sources, typical_grids
from contour_ai.pipeline.card import model_card
from contour_ai.pipeline.cases import check_cases, checked, prepare_cases
from contour_ai.pipeline.contour_calibration import fitted_contour_models
from contour_ai.pipeline.held_back import picked_cases
from contour_ai.pipeline.model_grid import after_rules
from contour_ai.pipeline.splits_file import read_splits
from contour_ai.progress import OnProgress, ProgressEvent, no_progress
from contour_ai.quality.confidence import uncertain_surface_share
from contour_ai.quality.figures import (
    PatientFigures,
    RoiFigures,
    body_of,
    image_figures,
    roi_figures,
)
from contour_ai.quality.ranges import Ranges, ranges_of
from contour_ai.structures.roi_map import RoiMap
from contour_ai.training.cache import Case
from contour_ai.training.roi_facts import RoiFacts
from contour_ai.volume import roi_voxels

if TYPE_CHECKING:
    from torch import nn

    from contour_ai.second_reading import SecondNetwork


@dataclass(frozen=True, kw_only=True)
class CalibrationOptions:
    """Where to find what a training left."""

    roi_map: RoiMap | None = None
    """Which names stand for which ROI; None for the TG-263 names proposed."""
    splits: Path | None = None
    """A run's `splits.json`: ranges are measured on its training patients, confidence on those it held back. None where
    the model was trained on none of these patients: all serve for both."""
    cache_dir: Path | None = None
    """Prepared patients, such as `cache` of a run; None to prepare them anew and keep nothing."""
    device: str = "auto"
    structure_set: str = NEWEST
    """Which structure set counts where a CT has several (see `choose_structure_set`)."""


def calibrate(
    bundle: ModelBundle,
    data_dir: Path,
    options: CalibrationOptions | None = None,
    on_progress: OnProgress = no_progress,
) -> ModelBundle:
    """Measures reference ranges on an archive and writes them into the bundle and its card, not the weights.

    Raises:
        InputError: there is no usable patient.
        ConfigError: unmapped ROI names, or splits of other patients.
        OutputError: the bundle cannot be written.
    """
    options = options or CalibrationOptions()
    sources = find_sources(
        data_dir,
        options.roi_map,
        on_progress,
        wanted=bundle.roi_names,
        structure_set=options.structure_set,
    )
    grids = typical_grids(sources.patients, on_progress)
    with tempfile.TemporaryDirectory() as temporary:
        training, held_back = prepared_sides(bundle, sources, options, Path(temporary), on_progress)
        ranges = measured_ranges(training, grids, bundle.preprocess.outside_hu, on_progress)
        network = bundle.build_network()
        confidence = measured_confidence(bundle, network, held_back, options.device, on_progress)
        ranges = ranges.with_confidence(*confidence)
        bundle = fitted_contour_models(
            replace(bundle, ranges=ranges),
            network,
            held_back,
            options.device,
            on_progress,
            second=_second_of(bundle, options.device),
        )
    return update_bundle(bundle, model_card=model_card(bundle))


def _second_of(bundle: ModelBundle, device: str) -> SecondNetwork | None:
    from contour_ai.inference import autocast_dtype, choose_device
    from contour_ai.second_reading import SecondNetwork

    chosen = choose_device(device)
    return SecondNetwork.of(bundle, chosen, autocast_dtype(chosen))


class ArchiveSides(NamedTuple):
    """The patients of an archive by what a training did with them."""

    training: list[Case]
    held_back: list[Case]


def prepared_sides(
    bundle: ModelBundle,
    sources: Sources,
    options: CalibrationOptions,
    temporary: Path,
    on_progress: OnProgress = no_progress,
) -> ArchiveSides:
    """The patients of an archive on a bundle's grid, checked.

    They are kept in the cache of `options`; where it has none, in `temporary`, and read from there as long as needed.
    """
    cache = options.cache_dir or temporary
    prepared = prepare_cases(sources.patients, bundle.roi_names, bundle.preprocess, cache, on_progress)
    prepared = checked(sources, prepared, check_cases(sources, prepared))
    return _sides(prepared.cases, options.splits)


def _sides(cases: dict[str, Case], splits: Path | None) -> ArchiveSides:
    """Patients for the ranges, and patients for the confidence."""
    if splits is None:
        return ArchiveSides(list(cases.values()), list(cases.values()))
    known = read_splits(splits)
    trained, held_back = (
        [case for label, case in cases.items() if label in side]
        for side in (set(known.training), set(known.validation))
    )
    if not trained:
        raise ConfigError(
            "None of the patients is among those that the model was trained on.",
            where=splits,
            found=", ".join(sorted(cases)[:3]),
            expected=", ".join(sorted(known.training)[:3]),
            fix="give the archive that it was trained on, or leave the run out",
        )
    return ArchiveSides(trained, [case for case in held_back if case not in trained])


def measured_ranges(
    cases: Sequence[Case], grids: Sequence[Grid], outside_hu: int, on_progress: OnProgress = no_progress
) -> Ranges:
    """The ranges of prepared patients; `grids` are of their original CTs, or of some of them.

    Blank slices that were cut off count here: a ROI that ends with the others would be taken for one that usually ends
    flat, and what is said of the body is said of slices that show it.
    """
    figures = []
    for done, case in enumerate(cases):
        on_progress(ProgressEvent(stage="measuring reference ranges", done=done, total=len(cases)))
        figures.append(case_figures(case.whole(), outside_hu))
    on_progress(ProgressEvent(stage="measuring reference ranges", done=len(cases), total=len(cases)))
    absent = Counter(roi for case in cases for roi in case.absent)
    return ranges_of(figures, grids).with_absent({roi: round(n / len(cases), 3) for roi, n in absent.items()})


def case_figures(case: Case, outside_hu: int) -> PatientFigures:
    """One prepared patient: its image and the ROIs that were contoured.

    Volume, extent and mean density are those on the CT's own grid, as in `find_flags`; those on the model grid stand
    for them in a case that was prepared before they were measured there.
    """
    hu, bits = np.asarray(case.hu), np.asarray(case.bits)
    body = body_of(hu, outside_hu, case.spacing_mm_kij)
    rois = {}
    for r, roi in enumerate(case.rois):
        if case.presence[r]:
            figures = roi_figures(roi_voxels(bits, r), hu, body)
            if figures is not None:
                rois[roi] = _as_on_ct(figures, case.facts.get(roi))
    return PatientFigures(image_figures(hu, body), rois, body.ends_mm)


def _as_on_ct(figures: RoiFigures, facts: RoiFacts | None) -> RoiFigures:
    if facts is None or not facts.volume_cm3:
        return figures
    return replace(
        figures,
        volume_cm3=facts.volume_cm3,
        length_mm=facts.extent_mm or figures.length_mm,
        mean_hu=figures.mean_hu if facts.mean_hu is None else facts.mean_hu,
    )


class SurfaceConfidence(NamedTuple):
    """How sure a network is of the surfaces that it draws."""

    uncertain_shares: dict[str, list[float]]
    """{ROI: share of its surface where the boundary is uncertain, one for each patient}."""
    patients: int
    """That were looked at."""


def measured_confidence(
    bundle: ModelBundle,
    network: nn.Module,
    held_back: Sequence[Case],
    device: str = "auto",
    on_progress: OnProgress = no_progress,
    *,
    seconds: float = float("inf"),
) -> SurfaceConfidence:
    """The confidence of a network on patients.

    ROIs that were not contoured in a patient do not count: what the network finds there need not be right.

    Args:
        bundle: its preprocessing, inference and rules.
        held_back: patients that it was not trained on.
        seconds: after so long no other patient is begun.
    """
    from contour_ai.inference import Predictor, autocast_dtype, choose_device

    chosen = choose_device(device)
    predictor = Predictor.of(bundle, network, chosen, autocast_dtype(chosen))
    shares: dict[str, list[float]] = {roi: [] for roi in bundle.roi_names}
    done = 0
    for case in picked_cases(held_back, "measuring confidence", on_progress, seconds):
        logits = predictor.logits(case.hu)
        body = body_of(np.asarray(case.hu), bundle.preprocess.outside_hu, case.spacing_mm_kij)
        ruled = after_rules(bundle, logits, case.hu, body.mask, case.spacing_mm_kij)
        for roi, (logit, threshold) in ruled.items():
            mask = (logit > threshold) & body.mask
            share = uncertain_surface_share(logit, mask, body, threshold)
            if share is not None and roi in case.rois and case.presence[case.rois.index(roi)]:
                shares[roi].append(share)
        done += 1
    return SurfaceConfidence(shares, done)
