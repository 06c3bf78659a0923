"""Whether a patient lies as the header says: a head where feet should be, face down instead of up, on a side.

Positions and directions in a CT's header follow from the position that somebody chose at the scanner. Where that was
the wrong one, left and right, front and back or head and feet are exchanged in every file, and the network draws some
organs all the same. So, where its contours are not plausible, the image is turned in the five other ways in which a
patient can lie, and where the contours become plausible in one of them, the header is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from contour_ai.box import bounding_box
from contour_ai.bundle import ModelBundle
from contour_ai.grid import Grid
from contour_ai.pipeline._predict.model import LoadedModel
from contour_ai.pipeline._predict.opening import Opened
from contour_ai.pipeline.model_grid import after_rules
from contour_ai.quality.flag import EXTERNAL, Evidence, Flag, ImageEvidence, make_flag
from contour_ai.quality.flags import find_flags
from contour_ai.quality.judging import is_gross

Bool = NDArray[np.bool_]
T = TypeVar("T", bound=np.generic)

SUSPICIOUS = 0.4
"""Mean implausibility of a patient's ROIs from which the image is looked at turned, too."""
PLAUSIBLE_WHEN_TURNED = 0.3
"""In the turned image it is at most this,"""
BETTER = 0.3
"""and lower by this."""
FEWEST_ROIS = 3
"""A model of fewer ROIs cannot tell."""
SQUARE = 0.02
"""Pixels of the model whose sides differ by less can be turned by 90 degrees."""
TURNED_OVERLAP = 0.1
"""Where the network runs in windows, those of turned images overlap by this: whether organs lie where they should does
not need the eightfold cover of contours, and there are five images."""

DOUBTFUL = frozenset(
    {"position_to_rois", "position_in_body", "wrong_side", "volume", "low_confidence", "mean_hu", "speck"}
)
"""Findings that count half of an empty or grossly wrong ROI."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A way in which the patient may lie to what the header says.

    Args:
        words: after "the patient seems to".
        exchanged: what is then the other way round in every contour.
    """

    words: str
    exchanged: str


ON_A_SIDE = Turn(
    words="lie turned by 90 degrees about the long axis to what the header says",
    exchanged="left, right, front and back",
)
TURNS: Mapping[str, Turn] = {
    "face": Turn(
        words="lie face down where the header says face up, or the other way round",
        exchanged="left and right, front and back",
    ),
    "feet": Turn(
        words="lie with the feet where the header says the head is",
        exchanged="left and right, head and feet",
    ),
    "feet and face": Turn(
        words="lie with the feet where the header says the head is, and face down instead of up",
        exchanged="front and back, head and feet",
    ),
    "left side": ON_A_SIDE,
    "right side": ON_A_SIDE,
}


def turned(array: NDArray[T], turn: str) -> NDArray[T]:
    """An array (k, i, j) with axes superior, posterior, left of the patient who lies in that way; never mirrored."""
    ways: Mapping[str, Callable[[NDArray[T]], NDArray[T]]] = {
        "face": lambda a: a[:, ::-1, ::-1],
        "feet": lambda a: a[::-1, :, ::-1],
        "feet and face": lambda a: a[::-1, ::-1, :],
        "left side": lambda a: np.rot90(a, 1, (1, 2)),
        "right side": lambda a: np.rot90(a, -1, (1, 2)),
    }
    return np.ascontiguousarray(ways[turn](array))


def implausible(flags: Mapping[str, Sequence[Flag]], organs: Sequence[str]) -> float:
    """Mean over the organs: 1 where one is empty or grossly wrong, 0.5 where it is doubtful, else 0."""
    total = 0.0
    left_out = frozenset({"beyond_scan", "other_sex"})
    organs = [name for name in organs if all(flag.code not in left_out for flag in flags.get(name, ()))]
    for name in organs:
        found = flags.get(name, ())
        if any(flag.code == "empty" or is_gross(flag) for flag in found):
            total += 1
        elif any(flag.code in DOUBTFUL for flag in found):
            total += 0.5
    return total / max(1, len(organs))


def orientation_finding(
    patient: Opened,
    logits: NDArray[np.float32],
    model: LoadedModel,
    flags: Mapping[str, Sequence[Flag]] | None = None,
) -> Flag | None:
    """The finding on a patient who lies otherwise than the header says; None where nothing speaks for that.

    Args:
        logits: (R, k, i, j) as the image stands.
        flags: of the ROIs found so, where they are known already. The network runs again only where these are not
            plausible.
    """
    bundle, prepared = model.bundle, patient.prepared
    organs = [roi.name for roi in bundle.rois if roi.interpreted_type != EXTERNAL]
    if len(organs) < FEWEST_ROIS or bundle.ranges is None:
        return None
    if flags is None or any(name not in flags for name in organs):
        flags = _flags(logits, prepared.hu, prepared.body, bundle)
    as_it_stands = implausible(flags, organs)
    if as_it_stands < SUSPICIOUS:
        return None
    found = {turn: _when_turned(patient, turn, model, organs) for turn in _possible(bundle)}
    best = min(found, key=lambda turn: found[turn])
    if found[best] > min(PLAUSIBLE_WHEN_TURNED, as_it_stands - BETTER):
        return None
    position = str(patient.ct.header.get("PatientPosition") or "none")
    reason = (
        f"the patient seems to {TURNS[best].words} (PatientPosition {position}): the organs lie where they should when "
        f"the image is turned so, and not as it stands. {TURNS[best].exchanged.capitalize()} would be exchanged in "
        "every contour: correct the patient's position in the images"
    )
    return make_flag("input_orientation", reason, as_it_stands, None, found[best])


def _possible(bundle: ModelBundle) -> list[str]:
    _, i, j = bundle.preprocess.spacing_mm_kij
    return [turn for turn in TURNS if TURNS[turn] is not ON_A_SIDE or abs(i - j) <= SQUARE * min(i, j)]


def _when_turned(patient: Opened, turn: str, model: LoadedModel, organs: Sequence[str]) -> float:
    """How implausible the contours are when the image is turned; judged on the model's grid alone."""
    from contour_ai.inference import Predictor

    bundle = model.bundle
    hu, body = turned(patient.prepared.hu, turn), turned(patient.prepared.body, turn)
    predictor = Predictor.of(bundle, model.network, model.device, model.autocast, tta=False)
    overlap = min(TURNED_OVERLAP, bundle.inference.overlap)
    logits = replace(predictor, inference=replace(bundle.inference, overlap=overlap)).logits(hu)
    return implausible(_flags(logits, hu, body, bundle), organs)


def _flags(
    logits: NDArray[np.float32], hu: NDArray[np.int16], body: Bool, bundle: ModelBundle
) -> Mapping[str, Sequence[Flag]]:
    """The findings on every ROI of the model, on its own grid."""
    spacing, outside = bundle.preprocess.spacing_mm_kij, bundle.preprocess.outside_hu
    ruled = after_rules(bundle, logits, hu, body, spacing)
    evidence = []
    for info in bundle.rois:
        logit, level = ruled[info.name]
        inside = (logit > level) & body
        box = bounding_box(inside)
        evidence.append(
            Evidence(
                info=info, box=box, inside=None if box is None else inside[box], logit=logit, threshold=level
            )
        )
    k, i, j = hu.shape
    grid = Grid.axial((k, i, j), spacing, (0.0, 0.0, 0.0))
    return find_flags(
        evidence,
        ImageEvidence(grid=grid, body=body, hu=hu, model_grid=grid, outside_hu=outside),
        bundle.ranges,
    ).rois
