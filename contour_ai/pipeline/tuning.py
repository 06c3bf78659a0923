"""What is done after the network, chosen on patients held back from the training: rules, thresholds, temperatures."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from contour_ai.box import bounding_box
from contour_ai.bundle import (
    ModelBundle,
    OtherRun,
    RoiCalibration,
    RoiPostprocess,
    RuleGain,
    RulesRecord,
    update_bundle,
)
from contour_ai.errors import InputError
from contour_ai.evaluation.reliability import LogitCounts, expected_dice_logit, left_out_errors
from contour_ai.mask_agreement import dice
from contour_ai.pipeline.archive import find_sources
from contour_ai.pipeline.calibration import CalibrationOptions, prepared_sides
from contour_ai.pipeline.card import model_card
from contour_ai.pipeline.held_back import picked_cases
from contour_ai.pipeline.model_grid import part_places
from contour_ai.postprocess import LOWEST_LOGIT, keep_components
from contour_ai.progress import OnProgress, no_progress
from contour_ai.quality.figures import body_of
from contour_ai.quality.part_places import Distance
from contour_ai.structures.pieces import is_one_piece
from contour_ai.training.cache import Case
from contour_ai.volume import roi_voxels

if TYPE_CHECKING:
    from torch import nn

FEWEST_TO_CHOOSE = 5
"""A ROI that fewer held-back patients have keeps the usual rules: their choice would be chance."""

GAIN = 0.002
"""A rule is taken where it gains this much Dice."""

FIXED = (RoiPostprocess(), RoiPostprocess(largest_component=True))
EXPECTED = tuple(replace(rule, expected_dice=True) for rule in FIXED)
CANDIDATES = FIXED + EXPECTED
"""The simplest first. They have no number of their own, so that a choice among them can follow chance but little: a
fixed threshold for each ROI was tried, and lost on patients left out of its choice."""
USUAL = 0
ONE_PIECE = tuple(n for n, rule in enumerate(CANDIDATES) if rule.largest_component)
"""Those for an organ of one piece, whatever they gain; the usual one first."""

LEVELS = np.arange(0.0, -6.1, -0.25)
"""Logits of contours that are drawn where the expected Dice is highest, from among which the nearest is taken."""


@dataclass(kw_only=True)
class _OfRoi:
    """What the patients that have a ROI say about it."""

    fixed: list[list[float]] = field(default_factory=list)
    """Dice of each patient with each of `FIXED`."""
    levels: list[list[list[float]]] = field(default_factory=list)
    """Dice of each patient with each of `EXPECTED`, were the contour at each of `LEVELS`."""
    counts: list[LogitCounts] = field(default_factory=list)
    others: dict[str, list[float]] = field(default_factory=dict)
    """Dice of the usual rules with the network run in another way."""

    def dice(self) -> NDArray[np.float64]:
        """(patients, `CANDIDATES`), each patient with the temperature of the others."""
        whole = sum(self.counts, LogitCounts())
        rows = []
        for fixed, levels, counts in zip(self.fixed, self.levels, self.counts, strict=True):
            others = LogitCounts(whole.counts - counts.counts)
            temperature = others.temperature() if len(self.counts) > 1 else 1.0
            level = expected_dice_logit(counts.counts.sum(0), LOWEST_LOGIT, 0.0, temperature)
            nearest = int(np.argmin(np.abs(LEVELS - level)))
            rows.append([*fixed, *(of_candidate[nearest] for of_candidate in levels)])
        return np.array(rows)


def tune(
    bundle: ModelBundle,
    data_dir: Path,
    options: CalibrationOptions | None = None,
    on_progress: OnProgress = no_progress,
) -> ModelBundle:
    """Chooses a bundle's rules and temperatures on an archive's held-back patients; the weights stay as they are.

    The network is run on the mirror image, too, and in fp32 where it computes in less: what that changes is noted.

    Raises:
        InputError: there is no usable patient that the model was not trained on.
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
    with tempfile.TemporaryDirectory() as temporary:
        held_back = prepared_sides(bundle, sources, options, Path(temporary), on_progress).held_back
        if not held_back:
            raise InputError(
                "No patient was held back from the training.",
                where=data_dir,
                fix="give an archive that the model was not trained on, without --run",
            )
        network = bundle.build_network(calibrated=False)
        bundle = tuned(bundle, network, held_back, options.device, on_progress, compare=True)
    return update_bundle(bundle, model_card=model_card(bundle))


