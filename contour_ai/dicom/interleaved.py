"""Passes of the table half-way between each other, in a series that has no attribute to tell them apart.

Each pass runs through the patient in even steps; together they look like one scan with half the spacing. What is left
of them is the order in which the slices were numbered, made, or given UIDs; settings that change in turns; and images
that resemble the next but one more than their neighbours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contour_ai.dicom.slice_header import SETTINGS, VARYING_SETTINGS, Slice
from contour_ai.dicom.slices import ROUNDING_MM

PASSES_EVEN_TOL = 0.1
"""Passes must be evenly spaced to this part of their spacing, and all alike."""
FEWEST_IN_PASS = 4
"""Three slices are in order, up or down, in a third of all random orders."""
LEAST_BETWEEN = 3
"""So many slices of one pass must lie between slices of another."""
APART = 0.1
"""Slices of two passes are farther apart than this part of the spacing: nearer, they are one slice exported twice."""
MOST_PASSES = 20
MOST_TURNS = 4
"""Passes that are looked for in the images."""
UNLIKE_RATIO, UNLIKE_SHARE = 0.9, 0.7
"""In a scan a slice differs from the next but one 1.4 to 1.9 times as much as from its neighbours, with noise of 30 HU,
slices of 2 to 5 mm and partial volumes (eight patients, two phantoms); two passes of a patient who moved by 3 mm
between them give 0.65 to 0.9, by 5 mm 0.4 to 0.65. Below the first for the median slice, and below 1 for this share of
them, they may be passes."""
LEAST_HU = 2.0
"""Mean over the image by which passes must differ more than slices within them: rows of a detector differ by a few HU
in turns."""
FEWEST_COMPARED = 8
"""Fewer slices say nothing in their images."""
TISSUE_HU = (-1000, 300)
ROWS_COMPARED, COLUMNS = 32, 8
"""So many rows are looked at, evenly picked, and means of so many columns, which evens out noise."""
WHOLE_NUMBER, UID_PART = re.compile(r"[+-]?[0-9]{1,18}"), re.compile(r"[0-9]{1,64}")
"""Other texts order nothing."""

Key = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Passes:
    """Passes by what tells them apart.

    Args:
        name: of the attribute.
        places: for each pass, the numbers of its slices in the series, in the order of the attribute.
        is_evident: whether it can hardly be anything else; False for a suspicion.
        values: of the attribute, one a pass; empty where it only orders them.
    """

    name: str
    places: tuple[tuple[int, ...], ...]
    is_evident: bool
    values: tuple[str, ...] = ()


def interleaved_passes(slices: Sequence[Slice], offsets_mm: NDArray[np.float64]) -> Passes | None:
    """Passes half-way between each other; None for an ordinary scan.

    InstanceNumber counts the slices of a pass one after the other, so that two runs through space are two passes. The
    time when a file was made and UIDs also depend on how a reconstruction or an archive works: one of them alone is no
    more than a suspicion. A setting that a scanner keeps within a scan, and that takes turns in even steps, is evident;
    one that it may change is a suspicion.
    """
    by_setting = _by_setting(slices, offsets_mm)
    if by_setting is not None and by_setting.is_evident:
        return by_setting
    found = [
        (name, runs)
        for name, order in ORDERS
        if (runs := _runs([order(one) for one in slices], offsets_mm)) is not None
    ]
    if not found:
        return by_setting
    agree = len(found) > 1 and {frozenset(run) for run in found[0][1]} == {
        frozenset(run) for run in found[1][1]
    }
    name, runs = found[0]
    return Passes(name=name, places=runs, is_evident=name == ORDERS[0][0] or agree)


def resembling_turns(hu: NDArray[np.generic]) -> int:
    """How many passes the slices (k, i, j) may be by their images; 0 for one.

    Neighbouring slices of a scan resemble each other more than those farther apart. In passes between which the
    patient moved or the contrast medium spread, those of the same pass do.
    """
    low, high = TISSUE_HU
    width = hu.shape[2] // COLUMNS * COLUMNS
    if len(hu) < FEWEST_COMPARED or not width:
        return 0
    step = max(1, hu.shape[1] // ROWS_COMPARED)
    rows = np.clip(hu[:, step // 2 :: step, :width], low, high).astype(np.float32)
    means = rows.reshape(*rows.shape[:2], -1, COLUMNS).mean(axis=3)
    differences: list[NDArray[np.float64]] = []
    for apart in range(1, min(MOST_TURNS, len(hu) // FEWEST_IN_PASS) + 1):
        differences.append(
            np.array(
                [np.abs(means[k + apart] - means[k]).mean() for k in range(len(means) - apart)], np.float64
            )
        )
        if apart == 1:
            continue
        whole = differences[-1]
        nearer = np.min(
            [
                np.lib.stride_tricks.sliding_window_view(part, apart - n).mean(axis=1)
                for n, part in enumerate(differences[:-1])
            ],
            axis=0,
        )
        shown = nearer > 0  # blank slices resemble each other whatever they are
        ratio = whole[shown] / nearer[shown]
        if len(ratio) < FEWEST_IN_PASS:
            continue
        is_unlike = np.median(ratio) < UNLIKE_RATIO and (ratio < 1).mean() >= UNLIKE_SHARE
        if is_unlike and np.median((nearer - whole)[shown]) >= LEAST_HU:
            return apart
    return 0


def _by_setting(slices: Sequence[Slice], offsets_mm: NDArray[np.float64]) -> Passes | None:
    """Passes by a setting that changes in turns."""
    for n, keyword in enumerate((*SETTINGS, *VARYING_SETTINGS)):
        places: dict[str, list[int]] = {}
        for place in np.argsort(offsets_mm, kind="stable").tolist():
            settings = slices[place].settings
            places.setdefault(settings[n] if settings else "", []).append(place)
        if 1 < len(places) < MOST_PASSES and _are_passes([offsets_mm[part] for part in places.values()]):
            values = sorted(places, key=lambda value: (_number(value), value))
            runs = tuple(tuple(places[value]) for value in values)
            return Passes(
                name=keyword,
                places=runs,
                is_evident=keyword in SETTINGS,
                values=tuple(value or "none" for value in values),
            )
    return None


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return 0.0


def _instance_number(one: Slice) -> Key | None:
    text = one.instance_number.strip()
    return (int(text),) if WHOLE_NUMBER.fullmatch(text) else None


def _content_time(one: Slice) -> Key | None:
    digits = "".join(c for c in one.content_time if c.isdecimal())
    return (int(digits.ljust(20, "0")[:20]),) if digits else None


def _uid(one: Slice) -> Key | None:
    parts = one.sop_instance_uid.split(".")
    return tuple(map(int, parts)) if all(UID_PART.fullmatch(part) for part in parts) else None


ORDERS: tuple[tuple[str, Callable[[Slice], Key | None]], ...] = (
    ("InstanceNumber", _instance_number),
    ("ContentTime", _content_time),
    ("SOPInstanceUID", _uid),
)
"""Orders of slices, in the order in which they are believed."""


def _runs(keys: Sequence[Key | None], offsets_mm: NDArray[np.float64]) -> tuple[tuple[int, ...], ...] | None:
    """The slices in runs through space; None where they are one run, or none that passes would make."""
    known = [key for key in keys if key is not None]
    if len(known) < len(keys) or len(set(known)) < len(known):
        return None
    order = sorted(range(len(known)), key=lambda n: known[n])
    if len(order) < 2 * FEWEST_IN_PASS:
        return None
    moves = np.diff(offsets_mm[order])
    forward = float(np.sign(np.median(moves))) or 1.0
    one_way = np.flatnonzero(moves * forward <= 0) + 1  # the table goes back, and begins again
    turns = np.flatnonzero(np.sign(moves[1:]) != np.sign(moves[:-1]))  # it scans on its way back, too
    for starts in (one_way, turns + 1, turns + 2):
        if 0 < len(starts) < MOST_PASSES:
            runs = [tuple(order[n] for n in part) for part in np.split(np.arange(len(order)), starts)]
            if _are_passes([offsets_mm[list(run)] for run in runs]):
                return tuple(runs)
    return None


def _are_passes(runs: Sequence[NDArray[np.float64]]) -> bool:
    if min(map(len, runs)) < FEWEST_IN_PASS:
        return False
    spacings = [float(np.median(np.abs(np.diff(run)))) for run in runs]
    usual = float(np.median(spacings))
    tolerance = max(PASSES_EVEN_TOL * usual, ROUNDING_MM)
    if usual <= ROUNDING_MM or any(
        np.abs(np.abs(np.diff(run)) - usual).max() > tolerance or len(set(np.sign(np.diff(run)))) > 1
        for run in runs
    ):
        return False
    whole = np.sort(np.concatenate(runs))
    if np.diff(whole).min() < APART * usual:
        return False
    return any(_between(a, b) >= LEAST_BETWEEN for a in runs for b in runs if a is not b)


def _between(offsets_mm: NDArray[np.float64], other: NDArray[np.float64]) -> int:
    return int(np.count_nonzero((offsets_mm > other.min()) & (offsets_mm < other.max())))
