"""A stored mask brought to a CT's grid: voxel by voxel where both have the same voxels, else resampled."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from contour_ai.errors import GeometryError
from contour_ai.grid import ROUNDING_NOISE_VOXELS, Grid

OnNote = Callable[[str], None]
Mask = NDArray[np.bool_]
Stored = NDArray[np.generic]
Affine = NDArray[np.float64]

LATTICE_TOL_VOXELS = 0.05
"""Image files store positions as float32 or with few digits; nearer than this counts as the same place."""

INSIDE_CT = 0.5
"""Fraction of a mask that must lie inside the CT; below, the mask is of another patient's space."""

SAMPLE = 100_000

TIE_VOXELS = 1e-3
"""A CT voxel half-way between a voxel inside and one outside belongs to the upper one, so that a mask grows at neither
end; float32 matrices are exact to 1e-4 voxels."""


def on_grid(array: Stored, affine: Affine, grid: Grid, where: str, note: OnNote) -> Mask:
    """The mask on the grid; `note` is told of resampling, of voxels outside the CT and of both numbers of voxels.

    Args:
        array: (k, i, j), voxels other than 0 are inside.
        affine: (4, 4) from (k, i, j, 1) of the array to LPS mm.
        grid: the CT's.
        where: file and ROI, for messages.
        note: called with a sentence.

    Raises:
        GeometryError: more than half of the mask lies outside the CT.
    """
    voxels = int(np.count_nonzero(array))
    pasted = _pasted(array, affine, grid)
    if pasted is not None:
        mask, drift = pasted
        outside = voxels - int(np.count_nonzero(mask))
        _refuse_elsewhere(array, affine, grid, outside / max(voxels, 1), where)
        if outside:
            note(f"{where}: {outside} of {voxels} voxels lie outside the CT and are left out")
        if drift > LATTICE_TOL_VOXELS:
            note(f"{where}: lies up to {drift:.2f} voxels from the CT's own voxels; taken voxel by voxel")
        return mask
    fraction = _fraction_outside(array, affine, grid)
    _refuse_elsewhere(array, affine, grid, fraction, where)
    mask = _resampled(array, affine, grid)
    note(
        f"{where}: the mask is on another grid than the CT ({_spacing(affine)} instead of "
        f"{_mm(np.array(grid.spacing_mm))} mm) and was resampled: {_compared(array, affine, mask, grid)}"
        + (f"; {100 * fraction:.0f} % of it lies outside the CT" if fraction else "")
    )
    return mask


def _compared(array: Stored, affine: Affine, mask: Mask, grid: Grid) -> str:
    before, after = int(np.count_nonzero(array)), int(np.count_nonzero(mask))
    before_cm3 = before * abs(np.linalg.det(affine[:3, :3])) / 1000
    after_cm3 = float(mask.sum(axis=(1, 2)) @ grid.voxel_volumes_cm3)
    text = f"{before} voxels ({before_cm3:.3g} cm3) before, {after} voxels ({after_cm3:.3g} cm3) after"
    if before and not after:
        return f"{text}; NOTHING IS LEFT: the mask lies between the CT's voxel centres"
    if before and abs(after_cm3 / before_cm3 - 1) > 0.1:
        return f"{text}, {100 * (after_cm3 / before_cm3 - 1):+.0f} %"
    return text


