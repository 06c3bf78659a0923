"""The text of MODEL_CARD.md, made from what a bundle says about itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from contour_ai.bundle import ModelBundle

NOT_A_DEVICE = (
    "Not a medical device; for research and local commissioning. "
    "Every contour needs review by a qualified person."
)


def model_card(bundle: ModelBundle, commands: Sequence[str] = ()) -> str:
    """Markdown: what the model is for, what it was made from and how, how good it is, how to make it again.

    Args:
        bundle: the description.
        commands: shell commands that make the model again.
    """
    parts = [
        f"# {bundle.name} {bundle.version}",
        bundle.description,
        f"**{NOT_A_DEVICE}**",
        "## Intended use",
        _use(bundle),
        "## ROIs",
        _rois(bundle),
        "## How it works",
        _how(bundle),
        "## Data and training",
        _list({key: value for key, value in bundle.data.items() if key != "rois"} | dict(bundle.training)),
        "## Results",
        _results(bundle.results),
        "## Provenance",
        _list({**bundle.provenance, "weights_sha256": "see model.yaml"}),
    ]
    if commands:
        parts += ["## Making it again", "```bash\n" + "\n".join(commands) + "\n```"]
    return "\n\n".join(part for part in parts if part) + "\n"


def _use(bundle: ModelBundle) -> str:
    if bundle.kind == "phantom":
        return (
            "Shows that the software works, on phantoms drawn by `contour-ai sample`. It has never seen a patient, "
            "must never contour one, and is never the default of `contour-ai predict`."
        )
    return (
        "Contours on CT like that of its training patients. Before use, compare its contours with your own on a "
        "sample of your patients (`contour-ai evaluate`), and again after every change of scanner or protocol."
    )


def _rois(bundle: ModelBundle) -> str:
    seen: Mapping[str, Any] = bundle.data.get("rois", {})
    dice: Mapping[str, float] = bundle.results.get("dice", {})
    rows = [
        "| ROI | training patients | volume in cm³ (5 %, median, 95 %) | Dice in validation |",
        "|---|---|---|---|",
    ]
    for roi in bundle.roi_names:
        facts = seen.get(roi, {})
        volumes = ", ".join(f"{v:g}" for v in facts.get("volume_cm3", ()))
        score = f"{dice[roi]:.3f}" if roi in dice else "not scored"
        rows.append(f"| {roi} | {facts.get('patients', '')} | {volumes} | {score} |")
    return "\n".join(rows)


def _how(bundle: ModelBundle) -> str:
    spacing = " x ".join(f"{s:g}" for s in bundle.preprocess.spacing_mm_kij)
    windows = " and ".join(f"{low:g} to {high:g} HU" for low, high in bundle.preprocess.windows_hu)
    network = bundle.network
    return (
        f"The CT is brought to voxels of {spacing} mm (superior, posterior, left), cropped to the body, everything "
        f"outside it set to air, and seen through {windows}. A residual U-Net ({network.name}, {network.levels} "
        f"levels, {network.base_filters} to {network.filters[-1]} filters, {network.norm} norm) gives one logit per "
        "ROI and voxel; each ROI's field goes back to the CT's own grid, where the contour is its zero level. ROIs "
        "that a training patient did not have contoured taught nothing, neither as organ nor as background."
    )


def _results(results: Mapping[str, Any]) -> str:
    if not results:
        return "None."
    lines = [
        f"{results['what']}: mean {results['mean_dice']:.3f} over {len(results['dice'])} ROIs, "
        f"{results['patients']} patients."
    ]
    if results.get("worst"):
        lines.append("Worst: " + "; ".join(results["worst"]) + ".")
    return " ".join(lines)


def _list(facts: Mapping[str, Any]) -> str:
    return "\n".join(
        f"- {key.replace('_', ' ')}: {value}" for key, value in facts.items() if value not in ("", None, [])
    )
