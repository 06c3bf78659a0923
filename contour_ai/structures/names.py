"""From the names people give ROIs to TG-263 names, and which ROIs are left/right partners."""

from __future__ import annotations

from collections.abc import Sequence

from contour_ai.structures.classification import classify
from contour_ai.structures.roi_record import tg263_table
from contour_ai.structures.words import Side, Words, split_side

__all__ = ["flip_pairs", "split_side", "tg263_name"]


def tg263_name(name: str) -> str | None:
    """The TG-263 name for a ROI name found in an archive, or None where none can be told.

    Case, accents, separators and word order do not matter. Laterality is never guessed: a name that leaves the side
    of a paired organ open gets none, unless the list has a name for that as well (Lens).
    """
    return classify(name).tg263_name


def flip_pairs(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Index pairs (left, right) of the ROIs that change places when a patient is mirrored left to right.

    Partners are names that differ in the word for the side only, in any language and word order. Pairs that TG-263
    knows not to mirror each other (left and right ventricle of the heart) are left alone.
    """
    table = tg263_table()
    sides: dict[tuple[Words, Side], list[int]] = {}
    for index, name in enumerate(names):
        known = table.get(name)
        rest, side = split_side(name)
        if side is not None and (known is None or known.mirror is not None):
            sides.setdefault((tuple(sorted(rest)), side), []).append(index)
    pairs = []
    for (rest, side), left in sides.items():
        right = sides.get((rest, "R"), [])
        if side == "L" and len(left) == len(right) == 1:
            pairs.append((left[0], right[0]))
    return tuple(sorted(pairs))
