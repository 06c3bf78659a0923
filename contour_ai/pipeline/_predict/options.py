"""What a prediction can be told, and the record of it in the summary."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from contour_ai.bundle import ModelBundle
from contour_ai.bundle.poor_models import poor_rois
from contour_ai.derived.recipe import load_recipe
from contour_ai.dicom.profile import load_profile, profile_names


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """What `predict` can be told besides patient, model and output folder."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    rois: tuple[str, ...] | None = None
    """Only these ROIs of the model (and Body, where it is named); None for all and Body."""
    tta: bool | None = None
    """Average with the left-right mirror image, which doubles the network's time. None: the model's setting."""
    profile: str = "generic"
    """Limits of the importing system: a profile's name, or the path of a YAML file."""
    overlays: bool = True
    """Whether to draw a picture for every slice; the montage is always drawn."""
    report: bool | Literal["stopped"] = False
    """Whether to write `report.html`, a viewer of CT and contours in one file; `stopped`: only of a patient whose
    verdict is `stop`, since that of others can be written later (`write_late_report`)."""
    seg: Literal["binary", "fractional"] | None = None
    """Whether to write a DICOM SEG beside the structure set, too: masks, or the probabilities behind them."""
    surfaces: Literal["stl", "ply"] | None = None
    """Whether to write a surface of every ROI into `surfaces/`, too."""
    derive: str | Path | None = None
    """A recipe (name or YAML file): structures to derive from what is found, and from those of `into`."""
    template: Path | None = None
    """A structure template: names, colours, types and order of the structure set."""
    into: Path | None = None
    """A structure set: the output is a copy of it, to which the contours are added."""
    keep_stopped: bool = False
    """Write ROIs and patients whose verdict is `stop`, too."""
    overwrite: bool = False
    """Replace what an earlier prediction of the same patient left."""
    uids_from: str = ""
    """Text that fixes the UIDs of the structure set, for a caller that must know them before; empty for new ones."""
    series_uid: str | None = None
    """The CT series to take where the folder has several."""
    structure_set: str = "only"
    """Which of several structure sets of the patient the prediction is compared with (see `choose_structure_set`)."""
    allow_poor: bool = False
    """Whether ROIs are drawn whose Dice was below 0.5 when the model was validated."""
    acquisition: int | None = None
    """The AcquisitionNumber to take where several acquisitions overlap in the series; None refuses such a series."""


def poor_note(bundle: ModelBundle, options: PredictOptions) -> tuple[str, ...]:
    """A sentence on each ROI that is not predicted because its Dice in validation was too low."""
    if options.allow_poor or options.rois is not None:
        return ()
    return tuple(
        f"{roi} is not drawn: the model's Dice for it was {dice:.3f} in validation (--allow-poor draws it)"
        for roi, dice in poor_rois(bundle).items()
    )


def options_record(options: PredictOptions, bundle: ModelBundle) -> Mapping[str, object]:
    """The options that decide what is contoured and under which names, as `summary.json` has them."""
    return {
        "rois": None if options.rois is None else list(options.rois),
        "tta": bundle.uses_mirror_tta(options.tta),
        "profile": str(options.profile),
        **_profile_rules(options.profile),
        "series_uid": options.series_uid,
        **({"keep_stopped": True} if options.keep_stopped else {}),
        **({} if options.acquisition is None else {"acquisition": options.acquisition}),
        **({"allow_poor": True} if options.allow_poor else {}),
        **_file_rules(options),
    }


def _file_rules(options: PredictOptions) -> dict[str, str]:
    """Hashes of recipe, template and structure set: the files may say something else the next time."""
    rules = {}
    if options.derive is not None:
        rules["recipe_sha256"] = load_recipe(options.derive).sha256
    for key, path in (("template_sha256", options.template), ("into_sha256", options.into)):
        if path is not None:
            rules[key] = hashlib.sha256(path.read_bytes()).hexdigest()
    return rules


def _profile_rules(profile: str) -> dict[str, str]:
    """What a profile from a file says: the file may say something else the next time."""
    if profile in profile_names():
        return {}
    return {"profile_rules": repr(load_profile(profile))}
