"""Which axis of a CT is nearest to which patient axis, and where a model grid lies along the axes of a CT."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contour_ai.errors import GeometryError
from contour_ai.grid import Grid

Float = NDArray[np.float64]

PATIENT_AXES_LPS = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
"""The directions along which k, i and j of a model grid grow: superior, posterior, left."""

ALIGNED_TOL = 1e-6
"""Largest stray component of a model axis along another axis of the CT (1e-6 over 1 m is a micrometre)."""

SHEARED_MM = 1e-3
"""Slices that slide sideways by more are resampled each with weights of its own; files give positions to 0.001 mm."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Frame:
    """A grid in the coordinates of its own axes: mm along the normal, along i and along j.

    `slices_mm` (K, 3) is where voxel (k, 0, 0) of every slice lies; within a slice voxels are `step_mm` apart.
    """

    axes_lps: Float
    slices_mm: Float
    step_mm: tuple[float, float]
    sheared: bool

    @classmethod
    def of(cls, grid: Grid) -> Frame:
        step_mm = (float(np.linalg.norm(grid.step_i_lps)), float(np.linalg.norm(grid.step_j_lps)))
        axes = np.stack([grid.normal, grid.step_i_lps / step_mm[0], grid.step_j_lps / step_mm[1]])
        slices = np.asarray(np.linalg.solve(axes.T, grid.positions_lps.T).T, np.float64)
        stray = np.ptp(slices[:, 1:], axis=0).max() if len(slices) else 0.0
        return cls(axes_lps=axes, slices_mm=slices, step_mm=step_mm, sheared=bool(stray > SHEARED_MM))

    def pixels_mm(self, k: int, axis: int, start: int, stop: int) -> Float:
        """Coordinates of pixels start..stop of slice k along axis 1 (i) or 2 (j)."""
        return self.slices_mm[k, axis] + self.step_mm[axis - 1] * np.arange(start, stop)


def patient_order(grid: Grid) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Which axis of `grid` lies nearest to superior, posterior and left, and whether along (1) or against (-1).

    Of the 24 right-handed ways the one with the largest sum of cosines.
    """
    frame = Frame.of(grid).axes_lps
    cosines = PATIENT_AXES_LPS @ frame.T
    best: tuple[float, tuple[int, int, int], tuple[int, int, int]] | None = None
    for order in itertools.permutations(range(3)):
        parity = round(np.linalg.det(np.eye(3)[list(order)]))
        for signs in itertools.product((1, -1), repeat=3):
            if signs[0] * signs[1] * signs[2] != parity:
                continue
            score = float(sum(s * cosines[m, a] for m, (a, s) in enumerate(zip(order, signs, strict=True))))
            if best is None or score > best[0] + 1e-9:
                best = score, (order[0], order[1], order[2]), (signs[0], signs[1], signs[2])
    assert best is not None
    return best[1], best[2]


@dataclass(frozen=True, eq=False, kw_only=True)
class Alignment:
    """A regular model grid seen from a CT: model axis m runs along axis `order[m]` of the CT.

    `start_mm` and `step_mm` are in the CT's frame and by the CT's axes; a step is negative where the axes run
    against each other.
    """

    order: tuple[int, int, int]
    start_mm: Float
    step_mm: Float
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, model_grid: Grid, frame: Frame) -> Alignment:
        """Raises GeometryError where the model grid does not run along the CT's axes."""
        steps = np.asarray(
            np.linalg.solve(frame.axes_lps.T, model_grid.affine[:3, :3]).T
        )  # (model axis, CT axis)
        order = tuple(int(a) for a in np.abs(steps).argmax(axis=1))
        chosen = steps[range(3), order]
        stray = np.abs(steps - np.eye(3)[list(order)] * chosen[:, None]).max()
        if sorted(order) != [0, 1, 2] or stray > ALIGNED_TOL * np.abs(chosen).max():
            raise GeometryError(
                "The model grid does not run along the axes of the CT.",
                found=f"a stray step of {stray:.6f} mm",
                fix="take the grid that prepare() made from this CT",
            )
        back = np.argsort(order)
        start = np.asarray(np.linalg.solve(frame.axes_lps.T, model_grid.positions_lps[0]), np.float64)
        shape = tuple(model_grid.shape_kij[m] for m in back)
        step = np.asarray(chosen[back], np.float64)
        return cls(
            order=(order[0], order[1], order[2]),
            start_mm=start,
            step_mm=step,
            shape=(shape[0], shape[1], shape[2]),
        )

    def centres_mm(self, axis: int) -> Float:
        """Coordinates of the model's voxel centres along an axis of the CT, in the order of the model."""
        return self.start_mm[axis] + self.step_mm[axis] * np.arange(self.shape[axis])
