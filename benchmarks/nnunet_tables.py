"""The figures and tables of `against_nnunet.py`."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

OURS = "contour-ai"
NAMES = {
    OURS: "contour-ai",
    "nnunet-complete": "nnU-Net, complete patients",
    "nnunet-background": "nnU-Net, missing is background",
}


def figures(rows: Iterable[Mapping[str, str]], rois: Sequence[str]) -> dict[str, dict[str, float]]:
    """Means over the patients who have a ROI; one that was not found counts with Dice 0."""
    found: dict[str, dict[str, float]] = {}
    rows = list(rows)
    for roi in rois:
        mine = [row for row in rows if row["roi"] == roi and row["status"] in ("both", "prediction missing")]
        if mine:
            found[roi] = {
                "n": len(mine),
                "found": sum(row["status"] == "both" for row in mine),
                "dice": statistics.fmean(float(row["dsc"]) for row in mine),
                "surface_dice": statistics.fmean(float(row["surface_dsc"]) for row in mine),
            }
    return found


def table(result: Mapping[str, Any], rois: Sequence[str]) -> str:
    """The result as markdown."""
    sides, options = result["sides"], result["options"]
    lines = [f"Dice (surface Dice) and how often the ROI was found, {result['machine']}:", ""]
    lines.append(f"| ROI | held back | {' | '.join(NAMES[side] for side in sides)} |")
    lines.append("|---|---|" + "---|" * len(sides))
    for roi in rois:
        scores = [side["rois"].get(roi) for side in sides.values()]
        if all(scores):
            cells = [f"{s['dice']:.3f} ({s['surface_dice']:.3f}), {s['found']}/{s['n']}" for s in scores]
            lines.append(f"| {roi} | {scores[0]['n']} | {' | '.join(cells)} |")
    means = [f"**{_mean(side, 'dice'):.3f}** ({_mean(side, 'surface_dice'):.3f})" for side in sides.values()]
    lines.append(f"| **mean of the ROIs** | | {' | '.join(means)} |")
    lines += ["", f"| training, {options['minutes']} minutes each | {' | '.join(NAMES[s] for s in sides)} |"]
    lines.append("|---|" + "---|" * len(sides))
    facts: dict[str, Callable[[Mapping[str, Any]], object]] = {
        "patients": lambda side: side["patients"],
        **{f"with {roi}": lambda side, roi=roi: side["training"][roi] for roi in rois},  # type: ignore[misc]
        "steps": lambda side: side["steps"],
        "voxels of a sample": lambda side: " x ".join(map(str, side["sample"])),
        "samples a step": lambda side: side["batch"],
        "features at full resolution": lambda side: side["features"],
        "seconds to prepare": lambda side: round(side["prepare"]["seconds"]),
        "seconds of training, all told": lambda side: round(side["train"]["seconds"]),
        "peak memory of training, GB": lambda side: f"{side['train']['peak_bytes'] / 1e9:.1f}",
        "seconds to predict": lambda side: round(side["predict"]["seconds"]),
    }
    for name, fact in facts.items():
        lines.append(f"| {name} | {' | '.join(str(fact(side)) for side in sides.values())} |")
    mirrored = "without mirroring" if options["mirror"] == "none" else "with mirroring"
    plan, dtype = options["plan"], options["dtype"]
    lines += ["", f"nnU-Net {result['nnunetv2']}: {plan} plan, {mirrored}, {dtype}."]
    return "\n".join(lines) + "\n"


def _mean(side: Mapping[str, Any], figure: str) -> float:
    return statistics.fmean(roi[figure] for roi in side["rois"].values())
