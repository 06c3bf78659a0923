"""The chapters of a model card that are made from figures: ROIs, results, rules, probabilities, ranges."""

from __future__ import annotations

from collections.abc import Mapping

from contour_ai.bundle import ModelBundle, OtherRun, ResultsRecord, RuleGain
from contour_ai.postprocess import LOWEST_PROBABILITY


def rois_text(bundle: ModelBundle) -> str:
    dice = bundle.results.dice
    rows = [
        "| ROI | training patients | volume in cm³ (5 %, median, 95 %) | Dice in validation |",
        "|---|---|---|---|",
    ]
    for roi in bundle.roi_names:
        seen = bundle.data.rois.get(roi)
        volumes = "" if seen is None else ", ".join(f"{v:g}" for v in seen.volume_cm3 or ())
        score = f"{dice[roi]:.3f}" if roi in dice else "not scored"
        rows.append(f"| {roi} | {'' if seen is None else seen.patients} | {volumes} | {score} |")
    return "\n".join(rows)


def how_text(bundle: ModelBundle) -> str:
    spacing = " x ".join(f"{s:g}" for s in bundle.preprocess.spacing_mm_kij)
    windows = " and ".join(f"{low:g} to {high:g} HU" for low, high in bundle.preprocess.windows_hu)
    network = bundle.network
    source = "as relatives of those" if bundle.data.relatives else "from label maps"
    return (
        f"The CT is brought to voxels of {spacing} mm (superior, posterior, left), cropped to the body, everything "
        f"outside it set to air, and seen through {windows}. A residual U-Net ({network.name}, {network.levels} "
        f"levels, {network.base_filters} to {network.filters[-1]} filters, {network.norm} norm) gives one logit per "
        "ROI and voxel; each ROI's field goes back to the CT's own grid, where the contour is a level of it. ROIs "
        "that a training patient did not have contoured taught nothing, neither as organ nor as background"
        + (
            ", but where it has pseudo-labels: contours that the network drew itself."
            if bundle.training.pseudo_labels
            else "."
        )
        + (
            f" Beside {bundle.data.training_patients} patients it learnt from {bundle.data.synthetic_patients} "
            f"synthetic ones, drawn {source}; no figure below is of those."
            if bundle.data.synthetic_patients
            else ""
        )
        + (" Logits are the mean of the patient's and the mirror image's." if bundle.inference.mirror else "")
    )


def results_text(results: ResultsRecord) -> str:
    if results.mean_dice is None:
        return "None."
    lines = [
        f"{results.what}: mean {results.mean_dice:.3f} over {len(results.dice)} ROIs, {results.patients} patients."
    ]
    if results.worst:
        lines.append("Worst: " + "; ".join(results.worst) + ".")
    return " ".join(lines)


def cross_validation(bundle: ModelBundle) -> list[str]:
    found = bundle.results.cross_validation
    if found is None:
        return []
    low, high = min(found.mean_dice_of_parts), max(found.mean_dice_of_parts)
    steps = " to ".join(str(n) for n in sorted({min(found.steps), max(found.steps)}))
    text = (
        f"{found.parts} trainings, each of which held out another part of {found.patients} patients: mean "
        f"Dice {found.mean_dice:.3f} ({low:.3f} to {high:.3f} in the parts), on the model's grid, without the rules "
        f"below. Each took {steps} steps; this model's training took {bundle.training.steps or '?'}."
    )
    rows = ["| ROI | n | mean Dice | 5 %, median, 95 % | worst |", "|---|---|---|---|---|"]
    for roi, figures in found.dice.items():
        spread = ", ".join(f"{v:.3f}" for v in figures.percentiles)
        rows.append(
            f"| {roi} | {figures.patients} | {figures.mean:.3f} | {spread} | {', '.join(figures.worst)} |"
        )
    return ["### Cross-validation", text, "\n".join(rows)]


def after_the_network(bundle: ModelBundle) -> list[str]:
    chosen = bundle.results.after_the_network
    if chosen is None:
        return []
    rules = chosen.rules
    if all(gain.better_in is not None for gain in rules.values()):
        how = "from four rules by their mean Dice in {} held-back patients, which flatters the gain a little; one"
    else:  # by contour-ai before it knew `expected_dice`
        how = "on {} held-back patients, each scored with what the others choose; a rule"
    text = f"Chosen {how.format(chosen.patients)} that gains less than 0.002 Dice is not taken."
    if not rules:
        return ["### After the network", text + " None was."]
    if any(bundle.postprocess_of(roi).expected_dice for roi in rules):
        text += (
            f' A threshold "of the patient" lies between {LOWEST_PROBABILITY} and the one named, where the Dice to be '
            "expected from the probabilities is highest (of other patients' temperature here); parts that nowhere "
            "reach the one named are not drawn."
        )
    rows = [
        "| ROI | threshold | parts | Dice without | Dice with | patients better, worse |",
        "|---|---|---|---|---|---|",
    ]
    for roi, gain in rules.items():
        rule = bundle.postprocess_of(roi)
        parts = "the largest only" if rule.largest_component else "all"
        threshold = f"{rule.threshold:.2f}" + (", of the patient" if rule.expected_dice else "")
        rows.append(
            f"| {roi} | {threshold} | {parts} | {gain.dice_without:.3f} | {gain.dice_with:.3f} "
            f"| {_changed(gain)} |"
        )
    return ["### After the network", text, "\n".join(rows)]


