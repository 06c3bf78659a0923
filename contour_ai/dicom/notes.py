"""The sentences on what was odd in an input and what was done about it: one function for each, used by every command.

A note is a `str`, so that it can be printed, logged and written to JSON as it is; `code` names its kind for programs,
and `level` says what it means for other systems (see `contour_ai.dicom.finding`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from contour_ai.grid import Grid

Level = Literal["refused", "standard", "differs"]
"""Known to be refused by a system; breaks the standard; read differently by different systems."""

SHOWN = 3
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
        note = super().__new__(cls, text)
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


# -- places --------------------------------------------------------------------------------------------------------


def slice_place(grid: Grid, k: int) -> str:
    """A slice as people read it: number from 1, and position along the patient's axis nearest to its normal."""
    axis = int(abs(grid.normal).argmax())
    position = round(float(grid.positions_lps[k][axis]), 2) + 0.0  # no negative zero
    return f"slice {k + 1} ({'xyz'[axis]} = {position:g} mm)"


def listed(places: Sequence[str], separator: str = "; ") -> str:
    """The first places, and how many more there are."""
    more = f" and {len(places) - SHOWN} more" if len(places) > SHOWN else ""
    return separator.join(places[:SHOWN]) + more


def counted(number: int, one: str, several: str | None = None) -> str:
    """ "1 contour", "3 contours"."""
    return f"{number} {one}" if number == 1 else f"{number} {several or one + 's'}"


# -- which ROIs ----------------------------------------------------------------------------------------------------


def other_frame(roi: str, why: str) -> Note:
    """A ROI that was drawn on images of another frame of reference, such as an unregistered MR."""
    return Note(
        f"ROI {roi} is not on this CT and is left out: {why}",
        "other-frame",
        roi=roi,
    )


def other_frame_used(roi: str, frame: str, ct_frame: str, why: str) -> Note:
    """A frame of reference that differs from the CT's, in a ROI that refers to the CT all the same."""
    return Note(
        f"ROI {roi}: its frame of reference {frame} is not the CT's ({ct_frame or 'which names none'}), but {why}; "
        "contours are placed by their coordinates",
        "frame-of-reference",
        roi=roi,
    )


def no_contours(roi: str) -> Note:
    """A ROI that is named, but not drawn."""
    return Note(f"ROI {roi} has no contours", "empty-roi", roi=roi)


def slices_without_contour(roi: str, places: Sequence[str], extent: int) -> Note:
    """Gaps within an organ: contours on every second slice, or planes farther apart than the slices."""
    have = "slice within it has" if len(places) == 1 else "slices within it have"
    return Note(
        f"ROI {roi}: {len(places)} {have} no contour, of {extent} from its first to its last "
        f"({listed(places)}); nothing is interpolated",
        "slice-gap",
        roi=roi,
    )


# -- contours of one slice -------------------------------------------------------------------------------------------


def contours_twice(roi: str, number: int, places: Sequence[str]) -> Note:
    """Copies of contours, to the digit or not."""
    there = "contour is there twice and counts" if number == 1 else "contours are there twice and count"
    return Note(
        f"ROI {roi}: {number} {there} once: its outline is nowhere a pixel from another one's ({listed(places)})",
        "twice",
        roi=roi,
    )


def contours_overlap(roi: str, number: int, places: Sequence[str]) -> Note:
    """Contours of one slice that overlap in part: neither copies nor holes."""
    return Note(
        f"ROI {roi}: {counted(number, 'contour')} overlap another one in part and are joined with it "
        f"({listed(places)}); other systems may cut out what they share",
        "overlap",
        roi=roi,
    )


def holes_poke_out(roi: str, number: int, places: Sequence[str]) -> Note:
    """Contours that lie within another one but for a small part."""
    lies = "contour lies" if number == 1 else "contours lie"
    return Note(
        f"ROI {roi}: {number} {lies} within another one but for a small part, and "
        f"{'is a hole' if number == 1 else 'are holes'} ({listed(places)}); other systems may add what pokes out",
        "hole-pokes-out",
        roi=roi,
    )


# -- values that are not as the standard wants them ------------------------------------------------------------------


def value_not_used(where: str, keyword: str, value: object, expected: str) -> Note:
    """An optional value that cannot be read; the input is used without it."""
    return Note(f"{where}{keyword} is {str(value)!r}, not {expected}, and is not used", "value", "standard")


def value_corrected(where: str, keyword: str, value: object, taken: object) -> Note:
    """A value that is written wrongly but can only mean one thing."""
    return Note(f"{where}{keyword} is written {str(value)!r} and is taken for {taken}", "value", "standard")
