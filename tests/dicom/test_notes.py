"""Notes: sentences that stay `str`, with a kind for programs."""

from __future__ import annotations

import json

from contour_ai.dicom.notes import (
    Note,
    code_of,
    contours_overlap,
    frame_not_the_cts,
    places_in_words,
    prefixed,
)


def test_a_note_is_its_sentence() -> None:
    note = contours_overlap("Heart", 2, "slices 3-4 (z = +6.0 to +9.0 mm)")
    assert note == (
        "ROI Heart: 2 contours overlap each other in part and count as one area (slices 3-4 "
        "(z = +6.0 to +9.0 mm)); other systems may cut out what they share"
    )
    assert json.loads(json.dumps([note])) == [str(note)]
    assert (note.code, note.roi, note.level) == ("overlap", "Heart", "differs")


def test_the_file_in_front_keeps_the_kind() -> None:
    named = prefixed(Note("a sentence", "kind", "standard"), "rs.dcm")
    assert named == "rs.dcm: a sentence"
    assert (code_of(named), code_of("a sentence")) == ("kind", "")
    assert prefixed("a sentence", "rs.dcm") == "rs.dcm: a sentence"


def test_long_lists_are_cut() -> None:
    assert places_in_words(["a", "b", "c"]) == "a; b; c"
    assert places_in_words(["a", "b", "c", "d", "e"]) == "a; b; c and 2 more"


def test_a_note_is_one_line_whatever_the_file_holds() -> None:
    note = frame_not_the_cts("1.2\nno problems\r\n\tCT series", "1.3")
    assert str(note).startswith("frame of reference 1.2 no problems CT series is not the CT's")
    assert "\n" not in note and "\n" not in note.prefixed("rs\n.dcm")
