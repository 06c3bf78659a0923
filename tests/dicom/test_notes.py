"""Notes: sentences that stay `str`, with a kind for programs."""

from __future__ import annotations

import json

import numpy as np

from contour_ai.dicom.notes import Note, code_of, contours_overlap, listed, prefixed, slice_place
from contour_ai.grid import Grid


def test_a_note_is_its_sentence() -> None:
    note = contours_overlap("Heart", 2, ["slice 3 (z = 6 mm)", "slice 4 (z = 9 mm)"])
    assert note == (
        "ROI Heart: 2 contours overlap another one in part and are joined with it (slice 3 (z = 6 mm); "
        "slice 4 (z = 9 mm)); other systems may cut out what they share"
    )
    assert json.loads(json.dumps([note])) == [str(note)]
    assert (note.code, note.roi, note.level) == ("overlap", "Heart", "differs")


def test_the_file_in_front_keeps_the_kind() -> None:
    named = prefixed(Note("a sentence", "kind", "standard"), "rs.dcm")
    assert named == "rs.dcm: a sentence"
    assert (code_of(named), code_of("a sentence")) == ("kind", "")
    assert prefixed("a sentence", "rs.dcm") == "rs.dcm: a sentence"


def test_slices_are_numbered_from_one_with_their_position() -> None:
    axial = Grid.axial((3, 4, 4), (2.5, 1, 1), (0, 0, -2.5))
    assert [slice_place(axial, k) for k in range(3)] == [
        "slice 1 (z = -2.5 mm)", "slice 2 (z = 0 mm)", "slice 3 (z = 2.5 mm)",
    ]  # fmt: skip
    coronal = Grid((2, 4, 4), np.array([[0, 8.0, 0], [0, 11.0, 0]]), (0, 0, -1), (1, 0, 0))
    assert slice_place(coronal, 0) == "slice 1 (y = 8 mm)"


def test_long_lists_are_cut() -> None:
    assert listed(["a", "b", "c"]) == "a; b; c"
    assert listed(["a", "b", "c", "d", "e"]) == "a; b; c and 2 more"