def tuned(
    bundle: ModelBundle,
    network: nn.Module,
    held_back: Sequence[Case],
    device: str = "auto",
    on_progress: OnProgress = no_progress,
    *,
    compare: bool = False,
    seconds: float = float("inf"),
) -> ModelBundle:
    """The bundle with rules, temperatures and what they gain; where patients are too few for that, as it was.

    Args:
        network: with the weights as trained, not divided by temperatures.
        held_back: patients that it was not trained on.
        compare: also run it on the mirror image, and in fp32.
        seconds: after so long no other patient is begun.
    """
    from contour_ai.inference import Predictor, autocast_dtype, choose_device

    chosen = choose_device(device)
    dtype = autocast_dtype(chosen)
    ways = {"": Predictor.of(bundle, network, chosen, dtype)}
    if compare:
        mirror = bundle.inference.mirror
        ways["not mirrored" if mirror else "mirrored"] = Predictor.of(
            bundle, network, chosen, dtype, tta=not mirror
        )
        if dtype is not None:
            ways["fp32"] = Predictor.of(bundle, network, chosen, None)
    found = {roi: _OfRoi() for roi in bundle.roi_names}
    done = 0
    for case in picked_cases(held_back, "choosing rules", on_progress, seconds):
        logits = {way: predictor.logits(case.hu) for way, predictor in ways.items()}
        _add(found, case, bundle, logits)
        done += 1
    return _described(bundle, found, done, str(dtype).removeprefix("torch."))


def _add(
    found: Mapping[str, _OfRoi], case: Case, bundle: ModelBundle, logits: Mapping[str, NDArray[np.float32]]
) -> None:
    """Adds one patient; ROIs that were not contoured do not count."""
    body = body_of(np.asarray(case.hu), bundle.preprocess.outside_hu, case.spacing_mm_kij).mask
    bits = np.asarray(case.bits)
    voxel_cm3 = float(np.prod(case.spacing_mm_kij)) / 1000
    places = part_places(bundle, logits[""], case.hu, case.spacing_mm_kij)
    for channel, roi in enumerate(bundle.roi_names):
        if roi not in case.rois or not case.presence[case.rois.index(roi)]:
            continue
        truth = roi_voxels(bits, case.rois.index(roi))
        seen = found[roi]
        seen.counts.append(LogitCounts.of(logits[""][channel][body], truth[body]))
        inside = {way: np.where(body, values[channel], -np.inf) for way, values in logits.items()}
        whole = places.distance(roi)
        seen.fixed.append([_dice(inside[""], truth, rule, voxel_cm3, distance=whole) for rule in FIXED])
        # Few voxels come near the ROI, and its parts are looked for many times.
        box = bounding_box((inside[""] > LEVELS[-1]) | truth) or (
            slice(0, None),
            slice(0, None),
            slice(0, None),
        )
        near, there = inside[""][box], truth[box]
        distance = None if whole is None else _moved(whole, [s.start for s in box])
        seen.levels.append(
            [[_dice(near, there, rule, voxel_cm3, level, distance) for level in LEVELS] for rule in EXPECTED]
        )
        for way in logits:
            if way:
                seen.others.setdefault(way, []).append(
                    _dice(inside[way], truth, CANDIDATES[USUAL], voxel_cm3)
                )


def _dice(
    logit: NDArray[np.float32],
    truth: NDArray[np.bool_],
    rule: RoiPostprocess,
    voxel_cm3: float,
    level: float = 0.0,
    distance: Distance | None = None,
) -> float:
    """Dice of a rule with its contour at `level`."""
    drawn = keep_components(logit, rule, voxel_cm3, level, distance) > np.float32(level)
    return dice(drawn, truth, neither=math.nan)


