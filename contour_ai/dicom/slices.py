"""The stack that the slices of a CT series form: checks that they are alike, their order along the normal, gaps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contour_ai.dicom.slice_header import WIDEST_MM, Slice
from contour_ai.errors import GeometryError
from contour_ai.grid import REGULAR_TOL_MM, Grid

DIRECTION_TOL = 2e-4
"""Slices are parallel when their direction cosines agree to this: 0.1 mm at the far edge of a 500 mm image."""

SPACING_TOL_MM = 1e-4
"""Pixel spacings of one series agree to this: 0.05 mm over 512 pixels."""

UNIT_TOL = 0.01
"""Direction cosines are written with few digits; a length further from 1 is no rounding."""

MULTIPLE_TOL, ROUNDING_MM = 0.04, 0.11
"""A gap counts as n slice spacings when it is within this part of one of them, or within what positions rounded to
0.1 mm make of it."""

SAME_PLACE = 0.25
"""Two slices nearer than this part of the usual spacing, and than `ROUNDING_MM`, lie at one place: their positions
were written with other digits."""

MAX_NOTES = 3

ZONE = 3
"""As many equal wide gaps in a row are a coarser part of the scan, not missing slices."""


def check_alike(slices: Sequence[Slice]) -> None:
    """Refuses slices that cannot be one stack: they differ in size, direction or pixel spacing, or lie too far apart.

    Raises:
        GeometryError: naming the slices that differ from the others.
    """
    for name, values, tolerance in (
        ("image size (rows, columns)", [(s.rows, s.columns) for s in slices], 0.0),
        ("direction (ImageOrientationPatient)", [s.orientation for s in slices], DIRECTION_TOL),
        ("pixel spacing (mm)", [s.pixel_spacing_mm for s in slices], SPACING_TOL_MM),
    ):
        usual = Counter(values).most_common(1)[0][0]
        apart = np.abs(np.array(values, dtype=np.float64) - np.array(usual)).max(axis=1)
        odd = [n for n in range(len(slices)) if apart[n] > tolerance]
        if odd:
            raise differ(name, [slices[n] for n in odd], values[odd[0]], usual, len(slices))
    extent = float(np.ptp(slice_offsets_mm(slices)))
    if extent > WIDEST_MM:
        raise GeometryError(
            "The slices of this CT series lie farther apart than any scan is long.",
            where=slices[0].path.parent,
            found=f"{extent:.0f} mm from the first to the last",
            expected=f"at most {WIDEST_MM:g} mm",
            fix="export the series again; positions in its headers (ImagePositionPatient) are damaged",
        )


def differ(name: str, odd: Sequence[Slice], found: object, usual: object, count: int) -> GeometryError:
    """The error for slices that are unlike the others of their series."""
    more = f" and {len(odd) - 1} more" if len(odd) > 1 else ""
    return GeometryError(
        f"The slices of this CT series differ in {name}.",
        where=f"{odd[0].path}{more}",
        found=found,
        expected=f"{usual}, as in the other {count - len(odd)} slices",
        fix="remove what does not belong to the scan (a scout, a second acquisition), or export the series again",
    )


def slice_offsets_mm(slices: Sequence[Slice]) -> NDArray[np.float64]:
    """(n,) mm: each slice's position projected on the normal of the stack.

    Raises:
        GeometryError: the direction cosines are no unit vectors at a right angle.
    """
    row, column = directions(slices[0])
    return np.array([s.position_lps for s in slices]) @ np.cross(row, column)


def directions(one: Slice) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors along which j and i grow.

    Raises:
        GeometryError: the direction cosines are no unit vectors at a right angle.
    """
    row, column = np.array(one.orientation[:3]), np.array(one.orientation[3:])
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if max(abs(length - 1) for length in lengths) > UNIT_TOL or abs(row @ column) > UNIT_TOL:
        raise GeometryError(
            "The directions of this CT slice are no unit vectors at a right angle.",
            where=one.path,
            found=f"ImageOrientationPatient {list(one.orientation)}",
            expected="two vectors of length 1, perpendicular to each other",
            fix="export the series again; its geometry was damaged by the program that wrote it",
        )
    return row / lengths[0], column / lengths[1]


