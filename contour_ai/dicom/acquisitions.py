"""Several acquisitions in one CT series: phases, a range scanned twice, passes half-way between each other.

Slices of two acquisitions that overlap show the patient at two times; sorted by position they would make one image
that never was. Acquisitions that only follow each other along the table are one scan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contour_ai.dicom.interleaved import Passes, interleaved_passes
from contour_ai.dicom.notes import acquisition_chosen, passes_suspected, setting_takes_turns
from contour_ai.dicom.slice_header import Slice
from contour_ai.dicom.slices import ROUNDING_MM, slice_offsets_mm
from contour_ai.errors import GeometryError, InputError

FEWEST_IN_STACK = 3
"""Fewer slices are no stack: scanners write another AcquisitionTime for every rotation."""

ACQUISITIONS_EVEN_TOL = 0.1
"""Passes told apart by time alone must each be evenly spaced to this part of their spacing."""

ACQUISITIONS_SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class Acquisition:
    """One of several acquisitions in a series; `number` chooses it with --acquisition."""

    number: int
    name: str
    slices: tuple[Slice, ...]
    lowest_mm: float
    highest_mm: float
    """Positions of its first and last slice along the normal."""

    def __str__(self) -> str:
        count = f"{len(self.slices)} slice{'s' if len(self.slices) != 1 else ''}"
        return (
            f"--acquisition {self.number}: {self.name}, {count}, {self.lowest_mm:g} to {self.highest_mm:g} mm"
        )


def one_acquisition(
    slices: Sequence[Slice], number: int | None = None, *, only_among_several: bool = False
) -> tuple[list[Slice], list[str]]:
    """The slices of one acquisition, and notes: all of them where there is one, or several that follow each other.

    Args:
        slices: alike (see `slices.check_alike`).
        number: which to take where there are several.
        only_among_several: whether a series in which none overlap is taken as it is, whatever the number.

    Raises:
        GeometryError: acquisitions overlap, and none was chosen.
        InputError: there is no such acquisition.
    """
    found = overlapping_acquisitions(slices)
    if number is None:
        if found:
            raise GeometryError(
                f"{len(found)} acquisitions lie in this CT series; together they are not one image.",
                where=_folder(slices),
                found="; ".join(
                    [
                        *map(str, found[:ACQUISITIONS_SHOWN]),
                        *(["and more"] if len(found) > ACQUISITIONS_SHOWN else []),
                    ]
                ),
                expected="one acquisition, or several that do not overlap",
                fix="leave the files of one in the folder, or, where the command has this option, choose one with "
                "--acquisition N: its number stands in the list above",
            )
        suspected = interleaved_passes(slices, slice_offsets_mm(slices))
        return list(slices), _suspicion(suspected)
    if only_among_several and not found:
        return list(slices), []
    found = found or _by_number(slices)
    chosen = [one for one in found if one.number == number]
    if not chosen:
        raise InputError(
            "There is no such acquisition in this CT series.",
            where=_folder(slices),
            found="; ".join(map(str, found[:ACQUISITIONS_SHOWN])) or "a single acquisition",
            expected=f"acquisition {number}",
            fix="choose one that is there, or leave out --acquisition where there is only one",
        )
    rest = len(slices) - len(chosen[0].slices)
    if not rest:
        return list(slices), []
    used = len(chosen[0].slices)
    return list(chosen[0].slices), [acquisition_chosen(number, len(found), chosen[0].name, used, rest)]


def _suspicion(passes: Passes | None) -> list[str]:
    if passes is None:
        return []
    if passes.values:
        return [setting_takes_turns(passes.name, passes.values)]
    return [passes_suspected(passes.name, len(passes.places))]


def overlapping_acquisitions(slices: Sequence[Slice]) -> list[Acquisition]:
    """The acquisitions of a series where at least two of them overlap by more than one slice; else none."""
    offsets_mm = slice_offsets_mm(slices)
    candidates: list[list[_Group]] = []
    for name, value_of in KEYS:
        groups = _groups(slices, offsets_mm, name, value_of)
        if len(groups) > 1 and _any_overlap(groups):
            candidates.append(_merged(groups))
    if not candidates:
        candidates = [passes] if len(passes := _passes_in_time(slices, offsets_mm)) > 1 else []
    if not candidates:
        found = interleaved_passes(slices, offsets_mm)
        return _numbered(_of_passes(found, slices, offsets_mm), slices) if found and found.is_evident else []
    clean = [groups for groups in candidates if not any(_repeats_position(g.offsets_mm) for g in groups)]
    return _numbered((clean or candidates)[0], slices)


# -- groups --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class _Group:
    """Slices with one value of what tells acquisitions apart; `places` are their numbers in the series."""

    name: str
    value: str
    places: tuple[int, ...]
    offsets_mm: NDArray[np.float64]

    def joined(self, other: _Group) -> _Group:
        value = self.value if self.value == other.value else f"{self.value.split(' to ')[0]} to {other.value}"
        return _Group(
            name=self.name,
            value=value,
            places=(*self.places, *other.places),
            offsets_mm=np.concatenate([self.offsets_mm, other.offsets_mm]),
        )


KEYS: tuple[tuple[str, Callable[[Slice], tuple[str, ...]]], ...] = (
    ("AcquisitionNumber", lambda s: (s.acquisition_number,)),
    ("temporal position", lambda s: (s.temporal_position,)),
    ("AcquisitionTime", lambda s: (s.acquisition_time,)),
    (
        "AcquisitionNumber and temporal position",
        lambda s: (s.acquisition_number, s.temporal_position),
    ),
    ("AcquisitionNumber and AcquisitionTime", lambda s: (s.acquisition_number, s.acquisition_time)),
)
"""What tells acquisitions apart, in the order in which it is tried."""


def _groups(
    slices: Sequence[Slice],
    offsets_mm: NDArray[np.float64],
    name: str,
    value_of: Callable[[Slice], tuple[str, ...]],
) -> list[_Group]:
    """The slices by value, in the order of the values (numbers as numbers)."""
    places: dict[tuple[str, ...], list[int]] = {}
    for n, one in enumerate(slices):
        places.setdefault(value_of(one), []).append(n)
    return [
        _Group(
            name=name,
            value=" / ".join(v or "none" for v in value),
            places=tuple(places[value]),
            offsets_mm=offsets_mm[places[value]],
        )
        for value in sorted(places, key=lambda value: [_order(v) for v in value])
    ]


def _order(value: str) -> tuple[float, str]:
    try:
        return float(value), value
    except ValueError:
        return 0.0, value


def _overlap(a: _Group, b: _Group) -> bool:
    """Whether two stacks share more of the patient than one slice."""
    if min(len(a.offsets_mm), len(b.offsets_mm)) < FEWEST_IN_STACK:
        return False
    return max(_inside(a.offsets_mm, b.offsets_mm), _inside(b.offsets_mm, a.offsets_mm)) > 1


def _inside(offsets_mm: NDArray[np.float64], other: NDArray[np.float64]) -> int:
    low, high = other.min() - ROUNDING_MM, other.max() + ROUNDING_MM
    return int(np.count_nonzero((offsets_mm >= low) & (offsets_mm <= high)))


def _any_overlap(groups: Sequence[_Group]) -> bool:
    # Sorted by where they begin, a stack overlaps another one only if it overlaps one that reaches the farthest so far.
    stacks = sorted(
        (g for g in groups if len(g.offsets_mm) >= FEWEST_IN_STACK), key=lambda g: float(g.offsets_mm.min())
    )
    reaching: list[_Group] = []
    for group in stacks:
        reaching = [r for r in reaching if r.offsets_mm.max() >= group.offsets_mm.min() - ROUNDING_MM]
        if any(_overlap(r, group) for r in reaching):
            return True
        reaching.append(group)
    return False


def _merged(groups: Sequence[_Group]) -> list[_Group]:
    """Groups that follow each other (rotations of one pass) as one, where this gives passes that are alike."""
    passes: list[list[_Group]] = [[groups[0]]]
    for group in groups[1:]:
        if any(_overlap(group, before) for before in passes[-1]):
            passes.append([])
        passes[-1].append(group)
    if len(passes) < 2 or len({len(one) for one in passes}) > 1 or len(passes) == len(groups):
        return list(groups)
    merged = []
    for one in passes:
        whole = one[0]
        for group in one[1:]:
            whole = whole.joined(group)
        merged.append(whole)
    return merged


def _passes_in_time(slices: Sequence[Slice], offsets_mm: NDArray[np.float64]) -> list[_Group]:
    """Passes of the table where every slice has a time of its own: the table goes back, and covers a range again."""
    groups = _groups(slices, offsets_mm, "AcquisitionTime", lambda s: (s.acquisition_time,))
    if len(groups) < 4:
        return []
    centres = np.array([g.offsets_mm.mean() for g in groups])
    moves = np.diff(centres)
    forward = float(np.sign(np.median(moves))) or 1.0
    starts = np.flatnonzero(moves * forward <= 0) + 1
    if not len(starts):
        return []
    passes = []
    for part in np.split(np.arange(len(groups)), starts):
        whole = groups[part[0]]
        for n in part[1:]:
            whole = whole.joined(groups[n])
        passes.append(whole)
    if not all(_is_even(one.offsets_mm) for one in passes) or not _any_overlap(passes):
        return []
    return passes


def _of_passes(passes: Passes, slices: Sequence[Slice], offsets_mm: NDArray[np.float64]) -> list[_Group]:
    """Passes as groups: by their first and last InstanceNumber, or by their order."""
    groups = []
    for n, places in enumerate(passes.places, start=1):
        name, value = f"in the order of {passes.name}, pass", f"{n}"
        if passes.values:
            name, value = passes.name, passes.values[n - 1]
        if passes.name == "InstanceNumber":
            ends = slices[places[0]].instance_number, slices[places[-1]].instance_number
            name, value = passes.name, " to ".join(ends)
        groups.append(_Group(name=name, value=value, places=places, offsets_mm=offsets_mm[list(places)]))
    return groups


def _is_even(offsets_mm: NDArray[np.float64]) -> bool:
    gaps = np.diff(np.sort(offsets_mm))
    if len(gaps) < FEWEST_IN_STACK - 1:
        return False
    usual = float(np.median(gaps))
    return bool(
        usual > ROUNDING_MM and np.abs(gaps - usual).max() <= max(ACQUISITIONS_EVEN_TOL * usual, ROUNDING_MM)
    )


def _repeats_position(offsets_mm: NDArray[np.float64]) -> bool:
    return bool(len(offsets_mm) > 1 and np.diff(np.sort(offsets_mm)).min() < ROUNDING_MM / 10)


def _by_number(slices: Sequence[Slice]) -> list[Acquisition]:
    """The acquisitions that a user may choose though together they are one scan: those by AcquisitionNumber."""
    groups = _groups(slices, slice_offsets_mm(slices), *KEYS[0])
    return _numbered(groups, slices)


def _numbered(groups: Sequence[_Group], slices: Sequence[Slice]) -> list[Acquisition]:
    """Acquisitions under their AcquisitionNumber where that alone tells them apart, else counted from 1."""
    own = groups[0].name == KEYS[0][0] and all(g.value.isascii() and g.value.isdecimal() for g in groups)
    return [
        Acquisition(
            number=int(group.value) if own else n,
            name=f"{group.name} {group.value}",
            slices=tuple(slices[place] for place in group.places),
            lowest_mm=round(float(group.offsets_mm.min()), 3),
            highest_mm=round(float(group.offsets_mm.max()), 3),
        )
        for n, group in enumerate(groups, start=1)
    ]


def _folder(slices: Sequence[Slice]) -> Path:
    return slices[0].path.parent