def _moved(distance: Distance, start: Sequence[int]) -> Distance:
    """The same of a centre in a box that begins at `start`."""
    return lambda centre: distance((centre[0] + start[0], centre[1] + start[1], centre[2] + start[2]))


def _described(bundle: ModelBundle, found: Mapping[str, _OfRoi], patients: int, dtype: str) -> ModelBundle:
    """The bundle with everything that was found in it."""
    # What is not chosen anew stays as a whole: a threshold is one of probabilities with the temperature beside it.
    postprocess, calibration, rules = dict(bundle.postprocess), dict(bundle.calibration), {}
    for roi, seen in found.items():
        if len(seen.fixed) < FEWEST_TO_CHOOSE or not np.max(seen.fixed) > 0:
            continue
        temperature = sum(seen.counts, LogitCounts()).temperature()
        calibration[roi] = _calibration(seen.counts, temperature)
        dices = seen.dice()
        given = bundle.postprocess_of(roi)
        one_piece = is_one_piece(roi) and not given.several_parts
        chosen = chosen_rule(dices, one_piece=one_piece)
        without = ONE_PIECE[0] if one_piece else USUAL
        rule = replace(CANDIDATES[chosen], min_volume_cm3=given.min_volume_cm3)
        if given.several_parts and not rule.largest_component:
            rule = replace(rule, several_parts=given.several_parts)
        postprocess.pop(roi, None)
        if rule != RoiPostprocess():
            postprocess[roi] = rule
        if chosen != without:
            usual, gained = dices[:, without], dices[:, chosen]
            rules[roi] = RuleGain(
                dice_without=round(float(usual.mean()), 4),
                dice_with=round(float(gained.mean()), 4),
                better_in=int(np.count_nonzero(gained > usual)),
                worse_in=int(np.count_nonzero(gained < usual)),
            )
    ways = {way for seen in found.values() for way in seen.others}
    runs = {way: run for way, run in bundle.results.other_runs.items() if not ways or way == "fp32"}
    for way in sorted(ways):
        scored = {roi: seen for roi, seen in found.items() if seen.others.get(way)}
        differences = {
            roi: np.array(seen.others[way]) - np.array(seen.fixed)[:, USUAL] for roi, seen in scored.items()
        }
        runs[way] = OtherRun(
            patients=patients,
            dice={roi: round(float(np.mean(seen.others[way])), 4) for roi, seen in scored.items()},
            difference={roi: round(float(values.mean()), 4) for roi, values in differences.items()},
            largest_difference=round(float(max(np.abs(v).max() for v in differences.values())), 4),
            instead_of=dtype if way == "fp32" else "",
        )
    after = RulesRecord(patients=patients, rules=rules)
    results = replace(bundle.results, after_the_network=after, other_runs=runs)
    return replace(bundle, postprocess=postprocess, calibration=calibration, results=results)


def chosen_rule(dice: NDArray[np.float64], *, one_piece: bool = False) -> int:
    """Which of `CANDIDATES` to take: the usual one unless the best gains `GAIN`; of nearly equal ones the first.

    Args:
        dice: (patients, candidates).
        one_piece: only from among `ONE_PIECE`.
    """
    among = np.array(ONE_PIECE if one_piece else range(len(CANDIDATES)))
    means = dice.mean(0)[among]
    if means.max() - means[0] < GAIN:
        return int(among[0])
    return int(among[np.flatnonzero(means > means.max() - GAIN / 2)[0]])


def _calibration(counts: Sequence[LogitCounts], temperature: float) -> RoiCalibration:
    before, after = left_out_errors(counts)
    whole = sum(counts, LogitCounts())
    return RoiCalibration(
        temperature=round(temperature, 4),
        patients=len(counts),
        error_before=round(before, 4),
        error=round(after, 4),
        reliability=tuple(
            (round(predicted, 4), round(true, 4), n) for predicted, true, n in whole.reliability(temperature)
        ),
    )