def without_repeats(
    slices: Sequence[Slice], same_image: Callable[[Slice, Slice], bool]
) -> tuple[list[Slice], list[str]]:
    """The slices sorted along the normal, with a slice that is there twice kept once, and a note on each left out.

    Args:
        slices: alike (see `check_alike`).
        same_image: whether two slices have the same pixels.

    Raises:
        GeometryError: different images at the same place.
    """
    offsets_mm = slice_offsets_mm(slices)
    order = sorted(range(len(slices)), key=lambda n: (offsets_mm[n], _instance_order(slices[n])))
    near = _same_place_mm(offsets_mm)
    kept: list[int] = []
    repeats: list[tuple[Slice, Slice]] = []
    conflicts: list[tuple[Slice, Slice]] = []
    for n in order:
        if not kept or offsets_mm[n] - offsets_mm[kept[-1]] > near:
            kept.append(n)
            continue
        first, again = slices[kept[-1]], slices[n]
        apart = np.abs(np.subtract(first.position_lps, again.position_lps)).max()
        same = apart <= max(near, REGULAR_TOL_MM) and same_image(first, again)
        (repeats if same else conflicts).append((first, again))
    if conflicts:
        first, second = conflicts[0]
        raise GeometryError(
            "Different images lie at the same place in this CT series.",
            where=f"{first.path} and {second.path}"
            + (f", and {len(conflicts) - 1} more pairs" if len(conflicts) > 1 else ""),
            found=f"{first} and {second}",
            expected="one image for every slice position",
            fix="leave one acquisition (phase, reconstruction) in the folder, or export it as a series of its own",
        )
    notes = [
        f"{again} is there twice: it shows the same slice as {first.path.name} and was left out"
        for first, again in repeats
    ]
    if len(notes) > MAX_NOTES:
        notes[MAX_NOTES:] = [f"{len(notes) - MAX_NOTES} more slices are there twice and were used once"]
    return [slices[n] for n in kept], notes


def _same_place_mm(offsets_mm: NDArray[np.float64]) -> float:
    """Slices no farther apart than this along the normal lie at one place."""
    gaps = np.diff(np.sort(offsets_mm))
    usual = gaps[gaps > ROUNDING_MM]
    if not len(usual):
        return REGULAR_TOL_MM
    return max(REGULAR_TOL_MM, min(ROUNDING_MM, SAME_PLACE * float(np.median(usual))))


def _instance_order(one: Slice) -> tuple[int, str, int]:
    try:
        number = int(one.instance_number)
    except ValueError:
        number = 0
    return (number, str(one.path), one.frame or 0)


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A place in a stack where `missing` slices are not there; `usual_mm` is the spacing everywhere else."""

    below: Slice
    above: Slice
    missing: int
    width_mm: float
    usual_mm: float

    def __str__(self) -> str:
        return f"{self.missing} between {self.below} and {self.above}, {self.width_mm:g} mm apart"


def find_gaps(slices: Sequence[Slice]) -> tuple[Gap, ...]:
    """Where slices of a stack are missing.

    A slice is missing where a gap is a whole multiple of the spacing that most others have, unless at least `ZONE`
    such gaps follow each other: scans with coarser parts, and stacks with unequal spacing of any other kind, are whole.

    Args:
        slices: sorted along the normal, none twice.
    """
    offsets_mm = slice_offsets_mm(slices)
    missing = missing_slices(offsets_mm)
    if not missing:
        return ()
    widths = np.diff(offsets_mm)
    usual = float(np.median(np.delete(widths, list(missing))))
    return tuple(
        Gap(below=slices[k], above=slices[k + 1], missing=count, width_mm=float(widths[k]), usual_mm=usual)
        for k, count in missing.items()
    )


def told(gaps: Sequence[Gap]) -> str:
    """Gaps in a line, the first few by name."""
    return "; ".join(map(str, gaps[:4])) + (f"; and {len(gaps) - 4} more gaps" if len(gaps) > 4 else "")


def missing_slices(offsets_mm: NDArray[np.float64]) -> dict[int, int]:
    """{k: number of slices missing between slices k and k + 1} of ascending `offsets_mm` in mm."""
    gaps = np.diff(offsets_mm)
    if len(gaps) < 2:
        return {}
    unit = float(np.median(gaps[gaps < 1.5 * gaps.min()]))
    multiples = np.rint(gaps / unit).astype(int)
    uneven = np.abs(gaps - multiples * unit) > max(MULTIPLE_TOL * unit, ROUNDING_MM)
    if uneven.any() or np.count_nonzero(multiples == 1) < np.count_nonzero(multiples > 1):
        return {}
    edges = np.flatnonzero(np.diff(multiples)) + 1
    runs = np.split(np.arange(len(gaps)), edges)
    return {
        int(k): int(multiples[k] - 1) for run in runs for k in run if multiples[k] > 1 and len(run) < ZONE
    }


def stack(slices: Sequence[Slice]) -> Grid:
    """The grid of slices that are alike, sorted and whole.

    Raises:
        GeometryError: as `Grid` does.
    """
    row, column = directions(slices[0])
    between_rows, between_columns = slices[0].pixel_spacing_mm
    return Grid(
        shape_kij=(len(slices), slices[0].rows, slices[0].columns),
        positions_lps=np.array([s.position_lps for s in slices]),
        step_i_lps=column * between_rows,
        step_j_lps=row * between_columns,
        frame_of_reference_uid=next(
            (s.frame_of_reference_uid for s in slices if s.frame_of_reference_uid), ""
        ),
        slice_thickness_mm=slices[0].thickness_mm or 1.0,
    )
