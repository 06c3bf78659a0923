"""An image or a set of structures together with the grid it lies on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contour_ai.errors import GeometryError, InputError
from contour_ai.grid import Grid

MAX_ROIS = 64
"""Structures hold one bit a ROI; the widest unsigned integer has 64."""

UNKNOWN, CONTOURED, ABSENT, PSEUDO_LABEL = 0, 1, 2, 3
"""What is known of a ROI in a patient: not contoured, which says nothing; contoured; certainly not there; drawn by the
network itself, where it was not contoured."""


@dataclass(frozen=True, eq=False)
class Volume:
    """A CT image on a grid.

    Raises:
        GeometryError: `hu` does not have the shape of `grid`.
    """

    hu: NDArray[np.generic]
    """(k, i, j) = (slice, row, column), int16 or float32, in Hounsfield units."""
    grid: Grid
    """Where the voxels lie in the patient."""

    def __post_init__(self) -> None:
        if self.hu.shape != self.grid.shape_kij:
            raise GeometryError(
                "An image must have the shape of its grid.",
                found=self.hu.shape,
                expected=self.grid.shape_kij,
            )


def bits_dtype(number_of_rois: int) -> np.dtype[np.generic]:
    """The smallest unsigned integer type with a bit for every ROI.

    Raises:
        InputError: more than `MAX_ROIS`.
    """
    for dtype in (np.uint8, np.uint16, np.uint32, np.uint64):
        if number_of_rois <= np.iinfo(dtype).bits:
            return np.dtype(dtype)
    raise InputError(
        "Too many ROIs for one set of structures.",
        found=number_of_rois,
        expected=f"at most {MAX_ROIS}",
        fix="name the ROIs you need",
    )


def roi_voxels(bits: NDArray[np.integer], r: int) -> NDArray[np.bool_]:
    """Where bit `r` of packed ROIs is set: the mask of ROI number `r`."""
    inside: NDArray[np.bool_] = (bits & bits.dtype.type(1 << r)) != 0
    return inside


def set_roi_voxels(bits: NDArray[np.integer], r: int, inside: NDArray[np.bool_]) -> None:
    """Sets bit `r` of packed ROIs where `inside`, in place; other voxels keep what they have."""
    np.bitwise_or(bits, bits.dtype.type(1 << r), out=bits, where=inside)


def _as_bool(mask: NDArray[np.generic], name: str) -> NDArray[np.bool_]:
    """A mask of bool, or of integers 0 and 1, as bool; probabilities, labels and the like are refused."""
    if mask.dtype.kind == "b":
        return mask.astype(bool, copy=False)
    found = f"an array of {mask.dtype}"
    if mask.dtype.kind in "iu":
        low, high = (int(mask.min()), int(mask.max())) if mask.size else (0, 0)
        if low >= 0 and high <= 1:
            return mask.astype(bool)
        found += f" with values from {low} to {high}"
    raise InputError(
        "A mask must say of every voxel whether it is inside.",
        where=name,
        found=found,
        expected="bool, or integers 0 (outside) and 1 (inside)",
        fix="compare first: `array > 0.5` for probabilities, `array == label` for labels",
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class Structures:
    """ROIs on a grid: bit r of `bits` (k, i, j) says whether the voxel centre lies in ROI `names[r]`.

    Raises:
        GeometryError: `bits` does not have the shape of `grid`.
        InputError: `bits` has too few bits or another type, a name occurs twice, or `presence` has another length.
    """

    bits: NDArray[np.unsignedinteger]
    """(k, i, j) = (slice, row, column), uint8 to uint64; bit r belongs to ROI `names[r]`."""
    grid: Grid
    """Where the voxels lie in the patient."""
    names: tuple[str, ...]
    """ROI names, one a bit, the lowest bit first; at most 64."""
    presence: tuple[bool, ...]
    """One for each ROI: False where it was not contoured in this patient, which means unknown, not empty."""

    def __post_init__(self) -> None:
        if self.bits.shape != self.grid.shape_kij:
            raise GeometryError(
                "Structures must have the shape of their grid.",
                found=self.bits.shape,
                expected=self.grid.shape_kij,
            )
        if self.bits.dtype.kind != "u" or self.bits.dtype.itemsize * 8 < len(self.names):
            raise InputError(
                "Structures need an unsigned integer with one bit a ROI.",
                found=f"{self.bits.dtype} for {len(self.names)} ROIs",
            )
        if len(self.presence) != len(self.names) or len(set(self.names)) != len(self.names):
            raise InputError("ROI names must be unique and have one presence flag each.", found=self.names)

    @classmethod
    def empty(cls, grid: Grid, names: Sequence[str]) -> Structures:
        """No voxel in any ROI, and no ROI contoured.

        Args:
            grid: where the voxels lie.
            names: ROI names.

        Returns:
            Structures whose `presence` is False for every ROI.

        Raises:
            InputError: more than 64 ROIs, or a name twice.
        """
        return cls(
            bits=np.zeros(grid.shape_kij, bits_dtype(len(names))),
            grid=grid,
            names=tuple(names),
            presence=(False,) * len(names),
        )

    @classmethod
    def from_masks(
        cls, masks: Mapping[str, NDArray[np.generic]], grid: Grid, names: Sequence[str] | None = None
    ) -> Structures:
        """From one mask for each ROI.

        Args:
            masks: {ROI name: (k, i, j) = (slice, row, column) array of the shape of `grid`}, of type bool, or of an
                integer type with 0 outside and 1 inside.
            grid: where the voxels lie.
            names: the ROIs in order; those without a mask are not contoured. None for the names of `masks`.

        Returns:
            Structures in which exactly the ROIs of `masks` are present.

        Raises:
            GeometryError: a mask does not have the shape of `grid`.
            InputError: a mask is neither bool nor integers 0 and 1, or its name is not in `names`; more than 64 ROIs.
        """
        order = tuple(masks) if names is None else tuple(names)
        unknown = [n for n in masks if n not in order]
        if unknown:
            raise InputError(
                "There are masks of ROIs that are not in `names`.",
                found=", ".join(unknown),
                expected=", ".join(order),
                fix="add them to `names`, or leave the masks out",
            )
        bits = np.zeros(grid.shape_kij, bits_dtype(len(order)))
        for r, name in enumerate(order):
            if name not in masks:
                continue
            mask = np.asarray(masks[name])
            if mask.shape != grid.shape_kij:
                raise GeometryError(
                    "A mask must have the shape of its grid.",
                    where=name,
                    found=mask.shape,
                    expected=grid.shape_kij,
                )
            set_roi_voxels(bits, r, _as_bool(mask, name))
        return cls(bits=bits, grid=grid, names=order, presence=tuple(n in masks for n in order))

    def index(self, name: str) -> int:
        """Bit number of a ROI, from 0.

        Raises:
            InputError: no such ROI.
        """
        try:
            return self.names.index(name)
        except ValueError:
            raise InputError("No such ROI.", found=name, expected=", ".join(self.names)) from None

    def mask(self, name: str) -> NDArray[np.bool_]:
        """(k, i, j) boolean mask of one ROI, all False where it was not contoured.

        Raises:
            InputError: no such ROI.
        """
        return roi_voxels(self.bits, self.index(name))

    def contoured(self) -> tuple[str, ...]:
        """Names of the ROIs that were contoured."""
        return tuple(n for n, p in zip(self.names, self.presence, strict=True) if p)

    def masks(self) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        """(name, mask) of every contoured ROI, one at a time."""
        for name in self.contoured():
            yield name, self.mask(name)