def _pasted(array: Stored, affine: Affine, grid: Grid) -> tuple[Mask, float] | None:
    """(mask, largest distance in voxels) where both have the same voxels, in any axis order; one may be a part of the
    other."""
    fit = grid.regular_fit
    if fit.deviation_voxels > ROUNDING_NOISE_VOXELS:
        return None
    to_grid = np.linalg.solve(fit.affine, affine)
    matrix, offset = to_grid[:3, :3], to_grid[:3, 3]
    sizes = np.array(array.shape)
    for axis in np.flatnonzero(sizes == 1).tolist():  # a single slice has no spacing
        matrix[:, axis] /= np.abs(matrix[:, axis]).max()
    signed, start = np.rint(matrix), np.rint(offset).astype(np.int64)
    drift = float((np.abs(matrix - signed) @ (sizes - 1) + np.abs(offset - start)).max())
    drift += fit.deviation_voxels
    if (
        drift > ROUNDING_NOISE_VOXELS + LATTICE_TOL_VOXELS
        or not (np.abs(signed).sum(axis=0) == 1).all()
        or abs(round(np.linalg.det(signed))) != 1
    ):
        return None
    axes = np.abs(signed).argmax(axis=1)  # of the image, for every axis of the grid
    inside = np.transpose(array != 0, axes)
    for g in range(3):
        if signed[g, axes[g]] < 0:
            inside = np.flip(inside, g)
            start[g] -= inside.shape[g] - 1
    mask = np.zeros(grid.shape_kij, dtype=bool)
    low = np.clip(start, 0, grid.shape_kij)
    high = np.maximum(np.clip(start + inside.shape, 0, grid.shape_kij), low)
    target = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    source = tuple(slice(a, b) for a, b in zip(low - start, high - start, strict=True))
    if (high > low).all():
        mask[target] = inside[source]
    return mask, drift


def _fraction_outside(array: Stored, affine: Affine, grid: Grid) -> float:
    """Fraction of the mask's voxels that lie outside the CT, from a sample of at most `SAMPLE` of them."""
    flat = np.flatnonzero(array)
    flat = flat[:: max(1, len(flat) // SAMPLE)]
    index = np.stack(np.unravel_index(flat, array.shape), axis=1)
    at = grid.lps_to_index(index @ affine[:3, :3].T + affine[:3, 3])
    outside = np.any((at < -0.5) | (at > np.array(grid.shape_kij) - 0.5), axis=1)
    return float(outside.mean()) if len(outside) else 0.0


def _refuse_elsewhere(array: Stored, affine: Affine, grid: Grid, fraction_outside: float, where: str) -> None:
    if fraction_outside <= 1 - INSIDE_CT:
        return
    middle = np.array([np.mean(axis) for axis in np.nonzero(array)])
    raise GeometryError(
        "The mask lies outside the CT: it belongs to another patient or frame of reference.",
        where=where,
        found=f"{100 * fraction_outside:.0f} % of it outside, around "
        f"{_mm(affine[:3, :3] @ middle + affine[:3, 3])} mm",
        expected=f"around {_mm(grid.index_to_lps((np.array(grid.shape_kij) - 1) / 2))} mm",
        fix="give masks that were made on this CT",
    )


def _resampled(array: Stored, affine: Affine, grid: Grid) -> Mask:
    """Linear between the image's voxels, at least one half counts as inside; slice by slice, at each slice's place.

    A voxel of the image reaches half a voxel beyond its centre, so that what lies within half a voxel of the outermost
    centres is inside the image, and takes their value.
    """
    from scipy import ndimage

    inverse = np.linalg.inv(affine)
    field = (array != 0).astype(np.float32)
    last = np.array(array.shape) - 1.0
    mask = np.zeros(grid.shape_kij, dtype=bool)
    ij = np.stack(np.meshgrid(*map(np.arange, grid.shape_kij[1:]), indexing="ij"), axis=-1)
    for k in range(grid.shape_kij[0]):
        plane = grid.positions_lps[k] + ij[..., :1] * grid.step_i_lps + ij[..., 1:] * grid.step_j_lps
        index = plane @ inverse[:3, :3].T + inverse[:3, 3] + TIE_VOXELS
        inside = ((index >= -0.5) & (index < last + 0.5)).all(axis=-1)
        if inside.any():
            at = np.clip(index[inside], 0, last)
            mask[k][inside] = ndimage.map_coordinates(field, at.T, order=1) >= 0.5
    return mask


def _mm(values: NDArray[np.float64]) -> str:
    return "(" + ", ".join(f"{v:.1f}" for v in values) + ")"


def _spacing(affine: Affine) -> str:
    return _mm(np.linalg.norm(affine[:3, :3], axis=0))
