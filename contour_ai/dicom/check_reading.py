"""What `check` says of a structure set because the program's own reader says it: the same sentences, in one place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from contour_ai.dicom.finding import Finding, Findings
from contour_ai.dicom.frames import frame_notes, on_several_series
from contour_ai.dicom.notes import Note, contours_on_several_series
from contour_ai.dicom.other_series import WAY_OUT
from contour_ai.dicom.placing import contours_on_slices
from contour_ai.dicom.rtstruct_parse import load_structure_set
from contour_ai.errors import InputError

if TYPE_CHECKING:
    from contour_ai.dicom.ct import CTSeries


def reading_findings(path: Path, ct: CTSeries | None) -> Findings:
    """The notes of reading a file and, with a CT, of bringing its contours to the slices."""
    notes: list[str] = []
    try:
        structure_set = load_structure_set(path)
    except InputError:
        return  # the other rules say what is wrong with it
    notes += structure_set.notes
    if ct is not None:
        several = on_several_series(structure_set, ct)
        if several is not None:
            notes.append(contours_on_several_series(several.counts(), WAY_OUT))
        notes += frame_notes(structure_set, ct)
        for roi in structure_set.rois:
            contours_on_slices(roi, ct, notes.append)
    for note in notes:
        if isinstance(note, Note):
            yield Finding(
                level=note.level,
                rule=note.code,
                message=str(note),
                where=f"ROI {note.roi}" if note.roi else "",
            )