def _changed(gain: RuleGain) -> str:
    return "–" if gain.better_in is None else f"{gain.better_in}, {gain.worse_in}"


def otherwise(results: ResultsRecord) -> list[str]:
    """What the mirror image and full precision change."""
    lines = [
        _difference(run, what.format(run.instead_of))
        for way, what in (
            ("mirrored", "`--tta` (the mean with the mirror image; the network runs twice)"),
            ("not mirrored", "`--no-tta` (without the mirror image; the network runs once)"),
            ("fp32", "fp32 instead of {}"),
        )
        if (run := results.other_runs.get(way)) is not None
    ]
    return ["### Run in another way", "\n".join(f"- {line}" for line in lines)] if lines else []


def _difference(found: OtherRun, what: str) -> str:
    changes = found.difference
    mean = sum(changes.values()) / max(len(changes), 1)
    each = ", ".join(f"{roi} {change:+.4f}" for roi, change in changes.items())
    return (
        f"{what}: mean Dice {mean:+.4f} ({each}); the largest change in one ROI of one patient is "
        f"{found.largest_difference:.4f}."
    )


def probabilities(bundle: ModelBundle) -> list[str]:
    if not bundle.calibration:
        return []
    text = (
        "Logits are divided by a temperature a ROI, which moves no contour at one half. The error is the expected "
        "calibration error of voxels with a probability between 1 % and 99 %; with the temperature each patient is "
        "scored with that of the others. The right-hand columns say what share of the voxels with a probability of "
        "about 0.25, 0.45, 0.65 and 0.85 belongs to the ROI."
    )
    tenths = (0.25, 0.45, 0.65, 0.85)
    rows = [
        "| ROI | n | temperature | error without | error with | "
        + " | ".join(f"{t:g}" for t in tenths)
        + " |",
        "|---" * (5 + len(tenths)) + "|",
    ]
    for roi, found in bundle.calibration.items():
        shares = {int(predicted * 10): true for predicted, true, _ in found.reliability}
        cells = [f"{shares[int(t * 10)]:.2f}" if int(t * 10) in shares else "" for t in tenths]
        rows.append(
            f"| {roi} | {found.patients} | {found.temperature:.2f} | {found.error_before:.3f} | {found.error:.3f} | "
            + " | ".join(cells)
            + " |"
        )
    return ["### Probabilities", text, "\n".join(rows)]


def usual(bundle: ModelBundle) -> list[str]:
    ranges = bundle.ranges
    if ranges is None:
        return []
    text = (
        f"Limits of the flags, from {ranges.patients} training patients: twice as far from the median as their 5 % and "
        "95 %. Places are measured from the body's axis; model.yaml has the rest."
    )
    figures = (("volume_cm3", "volume in cm³"), ("mean_hu", "mean HU"), ("left_mm", "mm to the left"),
               ("posterior_mm", "mm behind"))  # fmt: skip
    rows = [
        "| ROI | n | " + " | ".join(words for _, words in figures) + " |",
        "|---" * (2 + len(figures)) + "|",
    ]
    for roi, usual in ranges.rois.items():
        limits = (usual.figures.get(key) for key, _ in figures)
        cells = ("" if limit is None else f"{limit[0]:.4g} to {limit[2]:.4g}" for limit in limits)
        rows.append(f"| {roi} | {usual.patients} | " + " | ".join(cells) + " |")
    return ["### Reference ranges", text, "\n".join(rows)]


def list_text(facts: Mapping[str, object]) -> str:
    return "\n".join(
        f"- {key.replace('_', ' ')}: {value}" for key, value in facts.items() if value not in ("", None, [])
    )


def extents_chapter(bundle: ModelBundle) -> list[str]:
    """Where the organs end along the body: the guideline that the model has learnt."""
    ranges = {} if bundle.ranges is None else bundle.ranges.rois
    known = {roi: usual.extent for roi, usual in ranges.items() if usual.extent is not None}
    if not known:
        return []
    text = (
        "Where the contours of the training patients end along the body; the limits are twice as far from the median "
        "as their 5 % and 95 %. A contour that ends elsewhere is `look`, with words of its own."
    )
    rows = ["| ROI | n | lower end | upper end |", "|---|---|---|---|"]
    for roi, extent in known.items():
        lower, upper = extent.lower.in_words("lower"), extent.upper.in_words("upper")
        rows.append(f"| {roi} | {extent.lower.patients} | {lower} | {upper} |")
    return ["### How far the organs go", text, "\n".join(rows)]


def second_reader(bundle: ModelBundle) -> list[str]:
    """What the second reader is, where there is one."""
    second = bundle.second_reader
    if second is None:
        return []
    spacing = " x ".join(f"{s:g}" for s in second.spacing_mm_kij)
    text = (
        f"A small network ({second.network.name}, {second.network.base_filters} filters, seed {second.seed}) "
        f"sees the CT with voxels of {spacing} mm. It contours nothing: verdicts ask whether it agrees. Trained in "
        f"{second.steps} steps on the model's training patients; Dice on {second.patients} held back, on its own grid: "
        + ", ".join(f"{roi} {dice:.3f}" for roi, dice in second.dice.items())
        + f"; mean {second.mean_dice:.3f}."
    )
    return ["### Second reader", text]
