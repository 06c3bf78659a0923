"""The sentences on what was odd in an input and what was done about it: one function for each, used by every command.

A note is a `str`, so that it can be printed, logged and written to JSON as it is; `code` names its kind for programs,
and `level` says what it means for other systems (see `contour_ai.dicom.finding`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from contour_ai.dicom.values import on_one_line
from contour_ai.errors import listed

Level = Literal["refused", "standard", "differs"]
"""Known to be refused by a system; breaks the standard; read differently by different systems."""

EMPTY_ROI, OTHER_FRAME, SLICE_GAP, ACQUISITION = "empty-roi", "other-frame", "slice-gap", "acquisition"
PASSES_SUSPECTED = "passes-suspected"
"""Kinds that programs ask for."""

PLACES_NAMED = 3
"""Places that a note names; of more it says how many."""


class Note(str):
    """One sentence for the user, without the file it concerns.

    Args:
        text: the sentence, without a full stop at its end.
        code: short stable name of its kind.
        level: what `check` makes of it.
        roi: the ROI that it concerns, empty where it concerns none.
    """

    code: str
    level: Level
    roi: str

    def __new__(cls, text: str, code: str, level: Level = "differs", roi: str = "") -> Note:
        note = super().__new__(cls, on_one_line(text))  # UIDs and labels of damaged files have line ends
        note.code, note.level, note.roi = code, level, roi
        return note

    def prefixed(self, prefix: str) -> Note:
        """The same note with the file, or what else it concerns, in front: "prefix: sentence"."""
        return Note(f"{prefix}: {self}", self.code, self.level, self.roi)


def prefixed(note: str, prefix: str) -> str:
    """ "prefix: sentence"; a `Note` stays one."""
    return note.prefixed(prefix) if isinstance(note, Note) else f"{prefix}: {note}"


def code_of(note: str) -> str:
    """The kind of a note; empty for a plain sentence."""
    return note.code if isinstance(note, Note) else ""


# -- wording -------------------------------------------------------------------------------------------------------


def places_in_words(places: Sequence[str], separator: str = "; ") -> str:
    """The first places, and how many more there are."""
    return listed(places, between=separator, most=PLACES_NAMED)


def counted(number: int, one: str) -> str:
    """ "1 contour", "3 contours"."""
    return f"{number} {one}" if number == 1 else f"{number} {one}s"


# -- what was predicted --------------------------------------------------------------------------------------------


def removed_outside_body(roi: str, volume_cm3: float) -> Note:
    """What of a predicted contour lay outside the body."""
    return Note(f"{roi}: {volume_cm3:.2g} cm3 outside the body were removed", "outside-body", roi=roi)


# -- which ROIs ----------------------------------------------------------------------------------------------------


def other_frame(roi: str, why: str) -> Note:
    """A ROI that was drawn in another frame of reference, as on an unregistered MR."""
    return Note(f"ROI {roi} was not drawn on this CT and is left out: {why}", OTHER_FRAME, roi=roi)


def frame_not_the_cts(frame: str, ct_frame: str) -> Note:
    """A structure set that refers to the CT, but names another frame of reference."""
    return Note(
        f"frame of reference {frame} is not the CT's ({ct_frame}); contours are placed by their coordinates",
        "frame-of-reference",
    )


def contours_on_several_series(counts: str, way_out: str) -> Note:
    """A structure set that other commands refuse, as each of the series would get a part of its contours."""
    return Note(
        f"the contours lie on several CT series of one folder, {counts}; commands that read contours refuse this: "
        f"{way_out}",
        "several-series",
    )


def no_such_roi(roi: str) -> Note:
    """A ROI that was asked for."""
    return Note(f"there is no ROI {roi}", "no-such-roi", roi=roi)


def no_contours(roi: str) -> Note:
    """A ROI that is named, but not drawn."""
    return Note(f"ROI {roi} has no contours", EMPTY_ROI, roi=roi)


def gap_text(missing: int, extent: int) -> str:
    """Slices without a contour between the first and the last one of a ROI."""
    have = "slice within it has" if missing == 1 else "slices within it have"
    return f"{missing} {have} no contour, of {extent} from its first to its last"


def slices_without_contour(roi: str, missing: int, extent: int, where: str) -> Note:
    """Gaps within an organ: contours on every second slice, or planes farther apart than the slices."""
    text = f"ROI {roi}: {gap_text(missing, extent)} ({where}); nothing is interpolated"
    return Note(text, SLICE_GAP, roi=roi)


def acquisition_chosen(number: int, of: int, name: str, used: int, unused: int) -> Note:
    """One of several acquisitions in a series is read."""
    return Note(
        f"acquisition {number} of {of} was chosen ({name}, {used} slices); {unused} slices of the others are not used",
        ACQUISITION,
    )


def passes_suspected(attribute: str, passes: int) -> Note:
    """Slices of several passes may have been read as one CT."""
    return Note(
        f"the slices may be {passes} passes half-way between each other, read as one CT: by {attribute} they were made "
        f"in {passes} runs through the patient",
        PASSES_SUSPECTED,
    )


def setting_takes_turns(attribute: str, values: Sequence[str]) -> Note:
    """Slices of several passes may have been read as one CT: a setting changes from slice to slice and back."""
    return Note(
        f"the slices may be {len(values)} passes half-way between each other, read as one CT: {attribute} takes turns "
        f"({listed(values)})",
        PASSES_SUSPECTED,
    )


def neighbours_unlike(passes: int) -> Note:
    """Slices of several passes may have been read as one CT: the images say so."""
    each = "second" if passes == 2 else "third" if passes == 3 else f"{passes}th"
    return Note(
        f"every {each} slice resembles the next more than its neighbours: they may be {passes} passes half-way between "
        "each other, read as one CT, or a slow scan of a patient who breathed; look at it from the side",
        PASSES_SUSPECTED,
    )


# -- contours of one slice -----------------------------------------------------------------------------------------


def contours_twice(roi: str, number: int, where: str) -> Note:
    """Copies of contours, to the digit or not."""
    there = "contour is there twice and counts" if number == 1 else "contours are there twice and count"
    return Note(f"ROI {roi}: {number} {there} once ({where})", "twice", roi=roi)


def contours_overlap(roi: str, number: int, where: str) -> Note:
    """Contours of one slice that overlap in part: neither copies nor holes."""
    return Note(
        f"ROI {roi}: {counted(number, 'contour')} overlap each other in part and count as one area ({where}); "
        "other systems may cut out what they share",
        "overlap",
        roi=roi,
    )


def holes_poke_out(roi: str, number: int, where: str) -> Note:
    """Contours that lie within another one but for a small part."""
    lie, are = ("lies", "is a hole") if number == 1 else ("lie", "are holes")
    return Note(
        f"ROI {roi}: {counted(number, 'contour')} {lie} within another one but for a small part and {are} ({where}); "
        "other systems may add what pokes out",
        "hole-pokes-out",
        roi=roi,
    )


# -- contours that are odd by themselves ---------------------------------------------------------------------------


def contours_unreadable(roi: str, number: int, places: str) -> Note:
    """ContourData that holds no list of points."""
    return _contours(
        roi, number, "cannot be read and is not used", "cannot be read and are not used", places, "contour-data",
        "standard",
    )  # fmt: skip


def contours_repaired(roi: str, number: int, how: str, places: str) -> Note:
    """ContourData that is not written as the standard asks, but can only mean one thing."""
    return _contours(roi, number, f"is read {how}", f"are read {how}", places, "contour-data", "standard")


def contours_without_area(roi: str, number: int, kind: str, places: str) -> Note:
    """Points and open lines."""
    what = f"{kind} contour"
    return Note(
        f"ROI {roi}: {counted(number, what)} {'encloses' if number == 1 else 'enclose'} no area and "
        f"{'is' if number == 1 else 'are'} not used ({places})",
        "no-area",
        roi=roi,
    )


def contours_of_unknown_type(roi: str, number: int, kind: str, places: str) -> Note:
    """A geometric type that the standard does not have, of contours that are closed and planar all the same."""
    kind = f"of type {kind!r}" if kind else "without ContourGeometricType"
    return Note(
        f"ROI {roi}: {counted(number, 'contour')} {kind} {'is' if number == 1 else 'are'} used as CLOSED_PLANAR "
        f"({places})",
        "geometric-type",
        "standard",
        roi,
    )


def contours_of_few_points(roi: str, number: int, places: str) -> Note:
    """Closed contours of one or two points."""
    return _contours(
        roi, number, "has fewer than 3 points, encloses no area and is not used",
        "have fewer than 3 points, enclose no area and are not used", places, "few-points", "standard",
    )  # fmt: skip


def contours_not_planar(roi: str, number: int, places: str) -> Note:
    """Contours across the slices of the CT."""
    return _contours(
        roi, number, "does not lie in a slice plane and is not used", "do not lie in a slice plane and are not used",
        places, "off-plane",
    )  # fmt: skip


def contours_on_no_slice(roi: str, number: int, places: str) -> Note:
    """Contours half-way between two slices, or beyond the CT."""
    return _contours(
        roi,
        number,
        "lies on no slice and is not used",
        "lie on no slice and are not used",
        places,
        "off-plane",
    )


def contours_off_slice(roi: str, number: int, places: str) -> Note:
    """Contours beside the plane of their slice."""
    return _contours(
        roi, number, "lies off its slice and is used there", "lie off their slices and are used there", places,
        "off-plane",
    )  # fmt: skip


def contours_of_other_image(roi: str, number: int, places: str) -> Note:
    """Contours that refer to another slice than the one they lie on."""
    return _contours(
        roi, number, "refers to another image than the one on whose plane it lies; the plane decides",
        "refer to another image than the one on whose plane they lie; the plane decides", places, "other-image",
    )  # fmt: skip


def contours_of_second_plane(roi: str, number: int, places: str) -> Note:
    """Contours whose slice has nearer ones, as with planes closer together than the slices."""
    return _contours(
        roi, number, "is of a second plane on a slice that has a nearer one and is not used",
        "are of a second plane on a slice that has a nearer one and are not used", places, "second-plane",
    )  # fmt: skip


def _contours(
    roi: str, number: int, one: str, several: str, places: str, code: str, level: Level = "differs"
) -> Note:
    contours = f"1 contour {one}" if number == 1 else f"{number} contours {several}"
    return Note(f"ROI {roi}: {contours} ({places})", code, level, roi)


# -- values that are not as the standard wants them ----------------------------------------------------------------


def value_not_used(where: str, keyword: str, value: object, expected: str, *, roi: str = "") -> Note:
    """An optional value that cannot be read; the input is used without it."""
    return Note(
        f"{where}{keyword} is {str(value)!r}, not {expected}, and is not used", "value", "standard", roi
    )


def value_corrected(where: str, keyword: str, value: object, taken: object) -> Note:
    """A value that is written wrongly but can only mean one thing."""
    return Note(f"{where}{keyword} is written {str(value)!r} and is taken for {taken}", "value", "standard")


# -- the list of ROIs ----------------------------------------------------------------------------------------------


def roi_not_used(name: str, number: int | None) -> Note:
    """A ROI without a number of its own."""
    why = "no number" if number is None else f"the number {number} of another one"
    return Note(f"ROI {name or 'without name'} has {why} and is not used", "roi-number", "standard")


def roi_renamed(original: str, number: int, name: str) -> Note:
    """A ROI without a name of its own, or with line ends in it."""
    shown = original if original.isprintable() else repr(original)
    return Note(
        f"ROI {shown or 'without name'} (number {number}) is called {name} here", "roi-name", roi=name
    )


def roi_name_undecodable(name: str, number: int) -> Note:
    """Bytes that are no text in the character set that the file declares."""
    return Note(
        f"ROI {name} (number {number}) has a name that is not written in the character set that the file declares",
        "roi-name",
        roi=name,
    )


def contours_of_no_roi(number: int | None) -> Note:
    """An item of ROIContourSequence that leads nowhere."""
    if number is None:
        text = "an item of ROIContourSequence refers to no ROI number and is not used"
    else:
        text = f"contours refer to ROI number {number}, which is not in the list of ROIs; not used"
    return Note(text, "roi-number", "standard")


def second_item_of_contours(number: int, *, used: bool) -> Note:
    """A second item of ROIContourSequence for a ROI number; not used where several ROIs have that number."""
    what = "both are used" if used else "the second one is not used"
    return Note(f"ROI number {number} has two items of contours; {what}", "roi-number", "standard")
