"""Reads structure sets and brings their ROIs to a CT's grid: masks, or bits in `Structures`.

Nothing is dropped without a note that names it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from contour_ai.dicom import notes, placing
from contour_ai.dicom.frames import drawn_on, frame_notes
from contour_ai.dicom.placing import AREA_TYPES, OnNote, PlacedRoi, place_roi
from contour_ai.dicom.rtstruct_parse import is_cut_short, load_structure_set
from contour_ai.dicom.structure_set import ContourRead, RoiContoursRead, StructureSet
from contour_ai.errors import InputError
from contour_ai.polygons import Polygon, filled_slices
from contour_ai.volume import MAX_ROIS, Structures, bits_dtype, set_roi_voxels

if TYPE_CHECKING:
    from contour_ai.dicom.ct import CTSeries

__all__ = [
    "AREA_TYPES",
    "ContourRead",
    "OnNote",
    "RoiContoursRead",
    "StructureSet",
    "contours_on_slices",
    "is_cut_short",
    "iter_masks",
    "iter_placed",
    "load_structure_set",
    "read_structures",
    "refuse_strangers",
]

log = logging.getLogger(__name__)


def read_structures(
    source: str | Path | StructureSet,
    ct: CTSeries,
    *,
    names: Sequence[str] | None = None,
    on_note: OnNote | None = None,
) -> Structures:
    """Reads the ROIs of a structure set as bits on a CT's grid; a voxel is inside where its centre is.

    Args:
        source: the RTSTRUCT file, or a structure set that was read before.
        ct: the CT that it was drawn on.
        names: ROIs to read, in this order; None for all.
        on_note: told, in plain words, what was odd or could not be used; without it that goes to the log as warnings.

    Returns:
        Structures on `ct.grid`, (k, i, j). A ROI is present where it has at least one closed contour on the CT.

    Raises:
        InputError: not a structure set, of another patient, or more than 64 ROIs.
    """
    structure_set, note = _opened(source, ct, on_note)
    wanted = tuple(structure_set.names if names is None else names)
    if len(wanted) > MAX_ROIS:
        raise InputError(
            "Too many ROIs for one set of structures.",
            where=structure_set.path,
            found=len(wanted),
            expected=f"at most {MAX_ROIS}",
            fix="name the ROIs you need",
        )
    bits = np.zeros(ct.grid.shape_kij, bits_dtype(len(wanted)))
    presence = []
    for r, name in enumerate(wanted):
        slices = _slices_of(structure_set, name, ct, note)
        for k, box, inside in filled_slices(slices, ct.grid.shape_kij[1:]):
            set_roi_voxels(bits[k][box], r, inside)
        presence.append(bool(slices))
    return Structures(bits=bits, grid=ct.grid, names=wanted, presence=tuple(presence))


def iter_masks(
    source: str | Path | StructureSet,
    ct: CTSeries,
    names: Sequence[str] | None = None,
    *,
    on_note: OnNote | None = None,
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """(name, mask (k, i, j)) of ROI after ROI, so that only one mask is in memory; empty where it has no contour."""
    structure_set, note = _opened(source, ct, on_note)
    for name in structure_set.names if names is None else names:
        mask = np.zeros(ct.grid.shape_kij, dtype=bool)
        for k, box, inside in filled_slices(_slices_of(structure_set, name, ct, note), ct.grid.shape_kij[1:]):
            mask[k][box] = inside
        yield name, mask


def iter_placed(
    source: str | Path | StructureSet,
    ct: CTSeries,
    names: Sequence[str] | None = None,
    *,
    on_note: OnNote | None = None,
) -> Iterator[tuple[str, PlacedRoi | None]]:
    """(name, its contours on the slices) of ROI after ROI; None for a name that the structure set does not have.

    Raises:
        InputError: not a structure set, or of another patient.
    """
    structure_set, note = _opened(source, ct, on_note)
    rois = {roi.name: roi for roi in reversed(structure_set.rois)}
    for name in structure_set.names if names is None else names:
        roi = rois.get(name)
        if roi is None:
            note(notes.no_such_roi(name))
        yield name, None if roi is None else place_roi(roi, ct, note)


def contours_on_slices(
    roi: RoiContoursRead, ct: CTSeries, on_note: OnNote | None = None
) -> dict[int, list[Polygon]]:
    """{k: (N, 2) polygons in slice coordinates} of one ROI (see `placing.contours_on_slices`); notes go to the log
    where nobody is told.
    """
    return placing.contours_on_slices(roi, ct, on_note or log.warning)


# -- placing on slices -------------------------------------------------------------------------------------------


def _opened(
    source: str | Path | StructureSet, ct: CTSeries, on_note: OnNote | None
) -> tuple[StructureSet, OnNote]:
    structure_set = source if isinstance(source, StructureSet) else load_structure_set(Path(source))

    def note(text: str) -> None:
        (on_note or log.warning)(notes.prefixed(text, structure_set.path.name))

    refuse_strangers(structure_set, ct)
    for text in (*structure_set.notes, *frame_notes(structure_set, ct)):
        note(text)
    return structure_set, note


def refuse_strangers(structure_set: StructureSet, ct: CTSeries) -> None:
    """Raises InputError where the structure set belongs to another patient, by ID and by every reference; or where its
    contours lie on other CT series of the folder as well.

    De-identified exports often differ in one of them; all together are another patient.
    """
    drawn_on(structure_set, ct)
    patient = str(ct.header.get("PatientID") or "")
    frame = ct.grid.frame_of_reference_uid
    series = str(ct.header.get("SeriesInstanceUID") or "")
    images = set(ct.sop_instance_uids)
    frames = {f.uid for f in structure_set.frames if f.series_uids or f.image_uids}
    frames.update(roi.frame_of_reference_uid for roi in structure_set.rois)
    if (
        patient
        and structure_set.patient_id not in ("", patient)
        and (not frame or frame not in frames)
        and series not in structure_set.referenced_series_uids
        and not any(c.image_uid in images for roi in structure_set.rois for c in roi.contours)
    ):
        raise InputError(
            "The structure set belongs to another patient than the CT.",
            where=structure_set.path,
            found=f"patient {structure_set.patient_id}",
            expected=f"patient {patient}",
            fix="give the structure set that was drawn on this CT",
        )


def _slices_of(
    structure_set: StructureSet, name: str, ct: CTSeries, note: OnNote
) -> dict[int, list[Polygon]]:
    roi = next((r for r in structure_set.rois if r.name == name), None)
    if roi is None:
        note(notes.no_such_roi(name))
        return {}
    return contours_on_slices(roi, ct, note)
