"""Pseudo-labels: ROIs that training patients lack, drawn by the network and learnt from with less weight.

Self-training for partial labels, as in Cubero et al. (2022). Validation patients never have any.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contour_ai.files import atomic_folder
from contour_ai.progress import OnProgress, ProgressEvent, no_progress
from contour_ai.training.cache import Case, contoured_cm3
from contour_ai.volume import UNKNOWN

PLAUSIBLE_PERCENTILES = (5.0, 95.0)
"""Percentiles of a ROI's volume where it is contoured; what is drawn smaller or larger is not taken."""

FEWEST_FOR_VOLUMES = 5
"""A ROI that fewer patients have gets none: nothing says what volume is plausible."""

LISTING = "pseudo-labels.json"
EARLIER_LISTING = "filled.json"
"""Of contour-ai 0.1."""


def draw_pseudo_labels(
    cases: Sequence[Case],
    predict: Callable[[Case], NDArray[np.float32]],
    exclusive: NDArray[np.bool_] | None,
    folder: Path,
    on_progress: OnProgress = no_progress,
) -> list[Case]:
    """The training patients with pseudo-labels for ROIs that are neither contoured nor known to be absent.

    Contours stay as they are; a ROI is not drawn into contoured ones that never overlap it.

    Args:
        cases: the training patients, all with the same ROIs.
        predict: gives the (R, k, i, j) logits of a patient.
        exclusive: (R, R) true for ROIs that never overlap; None for none.
        folder: where the result is written, for `load_pseudo_labels`; replaced as a whole.
        on_progress: stage "pseudo-labels".

    Raises:
        OutputError: the folder cannot be written.
    """
    limits = _plausible_cm3(cases)
    listing: list[list[str]] = []
    with atomic_folder(folder, overwrite=True, owned=True, private=True) as temporary:
        for n, case in enumerate(cases):
            on_progress(
                ProgressEvent(
                    stage="pseudo-labels", done=n, total=len(cases), facts={"patient": case.patient_id}
                )
            )
            wanted = [r for r, state in enumerate(case.states) if state == UNKNOWN and case.rois[r] in limits]
            rois: list[str] = []
            if wanted:
                bits, rois = _drawn(case, wanted, predict(case), exclusive, limits)
                if rois:
                    np.save(temporary / _name(n), bits)
            listing.append(rois)
        (temporary / LISTING).write_text(
            json.dumps([[c.patient_id, rois] for c, rois in zip(cases, listing, strict=True)], indent=0),
            encoding="utf-8",
        )
    on_progress(ProgressEvent(stage="pseudo-labels", done=len(cases), total=len(cases)))
    return load_pseudo_labels(cases, folder)


def load_pseudo_labels(cases: Sequence[Case], folder: Path) -> list[Case]:
    """The training patients as `draw_pseudo_labels` wrote them in `folder`."""
    path = folder / LISTING
    path = path if path.is_file() else folder / EARLIER_LISTING
    listing = json.loads(path.read_text(encoding="utf-8"))
    return [
        replace(case, labels=folder / _name(n), pseudo_labels=tuple(rois)) if rois else case
        for n, (case, (_, rois)) in enumerate(zip(cases, listing, strict=True))
    ]


def pseudo_label_counts(cases: Sequence[Case]) -> dict[str, int]:
    """{ROI: patients who have a pseudo-label of it}, for those that any has."""
    rois = [roi for case in cases for roi in case.pseudo_labels]
    return {roi: rois.count(roi) for roi in cases[0].rois if roi in rois}


def _name(n: int) -> str:
    return f"{n:06d}.npy"


def _drawn(
    case: Case,
    wanted: Sequence[int],
    logits: NDArray[np.float32],
    exclusive: NDArray[np.bool_] | None,
    limits: dict[str, tuple[float, float]],
) -> tuple[NDArray[np.unsignedinteger], list[str]]:
    """The patient's bits with what was drawn, and which ROIs that are."""
    contoured = np.asarray(case.bits)
    bits, dtype, rois = contoured.copy(), contoured.dtype.type, []
    voxel_cm3 = float(np.prod(case.spacing_mm_kij)) / 1000
    for r in wanted:
        mask = logits[r] > 0
        if exclusive is not None:
            taken = sum(1 << int(other) for other in np.flatnonzero(exclusive[r]))
            mask &= (contoured & dtype(taken)) == 0
        low, high = limits[case.rois[r]]
        if mask.any() and low <= np.count_nonzero(mask) * voxel_cm3 <= high:
            bits |= mask.astype(bits.dtype) << dtype(r)
            rois.append(case.rois[r])
    return bits, rois


def _plausible_cm3(cases: Sequence[Case]) -> dict[str, tuple[float, float]]:
    """{ROI: smallest and largest plausible volume}, of ROIs that enough patients have."""
    limits = {}
    for roi, volumes in contoured_cm3(cases, cases[0].rois).items():
        if len(volumes) >= FEWEST_FOR_VOLUMES:
            low, high = np.percentile(volumes, PLAUSIBLE_PERCENTILES)
            limits[roi] = (float(low), float(high))
    return limits
