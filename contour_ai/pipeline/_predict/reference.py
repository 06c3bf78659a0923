"""The contours that a patient has already, to compare a prediction with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contour_ai.dicom.ct import CTSeries
from contour_ai.dicom.frames import drawn_on
from contour_ai.dicom.notes import prefixed
from contour_ai.dicom.rtstruct_read import load_structure_set, read_structures
from contour_ai.dicom.scan import PatientFiles
from contour_ai.errors import InputError, UnforeseenError
from contour_ai.faults import patient_boundary
from contour_ai.pipeline.result import PredictedRoi
from contour_ai.pipeline.roi_matching import match_in
from contour_ai.structures.matching import EXTERNAL


@dataclass(frozen=True, eq=False)
class Reference:
    """The patient's own contours of predicted ROIs: {predicted ROI: mask (k, i, j)}, their file, what was odd in it."""

    masks: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    path: Path | None = None
    notes: tuple[str, ...] = ()


def find_reference(files: PatientFiles, ct: CTSeries, rois: Sequence[PredictedRoi]) -> Reference:
    """The patient's own contours of the predicted ROIs, where there is one structure set with any of them.

    They are for comparison only: what is wrong with them becomes a note.
    """
    if len(files.structure_sets) != 1:
        return Reference()
    try:
        with patient_boundary(f"comparing with {files.structure_sets[0].path}"):
            return _reference_in(files, ct, rois)
    except (InputError, UnforeseenError) as error:
        where = error.where or files.structure_sets[0].path
        why = "; ".join(filter(None, (error.found, error.fix)))
        return Reference(notes=(f"not compared with {where}: {error.what} {why}",))


def _reference_in(files: PatientFiles, ct: CTSeries, rois: Sequence[PredictedRoi]) -> Reference:
    path = files.structure_sets[0].path
    notes: list[str] = []
    structure_set = drawn_on(load_structure_set(path), ct)
    matches = {
        roi.info.name: match_in(roi.info.name, structure_set, external=roi.info.interpreted_type == EXTERNAL)
        for roi in rois
    }
    partners = {roi: match.name for roi, match in matches.items() if match.name is not None}
    notes += [f"{match.remark} in {path.name}" for match in matches.values() if match.remark]
    if not partners:
        elsewhere = [*notes, *(prefixed(note, path.name) for note in structure_set.notes)]
        nothing = f"{path} has none of the model's ROIs: nothing to compare with"
        return Reference(notes=(*elsewhere, nothing))
    structures = read_structures(structure_set, ct, names=list(partners.values()), on_note=notes.append)
    contoured = set(structures.contoured())
    masks = {ours: structures.mask(theirs) for ours, theirs in partners.items() if theirs in contoured}
    return Reference(masks, path if masks else None, tuple(notes))
